//! `pty_spawn`: opens a session.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use farwire_keystore::ShortId;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{self, Delivery, Program, Variable};
use farwire_protocol::streams::session::{Labels, Limits};
use schemars::JsonSchema;
use serde::Deserialize;

use super::session::{PtySession, Who, for_owner, label};
use super::until::{Extent, Quiet};
use super::write;
use crate::client::{Client, Server};
use crate::handles::Handle;
use crate::machine::random_nonce;
use crate::runs::control;
use crate::sessions::danger::About;
use crate::sessions::find::by_id;
use crate::sessions::pipes::{Filing, KEPT};
use crate::sessions::target::only_server;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::neutral::neutral_within;
use crate::tools::answer::word;
use crate::tools::caller::Caller;
use crate::tools::names;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::run::variables;
use crate::verbs::session::open::{OpenSession, Opened, USUAL, size};

/// How long to wait for the output of the startup input.
const STARTUP: Duration = Duration::from_secs(3);

/// The arguments of `pty_spawn`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PtySpawn {
    /// Server name; optional if there is only one.
    pub server: Option<String>,
    /// Shell line (default: login shell). An absolute path without cwd runs in its own directory.
    pub command: Option<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// For pty_resume; unique per owner.
    pub name: Option<String>,
    /// To find it by.
    pub tag: Option<String>,
    /// read-write (default) or read-only.
    pub scope: Option<String>,
    /// No terminal; stdout and stderr are read separately.
    pub separate_streams: Option<bool>,
    /// Extra variables.
    pub env: Option<BTreeMap<String, String>>,
    /// Columns (default 120).
    pub cols: Option<u16>,
    /// Rows (default 40).
    pub rows: Option<u16>,
    /// How much output to keep, in bytes.
    pub max_output_bytes: Option<u64>,
    /// Kill the program after this many seconds.
    pub spawn_timeout_sec: Option<f64>,
    /// Close it after this many seconds without input or output.
    pub idle_timeout_sec: Option<f64>,
    /// Output limit in bytes per second.
    pub rate_limit_bps: Option<u64>,
    /// Input limit in bytes per second.
    pub input_rate_bps: Option<u64>,
    /// Milliseconds that reads wait (default 1000).
    pub read_timeout_ms: Option<u64>,
    /// subprocess or tmux: no difference for terminals, every one persists.
    pub backend: Option<Backend>,
    /// Group of sessions whose leases move together.
    pub tmux_workspace: Option<String>,
    /// From confirm_dangerous_command.
    pub dangerous_confirm_token: Option<String>,
    /// Typed at once; its output is shown.
    pub startup_input: Option<String>,
    /// Milliseconds to wait for that output (default 3000).
    pub startup_wait_ms: Option<u64>,
}

/// The backends of other PTY servers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "doc comments would go into the schema that models pay for")]
pub enum Backend {
    Subprocess,
    Tmux,
}

impl Tool for PtySpawn {
    const NAME: &'static str = "pty_spawn";
    const TITLE: &'static str = "Spawn session";
    const ABOUT: &'static str = "Spawn a command or shell in a terminal session on a server. It outlives this client. \
        Dangerous commands need a token first. Then pty_read, pty_write.";
    const EFFECT: Effect = Effect::ACTS;

    async fn call(mut self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let owner = self.owner.take();
        let who = Who::of(seat, owner.as_ref(), None)?;
        let client = seat.client().await?;
        let server = self.server(client).await?;
        let labels = self.labels(who)?;
        if (self.backend, self.separate_streams) == (Some(Backend::Tmux), Some(true)) {
            let text = "backend tmux gives a terminal, which has no separate streams";
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        self.check(seat, who, &server)?;
        self.room(seat, client).await?;
        let (place, shown) = if self.separate_streams == Some(true) {
            self.piped(seat, &server, labels).await?
        } else {
            self.terminal(seat, &server, labels, who).await?
        };
        let id = place.id();
        seat.notes.add_open(id.to_string(), place.job());
        if let Some(timeout) = self.read_timeout_ms.or_else(|| seat.notes.limits().read_timeout_ms)
        {
            seat.notes.set_read_timeout(place.job(), Duration::from_millis(timeout));
        }
        let Some(input) = self.startup_input.as_ref().filter(|input| !input.is_empty()) else {
            return Ok(shown);
        };
        let data = input.as_bytes();
        let written = write::input(seat, &place, data, who).await?;
        if written < data.len() {
            return Err(write::not_all_taken(written, data.len()));
        }
        let wait = super::session::millis(seat, self.startup_wait_ms, STARTUP);
        let quiet = Quiet {
            silence: Duration::from_millis(400).min(wait),
            wait,
            from: 0,
            show: Extent::default(),
        };
        quiet.read(seat, caller, &place, who).await
    }
}

impl PtySpawn {
    /// The named server, or the only one.
    async fn server(&self, client: &Client) -> Result<Server, Failure> {
        match &self.server {
            Some(name) => client.find(name).await,
            None => {
                only_server(client, "there are several servers").map_err(|failure| {
                    match failure.kind {
                        Kind::AmbiguousServer => failure.with_hint("name one in server"),
                        _ => failure,
                    }
                })
            }
        }
    }

    fn labels(&self, who: Who<'_>) -> Result<Labels, Failure> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let read_only = match label("scope", self.scope.as_ref())? {
            None | Some("read-write") => None,
            Some("read-only") => Some(true),
            Some(other) => {
                let shown = neutral_within(other, 40);
                return Err(Failure::new(
                    Kind::InvalidArgument,
                    format!("scope: `{shown}` is not a valid scope"),
                )
                .with_hint("use read-write or read-only"));
            }
        };
        Ok(Labels {
            owner: owned(who.owner),
            tag: owned(label("tag", self.tag.as_ref())?),
            group: owned(label("tmux_workspace", self.tmux_workspace.as_ref())?),
            read_only,
        })
    }

    /// Checks that the command is harmless, or was confirmed.
    fn check(&self, seat: &Seat, who: Who<'_>, server: &Server) -> Result<(), Failure> {
        if self.command.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return Err(Failure::new(Kind::EmptyCommand, "command is empty"));
        }
        // The input typed at once is part of the spawn.
        let parts = [self.command.as_deref(), self.startup_input.as_deref()];
        let command = parts.into_iter().flatten().collect::<Vec<_>>().join("\n");
        let about = About {
            command,
            owner: who.owner.map(str::to_owned),
            scope: label("scope", self.scope.as_ref())?.map(str::to_owned),
            server: Some(server.name.clone()),
        };
        seat.danger.check(&about, self.dangerous_confirm_token.as_deref(), Instant::now())
    }

    /// Checks that there are not too many sessions already.
    async fn room(&self, seat: &Seat, client: &Client) -> Result<(), Failure> {
        let Some(most) = seat.notes.limits().max_sessions else { return Ok(()) };
        for (id, job) in seat.notes.open_sessions() {
            let Ok(Handle { server, .. }) = Handle::find(client, &id) else { continue };
            let over = match control::inspect(client, &server, job).await {
                Ok(found) => !found.state.is_open(),
                Err(failure) => matches!(failure.kind, Kind::UnknownId | Kind::Expired),
            };
            if over {
                seat.notes.remove_open(job);
            }
        }
        if seat.notes.open_sessions().len() as u64 >= most {
            let text =
                format!("this process has {most} sessions open, as many as set_limits allows");
            return Err(Failure::new(Kind::SessionLimit, text));
        }
        Ok(())
    }

    /// The working directory: the requested one, that of an absolute command, or the default.
    fn cwd(&self, seat: &Seat) -> Option<Blob> {
        let cwd = self.cwd.clone().or_else(|| directory(self.command.as_deref()?));
        cwd.or_else(|| seat.notes.cwd()).map(|cwd| Blob(cwd.into_bytes()))
    }

    fn env(&self) -> Option<Vec<Variable>> {
        self.env.clone().map(variables)
    }

    fn kept_bytes(&self, seat: &Seat) -> Option<u64> {
        self.max_output_bytes.or_else(|| seat.notes.limits().max_output_bytes)
    }

    fn timeout(&self, seat: &Seat) -> Result<Option<u64>, Failure> {
        let set = seat.notes.limits().spawn_timeout_sec;
        match (self.spawn_timeout_sec, set) {
            (Some(seconds), _) => milliseconds("spawn_timeout_sec", seconds).map(Some),
            (None, set) => Ok(set.map(|seconds| seconds.saturating_mul(1000))),
        }
    }

    fn limits(&self, seat: &Seat) -> Result<Limits, Failure> {
        let set = seat.notes.limits();
        let idle_ms = match self.idle_timeout_sec {
            Some(seconds) => Some(milliseconds("idle_timeout_sec", seconds)?),
            None => set.idle_timeout_sec.map(|idle| idle.saturating_mul(1000)),
        };
        Ok(Limits {
            idle_ms,
            keep_ms: None,
            output_rate: self.rate_limit_bps,
            input_rate: self.input_rate_bps,
            kept: self.kept_bytes(seat),
        })
    }

    async fn terminal(
        &self,
        seat: &Seat,
        server: &Server,
        labels: Labels,
        who: Who<'_>,
    ) -> Result<(PtySession, String), Failure> {
        let client = seat.client().await?;
        let open = OpenSession {
            name: label("name", self.name.as_ref())?.map(str::to_owned),
            program: self.command.clone().map(|line| Program::Line(Blob(line.into_bytes()))),
            cwd: self.cwd(seat),
            env: self.env(),
            size: size(self.cols.unwrap_or(USUAL.cols), self.rows.unwrap_or(USUAL.rows))?,
            new: Some(true),
            timeout_ms: self.timeout(seat)?,
            caller: Some(who.caller()),
            labels: Some(labels),
            limits: Some(self.limits(seat)?),
            ..OpenSession::default()
        };
        let Opened { handle, answer } = open.carry_out(client, server).await?;
        let (id, status) = (handle.id, &answer.ended.status);
        let fate = match answer.ended.state.is_open() {
            true => Fate::Doing(status.doing, None),
            false => Fate::of(&answer.ended.state),
        };
        let header = Header::ending(word(id), &id.to_string(), fate);
        let header = header.field(Key::Server, &server.name).field(Key::Name, &status.name);
        let text = format!("{}\n", header.next(&read(id, who)));
        let found = by_id(client, &id.to_string(), who.owner).await?;
        Ok((PtySession::Terminal(Box::new(found)), text))
    }

    async fn piped(
        &self,
        seat: &Seat,
        server: &Server,
        labels: Labels,
    ) -> Result<(PtySession, String), Failure> {
        let client = seat.shared_client().await?;
        let command = self.command.clone().ok_or_else(|| {
            Failure::new(Kind::EmptyCommand, "separate_streams: command must say what to run")
        })?;
        if labels.read_only == Some(true) && self.startup_input.is_some() {
            return Err(Failure::new(Kind::InputLocked, "a read-only session takes no input"));
        }
        if self.rate_limit_bps.or(self.input_rate_bps).is_some() {
            let text = "rate_limit_bps and input_rate_bps are for terminals: separate streams have no rate limits";
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        if self.idle_timeout_sec.is_some() {
            let text =
                "idle_timeout_sec is for terminals: with separate streams, use spawn_timeout_sec";
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        let start = run::Start {
            request: random_nonce()?,
            instance: client.instance(server).await?,
            program: Program::Line(Blob(command.into_bytes())),
            cwd: self.cwd(seat),
            env: self.env(),
            user: None,
            login: None,
            timeout_ms: self.timeout(seat)?,
            stdin: Some(true),
            delivery: Delivery::Stream { lossless: false },
            input: None,
        };
        let name = label("name", self.name.as_ref())?.map(str::to_owned);
        let kept =
            self.kept_bytes(seat).and_then(|kept| usize::try_from(kept).ok()).unwrap_or(KEPT);
        let owner = labels.owner.clone();
        let filing = Filing { name, labels, kept };
        let pipe = seat.pipes.open(client, server, start, filing)?;
        let header = Header::ending(word(pipe.id), &pipe.id.to_string(), Fate::Running);
        let header = header.field(Key::Server, &server.name);
        let who = Who { owner: owner.as_deref(), client: None };
        let text = format!("{}\n", header.next(&read(pipe.id, who)));
        Ok((PtySession::Pipe(pipe), text))
    }
}

fn read(id: ShortId, who: Who<'_>) -> Call {
    for_owner(Call::new(names::PTY_READ).with("session_id", id), who.owner)
}

/// The directory of a command that is an absolute path.
fn directory(command: &str) -> Option<String> {
    let program = command.split_whitespace().next().filter(|program| program.starts_with('/'))?;
    let (directory, name) = program.rsplit_once('/')?;
    match (directory, name) {
        (_, "") => None,
        ("", _) => Some("/".to_owned()),
        (directory, _) => Some(directory.to_owned()),
    }
}

fn milliseconds(what: &str, seconds: f64) -> Result<u64, Failure> {
    let fits = Duration::try_from_secs_f64(seconds).ok();
    let fits = fits.and_then(|duration| u64::try_from(duration.as_millis()).ok());
    fits.filter(|&milliseconds| milliseconds > 0).ok_or_else(|| {
        let text = format!("{what} is not a number of seconds greater than 0");
        Failure::new(Kind::InvalidArgument, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_command_is_started_where_it_is() {
        for (command, cwd) in [
            ("/opt/app/bin/server --port 1", Some("/opt/app/bin")),
            ("/init", Some("/")),
            ("ls /tmp", None),
            ("/", None),
            ("./run", None),
            ("", None),
        ] {
            assert_eq!(directory(command).as_deref(), cwd, "{command}");
        }
    }
}
