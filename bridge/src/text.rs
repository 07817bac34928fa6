//! How bytes of a remote machine become text that a person or a model can read safely.
//!
//! ```text
//! bytes ── clean ──▶ lines ── shown ──▶ payload        header   first line of an answer
//!                                                      error    the line of a failure
//!          names, labels, paths ── neutral             table    rows of either
//! ```
//!
//! # Invariants
//!
//! - A line that begins with `[` and a [`Word`] is ours. A payload line that looks like one, in any
//!   script and case, gets a backslash in front of its bracket (see [`imitation`]).
//! - Nothing that comes out holds a control character but LF and TAB, nor one that hides, reorders
//!   or joins what a person sees (see [`chars`]). What was removed is counted.
//! - Time is linear in the input, memory is bounded, and the result does not depend on where the
//!   input is cut.
//!
//! All of it is pure: no clock, no file, no network. The module `tools` decides which bytes are
//! asked for, and what a tool's header says.

pub mod clean;
pub mod error;
pub mod header;
pub mod human;
pub mod imitation;
pub mod mask;
pub mod neutral;
pub mod passage;
pub mod picture;
pub mod shown;
pub mod signal;
pub mod table;

use std::fmt;

pub use farwire_protocol::chars;

/// The first words of all lines of ours. A header can begin with nothing else, and a payload line
/// that begins with one of them in brackets is marked: both follow from this list. It also has
/// words that a model could take for one of ours, because a tool or a thing has that name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Word {
    /// A run: `[run r12 exit=0 …]`.
    Run,
    /// A failure: `[error unknown_server] …`.
    Error,
    /// Output that is not of a run or a session.
    Output,
    /// The list of servers.
    Servers,
    /// One server.
    Server,
    /// Open handles.
    Open,
    /// A status.
    Status,
    /// The result of a stop.
    Stop,
    /// A terminal session.
    Session,
    /// A file.
    File,
    /// Copied files.
    Copy,
    /// A forwarded port.
    Forward,
    /// The list of tools.
    Tools,
    /// Between lines: what is left out here.
    Omitted,
    /// In place of lines: bytes that are no text.
    Binary,
}

impl Word {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Run,
        Self::Error,
        Self::Output,
        Self::Servers,
        Self::Server,
        Self::Open,
        Self::Status,
        Self::Stop,
        Self::Session,
        Self::File,
        Self::Copy,
        Self::Forward,
        Self::Tools,
        Self::Omitted,
        Self::Binary,
    ];

    /// As it is written, in lower-case ASCII letters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Error => "error",
            Self::Output => "output",
            Self::Servers => "servers",
            Self::Server => "server",
            Self::Open => "open",
            Self::Status => "status",
            Self::Stop => "stop",
            Self::Session => "session",
            Self::File => "file",
            Self::Copy => "copy",
            Self::Forward => "forward",
            Self::Tools => "tools",
            Self::Omitted => "omitted",
            Self::Binary => "binary",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
