//! A bundle: the keys that an `ID` claims, signed by itself. A pin stores one.
//!
//! A bundle is a *claim*. Only the handshake proves possession of `KN`, and only the TLS connection
//! that of `KT`. Look a bundle up by `ID`, then compare `KN`.
//!
//! Not here: storing the highest `seq` (`keystore`), and whether the `ID` may do anything.

use ed25519_dalek::SigningKey;
use minicbor::{Decode, Encode};

use crate::cbor;
use crate::failure::{Failure, Kind as FailureKind};
use crate::id::{Id, Kd, Kind, Kn, Kt, TrustDomain};
use crate::signed::Signed;

/// The label under which a bundle is signed.
const LABEL: &str = "farwire-sig-v1/bundle";

/// The maximum length of a bundle.
pub const LIMIT: usize = 1024;

/// The prefix of a bundle's text form.
const TEXT_PREFIX: &str = "fwb_";

/// The version of the bundle format.
pub const VERSION: u8 = 1;

/// What an identity claims about itself.
#[derive(Clone, Debug, Decode, Encode, Eq, Hash, PartialEq)]
#[cbor(map)]
pub struct Bundle {
    /// The format version, [`VERSION`].
    #[n(0)]
    pub version: u8,
    /// Device or agent.
    #[n(1)]
    pub kind: Kind,
    /// Its identity.
    #[n(2)]
    pub id: Id,
    /// Its Noise static key.
    #[n(3)]
    pub kn: Kn,
    /// Its key for the outer TLS.
    #[n(4)]
    pub kt: Kt,
    /// Its key for sealed data, if it has one.
    #[n(5)]
    pub kd: Option<Kd>,
    /// The sequence number, which rises with every change; a lower one is refused.
    #[n(6)]
    pub seq: u64,
    /// Not valid before this time, in seconds since 1970.
    #[n(7)]
    pub not_before: u64,
    /// The highest handshake version that the holder supports: the floor for a first contact.
    #[n(8)]
    pub handshake: u16,
    /// The trust domain. An agent has exactly one; that of a device is its workspace.
    #[n(9)]
    pub trust_domain: TrustDomain,
}

/// Why a bundle is invalid.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The bytes do not decode as a bundle.
    #[error("not a bundle")]
    Malformed(#[from] cbor::Error),
    /// The format version is not supported.
    #[error("bundle of version {0}, this program knows {VERSION}")]
    Version(u8),
    /// A key is not a point, or so weak that anybody can compute its shared secrets.
    #[error("the bundle's {0} key is weak")]
    WeakKey(&'static str),
    /// One key is used for two purposes.
    #[error("the bundle uses one key twice")]
    SameKey,
    /// The bundle is not signed by its own `ID`.
    #[error("the bundle is not signed by its own key")]
    Signature,
    /// The bundle is of another kind than the role needs.
    #[error("this is the bundle of {found}, not of {wanted}")]
    WrongKind {
        /// The kind in the bundle.
        found: Kind,
        /// The kind that was needed.
        wanted: Kind,
    },
}

impl Bundle {
    /// Signs the bundle.
    pub fn sign(&self, key: &SigningKey) -> SignedBundle {
        let signed = Signed::new(LABEL, cbor::encode(self), key);
        SignedBundle { signed, bundle: self.clone() }
    }

    fn check(&self) -> Result<(), BundleError> {
        if self.version != VERSION {
            return Err(BundleError::Version(self.version));
        }
        if Id(self.kt.0).verifying().is_none() {
            return Err(BundleError::WeakKey("KT"));
        }
        if low_order(&self.kn.0) {
            return Err(BundleError::WeakKey("KN"));
        }
        if self.kd.is_some_and(|kd| low_order(&kd.0)) {
            return Err(BundleError::WeakKey("KD"));
        }
        let mut keys = vec![self.id.0, self.kn.0, self.kt.0];
        keys.extend(self.kd.map(|kd| kd.0));
        keys.sort_unstable();
        if keys.windows(2).any(|two| two[0] == two[1]) {
            return Err(BundleError::SameKey);
        }
        Ok(())
    }
}

/// A bundle whose signature has been verified, with the signed bytes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SignedBundle {
    signed: Signed,
    bundle: Bundle,
}

impl SignedBundle {
    /// Decodes a bundle and verifies everything about it.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        let signed: Signed = cbor::decode(bytes, LIMIT)?;
        let bundle: Bundle = cbor::decode(&signed.bytes, LIMIT)?;
        let id = bundle.id.verifying().ok_or(BundleError::WeakKey("ID"))?;
        signed.verify(LABEL, &id).map_err(|_| BundleError::Signature)?;
        bundle.check()?;
        Ok(Self { signed, bundle })
    }

    /// As [`Self::decode`]; the bundle must be of this kind.
    pub fn decode_kind(bytes: &[u8], wanted: Kind) -> Result<Self, BundleError> {
        let bundle = Self::decode(bytes)?;
        let found = bundle.kind;
        if found == wanted { Ok(bundle) } else { Err(BundleError::WrongKind { found, wanted }) }
    }

    /// The bytes for wire and file.
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(&self.signed)
    }

    /// The bundle as text to carry by hand: `fwb_` and base32.
    pub fn to_text(&self) -> String {
        format!("{TEXT_PREFIX}{}", crate::address::base32(&self.encode()))
    }

    /// Reads [`SignedBundle::to_text`]; the bundle must be of this kind.
    pub fn from_text(text: &str, wanted: Kind) -> Result<Self, Failure> {
        let bytes = text
            .trim()
            .strip_prefix(TEXT_PREFIX)
            .filter(|digits| digits.len() <= LIMIT * 2)
            .and_then(crate::address::unbase32)
            .ok_or_else(|| {
                Failure::new(
                    FailureKind::InvalidArgument,
                    "a bundle is one line that begins with `fwb_`",
                )
            })?;
        Self::decode_kind(&bytes, wanted).map_err(|error| {
            let kind = match error {
                BundleError::WrongKind { .. } => FailureKind::WrongKeyKind,
                _ => FailureKind::InvalidArgument,
            };
            Failure::caused(kind, "the bundle is invalid", &error)
        })
    }

    /// Whether this bundle may replace `old`: it has the same identity, and a higher `seq` or
    /// identical bytes.
    pub fn succeeds(&self, old: &Self) -> bool {
        self.id == old.id && self.kind == old.kind && (self.seq > old.seq || self == old)
    }
}

impl core::ops::Deref for SignedBundle {
    type Target = Bundle;

    fn deref(&self) -> &Bundle {
        &self.bundle
    }
}

/// Whether an X25519 public key is one of the few for which every shared secret is zero, in any of
/// its encodings (Curve25519's small subgroup; RFC 7748, section 6.1).
pub fn low_order(key: &[u8; 32]) -> bool {
    // X25519 ignores the top bit, so mask it before the comparison.
    let mut masked = *key;
    masked[31] &= 0x7f;
    LOW_ORDER.contains(&masked)
}

const fn near_p(low: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = low;
    bytes[31] = 0x7f;
    bytes
}

const fn small(low: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = low;
    bytes
}

/// u = 0, 1, the two points of order eight, and p − 1, p, p + 1.
const LOW_ORDER: [[u8; 32]; 7] = [
    small(0),
    small(1),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    near_p(0xec),
    near_p(0xed),
    near_p(0xee),
];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn bundle(seed: u8, kind: Kind) -> (SigningKey, Bundle) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let kt = SigningKey::from_bytes(&[seed.wrapping_add(1); 32]).verifying_key().to_bytes();
        let bundle = Bundle {
            version: VERSION,
            kind,
            id: Id(key.verifying_key().to_bytes()),
            kn: Kn([9; 32]),
            kt: Kt(kt),
            kd: None,
            seq: 1,
            not_before: 0,
            handshake: 1,
            trust_domain: TrustDomain::NONE,
        };
        (key, bundle)
    }

    #[test]
    fn a_bundle_comes_back_as_it_was_signed() {
        let (key, bundle) = bundle(1, Kind::Agent);
        let bytes = bundle.sign(&key).encode();
        assert_eq!(*SignedBundle::decode_kind(&bytes, Kind::Agent).unwrap(), bundle);
        assert!(matches!(
            SignedBundle::decode_kind(&bytes, Kind::Device),
            Err(BundleError::WrongKind { .. })
        ));
    }

    #[test]
    fn a_bundle_can_be_carried_as_text() {
        let (key, bundle) = bundle(1, Kind::Agent);
        let text = bundle.sign(&key).to_text();
        assert_eq!(*SignedBundle::from_text(&format!(" {text}\n"), Kind::Agent).unwrap(), bundle);
        let kind = |text: &str, kind| SignedBundle::from_text(text, kind).unwrap_err().kind;
        assert_eq!(kind(&text, Kind::Device), FailureKind::WrongKeyKind);
        assert_eq!(kind(&text[..40], Kind::Agent), FailureKind::InvalidArgument);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (key, bundle) = bundle(1, Kind::Agent);
        let bytes = bundle.sign(&key).encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SignedBundle::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn weak_and_repeated_keys_are_refused() {
        let (key, good) = bundle(1, Kind::Agent);
        for weak in LOW_ORDER {
            let bad = Bundle { kn: Kn(weak), ..good.clone() };
            assert!(SignedBundle::decode(&bad.sign(&key).encode()).is_err());
            let mut high = weak;
            high[31] |= 0x80;
            assert!(low_order(&high), "the ignored bit does not hide it");
        }
        let bad = Bundle { kt: Kt(good.id.0), ..good.clone() };
        assert!(matches!(
            SignedBundle::decode(&bad.sign(&key).encode()),
            Err(BundleError::SameKey)
        ));
        let other = SigningKey::from_bytes(&[77; 32]);
        assert!(SignedBundle::decode(&good.sign(&other).encode()).is_err(), "another's signature");
    }

    #[test]
    fn a_bundle_is_succeeded_by_a_higher_seq_only() {
        let (key, first) = bundle(1, Kind::Agent);
        let old = first.sign(&key);
        let higher = Bundle { seq: 2, ..first.clone() }.sign(&key);
        let same_seq = Bundle { not_before: 9, ..first }.sign(&key);
        assert!(higher.succeeds(&old) && old.succeeds(&old));
        assert!(!old.succeeds(&higher) && !same_seq.succeeds(&old));
    }
}
