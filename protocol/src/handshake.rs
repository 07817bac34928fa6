//! The end-to-end handshake: `Noise_XKpsk3_25519_ChaChaPoly_SHA256` with ML-KEM-768 in its
//! payloads.
//!
//! ```text
//!     bridge                                   agent
//!        | -- header, offer, 1: e, es + P1 ----> |    P1: psk mode and tag, KEM key
//!        | <------------------- 2: e, ee + P2 -- |    P2: KEM ciphertext, version, agent's versions
//!        | -- 3: s, se, psk + P3 -------------> |    P3: bundle, surface proof, …
//!        | <------------------------ Verdict -- |    sealed, FINAL
//! ```
//!
//! The KEM's secret enters as the psk, so that a link is safe while either X25519 or ML-KEM holds.
//! Message 2 goes to an unknown peer: P2 contains nothing sensitive, and nothing is acted upon
//! before message 3. The typestates below enforce the order, and drop everything on the first
//! error. The device's identity is in message 3 and nowhere earlier.
//!
//! Not here: whether the device is authorised (the agent decides), and the stream around the
//! messages.

use minicbor::{Decode, Encode};
use ml_kem::kem::{Decapsulate as _, KeyExport as _};
use ml_kem::{DecapsulationKey, EncapsulationKey, MlKem768};
use sha2::{Digest as _, Sha256};
use snow::HandshakeState;
use zeroize::{Zeroize as _, Zeroizing};

use crate::bundle::{BundleError, SignedBundle};
use crate::cbor::{self, Blob};
use crate::failure::Failure;
use crate::id::{Id, Kind, Kn, Nonce, TrustDomain};
use crate::keys::LinkKeys;
use crate::lp;
use crate::noise;
use crate::peer;
use crate::surface::{Delegation, Surface, SurfaceProof};

/// The versions of the inner protocol and their history, newest last.
///
/// 1: the first version.
pub const VERSIONS: &[u16] = &[1];

/// The protection of a link of this version, in words for a person.
pub const fn protection(version: u16) -> &'static str {
    match version {
        1 => "Noise XKpsk3 with X25519 and ML-KEM-768",
        _ => "an unknown version",
    }
}

/// The maximum length of messages 1 and 2.
pub const SHORT_LIMIT: usize = 2048;

/// The maximum length of message 3, which carries up to 16 KiB of grants.
pub const LONG_LIMIT: usize = 24 * 1024;

const KEM_KEY: usize = 1184;
const KEM_TEXT: usize = 1088;
const PSK_TAG: usize = 16;
const P1: usize = 1 + PSK_TAG + KEM_KEY;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// A message has the wrong length, or its content is invalid.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The message does not authenticate: another key, another agent, or altered in transit.
    #[error("the handshake does not authenticate")]
    Unauthentic,
    /// There is no version that both support.
    #[error("no version in common: the bridge speaks {bridge:?}, the agent {agent:?}")]
    NoVersion {
        /// The versions that the bridge offered.
        bridge: Vec<u16>,
        /// The versions that the agent supports.
        agent: Vec<u16>,
    },
    /// The agent chose a lower version than the highest that both support.
    #[error("the agent chose version {0}, although a higher one was possible")]
    Downgrade(u16),
    /// The random number generator or our own key failed.
    #[error("the handshake could not be computed")]
    Local,
    /// The bundle in message 3 is invalid.
    #[error("the device's bundle is invalid")]
    Bundle(#[from] BundleError),
    /// `KN` of the bundle is not the key that the handshake proved.
    #[error("the device proved another key than its bundle names")]
    KeyMismatch,
}

/// The agent that a bridge wants to reach.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its identity.
    pub id: Id,
    /// Its Noise key.
    pub kn: Kn,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
}

/// The versions that we support, encoded as the header's `rest`.
pub fn offer() -> Vec<u8> {
    VERSIONS.iter().flat_map(|version| version.to_be_bytes()).collect()
}

fn prologue(peer: &Peer, offer: &[u8], header_hash: &[u8; 32]) -> Vec<u8> {
    lp::join(&[b"farwire/e2e/1", b"session", &peer.id.0, &peer.trust_domain.0, offer, header_hash])
}

fn psk(kem_secret: &[u8], kem_key: &[u8], kem_text: &[u8]) -> Zeroizing<[u8; 32]> {
    let info: [u8; 32] =
        Sha256::new().chain_update(kem_key).chain_update(kem_text).finalize().into();
    let mut ikm = Zeroizing::new([0; 64]); // the second half is reserved for a pairing secret
    ikm[..32].copy_from_slice(kem_secret);
    let mut psk = Zeroizing::new([0; 32]);
    hkdf::Hkdf::<Sha256>::new(Some(b"farwire/psk/1"), &*ikm)
        .expand(&info, &mut *psk)
        .expect("32 bytes are in range");
    psk
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, HandshakeError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|_| HandshakeError::Local)?;
    Ok(bytes)
}

/// Maps an error of snow while reading, which is the peer's doing; while writing, it is ours.
fn read_error(_: snow::Error) -> HandshakeError {
    HandshakeError::Unauthentic
}

fn write_error(_: snow::Error) -> HandshakeError {
    HandshakeError::Local
}

fn write(state: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut out = vec![0; payload.len() + 128]; // e, s and two tags are 96 bytes
    let length = state.write_message(payload, &mut out).map_err(write_error)?;
    out.truncate(length);
    Ok(out)
}

fn read(
    state: &mut HandshakeState,
    message: &[u8],
    limit: usize,
    name: &'static str,
) -> Result<Zeroizing<Vec<u8>>, HandshakeError> {
    if message.len() > limit {
        return Err(HandshakeError::Malformed(name));
    }
    let mut out = Zeroizing::new(vec![0; message.len()]);
    let length = state.read_message(message, &mut out).map_err(read_error)?;
    out.truncate(length);
    Ok(out)
}

fn handshake_hash(state: &HandshakeState) -> [u8; 32] {
    state.get_handshake_hash().try_into().expect("SHA-256 has 32 bytes")
}

/// Derives the keys from a finished handshake. Before that, snow would silently return wrong ones.
fn finish(mut state: HandshakeState) -> LinkKeys {
    assert!(state.is_handshake_finished(), "all three messages have been processed");
    let hash = handshake_hash(&state);
    // Wiped in place: a wrapper would receive a copy.
    let mut split = state.dangerously_get_raw_split();
    let keys = LinkKeys::new(&hash, &split.0, &split.1);
    split.zeroize();
    keys
}

/// The bridge, after message 1.
pub struct Initiator {
    state: HandshakeState,
    kem: DecapsulationKey<MlKem768>,
    kem_key: Vec<u8>,
}

impl Initiator {
    /// Starts a handshake with `peer` and returns message 1. `header_hash` is that of the stream.
    pub fn start(
        kn: &[u8; 32],
        peer: &Peer,
        header_hash: &[u8; 32],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let mut state = noise::builder()
            .local_private_key(kn)
            .and_then(|builder| builder.remote_public_key(&peer.kn.0))
            .and_then(|builder| {
                let prologue = prologue(peer, &offer(), header_hash);
                // snow copies the prologue when it builds; it does not outlive this closure.
                builder.prologue(&prologue)?.build_initiator()
            })
            .map_err(write_error)?;
        let kem = DecapsulationKey::<MlKem768>::from_seed((*random::<64>()?).into());
        let kem_key = kem.encapsulation_key().to_bytes().to_vec();
        let mut payload = vec![0; 1 + PSK_TAG]; // psk mode 0 and its tag
        payload.extend_from_slice(&kem_key);
        let message = write(&mut state, &payload)?;
        Ok((Self { state, kem, kem_key }, message))
    }

    /// Reads message 2.
    pub fn read(mut self, message: &[u8]) -> Result<Introduction, HandshakeError> {
        let payload = read(&mut self.state, message, SHORT_LIMIT, "message 2")?;
        let (kem_text, rest) = payload
            .split_first_chunk::<KEM_TEXT>()
            .ok_or(HandshakeError::Malformed("message 2"))?;
        let version = check_choice(rest)?;
        let secret = Zeroizing::new(self.kem.decapsulate(&(*kem_text).into()));
        self.state
            .set_psk(noise::PSK_PLACE, &*psk(&secret, &self.kem_key, kem_text))
            .map_err(write_error)?;
        Ok(Introduction { state: self.state, version })
    }
}

/// Checks that the agent chose the highest version that both support.
fn check_choice(bytes: &[u8]) -> Result<u16, HandshakeError> {
    const MALFORMED: HandshakeError = HandshakeError::Malformed("message 2");
    let (&[high, low, count], list) = bytes.split_first_chunk::<3>().ok_or(MALFORMED)?;
    if list.len() != usize::from(count) * 2 {
        return Err(MALFORMED);
    }
    let agent = versions(list);
    let chosen = u16::from_be_bytes([high, low]);
    match highest(VERSIONS, &agent) {
        Some(best) if best == chosen => Ok(chosen),
        Some(_) => Err(HandshakeError::Downgrade(chosen)),
        None => Err(HandshakeError::NoVersion { bridge: VERSIONS.to_vec(), agent }),
    }
}

fn versions(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|two| u16::from_be_bytes(*two)).collect()
}

fn highest(ours: &[u16], theirs: &[u16]) -> Option<u16> {
    ours.iter().copied().filter(|version| theirs.contains(version)).max()
}

/// The bridge, before it identifies itself.
pub struct Introduction {
    state: HandshakeState,
    version: u16,
}

impl Introduction {
    /// The version that the agent chose, the highest that both support.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The hash of the handshake so far, which the surface key signs.
    pub fn hash(&self) -> [u8; 32] {
        handshake_hash(&self.state)
    }

    /// Returns message 3 and the keys of the link.
    pub fn write(mut self, p3: &Introduce) -> Result<(Vec<u8>, LinkKeys), HandshakeError> {
        let message = write(&mut self.state, &cbor::encode(p3))?;
        Ok((message, finish(self.state)))
    }
}

/// The agent, after message 1.
pub struct Responder {
    state: HandshakeState,
    kem_key: EncapsulationKey<MlKem768>,
    kem_bytes: Vec<u8>,
    version: u16,
}

impl Responder {
    /// Reads message 1. `me` is the agent's own identity, never what the header claims.
    pub fn read(
        kn: &[u8; 32],
        me: &Peer,
        offer: &[u8],
        header_hash: &[u8; 32],
        message: &[u8],
    ) -> Result<Self, HandshakeError> {
        if !offer.len().is_multiple_of(2) {
            return Err(HandshakeError::Malformed("version offer"));
        }
        let theirs = versions(offer);
        let version = highest(VERSIONS, &theirs).ok_or_else(|| HandshakeError::NoVersion {
            bridge: theirs,
            agent: VERSIONS.to_vec(),
        })?;
        let mut state = noise::builder()
            .local_private_key(kn)
            .and_then(|builder| {
                builder.prologue(&prologue(me, offer, header_hash))?.build_responder()
            })
            .map_err(write_error)?;
        let payload = read(&mut state, message, SHORT_LIMIT, "message 1")?;
        if payload.len() != P1 || payload[..=PSK_TAG].iter().any(|&byte| byte != 0) {
            return Err(HandshakeError::Malformed("message 1"));
        }
        let kem_bytes = payload[1 + PSK_TAG..].to_vec();
        let encoded = kem_bytes.as_slice().try_into();
        let encoded = encoded.map_err(|_| HandshakeError::Malformed("message 1"))?;
        // `new` performs the modulus check of FIPS 203, section 7.2.
        let kem_key = EncapsulationKey::<MlKem768>::new(encoded)
            .map_err(|_| HandshakeError::Malformed("message 1"))?;
        Ok(Self { state, kem_key, kem_bytes, version })
    }

    /// Returns message 2.
    pub fn write(mut self) -> Result<(Vec<u8>, Listening), HandshakeError> {
        let (kem_text, secret) = self.kem_key.encapsulate_deterministic(&(*random::<32>()?).into());
        let secret = Zeroizing::new(secret);
        let mut payload = kem_text.to_vec();
        payload.extend_from_slice(&self.version.to_be_bytes());
        payload.push(u8::try_from(VERSIONS.len()).expect("few versions"));
        payload.extend(offer());
        let message = write(&mut self.state, &payload)?;
        self.state
            .set_psk(noise::PSK_PLACE, &*psk(&secret, &self.kem_bytes, &kem_text))
            .map_err(write_error)?;
        Ok((message, Listening { state: self.state }))
    }
}

/// The agent, before it knows the device.
pub struct Listening {
    state: HandshakeState,
}

impl Listening {
    /// Reads message 3, checks the device's identity in the order that matters, and returns the
    /// keys of the link.
    pub fn read(mut self, message: &[u8]) -> Result<(Claim, LinkKeys), HandshakeError> {
        let before = handshake_hash(&self.state);
        let payload = read(&mut self.state, message, LONG_LIMIT, "message 3")?;
        let proven: [u8; 32] = self
            .state
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(HandshakeError::Unauthentic)?;
        let introduce: Introduce = peer::decode(&payload, LONG_LIMIT)
            .map_err(|_| HandshakeError::Malformed("message 3"))?;
        let bundle = SignedBundle::decode_kind(&introduce.bundle, Kind::Device)?;
        if bundle.kn.0 != proven {
            return Err(HandshakeError::KeyMismatch);
        }
        Ok((Claim { bundle, introduce, handshake: before }, finish(self.state)))
    }
}

/// What a device has proven in a handshake. Whether it is authorised is decided elsewhere.
#[derive(Debug)]
pub struct Claim {
    /// The device's bundle, whose signature and Noise key have been checked.
    pub bundle: SignedBundle,
    /// The whole content of message 3.
    pub introduce: Introduce,
    handshake: [u8; 32],
}

impl Claim {
    /// The proven surface, if one was claimed.
    pub fn surface(&self) -> Option<Result<Delegation, crate::surface::BadProof>> {
        let proof = self.introduce.surface.as_ref()?;
        Some(proof.verify(&self.bundle.id, &self.bundle.kn, &self.handshake))
    }
}

/// Message 3, which identifies the bridge. Slots are never reused; 1 to 3 are for the log and
/// grants.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Introduce {
    /// The device's signed bundle.
    #[n(0)]
    pub bundle: Blob,
    /// The head of the log that the device has seen.
    #[n(1)]
    pub log_head: Option<Blob>,
    /// The chain of grants.
    #[n(2)]
    pub grants: Option<Vec<Blob>>,
    /// The freshness beacon.
    #[n(3)]
    pub beacon: Option<Blob>,
    /// The acting surface, with its proof.
    #[n(4)]
    pub surface: Option<SurfaceProof>,
    /// 16 random bytes per bridge process.
    #[n(5)]
    pub instance: Nonce,
    /// The limits of the bridge.
    #[n(6)]
    pub limits: Option<Limits>,
    /// Program and version.
    #[n(7)]
    pub build: String,
}

/// The agent's verdict: exactly one of the two.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Verdict {
    /// The device is admitted.
    #[n(0)]
    Accept(#[n(0)] Accept),
    /// The device is refused, and why.
    #[n(1)]
    Reject(#[n(0)] Failure),
}

/// The agent's message to an admitted device. Slots are never reused; 1 to 3 as in [`Introduce`].
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Accept {
    /// The agent's signed bundle.
    #[n(0)]
    pub bundle: Blob,
    /// The head of the log that the agent has seen.
    #[n(1)]
    pub log_head: Option<Blob>,
    /// The combined effect of the grants.
    #[n(2)]
    pub grants: Option<Vec<Blob>>,
    /// The freshness beacon.
    #[n(3)]
    pub beacon: Option<Blob>,
    /// The surface that the link acts as.
    #[n(4)]
    pub surface: Surface,
    /// 16 random bytes per agent process; they name the journal that answers for a request.
    #[n(5)]
    pub instance: Nonce,
    /// The limits of the agent.
    #[n(6)]
    pub limits: Option<Limits>,
    /// Program and version.
    #[n(7)]
    pub build: String,
    /// The agent's wall clock, seconds since 1970, for display and for `doctor`.
    #[cbor(n(8), decode_with = "peer::count")]
    pub time: u64,
}

/// Limits that one side announces to the other.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Limits {
    /// Concurrent streams on the link.
    #[n(0)]
    pub streams: Option<u32>,
    /// Concurrent runs; further ones queue.
    #[n(1)]
    pub runs: Option<u32>,
}

macro_rules! opaque_debug {
    ($($name:ident)*) => {$(
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )*};
}
opaque_debug! { Initiator Introduction Responder Listening }

#[cfg(test)]
mod tests;
