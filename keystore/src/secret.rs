//! 32 secret bytes: wiped when dropped, never printed.

use core::fmt;

use ed25519_dalek::SigningKey;
use farwire_protocol::failure::{Failure, Kind};
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};
use zeroize::Zeroizing;

/// A private key.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Creates a key from the operating system's random number generator.
    pub fn random() -> Result<Self, Failure> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes)
            .map_err(|error| Failure::caused(Kind::Io, "cannot get random numbers", &error))?;
        Ok(Self(bytes))
    }

    /// Reads a secret, which has exactly 32 bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut secret = Zeroizing::new([0; 32]);
        if bytes.len() != secret.len() {
            return None;
        }
        secret.copy_from_slice(bytes);
        Some(Self(secret))
    }

    /// The secret bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The secret as an Ed25519 signing key.
    pub fn signing(&self) -> SigningKey {
        SigningKey::from_bytes(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<C> Encode<C> for Secret {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.as_bytes())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Secret {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::read(d.bytes()?).ok_or_else(|| minicbor::decode::Error::message("not 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::read(&[0xc5; 32]).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(!format!("{:?}", secret.signing()).contains("197, 197"));
    }

    #[test]
    fn two_secrets_differ() {
        assert!(Secret::random().unwrap() != Secret::random().unwrap());
    }
}
