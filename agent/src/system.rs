//! What is asked of the operating system: starting, waiting, signalling, and who we are.
//!
//! The only place of this program with `unsafe`, each with its reason beside it.

pub(crate) mod environment;
pub(crate) mod facts;
pub(crate) mod group;
pub(crate) mod harden;
pub(crate) mod shell;
pub(crate) mod spawn;
pub(crate) mod user;
pub(crate) mod wait;
