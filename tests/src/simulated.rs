//! Devices and agents that are no processes: their identities, and real connections to a real
//! relay.
//!
//! They say what the programs would never say, or are many.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use farwire_keystore::Home;
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::dial::{self, Connection, Identity};
use farwire_protocol::address::{Invite, Relay};
use farwire_protocol::bundle::{self, Bundle};
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::genesis::{Genesis, trust_domain};
use farwire_protocol::id::{Id, Kind, Kn, Kt, Nonce, TrustDomain};
use farwire_protocol::outer::{MailAnswer, Record, Role, ServerCreate};

use crate::World;

/// So many random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// 16 random bytes.
pub fn nonce() -> Nonce {
    Nonce(random())
}

/// Somebody whom the relay has never heard of.
pub fn stranger(role: Role) -> Identity {
    stranger_of(role, TrustDomain::NONE)
}

/// The same, of a workspace: an agent's bundle says whom it has let in.
pub fn stranger_of(role: Role, trust_domain: TrustDomain) -> Identity {
    let kt = SigningKey::from_bytes(&random());
    let id = SigningKey::from_bytes(&random());
    claiming(role, &id, kt, |bundle| bundle.trust_domain = trust_domain)
}

/// Somebody with these keys, whose bundle says something else besides.
pub fn claiming(
    role: Role,
    id: &SigningKey,
    kt: SigningKey,
    change: impl FnOnce(&mut Bundle),
) -> Identity {
    let mut bundle = Bundle {
        version: bundle::VERSION,
        kind: if role == Role::Device { Kind::Device } else { Kind::Agent },
        id: Id(id.verifying_key().to_bytes()),
        kn: Kn(random()),
        kt: Kt(kt.verifying_key().to_bytes()),
        kd: None,
        seq: 1,
        not_before: 0,
        handshake: 1,
        trust_domain: TrustDomain::NONE,
    };
    change(&mut bundle);
    Identity {
        role,
        bundle: bundle.sign(id),
        kt,
        instance: nonce(),
        build: "simulated".to_owned(),
        found: None,
        enrollment: None,
        attended: Attended::default(),
    }
}

/// A device that makes a workspace with this invite, and the workspace's trust domain.
pub fn founder(invite: Invite) -> (Identity, TrustDomain) {
    let id = SigningKey::from_bytes(&random());
    let mut founder = claiming(Role::Device, &id, SigningKey::from_bytes(&random()), |_| {});
    let genesis = Genesis::new("simulated", &founder.bundle, 1, random()).sign(&id);
    let domain = trust_domain(&genesis);
    founder.found = Some((invite, genesis));
    (founder, domain)
}

/// The relay of a world, and the device of one of its homes.
pub fn device(world: &World, home: &str) -> (Relay, Identity) {
    let home = Home::open(&world.path(home)).expect("a home");
    let workspace = home.workspace().expect("it can be read").expect("there is one");
    let identity = home.identity().expect("it can be read").expect("there is one");
    let transport = identity.open_transport().expect("its keys");
    let identity = Identity {
        role: Role::Device,
        bundle: transport.bundle.clone(),
        kt: transport.kt.clone(),
        instance: nonce(),
        build: "simulated".to_owned(),
        found: None,
        enrollment: None,
        attended: Attended::default(),
    };
    (workspace.relay, identity)
}

/// Connects, and is welcome.
pub async fn arrive(relay: &Relay, identity: &Identity) -> Result<Connection, Failure> {
    let connection = dial::dial(relay, identity).await?;
    connection.welcome().await?;
    Ok(connection)
}

/// Makes a record for an enrollment.
pub async fn create(device: &Connection, name: &str, enrollment: Nonce) -> Result<Record, Failure> {
    let (name, labels) = (name.to_owned(), BTreeMap::new());
    device.call(&ServerCreate { name, labels, enrollment, lifetime: 3600 }).await
}

/// Makes a record, and the agent that belongs to it, as its owner does who accepts one.
pub async fn enroll(
    device: &Connection,
    trust_domain: TrustDomain,
    name: &str,
) -> Result<Identity, Failure> {
    let (identity, enrollment) = (stranger_of(Role::Agent, trust_domain), nonce());
    create(device, name, enrollment).await?;
    let agent = Blob(identity.bundle.encode());
    device.call(&MailAnswer { enrollment, agent, blob: Blob(vec![0; 64]) }).await?;
    Ok(identity)
}
