//! How a session is, the commands that its shell has carried out, and how an exchange ended.

use minicbor::{Decode, Encode};

use super::{Actor, Event, Labels, Limits, Participant, Size, TypingRights};
use crate::cbor::Blob;
use crate::id::Nonce;
use crate::streams::run::State;

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
    pub typing: Option<TypingRights>,
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

/// Why a session has no program any more without having ended.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Lost {
    /// The host was started anew.
    #[n(0)]
    HostRebooted,
    /// What held it has died.
    #[n(1)]
    HolderDied,
}

impl Lost {
    /// As people and models read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostRebooted => "host_rebooted",
            Self::HolderDied => "holder_died",
        }
    }
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
