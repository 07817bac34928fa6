//! The test vectors of the specification in `docs/spec/vectors/`, which this program generates.

use core::fmt::{Debug, Write as _};

use minicbor::{Decode, Encode};

use crate::cbor::{self, Blob};
use crate::id::{Id, Nonce};

/// One line of a file.
type Line = (&'static str, Vec<u8>);

/// Compares these lines with the file, ignoring its comments.
fn compare(file: &str, lines: &[Line]) {
    let mut written = String::new();
    for (name, bytes) in lines {
        let hex = data_encoding::HEXLOWER.encode(bytes);
        writeln!(written, "{name} = {hex}").unwrap();
    }
    let said: Vec<_> =
        file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let same = said == written.lines().collect::<Vec<_>>();
    assert!(same, "the file must say:\n{written}");
}

/// Encodes a message, and checks that it decodes again.
fn message<T>(value: &T) -> Vec<u8>
where
    T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + Debug,
{
    let bytes = cbor::encode(value);
    assert_eq!(cbor::decode::<T>(&bytes, bytes.len()).unwrap(), *value);
    bytes
}

fn nonce(byte: u8) -> Nonce {
    Nonce([byte; 16])
}

mod header {
    use super::{Id, compare};
    use crate::header::{Class, Header, hash};

    #[test]
    fn headers() {
        let target = Id([1; 32]).target();
        let handshake = Header::handshake(target, 2).encode();
        let stream = Header {
            class: Class::Interactive,
            target,
            link: [2; 16],
            epoch: 0,
            sid: 4,
            not_after: 30_500,
            rest: 0,
        };
        let stream = stream.encode();
        for header in [&handshake, &stream] {
            assert_eq!(Header::decode(header).unwrap().encode(), *header);
        }
        let lines = [
            ("id", vec![1; 32]),
            ("target", target.0.to_vec()),
            ("handshake.header", handshake.to_vec()),
            ("handshake.rest", vec![0, 1]),
            ("handshake.hash", hash(&handshake, &[0, 1]).to_vec()),
            ("stream.header", stream.to_vec()),
            ("stream.hash", hash(&stream, &[]).to_vec()),
            ("stream.route", 7_u32.to_be_bytes().to_vec()),
        ];
        compare(include_str!("../../docs/spec/vectors/header.txt"), &lines);
    }
}

#[cfg(feature = "inner")]
mod sealed {
    use hkdf::Hkdf;
    use sha2::Sha256;

    use super::compare;
    use crate::frame::{Kind, Opener as FrameOpener, Plain, Sealer};
    use crate::keys::{LinkKeys, Opener};
    use crate::record::RecordKey;

    fn expand(secret: &[u8], info: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 32];
        Hkdf::<Sha256>::from_prk(secret).unwrap().expand(info, &mut out).unwrap();
        out
    }

    fn seal(key: RecordKey) -> Vec<u8> {
        let mut out = Vec::new();
        let plain = Plain { kind: Kind::Control, channel: 0, last: false, payload: b"x" };
        Sealer::new(key).seal(plain, &mut out);
        out
    }

    #[test]
    fn key_schedule() {
        let (handshake, k_i, k_r, header) = ([1; 32], [2; 32], [3; 32], [4; 32]);
        let keys = LinkKeys::new(&handshake, &k_i, &k_r);
        let (root, _) = Hkdf::<Sha256>::extract(Some(&handshake), &[k_i, k_r].concat());
        let of = |label: &[u8]| {
            let length = u32::try_from(label.len()).unwrap().to_be_bytes();
            expand(&root, &[&length, label, &[0], &header].concat())
        };
        let direction =
            |secret: &[u8], d: u8| expand(&expand(secret, &[b'd', b'i', b'r', d]), b"key");
        let (stream, accept) = (of(b"farwire/1 stream"), of(b"farwire/1 accept"));
        let record = |key: &[u8]| RecordKey::new(key.try_into().unwrap());
        let (forth, back) = (direction(&stream, 0), direction(&stream, 1));
        let verdict = direction(&accept, 1);
        let derived = keys.stream(Opener::Bridge, &header);
        assert_eq!(seal(derived.forth), seal(record(&forth)));
        assert_eq!(seal(derived.back), seal(record(&back)));
        assert_eq!(seal(keys.verdict(&header).back), seal(record(&verdict)));
        let lines = [
            ("handshake_hash", handshake.to_vec()),
            ("k_i", k_i.to_vec()),
            ("k_r", k_r.to_vec()),
            ("header_hash", header.to_vec()),
            ("root", root.to_vec()),
            ("link", keys.link_id().to_vec()),
            ("stream.secret", stream),
            ("stream.forth", forth),
            ("stream.back", back),
            ("verdict.secret", accept),
            ("verdict.back", verdict),
        ];
        compare(include_str!("../../docs/spec/vectors/keys.txt"), &lines);
    }

    #[test]
    fn frames() {
        let frames = [
            Plain { kind: Kind::Open, channel: 0, last: false, payload: b"open" },
            Plain { kind: Kind::Data, channel: 2, last: false, payload: b"data" },
            Plain { kind: Kind::Control, channel: 0, last: false, payload: b"" },
            Plain { kind: Kind::Control, channel: 0, last: true, payload: b"end" },
        ];
        let names = ["counter_0.open", "counter_1.data_2", "counter_2.control", "counter_3.final"];
        let mut sealer = Sealer::new(RecordKey::new(&[5; 32]));
        let mut opener = FrameOpener::new(RecordKey::new(&[5; 32]));
        let mut lines = vec![("key", vec![5; 32])];
        for (name, plain) in names.into_iter().zip(frames) {
            let mut out = Vec::new();
            sealer.seal(plain, &mut out);
            let mut text = out[2..].to_vec();
            let opened = opener.open([out[0], out[1]], &mut text).unwrap();
            assert_eq!(&text[opened.payload], plain.payload);
            lines.push((name, out));
        }
        compare(include_str!("../../docs/spec/vectors/frames.txt"), &lines);
    }
}

mod outer {
    use std::collections::BTreeMap;

    use super::{Blob, Id, cbor, compare, message, nonce};
    use crate::failure::{Failure, Kind};
    use crate::id::Signature;
    use crate::outer::*;

    fn labels() -> BTreeMap<String, String> {
        [("env", "prod"), ("zone", "a")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    fn hello(role: Role) -> Hello {
        Hello {
            role,
            bundle: Blob(vec![1]),
            instance: nonce(2),
            proof: Signature([3; 64]),
            build: "b 1".to_owned(),
            invite: None,
            genesis: None,
            enrollment: None,
        }
    }

    fn record() -> Record {
        Record {
            id: nonce(1),
            name: "web".to_owned(),
            labels: labels(),
            state: ServerState::Online,
            agent: Some(Id([2; 32])),
            created: 1_700_000_000,
            seen: None,
            build: Some("a 1".to_owned()),
            duplicate: None,
        }
    }

    #[test]
    fn outer_messages() {
        let list = List { page: Some(1) };
        let call = Call { id: 2, verb: List::NUMBER, body: Blob(cbor::encode(&list)) };
        let failure = Some(Failure::new(Kind::UnknownServer, "no"));
        let founding = Hello {
            invite: Some(Blob(vec![4; 32])),
            genesis: Some(Blob(vec![5])),
            ..hello(Role::Device)
        };
        let enrolling = Hello { enrollment: Some(nonce(6)), ..hello(Role::Enrolling) };
        let welcome = Welcome {
            node: "1".to_owned(),
            build: "r 1".to_owned(),
            time: 1_700_000_000,
            streams: 256,
            observed: "192.0.2.1:9".to_owned(),
            mail: Some(true),
        };
        let update = ServerUpdate {
            name: "web".to_owned(),
            rename: Some("www".to_owned()),
            set: Some(labels()),
            unset: Some(vec!["old".to_owned()]),
            suspended: Some(false),
            enrollment: Some(nonce(3)),
            lifetime: Some(60),
        };
        let create = ServerCreate {
            name: "web".to_owned(),
            labels: labels(),
            enrollment: nonce(3),
            lifetime: 3600,
        };
        let (enrollment, blob) = (nonce(3), Blob(vec![9, 9]));
        let piece = MailPiece { enrollment, blob: blob.clone(), age: 5, late: None };
        let state = EnrollmentIs { state: MailState::Waiting, time: 1_700_000_000 };
        let lines = [
            ("call", message(&call)),
            ("answer", message(&Answer { id: 2, failure: None, body: Blob(vec![0xa0]) })),
            ("answer.failure", message(&Answer { id: 2, failure, body: Blob::default() })),
            ("1.hello", message(&hello(Role::Agent))),
            ("1.hello.founding", message(&founding)),
            ("1.hello.enrolling", message(&enrolling)),
            ("1.hello.text", hello_text(&[7; 32])),
            ("1.welcome", message(&welcome)),
            ("2.presence", message(&Presence { admits: vec![Id([2; 32])] })),
            ("2.done", message(&Done {})),
            ("3.list", message(&list)),
            ("3.list.first", message(&List { page: None })),
            ("3.servers", message(&Servers { servers: vec![record()], next: Some(1) })),
            ("4.lookup", message(&Lookup { agent: Id([2; 32]) })),
            ("4.record", message(&record())),
            ("5.server_create", message(&create)),
            ("6.server_update", message(&update)),
            ("7.server_remove", message(&ServerRemove { name: "web".to_owned() })),
            ("8.enrollment_state", message(&EnrollmentState { enrollment })),
            ("8.enrollment_is", message(&state)),
            ("9.mail_put", message(&MailPut { enrollment, blob: blob.clone() })),
            ("10.mail_get", message(&MailGet { enrollment: None, after: None })),
            ("10.mail", message(&Mail { pieces: vec![piece], next: None })),
            ("11.mail_answer", message(&MailAnswer { enrollment, agent: Blob(vec![1]), blob })),
            ("notice.superseded", message(&Notice::Superseded)),
            ("notice.go_away", message(&Notice::GoAway(3_000))),
            ("notice.mail", message(&Notice::Mail)),
            ("notice.changed", message(&Notice::Changed)),
        ];
        compare(include_str!("../../docs/spec/vectors/outer.txt"), &lines);
    }
}

#[cfg(feature = "inner")]
mod streams {
    use super::{Blob, compare, message, nonce};
    use crate::conversation::{End, Offset, Open};
    use crate::failure::{Failure, Kind};
    use crate::streams::control::{self, Ask, Call, Facts, Job, Jobs, Reply, Stop, Stopped};
    use crate::streams::run::*;

    fn start(program: Program, delivery: Delivery) -> Request {
        Request::Start(Start {
            request: nonce(1),
            instance: nonce(2),
            program,
            cwd: None,
            env: None,
            user: None,
            login: None,
            timeout_ms: None,
            stdin: None,
            delivery,
            input: None,
        })
    }

    fn state() -> State {
        State { exit: Some(Exit::Code(7)), duration_ms: 12, lines: 1, bytes: 2, ..State::default() }
    }

    fn view(view: View) -> Vec<u8> {
        message(&Request::Read(Read { job: nonce(1), view, budget: 4096 }))
    }

    fn open(generation: u32, create: Option<Blob>, have: Option<Vec<Offset>>) -> Vec<u8> {
        message(&Open { kind: 2, conversation: nonce(3), generation, create, have, more: None })
    }

    #[test]
    fn run_messages() {
        let argv = Program::Argv(vec![Blob(b"ls".to_vec()), Blob(b"-l".to_vec())]);
        let full = Request::Start(Start {
            request: nonce(1),
            instance: nonce(2),
            program: Program::Line(Blob(b"id".to_vec())),
            cwd: Some(Blob(b"/".to_vec())),
            env: Some(vec![Variable { name: Blob(b"A".to_vec()), value: Blob(b"b".to_vec()) }]),
            user: Some("u".to_owned()),
            login: Some(true),
            timeout_ms: Some(5_000),
            stdin: Some(false),
            delivery: Delivery::Nothing,
            input: Some(Blob(b"in".to_vec())),
        });
        let digest = Digest {
            wait_ms: 10_000,
            head: 4096,
            tail: 8192,
            from: Some(5),
            until: Some("ok".to_owned()),
            until_new: Some(true),
            progress: Some(true),
        };
        let take = Take { job: nonce(1), delivery: Delivery::Digest(digest) };
        let started = Started { job: nonce(1), known: Some(false), pid: Some(42) };
        let piece = Piece {
            first_line: 1,
            length: 2,
            starts_within: Some(false),
            ends_within: Some(true),
            offset: 0,
        };
        let offset = Offset { channel: STDOUT, offset: 2 };
        let signalled =
            State { exit: Some(Exit::Signal(9)), reason: Some(Reason::Timeout), ..state() };
        let ended = message(&Ended { state: state(), next: None, matched: None });
        let killed = Ended { state: signalled, next: Some(3), matched: Some(false) };
        let end = End { ends: vec![offset], failure: None, body: Some(Blob(ended.clone())) };
        let refused = End::from_failure(Failure::new(Kind::UnknownId, "no"));
        let lines = [
            ("open.create", open(0, Some(Blob(vec![0xf6])), None)),
            ("open.resume", open(1, None, Some(vec![offset]))),
            ("start.stream", message(&start(argv, Delivery::Stream { lossless: true }))),
            ("start.full", message(&full)),
            ("take.digest", message(&Request::Take(take))),
            ("read.head", view(View::Head(3))),
            ("read.tail", view(View::Tail(3))),
            ("read.range", view(View::Range { first: 10, count: 3 })),
            (
                "read.grep",
                view(View::Grep { pattern: "a+".to_owned(), first: 1, limit: 5, context: None }),
            ),
            ("started", message(&ToBridge::Started(started))),
            ("resumed", message(&ToBridge::Resumed(vec![Offset { channel: 0, offset: 6 }]))),
            ("gap", message(&ToBridge::Gap { stdout: 100, stderr: 0, lines: 4 })),
            ("progress", message(&ToBridge::Progress { lines: 3, last: Blob(b"x".to_vec()) })),
            ("piece", message(&ToBridge::Piece(piece))),
            ("ack", message(&ToBridge::Ack(Offset { channel: 0, offset: 262_144 }))),
            ("queued", message(&ToBridge::Queued(0))),
            ("beat", message(&ToBridge::Beat)),
            ("ended.code", ended),
            ("ended.signal", message(&killed)),
            ("end", message(&end)),
            ("end.stdin", message(&End::default())),
            ("end.failure", message(&refused)),
        ];
        compare(include_str!("../../docs/spec/vectors/runs.txt"), &lines);
    }

    fn ask(ask: Ask) -> Vec<u8> {
        message(&Call { id: 1, ask: Some(ask) })
    }

    fn reply(answer: control::Answer) -> Vec<u8> {
        message(&Reply { id: 1, failure: None, answer: Some(answer) })
    }

    #[test]
    fn control_messages() {
        let by_request = Stop { request: Some(nonce(1)), job: None, signal: None, instance: None };
        let of_instance = Stop { instance: Some(nonce(2)), ..by_request };
        let by_job = Stop { request: None, job: Some(nonce(1)), signal: Some(2), instance: None };
        let list = control::JobFilter { after: Some(nonce(1)), running: Some(true) };
        let job = Job {
            job: nonce(1),
            command: "ls -l".to_owned(),
            user: "u".to_owned(),
            device: "d".to_owned(),
            surface: "human".to_owned(),
            age_ms: 100,
            state: state(),
            mine: true,
            pid: Some(42),
            session: None,
            own_device: None,
        };
        let facts = Facts {
            hostname: "h".to_owned(),
            os: "Linux".to_owned(),
            arch: "x86_64".to_owned(),
            user: "u".to_owned(),
            shell: "/bin/sh".to_owned(),
            uptime: 60,
            time: 1_700_000_000,
            running: 1,
            spooled: 2,
            roots: None,
        };
        let failure = Some(Failure::new(Kind::UnknownId, "no"));
        let lines = [
            ("ping", ask(Ask::Ping)),
            ("stop.request", ask(Ask::Stop(by_request))),
            ("stop.job", ask(Ask::Stop(by_job))),
            ("stop.instance", ask(Ask::Stop(of_instance))),
            ("list", ask(Ask::List(list))),
            ("inspect", ask(Ask::Inspect(nonce(1)))),
            ("close", ask(Ask::Close)),
            ("facts", ask(Ask::Facts)),
            ("reply.done", reply(control::Answer::Done)),
            ("reply.stopped", reply(control::Answer::Stopped(Stopped::NeverStarted))),
            (
                "reply.jobs",
                reply(control::Answer::Jobs(Jobs { jobs: vec![job.clone()], more: Some(false) })),
            ),
            ("reply.job", reply(control::Answer::Job(job))),
            ("reply.facts", reply(control::Answer::Facts(facts))),
            ("reply.failure", message(&Reply { id: 1, failure, answer: None })),
        ];
        compare(include_str!("../../docs/spec/vectors/control.txt"), &lines);
    }
}

mod identities {
    use ed25519_dalek::SigningKey;

    use super::{Id, compare};
    use crate::bundle::{Bundle, SignedBundle};
    use crate::genesis::{Genesis, trust_domain};
    use crate::id::{Kind, Kn, Kt, TrustDomain};

    #[test]
    fn identities() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let kt = SigningKey::from_bytes(&[2; 32]);
        let bundle = Bundle {
            version: 1,
            kind: Kind::Device,
            id: Id(key.verifying_key().to_bytes()),
            kn: Kn([3; 32]),
            kt: Kt(kt.verifying_key().to_bytes()),
            kd: None,
            seq: 1,
            not_before: 1_700_000_000,
            handshake: 1,
            trust_domain: TrustDomain::NONE,
        };
        let bundle = bundle.sign(&key);
        assert_eq!(SignedBundle::decode(&bundle.encode()).unwrap(), bundle);
        let genesis = Genesis::new("home", &bundle, 1_700_000_000, [4; 16]).sign(&key);
        Genesis::decode(&genesis).unwrap();
        let lines = [
            ("id.secret", vec![1; 32]),
            ("kt.secret", vec![2; 32]),
            ("id", bundle.id.0.to_vec()),
            ("id.fingerprint_as_ascii", bundle.id.fingerprint(Kind::Device).into_bytes()),
            ("bundle", bundle.encode()),
            ("genesis", genesis.clone()),
            ("trust_domain", trust_domain(&genesis).0.to_vec()),
        ];
        compare(include_str!("../../docs/spec/vectors/identities.txt"), &lines);
    }
}
