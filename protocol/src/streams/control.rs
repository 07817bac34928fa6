//! The `control` stream: questions about a link and its jobs, each with one answer.
//!
//! Also the heartbeat of the link, and the way to stop a run: a stop is repeated after a reconnect
//! and leaves a tombstone when it overtakes the request that it stops.

use minicbor::{Decode, Encode};

use crate::failure::Failure;
use crate::id::Nonce;
use crate::streams::run::State;
use crate::streams::session::Status;

/// One question.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Call {
    /// Chosen by the bridge, repeated in the answer.
    #[n(0)]
    pub id: u32,
    /// What is asked. `None` for a question of a newer bridge, which is answered `unsupported`.
    #[n(1)]
    pub ask: Option<Ask>,
}

/// What can be asked.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ask {
    /// Are you there?
    #[n(0)]
    Ping,
    /// Stop a run.
    #[n(1)]
    Stop(#[n(0)] Stop),
    /// Which jobs are there?
    #[n(2)]
    List(#[n(0)] List),
    /// How is this job?
    #[n(3)]
    Inspect(#[n(0)] Nonce),
    /// This link ends.
    #[n(4)]
    Close,
    /// What machine is this?
    #[n(5)]
    Facts,
}

/// Stops a run.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Stop {
    /// The run of this request of ours.
    #[n(0)]
    pub request: Option<Nonce>,
    /// The run with this id.
    #[n(1)]
    pub job: Option<Nonce>,
    /// Only this signal; INT, then TERM, then KILL with 5 s between them when absent.
    #[n(2)]
    pub signal: Option<i32>,
    /// With `request`: the agent process to which the request was first sent. Without it an agent that
    /// does not know the request can say less about it.
    #[n(3)]
    pub instance: Option<Nonce>,
}

/// Lists jobs, newest first.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct List {
    /// Only those older than this one, for the next page.
    #[n(0)]
    pub after: Option<Nonce>,
    /// Only those that still run.
    #[n(1)]
    pub running: Option<bool>,
}

/// One answer.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Reply {
    /// The question's id.
    #[n(0)]
    pub id: u32,
    /// Why not.
    #[n(1)]
    pub failure: Option<Failure>,
    /// What.
    #[n(2)]
    pub answer: Option<Answer>,
}

/// What is answered.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// It was done; also to [`Ask::Ping`] and [`Ask::Close`].
    #[n(0)]
    Done,
    /// To [`Ask::Stop`].
    #[n(1)]
    Stopped(#[n(0)] Stopped),
    /// To [`Ask::List`].
    #[n(2)]
    Jobs(#[n(0)] Jobs),
    /// To [`Ask::Inspect`].
    #[n(3)]
    Job(#[n(0)] Job),
    /// To [`Ask::Facts`].
    #[n(4)]
    Facts(#[n(0)] Facts),
}

/// What a stop came to.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Stopped {
    /// The signal was sent.
    #[n(0)]
    Signalled,
    /// It had ended before.
    #[n(1)]
    Ended,
    /// It has not started, and a tombstone makes sure that it never will.
    #[n(2)]
    NeverStarted,
}

/// A page of jobs.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Jobs {
    /// The jobs.
    #[n(0)]
    pub jobs: Vec<Job>,
    /// Whether there are older ones.
    #[n(1)]
    pub more: Option<bool>,
}

/// A job as the agent keeps it.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Job {
    /// Its id.
    #[n(0)]
    pub job: Nonce,
    /// What runs, cut to a line for people.
    #[n(1)]
    pub command: String,
    /// As whom.
    #[n(2)]
    pub user: String,
    /// The name of the device that started it, as the agent knows it.
    #[n(3)]
    pub device: String,
    /// The surface that started it.
    #[n(4)]
    pub surface: String,
    /// How long ago it was asked for, in milliseconds.
    #[cbor(n(5), decode_with = "crate::peer::count")]
    pub age_ms: u64,
    /// How it is.
    #[n(6)]
    pub state: State,
    /// The request was of this very owner.
    #[n(7)]
    pub mine: bool,
    /// Its process id while it runs.
    #[n(8)]
    pub pid: Option<u32>,
    /// What it is doing, if it is a session.
    #[n(9)]
    pub session: Option<Box<Status>>,
}

/// What machine this is, as the agent says.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Facts {
    /// The host's name.
    #[n(0)]
    pub hostname: String,
    /// The operating system, for people.
    #[n(1)]
    pub os: String,
    /// The architecture.
    #[n(2)]
    pub arch: String,
    /// As whom the agent runs.
    #[n(3)]
    pub user: String,
    /// The shell of that user.
    #[n(4)]
    pub shell: String,
    /// How long the agent has been up, in seconds.
    #[cbor(n(5), decode_with = "crate::peer::count")]
    pub uptime: u64,
    /// The agent's wall clock, seconds since 1970.
    #[cbor(n(6), decode_with = "crate::peer::count")]
    pub time: u64,
    /// Jobs that run now.
    #[n(7)]
    pub running: u32,
    /// Bytes of output that are kept.
    #[cbor(n(8), decode_with = "crate::peer::count")]
    pub spooled: u64,
    /// The directories that its owner has opened.
    #[n(9)]
    pub roots: Option<Vec<crate::streams::files::Root>>,
}
