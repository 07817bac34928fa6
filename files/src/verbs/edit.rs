//! `edit`: replaces exact texts in a file, all of them or none.
//!
//! `nearest` finds what a missing text was meant to be, and `diff` shows what was changed.

mod diff;
mod line_ends;
mod nearest;

use std::borrow::Cow;

use farwire_protocol::cbor;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, Edit, How, Replacement, TEXT_LIMIT};
use minicbor::{Decode, Decoder};

pub(super) use self::diff::{NEAR, diff};
use self::line_ends::{ends_in_cr_lf, in_cr_lf};
use self::nearest::no_match;
use super::changes::Keeper;
use super::desk::{Desk, VerbError};
use super::memory::{MemoryShare, gather};
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::WriteOptions;

/// The largest file that is edited.
const LARGEST: u64 = 64 << 20;

/// The most edits in one question.
const EDITS: usize = 1_000;

/// The most bytes that all edits of a question may pass over.
const OVER: u64 = 4 << 30;

/// How often an edit without a revision is repeated because others changed the file meanwhile. Each
/// time, one of them has succeeded.
const TRIES: usize = 200;

pub(super) fn edit(desk: &Desk<'_>, edit: &Edit, peer: &mut dyn Peer) -> Result<Done, VerbError> {
    let path = Rel::parse(&edit.path)?;
    let mut share = MemoryShare::default();
    let edits = edits(peer, &mut share)?;
    let mut tries = 0;
    loop {
        match edit_once(desk, edit, &path, &edits, peer) {
            // Somebody else changed the file meanwhile. The edit may still apply.
            Err(VerbError::Failed(failure))
                if failure.kind == Kind::ChangedMeanwhile
                    && edit.revision.is_none()
                    && tries < TRIES =>
            {
                desk.tree.listener().check_after_name()?;
                tries += 1;
            }
            done => return done,
        }
    }
}

/// Edits the file as it is now.
fn edit_once(
    desk: &Desk<'_>,
    edit: &Edit,
    path: &Rel,
    edits: &[Replacement],
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
    let tree = desk.tree;
    let mut share = MemoryShare::default();
    let (file, stat) = tree.open(path)?;
    if edit.revision.is_some_and(|expected| expected != stat.revision) {
        return Err(crate::tree::changed_meanwhile(path).into());
    }
    if stat.size > LARGEST {
        return Err(Failure::new(Kind::TooLarge, format!("{path} is larger than 64 MiB")).into());
    }
    let before = share.read(path, file, stat.size)?;
    let EditedText { text: after, count, .. } = &apply(path, &before, edits, OVER)?;
    let mut entry = stat.entry(path.as_bytes());
    let mut change = None;
    if !edit.dry.unwrap_or(false) {
        // Replaces only the revision that was read.
        let wanted = WriteOptions {
            how: How::Replace,
            revision: Some(stat.revision),
            ..WriteOptions::default()
        };
        let mut draft = tree.draft(path, wanted)?;
        draft.write(after)?;
        let keeper = Keeper::new(desk, "edit", edit.undo);
        let written = draft.file().try_clone();
        let written =
            written.map_err(|error| Failure::new(Kind::Io, format!("{path}: {error}")))?;
        let stat = draft.commit_with(|before, mode| {
            change = keeper.replacing(path, before, &written, mode)?;
            Ok(())
        });
        entry = keeper.conclude(change, stat)?.entry(path.as_bytes());
    }
    peer.data(diff(&before, after).as_bytes())?;
    Ok(Done { entry: Some(entry), count: Some(*count), change, ..Done::default() })
}

/// Reads the edits, which are the content of the question.
fn edits(peer: &mut dyn Peer, share: &mut MemoryShare) -> Result<Vec<Replacement>, VerbError> {
    let content = gather(peer, share)?;
    // Decoding makes a second copy of each text.
    share.take(content.len())?;
    let BoundedEdits { edits: BoundedList(edits) } =
        cbor::decode(&content, TEXT_LIMIT).map_err(|error| {
            Failure::caused(Kind::ProtocolViolation, "the list of edits is malformed", &error)
        })?;
    if edits.is_empty() || edits.len() > EDITS {
        let text = format!("a request has 1 to {EDITS} edits");
        return Err(Failure::new(Kind::InvalidArgument, text).into());
    }
    Ok(edits)
}

/// [`Edits`](farwire_protocol::streams::files::Edits) with a bounded list: an edit takes many times
/// more memory than its encoding.
#[derive(Debug, Decode)]
#[cbor(map)]
struct BoundedEdits {
    #[n(0)]
    edits: BoundedList,
}

#[derive(Debug)]
struct BoundedList(Vec<Replacement>);

impl<'b, C> Decode<'b, C> for BoundedList {
    fn decode(d: &mut Decoder<'b>, context: &mut C) -> Result<Self, minicbor::decode::Error> {
        let mut edits = Vec::new();
        for edit in d.array_iter_with(context)? {
            let edit = edit?;
            // One edit too many is kept, to tell that there are too many.
            if edits.len() <= EDITS {
                edits.push(edit);
            }
        }
        Ok(Self(edits))
    }
}

/// A text after edits.
#[derive(Debug)]
struct EditedText {
    text: Vec<u8>,
    /// The number of places that were changed.
    count: u64,
    _share: MemoryShare,
}

/// Applies edits one after the other, passing over at most `most` bytes.
fn apply(
    path: &Rel,
    before: &[u8],
    edits: &[Replacement],
    most: u64,
) -> Result<EditedText, Failure> {
    let mut applied: Option<EditedText> = None;
    let mut over = 0;
    for (at, edit) in edits.iter().enumerate() {
        let which =
            if edits.len() > 1 { format!("edit {} of {path}", at + 1) } else { format!("{path}") };
        check_edit(&which, edit)?;
        let text = applied.as_ref().map_or(before, |applied| &applied.text);
        over += text.len() as u64;
        if over > most {
            let text = format!("{which}: these edits together are too large for one request");
            return Err(Failure::new(Kind::TooLarge, text).with_hint("send them in several calls"));
        }
        let mut next = replace(&which, text, edit)?;
        next.count += applied.map_or(0, |applied| applied.count);
        applied = Some(next);
    }
    applied.ok_or_else(|| Failure::new(Kind::InvalidArgument, "there is nothing to replace"))
}

fn check_edit(which: &str, edit: &Replacement) -> Result<(), Failure> {
    let why = match edit {
        _ if edit.old.is_empty() => "the text to replace is empty",
        _ if edit.old == edit.new => "both texts are the same",
        _ => return Ok(()),
    };
    Err(Failure::new(Kind::InvalidArgument, format!("{which}: {why}")))
}

/// Replaces the only occurrence of a text, or all of them. Searches twice instead of storing the
/// occurrences: their list may be many times larger than the text.
fn replace(which: &str, text: &[u8], edit: &Replacement) -> Result<EditedText, Failure> {
    let places = || memchr::memmem::find_iter(text, &edit.old.0);
    let many = places().count();
    match many {
        0 => return Err(no_match(which, text, &edit.old)),
        1 => {}
        _ if edit.all.unwrap_or(false) => {}
        many => {
            let lines: Vec<String> =
                places().take(8).map(|at| line(text, at).to_string()).collect();
            let text =
                format!("{which}: the text occurs {many} times, in lines {}", lines.join(", "));
            return Err(Failure::new(Kind::NotUnique, text));
        }
    }
    let new = with_endings_of(text, edit);
    let size = many
        .checked_mul(new.len())
        .and_then(|more| more.checked_add(text.len() - many * edit.old.len()))
        .filter(|size| *size as u64 <= LARGEST)
        .ok_or_else(|| {
            Failure::new(Kind::TooLarge, format!("{which}: the result would be larger than 64 MiB"))
        })?;
    let mut share = MemoryShare::default();
    let mut next = share.buffer(size)?;
    let mut from = 0;
    for at in places() {
        next.extend_from_slice(text.get(from..at).unwrap_or_default());
        next.extend_from_slice(&new);
        from = at + edit.old.len();
    }
    next.extend_from_slice(text.get(from..).unwrap_or_default());
    Ok(EditedText { text: next, count: many as u64, _share: share })
}

/// The new text with the line endings of the file: if all lines of the file end in CR LF, the new
/// lines do too, unless the edit contains a CR itself.
fn with_endings_of<'a>(text: &[u8], edit: &'a Replacement) -> Cow<'a, [u8]> {
    let new = &edit.new.0[..];
    let cr = |text: &[u8]| memchr::memchr(b'\r', text).is_some();
    let applies = memchr::memchr(b'\n', new).is_some() && !cr(new) && !cr(&edit.old.0);
    match applies && ends_in_cr_lf(text) {
        true => Cow::Owned(in_cr_lf(new)),
        false => Cow::Borrowed(new),
    }
}

/// The number of the line at an offset.
fn line(text: &[u8], at: usize) -> usize {
    text.get(..at).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use farwire_protocol::cbor::Blob;
    use proptest::prelude::*;

    use super::nearest::WINDOW;
    use super::*;

    fn replacement(old: &str, new: &str, all: bool) -> Replacement {
        Replacement { old: Blob(old.into()), new: Blob(new.into()), all: Some(all) }
    }

    fn run(text: &str, edits: &[Replacement]) -> Result<String, Failure> {
        let path = Rel::parse(b"f").unwrap();
        apply(&path, text.as_bytes(), edits, OVER)
            .map(|applied| String::from_utf8(applied.text).unwrap())
    }

    #[test]
    fn each_edit_sees_what_those_before_it_left() {
        let edits = [replacement("a", "b", false), replacement("bb", "c", false)];
        assert_eq!(run("ab", &edits).unwrap(), "c");
        assert_eq!(run("x.x.x", &[replacement("x", "yy", true)]).unwrap(), "yy.yy.yy");
    }

    #[test]
    fn what_comes_has_the_ends_of_lines_that_the_file_has() {
        let edit = |old: &str, new: &str| [replacement(old, new, false)];
        assert_eq!(
            run("one\r\ntwo\r\n", &edit("one", "one\nnew")).unwrap(),
            "one\r\nnew\r\ntwo\r\n"
        );
        assert_eq!(run("one\ntwo\n", &edit("one", "one\nnew")).unwrap(), "one\nnew\ntwo\n");
        // With mixed line endings, or an edit that has its own, nothing is adapted.
        assert_eq!(run("one\r\ntwo\n", &edit("one", "a\nb")).unwrap(), "a\nb\r\ntwo\n");
        assert_eq!(run("one\r\ntwo\r\n", &edit("one\r\n", "a\n")).unwrap(), "a\ntwo\r\n");
    }

    #[test]
    fn a_miss_by_the_ends_of_lines_or_by_blanks_says_so() {
        let miss =
            |text: &str, old: &str| run(text, &[replacement(old, "", false)]).unwrap_err().message;
        assert!(miss("one\r\ntwo\r\n", "one\ntwo").contains("those of the file are CR LF"));
        assert!(miss("one\ntwo\n", "one\r\ntwo\r\n").contains("those of the file are LF"));
        assert!(
            miss("  one\n\ttwo\n", " one\n  two")
                .contains("only whitespace differs from lines 1-2")
        );
    }

    #[test]
    fn what_is_there_twice_is_refused_with_its_lines() {
        let failure = run("a\nb\na\n", &[replacement("a", "c", false)]).unwrap_err();
        assert_eq!(failure.kind, Kind::NotUnique);
        assert!(failure.message.contains("2 times, in lines 1, 3"), "{failure}");
    }

    #[test]
    fn a_miss_tells_what_is_nearest() {
        let text = "fn main() {\n    let count = 3;\n    run(count);\n}\n";
        let failure =
            run(text, &[replacement("  let count = 4;\n  run(count);", "", false)]).unwrap_err();
        assert_eq!(failure.kind, Kind::NoMatch);
        assert!(
            failure.message.contains("lines 2-3:\n    let count = 3;\n    run(count);"),
            "{failure}"
        );
        let far = run("alpha\n", &[replacement("zzz 123", "", false)]).unwrap_err();
        assert!(!far.message.contains("most similar"), "{far}");
    }

    #[test]
    fn what_is_nearest_is_looked_for_as_far_as_the_work_goes() {
        let wanted = "0123456789 abcdefghijklmnopqrstuvwxyz\n".repeat(WINDOW);
        let near = wanted.replace("789", "987");
        let other = "some other line which is not much like it\n";
        let told = |before: usize| {
            let text = format!("{}{near}", other.repeat(before));
            no_match("f", text.as_bytes(), wanted.as_bytes()).message
        };
        assert!(told(3).contains("the most similar are lines 4-43:"), "{}", told(3));
        assert!(told(2_000).contains("the most similar are lines 2001-2040:"));
        assert!(!told(45_000).contains("most similar"), "too far away");
    }

    #[test]
    fn edits_that_go_over_too_much_are_refused() {
        let path = Rel::parse(b"f").unwrap();
        let edits = [replacement("a", "b", false), replacement("b", "c", false)];
        assert_eq!(apply(&path, b"xxxa", &edits, 8).unwrap().text, b"xxxc");
        assert_eq!(apply(&path, b"xxxa", &edits, 7).unwrap_err().kind, Kind::TooLarge);
    }

    #[test]
    fn what_would_be_too_large_is_refused_before_it_is_made() {
        let edit = replacement("a", &"b".repeat(7 << 20), true);
        // 8 MiB times this would exceed the address space.
        let failure = run(&"a".repeat(32 << 20), &[edit]).unwrap_err();
        assert_eq!(failure.kind, Kind::TooLarge);
    }

    #[test]
    fn what_is_made_is_held_in_the_account_and_all_places_are_replaced() {
        let path = Rel::parse(b"f").unwrap();
        let text = vec![b'a'; 4 << 20];
        let edit = [replacement("a", "bc", true)];
        let applied = apply(&path, &text, &edit, OVER).unwrap();
        assert_eq!((applied.count, applied.text.len()), (4 << 20, 8 << 20));
        assert_eq!(applied.text.capacity(), 8 << 20, "made in one piece");
    }

    #[test]
    fn nothing_is_replaced_by_itself_and_nothing_is_not_looked_for() {
        assert_eq!(
            run("a", &[replacement("", "b", false)]).unwrap_err().kind,
            Kind::InvalidArgument
        );
        assert_eq!(
            run("a", &[replacement("a", "a", false)]).unwrap_err().kind,
            Kind::InvalidArgument
        );
    }

    proptest! {
        #[test]
        fn replacing_is_what_it_is_for_strings(text in "[abc]{0,40}", old in "[abc]{1,3}", new in "[abcd]{0,3}") {
            prop_assume!(old != new && text.contains(&old));
            let replaced = run(&text, &[replacement(&old, &new, true)]).unwrap();
            prop_assert_eq!(replaced, text.replace(&old, &new));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", old in ".{1,60}") {
            let _ = no_match("f", text.as_bytes(), old.as_bytes());
            let _ = diff(text.as_bytes(), old.as_bytes());
        }
    }
}
