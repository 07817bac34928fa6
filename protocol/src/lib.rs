//! The messages between Farwire's three programs.
//!
//! No socket, no clock, no file, no runtime: bytes in, values out, and state machines that get the
//! time as an argument. Every reader here treats its bytes as hostile.
//!
//! Read in this order: [`header`] is the part of a stream that the relay sees, [`outer`] is the
//! protocol between programs and the relay, [`bundle`] is an identity's claim about its keys. The
//! feature `inner` adds the handshake, the key schedule, the frames and the messages inside them;
//! the relay is built without it, so that it could not read a stream if it wanted to.
//!
//! The specification, for an independent implementer, is in `docs/spec/`.

pub mod address;
pub mod bundle;
pub mod cbor;
pub mod chars;
mod curve;
pub mod failure;
pub mod genesis;
pub mod header;
pub mod id;
pub mod lp;
pub mod outer;
pub mod peer;
pub mod quote;
pub mod signed;

#[cfg(feature = "inner")]
pub mod conversation;
#[cfg(feature = "inner")]
pub mod enroll;
#[cfg(feature = "inner")]
pub mod frame;
#[cfg(feature = "inner")]
pub mod handshake;
#[cfg(feature = "inner")]
pub mod keys;
#[cfg(feature = "inner")]
mod noise;
#[cfg(feature = "inner")]
pub mod record;
#[cfg(feature = "inner")]
pub mod sids;
#[cfg(feature = "inner")]
pub mod streams;
#[cfg(feature = "inner")]
pub mod surface;
#[cfg(feature = "inner")]
pub mod terminal;
#[cfg(feature = "inner")]
pub mod token;

#[cfg(test)]
mod vectors;
