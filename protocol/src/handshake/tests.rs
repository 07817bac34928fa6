//! Handshakes that succeed, and all the ways in which a relay could interfere with one.

use ed25519_dalek::SigningKey;
use x25519_dalek::{PublicKey, StaticSecret};

use super::*;
use crate::bundle::Bundle;
use crate::header::{self, Header};
use crate::id::{Kt, Surf};
use crate::keys::Opener;

struct Party {
    id: SigningKey,
    kn: [u8; 32],
    bundle: SignedBundle,
}

fn party(seed: u8, kind: Kind) -> Party {
    let id = SigningKey::from_bytes(&[seed; 32]);
    let kn = [seed.wrapping_add(100); 32];
    let public = PublicKey::from(&StaticSecret::from(kn)).to_bytes();
    let kt = SigningKey::from_bytes(&[seed.wrapping_add(50); 32]).verifying_key().to_bytes();
    let bundle = Bundle {
        version: 1,
        kind,
        id: Id(id.verifying_key().to_bytes()),
        kn: Kn(public),
        kt: Kt(kt),
        kd: None,
        seq: 1,
        not_before: 0,
        handshake: 1,
        trust_domain: TrustDomain([7; 32]),
    };
    let bundle = bundle.sign(&id);
    Party { id, kn, bundle }
}

fn peer(agent: &Party) -> Peer {
    Peer { id: agent.bundle.id, kn: agent.bundle.kn, trust_domain: agent.bundle.trust_domain }
}

fn header_hash(agent: &Party) -> [u8; 32] {
    let rest = offer();
    let header = Header::handshake(agent.bundle.id.target(), u16::try_from(rest.len()).unwrap());
    header::hash(&header.encode(), &rest)
}

fn introduce(device: &Party) -> Introduce {
    Introduce {
        bundle: Blob(device.bundle.encode()),
        log_head: None,
        grants: None,
        beacon: None,
        surface: None,
        instance: Nonce([9; 16]),
        limits: None,
        build: "test".to_owned(),
    }
}

/// Carries three messages across, each through `relay`, which may alter them.
fn shake(
    device: &Party,
    agent: &Party,
    relay: impl Fn(u8, &mut Vec<u8>),
) -> Result<(LinkKeys, LinkKeys, Claim), HandshakeError> {
    let hash = header_hash(agent);
    let (initiator, mut first) = Initiator::start(&device.kn, &peer(agent), &hash)?;
    relay(1, &mut first);
    let responder = Responder::read(&agent.kn, &peer(agent), &offer(), &hash, &first)?;
    let (mut second, listening) = responder.write()?;
    relay(2, &mut second);
    let (mut third, ours) = initiator.read(&second)?.write(&introduce(device))?;
    relay(3, &mut third);
    let (claim, theirs) = listening.read(&third)?;
    Ok((ours, theirs, claim))
}

#[test]
fn both_sides_come_to_the_same_keys_and_the_agent_knows_the_device() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    let (ours, theirs, claim) = shake(&device, &agent, |_, _| ()).unwrap();
    assert_eq!(ours.link_id(), theirs.link_id());
    assert_eq!(claim.bundle.id, device.bundle.id);
    let (bridge, agent) =
        (ours.stream(Opener::Bridge, &[1; 32]), theirs.stream(Opener::Bridge, &[1; 32]));
    let mut text = b"text".to_vec();
    let tag = bridge.forth.seal(0, b"", &mut text);
    text.extend_from_slice(&tag);
    assert!(agent.back.open(0, b"", &mut text.clone()).is_err(), "the other direction");
    assert!(agent.forth.open(0, b"", &mut text.clone()).is_ok());
    for other in [
        theirs.stream(Opener::Agent, &[1; 32]),
        theirs.stream(Opener::Bridge, &[2; 32]),
        theirs.verdict(&[1; 32]),
    ] {
        assert!(other.forth.open(0, b"", &mut text.clone()).is_err());
    }
}

#[test]
fn two_handshakes_never_share_a_link() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    let one = shake(&device, &agent, |_, _| ()).unwrap().0;
    let two = shake(&device, &agent, |_, _| ()).unwrap().0;
    assert_ne!(one.link_id(), two.link_id());
}

#[test]
fn every_altered_byte_of_every_message_is_noticed() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    for message in 1..=3 {
        for at in [0, 31, 32, 48, 49, 60, 200, 1100, 1200, usize::MAX] {
            let result = shake(&device, &agent, |n, bytes| {
                if n == message {
                    let at = at.min(bytes.len() - 1);
                    bytes[at] ^= 1;
                }
            });
            assert!(result.is_err(), "message {message}, byte {at}");
        }
    }
}

#[test]
fn cut_and_overlong_messages_are_refused() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    for message in 1..=3 {
        for length in [0, 31, 32, 48, 1249] {
            let cut = |n, bytes: &mut Vec<u8>| {
                if n == message && bytes.len() != length {
                    bytes.resize(length, 0);
                }
            };
            let whole = message == 1 && length == 1249;
            assert_eq!(shake(&device, &agent, cut).is_ok(), whole, "{message} to {length}");
        }
        let long = |n, bytes: &mut Vec<u8>| {
            if n == message {
                bytes.resize(65_000, 0);
            }
        };
        assert!(matches!(shake(&device, &agent, long), Err(HandshakeError::Malformed(_))));
    }
}

#[test]
fn low_order_ephemerals_are_refused() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    for message in 1..=2 {
        let zero = |n, bytes: &mut Vec<u8>| {
            if n == message {
                bytes[..32].fill(0);
            }
        };
        assert!(shake(&device, &agent, zero).is_err());
    }
}

#[test]
fn another_agent_domain_offer_or_header_does_not_authenticate() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    let hash = header_hash(&agent);
    let first = |peer: &Peer| Initiator::start(&device.kn, peer, &hash).unwrap().1;
    let me = peer(&agent);
    let read = |message: &[u8], offer: &[u8], hash: &[u8; 32]| {
        Responder::read(&agent.kn, &me, offer, hash, message).map(drop)
    };
    assert!(read(&first(&me), &offer(), &hash).is_ok());
    let other_domain = Peer { trust_domain: TrustDomain([8; 32]), ..me.clone() };
    assert!(read(&first(&other_domain), &offer(), &hash).is_err());
    let other_id = Peer { id: device.bundle.id, ..me.clone() };
    assert!(read(&first(&other_id), &offer(), &hash).is_err());
    assert!(read(&first(&me), &[0, 1, 0, 9], &hash).is_err(), "a longer offer");
    assert!(read(&first(&me), &offer(), &[0; 32]).is_err(), "another header");
    assert!(matches!(read(&first(&me), &[0, 9], &hash), Err(HandshakeError::NoVersion { .. })));
}

#[test]
fn a_bundle_of_another_device_or_kind_is_refused() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    for (stranger, mismatch) in [(party(3, Kind::Device), true), (party(1, Kind::Agent), false)] {
        let hash = header_hash(&agent);
        let (initiator, first) = Initiator::start(&device.kn, &peer(&agent), &hash).unwrap();
        let responder = Responder::read(&agent.kn, &peer(&agent), &offer(), &hash, &first).unwrap();
        let (second, listening) = responder.write().unwrap();
        let (third, _) = initiator.read(&second).unwrap().write(&introduce(&stranger)).unwrap();
        let error = listening.read(&third).unwrap_err();
        assert_eq!(matches!(error, HandshakeError::KeyMismatch), mismatch, "{error:?}");
    }
}

#[test]
fn the_choice_must_be_the_highest_common_version() {
    assert!(check_choice(&[0, 1, 1, 0, 1]).is_ok());
    assert!(check_choice(&[0, 1, 2, 0, 1, 0, 9]).is_ok(), "a newer agent");
    assert!(matches!(check_choice(&[0, 9, 2, 0, 1, 0, 9]), Err(HandshakeError::Downgrade(9))));
    assert!(matches!(check_choice(&[0, 9, 1, 0, 9]), Err(HandshakeError::NoVersion { .. })));
    assert!(matches!(check_choice(&[0, 1, 2, 0, 1]), Err(HandshakeError::Malformed(_))));
}

#[test]
fn a_surface_is_proven_in_its_handshake_only() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    let surf = SigningKey::from_bytes(&[77; 32]);
    let delegation = Delegation {
        device: device.bundle.id,
        surface: Surface::AiLocal,
        key: Surf(surf.verifying_key().to_bytes()),
        issued: 1,
        expires: None,
    };
    let delegation = delegation.sign(&device.id);
    let hash = header_hash(&agent);
    let (initiator, first) = Initiator::start(&device.kn, &peer(&agent), &hash).unwrap();
    let responder = Responder::read(&agent.kn, &peer(&agent), &offer(), &hash, &first).unwrap();
    let (second, listening) = responder.write().unwrap();
    let introduction = initiator.read(&second).unwrap();
    let proof = SurfaceProof::new(&delegation, &surf, &introduction.hash(), &device.bundle.kn);
    let p3 = Introduce { surface: Some(proof), ..introduce(&device) };
    let (third, _) = introduction.write(&p3).unwrap();
    let (claim, _) = listening.read(&third).unwrap();
    assert_eq!(claim.surface().unwrap().unwrap().surface, Surface::AiLocal);
    let replayed = Claim { handshake: [0; 32], ..claim };
    assert!(replayed.surface().unwrap().is_err(), "the proof of one handshake in another");
}

#[test]
fn any_message_is_read_without_a_panic() {
    let agent = party(2, Kind::Agent);
    bolero::check!().for_each(|bytes: &[u8]| {
        let hash = header_hash(&agent);
        let _ = Responder::read(&agent.kn, &peer(&agent), &offer(), &hash, bytes);
        let _ = check_choice(bytes);
        let _ = cbor::decode::<Introduce>(bytes, LONG_LIMIT);
        let _ = cbor::decode::<Verdict>(bytes, LONG_LIMIT);
    });
}

#[test]
fn a_wrong_kem_share_on_either_side_fails_although_every_x25519_key_is_right() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    let (me, hash) = (peer(&agent), header_hash(&agent));
    for (bridge_is_wrong, agent_is_wrong) in [(false, false), (true, false), (false, true)] {
        let (mut initiator, first) = Initiator::start(&device.kn, &me, &hash).unwrap();
        let mut responder = Responder::read(&agent.kn, &me, &offer(), &hash, &first).unwrap();
        if bridge_is_wrong {
            // ML-KEM returns another secret instead of an error (implicit rejection).
            initiator.kem = DecapsulationKey::<MlKem768>::from_seed([3; 64].into());
        }
        if agent_is_wrong {
            let other = DecapsulationKey::<MlKem768>::from_seed([4; 64].into());
            responder.kem_key = other.encapsulation_key().clone();
        }
        let (second, listening) = responder.write().unwrap();
        let (third, _) = initiator.read(&second).unwrap().write(&introduce(&device)).unwrap();
        let read = listening.read(&third).map(drop);
        match (bridge_is_wrong, agent_is_wrong) {
            (false, false) => read.unwrap(),
            _ => assert!(matches!(read, Err(HandshakeError::Unauthentic)), "{read:?}"),
        }
    }
}

#[test]
fn an_ephemeral_key_in_another_encoding_is_refused() {
    let (device, agent) = (party(1, Kind::Device), party(2, Kind::Agent));
    for message in 1..=2 {
        // X25519 ignores the bit, so that the shared secrets would be equal.
        let high = |n, bytes: &mut Vec<u8>| {
            if n == message {
                bytes[31] |= 0x80;
            }
        };
        assert!(shake(&device, &agent, high).is_err());
    }
}
