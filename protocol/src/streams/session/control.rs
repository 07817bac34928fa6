//! The actions on a session other than typing.

use minicbor::{Decode, Encode};

use super::{Caller, Heir, Labels, Limits, Size, TypingRule};
use crate::id::Nonce;

/// Does something to a session. Answered with its resulting status.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Control {
    /// The session.
    #[n(0)]
    pub session: Nonce,
    /// Who asks.
    #[n(1)]
    pub caller: Option<Caller>,
    /// The action.
    #[n(2)]
    pub action: Action,
}

/// The actions on a session other than typing.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Take the lease if it is free, or renew it, for this many milliseconds from now.
    #[n(0)]
    Acquire(#[n(0)] u32),
    /// Release the lease.
    #[n(1)]
    Release,
    /// Give the lease to another actor.
    #[n(2)]
    HandOver {
        /// The receiver.
        #[n(0)]
        to: Heir,
        /// The reason.
        #[n(1)]
        reason: Option<String>,
    },
    /// Take the lease from its holder. A surface that is not `human` must name the client that it
    /// takes the lease from, and cannot take it from a user.
    #[n(3)]
    TakeOver {
        /// The client that holds it.
        #[n(0)]
        from: Option<String>,
        /// The reason.
        #[n(1)]
        reason: Option<String>,
        /// The lifetime in milliseconds, as for [`Action::Acquire`].
        #[n(2)]
        for_ms: u32,
    },
    /// Set the typing rule. Users only.
    #[n(4)]
    Rule(#[n(0)] TypingRule),
    /// Resize the terminal.
    #[n(5)]
    Resize(#[n(0)] Size),
    /// Send a signal to the program in the foreground.
    #[n(6)]
    Signal(#[n(0)] i32),
    /// Change these limits; absent ones stay unchanged.
    #[n(7)]
    Limits(#[n(0)] Limits),
    /// Change these labels; absent ones stay unchanged. The owner does not change.
    #[n(8)]
    Label(#[n(0)] Labels),
    /// End its program, as a stop without a signal does.
    #[n(9)]
    Close,
}
