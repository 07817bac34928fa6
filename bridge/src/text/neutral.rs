//! Short remote texts on one line: names, labels, versions, paths, messages.
//!
//! Unlike in output, nothing is removed without a trace: names that differ must not come out the
//! same. Characters that cannot be shown are replaced, escape sequences are made visible, and a
//! text that could be taken for a line of ours is marked, since it may begin a line.

use super::chars::{self, REPLACEMENT};
use super::imitation;

/// The default limit: names and paths that people choose are shorter.
pub const LIMIT: usize = 200;

/// The text on one line and safe to show, cut after [`LIMIT`] characters.
pub fn neutral(text: &str) -> String {
    neutral_within(text, LIMIT)
}

/// The same with another limit. A cut is marked with `…`, which counts towards the limit; a
/// combining mark may come on top.
pub fn neutral_within(text: &str, limit: usize) -> String {
    let longer = text.chars().nth(limit).is_some();
    let keep = limit.saturating_sub(usize::from(longer));
    let mut out: String = text.chars().take(keep).map(plain).collect();
    if longer && limit > 0 {
        out.push('…');
    }
    imitation::marked(&out).into_owned()
}

/// The text with its lines, each safe to show, at full length and unmarked: for what we write to a
/// terminal ourselves.
pub fn lines(text: &str) -> String {
    let safe = |char| if char == '\n' { char } else { plain(char) };
    text.chars().map(safe).collect()
}

/// How a character appears on one line.
fn plain(char: char) -> char {
    match char {
        '\n' | '\r' | '\t' => ' ',
        _ => chars::visible_form(char).unwrap_or(REPLACEMENT),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hostile_name_stays_on_its_line_and_shows_what_it_is() {
        assert_eq!(neutral("web\u{200b}1\n[error x]"), "web\u{fffd}1 [error x]");
        assert_eq!(neutral("[run r1 exit=0]"), "\\[run r1 exit=0]");
        assert_eq!(neutral("\u{1b}]0;x\u{7}\u{9b}31m"), "␛]0;x␇\u{fffd}31m");
        assert_eq!(neutral("naïve 名前 🚀"), "naïve 名前 🚀");
    }

    #[test]
    fn lines_of_ours_stay_lines_and_nothing_in_them_is_obeyed() {
        assert_eq!(lines("a: \u{1b}[2J\u{7}b\r\nc\u{9b}1m"), "a: ␛[2J␇b \nc\u{fffd}1m");
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(neutral_within("abcdef", 3), "ab…");
        assert_eq!(neutral_within("abc", 3), "abc");
        assert_eq!(neutral_within("abc", 0), "");
        assert_eq!(neutral(&"x".repeat(999)).chars().count(), LIMIT);
    }

    proptest! {
        #[test]
        fn any_text_comes_out_on_one_harmless_line(text: String, limit in 0_usize..300) {
            let said = neutral_within(&text, limit);
            prop_assert!(said.chars().count() <= limit + 1);
            prop_assert!(said.chars().all(|char| !"\n\t".contains(char) && chars::is_text(char)));
            prop_assert!(!imitation::imitates(&said));
        }
    }
}
