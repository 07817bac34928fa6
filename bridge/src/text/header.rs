//! The first line of an answer: `[run r12 exit=0 1.3s lines=312 shown=1-60,253-312 next=…]`.
//!
//! # Invariants
//!
//! - There is one `[`, at the beginning, and one `]`, at the end. Values that hold anything else
//!   than letters, digits and harmless signs are quoted and escaped (see [`value`]), so that a
//!   remote name can neither end the header nor begin another.
//! - How something ended is a [`Fate`], set once when the header is made: no header has both
//!   `exit=` and `signal=`, since no [`Key`] has these names.

pub mod value;

use std::fmt::{self, Display, Write as _};
use std::time::Duration;

use farwire_protocol::failure::Kind;
use farwire_protocol::streams::run::{Exit, State};
use farwire_protocol::streams::session::Doing;

use self::value::Value;
use super::shown::Shown;
use super::{Word, human, signal};

/// A header that is being written.
#[derive(Clone, Debug)]
pub struct Header(String);

/// The state of a program, or how it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is running.
    Running,
    /// It is waiting for its turn.
    Queued,
    /// It ended with this code.
    Exit(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// It was not started, or its end is not known.
    Failed(Kind),
    /// A session is in this state; its last command ended with this code, if one did.
    Doing(Doing, Option<i32>),
    /// The server cannot be asked now.
    Unreachable,
}

impl Fate {
    /// The state of a run or of a session's program, or how it ended.
    pub fn of(state: &State) -> Self {
        match (state.exit, &state.failure) {
            (Some(Exit::Code(code)), _) => Self::Exit(code),
            (Some(Exit::Signal(number)), _) => Self::Signal(number),
            (None, Some(failure)) => Self::Failed(failure.kind),
            (None, None) if state.queued == Some(true) => Self::Queued,
            (None, None) => Self::Running,
        }
    }
}

impl Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Queued => f.write_str("queued"),
            Self::Exit(code) => write!(f, "exit={code}"),
            Self::Signal(number) => write!(f, "signal={}", signal::name(*number)),
            Self::Failed(kind) => write!(f, "error={kind}"),
            Self::Doing(doing, None) => write!(f, "state={}", doing.name()),
            Self::Doing(doing, Some(exit)) => write!(f, "state={} exit={exit}", doing.name()),
            Self::Unreachable => f.write_str("state=unreachable"),
        }
    }
}

/// The names of values. All are listed here, so that each is spelled the same everywhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the word that is written")]
pub enum Key {
    Active,
    Attempts,
    Change,
    Changed,
    Command,
    Cursor,
    Dropped,
    Entries,
    Event,
    Expires,
    Failed,
    Group,
    Hidden,
    Idle,
    Lease,
    Left,
    Lines,
    Matched,
    Matches,
    More,
    Name,
    Next,
    Offset,
    Owner,
    Policy,
    Program,
    Reason,
    Relay,
    Reused,
    Rev,
    Scope,
    Searched,
    Binary,
    Server,
    Shown,
    Size,
    Skipped,
    Spool,
    Tag,
    Title,
    Token,
    Unread,
    Until,
    WaitLimit,
    Written,
}

impl Key {
    /// As it is spelled.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Attempts => "attempts",
            Self::Change => "change",
            Self::Changed => "changed",
            Self::Command => "command",
            Self::Cursor => "cursor",
            Self::Dropped => "dropped",
            Self::Entries => "entries",
            Self::Event => "event",
            Self::Expires => "expires",
            Self::Failed => "failed",
            Self::Group => "group",
            Self::Hidden => "hidden",
            Self::Idle => "idle",
            Self::Lease => "lease",
            Self::Left => "left-group",
            Self::Lines => "lines",
            Self::Matched => "matched",
            Self::Matches => "matches",
            Self::More => "more",
            Self::Name => "name",
            Self::Next => "next",
            Self::Offset => "offset",
            Self::Owner => "owner",
            Self::Policy => "policy",
            Self::Program => "program",
            Self::Reason => "reason",
            Self::Relay => "relay",
            Self::Reused => "reused",
            Self::Rev => "rev",
            Self::Scope => "scope",
            Self::Searched => "searched",
            Self::Binary => "binary",
            Self::Server => "server",
            Self::Shown => "shown",
            Self::Size => "size",
            Self::Skipped => "skipped",
            Self::Spool => "spool",
            Self::Tag => "tag",
            Self::Title => "title",
            Self::Token => "token",
            Self::Unread => "unread",
            Self::Until => "until",
            Self::WaitLimit => "wait-limited-to",
            Self::Written => "written",
        }
    }
}

impl Header {
    /// A header for something that has no end: `[servers`.
    pub fn new(word: Word) -> Self {
        Self(format!("[{word}"))
    }

    /// A header for something that ends: `[run r12 exit=0`.
    pub fn ending(word: Word, id: &str, fate: Fate) -> Self {
        let Self(mut text) = Self::new(word).value(id);
        push(&mut text, format_args!(" {fate}"));
        Self(text)
    }

    /// Adds a remote value without a name: an id, a path.
    #[must_use]
    pub fn value(mut self, value: &str) -> Self {
        push(&mut self.0, format_args!(" {}", Value(value)));
        self
    }

    /// Adds words of ours: `12 of 40`.
    #[must_use]
    pub fn words(self, words: impl Display) -> Self {
        let words = words.to_string();
        words.split_whitespace().fold(self, |header, word| header.value(word))
    }

    /// Adds a value that may be remote.
    #[must_use]
    pub fn field(mut self, key: Key, value: impl Display) -> Self {
        push(&mut self.0, format_args!(" {}={}", key.name(), Value(&value.to_string())));
        self
    }

    /// Adds how long it took, or has taken: `1.3s`.
    #[must_use]
    pub fn time(self, time: Duration) -> Self {
        self.value(&human::duration(time))
    }

    /// Adds the shown ranges, if not all is shown, and how much was hidden, if anything was.
    #[must_use]
    pub fn shown_ranges(mut self, shown: &Shown) -> Self {
        if !shown.whole && !shown.ranges.is_empty() {
            // Its numbers and signs need no quotes, however many there are.
            push(&mut self.0, format_args!(" {}={}", Key::Shown.name(), shown.ranges));
        }
        self.hidden(shown.removed.hidden())
    }

    /// Adds how many invisible characters were removed, if any were.
    #[must_use]
    pub fn hidden(self, count: u64) -> Self {
        if count == 0 { self } else { self.field(Key::Hidden, count) }
    }

    /// Adds what the log no longer has, if anything: `dropped=120lines/1.2M`.
    #[must_use]
    pub fn dropped(self, lines: u64, bytes: u64) -> Self {
        if bytes == 0 {
            return self;
        }
        self.field(Key::Dropped, format_args!("{lines}lines/{}", human::size(bytes)))
    }

    /// Adds the exact next call, and ends the header with it. Where an argument is too long to be
    /// shown, a separate line says instead how to continue.
    pub fn next(mut self, call: &Call) -> String {
        if call.whole {
            push(&mut self.0, format_args!(" {}={call}", Key::Next.name()));
        }
        let mut line = self.end();
        if let Some(last) = call.last.as_ref().filter(|_| !call.whole) {
            let tool = call.tool;
            push(
                &mut line,
                format_args!("\nTo go on, call {tool} with the same arguments and {last}."),
            );
        }
        line
    }

    /// The line, without LF.
    pub fn end(mut self) -> String {
        self.0.push(']');
        self.0
    }
}

/// A call of one of our tools, in a form that can be copied: `output(id=r12,view=range,offset=61)`.
#[derive(Clone, Debug)]
pub struct Call {
    tool: &'static str,
    arguments: String,
    /// Whether all arguments are shown in full.
    whole: bool,
    /// The last argument, if it does.
    last: Option<String>,
}

impl Call {
    /// A call without arguments.
    pub fn new(tool: &'static str) -> Self {
        Self { tool, arguments: String::new(), whole: true, last: None }
    }

    /// Adds an argument. The next call differs in the last one.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Display) -> Self {
        let comma = if self.arguments.is_empty() { "" } else { "," };
        let value = value.to_string();
        let argument = format!("{name}={}", Value(&value).of_call());
        push(&mut self.arguments, format_args!("{comma}{argument}"));
        let whole = Value(&value).is_whole();
        self.last = whole.then_some(argument);
        self.whole &= whole;
        self
    }

    /// Adds an argument, if it was given.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.tool, self.arguments)
    }
}

fn push(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a string takes whatever is written to it");
}

#[cfg(test)]
mod tests;
