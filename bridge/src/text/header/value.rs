//! Values within a header: plain where they are harmless, otherwise quoted as JSON strings.
//!
//! JSON's escapes keep a value exact: a path with brackets can be copied into the next call.
//! Brackets, everything that is not shown as itself, and the quote and the backslash are escaped,
//! so that nothing in a value has a meaning in the line that contains it.

use std::fmt;

use crate::text::chars;

/// A value is cut after this many characters of output, and ends with `…` then: a header stays
/// short, so that it fits, with the payload, into the limits of clients.
const LIMIT: usize = 96;

/// Shows a value that may be remote.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a>(pub &'a str);

/// Shows a value as an argument of a call.
#[derive(Clone, Copy, Debug)]
pub struct Argument<'a>(&'a str);

impl<'a> Value<'a> {
    /// Whether all of it is shown.
    pub fn is_whole(self) -> bool {
        self.0.chars().map(|char| Escaped(char).length()).sum::<usize>() <= LIMIT
    }

    /// The same as an argument of a call.
    pub fn of_call(self) -> Argument<'a> {
        Argument(self.0)
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A comma separates nothing here.
        show(f, self.0, |char| is_plain(char) || char == ',')
    }
}

impl fmt::Display for Argument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.0, is_plain)
    }
}

fn show(f: &mut fmt::Formatter<'_>, value: &str, plain: impl Fn(char) -> bool) -> fmt::Result {
    if !value.is_empty() && value.len() <= LIMIT && value.chars().all(plain) {
        return f.write_str(value);
    }
    f.write_str("\"")?;
    let mut left = LIMIT;
    for char in value.chars() {
        let escaped = Escaped(char);
        let Some(rest) = left.checked_sub(escaped.length()) else {
            f.write_str("…")?;
            break;
        };
        left = rest;
        write!(f, "{escaped}")?;
    }
    f.write_str("\"")
}

fn is_plain(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-_.:/+@%~*^".contains(char)
}

/// A character within quotes.
struct Escaped(char);

impl Escaped {
    fn is_literal(&self) -> bool {
        !matches!(self.0, '"' | '\\' | '[' | ']') && chars::visible_form(self.0) == Some(self.0)
    }

    fn length(&self) -> usize {
        match self.0 {
            _ if self.is_literal() => 1,
            '"' | '\\' => 2,
            char => 6 * char.len_utf16(),
        }
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            char if self.is_literal() => write!(f, "{char}"),
            char @ ('"' | '\\') => write!(f, "\\{char}"),
            char => {
                let mut units = [0; 2];
                char.encode_utf16(&mut units).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))
            }
        }
    }
}
