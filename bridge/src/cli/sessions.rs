//! `farwire sessions`: which terminals there are.

use clap::Args;
use farwire_protocol::failure::Failure;

use crate::cli::jobs::online;
use crate::cli::{Json, print, print_json};
use crate::client::Client;
use crate::sessions::listed::{Listed, list};
use crate::text::neutral::neutral;
use crate::text::table::Table;

/// List sessions: id, place, state, who types, who is attached, program, idle time, age
///
/// Who types is the holder of the keyboard, or the rule where nobody holds it: shared, user-only,
/// user-priority or agent-only.
#[derive(Args, Debug)]
pub(crate) struct Sessions {
    /// Only those of this server [default: of all that can be reached]
    server: Option<String>,
    /// Those that have ended or are lost, too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Sessions {
    pub(crate) fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let (sessions, trouble) = online(client, list(client, self.server.as_deref(), self.all))?;
        for (name, failure) in &trouble {
            note!("farwire: `{}`: {}", neutral(name), neutral(&failure.message));
        }
        if self.json.json {
            return print_json(&sessions);
        }
        if sessions.is_empty() {
            note!("farwire: no sessions; `farwire attach SERVER` opens one");
        }
        print(&table(&sessions).text())
    }
}

fn table(sessions: &[Listed]) -> Table {
    let mut table = Table::new().limit(1, 64).limit(5, 60);
    for one in sessions {
        let place = format!("{}/{}", one.server, one.name);
        let attached = format!("{} attached", one.attached);
        let (state, who) = (one.fate(), one.who());
        let (idle, age) = (one.idle(), one.age());
        table.row([&one.id, &place, &state, &who, &attached, one.shown_command(), &idle, &age]);
    }
    table
}
