//! A bridge and an agent in one process, and everything that can happen to the bytes between them.

use ed25519_dalek::SigningKey;
use farwire_protocol::bundle::{Bundle, SignedBundle};
use farwire_protocol::cbor::Blob;
use farwire_protocol::conversation::{self, CREATE_LIMIT, End, Open};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::{self, BadFrame};
use farwire_protocol::handshake::{Accept, Claim, Peer};
use farwire_protocol::header::{Class, Reset};
use farwire_protocol::id::{Id, Kind as Of, Kn, Kt, Nonce, Surf, TrustDomain};
use farwire_protocol::surface::{Delegation, Surface};
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex, split};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::agent::{self, Rejection};
use super::bridge::{self, LinkError, reset_failure};
use super::clock::step_wall_clock;
use super::sealed::{OpenError, ReadError};
use crate::outer::opening::Opening;

const DOMAIN: TrustDomain = TrustDomain([7; 32]);

fn bundle(seed: u8, kind: Of) -> (SigningKey, [u8; 32], SignedBundle) {
    let id = SigningKey::from_bytes(&[seed; 32]);
    let kn = [seed.wrapping_add(100); 32];
    let bundle = Bundle {
        version: 1,
        kind,
        id: Id(id.verifying_key().to_bytes()),
        kn: Kn(PublicKey::from(&StaticSecret::from(kn)).to_bytes()),
        kt: Kt(SigningKey::from_bytes(&[seed + 50; 32]).verifying_key().to_bytes()),
        kd: None,
        seq: 1,
        not_before: 0,
        handshake: 1,
        trust_domain: DOMAIN,
    };
    let bundle = bundle.sign(&id);
    (id, kn, bundle)
}

fn device() -> bridge::Me {
    let (id, kn, bundle) = bundle(1, Of::Device);
    let surface = SigningKey::from_bytes(&[77; 32]);
    let delegation = Delegation {
        device: bundle.id,
        surface: Surface::AiLocal,
        key: Surf(surface.verifying_key().to_bytes()),
        issued: 1,
        expires: None,
    };
    bridge::Me {
        kn: Zeroizing::new(kn),
        bundle,
        delegation: delegation.sign(&id),
        surface,
        instance: Nonce([9; 16]),
        build: "test".to_owned(),
    }
}

fn server(seed: u8) -> (agent::Me, SignedBundle) {
    let (_, kn, bundle) = bundle(seed, Of::Agent);
    let peer = Peer { id: bundle.id, kn: bundle.kn, trust_domain: DOMAIN };
    (agent::Me { kn: Zeroizing::new(kn), peer }, bundle)
}

fn accept(bundle: &SignedBundle) -> Accept {
    Accept {
        bundle: Blob(bundle.encode()),
        log_head: None,
        grants: None,
        beacon: None,
        surface: Surface::AiLocal,
        instance: Nonce([8; 16]),
        limits: None,
        build: "test".to_owned(),
        time: 0,
    }
}

/// Performs a handshake over `ours` and `theirs`, which may be one pipe or have an attacker in
/// between.
async fn shake(
    ours: DuplexStream,
    theirs: DuplexStream,
    pinned: &Peer,
    verdict: impl FnOnce(&Claim) -> Result<(Accept, ()), Failure>,
) -> (Result<bridge::Link, LinkError>, Result<agent::Link, Rejection>) {
    let me = device();
    let (recv, send) = split(ours);
    let bridge = bridge::Link::establish(&me, pinned, send, recv);
    let agent = async {
        let (mut recv, send) = split(theirs);
        let opening = Opening::read(&mut recv).await.unwrap();
        agent::Link::answer(&server(2).0, &opening, send, recv, verdict)
            .await
            .map(|(link, ())| link)
    };
    tokio::join!(bridge, agent)
}

async fn link() -> (bridge::Link, agent::Link) {
    let (ours, theirs) = duplex(1 << 16);
    let (me, bundle) = server(2);
    let (bridge, agent) = shake(ours, theirs, &me.peer, |claim| {
        assert_eq!(claim.bundle.id, device().bundle.id);
        assert_eq!(claim.surface().unwrap().unwrap().surface, Surface::AiLocal);
        Ok((accept(&bundle), ()))
    })
    .await;
    (bridge.unwrap(), agent.unwrap())
}

fn request(create: &[u8]) -> Open {
    Open {
        kind: 1,
        conversation: Nonce([5; 16]),
        generation: 0,
        create: Some(Blob(create.to_vec())),
        have: None,
        more: None,
    }
}

/// The wire bytes of a whole stream: a request, data in frames of all sizes, an end.
async fn recorded(link: &bridge::Link, data: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let (mut writer, _) = link.stream(Class::Interactive, &mut wire, tokio::io::empty());
    writer.open(request(b"do it"));
    writer.data(1, data);
    writer.end(b"done");
    writer.finish().await.unwrap();
    wire
}

/// How the agent reads a stream: everything that it delivers, and how the stream ends.
async fn served(link: &agent::Link, mut wire: &[u8]) -> (Vec<u8>, Result<Vec<u8>, Failure>) {
    let mut data = Vec::new();
    let opening = match Opening::read(&mut wire).await {
        Ok(opening) => opening,
        Err(error) => return (data, Err(Failure::new(Kind::ProtocolViolation, error.to_string()))),
    };
    let mut reader = match link.admit(&opening, tokio::io::sink(), wire).await {
        Ok((open, _, reader)) => {
            assert_eq!(open, request(b"do it"), "nothing but what was asked for is taken");
            reader
        }
        Err((turned, ..)) => {
            let kind = match turned {
                Rejection::Open(OpenError::Read(error)) => return (data, Err(error.into())),
                Rejection::Sid(_) | Rejection::Late => Kind::StreamStale,
                other => panic!("{other}"),
            };
            return (data, Err(Failure::new(kind, "turned away")));
        }
    };
    loop {
        match reader.next().await {
            Ok(frame) if frame.last => return (data, Ok(frame.payload.to_vec())),
            Ok(frame) => data.extend_from_slice(&frame.payload),
            Err(error) => return (data, Err(error.into())),
        }
    }
}

#[tokio::test]
async fn a_stream_is_delivered_once_and_whole() {
    let (bridge, agent) = link().await;
    let data: Vec<u8> = (0..3 * frame::PAYLOAD + 17).map(|n| n as u8).collect();
    let wire = recorded(&bridge, &data).await;
    assert_eq!(served(&agent, &wire).await, (data, Ok(b"done".to_vec())));
    let (again, end) = served(&agent, &wire).await;
    assert!(again.is_empty());
    assert_eq!(end.unwrap_err().kind, Kind::StreamStale, "a recording");
    let (_, other) = link().await;
    let (_, end) = served(&other, &wire).await;
    assert_eq!(end.unwrap_err().kind, Kind::IntegrityFailure, "to another link");
}

#[tokio::test]
async fn no_cut_is_an_end() {
    let (bridge, agent) = link().await;
    for cut in 0..recorded(&bridge, b"some output").await.len() {
        let wire = recorded(&bridge, b"some output").await;
        let (data, end) = served(&agent, &wire[..cut]).await;
        assert!(b"some output".starts_with(data.as_slice()));
        let kind = end.unwrap_err().kind;
        // A stream shorter than a header is covered by the tests of the transport.
        let cut_off = if cut < 56 { Kind::ProtocolViolation } else { Kind::StreamTruncated };
        assert_eq!(kind, cut_off, "cut after {cut} bytes");
    }
}

#[tokio::test]
async fn frames_that_change_places_or_come_twice_are_noticed() {
    let (bridge, agent) = link().await;
    let whole = recorded(&bridge, &[b'a'; 40]).await;
    let frames = |wire: &[u8]| {
        let (mut at, mut found) = (56, Vec::new());
        while let Some((length, _)) = wire.get(at..).and_then(|rest| rest.split_first_chunk()) {
            let length = frame::LENGTH + usize::from(u16::from_be_bytes(*length));
            found.push(at..at + length);
            at += length;
        }
        found
    };
    assert_eq!(frames(&whole).len(), 3);
    for order in [[1, 0, 2], [0, 2, 1], [0, 1, 1], [0, 0, 1], [0, 2, 2]] {
        let wire = recorded(&bridge, &[b'a'; 40]).await;
        let pieces = frames(&wire);
        let mut wrong = wire[..56].to_vec();
        for n in order {
            wrong.extend_from_slice(&wire[pieces[n].clone()]);
        }
        let (_, end) = served(&agent, &wrong).await;
        assert_eq!(end.unwrap_err().kind, Kind::IntegrityFailure, "{order:?}");
    }
}

#[tokio::test]
async fn what_follows_an_end_is_a_violation() {
    let (bridge, agent) = link().await;
    let wire = recorded(&bridge, b"x").await;
    let mut longer = wire.clone();
    longer.extend_from_slice(&[0, 40]);
    longer.extend_from_slice(&[0; 40]);
    let mut wire = longer.as_slice();
    let opening = Opening::read(&mut wire).await.unwrap();
    let (_, _, mut reader) = agent
        .admit(&opening, tokio::io::sink(), wire)
        .await
        .map_err(|(turned, ..)| turned)
        .unwrap();
    while !reader.next().await.unwrap().last {}
    let after = reader.next().await.unwrap_err();
    assert!(matches!(after, ReadError::Bad(BadFrame::Violation(_))), "{after}");
    assert!(!after.is_carrier(), "a conversation is not taken up after that");
    assert_eq!(Failure::from(after).kind, Kind::ProtocolViolation);
}

#[tokio::test]
async fn a_long_request_goes_over_several_frames() {
    let (bridge, agent) = link().await;
    let long = vec![b'r'; CREATE_LIMIT];
    let mut wire = Vec::new();
    let (mut writer, _) = bridge.stream(Class::Interactive, &mut wire, tokio::io::empty());
    writer.open(request(&long));
    writer.end(b"");
    writer.finish().await.unwrap();
    let mut wire = wire.as_slice();
    let opening = Opening::read(&mut wire).await.unwrap();
    let (open, ..) = agent
        .admit(&opening, tokio::io::sink(), wire)
        .await
        .map_err(|(turned, ..)| turned)
        .unwrap();
    assert!(open.create.unwrap().0 == long);
}

#[tokio::test]
async fn who_holds_another_key_is_not_the_server() {
    let (ours, theirs) = duplex(1 << 16);
    let bundle = server(2).1;
    let pinned = Peer { kn: server(3).0.peer.kn, ..server(2).0.peer };
    let (bridge, agent) = shake(ours, theirs, &pinned, |_| Ok((accept(&bundle), ()))).await;
    assert_eq!(agent.unwrap_err().reset(), Reset::Malformed);
    let failure = Failure::from(bridge.unwrap_err());
    assert_eq!(failure.kind, Kind::LinkLost, "nobody answered who could prove anything");
}

#[tokio::test]
async fn an_agent_that_shows_another_bundle_is_not_the_server() {
    let (ours, theirs) = duplex(1 << 16);
    let other = server(3).1;
    let (bridge, _) = shake(ours, theirs, &server(2).0.peer, |_| Ok((accept(&other), ()))).await;
    assert_eq!(Failure::from(bridge.unwrap_err()).kind, Kind::HandshakeFailed);
}

#[tokio::test]
async fn a_refusal_arrives_in_the_agents_words() {
    let (ours, theirs) = duplex(1 << 16);
    let no = Failure::new(Kind::Overloaded, "this device makes handshakes too often");
    let refused = no.clone();
    let (bridge, agent) = shake(ours, theirs, &server(2).0.peer, |_| Err(refused)).await;
    assert_eq!(Failure::from(bridge.unwrap_err()), no);
    assert_eq!(agent.unwrap_err().reset(), Reset::Closing);
}

#[test]
fn every_reset_has_its_kind_of_failure() {
    for (reset, kind) in [
        (Reset::UnknownServer, Kind::UnknownServer),
        (Reset::Offline, Kind::ServerOffline),
        (Reset::Suspended, Kind::ServerSuspended),
        (Reset::Overloaded, Kind::Overloaded),
        (Reset::Integrity, Kind::HandshakeFailed),
        (Reset::Malformed, Kind::HandshakeFailed),
        (Reset::Moved, Kind::LinkLost),
        (Reset::Cancelled, Kind::LinkLost),
    ] {
        assert_eq!(reset_failure(reset).kind, kind, "{reset:?}");
        assert_eq!(Failure::from(ReadError::Reset(reset)).kind, Kind::LinkLost, "in a stream");
    }
}

#[tokio::test]
async fn of_two_streams_at_once_with_one_number_exactly_one_is_served() {
    let (bridge, agent) = link().await;
    for _ in 0..32 {
        let wire = recorded(&bridge, b"once").await;
        let (first, rest) = wire.split_at(wire.len() / 2);
        // Both handshakes start before either is complete, over carriers that take turns.
        let carrier = async || {
            let (mut ours, theirs) = duplex(1 << 16);
            let feeding = async move {
                ours.write_all(first).await.unwrap();
                tokio::task::yield_now().await;
                ours.write_all(rest).await.unwrap();
                ours.shutdown().await.unwrap();
            };
            let serving = async {
                let mut whole = Vec::new();
                let mut theirs = theirs;
                let opening = Opening::read(&mut theirs).await.unwrap();
                let admitted = agent.admit(&opening, tokio::io::sink(), theirs).await;
                let Ok((_, _, mut reader)) = admitted else { return None };
                loop {
                    let frame = reader.next().await.unwrap();
                    if frame.last {
                        return Some(whole);
                    }
                    whole.extend_from_slice(&frame.payload);
                }
            };
            tokio::join!(feeding, serving).1
        };
        let served = tokio::join!(carrier(), carrier(), carrier());
        let served: Vec<_> = [served.0, served.1, served.2].into_iter().flatten().collect();
        assert_eq!(served, [b"once".to_vec()]);
    }
}

#[tokio::test]
async fn a_link_that_was_ended_takes_no_stream() {
    let (bridge, agent) = link().await;
    let waiting = agent.wait_for_end();
    assert!(!agent.is_over());
    agent.end();
    agent.end();
    waiting.await;
    assert!(agent.is_over());
    let wire = recorded(&bridge, b"late").await;
    let (data, end) = served(&agent, &wire).await;
    assert!(data.is_empty() && end.unwrap_err().kind == Kind::StreamStale);
}

#[tokio::test]
async fn a_wall_clock_that_is_stepped_ends_the_link_at_both_ends_and_a_new_one_is_made() {
    let (bridge, agent) = link().await;
    step_wall_clock(9);
    assert!(!bridge.is_stale() && !agent.is_over(), "nine seconds are none");
    step_wall_clock(2);
    assert!(bridge.is_stale() && agent.is_over());
    let wire = recorded(&bridge, b"late").await;
    assert_eq!(served(&agent, &wire).await.1.unwrap_err().kind, Kind::StreamStale);
    let (bridge, agent) = link().await;
    let wire = recorded(&bridge, b"anew").await;
    assert_eq!(served(&agent, &wire).await, (b"anew".to_vec(), Ok(b"done".to_vec())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_altered_bit_is_delivered(at in 0_usize..4096, bit in 0_u8..8, size in 0_usize..2000) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (bridge, agent) = link().await;
            let data = vec![b'd'; size];
            let mut wire = recorded(&bridge, &data).await;
            let at = at % wire.len();
            wire[at] ^= 1 << bit;
            let (delivered, end) = served(&agent, &wire).await;
            prop_assert!(data.starts_with(&delivered));
            prop_assert!(end.is_err(), "byte {} of {}", at, wire.len());
            // Whatever the damage, it cost the link nothing.
            let wire = recorded(&bridge, b"next").await;
            prop_assert_eq!(served(&agent, &wire).await, (b"next".to_vec(), Ok(b"done".to_vec())));
            Ok(())
        })?;
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_, agent) = link().await;
            prop_assert!(served(&agent, &bytes).await.1.is_err());
            Ok(())
        })?;
    }
}

/// Data of a peer or a program becomes part of messages: no data may end a task, or be sent in
/// part.
#[tokio::test]
async fn a_message_over_its_limit_ends_the_direction_with_a_failure() {
    let (bridge, agent) = link().await;
    for last in [false, true] {
        let mut wire = Vec::new();
        let (mut writer, _) = bridge.stream(Class::Interactive, &mut wire, tokio::io::empty());
        writer.open(request(b"do it"));
        writer.message(b"before");
        let large = vec![0; frame::PAYLOAD + 1];
        match last {
            true => writer.end(&large),
            false => writer.message(&large),
        }
        // A handler that has not noticed continues.
        writer.message(&large);
        writer.data(1, b"after");
        writer.end(b"end");
        assert!(writer.has_ended());
        assert_eq!(writer.flush().await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
        assert_eq!(writer.finish().await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
        drop(writer);
        let (before, end) = served(&agent, &wire).await;
        assert_eq!(before, b"before");
        let end: End = conversation::read(&end.unwrap()).unwrap();
        assert_eq!(end.failure.unwrap().kind, Kind::Internal);
    }
}
