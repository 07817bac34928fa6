//! The `run` stream: one program without a terminal, from its start or from anywhere in its output.
//!
//! ```text
//!     bridge                                     agent
//!        | -- Open(Request) ---------------------> |
//!        | <---------------- Started or Resumed -- |
//!        | -- DATA 0 (stdin)* ------------------> |    answered by Ack(0), which frees the sender
//!        | <---------- DATA 1 and 2, Gap, Piece -- |    1 stdout, 2 stderr, 3 a piece of the log
//!        | -- FINAL End -------------------------> |    closes the program's standard input
//!        | <------------- FINAL End with Ended --- |    the only place of an exit status
//! ```
//!
//! DATA 1 and 2 are sent in the order in which the agent read them. The agent keeps the output as
//! one log; its lines are numbered by LF, from 1, and never renumbered.

use minicbor::{Decode, Encode};

use crate::cbor::Blob;
use crate::conversation::Offset;
use crate::failure::Failure;
use crate::id::Nonce;

/// The channel of standard input.
pub const STDIN: u8 = 0;
/// The channel of standard output.
pub const STDOUT: u8 = 1;
/// The channel of standard error.
pub const STDERR: u8 = 2;
/// The channel of pieces of the log.
pub const PIECE: u8 = 3;

/// The maximum total length of argv and environment, in bytes.
pub const COMMAND_LIMIT: usize = 64 * 1024;

/// The maximum length of standard input within the request, in bytes.
pub const INPUT_LIMIT: usize = 48 * 1024;

/// How many bytes of standard input a bridge may have sent beyond the last [`ToBridge::Ack`].
pub const STDIN_WINDOW: u64 = 1024 * 1024;

/// The request that creates a run conversation.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Request {
    /// Starts a program, at most once per request id.
    #[n(0)]
    Start(#[n(0)] Start),
    /// Takes an existing run.
    #[n(1)]
    Take(#[n(0)] Take),
    /// Reads a part of a run's log.
    #[n(2)]
    Read(#[n(0)] Read),
}

/// A program to run.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Start {
    /// Random; the program is started at most once for it, whatever is repeated.
    #[n(0)]
    pub request: Nonce,
    /// The agent process to which it was first sent.
    #[n(1)]
    pub instance: Nonce,
    /// The program.
    #[n(2)]
    pub program: Program,
    /// The working directory; the user's home when absent.
    #[n(3)]
    pub cwd: Option<Blob>,
    /// Variables on top of the clean environment.
    #[n(4)]
    pub env: Option<Vec<Variable>>,
    /// The user to run as; the agent's own user when absent.
    #[n(5)]
    pub user: Option<String>,
    /// Run through a login shell, with its start-up files.
    #[n(6)]
    pub login: Option<bool>,
    /// When to kill its process group, in milliseconds from its start.
    #[cbor(n(7), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub timeout_ms: Option<u64>,
    /// Whether standard input follows on [`STDIN`]; otherwise it is empty.
    #[n(8)]
    pub stdin: Option<bool>,
    /// How the output is delivered.
    #[n(9)]
    pub delivery: Delivery,
    /// All of its standard input, at most [`INPUT_LIMIT`] bytes; then nothing follows on [`STDIN`].
    #[n(10)]
    pub input: Option<Blob>,
}

/// The program to run.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Program {
    /// Program and arguments, as the kernel receives them: no shell reads them.
    #[n(0)]
    Argv(#[n(0)] Vec<Blob>),
    /// A line for the user's shell.
    #[n(1)]
    Line(#[n(0)] Blob),
}

/// One environment variable.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Variable {
    /// Its name.
    #[n(0)]
    pub name: Blob,
    /// Its value.
    #[n(1)]
    pub value: Blob,
}

/// How output is delivered.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Delivery {
    /// Every byte in order, from the start or from the offsets that the opener has. With
    /// `lossless`, output that the reader has not read is not dropped while its link lives: the
    /// program waits for it.
    #[n(0)]
    Stream {
        /// Whether to keep unread output and let the program wait (backpressure).
        #[n(0)]
        lossless: bool,
    },
    /// Head and tail of the log in one answer, at the end or after `wait_ms`.
    #[n(1)]
    Digest(#[n(0)] Digest),
    /// No output: it is read later by the job id. Answered once the program has started.
    #[n(2)]
    Nothing,
}

/// An answer of bounded size.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Digest {
    /// Answer after this many milliseconds, whether or not the run has ended.
    #[cbor(n(0), decode_with = "crate::peer::clamped")]
    pub wait_ms: u64,
    /// The maximum number of bytes from the beginning of the digest.
    #[n(1)]
    pub head: u32,
    /// The maximum number of bytes before the end.
    #[n(2)]
    pub tail: u32,
    /// The offset in the log where the digest begins; 0 when absent.
    #[cbor(n(3), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub from: Option<u64>,
    /// Answer as soon as a line after `from` matches this regular expression.
    #[n(4)]
    pub until: Option<String>,
    /// Answer as soon as the log extends beyond `from`.
    #[n(5)]
    pub until_new: Option<bool>,
    /// Send [`ToBridge::Progress`] about once a second.
    #[n(6)]
    pub progress: Option<bool>,
}

/// Takes an existing run.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Take {
    /// The run.
    #[n(0)]
    pub job: Nonce,
    /// How the output is delivered.
    #[n(1)]
    pub delivery: Delivery,
}

/// Reads a part of a run's log.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Read {
    /// The run.
    #[n(0)]
    pub job: Nonce,
    /// The part.
    #[n(1)]
    pub view: View,
    /// The maximum number of bytes.
    #[n(2)]
    pub budget: u32,
}

/// A part of a log.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum View {
    /// The first lines that are still kept.
    #[n(0)]
    Head(#[n(0)] u32),
    /// The last lines.
    #[n(1)]
    Tail(#[n(0)] u32),
    /// `count` lines from line `first` on.
    #[n(2)]
    Range {
        /// The first line, from 1.
        #[cbor(n(0), decode_with = "crate::peer::clamped")]
        first: u64,
        /// The number of lines.
        #[n(1)]
        count: u32,
    },
    /// Lines that match a regular expression, from line `first` on.
    #[n(3)]
    Grep {
        /// The expression.
        #[n(0)]
        pattern: String,
        /// The line to start from, counted from 1.
        #[cbor(n(1), decode_with = "crate::peer::clamped")]
        first: u64,
        /// The maximum number of matches.
        #[n(2)]
        limit: u32,
        /// The number of lines before and after each match, every line as a piece of its own.
        #[n(3)]
        context: Option<u32>,
    },
}

/// The agent's messages between DATA frames.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToBridge {
    /// The run exists.
    #[n(0)]
    Started(#[n(0)] Started),
    /// The conversation resumes here; the agent has received this much.
    #[n(1)]
    Resumed(#[n(0)] Vec<Offset>),
    /// Output was dropped before it was read.
    #[n(2)]
    Gap {
        /// The number of bytes of [`STDOUT`].
        #[cbor(n(0), decode_with = "crate::peer::count")]
        stdout: u64,
        /// The number of bytes of [`STDERR`].
        #[cbor(n(1), decode_with = "crate::peer::count")]
        stderr: u64,
        /// The number of lines.
        #[cbor(n(2), decode_with = "crate::peer::count")]
        lines: u64,
    },
    /// The progress so far.
    #[n(3)]
    Progress {
        /// Complete lines so far.
        #[cbor(n(0), decode_with = "crate::peer::count")]
        lines: u64,
        /// The last line, cut.
        #[n(1)]
        last: Blob,
    },
    /// The next `length` bytes of [`PIECE`] are this part of the log.
    #[n(4)]
    Piece(#[n(0)] Piece),
    /// How many bytes of a channel of the bridge have been passed on.
    #[n(5)]
    Ack(#[n(0)] Offset),
    /// The run is queued behind this many others.
    #[n(6)]
    Queued(#[n(0)] u32),
    /// A keep-alive, sent after [`BEAT`] of silence.
    #[n(7)]
    Beat,
}

/// How often the agent sends a keep-alive while a run is silent.
pub const BEAT: core::time::Duration = core::time::Duration::from_secs(15);

/// An existing run.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Started {
    /// Its id.
    #[n(0)]
    pub job: Nonce,
    /// Whether it existed before this request.
    #[n(1)]
    pub known: Option<bool>,
    /// Its process id on the server, for people.
    #[n(2)]
    pub pid: Option<u32>,
}

/// A part of the log.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Piece {
    /// The number of its first line.
    #[cbor(n(0), decode_with = "crate::peer::count")]
    pub first_line: u64,
    /// How many bytes follow on [`PIECE`].
    #[n(1)]
    pub length: u32,
    /// Whether it begins within its first line.
    #[n(2)]
    pub starts_within: Option<bool>,
    /// Whether it ends within its last line.
    #[n(3)]
    pub ends_within: Option<bool>,
    /// The offset of its first byte in the log.
    #[cbor(n(4), decode_with = "crate::peer::count")]
    pub offset: u64,
}

/// The body of the agent's [`crate::conversation::End`].
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Ended {
    /// The state of the run, or how it ended.
    #[n(0)]
    pub state: State,
    /// The line from which more matches or lines follow.
    #[cbor(n(1), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub next: Option<u64>,
    /// Whether the `until` expression matched.
    #[n(2)]
    pub matched: Option<bool>,
}

/// The state of a run.
#[derive(Clone, Debug, Default, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct State {
    /// How it ended; absent while it runs.
    #[n(0)]
    pub exit: Option<Exit>,
    /// Why it was ended, if the program did not end by itself.
    #[n(1)]
    pub reason: Option<Reason>,
    /// How long it has been running, or ran, in milliseconds.
    #[cbor(n(2), decode_with = "crate::peer::count")]
    pub duration_ms: u64,
    /// The number of lines in the log, including a last line without LF.
    #[cbor(n(3), decode_with = "crate::peer::count")]
    pub lines: u64,
    /// The number of bytes in the log.
    #[cbor(n(4), decode_with = "crate::peer::count")]
    pub bytes: u64,
    /// The number of bytes that are no longer kept.
    #[cbor(n(5), decode_with = "crate::peer::count")]
    pub dropped_bytes: u64,
    /// The number of lines that are no longer kept.
    #[cbor(n(6), decode_with = "crate::peer::count")]
    pub dropped_lines: u64,
    /// The number of processes that left the process group and were not killed with it.
    #[n(7)]
    pub escaped: Option<u32>,
    /// Why the output is in memory only, if the disk failed.
    #[n(8)]
    pub memory_only: Option<String>,
    /// Whether it waits for its turn.
    #[n(9)]
    pub queued: Option<bool>,
    /// Why it was not started, or why its end is unknown. Then there is no exit, and never will be.
    #[n(10)]
    pub failure: Option<Failure>,
}

impl State {
    /// Whether the run has not ended yet.
    pub fn is_open(&self) -> bool {
        self.exit.is_none() && self.failure.is_none()
    }
}

/// How a program ended, as reported by `wait` and nothing else.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Exit {
    /// With this code.
    #[n(0)]
    Code(#[n(0)] i32),
    /// By this signal.
    #[n(1)]
    Signal(#[cbor(n(0), decode_with = "crate::peer::signal")] i32),
}

/// Why a program was ended.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Reason {
    /// It timed out.
    #[n(0)]
    Timeout,
    /// Somebody stopped it.
    #[n(1)]
    Stopped,
}

#[cfg(test)]
mod tests;
