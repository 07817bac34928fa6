//! Golden bytes of the messages of a run, and an old reader with a new writer.

use expect_test::{Expect, expect};

use super::*;
use crate::conversation::{self, End, Open};
use crate::streams::control;

fn check<T>(value: &T, bytes: Expect)
where
    T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + core::fmt::Debug,
{
    let encoded = conversation::message(value);
    bytes.assert_eq(&data_encoding::HEXLOWER.encode(&encoded));
    assert_eq!(conversation::read::<T>(&encoded).unwrap(), *value);
}

fn start() -> Start {
    Start {
        request: Nonce([1; 16]),
        instance: Nonce([2; 16]),
        program: Program::Argv(vec![Blob(b"ls".to_vec())]),
        cwd: None,
        env: None,
        user: None,
        login: None,
        timeout_ms: Some(5_000),
        stdin: Some(true),
        delivery: Delivery::Stream { lossless: true },
        input: None,
    }
}

#[test]
fn the_bytes_of_a_start() {
    check(
        &Request::Start(start()),
        expect![
            "820081a60050010101010101010101010101010101010150020202020202020202020202020202020282008181426c730719138808f509820081f5"
        ],
    );
}

#[test]
fn the_bytes_of_an_open() {
    let open = Open {
        kind: crate::streams::Kind::Run.number(),
        conversation: Nonce([3; 16]),
        generation: 0,
        create: Some(Blob(vec![0xf6])),
        have: None,
        more: None,
    };
    check(&open, expect!["a4000201500303030303030303030303030303030302000341f6"]);
}

#[test]
fn the_bytes_of_an_end() {
    let state = State {
        exit: Some(Exit::Code(7)),
        duration_ms: 12,
        lines: 1,
        bytes: 2,
        ..State::default()
    };
    let ended = Ended { state, next: None, matched: None };
    check(&ended, expect!["a100a60082008107020c0301040205000600"]);
    let failure = Some(Failure::new(crate::failure::Kind::OutcomeUnknown, "x"));
    check(
        &State { failure, ..State::default() },
        expect!["a6020003000400050006000aa2001843016178"],
    );
    let ends = vec![Offset { channel: STDOUT, offset: 2 }];
    check(
        &End { ends, failure: None, body: Some(Blob(vec![0xf6])) },
        expect!["a200818201020241f6"],
    );
}

#[test]
fn the_bytes_of_a_stop() {
    let stop =
        control::Stop { request: Some(Nonce([1; 16])), job: None, signal: Some(2), instance: None };
    check(
        &control::Call { id: 1, ask: Some(control::Ask::Stop(stop)) },
        expect!["a2000101820181a20050010101010101010101010101010101010202"],
    );
}

#[test]
fn a_field_of_a_newer_program_is_skipped_and_a_question_of_one_is_seen_as_such() {
    let mut newer =
        conversation::message(&Ended { state: State::default(), next: None, matched: None });
    assert_eq!(newer[0] & 0xe0, 0xa0, "a map");
    newer[0] += 1;
    newer.extend_from_slice(&[0x18, 0x63, 0x81, 0x01]); // 99: [1]
    assert!(conversation::read::<Ended>(&newer).is_ok());
    let question = [0xa2, 0x00, 0x05, 0x01, 0x82, 0x18, 0x63, 0x80]; // {0: 5, 1: [99, []]}
    let call = conversation::read::<control::Call>(&question).unwrap();
    assert_eq!(call, control::Call { id: 5, ask: None });
}

#[test]
fn any_payload_is_read_without_a_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = conversation::read::<Request>(bytes);
        let _ = conversation::read::<ToBridge>(bytes);
        let _ = conversation::read::<Ended>(bytes);
        let _ = conversation::read::<control::Call>(bytes);
        let _ = conversation::read::<control::Reply>(bytes);
    });
}
