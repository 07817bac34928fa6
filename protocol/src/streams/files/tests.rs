//! Golden bytes of the messages of a files stream.

use expect_test::{Expect, expect};

use super::*;
use crate::conversation;
use crate::failure::Kind;

fn check<T>(value: &T, bytes: Expect)
where
    T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + core::fmt::Debug,
{
    let encoded = conversation::message(value);
    bytes.assert_eq(&data_encoding::HEXLOWER.encode(&encoded));
    assert_eq!(conversation::read::<T>(&encoded).unwrap(), *value);
}

fn ask(ask: Ask, bytes: Expect) {
    check(&ToAgent::Ask(Box::new(ask)), bytes);
}

fn blob(text: &str) -> Blob {
    Blob(text.as_bytes().to_vec())
}

fn entry() -> Entry {
    Entry {
        path: blob("a/b"),
        what: What::File,
        size: 5,
        modified: 1_700_000_000_000_000_000,
        revision: 0x1234_5678_9abc,
        mode: 0o644,
        hash: None,
        target: None,
    }
}

#[test]
fn the_bytes_of_entering() {
    let enter = Enter {
        root: Some("work".to_owned()),
        below: Some(blob("a")),
        read_only: Some(true),
        prefix: Some("/work".to_owned()),
        client: None,
    };
    check(&enter, expect![]);
    let root = Root {
        name: "work".to_owned(),
        path: blob("/srv/work"),
        writable: true,
        excludes: Some(vec![".env".to_owned()]),
        confined: Some("landlock 7".to_owned()),
    };
    check(&ToBridge::Entered(root), expect![]);
}

#[test]
fn the_bytes_of_questions() {
    ask(Ask::Stat(blob("a")), expect![]);
    ask(
        Ask::List(List {
            path: blob("a"),
            depth: Some(2),
            sort: Some(Sort::Time),
            ..List::default()
        }),
        expect![],
    );
    let part = Part::Bytes { offset: 1, length: Some(2) };
    ask(Ask::Read(Read { path: blob("a"), part, revision: Some(7), hash: None }), expect![]);
    let part = Part::Lines { first: 1, count: 2, budget: 3 };
    ask(Ask::Read(Read { path: blob("a"), part, revision: None, hash: Some(true) }), expect![]);
    let part = Part::Tail { count: 2, budget: 3 };
    ask(Ask::Read(Read { path: blob("a"), part, revision: None, hash: None }), expect![]);
    let write = Write {
        path: blob("a"),
        how: How::Replace,
        revision: Some(7),
        mode: Some(0o755),
        parents: Some(true),
        modified: Some(-1),
        hash: None,
        transfer: Some(Nonce([1; 16])),
        offset: Some(9),
        undo: Some(true),
        lazy: None,
    };
    ask(Ask::Write(write), expect![]);
    ask(
        Ask::Edit(Edit { path: blob("a"), revision: None, dry: Some(true), undo: None }),
        expect![],
    );
    let search =
        Search { path: blob("a"), pattern: "x+".to_owned(), limit: Some(5), ..Search::default() };
    ask(Ask::Search(search), expect![]);
    ask(Ask::MakeDirectory(MakeDirectory { path: blob("a"), parents: Some(true) }), expect![]);
    let remove = Remove { path: blob("a"), recursive: Some(true), revision: None, undo: None };
    ask(Ask::Remove(remove), expect![]);
    let copy = Copy {
        from: blob("a"),
        to: blob("b"),
        moved: Some(true),
        overwrite: None,
        recursive: None,
        undo: None,
    };
    ask(Ask::Copy(copy), expect![]);
    ask(Ask::Arrived(Arrived { path: blob("a"), transfer: Nonce([1; 16]) }), expect![]);
    let headers = vec![Header { name: "depth".to_owned(), value: blob("1") }];
    let http = Http { method: "PROPFIND".to_owned(), target: "/work/".to_owned(), headers };
    ask(Ask::Http(http), expect![]);
    ask(Ask::Patch(Patch { strip: Some(1), ..Patch::default() }), expect![]);
    ask(Ask::Changes(Changes { change: Some(3), limit: None }), expect![]);
    ask(Ask::Revert(Revert { change: Some(3), redo: Some(true), force: None }), expect![]);
    ask(Ask::Watch(Watch { path: blob("a"), wait_ms: 5, revision: None }), expect![]);
    check(&ToAgent::Whole(5), expect![]);
    check(&ToAgent::GivenUp, expect![]);
    let edit = Replacement { old: blob("a"), new: blob("b"), all: None };
    check(&Edits { edits: vec![edit] }, expect![]);
}

#[test]
fn the_bytes_of_answers() {
    check(&ToBridge::Entries(vec![entry()]), expect![]);
    let found = Match { path: blob("a"), line: 3, text: blob("x"), beside: None };
    check(&ToBridge::Matches(vec![found]), expect![]);
    let headers = vec![Header { name: "etag".to_owned(), value: blob("\"1\"") }];
    check(&ToBridge::Head(Head { status: 207, headers }), expect![]);
    let done = Done { entry: Some(entry()), count: Some(2), more: Some(true), ..Done::default() };
    check(&ToBridge::Done(Box::new(done)), expect![]);
    let failed = Done::failed(Failure::new(Kind::NoSuchFile, "no"));
    check(&ToBridge::Done(Box::new(failed)), expect![]);
    let change = Change {
        change: 3,
        verb: "write".to_owned(),
        paths: vec![blob("a")],
        age_ms: 5,
        who: "laptop/ai-local".to_owned(),
        undone: None,
        kept: 9,
    };
    check(&ToBridge::Changed(vec![change]), expect![]);
}

#[test]
fn what_has_content_is_known_by_the_question() {
    assert!(
        Ask::Edit(Edit { path: blob("a"), revision: None, dry: None, undo: None }).has_content()
    );
    assert!(!Ask::Stat(blob("a")).has_content());
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = conversation::read::<ToAgent>(bytes);
        let _ = conversation::read::<ToBridge>(bytes);
        let _ = crate::cbor::decode::<Edits>(bytes, TEXT_LIMIT);
        let _ = crate::cbor::decode::<Enter>(bytes, conversation::CREATE_LIMIT);
    });
}
