//! What happened to a session, and who did it.

use minicbor::{Decode, Encode};

use super::{Actor, Caller, Size, Transfer, TypingRule};
use crate::cbor::Blob;
use crate::id::Nonce;

/// Asks what happened to a session.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Events {
    /// Which.
    #[n(0)]
    pub session: Nonce,
    /// Who asks.
    #[n(1)]
    pub caller: Option<Caller>,
    /// From this number on.
    #[cbor(n(2), decode_with = "crate::peer::clamped")]
    pub from: u64,
    /// At most so many.
    #[n(3)]
    pub limit: u32,
    /// If there is none yet, wait for so many milliseconds for one.
    #[cbor(n(4), decode_with = "crate::peer::clamped")]
    pub wait_ms: u64,
    /// And no longer than until the log reaches beyond this offset.
    #[cbor(n(5), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub offset: Option<u64>,
}

/// Something that happened to a session.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Event {
    /// Counted from 1 in each session.
    #[cbor(n(0), decode_with = "crate::peer::count")]
    pub number: u64,
    /// When, in milliseconds since 1970 by the server's clock.
    #[cbor(n(1), decode_with = "crate::peer::count")]
    pub at_ms: u64,
    /// The end of the log then.
    #[cbor(n(2), decode_with = "crate::peer::count")]
    pub offset: u64,
    /// Who did it, if it was somebody.
    #[n(3)]
    pub actor: Option<Actor>,
    /// What; absent if it is of a newer agent's.
    #[n(4)]
    pub what: Option<What>,
}

/// What happened.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// It was opened.
    #[n(0)]
    Opened,
    /// Something was typed.
    #[n(1)]
    Typed {
        /// The beginning of it; absent where the terminal did not show what is typed, and for secrets.
        #[n(0)]
        text: Option<Blob>,
        /// How many bytes.
        #[cbor(n(1), decode_with = "crate::peer::count")]
        length: u64,
    },
    /// Its terminal has another size.
    #[n(2)]
    Resized(#[n(0)] Size),
    /// Somebody attached; to look only, if so.
    #[n(3)]
    Joined(#[n(0)] bool),
    /// Somebody who was attached left.
    #[n(4)]
    Left,
    /// A lease changed.
    #[n(5)]
    Leased(#[n(0)] Transfer),
    /// Others may type now.
    #[n(6)]
    Rule(#[n(0)] TypingRule),
    /// The program in the foreground was sent a signal.
    #[n(7)]
    Signalled(#[cbor(n(0), decode_with = "crate::peer::signal")] i32),
    /// So many bytes were not typed because somebody else may.
    #[n(8)]
    Refused(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
    /// Another agent process took it over; what happened in between was not noted.
    #[n(9)]
    Recovered,
    /// It is filed or bounded in another way.
    #[n(10)]
    Changed,
    /// It was told to end.
    #[n(11)]
    Closed,
    /// Its program ended.
    #[n(12)]
    Ended,
}
