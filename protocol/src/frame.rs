//! Sealed frames, in which everything inside a stream travels.
//!
//! ```text
//! ct_len u16 · ciphertext [ct_len]            the length is authenticated with the ciphertext
//! inside: type u8 · flags u8 · plen u16 · payload [plen] · zero padding · (tag)
//! flags:  bit 0 FINAL · bits 4 to 7 the channel of DATA
//! ```
//!
//! The counter is implicit, so that a frame that was dropped, repeated or moved does not
//! authenticate. A direction has ended if and only if its FINAL frame was authenticated; nothing
//! follows it. Not here: the content of the payloads (`conversation`, `streams`).

use core::ops::Range;

use crate::failure::{Failure, Kind as FailureKind};
use crate::record::{RecordKey, TAG};

/// The maximum length of a payload.
pub const PAYLOAD: usize = 16_384;

/// The length of the prefix of each frame.
pub const LENGTH: usize = 2;

/// Type, flags and payload length, inside.
const INNER: usize = 4;

/// The maximum length of a frame with its prefix.
pub const MAX: usize = LENGTH + INNER + PAYLOAD + TAG;

/// How many bytes a frame adds to its payload.
pub const OVERHEAD: usize = LENGTH + INNER + TAG;

const FINAL: u8 = 1;

/// The type of a frame. 4 to 9 are reserved: WINDOW, KEYUPD, EPOCH, CLOSE, TIME, MORE_AT_BULK.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The opener's first frame, which names the conversation.
    Open = 1,
    /// Bytes of a channel.
    Data = 2,
    /// A message of the conversation.
    Control = 3,
}

/// A frame to be sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain<'a> {
    /// The type.
    pub kind: Kind,
    /// The channel of [`Kind::Data`], 0 to 15; 0 otherwise.
    pub channel: u8,
    /// Whether this is the last frame of this direction (FINAL).
    pub last: bool,
    /// The payload, at most [`PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

/// A frame that has been authenticated; its payload is in the buffer that was decrypted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opened {
    /// The type.
    pub kind: Kind,
    /// The channel of [`Kind::Data`].
    pub channel: u8,
    /// Whether this was the last frame of this direction (FINAL).
    pub last: bool,
    /// The range of the payload, from the start of the ciphertext.
    pub payload: Range<usize>,
}

/// Why a frame was refused. Each of these ends the stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadFrame {
    /// The length is not valid for a frame.
    #[error("a frame cannot have a length of {0} bytes")]
    Length(u16),
    /// The frame was altered, moved or repeated, or belongs to another stream.
    #[error("the frame does not authenticate")]
    Tampered,
    /// The frame is authentic, but violates the protocol.
    #[error("{0}")]
    Violation(&'static str),
}

impl From<BadFrame> for Failure {
    fn from(bad: BadFrame) -> Self {
        let kind = match bad {
            BadFrame::Length(_) | BadFrame::Tampered => FailureKind::IntegrityFailure,
            BadFrame::Violation(_) => FailureKind::ProtocolViolation,
        };
        Self::new(kind, bad.to_string())
    }
}

/// Returns the length of the ciphertext after this prefix, and checks it before anything is read or
/// allocated.
pub fn ciphertext_length(prefix: [u8; LENGTH]) -> Result<usize, BadFrame> {
    let length = u16::from_be_bytes(prefix);
    if (INNER + TAG..=INNER + PAYLOAD + TAG).contains(&usize::from(length)) {
        Ok(usize::from(length))
    } else {
        Err(BadFrame::Length(length))
    }
}

/// Seals the frames of one direction, in order.
#[derive(Debug)]
pub struct Sealer {
    key: RecordKey,
    counter: u64,
    ended: bool,
}

impl Sealer {
    /// Starts a direction.
    pub fn new(key: RecordKey) -> Self {
        Self { key, counter: 0, ended: false }
    }

    /// Appends the sealed frame to `out`.
    ///
    /// # Panics
    ///
    /// If the payload is longer than [`PAYLOAD`], the channel is above 15, or the direction has
    /// ended: these are bugs of ours, which a peer cannot cause.
    pub fn seal(&mut self, frame: Plain<'_>, out: &mut Vec<u8>) {
        assert!(!self.ended, "nothing follows FINAL");
        assert!(frame.channel < 16 && (frame.kind == Kind::Data || frame.channel == 0));
        let plen = u16::try_from(frame.payload.len()).ok().filter(|&n| usize::from(n) <= PAYLOAD);
        let plen = plen.expect("callers cut payloads to their limit");
        let ct_len = u16::try_from(INNER + frame.payload.len() + TAG).expect("checked with plen");
        let prefix = ct_len.to_be_bytes();
        out.reserve(OVERHEAD + frame.payload.len());
        out.extend_from_slice(&prefix);
        let start = out.len();
        out.extend_from_slice(&[frame.kind as u8, u8::from(frame.last) | frame.channel << 4]);
        out.extend_from_slice(&plen.to_be_bytes());
        out.extend_from_slice(frame.payload);
        let tag = self.key.seal(self.counter, &prefix, &mut out[start..]);
        out.extend_from_slice(&tag);
        self.counter = self.counter.checked_add(1).expect("2^64 frames are never reached");
        self.ended = frame.last;
    }

    /// Whether FINAL has been sealed.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

/// Opens the frames of one direction, in order.
#[derive(Debug)]
pub struct Opener {
    key: RecordKey,
    counter: u64,
    ended: bool,
}

impl Opener {
    /// Starts a direction.
    pub fn new(key: RecordKey) -> Self {
        Self { key, counter: 0, ended: false }
    }

    /// Decrypts the ciphertext that followed `prefix`, in place.
    pub fn open(&mut self, prefix: [u8; LENGTH], text: &mut [u8]) -> Result<Opened, BadFrame> {
        if self.ended {
            return Err(BadFrame::Violation("a frame after FINAL"));
        }
        self.key.open(self.counter, &prefix, text).map_err(|_| BadFrame::Tampered)?;
        self.counter = self.counter.checked_add(1).ok_or(BadFrame::Violation("too many frames"))?;
        let plain = &text[..text.len() - TAG];
        let Some((&[kind, flags, high, low], rest)) = plain.split_first_chunk::<INNER>() else {
            return Err(BadFrame::Violation("a frame without its header"));
        };
        let plen = usize::from(u16::from_be_bytes([high, low]));
        if plen > rest.len() || rest[plen..].iter().any(|&byte| byte != 0) {
            return Err(BadFrame::Violation("a frame with wrong padding"));
        }
        let kind = match kind {
            1 => Kind::Open,
            2 => Kind::Data,
            3 => Kind::Control,
            _ => return Err(BadFrame::Violation("a frame of unknown type")),
        };
        let (channel, last) = (flags >> 4, flags & FINAL != 0);
        let odd = flags & 0x0e != 0 || (channel != 0 && kind != Kind::Data);
        if odd || (last && kind != Kind::Control) {
            return Err(BadFrame::Violation("a frame with unknown flags"));
        }
        self.ended = last;
        Ok(Opened { kind, channel, last, payload: INNER..INNER + plen })
    }

    /// Whether FINAL has been opened.
    pub fn has_ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Sealer, Opener) {
        (Sealer::new(RecordKey::new(&[1; 32])), Opener::new(RecordKey::new(&[1; 32])))
    }

    fn data(payload: &[u8]) -> Plain<'_> {
        Plain { kind: Kind::Data, channel: 2, last: false, payload }
    }

    fn split(bytes: &mut [u8]) -> ([u8; LENGTH], &mut [u8]) {
        let (prefix, text) = bytes.split_first_chunk_mut::<LENGTH>().unwrap();
        (*prefix, text)
    }

    fn open(opener: &mut Opener, mut bytes: Vec<u8>) -> Result<Vec<u8>, BadFrame> {
        let (prefix, text) = split(&mut bytes);
        assert_eq!(ciphertext_length(prefix)?, text.len());
        let opened = opener.open(prefix, text)?;
        Ok(text[opened.payload].to_vec())
    }

    fn seal(sealer: &mut Sealer, frame: Plain<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(frame, &mut out);
        out
    }

    #[test]
    fn frames_open_in_their_order_and_in_no_other() {
        let (mut sealer, mut opener) = pair();
        let frames: Vec<_> = (0..3).map(|n| seal(&mut sealer, data(&[n]))).collect();
        assert_eq!(open(&mut opener, frames[0].clone()).unwrap(), [0]);
        assert_eq!(open(&mut opener, frames[2].clone()), Err(BadFrame::Tampered), "a gap");
        assert_eq!(open(&mut opener, frames[0].clone()), Err(BadFrame::Tampered), "a repetition");
        assert_eq!(open(&mut opener, frames[1].clone()).unwrap(), [1]);
    }

    #[test]
    fn the_largest_frame_fits_and_longer_ones_are_refused_unread() {
        let (mut sealer, mut opener) = pair();
        let bytes = seal(&mut sealer, data(&[9; PAYLOAD]));
        assert_eq!(bytes.len(), MAX);
        assert_eq!(open(&mut opener, bytes).unwrap().len(), PAYLOAD);
        for bad in [0, 16, 19, 16_405, u16::MAX] {
            assert_eq!(ciphertext_length(bad.to_be_bytes()), Err(BadFrame::Length(bad)));
        }
        assert!(ciphertext_length(20_u16.to_be_bytes()).is_ok());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (mut sealer, _) = pair();
        let good = seal(&mut sealer, data(b"payload"));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (prefix, text) = split(&mut bad);
            assert!(pair().1.open(prefix, text).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn nothing_follows_final() {
        let (mut sealer, mut opener) = pair();
        let end = Plain { kind: Kind::Control, channel: 0, last: true, payload: b"" };
        assert!(open(&mut opener, seal(&mut sealer, end)).is_ok());
        assert!(opener.has_ended() && sealer.has_ended());
        let mut another = Sealer { counter: 1, ..pair().0 };
        let late = seal(&mut another, data(b"late"));
        assert!(matches!(open(&mut opener, late), Err(BadFrame::Violation(_))));
    }

    /// What an authenticated but wrong peer could send.
    #[test]
    fn broken_rules_are_named() {
        for inner in [
            &[2, 0, 0, 9, 0][..], // more payload announced than there is
            &[2, 0, 0, 1, 7, 1],  // padding that is not zero
            &[9, 0, 0, 0],        // an unknown type
            &[2, 2, 0, 0],        // an unknown flag
            &[2, 1, 0, 0],        // FINAL on data
            &[3, 0x10, 0, 0],     // a channel on a message
        ] {
            let ct_len = u16::try_from(inner.len() + TAG).unwrap();
            let prefix = ct_len.to_be_bytes();
            let mut text = inner.to_vec();
            let tag = RecordKey::new(&[1; 32]).seal(0, &prefix, &mut text);
            text.extend_from_slice(&tag);
            let refused = pair().1.open(prefix, &mut text);
            assert!(matches!(refused, Err(BadFrame::Violation(_))), "{inner:?}: {refused:?}");
        }
    }

    #[test]
    fn any_plaintext_is_read_without_a_panic() {
        bolero::check!().for_each(|inner: &[u8]| {
            let mut text = inner.to_vec();
            let tag = RecordKey::new(&[1; 32]).seal(0, &[0, 0], &mut text);
            text.extend_from_slice(&tag);
            let _ = pair().1.open([0, 0], &mut text);
        });
    }
}
