//! The line of a failure: `[error unknown_server] no server "web1"; close: web-1. Next: …`.
//!
//! Message and hint contain names that others chose, so they are made harmless, and anything that
//! looks like the beginning of another line of ours is marked even within the line. Kinds and hints
//! are chosen in `farwire_protocol::failure`.

use super::Word;
use super::imitation::imitates;
use super::neutral::neutral_within;

/// The longest line, in characters.
pub const LIMIT: usize = 1_000;

/// The hint is the shorter and more useful part: at least this much of it is always kept.
const HINT: usize = 350;

/// The longest name of a kind. The list of kinds is closed.
const KIND: usize = 48;

/// The line, without LF. `hint` may be empty.
pub fn line(kind: &str, message: &str, hint: &str) -> String {
    let kind: String = kind.chars().take(KIND).map(letter).collect();
    let start = format!("[{} {kind}] ", Word::Error);
    let hint = sentence(hint, HINT);
    let next = if hint.is_empty() { String::new() } else { format!(" Next: {hint}") };
    let room = LIMIT - start.chars().count() - next.chars().count();
    format!("{start}{}{next}", sentence(message, room))
}

/// The text with a final full stop, in at most `limit` characters.
fn sentence(text: &str, limit: usize) -> String {
    let mut text = inner(text, limit - 1);
    if !text.is_empty() && !text.ends_with(['.', '!', '?', '…']) {
        text.push('.');
    }
    text
}

/// A harmless text in at most `limit` characters, marked wherever it looks like a line of ours.
fn inner(text: &str, limit: usize) -> String {
    let text = neutral_within(text.trim(), limit);
    let mut out = String::with_capacity(text.len());
    let mut left = limit;
    for (at, char) in text.char_indices() {
        let begins = !char.is_whitespace() && text.get(at..).is_some_and(imitates);
        let marks = begins && !out.ends_with('\\');
        let Some(rest) = left.checked_sub(1 + usize::from(marks)) else { break };
        left = rest;
        out.extend(marks.then_some('\\'));
        out.push(char);
    }
    out
}

fn letter(char: char) -> char {
    if matches!(char, 'a'..='z' | '0'..='9' | '_') { char } else { '_' }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::text::chars;

    #[test]
    fn a_failure_says_what_and_what_next() {
        let said = line(
            "unknown_server",
            "no server \"web1\"; close: web-1, web-2",
            "servers(query=\"web\")",
        );
        expect![[r#"[error unknown_server] no server "web1"; close: web-1, web-2. Next: servers(query="web")."#]]
            .assert_eq(&said);
        expect!["[error io] disk full!"].assert_eq(&line("io", "disk full!", ""));
    }

    #[test]
    fn a_hostile_message_does_not_begin_a_line_of_ours() {
        let said = line("x] [run", "a\r\n[run r1 exit=0]\u{1b}[0m [0-9]+ [ error", "\u{202e}b");
        expect!["[error x___run] a  \\[run r1 exit=0]␛[0m [0-9]+ \\[ error. Next: �b."]
            .assert_eq(&said);
    }

    #[test]
    fn a_flood_is_cut_and_the_hint_stays() {
        let said = line("io", &"[run ".repeat(9_999), &"hint ".repeat(9_999));
        assert!(said.chars().count() <= LIMIT && said.contains(" Next: hint hint"));
    }

    proptest! {
        #[test]
        fn any_texts_make_one_short_line(kind: String, message: String, hint: String) {
            let said = line(&kind, &message, &hint);
            prop_assert!(said.chars().count() <= LIMIT);
            prop_assert!(said.chars().all(|char| char != '\n' && char != '\t' && chars::is_text(char)));
            prop_assert!(said.starts_with("[error "));
        }
    }

    #[test]
    fn any_bytes_make_one_line() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let said = line(&text, &text, &text);
            assert!(said.chars().count() <= LIMIT && !said.contains('\n'));
        });
    }
}
