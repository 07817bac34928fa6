//! Runs and sessions in rows: what `status` lists.

use std::time::Duration;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::control::Job;
use farwire_protocol::streams::session::{Doing, TypingRights, TypingRule};
use serde::Serialize;

use super::typing;
use crate::client::{Client, Server};
use crate::handles::Handle;
use crate::text::header::Fate;
use crate::text::human;
use crate::text::table::Table;

/// A run or a session in words. Its fields are what `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct JobRow {
    /// Its short id.
    pub id: String,
    /// The server that has it.
    pub server: String,
    /// `running`, `queued`, `exit=N`, `signal=NAME` or `error=KIND`.
    pub state: String,
    /// How long it has run, in milliseconds.
    pub duration_ms: u64,
    /// How long ago it was asked for, in milliseconds.
    pub age_ms: u64,
    /// Who asked: device and surface.
    pub owner: String,
    /// Who types, for a session in which not everybody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typing: Option<String>,
    /// The user that it runs as.
    pub user: String,
    /// Its command.
    pub command: String,
}

impl JobRow {
    /// The row of a job. A job that was never shown before gets its short id now.
    pub fn of(client: &Client, server: &Server, job: &Job) -> Result<Self, Failure> {
        let handle = Handle::of_job(client, server, job)?;
        let session = job.session.as_ref();
        let fate = match session.map(|session| session.doing) {
            Some(doing) if doing != Doing::Exited => Fate::Doing(doing, None),
            _ => Fate::of(&job.state),
        };
        let everybody =
            |rights: &&TypingRights| rights.lease.is_none() && rights.rule == TypingRule::Shared;
        let rights = session.and_then(|session| session.typing.as_ref());
        let restricted = rights.filter(|rights| !everybody(rights));
        Ok(Self {
            id: handle.id.to_string(),
            typing: restricted.map(|rights| typing::who(Some(rights))),
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

/// Rows side by side, for models and people.
pub fn table(rows: &[JobRow]) -> Table {
    let mut table = Table::new().limit(1, 64).limit(2, 100).limit(5, 100);
    for row in rows {
        let time = human::duration(Duration::from_millis(row.duration_ms));
        let state = match &row.typing {
            Some(who) => &format!("{} typing={who}", row.state),
            None => &row.state,
        };
        table.row([&row.id, &row.server, state, &time, &row.owner, &row.command]);
    }
    table
}
