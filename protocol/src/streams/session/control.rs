//! What can be done to a session besides typing.

use minicbor::{Decode, Encode};

use super::{Caller, Heir, Labels, Limits, Size, TypingRule};
use crate::id::Nonce;

/// Does something to a session. Answered with how it is then.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Control {
    /// Which.
    #[n(0)]
    pub session: Nonce,
    /// Who asks.
    #[n(1)]
    pub caller: Option<Caller>,
    /// What is done.
    #[n(2)]
    pub action: Action,
}

/// What can be done to a session besides typing.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Take the lease if it is free, or renew it, for so many milliseconds from now.
    #[n(0)]
    Attach(#[n(0)] u32),
    /// Let go of the lease.
    #[n(1)]
    Detach,
    /// Give the lease to somebody.
    #[n(2)]
    HandOver {
        /// To whom.
        #[n(0)]
        to: Heir,
        /// Why.
        #[n(1)]
        reason: Option<String>,
    },
    /// Take the lease from whoever has it. A surface that is not `human` names the client that it takes
    /// it from, and cannot take it from a user.
    #[n(3)]
    TakeOver {
        /// From which client.
        #[n(0)]
        from: Option<String>,
        /// Why.
        #[n(1)]
        reason: Option<String>,
        /// For so many milliseconds; as for [`Action::Attach`].
        #[n(2)]
        for_ms: u32,
    },
    /// Who may type. Users only.
    #[n(4)]
    Rule(#[n(0)] TypingRule),
    /// Give the terminal a size.
    #[n(5)]
    Resize(#[n(0)] Size),
    /// Send a signal to the program in the foreground.
    #[n(6)]
    Signal(#[n(0)] i32),
    /// Change these bounds, and leave those that are absent.
    #[n(7)]
    Limits(#[n(0)] Limits),
    /// File it under these, and leave those that are absent. Its owner does not change.
    #[n(8)]
    Label(#[n(0)] Labels),
    /// End its program, as a stop without a signal does.
    #[n(9)]
    Close,
}
