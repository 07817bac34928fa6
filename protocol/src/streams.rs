//! The kinds of stream, and their numbers.
//!
//! The bridge opens a stream; a stream has one kind, and ends when its work is done. To add a kind,
//! add a variant here and a file beside the others; the compiler then points to the `match` in the
//! agent that must handle it. Also add its page to the specification.

pub mod control;
pub mod files;
pub mod run;
pub mod session;

/// Every kind of stream. Numbers are never reused or changed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Requests about the link and its jobs. See [`control`].
    Control,
    /// A program without a terminal, and its output. See [`run`].
    Run,
    /// A program on a terminal. See [`session`].
    Session,
    /// Access to the directories that the owner has opened. See [`files`].
    Files,
    /// One TCP connection. Reserved.
    Forward,
    /// An MCP server on the server. Reserved.
    Mcp,
    /// A kind of a newer program, which is refused as `unsupported`.
    Other(u16),
}

impl Kind {
    /// The number of the kind.
    pub const fn number(self) -> u16 {
        match self {
            Self::Control => 1,
            Self::Run => 2,
            Self::Session => 3,
            Self::Files => 4,
            Self::Forward => 5,
            Self::Mcp => 6,
            Self::Other(number) => number,
        }
    }

    /// Returns the kind with this number.
    pub const fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Control,
            2 => Self::Run,
            3 => Self::Session,
            4 => Self::Files,
            5 => Self::Forward,
            6 => Self::Mcp,
            other => Self::Other(other),
        }
    }
}
