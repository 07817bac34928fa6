//! What several unit tests of the relay need: identities, a store, and a real connection.

use ed25519_dalek::SigningKey;
use farwire_protocol::bundle::{self, Bundle, SignedBundle};
use farwire_protocol::id::{Id, Kind as IdKind, Kn, Kt, TrustDomain};

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

/// Returns the bundle of an agent that names the workspace that it lets in.
pub(crate) fn agent(seed: u8, domain: TrustDomain) -> SignedBundle {
    bundle(seed, IdKind::Agent, |bundle| bundle.trust_domain = domain)
}
