//! The key schedule: from one handshake to a key for each direction of each stream.
//!
//! ```text
//! RS_0   = HKDF-Extract(salt = h, ikm = k_i ‖ k_r)            h: hash of the whole handshake
//! link   = HKDF-Expand(RS_0, LP("farwire/1 link id"), 16)
//! SS     = HKDF-Expand(RS_e, LP(label) ‖ opener u8 ‖ SHA-256(header), 32)
//! TS_0^d = HKDF-Expand(SS, "dir" ‖ d u8, 32)                  d: 0 opener → peer, 1 back
//! K_n    = HKDF-Expand(TS_n, "key", 32)
//! ```
//!
//! HKDF with SHA-256 (RFC 5869). The header holds link, epoch and stream number, so that a frame of
//! one stream, link, epoch or direction never authenticates in another.

use core::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::lp;
use crate::record::RecordKey;

/// The label of an ordinary stream's keys.
const STREAM: &[u8] = b"farwire/1 stream";

/// The label of the keys with which the agent seals its verdict on a handshake.
const ACCEPT: &[u8] = b"farwire/1 accept";

/// Who opened a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opener {
    /// The bridge: even stream numbers, and handshakes.
    Bridge = 0,
    /// The agent: odd numbers, reserved in this version.
    Agent = 1,
}

/// The keys of one link. Wiped when dropped; never printed, stored or passed to another process.
pub struct LinkKeys {
    root: Zeroizing<[u8; 32]>,
    link: [u8; 16],
}

impl LinkKeys {
    /// Derives the keys from a finished handshake: its hash and the two split keys.
    pub(crate) fn new(handshake: &[u8; 32], k_i: &[u8; 32], k_r: &[u8; 32]) -> Self {
        let mut ikm = Zeroizing::new([0; 64]);
        ikm[..32].copy_from_slice(k_i);
        ikm[32..].copy_from_slice(k_r);
        let (mut prk, hkdf) = Hkdf::<Sha256>::extract(Some(handshake), &*ikm);
        let mut root = Zeroizing::new([0; 32]);
        root.copy_from_slice(&prk);
        prk.as_mut_slice().zeroize();
        let mut link = [0; 16];
        hkdf.expand(&lp::join(&[b"farwire/1 link id"]), &mut link).expect("16 bytes is in range");
        Self { root, link }
    }

    /// The id of the link. If it is zero, the link must be discarded.
    pub fn link_id(&self) -> [u8; 16] {
        self.link
    }

    /// Derives the keys of a stream with this header.
    pub fn stream(&self, opener: Opener, header_hash: &[u8; 32]) -> StreamKeys {
        self.derive(STREAM, opener, header_hash)
    }

    /// Derives the keys of the agent's verdict on the handshake with this header.
    pub fn verdict(&self, header_hash: &[u8; 32]) -> StreamKeys {
        self.derive(ACCEPT, Opener::Bridge, header_hash)
    }

    fn derive(&self, label: &[u8], opener: Opener, header_hash: &[u8; 32]) -> StreamKeys {
        let mut info = lp::join(&[label]);
        info.push(opener as u8);
        info.extend_from_slice(header_hash);
        let stream = expand(&self.root, &info);
        let direction = |d: u8| {
            let traffic = expand(&stream, &[b"dir".as_slice(), &[d]].concat());
            RecordKey::new(&expand(&traffic, b"key"))
        };
        StreamKeys { forth: direction(0), back: direction(1) }
    }
}

impl fmt::Debug for LinkKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKeys(…)")
    }
}

/// The two keys of one stream.
#[derive(Debug)]
pub struct StreamKeys {
    /// From the opener to its peer.
    pub forth: RecordKey,
    /// From the peer to the opener.
    pub back: RecordKey,
}

fn expand(secret: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::from_prk(secret)
        .expect("32 bytes are a whole key")
        .expand(info, &mut *out)
        .expect("32 bytes are in range");
    out
}
