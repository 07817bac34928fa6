//! Conversations: what outlives a stream.
//!
//! A stream never moves; a conversation does. The opener's first frame is an [`Open`]: it creates a
//! conversation or takes one up in a new stream, with a generation that only rises and the offsets
//! that the opener has. Each direction ends with an [`End`] in a FINAL frame, which says where every
//! channel ended; a direction without it was cut, whatever the transport says.
//!
//! Bytes travel in DATA frames by channel, without offsets: both sides count.

use minicbor::{Decode, Encode};

use crate::cbor::{self, Blob};
use crate::failure::Failure;
use crate::frame;
use crate::id::Nonce;
use crate::peer;

/// No request is longer, over all its frames.
pub const CREATE_LIMIT: usize = 128 * 1024;

/// The part of a long request that goes into the first frame.
pub const CREATE_FIRST: usize = 8 * 1024;

/// The message and the hint of a failure that ends a direction have at most about so many bytes each.
pub const FAILURE_TEXT: usize = 4 * 1024;

/// No offset is higher.
pub const OFFSET_LIMIT: u64 = 1 << 63;

/// The first frame of a stream.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Open {
    /// The number of the kind of stream: see [`crate::streams::Kind`].
    #[n(0)]
    pub kind: u16,
    /// The conversation, chosen at random by the opener.
    #[n(1)]
    pub conversation: Nonce,
    /// 0 when it is created; higher than ever before when it is taken up.
    #[n(2)]
    pub generation: u32,
    /// The request of this kind, when it is created. When absent, the conversation is taken up.
    #[n(3)]
    pub create: Option<Blob>,
    /// How far the opener has received each channel, when it is taken up.
    #[n(4)]
    pub have: Option<Vec<Offset>>,
    /// So many more bytes of `create` follow, in frames of type OPEN and in no other, at most
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
    /// How many bytes are before it.
    #[cbor(n(1), decode_with = "peer::count")]
    pub offset: u64,
}

/// The payload of a FINAL frame: where this direction ended.
#[derive(Clone, Debug, Default, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct End {
    /// Where each channel that had bytes ended.
    #[n(0)]
    pub ends: Vec<Offset>,
    /// Why it failed, where it did.
    #[n(1)]
    pub failure: Option<Failure>,
    /// What the kind adds, such as how a program ended.
    #[n(2)]
    pub body: Option<Blob>,
}

impl End {
    /// An end because of a failure.
    ///
    /// Its texts are cut to [`FAILURE_TEXT`], so that it fits one frame whatever they quote.
    pub fn failed(mut failure: Failure) -> Self {
        cut(&mut failure.message);
        if let Some(hint) = &mut failure.hint {
            cut(hint);
        }
        Self { failure: Some(failure), ..Self::default() }
    }
}

/// Cuts a text to [`FAILURE_TEXT`], between two characters.
fn cut(text: &mut String) {
    if text.len() > FAILURE_TEXT {
        text.truncate(text.floor_char_boundary(FAILURE_TEXT));
        text.push('…');
    }
}

/// The bytes of a message.
///
/// They may be more than a frame takes, where what a peer or a program has said is part of the message: the
/// writer of a sealed stream then sends a failure in its place. Whoever makes a list cuts it by bytes.
pub fn message<T: Encode<()>>(value: &T) -> Vec<u8> {
    cbor::encode(value)
}

/// Reads the message of one frame; its texts are made harmless (see [`peer`]).
pub fn read<T: for<'b> Decode<'b, ()>>(payload: &[u8]) -> Result<T, cbor::Error> {
    peer::decode(payload, frame::PAYLOAD)
}

/// Reads a request of one frame whose texts are patterns or names that must stay as they are. The reader checks
/// them, and shows them to nobody.
pub fn read_exact<'b, T: Decode<'b, ()>>(payload: &'b [u8]) -> Result<T, cbor::Error> {
    cbor::decode(payload, frame::PAYLOAD)
}

/// Counts the bytes of up to 16 channels, and checks an [`End`] against the count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts([u64; 16]);

/// The peer's end does not fit the bytes that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadEnd {
    /// Fewer bytes came than were sent.
    #[error("channel {0} ended early")]
    Short(u8),
    /// More bytes came than were sent, or an offset beyond all limits.
    #[error("channel {0} ended before its bytes")]
    Long(u8),
}

impl Counts {
    /// Counts bytes of a channel. `None` when it passes the limit of offsets.
    #[must_use]
    pub fn add(&mut self, channel: u8, bytes: usize) -> Option<()> {
        let count = self.0.get_mut(usize::from(channel))?;
        let sum = count.checked_add(u64::try_from(bytes).ok()?)?;
        *count = sum;
        (sum < OFFSET_LIMIT).then_some(())
    }

    /// How many bytes of this channel there were.
    pub fn get(&self, channel: u8) -> u64 {
        self.0.get(usize::from(channel)).copied().unwrap_or(0)
    }

    /// Puts a channel to an offset, when a conversation is taken up.
    pub fn set(&mut self, channel: u8, offset: u64) {
        if let Some(count) = self.0.get_mut(usize::from(channel)) {
            *count = offset;
        }
    }

    /// All channels that had bytes.
    pub fn offsets(&self) -> Vec<Offset> {
        let channels = self.0.iter().zip(0_u8..).filter(|(offset, _)| **offset > 0);
        channels.map(|(&offset, channel)| Offset { channel, offset }).collect()
    }

    /// Whether exactly these ends were reached.
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
        let end = message(&End::failed(failure));
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
