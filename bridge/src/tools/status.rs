//! `status`: what is open on the servers.
//!
//! All servers are asked at once. What the quick ones say is shown after a moment, and those that are
//! slow or stuck are named: see `fleet`. Only what is shown gets a short id.

use std::time::Duration;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::control::Job;
use farwire_protocol::streams::session::Doing;
use farwire_protocol::streams::session::{TypingRights, TypingRule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::{Client, Server};
use crate::fleet::{Fleet, Gathered};
use crate::runs::{control, find, id_of};
use crate::sessions;
use crate::sessions::who::who;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Tool, fate, servers};

/// More rows than fit into an answer.
const ROWS: usize = 400;

/// The arguments of `status`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Only this server.
    pub server: Option<String>,
    /// Runs that have ended, too.
    pub all: Option<bool>,
    /// Go on after this id.
    pub after: Option<String>,
}

impl Tool for Status {
    const NAME: &'static str = "status";
    const TITLE: &'static str = "Open handles";
    const ABOUT: &'static str = "List what is open: runs and sessions with id, state, who types, age, owner; with all, also ended ones.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let all = self.all.unwrap_or(false);
        let (asked, away) = ask(client, self.server.as_deref(), all).await?;
        let Gathered { known, mut trouble } = asked.shortly().await;
        trouble.extend(away);
        let sessions = |(_, jobs): &Jobs| jobs.iter().filter(|job| job.session.is_some()).count();
        let sessions: usize = known.iter().map(sessions).sum();
        let total: usize = known.iter().map(|(_, jobs)| jobs.len()).sum();
        let mut header = Header::new(Word::Open).words(count(total - sessions, "run"));
        if sessions > 0 {
            header = header.words(count(sessions, "session"));
        }
        let mut call = Call::new(Self::NAME);
        if let Some(server) = &self.server {
            call = call.with("server", server);
        }
        if all {
            call = call.with("all", all);
        }
        let first = self.after.as_deref().map(|id| place_after(client, &known, id)).transpose()?;
        let first = first.unwrap_or(0);
        let jobs =
            known.iter().flat_map(|(server, jobs)| jobs.iter().map(move |job| (server, job)));
        let open = jobs.skip(first).take(ROWS).map(|(server, job)| Open::of(client, server, job));
        let open = open.collect::<Result<Vec<_>, Failure>>()?;
        let (text, rows) = table(&open).within(Budget::default());
        let silent = not_known(&trouble);
        if !trouble.is_empty() {
            let failed = trouble.iter().map(|(name, failure)| format!("{name}:{}", failure.kind));
            header = header.field(Key::Failed, failed.collect::<Vec<_>>().join(","));
        }
        if first > 0 || rows < total {
            header = header.field(Key::Shown, rows);
        }
        let line = match (open.iter().take(rows).next_back(), trouble.first()) {
            (Some(last), _) if first + rows < total => header.next(&call.with("after", &last.id)),
            (_, Some((name, _))) if self.server.is_none() => {
                header.next(&Call::new(Self::NAME).with("server", name))
            }
            _ => header.end(),
        };
        Ok(format!("{line}\n{text}{silent}"))
    }
}

/// What is missing from a list, in words, for whoever might take it for all there is.
fn not_known(trouble: &[(String, Failure)]) -> String {
    const NAMED: usize = 20;
    if trouble.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = trouble.iter().take(NAMED).map(|(name, _)| name.as_str()).collect();
    let more = match trouble.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("Not known, because there was no answer: what is open on {}{more}.\n", names.join(", "))
}

/// How many rows come before those after this id.
fn place_after(client: &Client, known: &[Jobs], id: &str) -> Result<usize, Failure> {
    let (_, server, job) = find(client, id)?;
    let mut rows = known.iter().flat_map(|(of, jobs)| jobs.iter().map(move |one| (of, one)));
    let agent = server.pin.bundle.id;
    let at = rows.position(|(of, one)| of.pin.bundle.id == agent && one.job == job);
    // It may have ended meanwhile: then the list begins anew.
    Ok(at.map_or(0, |at| at + 1))
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

impl Open {
    /// A job of a server. One that was never seen before gets its id.
    pub fn of(client: &Client, server: &Server, job: &Job) -> Result<Self, Failure> {
        let session = job.session.as_ref();
        let id = match session {
            Some(_) => sessions::id_of(client, server, job.job)?,
            None => id_of(client, server, job.job)?,
        };
        let fate = match session.map(|session| session.doing) {
            Some(doing) if doing != Doing::Exited => Fate::Doing(doing, None),
            _ => fate(&job.state),
        };
        let everybody =
            |rights: &&TypingRights| rights.lease.is_none() && rights.rule == TypingRule::Shared;
        let rights = session.and_then(|session| session.typing.as_ref());
        Ok(Self {
            id: id.to_string(),
            typing: rights.filter(|rights| !everybody(rights)).map(|rights| who(Some(rights))),
            server: server.name.clone(),
            state: fate.to_string(),
            duration_ms: job.state.duration_ms,
            age_ms: job.age_ms,
            owner: format!("{}/{}", job.device, job.surface),
            user: job.user.clone(),
            command: match session {
                Some(session) => format!("{} {}", session.name, job.command),
                None => job.command.clone(),
            },
        })
    }
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

/// A server and its jobs, newest first.
pub type Jobs = (Server, Vec<Job>);

/// Asks one server, or all that are there, what is open. Also returns those that the relay lists as away: it is not known
/// what is open there, and what runs there goes on.
pub async fn ask<'a>(
    client: &'a Client,
    server: Option<&str>,
    all: bool,
) -> Result<(Fleet<'a, Jobs>, servers::Away), Failure> {
    let (online, away) = servers::reachable(client, server).await?;
    let asked = Fleet::ask(online, move |server| async move {
        let jobs = control::jobs(client, &server, !all).await?;
        Ok((server, jobs))
    });
    Ok((asked, away))
}
