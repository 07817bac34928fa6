//! The labels and limits of a session.

use minicbor::{Decode, Encode};

/// The labels of a session.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Labels {
    /// The owner: see [`Caller::owner`](super::caller::Caller::owner).
    #[n(0)]
    pub owner: Option<String>,
    /// A tag to find it by.
    #[n(1)]
    pub tag: Option<String>,
    /// Its group: the leases of a group move together.
    #[n(2)]
    pub group: Option<String>,
    /// Whether typing is refused to everyone.
    #[n(3)]
    pub read_only: Option<bool>,
}

/// The limits of a session.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Limits {
    /// It is closed after this many milliseconds without input or output.
    #[cbor(n(0), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub idle_ms: Option<u64>,
    /// It is forgotten this many milliseconds after its end.
    #[cbor(n(1), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub keep_ms: Option<u64>,
    /// The maximum output rate, in bytes per second; the program waits beyond it.
    #[cbor(n(2), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub output_rate: Option<u64>,
    /// The maximum input rate, in bytes per second.
    #[cbor(n(3), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub input_rate: Option<u64>,
    /// The maximum size of the kept log, in bytes.
    #[cbor(n(4), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub kept: Option<u64>,
}
