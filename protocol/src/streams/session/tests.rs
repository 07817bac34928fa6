//! Golden bytes of each message.

use expect_test::{Expect, expect};

use super::*;
use super::{Action, Actor, Heir, Lease, LeaseChange, Transfer, TypingRule, What};
use crate::cbor;
use crate::failure::Kind;
use crate::streams::run::State;

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
        caller: None,
        labels: None,
        limits: None,
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
        caller: None,
        at_prompt: None,
        literal: None,
    };
    check(
        &Request::Send(Send { literal: Some(true), input: Vec::new(), ..send.clone() }),
        expect![
            "820281a900500505050505050505050505050505050501500505050505050505050505050505050502500505050505050505050505050505050503800401056175060207030af5"
        ],
    );
    check(
        &Request::Send(send),
        expect![
            "820281a800500505050505050505050505050505050501500505050505050505050505050505050502500505050505050505050505050505050503828200814174820181627570040105617506020703"
        ],
    );
    check(&Request::Look(ID), expect!["8203815005050505050505050505050505050505"]);
    check(&Request::Draw(ID), expect!["8207815005050505050505050505050505050505"]);
    check(
        &Request::Commands(Commands { session: ID, limit: 4, before: None }),
        expect!["820481a20050050505050505050505050505050505050104"],
    );
    check(
        &Request::Commands(Commands { session: ID, limit: 4, before: Some(9) }),
        expect!["820481a300500505050505050505050505050505050501040209"],
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
}

#[test]
fn the_end_has_these_bytes() {
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
        typing: None,
        labels: None,
        limits: None,
        events: None,
        idle_ms: None,
        participants: None,
        recovered_ms: None,
        lost: None,
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
        events: None,
        typed: None,
        left: None,
        more: None,
        interrupted: None,
    };
    let (command, commands, more) = (None, None, Some(true));
    let interrupted = Some(actor());
    check(
        &Ended { command, commands, more, interrupted, ..ended.clone() },
        expect![
            "a700a50200030004000500060001aa00500505050505050505050505050505050501616d020203821850181804f5050106617407616608821850181809f50203050806090af50ba4006164016568756d616e02616303f5"
        ],
    );
    check(
        &ended,
        expect![
            "a700a50200030004000500060001aa00500505050505050505050505050505050501616d020203821850181804f5050106617407616608821850181809f5020303a70001016163020203030423050506060481a700010161630202030304230505060605080609"
        ],
    );
}

fn actor() -> Actor {
    let (device, surface) = ("d".to_owned(), "human".to_owned());
    Actor { device, surface, client: Some("c".to_owned()), mine: Some(true) }
}

fn transfer() -> Transfer {
    let reason = Some("r".to_owned());
    Transfer { way: LeaseChange::HandedOver, from: Some(actor()), to: None, reason, age_ms: 1 }
}

fn typing_rights() -> TypingRights {
    TypingRights {
        rule: TypingRule::UserPriority,
        lease: Some(Lease { holder: actor(), age_ms: 1, left_ms: Some(2) }),
        may_type: true,
        transfer: Some(transfer()),
        drafting: Some(actor()),
    }
}

const LIMITS: Limits = Limits {
    idle_ms: Some(1),
    keep_ms: Some(2),
    output_rate: Some(3),
    input_rate: Some(4),
    kept: Some(5),
};

fn labels() -> Labels {
    let text = |text: &str| Some(text.to_owned());
    Labels { owner: text("o"), tag: text("t"), group: text("g"), read_only: Some(true) }
}

#[test]
fn what_is_done_to_a_session_has_these_bytes() {
    let caller = Caller { client: Some("c".to_owned()), owner: Some("o".to_owned()) };
    let heir = Heir { surface: Some("human".to_owned()), client: Some("c".to_owned()) };
    let reason = || Some("r".to_owned());
    let actions = [
        Action::Acquire(1),
        Action::Release,
        Action::HandOver { to: heir, reason: reason() },
        Action::TakeOver { from: Some("f".to_owned()), reason: reason(), for_ms: 1 },
        Action::Rule(TypingRule::AgentOnly),
        Action::Resize(SIZE),
        Action::Signal(2),
        Action::Limits(LIMITS),
        Action::Label(labels()),
        Action::Close,
    ];
    let expected = [
        expect!["82008101"],
        expect!["820180"],
        expect!["820282a2006568756d616e0161636172"],
        expect!["8203836166617201"],
        expect!["82048103"],
        expect!["8205818218501818"],
        expect!["82068102"],
        expect!["820781a500010102020303040405"],
        expect!["820881a400616f01617402616703f5"],
    ];
    for (action, expected) in actions.into_iter().zip(expected) {
        check(&action, expected);
    }
    let control = Control { session: ID, caller: Some(caller.clone()), action: Action::Release };
    check(
        &Request::Control(control),
        expect!["820581a300500505050505050505050505050505050501a200616301616f02820180"],
    );
    let events = Events {
        session: ID,
        caller: Some(caller),
        from: 1,
        limit: 2,
        wait_ms: 3,
        offset: Some(4),
    };
    check(
        &Request::Events(events),
        expect!["820681a600500505050505050505050505050505050501a200616301616f0201030204030504"],
    );
    check(&ToAgent::Take, expect!["820180"]);
    check(&ToAgent::Seen(1), expect!["82038101"]);
    check(&ToAgent::Release, expect!["820280"]);
    check(&Input::Secret(Blob(b"s".to_vec())), expect!["8202814173"]);
}

#[test]
fn what_happened_to_a_session_has_these_bytes() {
    let all = [
        What::Opened,
        What::Typed { text: Some(Blob(b"t".to_vec())), length: 1 },
        What::Resized(SIZE),
        What::Joined(true),
        What::Left,
        What::Leased(transfer()),
        What::Rule(TypingRule::UserOnly),
        What::Signalled(2),
        What::Refused(3),
        What::Recovered,
        What::Changed,
        What::Closed,
        What::Ended,
    ];
    let expected = [
        expect!["820080"],
        expect!["820182417401"],
        expect!["8202818218501818"],
        expect!["820381f5"],
        expect!["820480"],
        expect!["820581a4000201a4006164016568756d616e02616303f50361720401"],
        expect!["82068101"],
        expect!["82078102"],
        expect!["82088103"],
        expect!["820980"],
        expect!["820a80"],
        expect!["820b80"],
        expect!["820c80"],
    ];
    for (what, expected) in all.into_iter().zip(expected) {
        check(&what, expected);
    }
    let event =
        Event { number: 1, at_ms: 2, offset: 3, actor: Some(actor()), what: Some(What::Left) };
    check(&event, expect!["a500010102020303a4006164016568756d616e02616303f504820480"]);
    check(
        &ToBridge::Typing(Box::new(typing_rights())),
        expect![
            "820881a5000201a300a4006164016568756d616e02616303f50101020202f503a4000201a4006164016568756d616e02616303f5036172040104a4006164016568756d616e02616303f5"
        ],
    );
    let participant = Participant { actor: actor(), read_only: true, age_ms: 1, typed_ms: Some(2) };
    check(&participant, expect!["a400a4006164016568756d616e02616303f501f502010302"]);
    let caller = Caller { client: None, owner: None };
    check(&caller, expect!["a0"]);
    check(&LIMITS, expect!["a500010102020303040405"]);
    check(&Lost::HostRebooted, expect!["00"]);
    check(&Lost::HolderDied, expect!["01"]);
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

#[test]
fn a_secret_to_type_is_not_printed() {
    let shown = format!("{:?}", Input::Secret(Blob(b"hunter2".to_vec())));
    assert_eq!(shown, "Secret(…)");
    assert!(format!("{:?}", Input::Key("up".to_owned())).contains("up"));
}
