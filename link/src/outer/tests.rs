//! Two ends on loopback.

use std::net::SocketAddr;

use ed25519_dalek::SigningKey;
use farwire_protocol::address::Relay;
use farwire_protocol::bundle::Bundle;
use farwire_protocol::id::{Id, Kind, Kn, Kt, Nonce, TrustDomain};
use farwire_protocol::outer::{Answer, Call, Hello, Role, Verb as _, hello_text};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::dial::{DialError, Identity, dial};
use super::listen::{Arrival, Listener, Options};
use super::*;
use crate::outer::congestion::Attended;

fn options(listen: SocketAddr) -> Options {
    Options {
        listen,
        key: SigningKey::from_bytes(&[1; 32]),
        node: 7,
        reset_key: [2; 32],
        cid_key: [3; 32],
        keylog: None,
    }
}

fn listener() -> (Listener, Relay) {
    let listener = Listener::bind(&options("127.0.0.1:0".parse().unwrap())).unwrap();
    let key = Kt(SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes());
    let relay = Relay { addresses: vec![listener.address().unwrap().to_string()], key };
    (listener, relay)
}

fn identity() -> Identity {
    let (id, kt) = (SigningKey::from_bytes(&[4; 32]), SigningKey::from_bytes(&[5; 32]));
    let bundle = Bundle {
        version: 1,
        kind: Kind::Device,
        id: Id(id.verifying_key().to_bytes()),
        kn: Kn([9; 32]),
        kt: Kt(kt.verifying_key().to_bytes()),
        kd: None,
        seq: 1,
        not_before: 0,
        handshake: 1,
        trust_domain: TrustDomain::NONE,
    };
    Identity {
        role: Role::Device,
        bundle: bundle.sign(&id),
        kt,
        instance: Nonce([6; 16]),
        build: "test".to_owned(),
        found: None,
        enrollment: None,
        attended: Attended::default(),
    }
}

#[test]
fn an_unreachable_relay_is_told_with_the_udp_port_that_may_be_blocked() {
    let told = |silent| {
        let address = "relay.example:4433".to_owned();
        let error = DialError::Unreachable { address, reason: "no answer".to_owned(), silent };
        farwire_protocol::failure::Failure::from(error)
    };
    assert!(told(true).hint().starts_with("UDP port 4433 may be blocked"), "{:?}", told(true));
    assert!(told(false).hint().ends_with("listens on UDP port 4433"), "{:?}", told(false));
}

async fn meet(listener: &Listener, relay: &Relay) -> (Connection, Arrival) {
    let identity = identity();
    let (connection, arrival) = tokio::join!(dial(relay, &identity), async {
        listener.accept().await.unwrap().enter().await
    });
    (connection.unwrap(), arrival.unwrap())
}

#[tokio::test]
async fn a_hello_is_bound_to_its_connection() {
    let (listener, relay) = listener();
    let (connection, mut arrival) = meet(&listener, &relay).await;
    let call: Call = control::read(&mut arrival.recv).await.unwrap();
    assert_eq!((call.id, call.verb), (1, Hello::NUMBER));
    let hello: Hello = farwire_protocol::cbor::decode(&call.body, 9999).unwrap();
    let key = Id(arrival.key.0).verifying().unwrap();
    let proof = ed25519_dalek::Signature::from_bytes(&hello.proof.0);
    assert!(key.verify_strict(&hello_text(&arrival.exporter), &proof).is_ok());
    assert!(key.verify_strict(&hello_text(&[0; 32]), &proof).is_err());
    let failure = farwire_protocol::failure::Kind::InviteUsed;
    let failure = farwire_protocol::failure::Failure::new(failure, "used");
    let answer = Answer { id: 1, failure: Some(failure.clone()), body: Vec::new().into() };
    control::write(&mut arrival.send, &answer).await.unwrap();
    assert_eq!(connection.welcome().await.unwrap_err(), failure);
}

#[tokio::test]
async fn only_the_pinned_relay_may_answer() {
    let (listener, relay) = listener();
    let knocks = tokio::spawn(async move {
        while let Some(knock) = listener.accept().await {
            let _ = knock.enter().await;
        }
    });
    let other = Relay { key: Kt(identity().bundle.kt.0), ..relay };
    assert!(matches!(dial(&other, &identity()).await, Err(DialError::KeyMismatch(_))));
    knocks.abort();
}

#[tokio::test]
async fn bytes_ends_and_resets_arrive_as_what_they_are() {
    let (listener, relay) = listener();
    let (connection, arrival) = meet(&listener, &relay).await;
    let (mut send, mut recv) = connection.open().await.unwrap();
    send.write_all(b"ping").await.unwrap();
    let (mut back, mut forth) = arrival.link.accept().await.unwrap();
    let mut four = [0; 4];
    forth.read_exact(&mut four).await.unwrap();
    back.write_all(b"pong").await.unwrap();
    back.finish();
    let mut all = Vec::new();
    recv.read_to_end(&mut all).await.unwrap();
    assert_eq!((&four, all.as_slice()), (b"ping", b"pong".as_slice()));
    send.reset(Reset::Moved);
    let error = forth.read_u8().await.unwrap_err();
    assert_eq!(reset_of(&error), Some(Reset::Moved));
}

#[tokio::test]
async fn a_half_that_is_dropped_looks_cut_and_not_ended() {
    let (listener, relay) = listener();
    let (connection, arrival) = meet(&listener, &relay).await;
    let (mut send, _recv) = connection.open().await.unwrap();
    send.write_all(b"x").await.unwrap();
    let (_back, mut forth) = arrival.link.accept().await.unwrap();
    drop(send);
    let mut all = Vec::new();
    let error = forth.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(reset_of(&error), Some(Reset::Cancelled));
}

#[tokio::test]
async fn a_relay_opens_streams_towards_agents_and_nobody_else() {
    for role in [Role::Device, Role::Enrolling, Role::Agent] {
        let (listener, relay) = listener();
        let identity = Identity { role, ..identity() };
        let (connection, arrival) = tokio::join!(dial(&relay, &identity), async {
            listener.accept().await.unwrap().enter().await
        });
        let (connection, mut arrival) = (connection.unwrap(), arrival.unwrap());
        let guest = arrival.link.clone();
        // The program has announced its limits to the relay before this answer arrives.
        let called = async {
            let call: Call = control::read(&mut arrival.recv).await.unwrap();
            let failure = farwire_protocol::failure::Kind::RelayDenied;
            let failure = farwire_protocol::failure::Failure::new(failure, "no");
            let answer = Answer { id: call.id, failure: Some(failure), body: Vec::new().into() };
            control::write(&mut arrival.send, &answer).await.unwrap();
            connection.welcome().await.unwrap_err();
        };
        let opened = tokio::select! {
            biased;
            opened = guest.open() => opened.is_ok(),
            () = called => false,
        };
        assert_eq!(opened, role == Role::Agent, "{role:?}");
    }
}

#[tokio::test]
async fn what_comes_to_an_agent_is_little_until_its_streams_have_authenticated() {
    let (listener, relay) = listener();
    let identity = Identity { role: Role::Agent, ..identity() };
    let (connection, arrival) = tokio::join!(dial(&relay, &identity), async {
        listener.accept().await.unwrap().enter().await
    });
    let (connection, arrival) = (connection.unwrap(), arrival.unwrap());
    // A flood on many streams that nobody reads. It stops at the window.
    let flood = |streams: usize| {
        let guest = arrival.link.clone();
        async move {
            let (mut sent, mut open) = (0, Vec::new());
            for _ in 0..streams {
                let (mut send, recv) = guest.open().await.unwrap();
                let chunk = [0; 64 << 10];
                let pause = std::time::Duration::from_millis(300);
                while tokio::time::timeout(pause, send.write_all(&chunk)).await.is_ok() {
                    sent += chunk.len();
                }
                open.push((send, recv));
            }
            (sent, open)
        }
    };
    let (sent, open) = Box::pin(flood(8)).await;
    assert!(sent <= 16 << 20, "{sent} bytes that nobody has asked for");
    let mut streams = Vec::new();
    // The streams that had room to send something. The others are unknown here.
    for _ in 0..4 {
        let (send, mut recv) = connection.accept().await.unwrap();
        recv.authenticated();
        streams.push((send, recv));
    }
    let (more, _open) = Box::pin(flood(4)).await;
    assert!(more >= 12 << 20, "{more} bytes: each of them has its window");
    drop(open);
}
