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

pub mod hands;

use minicbor::{Decode, Encode};

use self::hands::{
    Actor, Caller, Control, Event, Events, Hands, Labels, Limits, Lost, Participant,
};
use crate::cbor::Blob;
use crate::failure::Failure;
use crate::id::Nonce;
use crate::streams::run::{Piece, Program, State, Variable};

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
    Hands(#[n(0)] Box<Hands>),
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

/// What a terminal is doing, as the kernel and marked prompts say. Never from what it shows.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Doing {
    /// The shell waits for a command.
    #[n(0)]
    Prompt,
    /// A command runs.
    #[n(1)]
    Running,
    /// A program reads a line without showing it.
    #[n(2)]
    Password,
    /// A pager waits.
    #[n(3)]
    Pager,
    /// An editor, or another program that fills the screen.
    #[n(4)]
    Editor,
    /// Another interpreter waits for a line.
    #[n(5)]
    Repl,
    /// The program has ended.
    #[n(6)]
    Exited,
}

impl Doing {
    /// As people and models read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Running => "running",
            Self::Password => "password",
            Self::Pager => "pager",
            Self::Editor => "editor",
            Self::Repl => "repl",
            Self::Exited => "exited",
        }
    }
}

/// How a session is.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Status {
    /// Its id.
    #[n(0)]
    pub session: Nonce,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// What it is doing.
    #[n(2)]
    pub doing: Doing,
    /// The size of its terminal.
    #[n(3)]
    pub size: Size,
    /// Whether its shell marks commands, so that exit codes are known.
    #[n(4)]
    pub marked: bool,
    /// How many are attached.
    #[n(5)]
    pub attached: u32,
    /// What it calls itself.
    #[n(6)]
    pub title: Option<String>,
    /// The program in the foreground, as the kernel calls it.
    #[n(7)]
    pub foreground: Option<String>,
    /// Where the cursor is, from 1: column and row.
    #[n(8)]
    pub cursor: Option<Size>,
    /// It existed before this request.
    #[n(9)]
    pub known: Option<bool>,
    /// Who may type.
    #[n(10)]
    pub hands: Option<Hands>,
    /// What it is filed under.
    #[n(11)]
    pub labels: Option<Labels>,
    /// Its bounds.
    #[n(12)]
    pub limits: Option<Limits>,
    /// How many events there are.
    #[cbor(n(13), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub events: Option<u64>,
    /// For how long nobody has typed and nothing was said, in milliseconds.
    #[cbor(n(14), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub idle_ms: Option<u64>,
    /// Who is attached; absent in lists.
    #[n(15)]
    pub participants: Option<Vec<Participant>>,
    /// An earlier agent process had it; when it was taken over, in milliseconds since 1970.
    #[cbor(n(16), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub recovered_ms: Option<u64>,
    /// It has no program any more, and how that ended is not known.
    #[n(17)]
    pub lost: Option<Lost>,
}

/// A command that the shell of a session carried out, or is carrying out.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Command {
    /// Counted from 1 in each session.
    #[cbor(n(0), decode_with = "crate::peer::count")]
    pub number: u64,
    /// What was typed, as the shell says.
    #[n(1)]
    pub text: Option<String>,
    /// How long it took, or has taken, in milliseconds, if that is known.
    #[cbor(n(2), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub duration_ms: Option<u64>,
    /// How long ago it began, in milliseconds, if that is known.
    #[cbor(n(3), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub age_ms: Option<u64>,
    /// What the shell says that it ended with; absent while it runs.
    #[n(4)]
    pub exit: Option<i32>,
    /// Its output begins at this offset of the log.
    #[cbor(n(5), decode_with = "crate::peer::count")]
    pub start: u64,
    /// Its output ends before this offset.
    #[cbor(n(6), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub end: Option<u64>,
    /// Where the shell was before it.
    #[n(7)]
    pub cwd: Option<Blob>,
}

/// Why a [`Request::Send`] was answered.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Because {
    /// The command ended.
    #[n(0)]
    Ended,
    /// The expression matched.
    #[n(1)]
    Matched,
    /// The terminal waits for input.
    #[n(2)]
    Waits,
    /// Nothing was said for a while, where there are no marks.
    #[n(3)]
    Silence,
    /// The time was up.
    #[n(4)]
    Time,
}

/// The body of the agent's [`crate::conversation::End`].
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Ended {
    /// How its program is, or how it ended.
    #[n(0)]
    pub state: State,
    /// How the session is.
    #[n(1)]
    pub status: Status,
    /// To [`Request::Send`]: why it is answered now.
    #[n(2)]
    pub because: Option<Because>,
    /// To [`Request::Send`]: the command that ended, or runs.
    #[n(3)]
    pub command: Option<Command>,
    /// To [`Request::Commands`].
    #[n(4)]
    pub commands: Option<Vec<Command>>,
    /// The offset of the log up to which the answer has told.
    #[cbor(n(5), decode_with = "crate::peer::count")]
    pub offset: u64,
    /// To [`Request::Send`]: so many bytes are missing in the middle of what came.
    #[cbor(n(6), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub omitted: Option<u64>,
    /// To [`Request::Events`].
    #[n(7)]
    pub events: Option<Vec<Event>>,
    /// To [`Request::Send`]: so many of the bytes to type were taken.
    #[cbor(n(8), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub typed: Option<u64>,
    /// To [`Request::Send`]: so many were not, and will not be: the program does not read them.
    #[cbor(n(9), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub left: Option<u64>,
    /// There are older commands, which did not fit.
    #[n(10)]
    pub more: Option<bool>,
    /// A user has typed or taken over before anything else came of it: who.
    #[n(11)]
    pub interrupted: Option<Actor>,
}

#[cfg(test)]
mod tests;
