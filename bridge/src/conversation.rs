//! One way to carry a request: what follows when something goes wrong on its way.
//!
//! A request goes out on a stream, and the stream can break in many ways. [`Fault`] says in which,
//! and by whose word. [`RequestProgress`] says how far the request has come. [`next`] is the one
//! table that decides from both what follows. [`carry()`] is the one loop that acts on it: runs,
//! sessions, questions and files say how they travel over one stream ([`Carried`]) and leave the
//! rest to it.
//! [`Attempts`] has the deadline and the waiting. A transfer, which is many requests, goes on as
//! its [`Persistence`] says. Nobody decides by the kind of a failure, which is text for people.
//!
//! # Invariants
//!
//! - Whoever stands between us and the agent can reset, cut, damage and hold back whatever they
//!   like, with every code. Nothing of that is evidence about a request that may have been sent: it
//!   is asked again under the same id, or its outcome is unknown.
//! - Only what the agent has sealed on a stream of the request is an answer. Where several streams
//!   have carried the request, a refusal on one says nothing about the others, unless the agent
//!   keeps it for the request's id.
//! - A request of which each copy acts is sent once.

mod attempts;
mod backoff;
mod carry;
mod persistence;
mod unsent;

use std::time::Duration;

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::conversation::{CREATE_LIMIT, Open};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Reset;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::Kind as StreamKind;
use farwire_protocol::streams::run::BEAT;
use minicbor::Encode;

pub use self::attempts::{Attempts, NoAnswer};
pub use self::carry::Remote;
pub(crate) use self::carry::{Carried, Carrier, Incoming, carry};
pub(crate) use self::persistence::Persistence;
pub(crate) use self::unsent::Unsent;
pub use crate::fault::{Fault, Trouble, Word};

/// A stream on which the agent speaks at least every [`BEAT`] is taken to be held back after this
/// silence.
pub(crate) const SILENCE: Duration = BEAT.saturating_mul(3);

/// What carrying a request out a second time would do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effects {
    /// The request reads.
    None,
    /// The agent carries it out once, however many copies arrive; or a second copy changes nothing.
    Once,
    /// Each copy that arrives acts.
    Each,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestProgress {
    /// What a second copy would do.
    pub effects: Effects,
    /// How many streams may have carried the request.
    pub copies: u32,
    /// Whether the agent has said anything about it, sealed, on any stream.
    pub heard: bool,
    /// How many streams in a row broke before this one without a sealed word.
    pub fruitless: u32,
}

/// What follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// The same request, or the same conversation, over another stream.
    Again,
    /// The same over a link that is made anew.
    NewLink,
    /// The same request under the same id in a new conversation.
    NewConversation,
    /// It is over: the failure is the answer.
    Failed,
    /// It is over, and nobody knows whether the request was carried out.
    Unknown,
}

/// Decides what follows.
pub const fn next(fault: Fault, asked: RequestProgress) -> Next {
    match fault {
        Fault::Reset(reset) => next_after_break(Some(reset), asked),
        Fault::Damaged | Fault::Cut | Fault::Lost | Fault::Silent => next_after_break(None, asked),
        // An agent that was restarted a moment ago is behind a way that still ends at the process
        // before it. Nothing was sent: one more handshake costs nothing.
        Fault::CutShort if asked.copies == 0 && asked.fruitless == 0 => Next::Again,
        // There never was a stream, and a request that was not sent was not carried out.
        Fault::NoWay | Fault::CutShort if asked.copies == 0 => Next::Failed,
        Fault::NoWay | Fault::CutShort => again(Next::Again, asked),
        Fault::Said(Word::Broken) => again(Next::Again, asked),
        Fault::Said(Word::Gone) => again(Next::NewConversation, asked),
        Fault::Said(Word::Died) => match asked.effects {
            Effects::None => Next::Again,
            Effects::Once | Effects::Each => Next::Unknown,
        },
        Fault::Said(Word::Kept) => Next::Failed,
        // A copy on another stream may have been, or be, carried out.
        Fault::Said(Word::Refused) if asked.copies > 1 => unknown(asked),
        Fault::Said(Word::Refused) => Next::Failed,
        // The link says nothing about what was sent on another.
        Fault::Said(Word::Unsure) => match asked.effects {
            Effects::None => Next::Again,
            Effects::Once | Effects::Each => unknown(asked),
        },
        Fault::Rejected | Fault::Nonsense | Fault::Here => unknown(asked),
    }
}

/// A stream broke that may have carried the request.
const fn next_after_break(reset: Option<Reset>, asked: RequestProgress) -> Next {
    let new_link = asked.fruitless > 0 || matches!(reset, Some(Reset::UnknownLink));
    match reset {
        // Nothing can have been done, and nothing was under way: the relay may as well be believed.
        // What an earlier stream has carried may be: a relay that has just started knows no agent.
        Some(Reset::UnknownServer | Reset::Offline | Reset::Suspended)
            if matches!(asked.effects, Effects::None) && !asked.heard && asked.copies <= 1 =>
        {
            Next::Failed
        }
        // The agent may have lost the link, and its word about that may have been lost on the way.
        _ if new_link => again(Next::NewLink, asked),
        _ => again(Next::Again, asked),
    }
}

const fn again(next: Next, asked: RequestProgress) -> Next {
    match asked.effects {
        Effects::Each if asked.copies > 0 => Next::Unknown,
        _ => next,
    }
}

const fn unknown(asked: RequestProgress) -> Next {
    match asked.effects {
        Effects::Once | Effects::Each if asked.copies > 0 => Next::Unknown,
        _ => Next::Failed,
    }
}

/// Whether somebody who reads may ask again: the way to the server failed, and not what was asked.
pub const fn may_come_back(kind: Kind) -> bool {
    let asked = RequestProgress { effects: Effects::None, copies: 1, heard: true, fruitless: 0 };
    match next(Fault::of_words(kind), asked) {
        Next::Again | Next::NewLink | Next::NewConversation => true,
        Next::Failed | Next::Unknown => false,
    }
}

/// Whether nobody knows if a request has been carried out that acts and was sent once, and whose
/// answer is this.
pub const fn is_unknown(kind: Kind) -> bool {
    let asked = RequestProgress { effects: Effects::Each, copies: 1, heard: true, fruitless: 0 };
    matches!(next(Fault::of_words(kind), asked), Next::Unknown)
}

/// Whether an agent takes a request of this length: one that is longer would be broken off like any
/// that meets trouble on the way, and be asked again without end.
///
/// # Errors
///
/// `too_large`; nothing has been sent.
pub fn fits<T: Encode<()>>(request: &T) -> Result<(), Failure> {
    let length = cbor::encode(request).len();
    if length <= CREATE_LIMIT {
        return Ok(());
    }
    let text = format!("the request has {length} bytes, and a server takes at most {CREATE_LIMIT}");
    Err(Failure::new(Kind::TooLarge, text)
        .with_hint("nothing was started; write what is long to a file on the server, and use that"))
}

/// The first message of a stream about this request.
pub fn open(kind: StreamKind, conversation: Nonce, generation: u32, create: Option<Blob>) -> Open {
    Open { kind: kind.number(), conversation, generation, create, have: None, more: None }
}

#[cfg(test)]
mod tests;
