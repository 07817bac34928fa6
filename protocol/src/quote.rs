//! File names as text that can be read back.
//!
//! A name is bytes. Plain text is shown unchanged. Any other name is shown in shell quoting,
//! `$'caf\xe9'`, with everything but printable characters escaped. `bash`, `zsh` and `ksh` read
//! that as the same bytes, so that a displayed name can be pasted into a command line.
//!
//! | in quotes | means |
//! |---|---|
//! | `\\` `\'` `\"` `\?` | the character |
//! | `\a` `\b` `\e` `\E` `\f` `\n` `\r` `\t` `\v` | the control character |
//! | `\xHH` (one or two digits), `\NNN` (one to three octal digits) | a byte |
//! | `\uHHHH`, `\UHHHHHHHH` (up to so many digits) | a character, in UTF-8 |

use std::borrow::Cow;
use std::fmt::Write as _;

/// Why a text is not a quoted name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadQuote {
    /// It begins with `$'` but does not end with `'`, or has a `'` in between.
    #[error("a name that begins with $' ends with ' and has no other ' without \\ before it")]
    Unclosed,
    /// A backslash is followed by something that is not an escape.
    #[error("a name in $'…' has an escape that is not known")]
    Escape,
}

/// Formats a name as text from which [`unquote`] recovers the same bytes. The text has no
/// character that is invisible, moves a cursor, or changes the direction of text; it neither begins
/// nor ends with a blank.
pub fn quote(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) if is_plain(text) => Cow::Borrowed(text),
        _ => Cow::Owned(escaped(name)),
    }
}

/// Returns the name that a text stands for: the bytes in `$'…'`, or else the text itself.
///
/// # Errors
///
/// [`BadQuote`] for a text that begins with `$'` and is not a quoted name.
pub fn unquote(text: &str) -> Result<Cow<'_, [u8]>, BadQuote> {
    let Some(inner) = text.strip_prefix("$'") else { return Ok(Cow::Borrowed(text.as_bytes())) };
    let mut name = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    loop {
        match chars.next().ok_or(BadQuote::Unclosed)? {
            '\'' if chars.as_str().is_empty() => return Ok(Cow::Owned(name)),
            '\'' => return Err(BadQuote::Unclosed),
            '\\' => escape(&mut chars, &mut name)?,
            char => push(&mut name, char),
        }
    }
}

/// Whether a character is visible and has no effect on its surroundings.
fn is_visible(char: char) -> bool {
    crate::chars::visible_form(char) == Some(char)
}

fn is_plain(text: &str) -> bool {
    let blank = |char: char| char.is_whitespace();
    // `$'` also begins a quoted name after a directory.
    !text.starts_with("$'")
        && !text.contains("/$'")
        && !text.starts_with(blank)
        && !text.ends_with(blank)
        && text.chars().all(is_visible)
}

fn escaped(name: &[u8]) -> String {
    let mut out = String::from("$'");
    let bytes = |out: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    };
    for chunk in name.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\\' | '\'' => out.extend(['\\', char]),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                _ if is_visible(char) => out.push(char),
                _ => bytes(&mut out, char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes(&mut out, chunk.invalid());
    }
    out.push('\'');
    out
}

/// Decodes the escape after a backslash.
fn escape(chars: &mut std::str::Chars<'_>, name: &mut Vec<u8>) -> Result<(), BadQuote> {
    let byte: u32 = match chars.next().ok_or(BadQuote::Unclosed)? {
        char @ ('\\' | '\'' | '"' | '?') => u32::from(char),
        'a' => 0x07,
        'b' => 0x08,
        'e' | 'E' => 0x1b,
        'f' => 0x0c,
        'n' => 0x0a,
        'r' => 0x0d,
        't' => 0x09,
        'v' => 0x0b,
        'x' => number(chars, 16, 2)?,
        'u' => return character(number(chars, 16, 4)?, name),
        'U' => return character(number(chars, 16, 8)?, name),
        first @ '0'..='7' => {
            let mut value = first.to_digit(8).unwrap_or(0);
            for _ in 0..2 {
                let Some(digit) = chars.as_str().chars().next().and_then(|next| next.to_digit(8))
                else {
                    break;
                };
                value = value * 8 + digit;
                chars.next();
            }
            value
        }
        _ => return Err(BadQuote::Escape),
    };
    name.push(u8::try_from(byte).map_err(|_| BadQuote::Escape)?);
    Ok(())
}

/// Reads one to `most` digits.
fn number(chars: &mut std::str::Chars<'_>, radix: u32, most: usize) -> Result<u32, BadQuote> {
    let text = chars.as_str();
    let many = text.chars().take(most).take_while(|digit| digit.is_digit(radix)).count();
    let (digits, rest) = text.split_at(many);
    *chars = rest.chars();
    u32::from_str_radix(digits, radix).map_err(|_| BadQuote::Escape)
}

fn character(number: u32, name: &mut Vec<u8>) -> Result<(), BadQuote> {
    push(name, char::from_u32(number).ok_or(BadQuote::Escape)?);
    Ok(())
}

fn push(name: &mut Vec<u8>, char: char) {
    name.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_name_stands_as_it_is_and_any_other_in_quotes_that_a_shell_knows() {
        for (name, text) in [
            (&b"src/a b's.rs"[..], "src/a b's.rs"),
            ("naïve 名前 🚀".as_bytes(), "naïve 名前 🚀"),
            (b"", ""),
            (b"a\\b", "a\\b"),
            (b"caf\xe9", "$'caf\\xe9'"),
            (b"a\nb\tc\rd\x1b", "$'a\\nb\\tc\\rd\\x1b'"),
            (b" a", "$' a'"),
            (b"a ", "$'a '"),
            (b"$'x'", "$'$\\'x\\''"),
            (b"it's\\\n", "$'it\\'s\\\\\\n'"),
            ("a\u{202e}b".as_bytes(), "$'a\\xe2\\x80\\xaeb'"),
            ("a\u{9b}b".as_bytes(), "$'a\\xc2\\x9bb'"),
        ] {
            assert_eq!(quote(name), text);
            assert_eq!(unquote(text).unwrap(), name);
        }
    }

    #[test]
    fn the_escapes_of_shells_are_read() {
        assert_eq!(unquote(r"$'\a\b\e\E\f\n\r\t\v\?\x4\x41B\101\0\u20ac\U1f680'").unwrap(), {
            let mut name = b"\x07\x08\x1b\x1b\x0c\n\r\t\x0b?\x04ABA\0".to_vec();
            name.extend_from_slice("€🚀".as_bytes());
            name
        });
    }

    #[test]
    fn what_is_no_quoted_name_is_refused() {
        for (text, why) in [
            ("$'a", BadQuote::Unclosed),
            ("$'", BadQuote::Unclosed),
            ("$'a'b", BadQuote::Unclosed),
            ("$'a\\'", BadQuote::Unclosed),
            ("$'\\q'", BadQuote::Escape),
            ("$'\\x'", BadQuote::Escape),
            ("$'\\777'", BadQuote::Escape),
            ("$'\\ud800'", BadQuote::Escape),
        ] {
            assert_eq!(unquote(text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_name_comes_back_and_is_visible(name: Vec<u8>) {
            let text = quote(&name);
            prop_assert!(text.chars().all(is_visible));
            let back = unquote(&text).unwrap();
            prop_assert_eq!(&*back, name.as_slice());
        }

        #[test]
        fn any_text_comes_back(text: String) {
            let said = quote(text.as_bytes());
            let back = unquote(&said).unwrap();
            prop_assert_eq!(&*back, text.as_bytes());
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = unquote(&String::from_utf8_lossy(bytes));
            let _ = quote(bytes);
        });
    }
}
