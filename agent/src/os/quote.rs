//! Names that somebody else chose, quoted for messages: between backticks, in printable characters,
//! and cut.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// The name, quoted for a message. Control characters and the like are escaped, including those
/// that change the direction of text.
pub(crate) fn quote(name: impl AsRef<OsStr>) -> String {
    let bytes = name.as_ref().as_bytes();
    let head = bytes.get(..MOST * 4).unwrap_or(bytes);
    let text = String::from_utf8_lossy(head);
    let mut shown = String::from("`");
    for c in text.chars().take(MOST) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(MOST).is_some() || head.len() < bytes.len() {
        shown.push('…');
    }
    shown.push('`');
    shown
}

/// A longer name would hide the rest of the message.
const MOST: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_stay_as_they_are() {
        assert_eq!(quote("/home/zoë/it's here"), "`/home/zoë/it's here`");
    }

    #[test]
    fn control_characters_and_turns_of_direction_are_escaped() {
        assert_eq!(quote("a\x1b[2J\n\u{202e}"), r"`a\u{1b}[2J\n\u{202e}`");
        assert_eq!(quote(OsStr::from_bytes(b"\xff")), "`\u{fffd}`");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(quote("é".repeat(161)), format!("`{}…`", "é".repeat(160)));
        assert_eq!(quote("x".repeat(100_000)).chars().count(), MOST + 3);
    }
}
