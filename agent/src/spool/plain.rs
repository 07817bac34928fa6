//! A line of a log as a person sees it: what regular expressions are matched against.

use std::borrow::Cow;

/// A sequence that is longer is none.
const LONGEST: usize = 4 << 10;

/// A line without what a terminal does not show: control sequences anywhere, and carriage returns
/// at its ends. What is before `from` stays as it is.
pub(super) fn plain(line: &[u8], from: usize) -> Cow<'_, [u8]> {
    let (head, rest) = line.split_at(from.min(line.len()));
    if memchr::memchr2(0x1b, b'\r', rest).is_none() {
        return Cow::Borrowed(line);
    }
    let mut shown = head.to_vec();
    let mut rest = rest;
    while let Some(at) = memchr::memchr(0x1b, rest) {
        let (text, sequence) = rest.split_at(at);
        shown.extend_from_slice(text);
        rest = sequence.get(length(sequence)..).unwrap_or_default();
    }
    shown.extend_from_slice(rest);
    let is_return = |byte: &&u8| **byte == b'\r';
    let added = shown.get(head.len()..).unwrap_or_default();
    let after = added.iter().rev().take_while(is_return).count();
    let before = added.iter().take(added.len() - after).take_while(is_return).count();
    shown.truncate(shown.len() - after);
    shown.drain(head.len()..head.len() + before);
    Cow::Owned(shown)
}

/// The length of the sequence that these bytes begin with, which begin with ESC. One that has no
/// end is all that there is, unless that is too long for one: then it is the ESC alone.
fn length(bytes: &[u8]) -> usize {
    let within = bytes.get(..LONGEST).unwrap_or(bytes);
    let body = within.get(2..).unwrap_or_default();
    let until = |is_end: fn(&u8) -> bool| body.iter().position(is_end).map(|at| at + 3);
    let ended = match within.get(1) {
        Some(b'[') => body
            .iter()
            .position(|byte| !(0x20..=0x3f).contains(byte))
            .map(|at| at + 2 + usize::from(body.get(at) != Some(&0x1b))),
        // Strings end with BEL or ESC \; another ESC begins the next sequence.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => body
            .iter()
            .position(|byte| matches!(byte, 0x07 | 0x1b))
            .map(|at| match (body.get(at), body.get(at + 1)) {
                (Some(0x1b), Some(b'\\')) => at + 4,
                (Some(0x1b), _) => at + 2,
                _ => at + 3,
            }),
        Some(0x20..=0x2f) => until(|byte| !(0x20..=0x2f).contains(byte)),
        Some(_) => Some(2),
        None => None,
    };
    ended.unwrap_or(if bytes.len() > LONGEST { 1 } else { bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_does_not_show_is_left_out() {
        for (line, shown) in [
            (b"plain".as_slice(), b"plain".as_slice()),
            (b"DONE\r", b"DONE"),
            (b"\x1b[?2004l\r\x1b]133;C;abc;1\x07DONE\r\r", b"DONE"),
            (b"\x1b]0;title\x1b\\\x1b[1;32mok\x1b[0m\x1b(B", b"ok"),
            (b"10%\r100%\r", b"10%\r100%"),
            (b"\r\r", b""),
            (b"half \x1b[3", b"half "),
            (b"half \x1b", b"half "),
            (b"half \x1b]0;x", b"half "),
            (b"\x1b]0;x\x1b[1mbold\x1b[2\x1b[m", b"bold"),
        ] {
            assert_eq!(plain(line, 0), shown, "{line:?}");
        }
        assert_eq!(plain(b"\r\x1b[1mx\r", 1), b"\rx".as_slice(), "what is before stays");
        assert_eq!(plain(b"x", 9), b"x".as_slice());
        let long = [b"\x1b]0;".as_slice(), &[b'x'; LONGEST]].concat();
        assert_eq!(plain(&long, 0).len(), long.len() - 1, "too long for a sequence");
    }

    #[test]
    fn a_flood_of_sequences_takes_time_in_proportion_to_its_length() {
        let line = b"\x1b]".repeat(1 << 20);
        assert!(plain(&line, 0).is_empty());
    }
}
