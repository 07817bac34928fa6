//! `session_commands` and `session_command_status`: what was carried out in a session, by number.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Command, Request, Send};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{SLACK, said};
use crate::client::{Client, Server, random_nonce};
use crate::sessions::control::why;
use crate::sessions::target::session;
use crate::sessions::window::window;
use crate::sessions::{ask, commands as page, exit};
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Tool};

/// The agent remembers no more.
const MOST: u32 = 100;

/// So much of a command's output is shown where nothing else is said.
const BYTES: u32 = 6_000;

/// The latest commands of a session, the oldest first.
async fn commands(
    client: &Client,
    server: &Server,
    session: Nonce,
    limit: u32,
) -> Result<Vec<Command>, Failure> {
    let (commands, _) = page::latest(client, server, session, limit).await.map_err(why)?;
    Ok(commands)
}

/// The latest command of a session.
pub(super) async fn latest(
    client: &Client,
    server: &Server,
    session: Nonce,
) -> Result<Option<Command>, Failure> {
    Ok(commands(client, server, session, 1).await?.pop())
}

/// The arguments of `session_commands`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionCommands {
    /// Session id or server/name; default: the active or only one.
    pub session: Option<String>,
    /// The latest so many (default 20, at most 100).
    pub limit: Option<u32>,
}

impl Tool for SessionCommands {
    const NAME: &'static str = "session_commands";
    const TITLE: &'static str = "List commands";
    const ABOUT: &'static str = "List the commands that were carried out in a session, by whomever: number, exit code, \
        duration, age, directory, text.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let found = session(client, self.session.as_deref()).await?;
        let limit = self.limit.unwrap_or(20).clamp(1, MOST);
        let all = commands(client, &found.server, found.session, limit).await?;
        let mut table = Table::new().limit(4, 80).limit(5, 120);
        for command in &all {
            let time = |ms: Option<u64>| {
                ms.map(|ms| human::duration(Duration::from_millis(ms))).unwrap_or_default()
            };
            let cwd = command.cwd.as_ref().map(|cwd| String::from_utf8_lossy(cwd).into_owned());
            let text = command.text.clone().unwrap_or_default();
            let number = format!("#{}", command.number);
            let age = format!("{} ago", time(command.age_ms));
            table.row([
                number,
                exit(command),
                time(command.duration_ms),
                age,
                cwd.unwrap_or_default(),
                text,
            ]);
        }
        let header = Header::new(Word::Session).value(&found.id.to_string());
        let header = header.words(format_args!("{} commands", all.len()));
        let status = found.status()?;
        if all.is_empty() && !status.marked {
            let text = "Its shell does not mark its commands: they are not known.\n";
            return Ok(format!("{}\n{text}", header.end()));
        }
        let (text, _) = table.within(Budget::default());
        Ok(format!("{}\n{text}", header.end()))
    }
}

/// The arguments of `session_command_status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionCommandStatus {
    /// Session id or server/name; default: the active or only one.
    pub session: Option<String>,
    /// From session_commands (default: the latest).
    pub number: Option<u64>,
    /// Seconds to wait for its end (default 0).
    pub wait: Option<f64>,
    /// Bytes of its output, the first (default 6000).
    pub max_bytes: Option<u32>,
}

impl Tool for SessionCommandStatus {
    const NAME: &'static str = "session_command_status";
    const TITLE: &'static str = "Command status";
    const ABOUT: &'static str = "Show how one command of a session is: running or its exit code, duration, and its output; \
        may wait for its end.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let found = session(client, self.session.as_deref()).await?;
        let (wait, _) = desk.wait(Some(self.wait.unwrap_or(0.0)))?;
        let place = (&found.server, found.session);
        let mut command = one(client, place, self.number).await?;
        if command.end.is_none() && !wait.is_zero() {
            let over = over(client, place, &command, wait);
            tokio::select! {
                over = over => over?,
                () = caller.cancelled.cancelled() => {
                    return Err(Failure::new(Kind::Cancelled, "the wait was cancelled; the command goes on"));
                }
            }
            command = one(client, place, Some(command.number)).await?;
        }
        let limit = self.max_bytes.unwrap_or(BYTES).clamp(1, 1 << 20);
        let length = command.end.map_or(u64::MAX, |end| end.saturating_sub(command.start));
        let limit = u32::try_from(length).map_or(limit, |length| length.min(limit));
        let mut shown = window(client, place, command.start, limit, Duration::ZERO).await?;
        // Whatever was said before it: the output begins here.
        shown.piece.starts_within &= shown.from() != command.start;
        let end = command.end.unwrap_or(shown.state.bytes);
        let more = shown.to() < end;
        if more {
            shown.settle();
        }
        let fate = match (command.exit, command.end) {
            (Some(code), _) => Fate::Exit(code),
            (None, Some(_)) => Fate::Failed(Kind::OutcomeUnknown),
            (None, None) => Fate::Running,
        };
        let mut header = Header::ending(Word::Session, &found.id.to_string(), fate);
        header = header.field(Key::Command, command.number);
        if let Some(duration) = command.duration_ms {
            header = header.time(Duration::from_millis(duration));
        }
        header = header.field(Key::Offset, format_args!("{}-{end}", command.start));
        if command.end.is_some() && command.exit.is_none() {
            header = header.field(Key::Reason, "the shell did not say how it ended");
        }
        let (text, hidden) = shown.text();
        header = header.hidden(hidden);
        let line = match (command.end, more) {
            (None, _) => {
                let call = Call::new(Self::NAME).with("session", found.id);
                header.next(&call.with("number", command.number).with("wait", 25))
            }
            (Some(_), true) => {
                let call = Call::new("pty_read_at").with("session_id", found.id);
                header.next(&call.with("offset", shown.to()))
            }
            (Some(_), false) => header.end(),
        };
        let said = command.text.as_deref().map(crate::text::neutral::neutral).unwrap_or_default();
        Ok(format!("{line}\n$ {said}\n{text}"))
    }
}

/// The command with this number, or the latest.
async fn one(
    client: &Client,
    (server, session): (&Server, Nonce),
    number: Option<u64>,
) -> Result<Command, Failure> {
    let all = commands(client, server, session, MOST).await?;
    let found = match number {
        Some(number) => all.into_iter().find(|command| command.number == number),
        None => all.into_iter().next_back(),
    };
    found.ok_or_else(|| {
        let text = match number {
            Some(number) => format!("no command #{number} is known of it"),
            None => "no command is known of it".to_owned(),
        };
        Failure::new(Kind::UnknownId, text).with_hint("session_commands lists those that are known")
    })
}

/// Waits until a command that runs has ended, or the terminal waits for somebody.
async fn over(
    client: &Client,
    (server, session): (&Server, Nonce),
    command: &Command,
    wait: Duration,
) -> Result<(), Failure> {
    let send = Send {
        request: random_nonce()?,
        session,
        instance: Nonce::ZERO,
        input: Vec::new(),
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        until: None,
        budget: 0,
        from: Some(command.start),
        caller: None,
        at_prompt: None,
        literal: None,
    };
    ask(client, server, &Request::Send(send), wait + SLACK).await.map(drop).map_err(said)
}
