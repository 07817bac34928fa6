//! Which sessions there are, and how each of them is.

use std::time::Duration;

use farwire_keystore::ShortId;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::Job;
use farwire_protocol::streams::run::Exit;
use farwire_protocol::streams::session::{Actor, Limits, Transfer, TypingRights};
use farwire_protocol::streams::session::{Doing, Size, Status};
use serde::{Serialize, Serializer};

use super::who::{actor, ago, who};
use super::{find, id_of};
use crate::client::{Client, Server};
use crate::fleet::Fleet;
use crate::runs::control;
use crate::text::neutral::neutral_within;
use crate::text::{human, signal};
use crate::tools::servers;

/// A session as it is told of. Absent is what does not apply, or what the agent does not say.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Listed {
    /// Its id here.
    pub id: String,
    /// Where it is.
    pub server: String,
    /// What it is called there.
    pub name: String,
    /// `prompt`, `running` and the like, `exited`, or `lost`.
    pub state: &'static str,
    /// What its program ended with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What signal ended its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Why it is lost, or how it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Who may type.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "typing")]
    pub typing: Option<TypingRights>,
    /// How many are attached.
    pub attached: u32,
    /// Who they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participants: Option<Vec<Attendant>>,
    /// The program in the foreground.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// What was opened.
    pub command: String,
    /// What the terminal calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// As which user it runs.
    pub user: String,
    /// Who opened it: device and surface.
    pub opened_by: String,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Whether exit codes of its commands are known.
    pub marked: bool,
    /// For how long nobody has typed and nothing was said, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// How long ago it was opened, in milliseconds.
    pub age_ms: u64,
    /// What it is filed under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The group whose leases move together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// For whom it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Nobody types.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Its bounds.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "limits")]
    pub limits: Option<Limits>,
    /// When another agent process took it over, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered_ms: Option<u64>,
}

/// Somebody who is attached.
#[derive(Clone, Debug, Serialize)]
pub struct Attendant {
    /// Who.
    pub who: String,
    /// It is whoever asks.
    pub you: bool,
    /// To look only.
    pub read_only: bool,
    /// For how long, in milliseconds.
    pub attached_ms: u64,
    /// How long ago they typed last, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typed_ms: Option<u64>,
}

#[expect(clippy::ref_option, reason = "this is how serde calls it")]
fn typing<S: Serializer>(rights: &Option<TypingRights>, serializer: S) -> Result<S::Ok, S::Error> {
    rights.as_ref().map(typing_json).serialize(serializer)
}

/// Who may type, as `--json` shows it.
pub fn typing_json(rights: &TypingRights) -> serde_json::Value {
    let somebody = |actor: &Actor| {
        serde_json::json!({
            "device": actor.device, "surface": actor.surface, "client": actor.client,
            "you": actor.mine == Some(true),
        })
    };
    let change = |change: &Transfer| {
        serde_json::json!({
            "way": change.way.name(), "from": change.from.as_ref().map(somebody),
            "to": change.to.as_ref().map(somebody), "reason": change.reason, "age_ms": change.age_ms,
        })
    };
    serde_json::json!({
        "policy": rights.rule.name(),
        "may_type": rights.may_type,
        "lease": rights.lease.as_ref().map(|lease| serde_json::json!({
            "holder": somebody(&lease.holder), "age_ms": lease.age_ms, "left_ms": lease.left_ms,
        })),
        "last_lease": rights.transfer.as_ref().map(change),
        "drafting": rights.drafting.as_ref().map(somebody),
    })
}

#[expect(clippy::ref_option, reason = "this is how serde calls it")]
fn limits<S: Serializer>(limits: &Option<Limits>, serializer: S) -> Result<S::Ok, S::Error> {
    let limits = limits.map(|limits| {
        serde_json::json!({
            "idle_ms": limits.idle_ms, "keep_ms": limits.keep_ms, "output_rate": limits.output_rate,
            "input_rate": limits.input_rate, "kept": limits.kept,
        })
    });
    limits.serialize(serializer)
}

impl Listed {
    /// A session from what an agent says of its job.
    pub fn of(id: ShortId, server: &Server, job: &Job, status: &Status) -> Self {
        let Size { cols, rows } = status.size;
        let labels = status.labels.clone().unwrap_or_default();
        let (exit_code, signal) = match job.state.exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(number)) => (None, Some(signal::name(number))),
            None => (None, None),
        };
        let failed = job.state.failure.as_ref().map(|failure| failure.kind.name().to_owned());
        let attendants = status.participants.as_ref().map(|all| {
            let attendant = |one: &farwire_protocol::streams::session::Participant| Attendant {
                who: actor(&one.actor),
                you: one.actor.mine == Some(true),
                read_only: one.read_only,
                attached_ms: one.age_ms,
                typed_ms: one.typed_ms,
            };
            all.iter().map(attendant).collect()
        });
        Self {
            id: id.to_string(),
            server: server.name.clone(),
            name: status.name.clone(),
            state: if status.lost.is_some() { "lost" } else { status.doing.name() },
            exit_code,
            signal,
            error: status.lost.map(|lost| lost.name().to_owned()).or(failed),
            typing: status.typing.clone(),
            attached: status.attached,
            participants: attendants,
            program: status.foreground.clone().filter(|_| status.doing != Doing::Exited),
            command: job.command.clone(),
            title: status.title.clone().filter(|title| !title.is_empty()),
            user: job.user.clone(),
            opened_by: format!("{}/{}", job.device, job.surface),
            cols,
            rows,
            marked: status.marked,
            idle_ms: status.idle_ms,
            age_ms: job.age_ms,
            tag: labels.tag,
            group: labels.group,
            owner: labels.owner,
            read_only: labels.read_only == Some(true),
            limits: status.limits,
            recovered_ms: status.recovered_ms,
        }
    }

    /// Its state in a word: `prompt`, `exit=3`, `signal=KILL`, `lost:host_rebooted`.
    pub fn fate(&self) -> String {
        match (self.state, self.exit_code, &self.signal, &self.error) {
            ("lost", .., Some(why)) => format!("lost:{why}"),
            ("exited", Some(code), ..) => format!("exit={code}"),
            ("exited", _, Some(name), _) => format!("signal={name}"),
            ("exited", .., Some(why)) => format!("error={why}"),
            (state, ..) => state.to_owned(),
        }
    }

    /// Who may type, in a word or two.
    pub fn who(&self) -> String {
        match self.read_only {
            true => "read-only".to_owned(),
            false => who(self.typing.as_ref()),
        }
    }

    /// For how long nothing happened, in words.
    pub fn idle(&self) -> String {
        self.idle_ms.map_or_else(String::new, |idle| {
            format!("idle {}", human::duration(Duration::from_millis(idle)))
        })
    }

    /// When it was opened, in words.
    pub fn age(&self) -> String {
        ago(self.age_ms)
    }

    /// Its program in the foreground, or what was opened.
    pub fn shown_command(&self) -> &str {
        self.program.as_deref().unwrap_or(&self.command)
    }
}

/// The sessions of one server.
pub async fn of_server(
    client: &Client,
    server: &Server,
    all: bool,
) -> Result<Vec<Listed>, Failure> {
    let mut found = Vec::new();
    for job in control::jobs(client, server, !all).await? {
        if let Some(status) = &job.session {
            let id = id_of(client, server, job.job)?;
            found.push(Listed::of(id, server, &job, status));
        }
    }
    Ok(found)
}

/// Asks one server, or all that are there, for their sessions. Also returns those that cannot be asked.
pub async fn ask<'a>(
    client: &'a Client,
    server: Option<&str>,
    all: bool,
) -> Result<(Fleet<'a, Vec<Listed>>, servers::Away), Failure> {
    let (online, away) = servers::reachable(client, server).await?;
    let ask = move |server: Server| async move { of_server(client, &server, all).await };
    Ok((Fleet::ask(online, ask), away))
}

/// The session that somebody means: by its id, `s3`, or by its place, `SERVER/NAME`.
pub async fn locate(client: &Client, text: &str) -> Result<(ShortId, Server, Nonce), Failure> {
    let Some((server, name)) = text.split_once('/') else {
        return find(client, text).map_err(|failure| match failure.kind {
            Kind::UnknownId => failure.with_hint(
                "a session is s3 or SERVER/NAME; `farwire sessions --all` lists what there is",
            ),
            _ => failure,
        });
    };
    let server = client.find(server).await?;
    let jobs = control::jobs(client, &server, false).await?;
    let named = |job: &&Job| job.session.as_ref().is_some_and(|session| session.name == name);
    // What runs goes before what has ended, and the latest of those goes first.
    let mut of_name = jobs.iter().filter(named);
    let found = of_name.clone().find(|job| job.state.is_open()).or_else(|| of_name.next());
    let job = found.ok_or_else(|| {
        let shown = neutral_within(name, 64);
        let text = format!("no session on `{}` is called `{shown}`", server.name);
        Failure::new(Kind::UnknownId, text).with_hint(format!(
            "`farwire sessions {0} --all` lists what there is; `farwire attach {0}/{shown}` opens it",
            server.name
        ))
    })?;
    Ok((id_of(client, &server, job.job)?, server, job.job))
}
