//! CBOR at our trust boundaries: a limit before anything is parsed, and no trailing bytes.
//!
//! Messages are maps with explicit numbers (`#[cbor(map)]`, `#[n(…)]`): an unknown field is
//! skipped, a missing one is `None`. Numbers are never reused; retired ones stay, marked.

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Encode};

/// Why bytes are not the expected message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The message exceeds its limit.
    #[error("message of {length} bytes, at most {limit} are allowed")]
    TooLong {
        /// The length of the message.
        length: usize,
        /// The maximum length.
        limit: usize,
    },
    /// Bytes follow the message.
    #[error("{0} bytes follow the message")]
    Tail(usize),
    /// The bytes are not CBOR, or not this message.
    #[error("malformed message")]
    Malformed(#[from] DecodeError),
}

/// Decodes one message of at most `limit` bytes that must fill `bytes` completely.
pub fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8], limit: usize) -> Result<T, Error> {
    if bytes.len() > limit {
        return Err(Error::TooLong { length: bytes.len(), limit });
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode()?;
    match bytes.len() - decoder.position() {
        0 => Ok(value),
        tail => Err(Error::Tail(tail)),
    }
}

/// Encodes a message. Writing to memory cannot fail.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("a vector takes whatever is written to it")
}

/// Bytes of any length, as a CBOR byte string.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Blob(pub Vec<u8>);

impl core::ops::Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Into<Vec<u8>>> From<T> for Blob {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl<C> Encode<C> for Blob {
    fn encode<W: Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Blob {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        d.bytes().map(|bytes| Self(bytes.to_vec()))
    }
}

/// Declares a type for a fixed number of bytes, a CBOR byte string on the wire.
macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// The number of bytes.
            pub const LENGTH: usize = $length;

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({})", stringify!($name), data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                bytes.try_into().map(Self).map_err(|_| {
                    minicbor::decode::Error::message(concat!(
                        stringify!($name), " must have ", $length, " bytes"
                    ))
                })
            }
        }
    };
}
pub(crate) use fixed_bytes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_and_an_overlong_message_are_refused() {
        assert!(matches!(decode::<u8>(&[1, 2], 9), Err(Error::Tail(1))));
        assert!(matches!(decode::<u8>(&[1], 0), Err(Error::TooLong { .. })));
        assert_eq!(decode::<u8>(&[1], 9).unwrap(), 1);
    }
}
