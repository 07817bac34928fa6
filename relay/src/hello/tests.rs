//! HELLOs that fit and those that do not, against a real store.

use ed25519_dalek::Signer as _;
use farwire_protocol::cbor::Blob;
use farwire_protocol::genesis::trust_domain;
use farwire_protocol::id::{Signature, TrustDomain};

use super::*;
use crate::store::conformance::{accept, create, found};
use crate::testing::{TestRelay, agent, bundle, device, genesis, relay, tls_key};

const EXPORTER: [u8; 32] = [8; 32];

/// A HELLO with a bundle of the identity with this seed, and what its connection proves.
fn hello(role: Role, seed: u8, bundle: &SignedBundle) -> (Proven, Hello) {
    let proof = tls_key(seed).sign(&hello_text(&EXPORTER)).to_bytes();
    let hello = Hello {
        role,
        bundle: Blob(bundle.encode()),
        instance: Nonce([5; 16]),
        proof: Signature(proof),
        build: "test".to_owned(),
        invite: None,
        genesis: None,
        enrollment: None,
    };
    let key = Kt(tls_key(seed).verifying_key().to_bytes());
    (Proven { key, exporter: EXPORTER }, hello)
}

async fn kind(relay: &TestRelay, (proven, hello): (Proven, Hello)) -> Kind {
    admit(&*relay.relay.store, &proven, &hello).await.unwrap_err().kind
}

#[tokio::test]
async fn each_role_is_let_in_by_what_the_store_knows() {
    let test = relay().await;
    let store = &*test.relay.store;
    let owner = found(store, 1).await;
    let workspace = owner.workspace;
    let (proven, hello_of_device) = hello(Role::Device, 1, &device(1));
    let member = Member { id: device(1).id, workspace };
    let admitted = admit(store, &proven, &hello_of_device).await.unwrap();
    assert_eq!(admitted, Admitted::Device(member));

    create(store, workspace, "web-1", 3).await.unwrap();
    let agent = agent(2, owner.domain);
    let (proven, mut hello_of_agent) = hello(Role::Enrolling, 2, &agent);
    hello_of_agent.enrollment = Some(Nonce([3; 16]));
    let admitted = admit(store, &proven, &hello_of_agent).await.unwrap();
    let enrolling = Enrolling { enrollment: Nonce([3; 16]), workspace };
    assert_eq!(admitted, Admitted::Enrolling(enrolling));

    hello_of_agent.role = Role::Agent;
    let early = admit(store, &proven, &hello_of_agent).await.unwrap_err();
    assert_eq!(early.kind, Kind::RelayDenied, "it has no record yet");
    accept(store, workspace, 3, &agent).await.unwrap();
    let admitted = admit(store, &proven, &hello_of_agent).await.unwrap();
    let instance = Nonce([5; 16]);
    assert_eq!(admitted, Admitted::Agent { id: agent.id, instance, workspace });
    assert_eq!(admitted.workspace(), workspace);
}

#[tokio::test]
async fn an_invite_with_a_genesis_makes_a_workspace_for_its_own_device() {
    let test = relay().await;
    let store = &*test.relay.store;
    let invite = store.make_invite().await.unwrap();
    let with_genesis = |seed, genesis: Vec<u8>| {
        let (proven, hello) = hello(Role::Device, seed, &device(seed));
        let (invite, genesis) = (Some(Blob(invite.0.to_vec())), Some(Blob(genesis)));
        (proven, Hello { invite, genesis, ..hello })
    };
    assert_eq!(kind(&test, with_genesis(2, genesis(1))).await, Kind::RelayDenied);
    assert_eq!(kind(&test, with_genesis(1, vec![0; 9])).await, Kind::RelayDenied);
    let (proven, founding) = with_genesis(1, genesis(1));
    let admitted = admit(store, &proven, &founding).await.unwrap();
    let (proven, later) = hello(Role::Device, 1, &device(1));
    assert_eq!(admit(store, &proven, &later).await.unwrap(), admitted);
    assert_eq!(kind(&test, with_genesis(2, genesis(2))).await, Kind::InviteUsed);
}

#[tokio::test]
async fn a_proof_that_does_not_fit_is_refused_before_the_store_is_asked() {
    let test = relay().await;
    found(&*test.relay.store, 1).await;
    let (proven, fitting) = hello(Role::Device, 1, &device(1));
    let elsewhere = Proven { exporter: [9; 32], ..proven };
    assert_eq!(kind(&test, (elsewhere, fitting.clone())).await, Kind::RelayDenied);
    let of_another = Proven { key: hello(Role::Device, 2, &device(2)).0.key, ..proven };
    assert_eq!(kind(&test, (of_another, fitting.clone())).await, Kind::RelayDenied);
    let other_role = Hello { role: Role::Agent, ..fitting.clone() };
    assert_eq!(kind(&test, (proven, other_role)).await, Kind::RelayDenied);
    let forged = bundle(1, IdKind::Device, |bundle| bundle.trust_domain = trust_domain(b"x"));
    let mut bytes = forged.encode();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = Hello { bundle: Blob(bytes), ..fitting.clone() };
    assert_eq!(kind(&test, (proven, forged)).await, Kind::RelayDenied);
    assert!(admit(&*test.relay.store, &proven, &fitting).await.is_ok());
}

#[tokio::test]
async fn strangers_and_unknown_tokens_are_refused() {
    let test = relay().await;
    let stranger = agent(2, TrustDomain::NONE);
    assert_eq!(kind(&test, hello(Role::Device, 1, &device(1))).await, Kind::RelayDenied);
    assert_eq!(kind(&test, hello(Role::Agent, 2, &stranger)).await, Kind::RelayDenied);
    let (proven, mut enrolling) = hello(Role::Enrolling, 2, &stranger);
    assert_eq!(kind(&test, (proven, enrolling.clone())).await, Kind::RelayDenied);
    enrolling.enrollment = Some(Nonce([3; 16]));
    assert_eq!(kind(&test, (proven, enrolling)).await, Kind::TokenUnknown);
}
