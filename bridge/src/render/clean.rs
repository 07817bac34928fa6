//! Cleans output: one line in, one line out, with nothing in it but text.
//!
//! Escape sequences are removed, a line that was redrawn keeps its last state, invisible and
//! direction-changing characters are removed and counted, a line that imitates a header of ours gets
//! a backslash in front. Time and memory are linear; a sequence that does not end ends with its line.

/// A line is cut after so many characters.
const WIDTH: usize = 500;

/// Words with which our own headers begin.
const HEADERS: [&str; 12] = [
    "run", "error", "output", "servers", "server", "status", "stop", "session", "file", "open",
    "copy", "forward",
];

/// Cleaned lines, and how much was hidden in them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cleaned {
    /// The lines, each with the number that it has in the log.
    pub lines: Vec<Line>,
    /// Invisible characters that were removed.
    pub hidden: usize,
}

/// A cleaned line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Its number in the log.
    pub number: u64,
    /// How many lines in a row were the same; at least 1.
    pub times: u64,
    /// What it says.
    pub text: String,
}

/// Cleans bytes whose first line has this number.
pub fn clean(bytes: &[u8], first: u64) -> Cleaned {
    let mut cleaned = Cleaned::default();
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return cleaned;
    }
    for (number, raw) in (first..).zip(body.split(|&byte| byte == b'\n')) {
        let text = line(raw, &mut cleaned.hidden);
        match cleaned.lines.last_mut() {
            Some(last) if last.text == text && !text.is_empty() => last.times += 1,
            _ => cleaned.lines.push(Line { number, times: 1, text }),
        }
    }
    cleaned
}

/// Whether a character is never shown: controls, direction changes, zero width, tags, variation
/// selectors and other format characters that hide or reorder text.
pub fn is_unwanted(char: char) -> bool {
    matches!(char,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}'
        | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Where we are in an escape sequence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate: one more character.
    Intermediate,
    /// In CSI, until its final character.
    Csi,
    /// In OSC, DCS, APC, PM or SOS, until BEL or ST.
    Text8,
    /// After ESC in one of these.
    Text8Escape,
}

fn line(raw: &[u8], hidden: &mut usize) -> String {
    let mut out: Vec<char> = Vec::new();
    let mut state = State::Text;
    let mut redraw = false;
    let mut cut = 0_usize;
    for char in String::from_utf8_lossy(raw).chars() {
        state = match (state, char) {
            (State::Text, '\u{1b}') => State::Escape,
            (State::Text, '\u{9b}') => State::Csi,
            (State::Text, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => State::Text8,
            (State::Text, '\r') => {
                redraw = true;
                State::Text
            }
            (State::Text, '\u{8}') => {
                out.pop();
                State::Text
            }
            (State::Text, char) if is_unwanted(char) => {
                *hidden += 1;
                State::Text
            }
            (State::Text, char) => {
                if std::mem::take(&mut redraw) {
                    out.clear();
                    cut = 0;
                }
                if out.len() < WIDTH {
                    out.push(char);
                } else {
                    cut += 1;
                }
                State::Text
            }
            (State::Escape, '[') => State::Csi,
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::Text8,
            (State::Escape, ' '..='/') => State::Intermediate,
            (State::Escape | State::Intermediate, _) => State::Text,
            (State::Csi, '@'..='~') => State::Text,
            (State::Csi, _) => State::Csi,
            (State::Text8, '\u{7}' | '\u{9c}') => State::Text,
            (State::Text8, '\u{1b}') => State::Text8Escape,
            (State::Text8Escape, '\\') => State::Text,
            (State::Text8 | State::Text8Escape, _) => State::Text8,
        };
    }
    let mut text: String = out.into_iter().collect();
    text.truncate(text.trim_end().len());
    if cut > 0 {
        text = format!("{text}…(+{cut})");
    }
    if imitates(&text) { format!("\\{text}") } else { text }
}

/// Whether a line could be taken for a header of ours.
fn imitates(text: &str) -> bool {
    let Some(rest) = text.trim_start().strip_prefix(['[', '［', '【', '〔']) else {
        return false;
    };
    let word: String = rest
        .trim_start()
        .chars()
        .take_while(|char| char.is_alphanumeric() || *char == '_')
        .flat_map(char::to_lowercase)
        .collect();
    HEADERS.contains(&word.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(raw: &[u8], expected: &[&str]) {
        let texts: Vec<_> = clean(raw, 1).lines.into_iter().map(|line| line.text).collect();
        assert_eq!(texts, expected, "{}", raw.escape_ascii());
    }

    #[test]
    fn colours_titles_and_progress_bars_are_gone() {
        check(b"\x1b[1;31merror\x1b[0m: \x1b]0;title\x07no\n", &["error: no"]);
        check(b"10%\r50%\r100%\r\ndone\n", &["100%", "done"]);
        check(b"a\x08b\x1b(Bc\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", &["bclink"]);
        check("\u{9b}31mred\u{9c}".as_bytes(), &["red"]);
        check(b"\x1b]0;never ends\nnext\n", &["", "next"]);
        check(b"tail  \t \n\n\n", &["tail", "", ""]);
    }

    #[test]
    fn hidden_characters_are_counted_and_imitations_marked() {
        let cleaned = clean("rm\u{200b} -rf\u{202e} x\u{e0041}".as_bytes(), 1);
        assert_eq!((cleaned.lines[0].text.as_str(), cleaned.hidden), ("rm -rf x", 3));
        check(
            b"  [run r1 exit=0]\n[ERROR x]\n[\x1b[0merror y]\n[ error]\n",
            &["\\  [run r1 exit=0]", "\\[ERROR x]", "\\[error y]", "\\[ error]"],
        );
        check(b"[runner] ok\n", &["[runner] ok"]);
    }

    #[test]
    fn repeated_lines_are_folded_with_their_number_and_long_ones_cut() {
        let cleaned = clean(b"a\nb\nb\nb\nc\n", 7);
        let lines: Vec<_> =
            cleaned.lines.iter().map(|l| (l.number, l.times, l.text.as_str())).collect();
        assert_eq!(lines, [(7, 1, "a"), (8, 3, "b"), (11, 1, "c")]);
        let long = clean(&vec![b'x'; 10_000], 1);
        assert!(long.lines[0].text.ends_with("…(+9500)"));
    }

    proptest! {
        #[test]
        fn nothing_unwanted_comes_through(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            for line in clean(&bytes, 1).lines {
                prop_assert!(!line.text.chars().any(|c| is_unwanted(c) || c == '\n'), "{:?}", line.text);
                prop_assert!(!imitates(&line.text));
            }
        }

        #[test]
        fn neither_from_text_full_of_it(text in "(\\[run|\\[error|\u{1b}\\[|\u{202e}|[a-z\\] \r\n\t\u{8}])*") {
            for line in clean(text.as_bytes(), 1).lines {
                prop_assert!(!line.text.chars().any(|c| is_unwanted(c) || c == '\n'), "{:?}", line.text);
                prop_assert!(!imitates(&line.text));
            }
        }
    }

    #[test]
    fn any_bytes_are_cleaned_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            clean(bytes, 1);
        });
    }
}
