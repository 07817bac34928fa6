//! `session_commands` and `session_command_status`: the commands that were run in a session, by
//! number.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::sessions::exit;
use crate::sessions::find::SessionName;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::neutral::neutral;
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::caller::Caller;
use crate::tools::names;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::session::commands::{CommandStatus, CommandStatusAnswer, Commands, MOST};

/// How many bytes of a command's output are shown by default.
const BYTES: u32 = 6_000;

/// The arguments of `session_commands`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionCommands {
    /// Session id or server/name; default: the active or only one.
    pub session: Option<String>,
    /// How many of the latest commands (default 20, at most 100).
    pub limit: Option<u32>,
}

impl Tool for SessionCommands {
    const NAME: &'static str = "session_commands";
    const TITLE: &'static str = "List commands";
    const ABOUT: &'static str = "List the commands that were run in a session, by anybody: number, exit code, \
        duration, age, directory, text.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let found = SessionName::parse_optional(self.session.as_deref()).find(client, None).await?;
        let limit = self.limit.unwrap_or(20).clamp(1, MOST);
        let commands = Commands { limit }.carry_out(client, &found.handle).await?.commands;
        let mut table = Table::new().limit(4, 80).limit(5, 120);
        for command in &commands {
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
        let header = Header::new(Word::Session).value(&found.handle.id.to_string());
        let header = header.words(format_args!("{} commands", commands.len()));
        if commands.is_empty() && !found.status.marked {
            let text = "Its shell does not mark its commands, so they are not known.\n";
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
    /// How many of its first output bytes (default 6000).
    pub max_bytes: Option<u32>,
}

impl Tool for SessionCommandStatus {
    const NAME: &'static str = "session_command_status";
    const TITLE: &'static str = "Command status";
    const ABOUT: &'static str = "Show one command of a session: running or its exit code, \
        duration, and output; can wait for its end.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let found = SessionName::parse_optional(self.session.as_deref()).find(client, None).await?;
        let (wait, _) = seat.wait(Some(self.wait.unwrap_or(0.0)))?;
        let bytes = self.max_bytes.unwrap_or(BYTES).clamp(1, 1 << 20);
        let status = CommandStatus { number: self.number, wait, bytes };
        let CommandStatusAnswer { command, output, end } =
            status.carry_out(client, &found.handle, caller).await?;
        let more = output.to() < end;
        let fate = match (command.exit, command.end) {
            (Some(code), _) => Fate::Exit(code),
            (None, Some(_)) => Fate::Failed(Kind::OutcomeUnknown),
            (None, None) => Fate::Running,
        };
        let mut header = Header::ending(Word::Session, &found.handle.id.to_string(), fate);
        header = header.field(Key::Command, command.number);
        if let Some(duration) = command.duration_ms {
            header = header.time(Duration::from_millis(duration));
        }
        header = header.field(Key::Offset, format_args!("{}-{end}", command.start));
        if command.end.is_some() && command.exit.is_none() {
            header = header.field(Key::Reason, "the shell did not report how it ended");
        }
        let (text, hidden) = output.text();
        header = header.hidden(hidden);
        let line = match (command.end, more) {
            (None, _) => {
                let call = Call::new(Self::NAME).with("session", found.handle.id);
                header.next(&call.with("number", command.number).with("wait", 25))
            }
            (Some(_), true) => {
                let call = Call::new(names::PTY_READ_AT).with("session_id", found.handle.id);
                header.next(&call.with("offset", output.to()))
            }
            (Some(_), false) => header.end(),
        };
        let typed = command.text.as_deref().map(neutral).unwrap_or_default();
        Ok(format!("{line}\n$ {typed}\n{text}"))
    }
}
