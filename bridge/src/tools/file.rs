//! Files for a model: read, write, edit, list, search, copy.
//!
//! File contents are shown as they are, in numbered lines, so that they can be copied into an edit;
//! only invisible characters are made visible or removed, and then the header says so.

pub mod checksum;
pub mod copy;
pub mod edit;
pub mod list;
pub mod more;
pub mod read;
pub mod search;
pub mod size;
pub mod sync;
pub mod write;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::Entry;

use crate::files::place::Place;
use crate::text::header::{Header, Key};
use crate::text::{Word, chars, human, imitation};
use crate::verbs::files::{Changed, Unread};

/// A line is cut after this many characters.
const WIDTH: usize = 2_000;

/// A number of entries, as a place in a list.
pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What a server could not read, in a line before the rest of an answer.
pub(super) fn unread(place: &Place, unread: &Unread) -> String {
    let listed = unread.path_list(place);
    if unread.count == 0 || listed.is_empty() {
        return String::new();
    }
    format!("{}\n", imitation::marked(&format!("could not be read: {listed}")))
}

/// The header of a change.
pub(super) fn header(changed: &Changed, words: impl std::fmt::Display) -> Header {
    let mut header = Header::new(Word::File).value(&changed.place.to_text()).words(words);
    if let Some(entry) = &changed.entry {
        header = describe(header, entry);
    }
    match changed.change {
        Some(change) => header.field(Key::Change, change),
        None => header,
    }
}

/// A revision in the form that callers give back.
pub(super) fn revision(entry: &Entry) -> String {
    format!("{:012x}", entry.revision)
}

/// Reads a revision.
pub(super) fn parse_revision(text: &str) -> Result<u64, Failure> {
    crate::verbs::files::revision(text).ok_or_else(|| {
        Failure::new(Kind::InvalidArgument, "rev is not a revision that file_read has shown")
            .with_hint("give the 12 digits after rev= in its header, or leave rev out")
    })
}

/// How long ago something was changed.
pub(super) fn age(entry: &Entry) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = Duration::from_nanos(u64::try_from(entry.modified).unwrap_or(0));
    match now.checked_sub(then) {
        Some(age) => human::duration(age),
        None => "0.0s".to_owned(),
    }
}

/// Adds what every header says about a file.
pub(super) fn describe(header: Header, entry: &Entry) -> Header {
    header.field(Key::Size, human::size(entry.size)).field(Key::Rev, revision(entry))
}

/// A line as it is shown, and how many invisible characters were removed from it.
pub(super) fn visible(line: &str) -> (String, u64) {
    let mut hidden = 0;
    let mut shown = String::with_capacity(line.len());
    for (at, char) in line.chars().enumerate() {
        if at >= WIDTH {
            let left = line.chars().count() - WIDTH;
            // Writing to a string does not fail.
            let _ = write!(shown, "…(+{left})");
            break;
        }
        match char {
            '\t' => shown.push('\t'),
            char => match chars::visible_form(char) {
                Some(char) => shown.push(char),
                None => hidden += 1,
            },
        }
    }
    (shown, hidden)
}

/// Numbered lines, as many as are wanted and fit; the number of the last one; and how many
/// characters were hidden.
pub(super) fn number_lines(
    content: &[u8],
    first: i64,
    count: u32,
    budget: usize,
) -> (String, Option<i64>, u64) {
    let text = String::from_utf8_lossy(content);
    let (mut out, mut last, mut hidden) = (String::new(), None, 0);
    let mut left = budget;
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    for (line, number) in text.split_terminator('\n').zip(first..).take(wanted) {
        let (shown, out_of_sight) = visible(line);
        let row = format!("{number}\t{shown}\n");
        let cost = row.chars().count();
        if cost > left && last.is_some() {
            break;
        }
        left = left.saturating_sub(cost);
        out.push_str(&row);
        hidden += out_of_sight;
        last = Some(number);
    }
    (out, last, hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_is_shown_as_it_is() {
        let (text, last, hidden) =
            number_lines(b"a\n\n  b \t\n[run r1 exit=0]\n\x1b[31m\xe2\x80\x8bx", 9, 99, 999);
        assert_eq!(text, "9\ta\n10\t\n11\t  b \t\n12\t[run r1 exit=0]\n13\t␛[31mx\n");
        assert_eq!((last, hidden), (Some(13), 1));
        let (text, last, _) = number_lines(b"one\ntwo\nthree\n", 1, 99, 12);
        assert_eq!((text.as_str(), last), ("1\tone\n2\ttwo\n", Some(2)));
        assert_eq!(number_lines(b"", 1, 9, 99), (String::new(), None, 0));
        let (text, last, _) = number_lines(b"a\nb\nc\n", -3, 2, 99);
        assert_eq!((text.as_str(), last), ("-3\ta\n-2\tb\n", Some(-2)));
        let (long, _) = visible(&"x".repeat(WIDTH + 5));
        assert!(long.ends_with("x…(+5)"));
    }

    #[test]
    fn a_revision_is_given_back_as_it_was_shown() {
        assert_eq!(parse_revision("00000000000a").unwrap(), 10);
        for bad in ["", "a", "+0000000000a", "00000000000g", "0000000000000a"] {
            assert!(parse_revision(bad).is_err(), "{bad}");
        }
    }
}
