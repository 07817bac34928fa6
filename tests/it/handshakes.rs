//! Handshakes that no honest program makes, against an agent that is one.

#![expect(clippy::unwrap_used, reason = "its helpers are part of its tests")]

use std::time::Duration;

use farwire::machine::random_nonce;
use farwire::{client::Client, client::Server};
use farwire_keystore::{Home, SurfaceKey, Transport};
use farwire_link::inner::sealed::Reader;
use farwire_link::outer::dial::Connection;
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::conversation::{End, Offset, Open, message, read};
use farwire_protocol::failure::Kind;
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::handshake::{self, Initiator, Introduce, LONG_LIMIT, Verdict};
use farwire_protocol::header::{self, Class, Header};
use farwire_protocol::streams::Kind as StreamKind;
use farwire_protocol::streams::run::{Delivery, Program, Request, STDIN, Start, ToBridge};
use farwire_protocol::surface::{Surface, SurfaceProof};
use farwire_tests::simulated::{arrive, device, random};
use farwire_tests::world::program;
use farwire_tests::{PATIENCE, World, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// What is shown in the place of a proof of the surface, for the hash of a handshake.
type Proof<'a> = dyn Fn([u8; 32]) -> Option<SurfaceProof> + 'a;

fn keys(world: &World, home: &str) -> Transport {
    let home = Home::open(&world.path(home)).unwrap();
    home.identity().unwrap().unwrap().open_transport().unwrap()
}

fn surface(world: &World, home: &str) -> SurfaceKey {
    let home = Home::open(&world.path(home)).unwrap();
    home.identity().unwrap().unwrap().open_surface(&Surface::Human).unwrap()
}

fn server(world: &World) -> Server {
    let home = Home::open(&world.path("bridge")).unwrap();
    Client::open(home, &Surface::Human).unwrap().server("web-1").unwrap()
}

/// A handshake that has come as far as its first message.
struct Begun {
    send: SendHalf,
    recv: RecvHalf,
    initiator: Initiator,
    hash: [u8; 32],
}

async fn begin(connection: &Connection, server: &Server, keys: &Transport) -> Begun {
    let peer = server.pin.peer();
    let (mut send, recv) = connection.open().await.unwrap();
    let offer = handshake::offer();
    let header = Header::handshake(peer.id.target(), u16::try_from(offer.len()).unwrap()).encode();
    let hash = header::hash(&header, &offer);
    let (initiator, first) = Initiator::start(keys.kn.as_bytes(), &peer, &hash).unwrap();
    let length = u16::try_from(first.len()).unwrap().to_be_bytes();
    send.write_all(&[&header[..], &offer, &length, &first].concat()).await.unwrap();
    Begun { send, recv, initiator, hash }
}

impl Begun {
    /// Says who we are as `introduce` has it, and gives what the agent answers, sealed.
    async fn end(mut self, introduce: impl FnOnce([u8; 32]) -> Introduce) -> Verdict {
        let length = usize::from(self.recv.read_u16().await.unwrap());
        assert!(length <= LONG_LIMIT);
        let mut second = vec![0; length];
        self.recv.read_exact(&mut second).await.unwrap();
        let introduction = self.initiator.read(&second).unwrap();
        let introduce = introduce(introduction.hash());
        let (third, keys) = introduction.write(&introduce).unwrap();
        let length = u16::try_from(third.len()).unwrap().to_be_bytes();
        self.send.write_all(&[&length[..], &third].concat()).await.unwrap();
        self.send.shutdown().await.unwrap();
        let mut verdict = Reader::new(self.recv, keys.verdict(&self.hash).back);
        let frame = timeout(PATIENCE, verdict.next()).await.unwrap().unwrap();
        assert!(frame.last);
        read(&frame.payload).unwrap()
    }
}

fn introduce(keys: &Transport, surface: Option<SurfaceProof>) -> Introduce {
    Introduce {
        bundle: Blob(keys.bundle.encode()),
        log_head: None,
        grants: None,
        beacon: None,
        surface,
        instance: random_nonce().unwrap(),
        limits: None,
        build: "raw".to_owned(),
    }
}

#[tokio::test]
async fn a_link_without_a_surface_or_with_a_proof_that_does_not_hold_is_refused_in_sealed_words() {
    let world = World::with_server("web-1").await;
    let (keys, server) = (keys(&world, "bridge"), server(&world));
    let (relay, identity) = device(&world, "bridge");
    let connection = arrive(&relay, &identity).await.unwrap();
    let surface = surface(&world, "bridge");
    let kn = keys.bundle.kn;
    let shake = async |proof: &dyn Fn([u8; 32]) -> Option<SurfaceProof>| {
        let begun = begin(&connection, &server, &keys).await;
        begun.end(|hash| introduce(&keys, proof(hash))).await
    };
    let sound = |hash: [u8; 32]| SurfaceProof::new(&surface.delegation, &surface.key, &hash, &kn);
    let accepted = shake(&|hash| Some(sound(hash))).await;
    assert!(matches!(accepted, Verdict::Accept(_)), "{accepted:?}");
    let stranger = ed25519_dalek::SigningKey::from_bytes(&random());
    let bad: [(&str, &Proof<'_>); 5] = [
        ("none", &|_| None),
        ("of another handshake", &|_| Some(sound([7; 32]))),
        ("signed by another key", &|hash| {
            Some(SurfaceProof::new(&surface.delegation, &stranger, &hash, &kn))
        }),
        ("one bit", &|hash| {
            let mut proof = sound(hash);
            proof.signature.0[0] ^= 1;
            Some(proof)
        }),
        ("an altered delegation", &|hash| {
            let mut delegation = surface.delegation.clone();
            let last = delegation.len() - 1;
            delegation[last] ^= 1;
            Some(SurfaceProof::new(&delegation, &surface.key, &hash, &kn))
        }),
    ];
    for (what, proof) in bad {
        match shake(proof).await {
            Verdict::Reject(failure) => assert_eq!(failure.kind, Kind::NotAuthorized, "{what}"),
            Verdict::Accept(_) => panic!("{what}: it was let in"),
        }
    }
}

#[tokio::test]
async fn one_devices_unfinished_handshakes_keep_nobody_else_out() {
    let world = World::with_server("web-1").await;
    let url = world.invite().await;
    let init = ["init", "--relay", "-", "--name", "laptop"];
    assert_eq!(world.device("laptop", &init, url.as_bytes()).await.code, 0);
    let bundle = world.device("laptop", &["fingerprint", "--bundle"], b"").await.stdout;
    let add = ["device", "add", "laptop", "--bundle", "-"];
    assert_eq!(world.agent_with("web-1", &add, &bundle).await.code, 0);
    let (keys, server) = (keys(&world, "laptop"), server(&world));
    let (relay, identity) = device(&world, "laptop");
    let connection = arrive(&relay, &identity).await.unwrap();
    // The agent tells the relay whom it admits.
    let first = until("the laptop is let in", async || {
        let mut begun = begin(&connection, &server, &keys).await;
        begun.recv.read_u16().await.ok().map(|_| begun)
    })
    .await;
    let mut held = vec![first];
    for round in 0..8 {
        for _ in 0..8 {
            held.push(begin(&connection, &server, &keys).await);
        }
        let done = world.farwire(&["run", "web-1", "--", "true"]).await;
        assert_eq!(done.code, 0, "round {round}: {done:?}");
    }
    drop(held);
}

#[tokio::test]
async fn two_agents_with_one_state_are_noticed_and_the_first_one_does_not_fight() {
    let world = World::with_server("web-1").await;
    let (from, copy) = (world.path("web-1"), world.path("copy"));
    let copied = std::process::Command::new("cp").arg("-a").arg(&from).arg(&copy).status().unwrap();
    assert!(copied.success());
    let log = std::fs::File::create(world.path("copy.log")).unwrap();
    let mut second = program("farwire-agent");
    let second = second.arg("run").arg("--state").arg(&copy).stderr(log);
    let mut second = second.spawn().unwrap();
    until("it to be shown", async || {
        let servers = world.farwire(&["servers"]).await.text();
        servers.contains("two agents").then_some(())
    })
    .await;
    let said = || std::fs::read_to_string(world.path("web-1.log")).unwrap_or_default();
    until("the first one to say so", async || said().contains("duplicate_agent").then_some(()))
        .await;
    // There is one that answers, for as long as the other waits.
    for _ in 0..3 {
        assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(said().matches("duplicate_agent").count(), 1, "it came back to fight");
    second.kill().await.unwrap();
}

#[tokio::test]
async fn what_comes_on_the_old_stream_after_a_resume_never_reaches_the_program() {
    let world = World::with_server("web-1").await;
    let home = Home::open(&world.path("bridge")).unwrap();
    let client = Client::open(home, &Surface::Human).unwrap();
    let server = client.server("web-1").unwrap();
    let file = world.path("input");
    let start = Start {
        request: random_nonce().unwrap(),
        instance: client.instance(&server).await.unwrap(),
        program: Program::Line(Blob(format!("cat > {}", file.display()).into_bytes())),
        cwd: None,
        env: None,
        user: None,
        login: None,
        timeout_ms: None,
        stdin: Some(true),
        delivery: Delivery::Stream { lossless: true },
        input: None,
    };
    let conversation = random_nonce().unwrap();
    let open = |generation, create| Open {
        kind: StreamKind::Run.number(),
        conversation,
        generation,
        create,
        have: None,
        more: None,
    };
    let mut old = client.stream(&server, Class::Interactive).await.unwrap();
    old.writer.open(open(0, Some(Blob(cbor::encode(&Request::Start(start))))));
    old.writer.data(STDIN, b"one\n");
    old.writer.flush().await.unwrap();
    until("the first line", async || {
        std::fs::read(&file).is_ok_and(|text| text == b"one\n").then_some(())
    })
    .await;
    let mut new = client.stream(&server, Class::Interactive).await.unwrap();
    new.writer.open(open(1, None));
    new.writer.flush().await.unwrap();
    let frame = timeout(PATIENCE, new.reader.next()).await.unwrap().unwrap();
    let ToBridge::Resumed(received) = read(&frame.payload).unwrap() else { panic!("{frame:?}") };
    assert_eq!(received, [Offset { channel: STDIN, offset: 4 }]);
    // It authenticates, and is too late. That its carrier is gone may show before all of it is
    // sent.
    old.writer.data(STDIN, b"stale\n");
    let _ = old.writer.flush().await;
    old.writer.end(&message(&End {
        ends: vec![Offset { channel: STDIN, offset: 10 }],
        ..End::default()
    }));
    let _ = old.writer.finish().await;
    timeout(PATIENCE, async { while old.reader.next().await.is_ok() {} }).await.unwrap();
    new.writer.data(STDIN, b"two\n");
    new.writer
        .end(&message(&End { ends: vec![Offset { channel: STDIN, offset: 8 }], ..End::default() }));
    new.writer.finish().await.unwrap();
    let ended = async {
        loop {
            let frame = new.reader.next().await.unwrap();
            if frame.kind == FrameKind::Control && frame.last {
                return frame;
            }
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\ntwo\n");
}
