//! The first event of a workspace's log. Its hash is the trust domain of everything enrolled there.
//!
//! Later events (devices, grants, revocations, epochs) will follow it in one hash chain; their
//! numbers are not assigned yet.

use ed25519_dalek::SigningKey;
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::bundle::SignedBundle;
use crate::cbor::{self, Blob};
use crate::id::{Kind, TrustDomain};
use crate::peer;
use crate::signed::Signed;

/// The label under which events of the log are signed.
const LABEL: &str = "farwire-sig-v1/event";

/// The number of this event type.
const GENESIS: u16 = 1;

/// The maximum length of a genesis event.
pub const LIMIT: usize = 4096;

/// The event that the first device wrote when it created the workspace.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Genesis {
    /// The version of the log's format: 1.
    #[n(0)]
    pub version: u8,
    /// The position in the log: 0.
    #[n(1)]
    pub seq: u64,
    /// The event type: 1.
    #[n(2)]
    pub kind: u16,
    /// The name that the person gave the workspace.
    #[n(3)]
    pub name: String,
    /// The signed bundle of the first device.
    #[n(4)]
    pub device: Blob,
    /// When it was created, in seconds since 1970, by the device's clock.
    #[n(5)]
    pub time: u64,
    /// 16 random bytes, so that no two workspaces have the same hash.
    #[n(6)]
    pub salt: Blob,
}

/// The event is not a valid genesis event.
#[derive(Debug, thiserror::Error)]
#[error("not a genesis event: {0}")]
pub struct NotGenesis(&'static str);

impl Genesis {
    /// Creates the first event of a workspace with this name, founded by this device.
    pub fn new(name: &str, device: &SignedBundle, time: u64, salt: [u8; 16]) -> Self {
        let device = Blob(device.encode());
        Self {
            version: 1,
            seq: 0,
            kind: GENESIS,
            name: name.to_owned(),
            device,
            time,
            salt: Blob(salt.to_vec()),
        }
    }

    /// Signs the event with the `ID` of the device that it names.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        cbor::encode(&Signed::new(LABEL, cbor::encode(self), key))
    }

    /// Decodes an event and checks that the device that it names signed it.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotGenesis> {
        let signed: Signed = cbor::decode(bytes, LIMIT).map_err(|_| NotGenesis("malformed"))?;
        let event: Self =
            peer::decode(&signed.bytes, LIMIT).map_err(|_| NotGenesis("malformed"))?;
        if (event.version, event.seq, event.kind) != (1, 0, GENESIS) || event.salt.len() != 16 {
            return Err(NotGenesis("another event"));
        }
        let device = SignedBundle::decode_kind(&event.device, Kind::Device)
            .map_err(|_| NotGenesis("the bundle of its device is invalid"))?;
        let key = device.id.verifying().ok_or(NotGenesis("weak key"))?;
        signed.verify(LABEL, &key).map_err(|_| NotGenesis("not signed by its device"))?;
        if cbor::encode(&event) != *signed.bytes {
            return Err(NotGenesis("not in its one encoding"));
        }
        Ok(event)
    }
}

/// The trust domain that a signed genesis event founds.
pub fn trust_domain(signed_event: &[u8]) -> TrustDomain {
    TrustDomain(Sha256::digest(signed_event).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::bundle;

    #[test]
    fn a_genesis_event_is_believed_only_as_its_device_signed_it() {
        let (key, device) = bundle(1, Kind::Device);
        let genesis = Genesis::new("home", &device.sign(&key), 5, [3; 16]);
        let bytes = genesis.sign(&key);
        assert_eq!(Genesis::decode(&bytes).unwrap(), genesis);
        let (other, _) = bundle(9, Kind::Device);
        assert!(Genesis::decode(&genesis.sign(&other)).is_err());
        assert_ne!(trust_domain(&bytes), trust_domain(&genesis.sign(&other)));
    }
}
