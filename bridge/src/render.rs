//! What the command line and the tools show in the same words: one function for each, from data to
//! text.
//!
//! What only one face shows is with that face. How bytes of a remote machine become harmless text
//! is in [`crate::text`].

pub mod servers;
pub mod status;
pub mod typing;
