//! What the next process learns, including from files that are damaged, cut short, missing or of
//! the first format.

use farwire_protocol::id::Id;
use farwire_protocol::surface::Surface;

use super::replay::JournalFile;
use super::*;
use crate::gate::principal::Principal;

const BOOT: &str = "0f8b3a5e-5d3c-4c9b-9d6c-0a7c1de1f1c2";
const BODY: [u8; 32] = [5; 32];

fn owner(device: u8) -> Principal {
    Principal::new(Id([device; 32]), Surface::Human, "laptop")
}

fn process(number: u8) -> Nonce {
    Nonce([number; 16])
}

fn request(number: u8) -> Nonce {
    Nonce([number; 16])
}

fn open(path: &Path, number: u8) -> Journal {
    if number == 1 {
        // As it is written with an identity. If that fails, the journal comes later.
        let _ = create_on(path, BOOT);
    }
    Journal::open_on(path, process(number), BOOT)
}

/// What this journal reports about a request that was sent to that process.
fn past(journal: &Journal, (sent_to, number): (u8, u8)) -> Past {
    journal.past(&owner(1), request(number), process(sent_to), &BODY)
}

#[test]
fn the_next_processes_know_what_was_done_and_what_was_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut first = open(&path, 1);
    first.reserve(&owner(1), request(1), &BODY).unwrap();
    first.reserve(&owner(1), request(2), &BODY).unwrap();
    first.note_end(&owner(1), request(2), Ending::Exit(Exit::Code(7)));
    drop(first);
    for number in 2..5 {
        let mut next = open(&path, number);
        assert_eq!(past(&next, (1, 1)), Past::Reserved);
        assert_eq!(past(&next, (1, 2)), Past::Ended("exit code 7".to_owned()));
        assert_eq!(past(&next, (1, 3)), Past::NeverStarted);
        assert_eq!(past(&next, (9, 3)), Past::Unknown, "nothing is known of that process");
        let other = next.past(&owner(1), request(2), process(1), &[6; 32]);
        assert_eq!(other, Past::Conflict);
        let other = next.past(&owner(2), request(1), process(1), &BODY);
        assert_eq!(other, Past::NeverStarted, "it is another owner's");
        assert_eq!(next.trace(&owner(1), request(3), None), Past::NeverStarted);
        assert_eq!(next.trace(&owner(1), request(1), None), Past::Reserved);
        next.reserve(&owner(1), request(100 + number), &BODY).unwrap();
        assert_ne!(next.trace(&owner(1), request(100 + number), None), Past::NeverStarted);
    }
}

#[test]
fn nothing_is_vouched_for_after_a_restart_of_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    open(&path, 1).reserve(&owner(1), request(1), &BODY).unwrap();
    let next = Journal::open_on(&path, process(2), "another");
    assert_eq!(past(&next, (1, 1)), Past::Reserved);
    assert_eq!(past(&next, (1, 3)), Past::Unknown);
    assert_eq!(next.trace(&owner(1), request(3), None), Past::Unknown);
    let here = next.trace(&owner(1), request(3), Some(process(2)));
    assert_eq!(here, Past::NeverStarted, "of itself a process knows all");
}

/// Opens the journal with these bytes, and checks that no reserved request is reported as never
/// started.
fn check_damaged(bytes: &[u8], what: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    std::fs::write(&path, bytes).unwrap();
    let next = open(&path, 3);
    for (sent_to, number) in [(1, 1), (1, 2), (2, 3), (2, 4)] {
        assert_ne!(past(&next, (sent_to, number)), Past::NeverStarted, "{number}: {what}");
        let trace = next.trace(&owner(1), request(number), None);
        assert_ne!(trace, Past::NeverStarted, "{number}: {what}");
    }
}

#[test]
fn no_damage_of_any_byte_makes_a_request_one_that_never_started() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut first = open(&path, 1);
    first.reserve(&owner(1), request(1), &BODY).unwrap();
    first.reserve(&owner(1), request(2), &BODY).unwrap();
    first.note_end(&owner(1), request(1), Ending::Exit(Exit::Signal(9)));
    drop(first);
    let mut second = open(&path, 2);
    second.reserve(&owner(1), request(3), &BODY).unwrap();
    second.reserve(&owner(1), request(4), &BODY).unwrap();
    drop(second);
    let whole = std::fs::read(&path).unwrap();
    check_damaged(&whole, "none");
    for at in 0..whole.len() {
        check_damaged(&whole[..at], &format!("cut at {at}"));
        check_damaged(&[&whole[..at], &whole[at + 1..]].concat(), &format!("without byte {at}"));
        for flip in [1, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            check_damaged(&bytes, &format!("byte {at} flipped by {flip}"));
        }
    }
    // Whole records missing, the length in the head being right or not.
    let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    for missing in 1..lines.len() {
        let left: Vec<&[u8]> = lines
            .iter()
            .copied()
            .enumerate()
            .filter(|(at, _)| *at != missing)
            .map(|(_, line)| line)
            .collect();
        let mut bytes = left.concat();
        check_damaged(&bytes, &format!("without line {missing}"));
        let head = JournalHead::parse(lines[0]).unwrap();
        let head = JournalHead { length: bytes.len() as u64, ..head };
        bytes[..HEAD].copy_from_slice(&head.line());
        if missing + 1 < lines.len() {
            check_damaged(&bytes, &format!("without line {missing}, in a shorter file"));
        }
    }
}

#[test]
fn a_missing_file_vouches_for_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    open(&path, 1).reserve(&owner(1), request(1), &BODY).unwrap();
    std::fs::remove_file(&path).unwrap();
    let next = open(&path, 2);
    assert_eq!(past(&next, (1, 1)), Past::Unknown);
    assert_eq!(next.trace(&owner(1), request(1), None), Past::Unknown);
}

#[test]
fn files_that_are_put_aside_vouch_for_their_process_until_they_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut first = open(&path, 1);
    // One file holds about ten.
    first.longest = 10 * 102;
    let mut number = 0;
    let mut ask = |journal: &mut Journal| {
        number += 1;
        journal.reserve(&owner(1), request(number), &BODY).unwrap();
        number
    };
    while !before(&path).exists() {
        ask(&mut first);
    }
    let next = Journal { log: None, ..open_copy(&path) };
    assert_eq!(past(&next, (1, 1)), Past::Reserved, "of the file that was put aside");
    assert_eq!(past(&next, (1, 200)), Past::NeverStarted);
    // Without it, or without the one after it, nothing is sure.
    for missing in [before(&path), path.clone()] {
        let kept = std::fs::read(&missing).unwrap();
        std::fs::remove_file(&missing).unwrap();
        assert_eq!(past(&open_copy(&path), (1, 200)), Past::Unknown);
        std::fs::write(&missing, kept).unwrap();
    }
    for _ in 0..30 {
        ask(&mut first);
    }
    let next = open_copy(&path);
    assert_eq!(past(&next, (1, 1)), Past::Unknown, "its file was replaced");
    assert_eq!(past(&next, (1, 200)), Past::Unknown);
    assert_eq!(past(&next, (1, number)), Past::Reserved);
    assert_eq!(
        first.prior_request(&owner(1), request(1), &BODY),
        PriorRequest::Same,
        "in memory it is known"
    );
}

/// What another process would find here, without changing it.
fn open_copy(path: &Path) -> Journal {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("journal");
    for (from, to) in [(path.to_path_buf(), copy.clone()), (before(path), before(&copy))] {
        if from.exists() {
            std::fs::copy(from, to).unwrap();
        }
    }
    open(&copy, 2)
}

#[test]
fn a_journal_of_the_first_format_is_read_and_vouches_for_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let line = |number: u8| {
        let name = data_encoding::HEXLOWER.encode(&name(&owner(1), request(number)));
        format!("r {name} 1700000000 {}\n", data_encoding::HEXLOWER.encode(&half(&BODY)))
    };
    let name = data_encoding::HEXLOWER.encode(&name(&owner(1), request(2)));
    let text = format!("{}{}e {name} exit code 3\nr 00", line(1), line(2));
    std::fs::write(&path, text).unwrap();
    for number in 2..4 {
        let next = open(&path, number);
        assert_eq!(past(&next, (1, 1)), Past::Reserved);
        assert_eq!(past(&next, (1, 2)), Past::Ended("exit code 3".to_owned()));
        assert_eq!(past(&next, (1, 3)), Past::Unknown);
    }
}

#[test]
fn a_request_is_refused_while_it_cannot_be_written_down_and_taken_when_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none").join("journal");
    let mut journal = open(&path, 1);
    let refused = journal.reserve(&owner(1), request(1), &BODY).unwrap_err();
    assert_eq!(refused.kind, Kind::Io);
    assert_eq!(journal.prior_request(&owner(1), request(1), &BODY), PriorRequest::No);
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    journal.reserve(&owner(1), request(1), &BODY).unwrap();
    // The file can only be read: as good as a full disk.
    let log = journal.log.as_mut().unwrap();
    let file = std::mem::replace(&mut log.file, File::open(&path).unwrap());
    assert!(journal.reserve(&owner(1), request(2), &BODY).is_err());
    assert_eq!(journal.prior_request(&owner(1), request(2), &BODY), PriorRequest::No);
    journal.log.as_mut().unwrap().file = file;
    journal.reserve(&owner(1), request(3), &BODY).unwrap();
    let next = open(&path, 2);
    assert_eq!(past(&next, (1, 1)), Past::Reserved);
    assert_eq!(past(&next, (1, 2)), Past::NeverStarted, "it was refused");
    assert_eq!(past(&next, (1, 3)), Past::Reserved);
}

#[test]
fn what_one_owner_asks_makes_nothing_of_another_owner_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(&directory.path().join("journal"), 1);
    let body = half(&BODY);
    let mine = name(&owner(1), request(1));
    journal.asked.entry(name_of(&owner(1))).or_default().insert(mine, body);
    let other = journal.asked.entry(name_of(&owner(2))).or_default();
    for number in 0..3 * REMEMBERED as u128 {
        other.insert(number.to_be_bytes(), body);
    }
    assert!(other.forgot && other.get(&0_u128.to_be_bytes()).is_none());
    let latest = 3 * REMEMBERED as u128 - 1;
    assert!(other.get(&latest.to_be_bytes()).is_some());
    assert_eq!(journal.prior_request(&owner(1), request(1), &BODY), PriorRequest::Same);
    assert_eq!(journal.trace(&owner(1), request(9), None), Past::NeverStarted);
    let unsure = journal.trace(&owner(2), request(9), Some(process(1)));
    assert_eq!(unsure, Past::Unknown, "some of what it asked is forgotten");
}

#[test]
fn too_many_old_requests_are_dropped_with_what_was_vouched_for() {
    let mut found = Replay { vouched: vec![process(1)], complete: true, ..Replay::default() };
    for number in 0..10_u8 {
        found.take(JournalRecord::Reserved { name: [number; 16], body: half(&BODY) });
    }
    found.bound(10);
    assert!(found.order.len() == 10 && found.complete);
    found.bound(9);
    assert_eq!(found.order, (6..10).map(|number| [number; 16]).collect::<Vec<_>>());
    assert!(found.past.len() == 4 && found.vouched.is_empty() && !found.complete);
}

#[test]
fn records_are_read_as_they_were_written() {
    let end: Box<str> = "exit code -3".into();
    for record in [
        JournalRecord::Process(process(1)),
        JournalRecord::Reserved { name: [2; 16], body: [3; 16] },
        JournalRecord::Ended { name: [2; 16], end },
    ] {
        assert_eq!(JournalRecord::parse(&record.line(77)), Some((77, record)));
    }
    let head = JournalHead {
        instance: process(1),
        from: 3,
        length: 900,
        complete: true,
        boot: BOOT.to_owned(),
    };
    assert_eq!(head.line().len(), HEAD);
    assert_eq!(JournalHead::parse(&head.line()), Some(head));
}

#[test]
fn any_bytes_are_a_journal_that_vouches_for_nothing() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let found = Replay::of(None, Some(JournalFile::of(bytes, BOOT)));
        assert!(found.vouched.is_empty() && !found.complete);
        let found = Replay::of(Some(JournalFile::of(bytes, BOOT)), None);
        assert!(found.vouched.is_empty() && !found.complete);
    });
}
