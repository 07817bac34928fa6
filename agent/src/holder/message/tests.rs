//! The bytes of messages: an agent of another build has to understand them.

use expect_test::{Expect, expect};
use farwire_protocol::cbor;
use farwire_protocol::failure::Kind;

use super::*;

const JOB: Nonce = Nonce([7; 16]);

fn check<T>(message: &T, expected: Expect)
where
    T: Encode<()> + for<'b> Decode<'b, ()> + std::fmt::Debug + PartialEq,
{
    let bytes = cbor::encode(message);
    expected.assert_eq(&data_encoding::HEXLOWER.encode(&bytes));
    assert_eq!(cbor::decode::<T>(&bytes, 1 << 16).unwrap(), *message);
}

fn blob(text: &str) -> Blob {
    Blob(text.as_bytes().to_vec())
}

#[test]
fn orders_have_these_bytes() {
    let user = User {
        name: blob("ada"),
        uid: 1000,
        gid: 100,
        home: blob("/h"),
        shell: blob("/s"),
        groups: vec![4],
    };
    let start = Start {
        job: JOB,
        argv: vec![blob("ls")],
        env: vec![Variable { name: blob("A"), value: blob("b") }],
        cwd: None,
        user,
        piped: true,
        timeout_ms: Some(5),
        mark: "m".to_owned(),
        path: blob("/p"),
        note: blob("n"),
        terminal: Some(Size { cols: 80, rows: 24 }),
        extra: Some(blob("/e")),
        kept: None,
        rate: None,
        input: None,
    };
    check(
        &HolderOrder::Start(Box::new(start.clone())),
        expect![
            "820081ab0050070707070707070707070707070707070181426c730281824141416204a60043616461011903e802186403422f6804422f7305810405f5060507616d08422f7009416e0a82185018180b422f65"
        ],
    );
    let fed = Start { input: Some(blob("in")), ..start.clone() };
    let bytes = cbor::encode(&HolderOrder::Start(Box::new(fed.clone())));
    assert!(bytes.ends_with(&[14, 0x42, b'i', b'n']), "{bytes:x?}");
    assert_eq!(
        cbor::decode::<HolderOrder>(&bytes, 1 << 16).unwrap(),
        HolderOrder::Start(Box::new(fed))
    );
    check(
        &HolderOrder::Stop { job: JOB, signal: Some(2) },
        expect!["820182500707070707070707070707070707070702"],
    );
    check(&HolderOrder::CloseInput(JOB), expect!["8202815007070707070707070707070707070707"]);
    check(&HolderOrder::Unblock(JOB), expect!["8203815007070707070707070707070707070707"]);
    check(
        &HolderOrder::Note { job: JOB, note: blob("n") },
        expect!["8204825007070707070707070707070707070707416e"],
    );
    check(&HolderOrder::Forget(JOB), expect!["8205815007070707070707070707070707070707"]);
}

#[test]
fn reports_have_these_bytes() {
    let exit = Exit::Code(3);
    let end = ProgramEnd { exit, reason: Some(Reason::Stopped), output_end: 9, escaped: 1, at: 8 };
    let failure = Failure::new(Kind::ExecFailed, "no");
    let (version, build) = (VERSION, "b".to_owned());
    check(
        &HolderReport::Hello { version, build: build.clone(), able: Some(ABLE) },
        expect!["82008301616202"],
    );
    // As holders said it before they could do more.
    let old = cbor::decode::<HolderReport>(&[0x82, 0, 0x82, 1, 0x61, 0x62], 64).unwrap();
    assert_eq!(old, HolderReport::Hello { version, build, able: None });
    let (job, note) = (JOB, blob("n"));
    let held = Held { job, note, pid: 4, at: 5, end: None, failure: None, finished: false };
    check(
        &HolderReport::Held(held),
        expect!["820181a500500707070707070707070707070707070701416e0204030506f4"],
    );
    check(&HolderReport::Ready, expect!["820280"]);
    check(
        &HolderReport::Started { job: JOB, pid: 4, at: 5 },
        expect!["82038350070707070707070707070707070707070405"],
    );
    check(
        &HolderReport::Failed { job: JOB, failure },
        expect!["8204825007070707070707070707070707070707a200183c01626e6f"],
    );
    check(&HolderReport::Grown(JOB), expect!["8205815007070707070707070707070707070707"]);
    check(
        &HolderReport::Ended { job: JOB, end },
        expect!["8206825007070707070707070707070707070707a500820081030101020903010408"],
    );
    check(&HolderReport::Finished(JOB), expect!["8207815007070707070707070707070707070707"]);
}

#[test]
fn any_bytes_are_a_message_or_an_error() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(order) = cbor::decode::<HolderOrder>(bytes, bytes.len()) {
            assert_eq!(cbor::decode::<HolderOrder>(&cbor::encode(&order), 1 << 20).unwrap(), order);
        }
        if let Ok(report) = cbor::decode::<HolderReport>(bytes, bytes.len()) {
            assert_eq!(
                cbor::decode::<HolderReport>(&cbor::encode(&report), 1 << 20).unwrap(),
                report
            );
        }
    });
}
