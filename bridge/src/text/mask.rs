//! Replaces secrets that this process has typed by `[secret NAME]` in every answer.
//!
//! It searches for the exact value, for its form escaped in quotes, and across the ends of rows, as
//! a terminal wraps it. Where a text was cut, the beginning of a value before the cut and the end
//! of one after it are replaced, too. Other encodings, and values that a program takes apart, are
//! not recognized.

use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

/// Part of a value at a cut is recognized from this many bytes on.
const PART: usize = 4;

/// Shorter values are not searched for: they would be found everywhere.
pub const SHORTEST: usize = 4;

/// The most values that a process masks.
const MOST: usize = 64;

/// The values that were used. Clones share them.
#[derive(Clone, Default)]
pub struct Masks(Arc<Mutex<Vec<Mask>>>);

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masks(…)")
    }
}

struct Mask {
    name: String,
    value: Zeroizing<Vec<u8>>,
    /// The value as it is escaped in quotes, if that differs.
    escaped: Option<Zeroizing<Vec<u8>>>,
}

impl Masks {
    /// Masks this value from now on.
    pub fn add(&self, name: &str, value: &[u8]) {
        let value = value.strip_suffix(b"\n").unwrap_or(value);
        if value.len() < SHORTEST {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.iter().any(|mask| mask.value.as_slice() == value) {
            return;
        }
        if all.len() >= MOST {
            all.remove(0);
        }
        let mut escaped = Zeroizing::new(Vec::with_capacity(value.len() * 2));
        for &byte in value {
            if matches!(byte, b'"' | b'\\') {
                escaped.push(b'\\');
            }
            escaped.push(byte);
        }
        let escaped = (escaped.as_slice() != value).then_some(escaped);
        let value = Zeroizing::new(value.to_vec());
        all.push(Mask { name: name.to_owned(), value, escaped });
        // The longest comes first: one may be part of another.
        all.sort_by_key(|mask| std::cmp::Reverse(mask.value.len()));
    }

    /// The text without any of them.
    pub fn mask(&self, text: String) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return text;
        }
        let mut bytes = text.into_bytes();
        for mask in all.iter() {
            let stand_in = format!("[secret {}]", mask.name).into_bytes();
            for value in [Some(&mask.value), mask.escaped.as_ref()].into_iter().flatten() {
                bytes = replace(bytes, value, &stand_in);
            }
        }
        // Whole values were replaced by names.
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// The bytes, with each value replaced by a text of the same length.
    pub fn blot(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for mask in all.iter() {
            let mut from = 0;
            while let Some(at) =
                bytes.get(from..).and_then(|rest| memchr::memmem::find(rest, &mask.value))
            {
                let end = from + at + mask.value.len();
                if let Some(value) = bytes.get_mut(from + at..end) {
                    value.fill(b'*');
                }
                from = end;
            }
        }
        bytes
    }

    /// Whether the text contains one of them.
    pub fn shows(&self, text: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|mask| memchr::memmem::find(text.as_bytes(), &mask.value).is_some())
    }
}

fn replace(text: Vec<u8>, value: &[u8], stand_in: &[u8]) -> Vec<u8> {
    let Some(&first) = value.first() else { return text };
    let mut out = Vec::new();
    let mut done = 0;
    let mut at = 0;
    // The first line of a payload may begin with the end of a value, as may what follows a cut.
    while let Some(found) = find_next(&text, at, first, value) {
        let (start, end) = found;
        out.extend_from_slice(text.get(done..start).unwrap_or_default());
        out.extend_from_slice(stand_in);
        (done, at) = (end, end);
    }
    if done == 0 {
        return text;
    }
    out.extend_from_slice(text.get(done..).unwrap_or_default());
    out
}

/// The next occurrence of the value, or of a part of it at a cut.
fn find_next(text: &[u8], from: usize, first: u8, value: &[u8]) -> Option<(usize, usize)> {
    let mut at = from;
    while at < text.len() {
        let rest = text.get(at..)?;
        if starts_after_cut(text, at)
            && let Some(length) = tail(rest, value)
        {
            return Some((at, at + length));
        }
        if rest.first() == Some(&first) {
            let (matched, length) = matching(rest, value);
            let cut = matched >= PART && is_cut(rest.get(length..).unwrap_or_default());
            if matched == value.len() || cut {
                return Some((at, at + length));
            }
        }
        at += 1;
    }
    None
}

/// How much of the value this begins with, ignoring ends of rows, and how long that is.
fn matching(text: &[u8], value: &[u8]) -> (usize, usize) {
    let (mut matched, mut length) = (0, 0);
    for (at, byte) in text.iter().enumerate() {
        match value.get(matched) {
            None => break,
            Some(wanted) if wanted == byte => (matched, length) = (matched + 1, at + 1),
            Some(_) if matched > 0 && *byte == b'\n' => {}
            Some(_) => break,
        }
    }
    (matched, length)
}

/// The length of the value's end that this begins with.
fn tail(text: &[u8], value: &[u8]) -> Option<usize> {
    let longest = value.len().saturating_sub(1);
    (PART..=longest).rev().find(|&length| {
        value.get(value.len() - length..).is_some_and(|tail| text.starts_with(tail))
    })
}

/// Whether a text that continues like this was cut here.
fn is_cut(rest: &[u8]) -> bool {
    let next = rest.strip_prefix(b"\n").unwrap_or(rest);
    next.is_empty() || rest.starts_with("…".as_bytes()) || next.starts_with(b"[omitted ")
}

/// Whether the text before this was cut off.
fn starts_after_cut(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    if before.is_empty() || before.ends_with("…".as_bytes()) {
        return true;
    }
    let Some(lines) = before.strip_suffix(b"\n") else { return false };
    let line = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    // A line of ours: remote text begins after it.
    line.starts_with(b"[omitted ") || line.len() == lines.len() && line.starts_with(b"[")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masks() -> Masks {
        let masks = Masks::default();
        masks.add("pw", b"hunter2-and-more\n");
        masks.add("part", b"hunter2-");
        masks.add("odd", b"a\"b\\c]");
        masks.add("short", b"abc");
        masks
    }

    #[test]
    fn values_are_taken_out_wherever_they_stand() {
        for (text, masked) in [
            ("x hunter2-and-more y", "x [secret pw] y"),
            ("hunter2-x", "[secret part]x"),
            ("hunter2-and-morehunter2-and-more", "[secret pw][secret pw]"),
            ("a\"b\\c] and \"a\\\"b\\\\c]\"", "[secret odd] and \"[secret odd]\""),
            ("nothing, abc, hunter", "nothing, abc, [secret pw]"),
            ("wrapped hunter2-an\nd-more.", "wrapped [secret pw]."),
            ("cut hunter2-an", "cut [secret pw]"),
            ("cut hunter2-an\n", "cut [secret pw]\n"),
            ("cut hunter2-an…(+9)\n", "cut [secret pw]…(+9)\n"),
            (
                "hunter2-an\n[omitted 9 lines, 1k bytes]\nnd-more x",
                "[secret pw]\n[omitted 9 lines, 1k bytes]\n[secret pw] x",
            ),
            ("[session s1 state=prompt]\nand-more\n", "[session s1 state=prompt]\n[secret pw]\n"),
            ("hunt", "[secret pw]"),
            ("hunt and more\n", "hunt and more\n"),
        ] {
            assert_eq!(masks().mask(text.to_owned()), masked, "{text:?}");
        }
        assert_eq!(Masks::default().mask("hunter2".to_owned()), "hunter2");
        assert_eq!(masks().blot(b"a hunter2-and-more b".to_vec()), b"a **************** b");
        assert!(masks().shows("xhunter2-and-more") && !masks().shows("hunter"));
        assert_eq!(format!("{:?}", masks()), "Masks(…)");
    }

    proptest! {
        #[test]
        fn no_text_shows_a_value_afterwards(before: String, after: String, at in 1_usize..15) {
            let value = "s3cr\u{e9}t-v\u{e4}lue!";
            let masks = Masks::default();
            masks.add("n", value.as_bytes());
            let masked = masks.mask(format!("{before}{value}{after}"));
            prop_assert!(!masked.contains(value));
            if value.is_char_boundary(at) {
                let (first, second) = value.split_at(at);
                let masked = masks.mask(format!("{before}{first}\n{second}{after}"));
                prop_assert!(!masked.replace('\n', "").contains(value));
            }
        }
    }
}
