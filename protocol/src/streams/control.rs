//! The `control` stream: requests about a link and its jobs, each with one reply.
//!
//! It is also the heartbeat of the link, and the way to stop a run: a stop is repeated after a
//! reconnect, and leaves a tombstone if it overtakes the request that it stops.

use minicbor::{Decode, Encode};

use crate::failure::Failure;
use crate::id::Nonce;
use crate::streams::run::State;
use crate::streams::session::Status;

/// One request.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Call {
    /// Chosen by the bridge, repeated in the answer.
    #[n(0)]
    pub id: u32,
    /// The request. `None` for one of a newer bridge, which is answered `unsupported`.
    #[n(1)]
    pub ask: Option<Ask>,
}

/// The requests.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ask {
    /// Checks that the agent responds.
    #[n(0)]
    Ping,
    /// Stops a run.
    #[n(1)]
    Stop(#[n(0)] Stop),
    /// Lists jobs.
    #[n(2)]
    List(#[n(0)] JobFilter),
    /// Describes one job.
    #[n(3)]
    Inspect(#[n(0)] Nonce),
    /// Ends this link.
    #[n(4)]
    Close,
    /// Describes the machine.
    #[n(5)]
    Facts,
}

/// Stops a run.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Stop {
    /// The run that this owner started by this request.
    #[n(0)]
    pub request: Option<Nonce>,
    /// The run with this id.
    #[n(1)]
    pub job: Option<Nonce>,
    /// Send only this signal; when absent INT, then TERM, then KILL with 5 s between them.
    #[n(2)]
    pub signal: Option<i32>,
    /// With `request`: the agent process to which the request was first sent. Without it an agent
    /// that does not know the request can say less about it.
    #[n(3)]
    pub instance: Option<Nonce>,
}

/// Lists jobs, newest first.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct JobFilter {
    /// Only jobs older than this one, for the next page.
    #[n(0)]
    pub after: Option<Nonce>,
    /// Only jobs that have not ended.
    #[n(1)]
    pub running: Option<bool>,
}

/// One reply.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Reply {
    /// The id of the call.
    #[n(0)]
    pub id: u32,
    /// Why the call failed, if it did.
    #[n(1)]
    pub failure: Option<Failure>,
    /// The answer, if there is no failure.
    #[n(2)]
    pub answer: Option<Answer>,
}

/// The answers.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// The request was carried out; also to [`Ask::Ping`] and [`Ask::Close`].
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

/// The outcome of a stop.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Stopped {
    /// The signal was sent.
    #[n(0)]
    Signalled,
    /// The job had already ended.
    #[n(1)]
    Ended,
    /// The job has not started, and a tombstone ensures that it never will.
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
    /// Whether there are older jobs.
    #[n(1)]
    pub more: Option<bool>,
}

/// A job of the agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Job {
    /// Its id.
    #[n(0)]
    pub job: Nonce,
    /// The command, cut to a line for people.
    #[n(1)]
    pub command: String,
    /// The user that it runs as.
    #[n(2)]
    pub user: String,
    /// The name of the device that started it, as the agent knows it.
    #[n(3)]
    pub device: String,
    /// The surface that started it.
    #[n(4)]
    pub surface: String,
    /// The time since it was requested, in milliseconds.
    #[cbor(n(5), decode_with = "crate::peer::count")]
    pub age_ms: u64,
    /// Its state.
    #[n(6)]
    pub state: State,
    /// Whether this owner requested it.
    #[n(7)]
    pub mine: bool,
    /// Its process id, while it runs.
    #[n(8)]
    pub pid: Option<u32>,
    /// The state of its terminal, if it is a session.
    #[n(9)]
    pub session: Option<Box<Status>>,
    /// Whether this owner's device requested it, through whichever surface.
    #[n(10)]
    pub own_device: Option<bool>,
}

/// The agent's description of its machine.
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
    /// The user that the agent runs as.
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
    /// The number of running jobs.
    #[n(7)]
    pub running: u32,
    /// The bytes of output that are kept.
    #[cbor(n(8), decode_with = "crate::peer::count")]
    pub spooled: u64,
    /// The directories that the owner has opened.
    #[n(9)]
    pub roots: Option<Vec<crate::streams::files::Root>>,
}
