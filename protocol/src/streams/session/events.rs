//! The events of a session, and their actors.

use minicbor::{Decode, Encode};

use super::{Actor, Caller, Size, Transfer, TypingRule};
use crate::cbor::Blob;
use crate::id::Nonce;

/// Lists the events of a session.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Events {
    /// The session.
    #[n(0)]
    pub session: Nonce,
    /// Who asks.
    #[n(1)]
    pub caller: Option<Caller>,
    /// The first event number.
    #[cbor(n(2), decode_with = "crate::peer::clamped")]
    pub from: u64,
    /// The maximum number of events.
    #[n(3)]
    pub limit: u32,
    /// If there is no event yet, wait for one for this many milliseconds.
    #[cbor(n(4), decode_with = "crate::peer::clamped")]
    pub wait_ms: u64,
    /// Wait only until the log extends beyond this offset.
    #[cbor(n(5), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub offset: Option<u64>,
}

/// An event of a session.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Event {
    /// Counted from 1 in each session.
    #[cbor(n(0), decode_with = "crate::peer::count")]
    pub number: u64,
    /// When it happened, in milliseconds since 1970 by the server's clock.
    #[cbor(n(1), decode_with = "crate::peer::count")]
    pub at_ms: u64,
    /// The end of the log at that moment.
    #[cbor(n(2), decode_with = "crate::peer::count")]
    pub offset: u64,
    /// The actor, if there was one.
    #[n(3)]
    pub actor: Option<Actor>,
    /// What happened; absent if only a newer agent knows the kind of event.
    #[n(4)]
    pub what: Option<What>,
}

/// What happened.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// The session was opened.
    #[n(0)]
    Opened,
    /// Input was typed.
    #[n(1)]
    Typed {
        /// The beginning of the input; absent where the terminal did not echo it, and for secrets.
        #[n(0)]
        text: Option<Blob>,
        /// The length of the input, in bytes.
        #[cbor(n(1), decode_with = "crate::peer::count")]
        length: u64,
    },
    /// The terminal was resized.
    #[n(2)]
    Resized(#[n(0)] Size),
    /// A client attached; the flag says whether read-only.
    #[n(3)]
    Joined(#[n(0)] bool),
    /// An attached client left.
    #[n(4)]
    Left,
    /// A lease changed.
    #[n(5)]
    Leased(#[n(0)] Transfer),
    /// The typing rule changed.
    #[n(6)]
    Rule(#[n(0)] TypingRule),
    /// A signal was sent to the program in the foreground.
    #[n(7)]
    Signalled(#[cbor(n(0), decode_with = "crate::peer::signal")] i32),
    /// This many bytes were refused because another actor may type.
    #[n(8)]
    Refused(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
    /// Another agent process took the session over; events in between were not recorded.
    #[n(9)]
    Recovered,
    /// Its labels or limits changed.
    #[n(10)]
    Changed,
    /// It was told to end.
    #[n(11)]
    Closed,
    /// Its program ended.
    #[n(12)]
    Ended,
}
