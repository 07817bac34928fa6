//! The first bytes of every stream, which are all that the relay reads and may know of it.
//! ```text
//! version u8 · class and flags u8 · rest length u16 · target [16] · link id [16]
//! · epoch u32 · sid u64 · not after u64                    56 bytes, big-endian, then `rest`
//! ```
//!
//! The relay forwards these bytes unchanged; their SHA-256 is an input to the keys of the stream,
//! so that nobody on the path can show the agent another header than the bridge wrote. On the
//! agent's leg the relay prepends a [`Route`], outside all hashes: it is for fairness, never for
//! trust.

use sha2::{Digest as _, Sha256};

use crate::id::Target;

/// The length of the fixed part.
pub const LENGTH: usize = 56;

/// The length of the route that the relay prepends on the agent's leg.
pub const ROUTE_LENGTH: usize = 4;

/// The maximum length of `rest`. On a stream of a link it is empty.
pub const REST_LIMIT: usize = 64;

/// The version of the header.
pub const VERSION: u8 = 1;

/// The opening device as the relay identifies it: an opaque number per device.
pub type Route = u32;

/// The highest priority that a stream may have. Backlog lowers it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// Handshakes and control conversations.
    Control = 0,
    /// Runs of any kind, and terminals.
    Interactive = 1,
    /// Files, forwards, and streams that asked to be bulk.
    Bulk = 2,
}

/// The fixed part of a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The maximum priority.
    pub class: Class,
    /// The agent that the stream is for.
    pub target: Target,
    /// The link; zero for a handshake.
    pub link: [u8; 16],
    /// The epoch of the link's keys; only 0 exists.
    pub epoch: u32,
    /// The stream's number: even from the bridge, zero for a handshake.
    pub sid: u64,
    /// The link time in milliseconds after which the stream must not be acted on; zero for a
    /// handshake.
    pub not_after: u64,
    /// The number of bytes that follow.
    pub rest: u16,
}

/// Why the first bytes of a stream are not a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadHeader {
    /// Another header version, or another protocol.
    #[error("header of version {0}")]
    Version(u8),
    /// A class or a flag that is not defined.
    #[error("unknown class or flag {0:#04x}")]
    Flags(u8),
    /// More bytes are announced than may follow.
    #[error("{0} bytes announced after the header")]
    Rest(u16),
    /// The header is neither a handshake's nor that of a stream of a link.
    #[error("the header is neither a handshake's nor a link's")]
    Mixed,
}

impl Header {
    /// Creates the header of a handshake with this agent, followed by `rest` bytes of version
    /// offer.
    pub const fn handshake(target: Target, rest: u16) -> Self {
        Self { class: Class::Control, target, link: [0; 16], epoch: 0, sid: 0, not_after: 0, rest }
    }

    /// Whether the stream is a handshake.
    pub fn is_handshake(&self) -> bool {
        self.link == [0; 16]
    }

    /// Encodes the header.
    pub fn encode(&self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        out[0] = VERSION;
        out[1] = self.class as u8;
        out[2..4].copy_from_slice(&self.rest.to_be_bytes());
        out[4..20].copy_from_slice(&self.target.0);
        out[20..36].copy_from_slice(&self.link);
        out[36..40].copy_from_slice(&self.epoch.to_be_bytes());
        out[40..48].copy_from_slice(&self.sid.to_be_bytes());
        out[48..56].copy_from_slice(&self.not_after.to_be_bytes());
        out
    }

    /// Decodes the fixed part.
    pub fn decode(bytes: &[u8; LENGTH]) -> Result<Self, BadHeader> {
        fn part<const N: usize>(bytes: &[u8; LENGTH], at: usize) -> [u8; N] {
            let mut out = [0; N];
            out.copy_from_slice(&bytes[at..at + N]);
            out
        }
        if bytes[0] != VERSION {
            return Err(BadHeader::Version(bytes[0]));
        }
        let class = match bytes[1] {
            0 => Class::Control,
            1 => Class::Interactive,
            2 => Class::Bulk,
            other => return Err(BadHeader::Flags(other)),
        };
        let header = Self {
            class,
            target: Target(part(bytes, 4)),
            link: part(bytes, 20),
            epoch: u32::from_be_bytes(part(bytes, 36)),
            sid: u64::from_be_bytes(part(bytes, 40)),
            not_after: u64::from_be_bytes(part(bytes, 48)),
            rest: u16::from_be_bytes(part(bytes, 2)),
        };
        if usize::from(header.rest) > REST_LIMIT {
            return Err(BadHeader::Rest(header.rest));
        }
        let bare = header == Self::handshake(header.target, header.rest);
        let in_order =
            if header.is_handshake() { bare && header.rest > 0 } else { header.rest == 0 };
        if in_order { Ok(header) } else { Err(BadHeader::Mixed) }
    }
}

/// SHA-256 of a header as it was sent, `rest` included.
pub fn hash(header: &[u8; LENGTH], rest: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(header).chain_update(rest).finalize().into()
}

/// Why a stream was reset. Anyone on the path can send any of these: a reset may cause waiting, a
/// new handshake or the same request again, but never a claim about what happened.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Reset {
    /// The header is malformed, or something else could not be parsed.
    Malformed,
    /// The relay has no such server for this device.
    UnknownServer,
    /// The server's agent is not connected.
    Offline,
    /// The server is suspended.
    Suspended,
    /// The sender is at a limit; try later.
    Overloaded,
    /// The agent has no such link.
    UnknownLink,
    /// The stream's number was used or is too old, or `not_after` has passed.
    Stale,
    /// The conversation continues in another stream.
    Moved,
    /// The opener is no longer interested.
    Cancelled,
    /// The program is shutting down.
    Closing,
    /// The bytes do not authenticate.
    Integrity,
    /// A code of a newer program.
    Other(u32),
}

impl Reset {
    /// The QUIC application error code.
    pub const fn code(self) -> u32 {
        match self {
            Self::Malformed => 1,
            Self::UnknownServer => 2,
            Self::Offline => 3,
            Self::Suspended => 4,
            Self::Overloaded => 5,
            Self::UnknownLink => 6,
            Self::Stale => 7,
            Self::Moved => 8,
            Self::Cancelled => 9,
            Self::Closing => 10,
            Self::Integrity => 11,
            Self::Other(code) => code,
        }
    }

    /// Returns the reason with this code.
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Malformed,
            2 => Self::UnknownServer,
            3 => Self::Offline,
            4 => Self::Suspended,
            5 => Self::Overloaded,
            6 => Self::UnknownLink,
            7 => Self::Stale,
            8 => Self::Moved,
            9 => Self::Cancelled,
            10 => Self::Closing,
            11 => Self::Integrity,
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_header() -> Header {
        Header {
            class: Class::Interactive,
            target: Target([0xaa; 16]),
            link: [0xbb; 16],
            epoch: 0,
            sid: 6,
            not_after: 30_000,
            rest: 0,
        }
    }

    #[test]
    fn the_bytes_of_a_link_header() {
        let bytes = link_header().encode();
        expect_test::expect![[
            "01010000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0000000000000000000000060000000000007530"
        ]]
        .assert_eq(&data_encoding::HEXLOWER.encode(&bytes));
        assert_eq!(Header::decode(&bytes).unwrap(), link_header());
    }

    #[test]
    fn every_defined_bit_counts_and_every_undefined_one_is_refused() {
        let good = link_header().encode();
        for bit in 0..LENGTH * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(header) = Header::decode(&bad) {
                assert_ne!(header, link_header(), "bit {bit} is ignored");
                assert_ne!(hash(&bad, &[]), hash(&good, &[]));
            }
        }
        let mut flagged = good;
        flagged[1] |= 0x80;
        assert_eq!(Header::decode(&flagged), Err(BadHeader::Flags(0x81)));
    }

    #[test]
    fn a_handshake_is_bare_and_a_link_stream_has_no_rest() {
        let handshake = Header::handshake(Target([1; 16]), 2);
        assert_eq!(Header::decode(&handshake.encode()).unwrap(), handshake);
        for bad in [
            Header { sid: 2, ..handshake },
            Header { not_after: 1, ..handshake },
            Header { rest: 0, ..handshake },
            Header { rest: 2, ..link_header() },
        ] {
            assert_eq!(Header::decode(&bad.encode()), Err(BadHeader::Mixed));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic_and_come_back_the_same() {
        bolero::check!().with_type::<[u8; 32]>().for_each(|part| {
            let mut bytes = [1; LENGTH];
            bytes[..32].copy_from_slice(part);
            if let Ok(header) = Header::decode(&bytes) {
                assert_eq!(header.encode(), bytes);
            }
        });
    }
}
