//! Who asks, who acted and who is attached.
//!
//! The agent knows the device and the surface of a link by their keys. The name of a client is what the opener says of
//! itself: it tells apart the clients of one surface, and grants nothing.

use minicbor::{Decode, Encode};

/// A client, an owner, a tag or a group is named by at most as many bytes.
pub const LABEL_LIMIT: usize = 64;

/// What the opener says of itself.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Caller {
    /// Which client of its surface it is.
    #[n(0)]
    pub client: Option<String>,
    /// For whom it acts: a session with an owner is known to nobody who names another.
    #[n(1)]
    pub owner: Option<String>,
}

/// Somebody who did something.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Actor {
    /// What the agent calls the device.
    #[n(0)]
    pub device: String,
    /// Its surface.
    #[n(1)]
    pub surface: String,
    /// Which client of it, as it says.
    #[n(2)]
    pub client: Option<String>,
    /// It is whoever asks.
    #[n(3)]
    pub mine: Option<bool>,
}

/// Somebody who is attached.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Participant {
    /// Who.
    #[n(0)]
    pub actor: Actor,
    /// To look only.
    #[n(1)]
    pub read_only: bool,
    /// For how long, in milliseconds.
    #[cbor(n(2), decode_with = "crate::peer::count")]
    pub age_ms: u64,
    /// How long ago they typed last, in milliseconds.
    #[cbor(n(3), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub typed_ms: Option<u64>,
}
