//! `farwire sessions`: which terminals there are.

use clap::Args;
use farwire_protocol::failure::Failure;

use crate::cli::jobs::online;
use crate::cli::{Json, code, print, print_json};
use crate::client::Client;
use crate::fleet::why;
use crate::sessions::listed::{Listed, ask};
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
    /// Shows what there is. The exit code says whether a server that should have answered did not.
    pub(crate) fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        online(client, async {
            let (mut asked, offline) = ask(client, self.server.as_deref(), self.all).await?;
            let mut shown = 0;
            if !self.json.json && !asked.for_a_moment().await {
                // What is known does not wait for those that are stuck.
                let known: Vec<Listed> = asked.take_known().into_iter().flatten().collect();
                shown = known.len();
                print(&table(&known).text())?;
                note!("farwire: waiting for {}", neutral(&asked.unanswered().join(", ")));
            }
            let gathered = asked.all().await.of_named(self.server.as_deref())?;
            let sessions: Vec<Listed> = gathered.known.into_iter().flatten().collect();
            for (name, failure) in gathered.trouble.iter().chain(&offline) {
                note!("farwire: {}", why(name, failure));
            }
            if self.json.json {
                print_json(&sessions)?;
            } else {
                if sessions.is_empty() && shown == 0 {
                    note!("farwire: no sessions; `farwire attach SERVER` opens one");
                }
                print(&table(&sessions).text())?;
            }
            Ok(gathered.trouble.first().map_or(0, |(_, failure)| code(failure)))
        })
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
