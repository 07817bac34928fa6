//! `status`: what is open on the servers.

use std::time::Duration;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::session::Doing;
use farwire_protocol::streams::session::hands::{Hands, Policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::client::{Client, Server};
use crate::runs::{control, id_of};
use crate::sessions;
use crate::sessions::who::who;
use crate::text::header::{Fate, Header, Key};
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Tool, fate, servers};

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// The arguments of `status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Only this server.
    pub server: Option<String>,
    /// Runs that have ended, too.
    pub all: Option<bool>,
}

impl Tool for Status {
    const NAME: &'static str = "status";
    const TITLE: &'static str = "Open handles";
    const ABOUT: &'static str = "List what is open: runs and sessions with id, state, who types, age, owner; with all, also ended ones.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let (open, trouble) =
            open(client, self.server.as_deref(), self.all.unwrap_or(false)).await?;
        let sessions = open.iter().filter(|one| one.id.starts_with('s')).count();
        let mut header = Header::new(Word::Open).words(count(open.len() - sessions, "run"));
        if sessions > 0 {
            header = header.words(count(sessions, "session"));
        }
        if !trouble.is_empty() {
            let failed = trouble.iter().map(|(name, failure)| format!("{name}:{}", failure.kind));
            header = header.field(Key::Failed, failed.collect::<Vec<_>>().join(","));
        }
        let (text, rows) = table(&open).within(Budget::default());
        if rows < open.len() {
            header = header.field(Key::Shown, rows);
        }
        Ok(format!("{}\n{text}", header.end()))
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A job by its short id.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    /// Its id here.
    pub id: String,
    /// Where it is.
    pub server: String,
    /// `running`, `queued`, `exit=N`, `signal=NAME` or `error=KIND`.
    pub state: String,
    /// How long it has run, in milliseconds.
    pub duration_ms: u64,
    /// How long ago it was asked for, in milliseconds.
    pub age_ms: u64,
    /// Who asked: device and surface.
    pub owner: String,
    /// Who types, if it is a session and not everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typing: Option<String>,
    /// As which user it runs.
    pub user: String,
    /// What runs.
    pub command: String,
}

/// What is open, for models and people.
pub fn table(open: &[Open]) -> Table {
    let mut table = Table::new().limit(1, 64).limit(2, 100).limit(5, 100);
    for job in open {
        let time = human::duration(Duration::from_millis(job.duration_ms));
        let state = match &job.typing {
            Some(who) => &format!("{} typing={who}", job.state),
            None => &job.state,
        };
        table.row([&job.id, &job.server, state, &time, &job.owner, &job.command]);
    }
    table
}

/// What is open on one server, or on all that are there; and which could not be asked.
pub async fn open(
    client: &Client,
    server: Option<&str>,
    all: bool,
) -> Result<(Vec<Open>, Vec<(String, Failure)>), Failure> {
    let asked: Vec<Server> = match server {
        Some(name) => vec![client.find(name).await?],
        None => {
            let (known, trouble) = servers::list(client).await?;
            if let Some(trouble) = trouble {
                return Err(trouble);
            }
            let online = known.iter().filter(|known| known.state == "online");
            online.filter_map(|known| client.server(&known.name).ok()).collect()
        }
    };
    let (mut found, mut trouble) = (Vec::new(), Vec::new());
    for server in asked {
        let jobs = timeout(PATIENCE, control::jobs(client, &server, !all)).await;
        match jobs {
            Ok(Ok(jobs)) => {
                for job in jobs {
                    let id = match &job.session {
                        Some(_) => sessions::id_of(client, &server, job.job)?,
                        None => id_of(client, &server, job.job)?,
                    };
                    let doing = job.session.as_ref().map(|session| session.doing);
                    let fate = match doing {
                        Some(doing) if doing != Doing::Exited => Fate::Doing(doing, None),
                        _ => fate(&job.state),
                    };
                    let hands = job.session.as_ref().and_then(|session| session.hands.as_ref());
                    let everybody =
                        |hands: &&Hands| hands.lease.is_none() && hands.policy == Policy::Shared;
                    let typing =
                        hands.filter(|hands| !everybody(hands)).map(|hands| who(Some(hands)));
                    found.push(Open {
                        id: id.to_string(),
                        typing,
                        server: server.name.clone(),
                        state: fate.to_string(),
                        duration_ms: job.state.duration_ms,
                        age_ms: job.age_ms,
                        owner: format!("{}/{}", job.device, job.surface),
                        user: job.user,
                        command: match job.session {
                            Some(session) => format!("{} {}", session.name, job.command),
                            None => job.command,
                        },
                    });
                }
            }
            Ok(Err(failure)) => trouble.push((server.name, failure)),
            Err(_) => {
                let kind = farwire_protocol::failure::Kind::TimedOut;
                trouble.push((server.name, Failure::new(kind, "no answer in 4 s")));
            }
        }
    }
    Ok((found, trouble))
}
