//! Surfaces: the faces through which a device acts, and their proof inside the handshake.
//!
//! A device delegates to one key per surface. A process that holds the key of `ai-local` can prove
//! that surface and no other: what an agent allows to a person is out of its reach, as long as it
//! cannot read the other key.

use core::fmt;
use core::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey};
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::cbor::{self, Blob};
use crate::id::{Id, Kn, Signature, Surf};
use crate::lp;
use crate::signed::Signed;

/// The label under which a delegation is signed.
const DELEGATION_LABEL: &str = "farwire-sig-v1/surface";

/// The label of the proof in a handshake.
const PROOF_LABEL: &[u8] = b"farwire/surface/1";

/// The maximum length of a delegation.
pub const LIMIT: usize = 512;

/// A surface of a device.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Surface {
    /// The person at the command line.
    Human,
    /// A model through the local MCP server.
    AiLocal,
    /// A published `/mcp`, by its id.
    Publish(String),
}

impl fmt::Display for Surface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Human => f.write_str("human"),
            Self::AiLocal => f.write_str("ai-local"),
            Self::Publish(id) => write!(f, "publish:{id}"),
        }
    }
}

/// The text does not name a surface.
#[derive(Debug, thiserror::Error)]
#[error("not a surface")]
pub struct NotASurface;

impl FromStr for Surface {
    type Err = NotASurface;

    fn from_str(text: &str) -> Result<Self, NotASurface> {
        match text {
            "human" => Ok(Self::Human),
            "ai-local" => Ok(Self::AiLocal),
            _ => match text.strip_prefix("publish:") {
                Some(id) if crate::outer::valid_name(id) => Ok(Self::Publish(id.to_owned())),
                _ => Err(NotASurface),
            },
        }
    }
}

impl<C> Encode<C> for Surface {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.to_string())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Surface {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(|_| minicbor::decode::Error::message("not a surface"))
    }
}

/// "This key acts as this surface of mine", signed by the device's `ID`.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Delegation {
    /// The device.
    #[n(0)]
    pub device: Id,
    /// The surface.
    #[n(1)]
    pub surface: Surface,
    /// The key of the surface.
    #[n(2)]
    pub key: Surf,
    /// When it was issued, seconds since 1970.
    #[n(3)]
    pub issued: u64,
    /// When it expires, seconds since 1970, if it does.
    #[n(4)]
    pub expires: Option<u64>,
}

impl Delegation {
    /// Signs the delegation with the device's `ID`.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        cbor::encode(&Signed::new(DELEGATION_LABEL, cbor::encode(self), key))
    }
}

/// The proof of a surface in message 3 of the handshake.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct SurfaceProof {
    /// The signed delegation.
    #[n(0)]
    pub delegation: Blob,
    /// The surface key's signature over this handshake.
    #[n(1)]
    pub signature: Signature,
}

/// The proof is invalid.
#[derive(Debug, thiserror::Error)]
#[error("surface proof: {0}")]
pub struct BadProof(&'static str);

fn text(handshake: &[u8; 32], kn: &Kn, delegation: &[u8]) -> Vec<u8> {
    let mut text = lp::join(&[PROOF_LABEL]);
    text.extend_from_slice(handshake);
    text.extend_from_slice(&kn.0);
    text.extend_from_slice(&Sha256::digest(delegation));
    text
}

impl SurfaceProof {
    /// Proves the surface in the handshake whose hash after message 2 is `handshake`.
    pub fn new(delegation: &[u8], key: &SigningKey, handshake: &[u8; 32], kn: &Kn) -> Self {
        let signature = key.sign(&text(handshake, kn, delegation));
        Self { delegation: Blob(delegation.to_vec()), signature: Signature(signature.to_bytes()) }
    }

    /// Returns the surface that `device`, whose Noise key is `kn`, has proven in this handshake.
    pub fn verify(
        &self,
        device: &Id,
        kn: &Kn,
        handshake: &[u8; 32],
    ) -> Result<Delegation, BadProof> {
        let signed: Signed =
            cbor::decode(&self.delegation, LIMIT).map_err(|_| BadProof("malformed delegation"))?;
        let id = device.verifying().ok_or(BadProof("weak device key"))?;
        let bytes = signed
            .verify(DELEGATION_LABEL, &id)
            .map_err(|_| BadProof("the device did not sign the delegation"))?;
        let delegation: Delegation =
            cbor::decode(bytes, LIMIT).map_err(|_| BadProof("malformed delegation"))?;
        if delegation.device != *device {
            return Err(BadProof("the delegation is of another device"));
        }
        let key = Id(delegation.key.0).verifying().ok_or(BadProof("weak surface key"))?;
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature.0);
        key.verify_strict(&text(handshake, kn, &self.delegation), &signature)
            .map_err(|_| BadProof("not signed by the surface key in this handshake"))?;
        Ok(delegation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_one_device_one_key_and_one_handshake() {
        let device = SigningKey::from_bytes(&[1; 32]);
        let surf = SigningKey::from_bytes(&[2; 32]);
        let id = Id(device.verifying_key().to_bytes());
        let delegation = Delegation {
            device: id,
            surface: Surface::AiLocal,
            key: Surf(surf.verifying_key().to_bytes()),
            issued: 1,
            expires: None,
        };
        let kn = Kn([3; 32]);
        let proof = SurfaceProof::new(&delegation.sign(&device), &surf, &[4; 32], &kn);
        assert_eq!(proof.verify(&id, &kn, &[4; 32]).unwrap(), delegation);
        assert!(proof.verify(&id, &kn, &[5; 32]).is_err(), "another handshake");
        assert!(proof.verify(&id, &Kn([9; 32]), &[4; 32]).is_err(), "another Noise key");
        let other = SigningKey::from_bytes(&[7; 32]);
        let other_id = Id(other.verifying_key().to_bytes());
        assert!(proof.verify(&other_id, &kn, &[4; 32]).is_err(), "another device");
        let forged = SurfaceProof::new(&delegation.sign(&other), &surf, &[4; 32], &kn);
        assert!(forged.verify(&id, &kn, &[4; 32]).is_err(), "delegated by somebody else");
        let stolen = SurfaceProof::new(&delegation.sign(&device), &other, &[4; 32], &kn);
        assert!(stolen.verify(&id, &kn, &[4; 32]).is_err(), "signed by another key");
    }
}
