//! The bridge: beside the person and the model.
//!
//! [`network`] has the connections of a process, [`client`] the links of a surface, and
//! [`conversation`] carries requests over streams that break. [`runs`], [`sessions`] and [`files`]
//! know what servers are asked, [`text`] makes what they say fit to read. [`verbs`] are what can be
//! done, and `cli`, and [`tools`] behind [`mcp`], are two ways of asking for it.

/// Writes a line to standard error, without anything that a terminal obeys: what is formatted into
/// it may be a peer's. Standard error may be closed or full: that is no reason to end.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let text = $crate::text::neutral::lines(&format!($($text)*));
        let _ = writeln!(std::io::stderr(), "{text}");
    }};
}

pub mod build;
pub mod cli;
pub mod client;
pub mod conversation;
pub mod fault;
pub mod files;
pub mod fleet;
pub mod handles;
mod harden;
mod known_roots;
pub mod machine;
pub mod mail;
pub mod mcp;
pub mod network;
pub mod process;
pub mod render;
pub mod runs;
pub mod server;
pub mod sessions;
pub mod setup;
pub mod slots;
pub mod text;
pub mod tools;
mod unsettled;
pub mod verbs;
