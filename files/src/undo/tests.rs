//! A store in a real directory.

use std::io::{Read as _, Write as _};

use farwire_protocol::cbor;
use sha2::{Digest as _, Sha256};

use super::*;

fn open(place: &std::path::Path, quota: u64) -> Undo {
    Undo::open(File::open(place).unwrap().into(), quota).unwrap()
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn step(path: &str, before: Snapshot, after: Snapshot) -> ChangeStep {
    ChangeStep { path: Blob(path.as_bytes().to_vec()), before, after, moved_from: None }
}

fn change(undo: &Undo, content: &[u8]) -> u64 {
    let mut keeping = undo.begin();
    let (hash, size) = keeping.keep(&file(content)).unwrap().unwrap();
    let before = Snapshot::File { hash, size, mode: 0o644 };
    keeping.record("remove", "me", vec![step("f", before, Snapshot::Absent)]).unwrap()
}

/// A change whose record takes about this many bytes.
fn long(undo: &Undo, bytes: usize) -> u64 {
    let step = step(&"x".repeat(bytes), Snapshot::Directory { mode: None }, Snapshot::Absent);
    undo.begin().record("remove", "me", vec![step]).unwrap()
}

fn length(place: &std::path::Path) -> u64 {
    std::fs::metadata(place.join("journal")).unwrap().len()
}

#[test]
fn changes_are_there_after_a_restart_and_a_torn_end_is_cut_off() {
    let place = tempfile::tempdir().unwrap();
    let undo = open(place.path(), QUOTA);
    assert_eq!((change(&undo, b"one"), change(&undo, b"two")), (1, 2));
    undo.record_revert(1, true, Vec::new()).unwrap();
    let journal = place.path().join("journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend_from_slice(&[0, 0, 0, 99, 1]);
    std::fs::write(&journal, bytes).unwrap();
    let undo = open(place.path(), QUOTA);
    let records = undo.records();
    assert_eq!(
        records.iter().map(|one| (one.change, one.undone)).collect::<Vec<_>>(),
        [(2, false), (1, true)]
    );
    assert_eq!(change(&undo, b"three"), 3);
    let mut text = String::new();
    undo.content(&Sha256::digest(b"two")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "two");
}

#[test]
fn the_oldest_are_forgotten_when_there_is_no_room() {
    let place = tempfile::tempdir().unwrap();
    let undo = open(place.path(), 10);
    change(&undo, b"aaaa");
    change(&undo, b"bbbb");
    change(&undo, b"aaaa");
    change(&undo, b"cccc");
    assert!(undo.content(&Sha256::digest(b"bbbb")).is_err());
    assert!(undo.content(&Sha256::digest(b"aaaa")).is_ok(), "a later change needs it");
    assert_eq!(undo.records().len(), 2);
    assert_eq!(undo.begin().keep(&file(&[0; 11])).unwrap(), None, "too large");
}

#[test]
fn any_journal_is_read_without_a_panic() {
    let place = tempfile::tempdir().unwrap();
    bolero::check!().with_iterations(300).for_each(|bytes: &[u8]| {
        std::fs::write(place.path().join("journal"), bytes).unwrap();
        drop(open(place.path(), QUOTA));
    });
}

#[test]
fn a_change_that_is_undone_and_done_again_for_ever_takes_no_room() {
    let place = tempfile::tempdir().unwrap();
    let undo = open(place.path(), QUOTA);
    long(&undo, 700_000);
    for time in 0..2_000 {
        undo.record_revert(1, time % 2 == 0, Vec::new()).unwrap();
    }
    assert!(length(place.path()) < 800_000, "{}", length(place.path()));
    let was = Snapshot::File { hash: Blob(vec![7; 32]), size: 1, mode: 0o600 };
    undo.record_revert(1, true, vec![Unexpected { step: 0, snapshot: was.clone() }]).unwrap();
    let undo = open(place.path(), QUOTA);
    let record = undo.find_record(1).unwrap();
    assert_eq!((record.undone, &record.steps[0].after), (true, &was));
    assert_eq!(record.steps[0].before, Snapshot::Directory { mode: None });
}

#[test]
fn a_long_journal_is_written_anew_and_the_oldest_changes_are_forgotten() {
    let place = tempfile::tempdir().unwrap();
    let undo = open(place.path(), QUOTA);
    for _ in 0..40 {
        long(&undo, 1_000_000);
    }
    let changes = |undo: &Undo| undo.records().iter().map(|one| one.change).collect::<Vec<_>>();
    assert_eq!(changes(&undo), (25..=40).rev().collect::<Vec<_>>());
    assert!(length(place.path()) <= 2 * RECORDS + (1 << 20));
    let again = open(place.path(), QUOTA);
    assert_eq!(changes(&again), changes(&undo));
    for number in 25..=40 {
        again.void(number);
    }
    assert!(length(place.path()) < 1 << 20);
    assert_eq!(long(&open(place.path(), QUOTA), 1), 41, "no number is given twice");
}

#[test]
fn what_a_question_keeps_stays_until_it_has_ended() {
    let place = tempfile::tempdir().unwrap();
    let undo = open(place.path(), 10);
    let mut keeping = undo.begin();
    let (hash, size) = keeping.keep(&file(b"aaaa")).unwrap().unwrap();
    // Other questions record, forget and void their own changes.
    let other = change(&undo, b"bbbb");
    change(&undo, b"cccc");
    undo.void(other);
    assert!(undo.content(&hash.0).is_ok());
    let before = Snapshot::File { hash: hash.clone(), size, mode: 0o644 };
    keeping.record("remove", "me", vec![step("f", before, Snapshot::Absent)]).unwrap();
    assert!(undo.content(&hash.0).is_ok());
    let mut given_up = undo.begin();
    let (hash, _) = given_up.keep(&file(b"dd")).unwrap().unwrap();
    drop(given_up);
    assert!(undo.content(&hash.0).is_err(), "nobody needs it");
}

#[test]
fn no_more_is_kept_than_may_be_at_any_time() {
    let place = tempfile::tempdir().unwrap();
    let undo = open(place.path(), 10);
    change(&undo, b"old");
    let held = || {
        let files = std::fs::read_dir(place.path()).unwrap().map(Result::unwrap);
        let files = files.filter(|file| file.file_name() != "journal");
        files.map(|file| file.metadata().unwrap().len()).sum::<u64>()
    };
    let mut keeping = undo.begin();
    let kept: Vec<_> = [&b"1111"[..], b"2222", b"3333", b"22", b"4"]
        .into_iter()
        .map(|content| {
            let kept = keeping.keep(&file(content)).unwrap().is_some();
            assert!(held() <= 10);
            kept
        })
        .collect();
    assert_eq!(kept, [true, true, false, true, false]);
    drop(keeping);
    assert_eq!(held(), 0, "the old one had to go, and these were not written down");
}

#[test]
fn what_a_change_needs_before_it_is_there_is_counted_once() {
    let place = tempfile::tempdir().unwrap();
    let undo = open(place.path(), 100);
    let hash = Blob(Sha256::digest(b"after").to_vec());
    let after = Snapshot::File { hash, size: 5, mode: 0o644 };
    undo.begin().record("put", "me", vec![step("f", Snapshot::Absent, after)]).unwrap();
    let record = undo.find_record(1).unwrap();
    let mut others = undo.begin();
    others.keep(&file(b"others")).unwrap().unwrap();
    let mut keeping = undo.begin();
    keeping.pin(&record);
    keeping.keep(&file(b"after")).unwrap().unwrap();
    assert_eq!(undo.index().pinned, 11);
    drop(keeping);
    assert_eq!(undo.index().pinned, 6);
    drop(others);
    assert_eq!(undo.index().pinned, 0);
}

#[test]
fn a_directory_whose_rights_were_not_written_down_is_still_read() {
    // The encoding of a variant without fields.
    assert_eq!(cbor::encode(&Snapshot::Absent), [0x82, 0, 0x80]);
    assert_eq!(cbor::encode(&Snapshot::Directory { mode: None }), [0x82, 2, 0x80]);
    for mode in [None, Some(0o700)] {
        let was = Snapshot::Directory { mode };
        assert_eq!(cbor::decode::<Snapshot>(&cbor::encode(&was), 100).unwrap(), was);
    }
}

#[test]
fn on_a_full_disk_the_oldest_changes_make_room() {
    let place = tempfile::tempdir().unwrap();
    let undo = open(place.path(), QUOTA);
    for content in [b"aaaa", b"bbbb", b"cccc", b"dddd"] {
        change(&undo, content);
    }
    assert!(undo.free(&mut undo.index(), 5));
    let changes = undo.records().iter().map(|one| one.change).collect::<Vec<_>>();
    assert_eq!(changes, [4, 3]);
    assert!(undo.content(&Sha256::digest(b"bbbb")).is_err());
    assert!(undo.free(&mut undo.index(), u64::MAX) && undo.records().is_empty());
    assert!(!undo.free(&mut undo.index(), 0), "nothing is left to be forgotten");
    let full = store_failure(rustix::io::Errno::NOSPC);
    assert_eq!(full.kind, Kind::DiskFull);
    assert!(full.message.contains("undo store is full"), "{full}");
}
