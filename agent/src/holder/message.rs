//! What the agent and a holder say to each other.
//!
//! Both are the same program, but perhaps of different versions: the agent is replaced while
//! holders live on. [`HolderReport::Hello`] comes first and names the version; numbers are never
//! used twice.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Exit, Reason, Variable};
use minicbor::{Decode, Encode};

/// Of this conversation. An agent leaves a holder of another version alone.
pub(crate) const VERSION: u32 = 1;

/// What this build's holder can do. An older holder keeps what it holds, and gets nothing new.
///
/// 1: it passes on the standard input that comes with [`Start`].
///
/// 2: a program that it reports as failed before its start was never started.
pub(crate) const ABLE: u32 = 2;

/// A message of the agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) enum HolderOrder {
    /// Start a program. Comes with the memory of its log.
    #[n(0)]
    Start(#[n(0)] Box<Start>),
    /// Stop it: with one signal, or with the ladder.
    #[n(1)]
    Stop {
        #[n(0)]
        job: Nonce,
        #[n(1)]
        signal: Option<i32>,
    },
    /// Close its standard input.
    #[n(2)]
    CloseInput(#[n(0)] Nonce),
    /// Check its log for room: a reader has moved.
    #[n(3)]
    Unblock(#[n(0)] Nonce),
    /// The agent's note about it, for the next agent.
    #[n(4)]
    Note {
        #[n(0)]
        job: Nonce,
        #[n(1)]
        note: Blob,
    },
    /// Forget it: it has ended.
    #[n(5)]
    Forget(#[n(0)] Nonce),
    /// Bound its output: how many bytes are kept, and how many it may write per second.
    #[n(6)]
    Bound {
        #[n(0)]
        job: Nonce,
        #[n(1)]
        kept: Option<u64>,
        #[n(2)]
        rate: Option<u64>,
    },
}

/// A program to start.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct Start {
    /// The job.
    #[n(0)]
    pub(crate) job: Nonce,
    /// Its arguments.
    #[n(1)]
    pub(crate) argv: Vec<Blob>,
    /// Its complete environment.
    #[n(2)]
    pub(crate) env: Vec<Variable>,
    /// Where it starts.
    #[n(3)]
    pub(crate) cwd: Option<Blob>,
    /// The user that it runs as.
    #[n(4)]
    pub(crate) user: User,
    /// Whether it has standard input.
    #[n(5)]
    pub(crate) piped: bool,
    /// When to kill it, in milliseconds from now.
    #[n(6)]
    pub(crate) timeout_ms: Option<u64>,
    /// What every process of the job has in its environment.
    #[n(7)]
    pub(crate) mark: String,
    /// Where output goes that does not fit its memory.
    #[n(8)]
    pub(crate) path: Blob,
    /// The agent's note about it, for the next agent.
    #[n(9)]
    pub(crate) note: Blob,
    /// The size of its terminal, if it has one.
    #[n(10)]
    pub(crate) terminal: Option<Size>,
    /// A directory that it gets as an open descriptor, to read its start-up files from.
    #[n(11)]
    pub(crate) extra: Option<Blob>,
    /// How many bytes of its output are kept.
    #[n(12)]
    pub(crate) kept: Option<u64>,
    /// How many bytes it may write per second.
    #[n(13)]
    pub(crate) rate: Option<u64>,
    /// All of its standard input, which the holder writes and closes: then none comes from the
    /// agent.
    #[n(14)]
    pub(crate) input: Option<Blob>,
}

/// Columns and rows.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct Size {
    #[n(0)]
    pub(crate) cols: u16,
    #[n(1)]
    pub(crate) rows: u16,
}

/// A user, as looked up by the agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct User {
    #[n(0)]
    pub(crate) name: Blob,
    #[n(1)]
    pub(crate) uid: u32,
    #[n(2)]
    pub(crate) gid: u32,
    #[n(3)]
    pub(crate) home: Blob,
    #[n(4)]
    pub(crate) shell: Blob,
    #[n(5)]
    pub(crate) groups: Vec<u32>,
}

/// A message of a holder.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) enum HolderReport {
    /// The first message.
    #[n(0)]
    Hello {
        #[n(0)]
        version: u32,
        #[n(1)]
        build: String,
        /// What it can do beyond its version: see [`ABLE`].
        #[n(2)]
        able: Option<u32>,
    },
    /// The state of a job that it holds already. Comes with the memory of its log, and with its
    /// standard input if that is open.
    #[n(1)]
    Held(#[n(0)] Held),
    /// It has reported all that it holds.
    #[n(2)]
    Ready,
    /// The program runs. Comes with its standard input, if it has one: on a terminal with the
    /// master.
    #[n(3)]
    Started {
        #[n(0)]
        job: Nonce,
        #[n(1)]
        pid: u32,
        /// In microseconds since boot.
        #[n(2)]
        at: u64,
    },
    /// The program could not be started, or its end is unknown.
    #[n(4)]
    Failed {
        #[n(0)]
        job: Nonce,
        #[n(1)]
        failure: Failure,
    },
    /// Its log has grown.
    #[n(5)]
    Grown(#[n(0)] Nonce),
    /// The program has ended.
    #[n(6)]
    Ended {
        #[n(0)]
        job: Nonce,
        #[n(1)]
        end: ProgramEnd,
    },
    /// Nobody writes to its log any more.
    #[n(7)]
    Finished(#[n(0)] Nonce),
}

/// How a program ended.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct ProgramEnd {
    /// From `wait` and nothing else.
    #[n(0)]
    pub(crate) exit: Exit,
    /// Why it was ended, if it did not end by itself.
    #[n(1)]
    pub(crate) reason: Option<Reason>,
    /// Its output up to this offset was written before its end.
    #[n(2)]
    pub(crate) output_end: u64,
    /// Processes that left its group and live on.
    #[n(3)]
    pub(crate) escaped: u32,
    /// In microseconds since boot.
    #[n(4)]
    pub(crate) at: u64,
}

/// A job as its holder knows it.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct Held {
    #[n(0)]
    pub(crate) job: Nonce,
    #[n(1)]
    pub(crate) note: Blob,
    #[n(2)]
    pub(crate) pid: u32,
    /// In microseconds since boot.
    #[n(3)]
    pub(crate) at: u64,
    #[n(4)]
    pub(crate) end: Option<ProgramEnd>,
    #[n(5)]
    pub(crate) failure: Option<Failure>,
    /// Nobody writes to its log any more.
    #[n(6)]
    pub(crate) finished: bool,
}

#[cfg(test)]
mod tests;
