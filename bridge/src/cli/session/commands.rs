//! `farwire session commands`: what the shell of a session has carried out.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Command;

use super::typed::put;
use super::{Found, Which, failed};
use crate::cli::{Json, print, print_json};
use crate::client::Client;
use crate::sessions::{commands as page, exit, log};
use crate::text::human;
use crate::text::passage::Passage;
use crate::text::table::Table;

/// So many are known at most.
const ALL: u32 = 100;

/// List the commands that its shell has carried out
///
/// Each with its number, its exit code, how long it took, where, and what was typed. Shells that do not mark
/// their commands, such as dash, have none.
#[derive(Args, Debug)]
pub(crate) struct Commands {
    #[command(flatten)]
    which: Which,
    /// The latest so many, 100 at most
    #[arg(short = 'n', long, default_value_t = 20, conflicts_with = "output")]
    limit: u32,
    /// Print what the command with this number said, byte for byte
    #[arg(long, value_name = "NUMBER", conflicts_with = "json")]
    output: Option<u64>,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Commands {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let found = self.which.find(client).await?;
        if let Some(number) = self.output {
            return output(client, &found, number).await;
        }
        let (commands, _) = commands(client, &found, self.limit).await?;
        if self.json.json {
            return print_json(&commands.iter().map(json).collect::<Vec<_>>());
        }
        print(&table(&commands).text())
    }
}

/// The commands, and the end of the log.
async fn commands(
    client: &Client,
    found: &Found,
    limit: u32,
) -> Result<(Vec<Command>, u64), Failure> {
    let (server, session) = (&found.server, found.session);
    let (commands, ended) = page::latest(client, server, session, limit).await.map_err(failed)?;
    Ok((commands, ended.offset))
}

async fn output(client: &Client, found: &Found, number: u64) -> Result<(), Failure> {
    let (commands, end) = commands(client, found, ALL).await?;
    let command = commands.iter().find(|command| command.number == number).ok_or_else(|| {
        let text = format!("`{}` has no command {number}, or knows it no more", found.id);
        Failure::new(Kind::UnknownId, text)
            .with_hint(format!("`farwire session commands {} -n {ALL}` lists them", found.id))
    })?;
    let part = command.start..command.end.unwrap_or(end);
    let filtered = std::io::stdout().is_terminal();
    let mut passage = Passage::default();
    let mut out = Vec::new();
    let gone = log::read(client, &found.server, found.session, part, |bytes| {
        if !filtered {
            return put(bytes);
        }
        out.clear();
        passage.pass(bytes, &mut out);
        put(&out)
    });
    let gone = gone.await?;
    if gone > 0 {
        note!("farwire: {} bytes are no longer kept", human::size(gone));
    }
    if command.end.is_none() {
        note!("farwire: it is still running");
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

pub(super) fn json(command: &Command) -> serde_json::Value {
    serde_json::json!({
        "number": command.number, "text": command.text, "exit_code": command.exit,
        "running": command.end.is_none(), "duration_ms": command.duration_ms,
        "age_ms": command.age_ms, "start": command.start, "end": command.end,
        "cwd": command.cwd.as_ref().map(|cwd| String::from_utf8_lossy(cwd)),
    })
}
