//! What several unit tests of the relay need: identities, a store, and a real connection.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ed25519_dalek::SigningKey;
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::dial::{Connection, Identity, dial};
use farwire_link::outer::listen::{Arrival, Listener, Options};
use farwire_protocol::address::Relay as RelayAddress;
use farwire_protocol::bundle::{self, Bundle, SignedBundle};
use farwire_protocol::genesis::Genesis;
use farwire_protocol::header::{Class, Header};
use farwire_protocol::id::{Id, Kind as IdKind, Kn, Kt, Nonce, Target, TrustDomain};
use farwire_protocol::outer::{Record, Role, ServerState};

use crate::node::NodeId;
use crate::relay::Relay;
use crate::store::{self, Server};
use crate::workspace::WorkspaceId;

/// Returns the bundle of an identity made from `seed`, with `change` applied before it is signed.
pub(crate) fn bundle(seed: u8, kind: IdKind, change: impl Fn(&mut Bundle)) -> SignedBundle {
    let (key, kt) = (SigningKey::from_bytes(&[seed; 32]), tls_key(seed));
    let mut bundle = Bundle {
        version: bundle::VERSION,
        kind,
        id: Id(key.verifying_key().to_bytes()),
        kn: Kn([seed ^ 0x55; 32]),
        kt: Kt(kt.verifying_key().to_bytes()),
        kd: None,
        seq: 1,
        not_before: 0,
        handshake: 1,
        trust_domain: TrustDomain::NONE,
    };
    change(&mut bundle);
    bundle.sign(&key)
}

/// Returns the key whose public half is the `KT` of [`bundle`].
pub(crate) fn tls_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[!seed; 32])
}

pub(crate) fn device(seed: u8) -> SignedBundle {
    bundle(seed, IdKind::Device, |_| {})
}

/// Returns the genesis event of a workspace that `device(seed)` makes.
pub(crate) fn genesis(seed: u8) -> Vec<u8> {
    let key = SigningKey::from_bytes(&[seed; 32]);
    Genesis::new("home", &device(seed), 5, [seed; 16]).sign(&key)
}

/// Returns the bundle of an agent that names the workspace that it lets in.
pub(crate) fn agent(seed: u8, domain: TrustDomain) -> SignedBundle {
    bundle(seed, IdKind::Agent, |bundle| bundle.trust_domain = domain)
}

/// Returns the record of an enrolled server, as the store has it.
pub(crate) fn server(workspace: WorkspaceId, agent: Id, suspended: bool) -> Server {
    let state = if suspended { ServerState::Suspended } else { ServerState::Offline };
    let record = Record {
        id: Nonce([7; 16]),
        name: "web-1".to_owned(),
        labels: BTreeMap::new(),
        state,
        agent: Some(agent),
        created: 1,
        seen: None,
        build: None,
        duplicate: None,
    };
    Server { workspace, record, suspended }
}

/// Returns the header of a stream on some link to some agent.
pub(crate) fn header(class: Class) -> Header {
    let (target, link) = (Target([1; 16]), [7; 16]);
    Header { class, target, link, epoch: 0, sid: 2, not_after: 1, rest: 0 }
}

/// A relay without a socket, with its store in a temporary directory.
pub(crate) struct TestRelay {
    _temp: tempfile::TempDir,
    pub(crate) relay: Arc<Relay>,
}

pub(crate) async fn relay() -> TestRelay {
    let temp = tempfile::tempdir().unwrap();
    let store = store::open(&temp.path().join("relay.db")).await.unwrap();
    let relay = Relay::load(NodeId::TEST, store).await.unwrap();
    TestRelay { _temp: temp, relay }
}

/// The program's end of a connection. The connection lives as long as this.
pub(crate) struct Peer {
    pub(crate) connection: Connection,
    _listener: Listener,
}

/// Makes a connection between a relay's listener and an agent.
pub(crate) async fn connect() -> (Arrival, Peer) {
    let key = SigningKey::from_bytes(&[1; 32]);
    let listener = Listener::bind(&Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        key: key.clone(),
        node: NodeId::TEST.number(),
        reset_key: [2; 32],
        cid_key: [3; 32],
        keylog: None,
    })
    .unwrap();
    let addresses = vec![listener.address().unwrap().to_string()];
    let address = RelayAddress { addresses, key: Kt(key.verifying_key().to_bytes()) };
    let identity = Identity {
        role: Role::Agent,
        bundle: agent(4, TrustDomain::NONE),
        kt: tls_key(4),
        instance: Nonce([6; 16]),
        build: "test".to_owned(),
        found: None,
        enrollment: None,
        attended: Attended::default(),
    };
    let accepting = async { listener.accept().await.unwrap().enter().await };
    let (connection, arrival) = tokio::join!(dial(&address, &identity), accepting);
    (arrival.unwrap(), Peer { connection: connection.unwrap(), _listener: listener })
}

/// Polls a future once. Returns its value if it has one.
pub(crate) fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
