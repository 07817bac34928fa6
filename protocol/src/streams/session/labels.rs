//! What a session is filed under, and the bounds that it has.

use minicbor::{Decode, Encode};

/// What a session is filed under.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Labels {
    /// For whom it is: see [`Caller::owner`].
    #[n(0)]
    pub owner: Option<String>,
    /// To find it by.
    #[n(1)]
    pub tag: Option<String>,
    /// The leases of a group move together.
    #[n(2)]
    pub group: Option<String>,
    /// Nobody types, whoever it is.
    #[n(3)]
    pub read_only: Option<bool>,
}

/// Bounds of a session.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Limits {
    /// It is closed when nobody has typed and nothing was said for so many milliseconds.
    #[cbor(n(0), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub idle_ms: Option<u64>,
    /// It is forgotten so many milliseconds after its end.
    #[cbor(n(1), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub keep_ms: Option<u64>,
    /// Its program may say so many bytes in a second, and waits beyond that.
    #[cbor(n(2), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub output_rate: Option<u64>,
    /// So many bytes in a second may be typed.
    #[cbor(n(3), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub input_rate: Option<u64>,
    /// So many bytes of what it said are kept.
    #[cbor(n(4), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub kept: Option<u64>,
}
