//! `status`: what is open on the servers.

use std::time::Duration;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::control::Job;
use farwire_protocol::streams::run::Exit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::client::{Client, Server};
use crate::render::header::{Header, signal_name};
use crate::render::{duration, neutral, table};
use crate::runs::{control, id_of};
use crate::tools::{Caller, Desk, Effect, Tool, servers};

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// So many rows are shown to a model.
const ROWS: usize = 40;

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
    const ABOUT: &'static str = "List what is open now: running commands with ids, age and owner; with all, also those that ended.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let (open, trouble) =
            open(client, self.server.as_deref(), self.all.unwrap_or(false)).await?;
        let mut header = Header::new("open").word(&format!("{} runs", open.len()));
        for (name, failure) in &trouble {
            header = header.value(&neutral(name, 64), failure.kind.name());
        }
        if open.len() > ROWS {
            header = header.word(&format!("shown={ROWS}"));
        }
        let rows: Vec<Vec<String>> = open.iter().take(ROWS).map(Open::row).collect();
        Ok(format!("{}\n{}", header.end(), table(&rows)))
    }
}

/// A job by its short id.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    /// Its id here.
    pub id: String,
    /// Where it is.
    pub server: String,
    /// `running`, `queued`, `exit=N` or `signal=NAME`.
    pub state: String,
    /// How long it has run, in milliseconds.
    pub duration_ms: u64,
    /// How long ago it was asked for, in milliseconds.
    pub age_ms: u64,
    /// Who asked: device and surface.
    pub owner: String,
    /// As which user it runs.
    pub user: String,
    /// What runs.
    pub command: String,
}

impl Open {
    fn row(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            neutral(&self.server, 64),
            self.state.clone(),
            duration(self.duration_ms),
            neutral(&self.owner, 40),
            neutral(&self.command, 100),
        ]
    }
}

fn state(job: &Job) -> String {
    match job.state.exit {
        Some(Exit::Code(code)) => format!("exit={code}"),
        Some(Exit::Signal(number)) => format!("signal={}", signal_name(number)),
        None if job.state.queued == Some(true) => "queued".to_owned(),
        None => "running".to_owned(),
    }
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
                    found.push(Open {
                        id: id_of(client, &server, job.job)?.to_string(),
                        server: server.name.clone(),
                        state: state(&job),
                        duration_ms: job.state.duration_ms,
                        age_ms: job.age_ms,
                        owner: format!("{}/{}", job.device, job.surface),
                        user: job.user,
                        command: job.command,
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
