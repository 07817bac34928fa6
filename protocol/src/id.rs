//! Identities: public keys by their use, and the short forms that people compare.
//!
//! Trust decisions compare whole keys. A fingerprint is for people, a [`Target`] is for routing.

use core::fmt;

use ed25519_dalek::VerifyingKey;
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::cbor::fixed_bytes;
use crate::curve::is_canonical_ed25519;

fixed_bytes! {
    /// `ID`: the Ed25519 key that is the identity of a device or an agent. It signs; it takes part
    /// in no handshake.
    Id, 32
}
fixed_bytes! {
    /// `KN`: the X25519 Noise static key.
    Kn, 32
}
fixed_bytes! {
    /// `KT`: the Ed25519 raw public key of the outer TLS.
    Kt, 32
}
fixed_bytes! {
    /// `KD`: the X25519 key to which recordings and epoch keys will be sealed.
    Kd, 32
}
fixed_bytes! {
    /// `SURF`: the Ed25519 key of one surface of a device.
    Surf, 32
}
fixed_bytes! {
    /// An Ed25519 signature.
    Signature, 64
}
fixed_bytes! {
    /// The trust domain: hash of the genesis event, or zeroes for an agent that was never enrolled.
    TrustDomain, 32
}
fixed_bytes! {
    /// The routing address of an agent: the first 16 bytes of SHA-256 of its `ID`.
    Target, 16
}
fixed_bytes! {
    /// 16 random bytes that name one process, conversation, request, job or enrollment.
    Nonce, 16
}

impl TrustDomain {
    /// The trust domain of an agent that was never enrolled.
    pub const NONE: Self = Self([0; 32]);
}

impl Nonce {
    /// A placeholder where a field is mandatory but no value exists yet.
    pub const ZERO: Self = Self([0; 16]);
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl core::str::FromStr for Nonce {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        let bytes =
            data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| NotHex)?;
        bytes.try_into().map(Self).map_err(|_| NotHex)
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("not 32 hexadecimal digits")]
pub struct NotHex;

/// The kind of program that holds a key.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, PartialEq)]
#[cbor(index_only)]
pub enum Kind {
    /// A bridge installation.
    #[n(1)]
    Device,
    /// An agent on a server.
    #[n(2)]
    Agent,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Agent => "agent",
        })
    }
}

impl Id {
    /// The key for verification, unless it is weak, not a point, or not in its canonical encoding.
    pub fn verifying(&self) -> Option<VerifyingKey> {
        let canonical = is_canonical_ed25519(&self.0);
        VerifyingKey::from_bytes(&self.0).ok().filter(|key| canonical && !key.is_weak())
    }

    /// The routing address of the agent with this key.
    pub fn target(&self) -> Target {
        let hash: [u8; 32] = Sha256::digest(self.0).into();
        let mut short = [0; 16];
        short.copy_from_slice(&hash[..16]);
        Target(short)
    }

    /// The fingerprint that people compare: `fwd1…` or `fwa1…`, then SHA-256 of the key in base32,
    /// in groups of four.
    pub fn fingerprint(&self, kind: Kind) -> String {
        let prefix = match kind {
            Kind::Device => "fwd1",
            Kind::Agent => "fwa1",
        };
        let mut text = String::from(prefix);
        let digits =
            data_encoding::BASE32_NOPAD.encode(&Sha256::digest(self.0)).to_ascii_lowercase();
        for group in digits.as_bytes().chunks(4) {
            text.push('-');
            text.extend(group.iter().map(|&byte| char::from(byte)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_names_the_kind_and_all_of_the_hash() {
        let id = Id([7; 32]);
        assert_eq!(id.fingerprint(Kind::Agent).split('-').count(), 14);
        assert!(id.fingerprint(Kind::Device).starts_with("fwd1-"));
        assert_ne!(id.fingerprint(Kind::Agent)[4..], Id([8; 32]).fingerprint(Kind::Agent)[4..]);
    }

    #[test]
    fn weak_keys_are_no_identities() {
        assert!(Id([0; 32]).verifying().is_none(), "a point of small order");
        let mut one = [0; 32];
        one[0] = 1;
        assert!(Id(one).verifying().is_none(), "the neutral element");
    }
}
