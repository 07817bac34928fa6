//! What can be done, once for every face: each verb is a struct of typed arguments whose
//! `carry_out` returns what happened as data.
//!
//! The command line ([`crate::cli`]) and the tools ([`crate::tools`]) read arguments, call a verb,
//! and show its answer: as lines, as JSON, or as a header and text. What both of them show in the
//! same words is in [`crate::render`]. A verb knows neither of them, nor a text for people. How
//! requests travel is in [`crate::runs`], [`crate::sessions`] and [`mod@crate::files`].

pub mod files;
pub mod observer;
pub mod output;
pub mod retry;
pub mod run;
pub mod servers;
pub mod session;
pub mod status;
pub mod stop;
pub mod wait;
