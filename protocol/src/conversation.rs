//! Conversations, which outlive their streams.
//!
//! A stream never moves; a conversation does. The opener's first frame is an [`Open`]: it creates a
//! conversation or resumes one in a new stream, with a rising generation and the offsets that the
//! opener has. Each direction ends with an [`End`] in a FINAL frame, which states the final offset
//! of every channel; a direction without it was truncated, whatever the transport says.
//!
//! Bytes travel in DATA frames by channel, without offsets: both sides count.

use minicbor::{Decode, Encode};

use crate::cbor::{self, Blob};
use crate::failure::Failure;
use crate::frame;
use crate::id::Nonce;
use crate::peer;

/// The maximum length of a request, over all its frames.
pub const CREATE_LIMIT: usize = 128 * 1024;

/// The part of a long request that goes into the first frame.
pub const CREATE_FIRST: usize = 8 * 1024;

/// The approximate maximum length of the message, and of the hint, of a failure that ends a
/// direction.
pub const FAILURE_TEXT: usize = 4 * 1024;

/// The maximum offset.
pub const OFFSET_LIMIT: u64 = 1 << 63;

/// The first frame of a stream.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Open {
    /// The number of the stream's kind: see [`crate::streams::Kind`].
    #[n(0)]
    pub kind: u16,
    /// The conversation, chosen at random by the opener.
    #[n(1)]
    pub conversation: Nonce,
    /// 0 when the conversation is created; higher than ever before when it is resumed.
    #[n(2)]
    pub generation: u32,
    /// The request of this kind. When absent, the conversation is resumed.
    #[n(3)]
    pub create: Option<Blob>,
    /// When resuming: how far the opener has received each channel.
    #[n(4)]
    pub have: Option<Vec<Offset>>,
    /// How many more bytes of `create` follow, in frames of type OPEN only, at most
    /// [`CREATE_LIMIT`] altogether.
    #[n(5)]
    pub more: Option<u32>,
}

/// A position in a channel.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Offset {
    /// The channel.
    #[n(0)]
    pub channel: u8,
    /// The number of bytes before it.
    #[cbor(n(1), decode_with = "peer::count")]
    pub offset: u64,
}

/// The payload of a FINAL frame: where this direction ended.
#[derive(Clone, Debug, Default, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct End {
    /// The final offset of each channel that carried bytes.
    #[n(0)]
    pub ends: Vec<Offset>,
    /// Why the direction failed, if it did.
    #[n(1)]
    pub failure: Option<Failure>,
    /// Data of the kind, such as how a program ended.
    #[n(2)]
    pub body: Option<Blob>,
}

impl End {
    /// Creates an end with a failure.
    ///
    /// Its texts are cut to [`FAILURE_TEXT`], so that it fits one frame whatever they quote.
    pub fn from_failure(mut failure: Failure) -> Self {
        cut(&mut failure.message);
        if let Some(hint) = &mut failure.hint {
            cut(hint);
        }
        Self { failure: Some(failure), ..Self::default() }
    }
}

/// Cuts a text to [`FAILURE_TEXT`], at a character boundary.
fn cut(text: &mut String) {
    if text.len() > FAILURE_TEXT {
        text.truncate(text.floor_char_boundary(FAILURE_TEXT));
        text.push('…');
    }
}

/// Encodes a message.
///
/// It may exceed a frame if it contains data of a peer or a program: the writer of a sealed stream
/// then sends a failure instead. A caller that builds a list limits it by bytes.
pub fn message<T: Encode<()>>(value: &T) -> Vec<u8> {
    cbor::encode(value)
}

/// Decodes the message of one frame and sanitises its texts (see [`peer`]).
pub fn read<T: for<'b> Decode<'b, ()>>(payload: &[u8]) -> Result<T, cbor::Error> {
    peer::decode(payload, frame::PAYLOAD)
}

/// Decodes a request of one frame whose texts are patterns or names that must not be altered. The
/// caller checks them, and shows them to nobody.
pub fn read_exact<'b, T: Decode<'b, ()>>(payload: &'b [u8]) -> Result<T, cbor::Error> {
    cbor::decode(payload, frame::PAYLOAD)
}

/// Counts the bytes of up to 16 channels, and checks an [`End`] against the count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts([u64; 16]);

/// The peer's end does not match the received bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadEnd {
    /// Fewer bytes arrived than were sent.
    #[error("channel {0} ended early")]
    Short(u8),
    /// More bytes arrived than were sent, or an offset exceeds the limit.
    #[error("channel {0} ended before its bytes")]
    Long(u8),
}

impl Counts {
    /// Counts bytes of a channel. Returns `None` if the count exceeds the limit of offsets.
    #[must_use]
    pub fn add(&mut self, channel: u8, bytes: usize) -> Option<()> {
        let count = self.0.get_mut(usize::from(channel))?;
        let sum = count.checked_add(u64::try_from(bytes).ok()?)?;
        *count = sum;
        (sum < OFFSET_LIMIT).then_some(())
    }

    /// The byte count of this channel.
    pub fn get(&self, channel: u8) -> u64 {
        self.0.get(usize::from(channel)).copied().unwrap_or(0)
    }

    /// Sets a channel to an offset, when a conversation is resumed.
    pub fn set(&mut self, channel: u8, offset: u64) {
        if let Some(count) = self.0.get_mut(usize::from(channel)) {
            *count = offset;
        }
    }

    /// Lists all channels that carried bytes.
    pub fn offsets(&self) -> Vec<Offset> {
        let channels = self.0.iter().zip(0_u8..).filter(|(offset, _)| **offset > 0);
        channels.map(|(&offset, channel)| Offset { channel, offset }).collect()
    }

    /// Checks that exactly these ends were reached.
    pub fn check(&self, ends: &[Offset]) -> Result<(), BadEnd> {
        let mut said = Self::default();
        for end in ends {
            if end.channel > 15 || end.offset >= OFFSET_LIMIT {
                return Err(BadEnd::Long(end.channel));
            }
            said.set(end.channel, end.offset);
        }
        for (channel, (count, said)) in (0_u8..).zip(self.0.iter().zip(said.0)) {
            match (*count).cmp(&said) {
                core::cmp::Ordering::Less => return Err(BadEnd::Short(channel)),
                core::cmp::Ordering::Greater => return Err(BadEnd::Long(channel)),
                core::cmp::Ordering::Equal => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_must_fit_every_channel() {
        let mut counts = Counts::default();
        counts.add(1, 10).unwrap();
        counts.add(2, 5).unwrap();
        assert_eq!(counts.check(&counts.offsets()), Ok(()));
        let end = |channel, offset| Offset { channel, offset };
        assert_eq!(counts.check(&[end(1, 11), end(2, 5)]), Err(BadEnd::Short(1)));
        assert_eq!(counts.check(&[end(1, 10)]), Err(BadEnd::Long(2)));
        assert_eq!(counts.check(&[end(16, 0)]), Err(BadEnd::Long(16)));
        assert_eq!(counts.check(&[end(1, u64::MAX)]), Err(BadEnd::Long(1)));
    }

    #[test]
    fn a_failure_fits_one_frame_whatever_it_quotes() {
        let failure = Failure::new(crate::failure::Kind::Io, "ü".repeat(20_000))
            .with_hint("x".repeat(20_000));
        let end = message(&End::from_failure(failure));
        assert!(end.len() < frame::PAYLOAD, "{}", end.len());
        let read = read::<End>(&end).unwrap().failure.unwrap();
        assert!(read.message.contains("ü…") && read.hint.is_none(), "{read:?}");
        assert!(read.message.len() <= 2 * FAILURE_TEXT + 16, "{}", read.message.len());
    }

    #[test]
    fn any_payload_is_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let _ = read::<Open>(bytes);
            if let Ok(end) = read::<End>(bytes) {
                let _ = Counts::default().check(&end.ends);
            }
        });
    }
}
