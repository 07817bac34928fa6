//! `farwire run`: a program on a server as if it were here.
//!
//! Bytes pass through unchanged in both directions; the exit code is the program's, 128 plus the
//! number for a signal, and 255 for every failure of Farwire itself. Ctrl-C interrupts the program,
//! the second kills it, and the third leaves.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::{Duration, Instant};

use clap::Args;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Delivery, Ended, Program, STDOUT};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::output::{code_of, print, print_json};
use crate::cli::runtime::{ENDING, runtime, until_signal};
use crate::cli::server::duration;
use crate::client::{Client, Server};
use crate::handles::Handle;
use crate::runs::stream::{RunEvent, stream};
use crate::runs::{control, outcome};
use crate::verbs::run::{self as verb, Begun, Detached, Stdin, variables};

mod input;
mod sink;
mod terminal;

use input::standard_input;
use sink::Sink;

/// The exit code of everything that is not the program's own.
pub(crate) const OURS: u8 = 255;

/// How many chunks of input and output may wait: together they bound our memory.
const QUEUE: usize = 8;

/// A program that still runs this long after SIGPIPE ignores it.
const HEED: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The server
    server: String,
    /// The program and its arguments, after `--`; no shell interprets them
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<OsString>,
    /// Run this line in the user's shell on the server, instead of a program
    #[arg(short = 'c', value_name = "LINE", conflicts_with = "argv", allow_hyphen_values = true)]
    line: Option<OsString>,
    /// Working directory [default: the user's home]
    #[arg(long, value_name = "DIR")]
    cwd: Option<OsString>,
    /// Set an environment variable; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Run as this user [default: the agent's own]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Use a login shell, with its start-up files
    #[arg(long, requires = "line", conflicts_with = "argv")]
    login: bool,
    /// Kill the program after this time, such as 30s, 5m or 1h [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Give the program no standard input
    #[arg(short = 'n', long = "no-stdin")]
    no_stdin: bool,
    /// Run the program on a terminal of its own, as interactive programs need
    ///
    /// Keys, size and output pass through the local terminal; Ctrl-] leaves, which hangs up on the
    /// program. Without a local terminal, the program gets one of 80 columns by 24 rows: standard
    /// input is typed into it, and its end is typed as Ctrl-D. Standard error is part of the
    /// terminal's output.
    #[arg(short = 't', long = "terminal", conflicts_with_all = ["detach", "json", "login"])]
    terminal: bool,
    /// Print the run's id and leave it running
    #[arg(long)]
    detach: bool,
    /// With --detach: print JSON
    #[arg(long, requires = "detach")]
    json: bool,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("an environment variable has the form KEY=VALUE".to_owned()),
    }
}

impl Run {
    pub(crate) fn detach_json(&self) -> bool {
        self.json
    }

    pub(crate) fn carry_out(&self, client: Client) -> Result<u8, Failure> {
        if self.argv.is_empty() && self.line.is_none() {
            return Err(Failure::new(Kind::EmptyCommand, "there is no command to run"));
        }
        let runtime = runtime()?;
        let code = runtime.block_on(async {
            let done = if self.terminal {
                Box::pin(self.on_terminal(&client)).await
            } else if self.detach {
                let detached = self.detached(&client);
                until_signal(&ENDING, client.leave(), detached).await.flatten()
            } else {
                let ending = [libc::SIGTERM, libc::SIGHUP];
                let attached = Box::pin(self.attached(&client));
                until_signal(&ending, client.leave(), attached).await.flatten()
            };
            client.close().await;
            done
        });
        // A read of standard input may still block a thread; do not wait for it.
        runtime.shutdown_background();
        code
    }

    /// The program to run, and how.
    fn verb(&self) -> verb::RunProgram {
        let program = match &self.line {
            Some(line) => Program::Line(blob(line)),
            None => Program::Argv(self.argv.iter().map(blob).collect()),
        };
        let env = variables(self.env.iter().cloned().collect());
        let millis = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        verb::RunProgram {
            cwd: self.cwd.as_ref().map(blob),
            env: (!env.is_empty()).then_some(env),
            user: self.user.clone(),
            login: self.login,
            timeout_ms: self.timeout.map(millis),
            stdin: if self.wants_stdin() { Stdin::Stream } else { Stdin::Empty },
            ..verb::RunProgram::new(program)
        }
    }

    fn wants_stdin(&self) -> bool {
        !self.no_stdin && !self.detach
    }

    async fn detached(&self, client: &Client) -> Result<u8, Failure> {
        let server = client.find(&self.server).await?;
        let Detached { handle, queued } = self.verb().detach(client, server).await?;
        let Handle { id, server, .. } = handle;
        if queued {
            note!("farwire: the server is busy; `{id}` is waiting for its turn");
        }
        if self.json {
            print_json(&serde_json::json!({"id": id.to_string(), "server": server.name}))?;
        } else {
            print(&format!("{id}\n"))?;
        }
        Ok(0)
    }

    async fn attached(&self, client: &Client) -> Result<u8, Failure> {
        let server = client.find(&self.server).await?;
        let delivery = Delivery::Stream { lossless: true };
        let Begun { handle, request } = self.verb().begin(client, server, delivery)?;
        let Handle { id, server, job } = handle;
        let (events, out) = mpsc::channel(QUEUE);
        let (sink, written) = Sink::new();
        let (input, mut broken) = standard_input(self.wants_stdin());
        let running = stream(client, &server, &request, input, events);
        let watching =
            Watcher { client, server: &server, job, id: id.to_string(), sink }.watch(out);
        let ended = tokio::select! {
            ended = async { tokio::join!(running, watching).0 } => {
                ended.map_err(|no| outcome(id, no))?
            }
            left = interrupts(client, &server, job) => {
                left?;
                let message = format!("left; `{id}` keeps running on `{}`", server.name);
                return Err(Failure::new(Kind::OutcomeUnknown, message)
                    .with_hint(format!("`farwire output {id}` shows its output, `farwire stop {id}` ends it")));
            }
            input = broken.wait() => {
                let stopped = control::stop(client, &server, job, None).await;
                let hint = match stopped {
                    Ok(_) => format!("`{id}` was stopped; `farwire output {id}` shows what it said"),
                    Err(_) => format!("`farwire stop {id}` ends the program, which waits for more"),
                };
                return Err(input.failure().with_hint(hint));
            }
        };
        // Everything has been received; now it must be written.
        written.await.unwrap_or(Ok(())).map_err(|error| {
            Failure::new(Kind::Io, format!("the output could not be written: {error}"))
        })?;
        report(&ended);
        Ok(exit_code(&ended))
    }
}

fn blob(text: &OsString) -> Blob {
    Blob(text.clone().into_vec())
}

fn report(ended: &Ended) {
    let state = &ended.state;
    if let Some(escaped) = state.escaped {
        note!("farwire: {escaped} processes left the process group and were not killed");
    }
    if state.reason == Some(farwire_protocol::streams::run::Reason::Timeout) {
        note!("farwire: killed, because its time was up");
    }
}

fn exit_code(ended: &Ended) -> u8 {
    ended.state.exit.and_then(code_of).unwrap_or(OURS)
}

/// Waits for Ctrl-C: the first interrupts the program, the second kills it, the third leaves.
async fn interrupts(client: &Client, server: &Server, job: Nonce) -> Result<(), Failure> {
    let no_signal = |error| Failure::new(Kind::Io, format!("no signals: {error}"));
    let mut int = signal(SignalKind::interrupt()).map_err(no_signal)?;
    // Whether the next Ctrl-C has come while the previous signal was still being sent.
    let mut came = false;
    for (number, what) in [(libc::SIGINT, "interrupting"), (libc::SIGKILL, "killing")] {
        if !came {
            int.recv().await;
        }
        note!(
            "farwire: {what} it; press Ctrl-C again to {}",
            if number == libc::SIGINT { "kill it" } else { "leave" }
        );
        came = tokio::select! {
            stopped = control::stop(client, server, job, Some(number)) => {
                if let Err(failure) = stopped {
                    note!("farwire: {}", failure.message);
                }
                false
            }
            _ = int.recv() => true,
        };
    }
    if !came {
        int.recv().await;
    }
    Ok(())
}

/// Passes events on: output to the sink, trouble to standard error.
struct Watcher<'a> {
    client: &'a Client,
    server: &'a Server,
    job: Nonce,
    /// The run's short id.
    id: String,
    sink: Sink,
}

impl Watcher<'_> {
    async fn watch(mut self, mut events: mpsc::Receiver<RunEvent>) {
        let mut lost = false;
        let mut told: Option<Instant> = None;
        while let Some(event) = events.recv().await {
            match event {
                RunEvent::Output(channel, bytes) => {
                    if !self.sink.write(channel == STDOUT, bytes).await {
                        self.reader_gone().await;
                        told = Some(Instant::now());
                    } else if told.is_some_and(|at| at.elapsed() >= HEED) {
                        told = None;
                        if !self.goes_on().await {
                            continue;
                        }
                        note!(
                            "farwire: nobody reads the output any more, but the program keeps running; Ctrl-C interrupts it, `farwire stop {}` ends it",
                            self.id
                        );
                    }
                }
                RunEvent::Gap(stdout, stderr) => {
                    let bytes = stdout.saturating_add(stderr);
                    note!("farwire: {bytes} bytes of output were dropped on the server");
                }
                RunEvent::Lost(why) if !lost => {
                    lost = true;
                    note!("farwire: {why}; the program keeps running; reconnecting");
                }
                RunEvent::Back if lost => {
                    lost = false;
                    note!("farwire: reconnected");
                }
                RunEvent::Queued => note!("farwire: the server is busy; waiting for its turn"),
                RunEvent::Lost(_) | RunEvent::Back | RunEvent::Started => {}
            }
        }
    }

    /// Whether the program is running, as far as is known.
    async fn goes_on(&self) -> bool {
        let job = control::inspect(self.client, self.server, self.job).await;
        job.is_ok_and(|job| job.state.exit.is_none() && job.state.failure.is_none())
    }

    /// Nobody reads our output any more: send the program SIGPIPE, as it would get here.
    async fn reader_gone(&self) {
        // If the signal cannot be sent, the program keeps running, as it would without us.
        let _ = control::stop(self.client, self.server, self.job, Some(libc::SIGPIPE)).await;
    }
}
