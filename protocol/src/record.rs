//! The AEAD layer: ChaCha20-Poly1305 (RFC 8439) with an implicit counter as the nonce.
//!
//! Uses aws-lc-rs by default, for its speed, and RustCrypto under Miri, which cannot run foreign
//! code. Both yield the same bytes, which a test checks.

use core::fmt;

/// The length of the authentication tag.
pub const TAG: usize = 16;

/// The bytes were altered, or belong to another stream or position.
#[derive(Debug, thiserror::Error)]
#[error("the frame does not authenticate")]
pub struct Tampered;

/// A key for one direction of one stream. Each counter is used only once with it.
pub struct RecordKey(#[cfg(not(miri))] aws::Key, #[cfg(miri)] portable::Key);

impl RecordKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        #[cfg(not(miri))]
        return Self(aws::Key::new(key));
        #[cfg(miri)]
        return Self(portable::Key::new(key));
    }

    /// Encrypts `text` in place and returns its tag.
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG] {
        self.0.seal(&nonce(counter), aad, text)
    }

    /// Decrypts `text`, which ends with its tag, in place; the plaintext is everything before the
    /// tag.
    pub(crate) fn open(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> Result<(), Tampered> {
        self.0.open(&nonce(counter), aad, text)
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(…)")
    }
}

/// 32 zero bits and the counter, big-endian.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

#[cfg(not(miri))]
mod aws {
    use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

    use super::{TAG, Tampered};

    pub(super) struct Key(LessSafeKey);

    impl Key {
        pub(super) fn new(key: &[u8; 32]) -> Self {
            let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has its length");
            Self(LessSafeKey::new(key))
        }

        pub(super) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG] {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let tag = self
                .0
                .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
                .expect("a frame is far below the cipher's limit");
            let mut out = [0; TAG];
            out.copy_from_slice(tag.as_ref());
            out
        }

        pub(super) fn open(
            &self,
            nonce: &[u8; 12],
            aad: &[u8],
            text: &mut [u8],
        ) -> Result<(), Tampered> {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            self.0.open_in_place(nonce, Aad::from(aad), text).map(drop).map_err(|_| Tampered)
        }
    }
}

#[cfg(any(test, miri))]
mod portable {
    use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
    use chacha20poly1305::{ChaCha20Poly1305, Nonce};

    use super::{TAG, Tampered};

    pub(super) struct Key(ChaCha20Poly1305);

    impl Key {
        pub(super) fn new(key: &[u8; 32]) -> Self {
            Self(ChaCha20Poly1305::new(key.into()))
        }

        pub(super) fn seal(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG] {
            self.0
                .encrypt_inout_detached(&Nonce::from(*nonce), aad, text.into())
                .expect("a frame is far below the cipher's limit")
                .into()
        }

        pub(super) fn open(
            &self,
            nonce: &[u8; 12],
            aad: &[u8],
            text: &mut [u8],
        ) -> Result<(), Tampered> {
            let (text, tag) = text.split_last_chunk_mut::<TAG>().ok_or(Tampered)?;
            let tag = (*tag).into();
            self.0
                .decrypt_inout_detached(&Nonce::from(*nonce), aad, text.into(), &tag)
                .map_err(|_| Tampered)
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn both_back_ends_give_the_same_bytes() {
        for length in [0, 1, 63, 64, 65, 16_388] {
            let (mut one, mut two) = (vec![7; length], vec![7; length]);
            let tag = aws::Key::new(&[1; 32]).seal(&nonce(3), b"ad", &mut one);
            assert_eq!(tag, portable::Key::new(&[1; 32]).seal(&nonce(3), b"ad", &mut two));
            assert_eq!(one, two);
            one.extend_from_slice(&tag);
            assert!(portable::Key::new(&[1; 32]).open(&nonce(3), b"ad", &mut one.clone()).is_ok());
            assert!(RecordKey::new(&[1; 32]).open(4, b"ad", &mut one.clone()).is_err());
            assert!(RecordKey::new(&[1; 32]).open(3, b"ad", &mut one).is_ok());
        }
    }
}
