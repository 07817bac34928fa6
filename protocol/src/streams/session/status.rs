//! The status of a session, the commands that its shell has executed, and the answer of an
//! exchange.

use minicbor::{Decode, Encode};

use super::{Actor, Event, Labels, Limits, Participant, Size, TypingRights};
use crate::cbor::Blob;
use crate::id::Nonce;
use crate::streams::run::State;

/// What a terminal is doing, according to the kernel and marked prompts, and never derived from its
/// content.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Doing {
    /// A shell waits for a command.
    #[n(0)]
    Prompt,
    /// A command is running.
    #[n(1)]
    Running,
    /// A program reads a line without echo.
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
    /// The name for people and models.
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

/// The status of a session.
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
    /// The number of attached clients.
    #[n(5)]
    pub attached: u32,
    /// The title that it has set.
    #[n(6)]
    pub title: Option<String>,
    /// The program in the foreground, as the kernel names it.
    #[n(7)]
    pub foreground: Option<String>,
    /// The cursor position, from 1: column and row.
    #[n(8)]
    pub cursor: Option<Size>,
    /// Whether it existed before this request.
    #[n(9)]
    pub known: Option<bool>,
    /// Who may type.
    #[n(10)]
    pub typing: Option<TypingRights>,
    /// Its labels.
    #[n(11)]
    pub labels: Option<Labels>,
    /// Its limits.
    #[n(12)]
    pub limits: Option<Limits>,
    /// The number of the last event.
    #[cbor(n(13), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub events: Option<u64>,
    /// The time since the last input or output, in milliseconds.
    #[cbor(n(14), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub idle_ms: Option<u64>,
    /// The attached clients; absent in lists.
    #[n(15)]
    pub participants: Option<Vec<Participant>>,
    /// When this agent process took it over from an earlier one, in milliseconds since 1970.
    #[cbor(n(16), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub recovered_ms: Option<u64>,
    /// Why it has no program although its end is unknown.
    #[n(17)]
    pub lost: Option<Lost>,
}

/// Why a session has no program although it has not ended.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Lost {
    /// The host was restarted.
    #[n(0)]
    HostRebooted,
    /// Its holder died.
    #[n(1)]
    HolderDied,
}

impl Lost {
    /// The name for people and models.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostRebooted => "host_rebooted",
            Self::HolderDied => "holder_died",
        }
    }
}

/// A command that the shell of a session has executed, or is executing.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Command {
    /// Counted from 1 in each session.
    #[cbor(n(0), decode_with = "crate::peer::count")]
    pub number: u64,
    /// The typed command line, as the shell reports it.
    #[n(1)]
    pub text: Option<String>,
    /// How long it took, or has been running, in milliseconds, if known.
    #[cbor(n(2), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub duration_ms: Option<u64>,
    /// How long ago it began, in milliseconds, if known.
    #[cbor(n(3), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub age_ms: Option<u64>,
    /// The exit code that the shell reports; absent while the command is running.
    #[n(4)]
    pub exit: Option<i32>,
    /// The offset in the log where its output begins.
    #[cbor(n(5), decode_with = "crate::peer::count")]
    pub start: u64,
    /// The offset in the log where its output ends.
    #[cbor(n(6), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub end: Option<u64>,
    /// The shell's working directory before it.
    #[n(7)]
    pub cwd: Option<Blob>,
}

/// Why a [`Request::Send`](super::Request::Send) was answered.
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
    /// There was no output for a while, in a session without marks.
    #[n(3)]
    Silence,
    /// The time ran out.
    #[n(4)]
    Time,
}

/// The body of the agent's [`crate::conversation::End`].
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Ended {
    /// The state of its program, or how it ended.
    #[n(0)]
    pub state: State,
    /// The status of the session.
    #[n(1)]
    pub status: Status,
    /// To [`Request::Send`](super::Request::Send): why it is answered now.
    #[n(2)]
    pub because: Option<Because>,
    /// To [`Request::Send`](super::Request::Send): the command that ended, or is running.
    #[n(3)]
    pub command: Option<Command>,
    /// To [`Request::Commands`](super::Request::Commands).
    #[n(4)]
    pub commands: Option<Vec<Command>>,
    /// The offset in the log up to which the answer reports.
    #[cbor(n(5), decode_with = "crate::peer::count")]
    pub offset: u64,
    /// To [`Request::Send`](super::Request::Send): how many bytes are omitted in the middle of the
    /// output.
    #[cbor(n(6), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub omitted: Option<u64>,
    /// To [`Request::Events`](super::Request::Events).
    #[n(7)]
    pub events: Option<Vec<Event>>,
    /// To [`Request::Send`](super::Request::Send): how many bytes of the input were typed.
    #[cbor(n(8), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub typed: Option<u64>,
    /// To [`Request::Send`](super::Request::Send): how many bytes were not, and will not be,
    /// because the program does not read them.
    #[cbor(n(9), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub left: Option<u64>,
    /// Whether there are older commands, which did not fit.
    #[n(10)]
    pub more: Option<bool>,
    /// The user that typed or took over before the request was done.
    #[n(11)]
    pub interrupted: Option<Actor>,
}
