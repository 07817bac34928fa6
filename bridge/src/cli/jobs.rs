//! `farwire output`, `stop` and `status`: the same verbs as the tools, for people.

use std::time::Duration;

use clap::{Args, ValueEnum};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::control::Stopped;
use farwire_protocol::streams::run::{Delivery, Exit, Request, STDOUT, State, Take, View};
use tokio::sync::mpsc;

use crate::cli::output::{Json, code, print, print_bytes, print_json, reader_is_gone};
use crate::cli::runtime::{ENDING, runtime, until_signal};
use crate::client::Client;
use crate::fleet::why;
use crate::handles::Handle;
use crate::render::status::{JobRow, table};
use crate::runs::answer::NoAnswer;
use crate::runs::control;
use crate::runs::stream::{RunEvent, stream};
use crate::text::neutral::{neutral, neutral_within};
use crate::text::{human, signal};
use crate::verbs::output::OutputPart;
use crate::verbs::status::{ListJobs, ServerJobs};
use crate::verbs::stop::StopJob;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many bytes of output one request returns at most.
const BUDGET: u32 = 4 << 20;

/// Read the output of a run, even after it has ended
///
/// Without --view, prints all the output that is kept, byte for byte; with --follow, also what
/// comes next.
#[derive(Args, Debug)]
pub(crate) struct Output {
    /// The run, such as r12
    id: String,
    /// Print new output until the program ends
    #[arg(short, long)]
    follow: bool,
    /// Print only a part of the output
    #[arg(long, value_enum, conflicts_with = "follow")]
    view: Option<Part>,
    /// For range and grep: the first line, from 1
    #[arg(long, default_value_t = 1)]
    offset: u64,
    /// How many lines or matches to print
    #[arg(long, default_value_t = 80)]
    lines: u32,
    /// For grep: a regular expression
    #[arg(long, required_if_eq("view", "grep"))]
    pattern: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    Head,
    Tail,
    Range,
    Grep,
}

#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// The run, such as r12
    id: String,
    /// Send only this signal: INT, TERM, KILL, HUP, QUIT, USR1, … [default: INT, then TERM, then
    /// KILL, 5 s apart]
    #[arg(long, value_name = "SIGNAL")]
    signal: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Show only this server
    server: Option<String>,
    /// Include runs and sessions that have ended
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Does work that needs the network, then closes the connections, also when a signal ends us.
pub(crate) fn online<T>(
    client: &Client,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let work = async {
        let done = work.await;
        client.close().await;
        done
    };
    runtime()?.block_on(until_signal(&ENDING, client.leave(), work)).flatten()
}

impl Output {
    pub(crate) fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        online(client, async {
            if self.json.json || self.view.is_some() {
                self.part(client).await
            } else {
                self.all(client).await
            }
        })
    }

    /// All output that is kept, byte for byte.
    async fn all(&self, client: &Client) -> Result<(), Failure> {
        let Handle { server, job, .. } = Handle::find(client, &self.id)?;
        let running = control::inspect(client, &server, job).await?.state.is_open();
        if running && !self.follow {
            // Print what there is now, without waiting for more.
            return self.part(client).await;
        }
        let request = Request::Take(Take { job, delivery: Delivery::Stream { lossless: false } });
        let (events, mut out) = mpsc::channel(8);
        let running = stream(client, &server, &request, None, events);
        let writing = async {
            while let Some(event) = out.recv().await {
                match event {
                    RunEvent::Output(STDOUT, bytes) => print_bytes(&bytes)?,
                    RunEvent::Output(_, bytes) => write_all(&mut std::io::stderr(), &bytes)?,
                    RunEvent::Gap(stdout, stderr) => say_dropped(stdout.saturating_add(stderr)),
                    RunEvent::Lost(why) => note!("farwire: {why}"),
                    _ => {}
                }
                if reader_is_gone() {
                    return Ok(false);
                }
            }
            Ok::<_, Failure>(true)
        };
        tokio::pin!(running, writing);
        let ended = tokio::select! {
            ended = &mut running => {
                writing.await?;
                ended
            }
            written = &mut writing => match written? {
                true => running.await,
                false => return Ok(()),
            },
        };
        say_end(&ended.map_err(NoAnswer::failure)?.state);
        Ok(())
    }

    async fn part(&self, client: &Client) -> Result<(), Failure> {
        let handle = Handle::find(client, &self.id)?;
        let view = match self.view {
            None => View::Head(u32::MAX),
            Some(Part::Head) => View::Head(self.lines),
            Some(Part::Tail) => View::Tail(self.lines),
            Some(Part::Range) => View::Range { first: self.offset, count: self.lines },
            Some(Part::Grep) => View::Grep {
                pattern: self.pattern.clone().unwrap_or_default(),
                first: self.offset,
                limit: self.lines,
                context: None,
            },
        };
        let part = OutputPart { view, budget: BUDGET, patience: PATIENCE };
        let answer = part.carry_out(client, &handle).await?;
        let state = &answer.ended.state;
        let bytes: Vec<u8> =
            answer.pieces.iter().flat_map(|piece| self.with_line_end(&piece.bytes)).collect();
        if self.json.json {
            let (exit, signal) = match state.exit {
                Some(Exit::Code(code)) => (Some(code), None),
                Some(Exit::Signal(number)) => (None, Some(signal::name(number))),
                None => (None, None),
            };
            return print_json(&serde_json::json!({
                "id": handle.id.to_string(), "server": handle.server.name, "running": state.is_open(),
                "exit_code": exit, "signal": signal, "error": state.failure.as_ref().map(|failure| failure.kind.name()), "duration_ms": state.duration_ms,
                "lines": state.lines, "total_bytes": state.bytes, "dropped_bytes": state.dropped_bytes,
                "truncated": state.bytes.saturating_sub(state.dropped_bytes) > bytes.len() as u64,
                "next_line": answer.ended.next, "output": String::from_utf8_lossy(&bytes),
            }));
        }
        print_bytes(&bytes)?;
        if state.dropped_bytes > 0 {
            say_dropped(state.dropped_bytes);
        }
        say_end(state);
        Ok(())
    }
}

/// Prints on standard error how the program ended, or that it has not.
fn say_end(state: &State) {
    match state.exit {
        Some(Exit::Code(code)) => note!("farwire: it ended with exit code {code}"),
        Some(Exit::Signal(number)) => {
            note!("farwire: it was ended by signal {}", signal::name(number));
        }
        None => match &state.failure {
            Some(failure) => note!("farwire: {failure}"),
            None if state.queued == Some(true) => note!("farwire: it is waiting for its turn"),
            None => note!("farwire: it is still running"),
        },
    }
}

fn say_dropped(bytes: u64) {
    note!("farwire: {} bytes are no longer kept", human::size(bytes));
}

/// Writes bytes. A reader that has gone is not an error.
fn write_all(out: &mut impl std::io::Write, bytes: &[u8]) -> Result<(), Failure> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Kind::Io, format!("the output could not be written: {error}")))
        }
        _ => Ok(()),
    }
}

impl Output {
    /// The bytes of a piece. Matches of a grep come without the ends of their lines.
    fn with_line_end(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if matches!(self.view, Some(Part::Grep)) {
            bytes.push(b'\n');
        }
        bytes
    }
}

impl Stop {
    pub(crate) fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let signal = self.signal.as_deref().map(signal::parse).transpose()?;
        let verb = StopJob { id: self.id.clone(), signal };
        let word = match online(client, verb.carry_out(client))?.stopped {
            Stopped::Signalled => "signalled",
            Stopped::Ended => "had-ended",
            Stopped::NeverStarted => "never-started",
        };
        if self.json.json {
            return print_json(&serde_json::json!({"id": self.id, "stop": word}));
        }
        print(&format!("{}: {word}\n", neutral_within(&self.id, 40)))
    }
}

/// How many of the newest jobs of each server are shown at most.
const ROWS: usize = 1_000;

impl Status {
    /// Prints what is open. The exit code is that of the first server that should have answered and
    /// did not.
    pub(crate) fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let verb = ListJobs { server: self.server.clone(), all: self.all };
        online(client, async {
            let mut inquiry = verb.carry_out(client).await?;
            if !self.json.json && !inquiry.fleet.for_a_moment().await {
                // Known rows do not wait for servers that are stuck.
                print(&table(&rows(client, &inquiry.fleet.take_known())?).text())?;
                let silent = inquiry.fleet.unanswered().join(", ");
                note!("farwire: waiting for {}", neutral(&silent));
            }
            let gathered = inquiry.fleet.all().await.of_named(self.server.as_deref())?;
            let rows = rows(client, &gathered.known)?;
            if self.json.json {
                print_json(&rows)?;
            } else {
                print(&table(&rows).text())?;
            }
            for (name, failure) in gathered.trouble.iter().chain(&inquiry.away) {
                note!("warning: {}", why(name, failure));
            }
            Ok(gathered.trouble.first().map_or(0, |(_, failure)| code(failure)))
        })
    }
}

/// The rows of these servers.
fn rows(client: &Client, known: &[ServerJobs]) -> Result<Vec<JobRow>, Failure> {
    let mut rows = Vec::new();
    for ServerJobs { server, jobs } in known {
        for job in jobs.iter().take(ROWS) {
            rows.push(JobRow::of(client, server, job)?);
        }
        let more = jobs.len().saturating_sub(ROWS);
        if more > 0 {
            note!("farwire: {more} older entries of `{}` are not shown", neutral(&server.name));
        }
    }
    Ok(rows)
}
