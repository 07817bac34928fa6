//! What Farwire's three programs say to each other.
//!
//! No socket, no clock, no file, no runtime: bytes in, values out, and state machines that are told
//! the time. Everything here that reads bytes was written for bytes from an enemy.
//!
//! Read in this order: [`header`] is what the relay sees of a stream, [`outer`] is what programs
//! say to the relay itself, [`bundle`] is who somebody claims to be. With the feature `inner` follow
//! the handshake, the key schedule, the frames, and what is said inside them; the relay is built
//! without it, so that it could not read a stream if it wanted to.
//!
//! The specification, for somebody who would write this again, is in `docs/spec/`.

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
