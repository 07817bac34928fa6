//! Bytes and a signature over exactly these bytes, never over a re-encoding of their content.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};

use crate::cbor::Blob;
use crate::id::Signature;
use crate::lp;

/// Signed bytes. Their content may be used only after [`Signed::verify`].
#[derive(Clone, Debug, Decode, Encode, Eq, Hash, PartialEq)]
#[cbor(map)]
pub struct Signed {
    /// The signed bytes.
    #[n(0)]
    pub bytes: Blob,
    /// The signature over LP(label) ‖ LP(bytes).
    #[n(1)]
    pub signature: Signature,
}

/// The signature is not by this key over these bytes under this label.
#[derive(Debug, thiserror::Error)]
#[error("the signature is invalid")]
pub struct BadSignature;

impl Signed {
    /// Signs `bytes` under a label that no other purpose shares.
    pub fn new(label: &str, bytes: Vec<u8>, key: &SigningKey) -> Self {
        let signature = key.sign(&lp::join(&[label.as_bytes(), &bytes]));
        Self { bytes: Blob(bytes), signature: Signature(signature.to_bytes()) }
    }

    /// Returns the bytes, if `key` signed them under this label.
    pub fn verify(&self, label: &str, key: &VerifyingKey) -> Result<&[u8], BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature.0);
        key.verify_strict(&lp::join(&[label.as_bytes(), &self.bytes]), &signature)
            .map_err(|_| BadSignature)?;
        Ok(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_one_label_and_one_text() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let signed = Signed::new("a", b"text".to_vec(), &key);
        assert_eq!(signed.verify("a", &key.verifying_key()).unwrap(), b"text");
        assert!(signed.verify("b", &key.verifying_key()).is_err());
        let other = Signed { bytes: Blob(b"texT".to_vec()), ..signed };
        assert!(other.verify("a", &key.verifying_key()).is_err());
    }
}
