//! The primitives that we give to snow, and the one pattern that we use.
//!
//! snow's own resolver neither refuses low-order points nor wipes keys; ours does both, with
//! x25519-dalek and chacha20poly1305. Every error of snow is final for its handshake: after a
//! failed message its state is damaged, and the remote key that it reports may be the attacker's.

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use sha2::{Digest as _, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::curve::is_canonical_x25519;

/// The name of the handshake, which is also the first input to its hash.
const PATTERN: &str = "Noise_XKpsk3_25519_ChaChaPoly_SHA256";

/// The position of the psk in the pattern.
pub(crate) const PSK_PLACE: usize = 3;

/// Creates a builder for our pattern with our primitives.
pub(crate) fn builder<'a>() -> Builder<'a> {
    let pattern = PATTERN.parse().expect("snow knows the pattern, a test shows it");
    Builder::with_resolver(pattern, Box::new(Primitives))
}

struct Primitives;

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(X25519::default()) as _)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| Box::new(Sha(Sha256::new())) as _)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly).then(|| Box::new(ChaChaPoly::default()) as _)
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(dest).map_err(|_| Error::Rng)
    }
}

/// A key pair, empty until snow sets or generates it.
struct X25519 {
    secret: StaticSecret,
    public: [u8; 32],
}

impl Default for X25519 {
    fn default() -> Self {
        Self { secret: StaticSecret::from([0; 32]), public: [0; 32] }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, key: &[u8]) {
        let bytes = Zeroizing::new(<[u8; 32]>::try_from(key).expect("snow checks the length"));
        self.secret = StaticSecret::from(*bytes);
        self.public = PublicKey::from(&self.secret).to_bytes();
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        random.try_fill_bytes(&mut *bytes)?;
        self.set(&*bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    fn dh(&self, peer: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let (peer, _) = peer.split_first_chunk::<32>().ok_or(Error::Dh)?;
        if !is_canonical_x25519(peer) {
            return Err(Error::Dh);
        }
        let shared = self.secret.diffie_hellman(&PublicKey::from(*peer));
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out.get_mut(..32).ok_or(Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

#[derive(Default)]
struct ChaChaPoly(Option<ChaCha20Poly1305>);

impl ChaChaPoly {
    fn cipher(&self) -> &ChaCha20Poly1305 {
        self.0.as_ref().expect("snow sets the key before it uses the cipher")
    }
}

/// Noise, section 12.3: 32 zero bits and the counter, little-endian.
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = Some(ChaCha20Poly1305::new(key.into()));
    }

    fn encrypt(&self, counter: u64, ad: &[u8], text: &[u8], out: &mut [u8]) -> usize {
        let (body, rest) = out.split_at_mut(text.len());
        body.copy_from_slice(text);
        let tag = self
            .cipher()
            .encrypt_inout_detached(&nonce(counter), ad, body.into())
            .expect("a handshake message is far below the cipher's limit");
        rest[..tag.len()].copy_from_slice(&tag);
        text.len() + tag.len()
    }

    fn decrypt(
        &self,
        counter: u64,
        ad: &[u8],
        text: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let (body, tag) = text.split_last_chunk::<16>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..body.len()).ok_or(Error::Decrypt)?;
        out.copy_from_slice(body);
        self.cipher()
            .decrypt_inout_detached(&nonce(counter), ad, out.into(), &(*tag).into())
            .map_err(|_| Error::Decrypt)?;
        Ok(body.len())
    }
}

struct Sha(Sha256);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Sha256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}
