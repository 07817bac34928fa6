//! The only crate that knows quinn, rustls and sockets.
//!
//! [`outer`] is the hop between a program and the relay: QUIC with raw public keys, a control
//! conversation, and streams. `inner` is the end-to-end protocol between bridge and agent inside
//! those streams; the relay is built without it.

pub mod outer;

#[cfg(feature = "inner")]
pub mod inner;
