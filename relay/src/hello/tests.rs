//! HELLOs that fit and those that do not, against a real store.

use ed25519_dalek::Signer as _;
use farwire_protocol::cbor::Blob;
use farwire_protocol::id::{Signature, TrustDomain};

use super::*;
use crate::store::conformance::{accept, create, new_workspace};
use crate::testing::{TestRelay, agent, device, genesis, relay, tls_key};

const EXPORTER: [u8; 32] = [8; 32];

/// A HELLO, and what its connection proves.
#[derive(Clone)]
struct TestHello {
    proven: Proven,
    hello: Hello,
}

impl TestHello {
    async fn admit(&self, test: &TestRelay) -> Result<Admitted, Failure> {
        admit(&*test.relay.store, &self.proven, &self.hello).await
    }

    async fn refusal(&self, test: &TestRelay) -> Kind {
        self.admit(test).await.unwrap_err().kind
    }
}

/// A HELLO with a bundle of the identity with this seed.
fn hello(role: Role, seed: u8, bundle: &SignedBundle) -> TestHello {
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
    TestHello { proven: Proven { key, exporter: EXPORTER }, hello }
}

#[tokio::test]
async fn each_role_is_let_in_by_what_the_store_knows() {
    let test = relay().await;
    let store = &*test.relay.store;
    let owner = new_workspace(store, 1).await;
    let workspace = owner.workspace;
    let member = Member { id: device(1).id, workspace };
    let admitted = hello(Role::Device, 1, &device(1)).admit(&test).await.unwrap();
    assert_eq!(admitted, Admitted::Device(member));

    create(store, workspace, "web-1", 3).await.unwrap();
    let agent = agent(2, owner.domain);
    let mut of_agent = hello(Role::Enrolling, 2, &agent);
    of_agent.hello.enrollment = Some(Nonce([3; 16]));
    let enrolling = Enrolling { enrollment: Nonce([3; 16]), workspace };
    assert_eq!(of_agent.admit(&test).await.unwrap(), Admitted::Enrolling(enrolling));

    of_agent.hello.role = Role::Agent;
    assert_eq!(of_agent.refusal(&test).await, Kind::RelayDenied, "it has no record yet");
    accept(store, workspace, 3, &agent).await.unwrap();
    let admitted = of_agent.admit(&test).await.unwrap();
    let instance = Nonce([5; 16]);
    assert_eq!(admitted, Admitted::Agent { id: agent.id, instance, workspace });
    assert_eq!(admitted.workspace(), workspace);
}

#[tokio::test]
async fn an_invite_with_a_genesis_makes_a_workspace_for_its_own_device() {
    let test = relay().await;
    let invite = test.relay.store.make_invite().await.unwrap();
    let with_genesis = |seed, genesis: Vec<u8>| {
        let mut founding = hello(Role::Device, seed, &device(seed));
        founding.hello.invite = Some(Blob(invite.0.to_vec()));
        founding.hello.genesis = Some(Blob(genesis));
        founding
    };
    assert_eq!(with_genesis(2, genesis(1)).refusal(&test).await, Kind::RelayDenied);
    assert_eq!(with_genesis(1, vec![0; 9]).refusal(&test).await, Kind::RelayDenied);
    let admitted = with_genesis(1, genesis(1)).admit(&test).await.unwrap();
    let later = hello(Role::Device, 1, &device(1));
    assert_eq!(later.admit(&test).await.unwrap(), admitted);
    assert_eq!(with_genesis(2, genesis(2)).refusal(&test).await, Kind::InviteUsed);
}

#[tokio::test]
async fn a_proof_that_does_not_fit_is_refused() {
    let test = relay().await;
    new_workspace(&*test.relay.store, 1).await;
    let fitting = hello(Role::Device, 1, &device(1));
    let mut elsewhere = fitting.clone();
    elsewhere.proven.exporter = [9; 32];
    let mut of_another = fitting.clone();
    of_another.proven.key = hello(Role::Device, 2, &device(2)).proven.key;
    let mut other_role = fitting.clone();
    other_role.hello.role = Role::Agent;
    let mut forged = fitting.clone();
    *forged.hello.bundle.0.last_mut().unwrap() ^= 1;
    for refused in [elsewhere, of_another, other_role, forged] {
        assert_eq!(refused.refusal(&test).await, Kind::RelayDenied);
    }
    fitting.admit(&test).await.unwrap();
}

#[tokio::test]
async fn strangers_and_unknown_tokens_are_refused() {
    let test = relay().await;
    let stranger = agent(2, TrustDomain::NONE);
    let unknown_device = hello(Role::Device, 1, &device(1));
    assert_eq!(unknown_device.refusal(&test).await, Kind::RelayDenied);
    assert_eq!(hello(Role::Agent, 2, &stranger).refusal(&test).await, Kind::RelayDenied);
    let mut enrolling = hello(Role::Enrolling, 2, &stranger);
    assert_eq!(enrolling.refusal(&test).await, Kind::RelayDenied, "it names no enrollment");
    enrolling.hello.enrollment = Some(Nonce([3; 16]));
    assert_eq!(enrolling.refusal(&test).await, Kind::TokenUnknown);
}
