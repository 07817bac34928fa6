//! `run`: one command on one server.
//!
//! The agent's half is `agent/src/streams/run.rs`; what they say to each other is
//! `protocol/src/streams/run.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use farwire_keystore::ShortId;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{
    Delivery, Digest, INPUT_LIMIT, Program, Request, Start, State, Variable,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::client::{Client, Server, random_nonce};
use crate::render::clean;
use crate::render::digest::{Piece, Shown, fit};
use crate::render::header::Header;
use crate::runs::answer::{Answer, News, NoAnswer, ask};
use crate::runs::{assign, control};
use crate::tools::{Caller, Desk, Effect, Tool, budget};

/// How much longer than its wait an answer may take on the way.
pub(super) const SLACK: Duration = Duration::from_secs(4);

/// The arguments of `run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Server name, from servers.
    pub server: String,
    /// Shell command line; pipes, && and here-documents work.
    pub command: String,
    /// Default: home.
    pub cwd: Option<String>,
    /// Extra variables.
    pub env: Option<BTreeMap<String, String>>,
    /// Text for stdin.
    pub stdin: Option<String>,
    /// Run as this user.
    pub user: Option<String>,
    /// Login shell with start-up files.
    pub login: Option<bool>,
    /// Seconds to wait (default 25); then it goes on and you get its id.
    pub wait: Option<f64>,
    /// Kill after seconds (default: never).
    pub timeout: Option<f64>,
    /// Characters (default 7500).
    pub max_output: Option<usize>,
}

impl Tool for Run {
    const NAME: &'static str = "run";
    const TITLE: &'static str = "Run command";
    const ABOUT: &'static str = "Run (execute) one shell command on a remote server, like ssh HOST COMMAND: \
        exit code and output. No terminal: prompts fail. What outlasts wait keeps running: \
        go on with output, end it with stop. A non-zero exit is a normal result.";
    const EFFECT: Effect = Effect::ACTS;

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let (wait, clamped) = desk.wait(self.wait)?;
        let server = client.find(&self.server).await?;
        let budget = budget(self.max_output);
        let mut start = self.start(wait, budget, caller.progress.is_some())?;
        let begun = Instant::now();
        loop {
            start.instance = client.instance(&server).await?;
            let job = start.request;
            let id = assign(client, &server, job)?;
            let request = Request::Start(start.clone());
            let asked = ask(client, &server, &request, wait + SLACK, |news| tell(caller, &news));
            let answer = tokio::select! {
                answer = asked => answer,
                () = caller.cancelled.cancelled() => {
                    return Err(cancel(client, &server, job).await);
                }
            };
            match answer {
                Ok(answer) => {
                    desk.shown(job, answer.ended.state.bytes);
                    return Ok(present(
                        "run",
                        id,
                        &answer,
                        budget,
                        clamped.then_some(desk.max_wait),
                    ));
                }
                // The agent was restarted before the request arrived, and says under its own keys
                // that nothing was started: a new request is safe.
                Err(NoAnswer::Failed(failure)) if failure.kind == Kind::StreamStale => {
                    start.request = random_nonce()?;
                }
                Err(NoAnswer::Failed(failure)) => return Err(failure),
                Err(NoAnswer::Unreachable(why)) => {
                    return Ok(unreachable(id, &why, begun.elapsed()));
                }
            }
        }
    }
}

impl Run {
    fn start(self, wait: Duration, budget: usize, progress: bool) -> Result<Start, Failure> {
        let variable = |(name, value): (String, String)| Variable {
            name: Blob(name.into_bytes()),
            value: Blob(value.into_bytes()),
        };
        if self.stdin.as_ref().is_some_and(|stdin| stdin.len() > INPUT_LIMIT) {
            return Err(Failure::new(Kind::TooLarge, "stdin has more than 48 KiB")
                .with_hint("write it to a file on the server in several calls, then read that"));
        }
        let timeout_ms = self.timeout.map(milliseconds).transpose()?;
        Ok(Start {
            request: random_nonce()?,
            instance: farwire_protocol::id::Nonce::ZERO,
            program: Program::Line(Blob(self.command.into_bytes())),
            cwd: self.cwd.map(|cwd| Blob(cwd.into_bytes())),
            env: self.env.map(|env| env.into_iter().map(variable).collect()),
            user: self.user,
            login: self.login,
            timeout_ms,
            stdin: None,
            delivery: Delivery::Digest(digest(wait, budget, progress)),
            input: self.stdin.map(|stdin| Blob(stdin.into_bytes())),
        })
    }
}

fn milliseconds(seconds: f64) -> Result<u64, Failure> {
    let fits = Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero());
    let duration = fits.ok_or_else(|| {
        Failure::new(
            Kind::InvalidArgument,
            format!("timeout: {seconds} is not a number of seconds"),
        )
    })?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A digest from the beginning. Raw bytes clean down: more than is shown is asked for.
pub(super) fn digest(wait: Duration, budget: usize, progress: bool) -> Digest {
    let budget = u32::try_from(budget).unwrap_or(u32::MAX);
    Digest {
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        head: budget,
        tail: budget.saturating_mul(2),
        from: None,
        until: None,
        until_new: None,
        progress: progress.then_some(true),
    }
}

/// Passes progress on, one line of text at a time.
pub(super) fn tell(caller: &Caller, news: &News) {
    let Some(progress) = &caller.progress else { return };
    let (lines, text) = match news {
        News::Progress(lines, last) => {
            let line = clean::clean(last, 1).lines.pop().map(|line| line.text).unwrap_or_default();
            (*lines, line.chars().take(80).collect())
        }
        News::Queued => (0, "waiting for its turn".to_owned()),
    };
    // A client that does not read its notifications misses some.
    let _ = progress.try_send((lines, text));
}

async fn cancel(client: &Client, server: &Server, job: farwire_protocol::id::Nonce) -> Failure {
    match control::stop(client, server, job, None).await {
        Ok(_) => Failure::new(Kind::Cancelled, "cancelled, and the command was stopped"),
        Err(failure) => failure,
    }
}

/// The answer with its header.
pub(super) fn present(
    about: &str,
    id: ShortId,
    answer: &Answer,
    budget: usize,
    clamped: Option<Duration>,
) -> String {
    let state = &answer.ended.state;
    let shown = fit(&answer.pieces, state.lines, budget);
    let mut header = Header::new(&format!("{about} {id}")).state(state);
    if let Some(most) = clamped {
        header = header.word(&format!("wait-limited-to={}s", most.as_secs()));
    }
    if answer.ended.matched == Some(true) {
        header = header.word("until=matched");
    }
    header = with_shown(header, id, state, &shown, &answer.pieces);
    format!("{}\n{}", header.end(), shown.text)
}

/// Adds what is shown, what is hidden, and the exact next call.
pub(super) fn with_shown(
    mut header: Header,
    id: ShortId,
    state: &State,
    shown: &Shown,
    pieces: &[Piece],
) -> Header {
    if let Some(ranges) = &shown.ranges {
        header = header.word(&format!("shown={ranges}"));
    }
    if shown.hidden > 0 {
        header = header.word(&format!("hidden={}", shown.hidden));
    }
    let running = state.exit.is_none();
    match shown.next {
        Some(line) if !running => header.next(&format!("output(id={id},view=range,offset={line})")),
        _ if running => header.next(&format!("output(id={id})")),
        // Bytes of a long line that did not fit are no lines of their own.
        _ if pieces.iter().any(|piece| piece.ends_within) => {
            header.next(&format!("output(id={id},view=grep,pattern=…)"))
        }
        _ => header,
    }
}

/// What is said when the server could not be reached again.
pub(super) fn unreachable(id: ShortId, why: &Failure, waited: Duration) -> String {
    let waited = crate::render::duration(u64::try_from(waited.as_millis()).unwrap_or(0));
    let header = Header::new(&format!("run {id}")).word("state=unreachable").word(&waited);
    let why = crate::render::neutral(&why.message, 300);
    format!(
        "{}\nThe link to the server is down ({why}). Whether the command has started or ended is not known; \
         it is not run a second time.\n",
        header.next(&format!("output(id={id})")).end()
    )
}
