//! `farwire session commands`: the commands that a session's shell has run.

use std::time::Duration;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Command;

use super::print::{TerminalPrinter, command_json};
use super::which::Which;
use crate::cli::output::{Json, print, print_json};
use crate::client::Client;
use crate::handles::Handle;
use crate::sessions::{exit, log};
use crate::text::human;
use crate::text::table::Table;
use crate::verbs::session::commands::{self as verb, MOST};

/// List the commands that a session's shell has run
///
/// Each with its number, its exit code, its duration, its directory, and what was typed. Shells
/// that do not mark their commands, such as dash, have none.
#[derive(Args, Debug)]
pub(crate) struct Commands {
    #[command(flatten)]
    which: Which,
    /// How many of the latest commands to list, at most 100
    #[arg(short = 'n', long, default_value_t = 20, conflicts_with = "output")]
    limit: u32,
    /// Print the output of the command with this number, byte for byte
    #[arg(long, value_name = "NUMBER", conflicts_with = "json")]
    output: Option<u64>,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Commands {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let session = self.which.find(client).await?;
        if let Some(number) = self.output {
            return output(client, &session, number).await;
        }
        let commands =
            verb::Commands { limit: self.limit }.carry_out(client, &session).await?.commands;
        if self.json.json {
            return print_json(&commands.iter().map(command_json).collect::<Vec<_>>());
        }
        print(&table(&commands).text())
    }
}

async fn output(client: &Client, session: &Handle, number: u64) -> Result<(), Failure> {
    let Handle { id, server, job } = session;
    let all = verb::Commands { limit: MOST }.carry_out(client, session).await?;
    let found = all.commands.iter().find(|command| command.number == number);
    let command = found.ok_or_else(|| {
        let text = format!("`{id}` has no command {number}, or no longer remembers it");
        Failure::new(Kind::UnknownId, text)
            .with_hint(format!("`farwire session commands {id} -n {MOST}` lists them"))
    })?;
    let part = command.start..command.end.unwrap_or(all.log_end);
    let mut printer = TerminalPrinter::default();
    let gone = log::read(client, server, *job, part, |bytes| printer.print(bytes)).await?;
    if gone > 0 {
        note!("farwire: {} bytes are no longer kept", human::size(gone));
    }
    if command.end.is_none() {
        note!("farwire: the command is still running");
    }
    Ok(())
}

fn table(commands: &[Command]) -> Table {
    let mut table = Table::new().limit(3, 60).limit(4, 200);
    for command in commands {
        let time = |millis| human::duration(Duration::from_millis(millis));
        let took = command.duration_ms.map(time).unwrap_or_default();
        let cwd = command.cwd.as_ref().map(|cwd| String::from_utf8_lossy(cwd).into_owned());
        let text = command.text.as_deref().unwrap_or_default();
        table.row([
            &command.number.to_string(),
            &exit(command),
            &took,
            &cwd.unwrap_or_default(),
            text,
        ]);
    }
    table
}
