//! Golden bytes of the messages of a files stream.

use expect_test::{Expect, expect};

use super::*;
use crate::cbor;
use crate::conversation;
use crate::failure::Kind;
use crate::id::Nonce;

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
        beats: Some(true),
    };
    check(&enter, expect!["a50064776f726b01416102f503652f776f726b05f5"]);
    let root = Root {
        name: "work".to_owned(),
        path: blob("/srv/work"),
        writable: true,
        excludes: Some(vec![".env".to_owned()]),
        confined: Some("landlock 7".to_owned()),
        asks: Some(ASK_LATEST),
        beats: Some(true),
    };
    check(
        &ToBridge::Entered(root),
        expect![
            "820081a70064776f726b01492f7372762f776f726b02f50381642e656e76046a6c616e646c6f636b203705181b06f5"
        ],
    );
}

#[test]
fn a_question_the_end_of_an_answer_and_a_beat_are_known_by_their_bytes() {
    check(&ToBridge::Beat, expect!["820680"]);
    let stat = cbor::encode(&ToAgent::Ask(Box::new(Ask::Stat(blob("a")))));
    assert!(ToAgent::is_ask(&stat));
    for other in [ToAgent::Whole(0), ToAgent::GivenUp] {
        assert!(!ToAgent::is_ask(&cbor::encode(&other)), "{other:?}");
    }
    let done = ToBridge::Done(Box::new(Done { count: Some(4), ..Done::default() }));
    assert!(ToBridge::is_done(&cbor::encode(&done)));
    for other in [ToBridge::Beat, ToBridge::Entries(Vec::new()), ToBridge::Matches(Vec::new())] {
        assert!(!ToBridge::is_done(&cbor::encode(&other)), "{other:?}");
    }
}

#[test]
fn the_bytes_of_questions() {
    ask(Ask::Stat(blob("a")), expect!["8200818201814161"]);
    ask(
        Ask::List(List {
            path: blob("a"),
            depth: Some(2),
            sort: Some(Sort::Time),
            ..List::default()
        }),
        expect!["820081820081a300416101020402"],
    );
    let part = Part::Bytes { offset: 1, length: Some(2) };
    ask(
        Ask::Read(Read { path: blob("a"), part, revision: Some(7), hash: None, before: None }),
        expect!["820081820281a30041610182008201020207"],
    );
    let part = Part::Lines { first: 1, count: 2, budget: 3 };
    ask(
        Ask::Read(Read { path: blob("a"), part, revision: None, hash: Some(true), before: None }),
        expect!["820081820281a30041610182018301020303f5"],
    );
    let part = Part::Tail { count: 2, budget: 3 };
    ask(
        Ask::Read(Read { path: blob("a"), part, revision: None, hash: None, before: None }),
        expect!["820081820281a2004161018202820203"],
    );
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
    ask(
        Ask::Write(write),
        expect![
            "820081820381a900416101020207031901ed04f50520075001010101010101010101010101010101080909f5"
        ],
    );
    ask(
        Ask::Edit(Edit { path: blob("a"), revision: None, dry: Some(true), undo: None }),
        expect!["820081820481a200416102f5"],
    );
}

#[test]
fn the_bytes_of_further_questions() {
    let search =
        Search { path: blob("a"), pattern: "x+".to_owned(), limit: Some(5), ..Search::default() };
    ask(Ask::Search(search), expect!["820081820581a30041610162782b0605"]);
    ask(
        Ask::MakeDirectory(MakeDirectory { path: blob("a"), parents: Some(true) }),
        expect!["820081820681a200416101f5"],
    );
    let remove = Remove { path: blob("a"), recursive: Some(true), revision: None, undo: None };
    ask(Ask::Remove(remove), expect!["820081820781a200416101f5"]);
    let copy = Copy {
        from: blob("a"),
        to: blob("b"),
        moved: Some(true),
        overwrite: None,
        recursive: None,
        undo: None,
    };
    ask(Ask::Copy(copy), expect!["820081820881a300416101416202f5"]);
    ask(
        Ask::Arrived(Arrived { path: blob("a"), transfer: Nonce([1; 16]) }),
        expect!["820081820981a2004161015001010101010101010101010101010101"],
    );
    let headers = vec![Header { name: "depth".to_owned(), value: blob("1") }];
    let http = Http { method: "PROPFIND".to_owned(), target: "/work/".to_owned(), headers };
    ask(
        Ask::Http(http),
        expect!["820081821481a3006850524f5046494e4401662f776f726b2f0281826564657074684131"],
    );
    ask(
        Ask::Patch(Patch { strip: Some(1), ..Patch::default() }),
        expect!["820081821581a200400101"],
    );
    ask(
        Ask::Changes(Changes { change: Some(3), ..Changes::default() }),
        expect!["820081821681a10003"],
    );
    ask(
        Ask::Changes(Changes { next: Some(true), ..Changes::default() }),
        expect!["820081821681a102f5"],
    );
    ask(
        Ask::Patch(Patch { prefix: Some("w/".to_owned()), ..Patch::default() }),
        expect!["820081821581a200400462772f"],
    );
    ask(
        Ask::Revert(Revert { change: Some(3), redo: Some(true), force: None }),
        expect!["820081821781a2000301f5"],
    );
    ask(
        Ask::Watch(Watch { path: blob("a"), wait_ms: 5, ..Watch::default() }),
        expect!["82008182181881a20041610105"],
    );
    ask(
        Ask::Archive(Archive { path: blob("a"), tidy: Some(true) }),
        expect!["82008182181981a200416101f5"],
    );
    ask(
        Ask::Attributes(Attributes { path: blob("a"), mode: Some(0o755), modified: Some(7) }),
        expect!["82008182181a81a3004161011901ed0207"],
    );
    let part = Part::Bytes { offset: 9, length: Some(0) };
    let read = Read { path: blob("a"), part, revision: None, hash: Some(true), before: Some(true) };
    ask(Ask::Read(read), expect!["820081820281a400416101820082090003f504f5"]);
    check(&ToAgent::Whole(5), expect!["82018105"]);
    check(&ToAgent::GivenUp, expect!["820280"]);
    let edit = Replacement { old: blob("a"), new: blob("b"), all: None };
    check(&Edits { edits: vec![edit] }, expect!["a10081a2004161014162"]);
}

#[test]
fn the_bytes_of_questions_about_trees() {
    ask(Ask::Usage(blob("a")), expect!["82008182181b814161"]);
    ask(
        Ask::Watch(Watch { path: blob("a"), wait_ms: 5, revision: None, deep: Some(true) }),
        expect!["82008182181881a3004161010503f5"],
    );
}

#[test]
fn the_bytes_of_answers() {
    check(
        &ToBridge::Entries(vec![entry()]),
        expect!["82018181a60043612f6201000205031b17979cfe362a0000041b0000123456789abc051901a4"],
    );
    let found = Match { path: blob("a"), line: 3, text: blob("x"), ..Match::default() };
    check(&ToBridge::Matches(vec![found.clone()]), expect!["82028181a30041610103024178"]);
    let found = Match {
        at: Some(2),
        cut_before: Some(true),
        cut_after: Some(true),
        binary: Some(true),
        ..found
    };
    check(&ToBridge::Matches(vec![found]), expect!["82028181a70041610103024178040205f506f507f5"]);
    let headers = vec![Header { name: "etag".to_owned(), value: blob("\"1\"") }];
    check(
        &ToBridge::Head(Head { status: 207, headers }),
        expect!["820381a20018cf018182646574616743223122"],
    );
    let done = Done { entry: Some(entry()), count: Some(2), more: Some(true), ..Done::default() };
    check(
        &ToBridge::Done(Box::new(done)),
        expect![
            "820481a301a60043612f6201000205031b17979cfe362a0000041b0000123456789abc051901a4020203f5"
        ],
    );
    let unread =
        Done { unread: Some(2), names: Some(vec![blob("a")]), binary: Some(3), ..Done::default() };
    check(&ToBridge::Done(Box::new(unread)), expect!["820481a30b020c8141610d03"]);
    let failed = Done::from_failure(Failure::new(Kind::NoSuchFile, "no"));
    check(&ToBridge::Done(Box::new(failed)), expect!["820481a100a200186501626e6f"]);
    let change = Change {
        change: 3,
        verb: "write".to_owned(),
        paths: vec![blob("a")],
        age_ms: 5,
        who: "laptop/ai-local".to_owned(),
        undone: None,
        kept: 9,
    };
    check(
        &ToBridge::Changed(vec![change]),
        expect!["82058181a6000301657772697465028141610305046f6c6170746f702f61692d6c6f63616c0609"],
    );
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
        let _ = cbor::decode::<Edits>(bytes, TEXT_LIMIT);
        let _ = cbor::decode::<Enter>(bytes, conversation::CREATE_LIMIT);
    });
}
