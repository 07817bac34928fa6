//! The `session` stream: a program on a terminal that stays, shared by all who attach to it.
//!
//! ```text
//!     bridge                                     agent
//!        | -- Open(Request::Open or Attach) ----> |
//!        | <------------------------- Attached -- |
//!        | <- At, DATA 1 | Screen, DATA 1 ------- |    bytes from an offset of the log; or the screen
//!        | -- DATA 0 (keys)* ------------------> |    answered by Ack(0)
//!        | -- Resize --------------------------> |
//!        | <------------- FINAL End with Ended -- |    when the program has ended
//! ```
//!
//! The terminal's output is one log, like that of a run: parts of it are read with
//! [`super::run::Read`]. A reader that attaches without an offset gets a redraw of the current
//! screen, and then every byte. A reader that lags far behind gets the screen again instead of the
//! missed output, and is told so.
//!
//! A conversation of this kind is resumed with its request, a higher generation, and the same id,
//! under which the agent remembers how much of the typed input it has consumed.
//!
//! [`Request::Send`] is one exchange: input, and its result.

mod caller;
mod control;
mod events;
mod labels;
mod status;
mod typing;

use minicbor::{Decode, Encode};

use crate::cbor::Blob;
use crate::failure::Failure;
use crate::id::Nonce;
use crate::streams::run::{Piece, Program, Variable};

pub use self::caller::{Actor, Caller, LABEL_LIMIT, Participant};
pub use self::control::{Action, Control};
pub use self::events::{Event, Events, What};
pub use self::labels::{Labels, Limits};
pub use self::status::{Because, Command, Doing, Ended, Lost, Status};
pub use self::typing::{
    Heir, LEASE_LIMIT_MS, Lease, LeaseChange, REASON_LIMIT, Transfer, TypingRights, TypingRule,
};

/// The channel of typed input.
pub const KEYS: u8 = 0;
/// The channel of the terminal's output.
pub const TERMINAL: u8 = 1;
/// The channel of the text of an answer.
pub const TEXT: u8 = 2;

/// How many bytes a bridge may have sent on [`KEYS`] beyond the last acknowledged one.
pub const KEYS_WINDOW: u64 = 256 * 1024;

/// For this long after input or output, neither end is silent for longer than a [`PULSE`].
pub const LIVELY: core::time::Duration = core::time::Duration::from_secs(2);

/// The longest silence of either end while a terminal is in use. If a NAT assigns another port to
/// one end, it delivers nothing to that end until the end sends something: with this pulse it soon
/// does.
pub const PULSE: core::time::Duration = core::time::Duration::from_millis(100);

/// The maximum length of the input of one exchange, in bytes.
pub const SEND_LIMIT: usize = 64 * 1024;

/// The maximum length of a session's name, in bytes.
pub const NAME_LIMIT: usize = 64;

/// The request that creates a session conversation.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one for each stream")]
pub enum Request {
    /// Starts a program on a terminal, at most once per request id; or takes the running session of
    /// this name.
    #[n(0)]
    Open(#[n(0)] Start),
    /// Attaches to an existing session.
    #[n(1)]
    Attach(#[n(0)] Attach),
    /// Types input, and waits for its result.
    #[n(2)]
    Send(#[n(0)] Send),
    /// Returns the screen as text.
    #[n(3)]
    Look(#[n(0)] Nonce),
    /// Lists the commands that a shell has executed.
    #[n(4)]
    Commands(#[n(0)] Commands),
    /// Does something to a session other than typing.
    #[n(5)]
    Control(#[n(0)] Control),
    /// Lists the events of a session.
    #[n(6)]
    Events(#[n(0)] Events),
    /// Returns the bytes that redraw the screen on a terminal of its size, with colours.
    #[n(7)]
    Draw(#[n(0)] Nonce),
}

/// A session to open.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Start {
    /// Random; the program is started at most once for it. Also the session's id.
    #[n(0)]
    pub request: Nonce,
    /// The agent process to which it was first sent.
    #[n(1)]
    pub instance: Nonce,
    /// If a session of this owner with this name is running, it is taken instead.
    #[n(2)]
    pub name: Option<String>,
    /// The program; the user's login shell when absent.
    #[n(3)]
    pub program: Option<Program>,
    /// The working directory; the user's home when absent.
    #[n(4)]
    pub cwd: Option<Blob>,
    /// Variables on top of the clean environment.
    #[n(5)]
    pub env: Option<Vec<Variable>>,
    /// The user to run as; the agent's own user when absent.
    #[n(6)]
    pub user: Option<String>,
    /// The size of the terminal.
    #[n(7)]
    pub size: Size,
    /// Attach immediately; otherwise the answer is the screen.
    #[n(8)]
    pub attach: Option<bool>,
    /// Never take an existing session.
    #[n(9)]
    pub new: Option<bool>,
    /// Close the session after this many milliseconds.
    #[cbor(n(11), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub timeout_ms: Option<u64>,
    /// Who opens it.
    #[n(12)]
    pub caller: Option<Caller>,
    /// Its labels. The owner label is that of `caller`.
    #[n(13)]
    pub labels: Option<Labels>,
    /// Its limits.
    #[n(14)]
    pub limits: Option<Limits>,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Size {
    /// Columns.
    #[n(0)]
    pub cols: u16,
    /// Rows.
    #[n(1)]
    pub rows: u16,
}

/// Attaches to a session.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Attach {
    /// The session.
    #[n(0)]
    pub session: Nonce,
    /// The agent refuses typed input.
    #[n(1)]
    pub read_only: Option<bool>,
    /// Resize the terminal to this.
    #[n(2)]
    pub size: Option<Size>,
    /// The opener has all output before this offset of the log.
    #[cbor(n(3), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub from: Option<u64>,
}

/// Types input, and waits for its result.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Send {
    /// Random; the input is typed at most once for it.
    #[n(0)]
    pub request: Nonce,
    /// The session.
    #[n(1)]
    pub session: Nonce,
    /// The agent process to which it was first sent.
    #[n(2)]
    pub instance: Nonce,
    /// The input, typed in this order.
    #[n(3)]
    pub input: Vec<Input>,
    /// Answer after this many milliseconds at the latest.
    #[cbor(n(4), decode_with = "crate::peer::clamped")]
    pub wait_ms: u64,
    /// Answer as soon as a line matches this regular expression.
    #[n(5)]
    pub until: Option<String>,
    /// The maximum number of bytes of output, half from its beginning and half from its end.
    #[n(6)]
    pub budget: u32,
    /// With nothing to type: report the output from this offset of the log on.
    #[cbor(n(7), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub from: Option<u64>,
    /// Who types.
    #[n(8)]
    pub caller: Option<Caller>,
    /// Type only if the terminal is at a prompt; otherwise answer `terminal_busy`.
    #[n(9)]
    pub at_prompt: Option<bool>,
    /// Text is data: no character of it acts as a key. Older agents skip this field.
    #[n(10)]
    pub literal: Option<bool>,
}

/// Input to type. Its `Debug` leaves secrets out.
#[derive(Clone, Decode, Encode, Eq, PartialEq)]
pub enum Input {
    /// Text. Several lines are pasted as one block if the program has enabled bracketed paste.
    #[n(0)]
    Text(#[n(0)] Blob),
    /// A named key: `enter`, `ctrl-c`, `up`, `f5`, `alt-b`.
    #[n(1)]
    Key(#[n(0)] String),
    /// A secret: typed only where the terminal does not echo it, and recorded nowhere.
    #[n(2)]
    Secret(#[n(0)] Blob),
}

impl core::fmt::Debug for Input {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(text).finish(),
            Self::Key(name) => f.debug_tuple("Key").field(name).finish(),
            Self::Secret(_) => f.write_str("Secret(…)"),
        }
    }
}

/// Lists commands.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Commands {
    /// The session.
    #[n(0)]
    pub session: Nonce,
    /// The maximum number of commands, the latest ones.
    #[n(1)]
    pub limit: u32,
    /// Only commands with a lower number. Older agents skip this field.
    #[cbor(n(2), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub before: Option<u64>,
}

/// The bridge's messages between DATA frames.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToAgent {
    /// The new size of the opener's terminal.
    #[n(0)]
    Resize(#[n(0)] Size),
    /// Take the lease from its holder, for as long as this stream lives. Users only.
    #[n(1)]
    Take,
    /// Release the lease.
    #[n(2)]
    Release,
    /// How many bytes of [`TERMINAL`] of this stream have been displayed; 0 at its beginning. A
    /// bridge that sends this is paced: it gets no more than it displays in a moment, and the
    /// screen when it lags.
    #[n(3)]
    Seen(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
}

/// The agent's messages between DATA frames.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToBridge {
    /// The session exists.
    #[n(0)]
    Attached(#[n(0)] Attached),
    /// The bytes of [`TERMINAL`] that follow are the log's from this offset on.
    #[n(1)]
    At(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
    /// The next `length` bytes of [`TERMINAL`] draw the screen as it was at this offset of the log;
    /// the bytes after them are the log's.
    #[n(2)]
    Screen {
        /// The number of bytes.
        #[n(0)]
        length: u32,
        /// The offset in the log.
        #[cbor(n(1), decode_with = "crate::peer::count")]
        offset: u64,
        /// How many bytes of the log were skipped.
        #[cbor(n(2), decode_with = "crate::peer::count")]
        missed: u64,
    },
    /// How many bytes of [`KEYS`] have been consumed.
    #[n(3)]
    Ack(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
    /// The terminal was resized to this.
    #[n(4)]
    Resized(#[n(0)] Size),
    /// Typed input was not passed on, and why.
    #[n(5)]
    Refused(#[n(0)] Failure),
    /// A keep-alive.
    #[n(6)]
    Beat,
    /// The next `length` bytes of [`TEXT`] are this part of the log.
    #[n(7)]
    Piece(#[n(0)] Piece),
    /// Who may type now; sent after [`ToBridge::Attached`], and whenever it changes.
    #[n(8)]
    Typing(#[n(0)] Box<TypingRights>),
}

/// An existing session.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Attached {
    /// Its id.
    #[n(0)]
    pub session: Nonce,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// Whether it existed before this request.
    #[n(2)]
    pub known: Option<bool>,
    /// The size of its terminal.
    #[n(3)]
    pub size: Size,
    /// How many bytes of [`KEYS`] of this conversation have been consumed; absent if that is
    /// unknown.
    #[cbor(n(4), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub keys: Option<u64>,
}

#[cfg(test)]
mod tests;
