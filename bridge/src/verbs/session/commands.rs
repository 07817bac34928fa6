//! The commands that the shell of a session has carried out: all that are known, or one and its
//! output.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Command;

use super::send::SendInput;
use crate::client::Client;
use crate::handles::Handle;
use crate::runs::answer::NoAnswer;
use crate::sessions::commands;
use crate::sessions::window::{Span, Window, window};
use crate::verbs::observer::Observer;

/// An agent remembers at most this many commands of a session.
pub const MOST: u32 = 100;

/// Lists the latest commands.
#[derive(Clone, Copy, Debug)]
pub struct Commands {
    /// At most this many.
    pub limit: u32,
}

/// The latest commands of a session.
#[derive(Clone, Debug)]
pub struct CommandsAnswer {
    /// The commands, the oldest first.
    pub commands: Vec<Command>,
    /// Where the log ends.
    pub log_end: u64,
}

impl Commands {
    /// Asks the server.
    ///
    /// # Errors
    ///
    /// What the server says, or why it does not answer.
    pub async fn carry_out(
        &self,
        client: &Client,
        session: &Handle,
    ) -> Result<CommandsAnswer, Failure> {
        let latest = commands::latest(client, &session.server, session.job, self.limit).await;
        let (commands, ended) = latest.map_err(NoAnswer::failure)?;
        Ok(CommandsAnswer { commands, log_end: ended.offset })
    }
}

/// The latest command of a session.
pub async fn latest(client: &Client, session: &Handle) -> Result<Option<Command>, Failure> {
    Ok(Commands { limit: 1 }.carry_out(client, session).await?.commands.pop())
}

/// Reads one command and the beginning of its output, and may wait for its end before that.
#[derive(Clone, Copy, Debug)]
pub struct CommandStatus {
    /// Its number; by default the latest.
    pub number: Option<u64>,
    /// How long to wait for its end.
    pub wait: Duration,
    /// How many bytes of its output to bring.
    pub bytes: u32,
}

/// A command, and the beginning of its output.
#[derive(Clone, Debug)]
pub struct CommandStatusAnswer {
    /// The command.
    pub command: Command,
    /// The beginning of its output.
    pub output: Window,
    /// The offset at which its output ends, as far as it has come.
    pub end: u64,
}

impl CommandStatus {
    /// Waits, and reads. A caller that cancels only stops waiting: the command goes on.
    ///
    /// # Errors
    ///
    /// `unknown_id` for a command that is not known, and `cancelled`.
    pub async fn carry_out(
        &self,
        client: &Client,
        session: &Handle,
        observer: &dyn Observer,
    ) -> Result<CommandStatusAnswer, Failure> {
        let mut command = find(client, session, self.number).await?;
        if command.end.is_none() && !self.wait.is_zero() {
            // Waits until it has ended, or the terminal waits for somebody.
            let waiting = SendInput {
                wait: self.wait,
                bytes: 0,
                literal: false,
                cancelled: "the wait was cancelled; the command goes on",
                ..SendInput::nothing(command.start)
            };
            waiting.carry_out(client, session, observer).await?;
            command = find(client, session, Some(command.number)).await?;
        }
        let length = command.end.map_or(u64::MAX, |end| end.saturating_sub(command.start));
        let limit = u32::try_from(length).map_or(self.bytes, |length| length.min(self.bytes));
        let span = Span { from: command.start, limit, wait: Duration::ZERO };
        let mut output = window(client, &session.server, session.job, span).await?;
        // Its output begins here, whatever the line had before it.
        output.piece.starts_within &= output.from() != command.start;
        let end = command.end.unwrap_or(output.state.bytes);
        if output.to() < end {
            output.settle();
        }
        Ok(CommandStatusAnswer { command, output, end })
    }
}

async fn find(client: &Client, session: &Handle, number: Option<u64>) -> Result<Command, Failure> {
    let all = Commands { limit: MOST }.carry_out(client, session).await?.commands;
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
