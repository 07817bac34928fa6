//! Callers, actors and participants of a session.
//!
//! The agent knows the device and the surface of a link by their keys. The name of a client is its
//! self-description: it distinguishes the clients of one surface, and grants nothing.

use minicbor::{Decode, Encode};

/// The maximum length of the name of a client, an owner, a tag or a group, in bytes.
pub const LABEL_LIMIT: usize = 64;

/// The opener's self-description.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Caller {
    /// The client of its surface.
    #[n(0)]
    pub client: Option<String>,
    /// The owner that it acts for: a session with an owner is invisible to callers that name
    /// another.
    #[n(1)]
    pub owner: Option<String>,
}

/// An actor, which has typed or done something else.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Actor {
    /// The agent's name for the device.
    #[n(0)]
    pub device: String,
    /// Its surface.
    #[n(1)]
    pub surface: String,
    /// The client of the surface, as it names itself.
    #[n(2)]
    pub client: Option<String>,
    /// Whether the actor is the caller itself.
    #[n(3)]
    pub mine: Option<bool>,
}

/// An attached client.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Participant {
    /// The actor.
    #[n(0)]
    pub actor: Actor,
    /// Whether it is attached read-only.
    #[n(1)]
    pub read_only: bool,
    /// The time since it attached, in milliseconds.
    #[cbor(n(2), decode_with = "crate::peer::count")]
    pub age_ms: u64,
    /// The time since it last typed, in milliseconds.
    #[cbor(n(3), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub typed_ms: Option<u64>,
}
