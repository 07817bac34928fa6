//! Recognizes a line that could be taken for one of ours, and marks it.
//!
//! Our lines begin with `[` and a [`Word`]. Anything that a reader could take for that is marked:
//! with blanks before or after the bracket, another kind of bracket, capital letters, letters of
//! other alphabets that look the same, and letters with accents drawn over them. The mark is a
//! backslash in front of the bracket; the rest of the line stays as it is. A line that has a
//! backslash there from the beginning imitates nothing and is left alone.

use std::borrow::Cow;

use super::Word;

/// The line with a mark if it could be taken for one of ours.
pub fn marked(line: &str) -> Cow<'_, str> {
    if !imitates(line) {
        return Cow::Borrowed(line);
    }
    let (blanks, rest) = line.split_at(line.len() - line.trim_start().len());
    Cow::Owned(format!("{blanks}\\{rest}"))
}

/// Whether a line could be taken for one of ours.
pub fn imitates(line: &str) -> bool {
    let rest = line.trim_start();
    let after = rest.strip_prefix(is_bracket);
    after.is_some_and(|after| begins_with_word(after.trim_start()))
}

/// Whether the text begins with one of our words, and not with a longer word.
fn begins_with_word(text: &str) -> bool {
    let mut said = String::new();
    for char in text.chars().filter(|char| !is_accent(*char)).take(LONGEST + 1) {
        let Some(letter) = folded(char) else { break };
        said.push(letter);
    }
    Word::ALL.iter().any(|word| word.name() == said)
}

/// Longer than any of our words, so that a longer word differs.
const LONGEST: usize = 12;

/// Whether people take this for an opening square bracket.
fn is_bracket(char: char) -> bool {
    matches!(
        char,
        '[' | '［'
            | '【'
            | '〔'
            | '〖'
            | '〘'
            | '〚'
            | '⟦'
            | '⁅'
            | '❲'
            | '⦋'
            | '⦍'
            | '⦏'
            | '⁆'
            | '﹝'
            | '⌈'
            | '⌊'
            | '⎡'
            | '⎣'
            | '｢'
            | '「'
    )
}

/// A mark that is drawn over, under or through the letter before it.
fn is_accent(char: char) -> bool {
    matches!(char, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// The small ASCII letter that a character is, or looks like; `None` where a word ends. A letter
/// that looks like none of them stays itself, and so makes another word.
fn folded(char: char) -> Option<char> {
    let code = u32::from(char);
    let latin = |offset: u32| u8::try_from(offset % 26).ok().map(|at| char::from(b'a' + at));
    match char {
        'a'..='z' | '0'..='9' | '_' => Some(char),
        'A'..='Z' => Some(char.to_ascii_lowercase()),
        'Ａ'..='Ｚ' => latin(code - 0xff21),
        'ａ'..='ｚ' => latin(code - 0xff41),
        'Ⓐ'..='ⓩ' => latin(code - 0x24b6),
        '⒜'..='⒵' => latin(code - 0x249c),
        // Mathematical letters, alphabet after alphabet of 26.
        '\u{1d400}'..='\u{1d6a3}' => latin(code - 0x1d400),
        '\u{1f130}'..='\u{1f149}' => latin(code - 0x1f130),
        '\u{1f150}'..='\u{1f169}' => latin(code - 0x1f150),
        '\u{1f170}'..='\u{1f189}' => latin(code - 0x1f170),
        'а' | 'А' | 'α' | 'Α' | 'ɑ' | 'ᴀ' => Some('a'),
        'В' | 'Β' | 'ʙ' => Some('b'),
        'с' | 'С' | 'ϲ' | 'ᴄ' | 'ⅽ' => Some('c'),
        'ԁ' | 'ᴅ' | 'ⅾ' => Some('d'),
        'е' | 'Е' | 'Ε' | 'ᴇ' | 'ℯ' => Some('e'),
        'Ϝ' | 'ꜰ' => Some('f'),
        'ɡ' | 'ɢ' | 'ℊ' => Some('g'),
        'і' | 'І' | 'ι' | 'Ι' | 'ɩ' | 'ı' | 'ⅰ' | 'ɪ' => Some('i'),
        'ӏ' | 'ⅼ' | 'ʟ' => Some('l'),
        'м' | 'М' | 'Μ' | 'ⅿ' | 'ᴍ' => Some('m'),
        'п' | 'ո' | 'Ν' | 'ɴ' => Some('n'),
        'о' | 'О' | 'ο' | 'Ο' | 'օ' | 'ᴏ' | 'ℴ' => Some('o'),
        'р' | 'Р' | 'ρ' | 'Ρ' | 'ᴘ' => Some('p'),
        'г' | 'ʀ' | 'ᴦ' => Some('r'),
        'ѕ' | 'Ѕ' | 'ꜱ' => Some('s'),
        'т' | 'Т' | 'τ' | 'Τ' | 'ᴛ' => Some('t'),
        'υ' | 'ս' | 'ᴜ' => Some('u'),
        'ν' | 'ѵ' | 'ⅴ' | 'ᴠ' => Some('v'),
        'ԝ' | 'ᴡ' => Some('w'),
        'у' | 'У' | 'ү' | 'γ' | 'ʏ' => Some('y'),
        _ => char.is_alphanumeric().then_some(char),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_line_of_ours_is_marked() {
        for line in [
            "[run r12 exit=0 1.3s]",
            "[error io] x",
            "[ERROR]",
            "[omitted 3 lines]",
            "[ run",
            "［run",
            "【ｒｕｎ",
            "[ѕеrver",
            "[𝐫𝐮𝐧 r1",
            "[r\u{332}un",
            "[status]",
            "[session-open]",
        ] {
            assert_eq!(marked(line), format!("\\{line}"));
            assert!(!imitates(&marked(line)), "{line}");
            assert_eq!(marked(&format!(" \t\u{3000}{line}")), format!(" \t\u{3000}\\{line}"));
        }
    }

    #[test]
    fn other_lines_are_left_alone() {
        for line in [
            "",
            "[",
            "[[ -f x ]] && [ run = x ]",
            "[runner] ok",
            "[running]",
            "[info] x",
            "run r12",
            "x [run r12]",
            "[0/12] run",
            "[run_all]",
            "[runé]",
            "[serversserversservers]",
        ] {
            assert_eq!(marked(line), line);
        }
    }

    #[test]
    fn every_word_is_shorter_than_what_is_looked_at() {
        assert!(
            Word::ALL
                .iter()
                .all(|word| word.name().len() <= LONGEST && imitates(&format!("[{word}")))
        );
    }
}
