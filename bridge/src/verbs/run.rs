//! Runs a program on a server, without a terminal.
//!
//! [`RunProgram::carry_out`] brings a bounded answer, [`RunProgram::detach`] only the id, and
//! [`RunProgram::begin`] the request for those that carry every byte over [`crate::runs::stream`].
//! All of them give the run its short id before anything is sent.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use farwire_keystore::ShortId;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::Stopped;
use farwire_protocol::streams::run::{
    Delivery, Digest, INPUT_LIMIT, Program, Request, Start, Variable,
};
use tokio::time::Instant;

use super::observer::Observer;
use crate::client::{Client, Server};
use crate::handles::Handle;
use crate::machine::random_nonce;
use crate::runs::answer::{News, NoAnswer, RunReply, ask};
use crate::runs::{assign, control, outcome};
use crate::text::shown::Budget;

/// How much longer than its wait an answer may take on the way.
pub const SLACK: Duration = Duration::from_secs(4);

/// How long a server may take to confirm a run that nobody waits for.
const DETACHING: Duration = Duration::from_secs(30);

/// The failure of a call that was cancelled before anything was sent.
pub const UNSENT: &str = "cancelled, and nothing was started";

/// Runs a program.
#[derive(Clone, Debug)]
pub struct RunProgram {
    /// A line for the user's shell, or a program and its arguments.
    pub program: Program,
    /// Where it runs; by default the user's home.
    pub cwd: Option<Blob>,
    /// Environment variables that it gets besides.
    pub env: Option<Vec<Variable>>,
    /// The user that it runs as; by default the agent's own.
    pub user: Option<String>,
    /// Whether the line is read by a login shell.
    pub login: bool,
    /// It is killed after this time.
    pub timeout_ms: Option<u64>,
    /// Its standard input.
    pub stdin: Stdin,
}

/// The standard input of a run.
#[derive(Clone, Debug, Default)]
pub enum Stdin {
    /// There is none.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Vec<u8>),
    /// What the caller sends while it runs.
    Stream,
}

/// How much of the output an answer brings, and how long it waits for the end.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt {
    /// How long to wait for the end.
    pub wait: Duration,
    /// How many characters will be shown.
    pub budget: Budget,
    /// Whether the observer is to hear of progress meanwhile.
    pub progress: bool,
}

/// What came of a run by the time that it was waited for.
#[derive(Debug)]
pub struct RunAnswer {
    /// The run.
    pub handle: Handle,
    /// How it is and what it said, or why the server did not say.
    pub answer: Result<RunReply, NoAnswer>,
    /// How long the answer took.
    pub waited: Duration,
}

/// A run that nobody waits for.
#[derive(Debug)]
pub struct Detached {
    /// The run.
    pub handle: Handle,
    /// Whether the server is busy, so that it waits for its turn.
    pub queued: bool,
}

/// A run that has its id and has not been sent.
#[derive(Debug)]
pub struct Begun {
    /// The run.
    pub handle: Handle,
    /// The request that starts it.
    pub request: Request,
}

impl RunProgram {
    /// A run of this program, with nothing else said.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            cwd: None,
            env: None,
            user: None,
            login: false,
            timeout_ms: None,
            stdin: Stdin::Empty,
        }
    }

    /// A run of this line by the user's shell, with nothing else said.
    pub fn line(line: impl Into<Vec<u8>>) -> Self {
        Self::new(Program::Line(Blob(line.into())))
    }

    /// Starts it, and waits for its end or until the time is up. When the caller cancels, it is
    /// stopped if it was sent.
    ///
    /// # Errors
    ///
    /// What makes it no request, and `cancelled`. That the server does not answer is part of the
    /// answer.
    pub async fn carry_out(
        self,
        client: &Client,
        server: Server,
        excerpt: Excerpt,
        observer: &dyn Observer,
    ) -> Result<RunAnswer, Failure> {
        let patience = excerpt.wait + SLACK;
        let start = self.start(Delivery::Digest(excerpt.digest()))?;
        let begun = Instant::now();
        let handle = assign_handle(client, server, start.request)?;
        let answer = ask_or_stop(client, &handle, start, patience, observer).await?;
        Ok(RunAnswer { handle, answer, waited: begun.elapsed() })
    }

    /// Starts it, and waits for nothing but that the server has it.
    ///
    /// # Errors
    ///
    /// What makes it no request, and `outcome_unknown` where the server did not say that it has it.
    pub async fn detach(self, client: &Client, server: Server) -> Result<Detached, Failure> {
        let Begun { handle, request } = self.begin(client, server, Delivery::Nothing)?;
        let queued = match ask(client, &handle.server, &request, DETACHING, |_| ()).await {
            Ok(_) => false,
            Err(NoAnswer::Queued) => true,
            Err(no) => return Err(outcome(handle.id, no)),
        };
        Ok(Detached { handle, queued })
    }

    /// Gives it its id, and makes the request that starts it.
    ///
    /// # Errors
    ///
    /// What makes it no request.
    pub fn begin(
        self,
        client: &Client,
        server: Server,
        delivery: Delivery,
    ) -> Result<Begun, Failure> {
        let start = self.start(delivery)?;
        let handle = assign_handle(client, server, start.request)?;
        Ok(Begun { handle, request: Request::Start(start) })
    }

    fn start(self, delivery: Delivery) -> Result<Start, Failure> {
        let (streamed, input) = match self.stdin {
            Stdin::Empty => (None, None),
            Stdin::Stream => (Some(true), None),
            Stdin::Bytes(bytes) if bytes.len() > INPUT_LIMIT => {
                return Err(Failure::new(Kind::TooLarge, "stdin has more than 48 KiB").with_hint(
                    "write it to a file on the server in several calls, then read that",
                ));
            }
            Stdin::Bytes(bytes) => (None, Some(Blob(bytes))),
        };
        Ok(Start {
            request: random_nonce()?,
            instance: Nonce::ZERO,
            program: self.program,
            cwd: self.cwd,
            env: self.env,
            user: self.user,
            login: self.login.then_some(true),
            timeout_ms: self.timeout_ms,
            stdin: streamed,
            delivery,
            input,
        })
    }
}

impl Excerpt {
    /// The digest to ask for, from the beginning of the log. Raw bytes clean down: more than is
    /// shown is asked for.
    pub fn digest(self) -> Digest {
        let budget = u32::try_from(self.budget.characters()).unwrap_or(u32::MAX);
        Digest {
            wait_ms: u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX),
            head: budget,
            tail: budget.saturating_mul(2),
            from: None,
            until: None,
            until_new: None,
            progress: self.progress.then_some(true),
        }
    }
}

/// Environment variables as requests have them.
pub fn variables(env: BTreeMap<String, String>) -> Vec<Variable> {
    let variable = |(name, value): (String, String)| Variable {
        name: Blob(name.into_bytes()),
        value: Blob(value.into_bytes()),
    };
    env.into_iter().map(variable).collect()
}

fn assign_handle(client: &Client, server: Server, job: Nonce) -> Result<Handle, Failure> {
    let id = assign(client, &server, job)?;
    Ok(Handle { id, server, job })
}

/// Starts a run and waits for its answer. When the caller cancels, the run is stopped if it was
/// sent.
async fn ask_or_stop(
    client: &Client,
    handle: &Handle,
    start: Start,
    patience: Duration,
    observer: &dyn Observer,
) -> Result<Result<RunReply, NoAnswer>, Failure> {
    let request = Request::Start(start);
    // The agent process to which it was first sent.
    let sent = OnceLock::new();
    let asked = ask(client, &handle.server, &request, patience, |news| match news {
        // It is sent for the first time once.
        News::Sent(instance) => {
            let _ = sent.set(instance);
        }
        news => observer.hear(&news),
    });
    tokio::select! {
        answer = asked => Ok(answer),
        () = observer.cancellation().cancelled() => {
            Err(cancel(client, handle, sent.get().copied()).await)
        }
    }
}

async fn cancel(client: &Client, handle: &Handle, sent: Option<Nonce>) -> Failure {
    let Handle { id, server, job } = handle;
    let message = match sent {
        None => UNSENT,
        Some(_) => match control::stop_sent(client, server, *job, sent, None).await {
            Ok(Stopped::NeverStarted) => "cancelled before the command was started",
            Ok(Stopped::Ended) => "cancelled; the command had ended",
            Ok(_) => "cancelled, and the command was stopped",
            Err(failure) => return unknown_stop(*id, &failure),
        },
    };
    Failure::new(Kind::Cancelled, message)
}

fn unknown_stop(id: ShortId, failure: &Failure) -> Failure {
    let message = format!("cancelled; whether `{id}` was stopped: {}", failure.message);
    Failure::new(Kind::OutcomeUnknown, message)
        .with_hint(format!("`output {id}` shows how it is, `stop {id}` stops it"))
}
