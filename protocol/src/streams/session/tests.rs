//! The bytes of each message.

use expect_test::{Expect, expect};

use super::*;
use crate::cbor;
use crate::failure::Kind;

fn check<T>(value: &T, expected: Expect)
where
    T: Encode<()> + for<'b> Decode<'b, ()> + core::fmt::Debug + PartialEq,
{
    let bytes = cbor::encode(value);
    expected.assert_eq(&data_encoding::HEXLOWER.encode(&bytes));
    assert_eq!(cbor::decode::<T>(&bytes, 1 << 16).unwrap(), *value);
}

const ID: Nonce = Nonce([5; 16]);
const SIZE: Size = Size { cols: 80, rows: 24 };

#[test]
fn requests_have_these_bytes() {
    let start = Start {
        request: ID,
        instance: Nonce([6; 16]),
        name: Some("m".to_owned()),
        program: Some(Program::Line(Blob(b"l".to_vec()))),
        cwd: None,
        env: None,
        user: None,
        size: SIZE,
        attach: Some(true),
        new: None,
        timeout_ms: Some(9),
    };
    check(
        &Request::Open(start),
        expect![
            "820081a700500505050505050505050505050505050501500606060606060606060606060606060602616d03820181416c07821850181808f50b09"
        ],
    );
    let attach = Attach { session: ID, read_only: Some(true), size: Some(SIZE), from: Some(7) };
    check(
        &Request::Attach(attach),
        expect!["820181a400500505050505050505050505050505050501f50282185018180307"],
    );
    let send = Send {
        request: ID,
        session: ID,
        instance: ID,
        input: vec![Input::Text(Blob(b"t".to_vec())), Input::Key("up".to_owned())],
        wait_ms: 1,
        until: Some("u".to_owned()),
        budget: 2,
        from: Some(3),
    };
    check(
        &Request::Send(send),
        expect![
            "820281a800500505050505050505050505050505050501500505050505050505050505050505050502500505050505050505050505050505050503828200814174820181627570040105617506020703"
        ],
    );
    check(&Request::Look(ID), expect!["8203815005050505050505050505050505050505"]);
    check(
        &Request::Commands(Commands { session: ID, limit: 4 }),
        expect!["820481a20050050505050505050505050505050505050104"],
    );
    check(&ToAgent::Resize(SIZE), expect!["8200818218501818"]);
}

#[test]
fn answers_have_these_bytes() {
    let attached = Attached {
        session: ID,
        name: "m".to_owned(),
        known: Some(true),
        size: SIZE,
        keys: Some(1),
    };
    check(
        &ToBridge::Attached(attached),
        expect!["820081a500500505050505050505050505050505050501616d02f50382185018180401"],
    );
    check(&ToBridge::At(1), expect!["82018101"]);
    check(&ToBridge::Screen { length: 1, offset: 2, missed: 3 }, expect!["820283010203"]);
    check(&ToBridge::Ack(1), expect!["82038101"]);
    check(&ToBridge::Resized(SIZE), expect!["8204818218501818"]);
    check(
        &ToBridge::Refused(Failure::new(Kind::InputLocked, "n")),
        expect!["820581a200184d01616e"],
    );
    check(&ToBridge::Beat, expect!["820680"]);
    let (starts_within, ends_within) = (None, Some(true));
    let piece = Piece { first_line: 1, length: 2, starts_within, ends_within, offset: 3 };
    check(&ToBridge::Piece(piece), expect!["820781a40001010203f50403"]);
    let status = Status {
        session: ID,
        name: "m".to_owned(),
        doing: Doing::Password,
        size: SIZE,
        marked: true,
        attached: 1,
        title: Some("t".to_owned()),
        foreground: Some("f".to_owned()),
        cursor: Some(SIZE),
        known: Some(true),
    };
    let command = Command {
        number: 1,
        text: Some("c".to_owned()),
        duration_ms: Some(2),
        age_ms: Some(3),
        exit: Some(-4),
        start: 5,
        end: Some(6),
        cwd: None,
    };
    let ended = Ended {
        state: State::default(),
        status,
        because: Some(Because::Silence),
        command: Some(command.clone()),
        commands: Some(vec![command]),
        offset: 8,
        omitted: Some(9),
    };
    check(
        &ended,
        expect![
            "a700a50200030004000500060001aa00500505050505050505050505050505050501616d020203821850181804f5050106617407616608821850181809f5020303a70001016163020203030423050506060481a700010161630202030304230505060605080609"
        ],
    );
}

#[test]
fn any_bytes_are_a_message_or_an_error() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(request) = cbor::decode::<Request>(bytes, bytes.len()) {
            assert_eq!(cbor::decode::<Request>(&cbor::encode(&request), 1 << 20).unwrap(), request);
        }
        if let Ok(message) = cbor::decode::<ToBridge>(bytes, bytes.len()) {
            assert_eq!(
                cbor::decode::<ToBridge>(&cbor::encode(&message), 1 << 20).unwrap(),
                message
            );
        }
    });
}
