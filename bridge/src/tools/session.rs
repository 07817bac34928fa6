//! `session_open` and `session_send`: a terminal that stays, for a model.
//!
//! The agent's half is `agent/src/streams/session.rs`; what they say to each other is
//! `protocol/src/streams/session.rs`.

pub mod commands;
pub mod connect;
pub mod control;
pub mod diagnostics;
mod events;
pub mod history;
pub mod job_wait;
pub mod retry;
pub mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use farwire_keystore::ShortId;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Program, Variable};
use farwire_protocol::streams::session::Limits;
use farwire_protocol::streams::session::{
    Because, Doing, Ended, Input, Request, SEND_LIMIT, Send, Size, Start,
};
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroize as _;

use crate::client::{Client, Server, random_nonce};
use crate::runs::answer::NoAnswer;
use crate::runs::control as jobs;
use crate::sessions::who::actor;
use crate::sessions::{Answer, ask, find, id_of, untyped};
use crate::text::Word;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::neutral::neutral_within;
use crate::text::shown::{Budget, Keep, Piece, Total, fit};
use crate::tools::output::Output;
use crate::tools::run::milliseconds;
use crate::tools::{Caller, Desk, Effect, Tool, budget};

/// The tools of category `session`, in the order in which clients list them.
pub const ALL: &[super::Entry] = &[
    super::Entry::of::<connect::SessionConnect>(),
    super::Entry::of::<connect::SessionSetActive>(),
    super::Entry::of::<connect::SessionList>(),
    super::Entry::of::<watch::SessionWatch>(),
    super::Entry::of::<history::SessionHistory>(),
    super::Entry::of::<control::SessionControl>(),
    super::Entry::of::<control::SessionResize>(),
    super::Entry::of::<diagnostics::SessionDiagnostics>(),
    super::Entry::of::<commands::SessionCommands>(),
    super::Entry::of::<commands::SessionCommandStatus>(),
    super::Entry::of::<retry::SessionRetry>(),
    super::Entry::of::<job_wait::JobWait>(),
    super::Entry::of::<connect::SessionClose>(),
];

/// How much longer than its wait an answer may take on the way.
const SLACK: Duration = Duration::from_secs(6);

/// A terminal has no more columns, and no more rows.
const LARGEST: u16 = 1_000;

/// Raw bytes for one character that is shown, at most.
const RAW: usize = 4;

/// The arguments of `session_open`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionOpen {
    /// Server name, from servers.
    pub server: String,
    /// Resumed if it runs.
    pub name: Option<String>,
    /// Default: login shell.
    pub command: Option<String>,
    /// Default: home.
    pub cwd: Option<String>,
    /// Extra variables.
    pub env: Option<BTreeMap<String, String>>,
    /// Run as this user.
    pub user: Option<String>,
    /// Columns (default 120).
    pub cols: Option<u16>,
    /// Rows (default 40).
    pub rows: Option<u16>,
    /// Close after idle seconds.
    pub idle: Option<f64>,
}

impl Tool for SessionOpen {
    const NAME: &'static str = "session_open";
    const TITLE: &'static str = "Open terminal";
    const ABOUT: &'static str = "Open or resume a persistent terminal (pty, shell, tmux-like) on a server: keeps \
        its directory, variables and programs; survives disconnects.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: false, open_world: true };

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let server = client.find(&self.server).await?;
        let variable = |(name, value): (String, String)| Variable {
            name: Blob(name.into_bytes()),
            value: Blob(value.into_bytes()),
        };
        let idle_ms = self.idle.map(milliseconds).transpose()?;
        let limits = idle_ms.map(|_| Limits { idle_ms, ..Limits::default() });
        let request = Request::Open(Start {
            request: random_nonce()?,
            instance: client.instance(&server).await?,
            name: self.name,
            program: self.command.map(|line| Program::Line(Blob(line.into_bytes()))),
            cwd: self.cwd.map(|cwd| Blob(cwd.into_bytes())),
            env: self.env.map(|env| env.into_iter().map(variable).collect()),
            user: self.user,
            size: Size { cols: self.cols.unwrap_or(120), rows: self.rows.unwrap_or(40) },
            attach: None,
            new: None,
            timeout_ms: None,
            caller: None,
            labels: None,
            limits,
        });
        let answer = ask(client, &server, &request, Duration::from_secs(25)).await;
        let answer = answer.map_err(said)?;
        let session = answer.ended.status.session;
        let id = id_of(client, &server, session)?;
        desk.shown(session, answer.ended.offset);
        let status = &answer.ended.status;
        let mut header = header(id, &answer.ended).field(Key::Name, &status.name);
        if status.known == Some(true) {
            header = header.words("resumed");
        }
        Ok(format!("{}\n{}", header.end(), screen_text(&answer, Budget::new(3_000))))
    }
}

/// The arguments of `session_send`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSend {
    /// Session id, e.g. s3.
    pub id: String,
    /// Typed as is.
    pub text: Option<String>,
    /// Press Enter after text (default true).
    pub enter: Option<bool>,
    /// Stored secret to type unseen, by name.
    pub secret: Option<String>,
    /// Then these keys: ctrl-c, up, f5, escape …
    pub keys: Option<Vec<String>>,
    /// Seconds (default 10).
    pub wait: Option<f64>,
    /// Regex: return on a matching line.
    pub until: Option<String>,
    /// Characters (default 7500).
    pub max_output: Option<usize>,
}

impl Tool for SessionSend {
    const NAME: &'static str = "session_send";
    const TITLE: &'static str = "Type into terminal";
    const ABOUT: &'static str = "Type a command or keys into a terminal session: output, exit code and state: \
        prompt, running, password, pager, editor, repl. \
        Full-screen programs: output with view=screen.";
    const EFFECT: Effect = Effect::ACTS;

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let (wait, _) = desk.wait(Some(self.wait.unwrap_or(10.0)))?;
        let (id, server, session) = find(client, &self.id)?;
        let budget = budget(self.max_output);
        let mut input = self.input()?;
        if let Some(name) = &self.secret {
            let value = desk.process.secret(name).await?;
            input.insert(0, Input::Secret(Blob(value.to_vec())));
        }
        let send = Send {
            request: random_nonce()?,
            session,
            instance: client.instance(&server).await?,
            input,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            until: self.until,
            budget: u32::try_from(budget.characters() * RAW).unwrap_or(u32::MAX),
            from: None,
            caller: None,
            at_prompt: None,
            literal: Some(true),
        };
        let answer = exchange(client, (&server, caller), send, wait).await?;
        desk.shown(session, answer.ended.offset);
        Ok(told(id, &answer, budget))
    }
}

impl SessionSend {
    fn input(&self) -> Result<Vec<Input>, Failure> {
        let mut input = Vec::new();
        if self.secret.is_some() {
            if self.text.is_some() {
                let text = "session_send: text and secret do not go together";
                return Err(Failure::new(Kind::InvalidArgument, text)
                    .with_hint("send the command first, and the secret when state=password"));
            }
            if self.enter.unwrap_or(true) {
                input.push(Input::Key("enter".to_owned()));
            }
        } else if let Some(text) = &self.text {
            if text.len() > SEND_LIMIT / 2 {
                return Err(Failure::new(Kind::TooLarge, "text has more than 32 KiB")
                    .with_hint("write it to a file with run and its stdin, and use that"));
            }
            let mut bytes = text.clone().into_bytes();
            if self.enter.unwrap_or(true) && bytes.last() != Some(&b'\n') {
                bytes.push(b'\n');
            }
            input.push(Input::Text(Blob(bytes)));
        } else if self.enter == Some(true) {
            input.push(Input::Key("enter".to_owned()));
        }
        input.extend(self.keys.iter().flatten().cloned().map(Input::Key));
        Ok(input)
    }
}

/// Types something and waits for what comes of it. What was secret of it is wiped.
async fn exchange(
    client: &Client,
    (server, caller): (&Server, &Caller),
    send: Send,
    wait: Duration,
) -> Result<Answer, Failure> {
    let mut request = Request::Send(send);
    let answer = tokio::select! {
        answer = ask(client, server, &request, wait + SLACK) => answer.map_err(said),
        () = caller.cancelled.cancelled() => {
            let text = "the wait was cancelled; what was typed stays typed";
            Err(Failure::new(Kind::Cancelled, text))
        }
    };
    if let Request::Send(send) = &mut request {
        for one in &mut send.input {
            if let Input::Secret(Blob(value)) = one {
                value.zeroize();
            }
        }
    }
    answer
}

/// A command line for the shell of a session, for `run`.
pub(super) async fn run(
    desk: &Desk,
    caller: &Caller,
    (id, command): (&str, String),
    (wait, budget): (Duration, Budget),
) -> Result<String, Failure> {
    let client = desk.client().await?;
    let (id, server, session) = find(client, id)?;
    if command.len() > SEND_LIMIT / 2 {
        return Err(Failure::new(Kind::TooLarge, "command has more than 32 KiB")
            .with_hint("write it to a file with run and its stdin, and run that"));
    }
    let mut line = command.into_bytes();
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    let send = Send {
        request: random_nonce()?,
        session,
        instance: client.instance(&server).await?,
        input: vec![Input::Text(Blob(line))],
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        until: None,
        budget: u32::try_from(budget.characters() * RAW).unwrap_or(u32::MAX),
        from: None,
        caller: None,
        at_prompt: Some(true),
        literal: Some(true),
    };
    let answer = exchange(client, (&server, caller), send, wait).await?;
    desk.shown(session, answer.ended.offset);
    Ok(told(id, &answer, budget))
}

/// A size that a terminal can have: what cannot be is a mistake, and is not brought within bounds in silence.
pub(super) fn size(cols: u16, rows: u16) -> Result<Size, Failure> {
    match (1..=LARGEST).contains(&cols) && (1..=LARGEST).contains(&rows) {
        true => Ok(Size { cols, rows }),
        false => {
            let text = format!("{cols}x{rows}: columns and rows are between 1 and {LARGEST}");
            Err(Failure::new(Kind::InvalidArgument, text))
        }
    }
}

/// The session of this name on a server.
pub async fn named(client: &Client, server: &Server, name: &str) -> Result<Nonce, Failure> {
    let jobs = jobs::jobs(client, server, true).await?;
    let found =
        jobs.iter().find(|job| job.session.as_ref().is_some_and(|session| session.name == name));
    found.map(|job| job.job).ok_or_else(|| {
        let shown = neutral_within(name, 64);
        Failure::new(Kind::UnknownId, format!("no session `{shown}` runs on `{}`", server.name))
            .with_hint("`farwire status` lists what is open")
    })
}

pub(super) fn said(no: NoAnswer) -> Failure {
    no.failure()
}

/// The beginning of a session's header: what it is doing, and the exit of the command that ended.
pub(super) fn header(id: ShortId, ended: &Ended) -> Header {
    let status = &ended.status;
    let fate = match status.doing {
        Doing::Exited => super::fate(&ended.state),
        doing => Fate::Doing(doing, None),
    };
    let header = Header::ending(Word::Session, &id.to_string(), fate);
    match &status.foreground {
        Some(name) if !matches!(status.doing, Doing::Prompt | Doing::Exited) => {
            header.field(Key::Program, name)
        }
        _ => header,
    }
}

/// What came of something that was typed.
fn told(id: ShortId, answer: &Answer, budget: Budget) -> String {
    let ended = &answer.ended;
    let exit = ended.command.as_ref().and_then(|command| command.exit);
    let fate = match ended.status.doing {
        Doing::Exited => super::fate(&ended.state),
        doing => Fate::Doing(doing, exit),
    };
    let mut header = Header::ending(Word::Session, &id.to_string(), fate);
    if let Some(name) = &ended.status.foreground
        && !matches!(ended.status.doing, Doing::Prompt | Doing::Exited)
    {
        header = header.field(Key::Program, name);
    }
    if let Some(duration) = ended.command.as_ref().and_then(|command| command.duration_ms) {
        header = header.time(Duration::from_millis(duration));
    }
    let left = untyped(ended);
    let user = ended.interrupted.as_ref().map(|user| format!("interrupted by {}", actor(user)));
    let reason = match (ended.because, &left, user) {
        (_, Some(left), Some(user)) => Some(format!("{user}; {left}")),
        (_, Some(left), None) => Some(left.clone()),
        (_, None, Some(user)) => Some(user),
        (Some(Because::Silence), ..) => Some("silence".to_owned()),
        (Some(Because::Time), ..) => Some("wait-over".to_owned()),
        _ => None,
    };
    if let Some(reason) = reason {
        header = header.field(Key::Reason, reason);
    }
    if ended.because == Some(Because::Matched) {
        header = header.field(Key::Until, "matched");
    }
    let lines: u64 = answer.pieces.iter().map(|piece| lines(&piece.bytes)).sum();
    let first = answer.pieces.first().map_or(1, |piece| piece.first_line);
    let omitted = answer.ended.omitted.is_some();
    let total = Total {
        lines: match answer.pieces.last() {
            Some(last) if omitted => last.first_line + lines,
            _ => first.saturating_sub(1) + lines,
        },
        ..Total::default()
    };
    let pieces = renumbered(&answer.pieces, first);
    let total = Total { lines: total.lines + 1 - first.min(total.lines + 1), ..total };
    let shown = fit(pieces.first(), pieces.get(1), total, Keep::Ends, budget);
    if !shown.whole {
        header = header.field(Key::Lines, total.lines);
    }
    header = header.hidden(shown.removed.hidden());
    let line = match ended.status.doing {
        Doing::Editor | Doing::Pager => header.next(&screen(id)),
        Doing::Exited => header.end(),
        _ if left.is_some() => header.next(&screen(id)),
        Doing::Running if ended.because == Some(Because::Time) => header.next(&new(id)),
        _ => header.end(),
    };
    format!("{line}\n{}", shown.text)
}

fn lines(bytes: &[u8]) -> u64 {
    let whole = memchr::memchr_iter(b'\n', bytes).count() as u64;
    whole + u64::from(bytes.last().is_some_and(|last| *last != b'\n'))
}

/// The pieces as a log of their own, whose first line is 1.
fn renumbered(pieces: &[Piece], first: u64) -> Vec<Piece> {
    let number = |piece: &Piece| Piece {
        first_line: (piece.first_line + 1).saturating_sub(first).max(1),
        starts_within: piece.starts_within && piece.first_line != first,
        ..piece.clone()
    };
    pieces.iter().map(number).collect()
}

fn new(id: ShortId) -> Call {
    Call::new(<Output as Tool>::NAME).with("id", id)
}

fn screen(id: ShortId) -> Call {
    new(id).with("view", "screen")
}

/// What the screen shows, for `output`.
pub(super) async fn look(
    client: &Client,
    (id, server, session): (ShortId, &Server, Nonce),
    budget: Budget,
) -> Result<String, Failure> {
    let request = Request::Look(session);
    let answer = ask(client, server, &request, Duration::from_secs(20)).await.map_err(said)?;
    let status = &answer.ended.status;
    let mut header = header(id, &answer.ended);
    if let Some(cursor) = status.cursor {
        header = header.field(Key::Cursor, format_args!("{}.{}", cursor.rows, cursor.cols));
    }
    header = header.field(Key::Size, format_args!("{}x{}", status.size.cols, status.size.rows));
    if let Some(title) = status.title.as_deref().filter(|title| !title.is_empty()) {
        header = header.field(Key::Title, title);
    }
    Ok(format!("{}\n{}", header.end(), screen_text(&answer, budget)))
}

/// Waits for what a session says next, for `output`.
pub(super) async fn next(
    client: &Client,
    (id, server, session): (ShortId, &Server, Nonce),
    (from, wait, until): (u64, Duration, Option<String>),
    budget: Budget,
) -> Result<(String, u64), Failure> {
    let send = Send {
        request: random_nonce()?,
        session,
        instance: Nonce::ZERO,
        input: Vec::new(),
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        until,
        budget: u32::try_from(budget.characters() * RAW).unwrap_or(u32::MAX),
        from: Some(from),
        caller: None,
        at_prompt: None,
        literal: Some(true),
    };
    let request = Request::Send(send);
    let answer = ask(client, server, &request, wait + SLACK).await.map_err(said)?;
    Ok((told(id, &answer, budget), answer.ended.offset))
}

fn screen_text(answer: &Answer, budget: Budget) -> String {
    let piece = Piece { first_line: 1, bytes: answer.text.clone(), ..Piece::default() };
    let total = Total { lines: lines(&answer.text), ..Total::default() };
    fit(Some(&piece), None, total, Keep::End, budget).text
}
