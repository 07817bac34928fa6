//! `farwire sessions`: which terminals there are.

use clap::Args;
use farwire_protocol::failure::Failure;

use crate::cli::jobs::online;
use crate::cli::output::{Json, code, print, print_json};
use crate::cli::session::listed::SessionRow;
use crate::client::Client;
use crate::fleet::why;
use crate::sessions::find::KnownSession;
use crate::text::neutral::neutral;
use crate::text::table::Table;
use crate::verbs::session;

/// List sessions: id, SERVER/NAME, state, who may type, who is attached, program, idle time, age
///
/// "Who may type" is the holder of the keyboard or, if nobody holds it, the policy: shared,
/// user-only, user-priority or agent-only.
#[derive(Args, Debug)]
pub(crate) struct Sessions {
    /// List only the sessions on this server [default: on all reachable servers]
    server: Option<String>,
    /// Include sessions that have ended or are lost
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Sessions {
    /// Lists the sessions. The exit code is that of the first server that should have answered and
    /// did not.
    pub(crate) fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let verb = session::list::Sessions { server: self.server.clone(), all: self.all };
        online(client, async {
            let mut inquiry = verb.carry_out(client).await?;
            let mut shown = 0;
            if !self.json.json && !inquiry.fleet.for_a_moment().await {
                // Known rows do not wait for servers that are stuck.
                let known = rows(inquiry.fleet.take_known());
                shown = known.len();
                print(&table(&known).text())?;
                let silent = inquiry.fleet.unanswered().join(", ");
                note!("farwire: waiting for {}", neutral(&silent));
            }
            let gathered = inquiry.fleet.all().await.of_named(self.server.as_deref())?;
            let sessions = rows(gathered.known);
            for (name, failure) in gathered.trouble.iter().chain(&inquiry.away) {
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

fn rows(known: Vec<Vec<KnownSession>>) -> Vec<SessionRow> {
    let sessions = known.into_iter().flatten();
    sessions.map(|one| SessionRow::of(&one.handle, &one.job, &one.status)).collect()
}

fn table(sessions: &[SessionRow]) -> Table {
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
