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
//! What the terminal says is one log, as that of a run: parts of it are read with
//! [`super::run::Read`]. Who attaches without an offset gets the screen as it is now, drawn anew, and
//! then every byte. Who lags far behind gets the screen again instead of what was missed, and is told.
//!
//! A conversation of this kind is taken up with its request, a rising generation, and the same id: that
//! is under which the agent remembers how much of what was typed it has taken.
//!
//! [`Request::Send`] is one exchange: what is typed, and what came of it.

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

/// The channel of what is typed.
pub const KEYS: u8 = 0;
/// The channel of what the terminal says.
pub const TERMINAL: u8 = 1;
/// The channel of the text of an answer.
pub const TEXT: u8 = 2;

/// How many bytes a bridge may have sent on [`KEYS`] beyond the last acknowledged one.
pub const KEYS_WINDOW: u64 = 256 * 1024;

/// For so long after something was typed or said, neither end is silent for longer than a [`PULSE`].
pub const LIVELY: core::time::Duration = core::time::Duration::from_secs(2);

/// A NAT that has given one end another port passes nothing on to it until that end speaks: while a
/// terminal is in use it soon does.
pub const PULSE: core::time::Duration = core::time::Duration::from_millis(100);

/// What is typed in one exchange has at most as many bytes.
pub const SEND_LIMIT: usize = 64 * 1024;

/// The name of a session has at most as many bytes.
pub const NAME_LIMIT: usize = 64;

/// What a session conversation is created for.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one for each stream")]
pub enum Request {
    /// Start a program on a terminal, at most once per request id; or take up the session of this name.
    #[n(0)]
    Open(#[n(0)] Start),
    /// Attach to a session that exists.
    #[n(1)]
    Attach(#[n(0)] Attach),
    /// Type something, and wait for what comes of it.
    #[n(2)]
    Send(#[n(0)] Send),
    /// The screen as text.
    #[n(3)]
    Look(#[n(0)] Nonce),
    /// The commands that a shell has carried out.
    #[n(4)]
    Commands(#[n(0)] Commands),
    /// Do something to a session besides typing.
    #[n(5)]
    Control(#[n(0)] Control),
    /// What happened to a session.
    #[n(6)]
    Events(#[n(0)] Events),
    /// The screen as what draws it anew on a terminal of its size, with colours.
    #[n(7)]
    Draw(#[n(0)] Nonce),
}

/// A session to open.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Start {
    /// Chosen at random; the program is started at most once for it. The session's id.
    #[n(0)]
    pub request: Nonce,
    /// Which agent process it was first sent to.
    #[n(1)]
    pub instance: Nonce,
    /// A session of this owner with this name is taken up if there is one that runs.
    #[n(2)]
    pub name: Option<String>,
    /// What to run; the user's login shell when absent.
    #[n(3)]
    pub program: Option<Program>,
    /// Where; the user's home when absent.
    #[n(4)]
    pub cwd: Option<Blob>,
    /// Variables on top of the clean environment.
    #[n(5)]
    pub env: Option<Vec<Variable>>,
    /// As whom; as the agent's own user when absent.
    #[n(6)]
    pub user: Option<String>,
    /// The size of the terminal.
    #[n(7)]
    pub size: Size,
    /// Attach at once; otherwise the answer is the screen.
    #[n(8)]
    pub attach: Option<bool>,
    /// Never take up a session that exists.
    #[n(9)]
    pub new: Option<bool>,
    /// Close it after so many milliseconds.
    #[cbor(n(11), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub timeout_ms: Option<u64>,
    /// Who opens it.
    #[n(12)]
    pub caller: Option<Caller>,
    /// What it is filed under. Its owner is that of `caller`.
    #[n(13)]
    pub labels: Option<Labels>,
    /// Its bounds.
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
    /// Which.
    #[n(0)]
    pub session: Nonce,
    /// What is typed is refused by the agent.
    #[n(1)]
    pub read_only: Option<bool>,
    /// Make the terminal so large.
    #[n(2)]
    pub size: Option<Size>,
    /// The opener has everything before this offset of the log.
    #[cbor(n(3), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub from: Option<u64>,
}

/// One exchange.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Send {
    /// Chosen at random; it is typed at most once for it.
    #[n(0)]
    pub request: Nonce,
    /// Which session.
    #[n(1)]
    pub session: Nonce,
    /// Which agent process it was first sent to.
    #[n(2)]
    pub instance: Nonce,
    /// What is typed, in this order.
    #[n(3)]
    pub input: Vec<Input>,
    /// Answer after so many milliseconds at the latest.
    #[cbor(n(4), decode_with = "crate::peer::clamped")]
    pub wait_ms: u64,
    /// Answer as soon as a line matches this regular expression.
    #[n(5)]
    pub until: Option<String>,
    /// At most so many bytes of what came, half from its beginning and half from its end.
    #[n(6)]
    pub budget: u32,
    /// With nothing to type: tell what was said from this offset of the log on.
    #[cbor(n(7), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub from: Option<u64>,
    /// Who types.
    #[n(8)]
    pub caller: Option<Caller>,
    /// Only if the terminal is at a prompt, and `terminal_busy` otherwise.
    #[n(9)]
    pub at_prompt: Option<bool>,
    /// Text is data: nothing in it is pressed as a key. Older agents pass over it.
    #[n(10)]
    pub literal: Option<bool>,
}

/// Something to type. Its `Debug` leaves secrets out.
#[derive(Clone, Decode, Encode, Eq, PartialEq)]
pub enum Input {
    /// Text. Several lines are pasted as one where the program knows how.
    #[n(0)]
    Text(#[n(0)] Blob),
    /// A key by its name: `enter`, `ctrl-c`, `up`, `f5`, `alt-b`.
    #[n(1)]
    Key(#[n(0)] String),
    /// A secret: typed only where the terminal does not show it, and noted nowhere.
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

/// Asks for commands.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Commands {
    /// Of which session.
    #[n(0)]
    pub session: Nonce,
    /// At most so many, the latest.
    #[n(1)]
    pub limit: u32,
    /// Only those with a lower number. Older agents pass over it.
    #[cbor(n(2), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub before: Option<u64>,
}

/// What the bridge says between DATA frames.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToAgent {
    /// The opener's terminal is so large now.
    #[n(0)]
    Resize(#[n(0)] Size),
    /// Take the lease from whoever has it, for as long as this stream lives. Users only.
    #[n(1)]
    Take,
    /// Let go of the lease.
    #[n(2)]
    Release,
    /// So many bytes of [`TERMINAL`] of this stream have been shown; 0 at its beginning. Whoever says so is
    /// not sent more than it shows in a moment, and gets the screen where it lags.
    #[n(3)]
    Seen(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
}

/// What the agent says between DATA frames.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToBridge {
    /// The session exists.
    #[n(0)]
    Attached(#[n(0)] Attached),
    /// The bytes of [`TERMINAL`] that follow are those of the log from this offset on.
    #[n(1)]
    At(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
    /// The next `length` bytes of [`TERMINAL`] draw the screen as it was at this offset of the log;
    /// those after them are the log's.
    #[n(2)]
    Screen {
        /// How many bytes.
        #[n(0)]
        length: u32,
        /// Where in the log.
        #[cbor(n(1), decode_with = "crate::peer::count")]
        offset: u64,
        /// So many bytes of the log were passed over.
        #[cbor(n(2), decode_with = "crate::peer::count")]
        missed: u64,
    },
    /// So many bytes of [`KEYS`] have been taken.
    #[n(3)]
    Ack(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
    /// The terminal has this size now.
    #[n(4)]
    Resized(#[n(0)] Size),
    /// What was typed was not passed on, and why.
    #[n(5)]
    Refused(#[n(0)] Failure),
    /// Nothing to say, and still here.
    #[n(6)]
    Beat,
    /// The next `length` bytes of [`TEXT`] are this part of the log.
    #[n(7)]
    Piece(#[n(0)] Piece),
    /// Who may type now; first after [`ToBridge::Attached`], and whenever it changes.
    #[n(8)]
    Typing(#[n(0)] Box<TypingRights>),
}

/// A session that exists.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Attached {
    /// Its id.
    #[n(0)]
    pub session: Nonce,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// It existed before this request.
    #[n(2)]
    pub known: Option<bool>,
    /// The size of its terminal.
    #[n(3)]
    pub size: Size,
    /// How many bytes of [`KEYS`] of this conversation have been taken; absent where that is not known.
    #[cbor(n(4), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub keys: Option<u64>,
}

#[cfg(test)]
mod tests;
