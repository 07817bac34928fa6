//! A session as `farwire sessions` and `farwire session` print it: in words, and as JSON.

use std::time::Duration;

use farwire_protocol::streams::control::Job;
use farwire_protocol::streams::run::Exit;
use farwire_protocol::streams::session::{Actor, Limits, Transfer, TypingRights};
use farwire_protocol::streams::session::{Doing, Size, Status};
use serde::{Serialize, Serializer};

use crate::handles::Handle;
use crate::render::typing::{actor, ago, who};
use crate::text::{human, signal};

/// A session in words. Its fields are what `--json` prints; those that do not apply, or that the
/// agent does not say, are left out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) struct SessionRow {
    /// Its short id.
    pub(crate) id: String,
    /// The server that has it.
    pub(crate) server: String,
    /// Its name there.
    pub(crate) name: String,
    /// `prompt`, `running` and the like, `exited`, or `lost`.
    pub(crate) state: &'static str,
    /// The exit code of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<String>,
    /// Why it is lost, or how it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Who may type.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "typing")]
    pub(crate) typing: Option<TypingRights>,
    /// The number of people and clients that are attached.
    pub(crate) attached: u32,
    /// The attached clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) participants: Option<Vec<Attendant>>,
    /// The program in the foreground.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<String>,
    /// The command that it was opened with.
    pub(crate) command: String,
    /// The title of the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<String>,
    /// The user that it runs as.
    pub(crate) user: String,
    /// Who opened it: device and surface.
    pub(crate) opened_by: String,
    /// Columns.
    pub(crate) cols: u16,
    /// Rows.
    pub(crate) rows: u16,
    /// Whether exit codes of its commands are known.
    pub(crate) marked: bool,
    /// How long there has been neither input nor output, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_ms: Option<u64>,
    /// How long ago it was opened, in milliseconds.
    pub(crate) age_ms: u64,
    /// Its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,
    /// The group whose leases move together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// The owner that it was opened for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// Nobody may type.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only: bool,
    /// Its limits.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "limits")]
    pub(crate) limits: Option<Limits>,
    /// When another agent process took it over, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovered_ms: Option<u64>,
}

/// An attached client.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Attendant {
    /// Who.
    pub(crate) who: String,
    /// It is the caller.
    pub(crate) you: bool,
    /// To look only.
    pub(crate) read_only: bool,
    /// For how long, in milliseconds.
    pub(crate) attached_ms: u64,
    /// How long ago they typed last, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) typed_ms: Option<u64>,
}

#[expect(clippy::ref_option, reason = "this is how serde calls it")]
fn typing<S: Serializer>(rights: &Option<TypingRights>, serializer: S) -> Result<S::Ok, S::Error> {
    rights.as_ref().map(typing_json).serialize(serializer)
}

/// Who may type, as `--json` shows it.
pub(crate) fn typing_json(rights: &TypingRights) -> serde_json::Value {
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

impl SessionRow {
    /// A session from what an agent says of its job.
    pub(crate) fn of(handle: &Handle, job: &Job, status: &Status) -> Self {
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
            id: handle.id.to_string(),
            server: handle.server.name.clone(),
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
    pub(crate) fn fate(&self) -> String {
        match (self.state, self.exit_code, &self.signal, &self.error) {
            ("lost", .., Some(why)) => format!("lost:{why}"),
            ("exited", Some(code), ..) => format!("exit={code}"),
            ("exited", _, Some(name), _) => format!("signal={name}"),
            ("exited", .., Some(why)) => format!("error={why}"),
            (state, ..) => state.to_owned(),
        }
    }

    /// Who may type, in a word or two.
    pub(crate) fn who(&self) -> String {
        match self.read_only {
            true => "read-only".to_owned(),
            false => who(self.typing.as_ref()),
        }
    }

    /// How long nothing has happened, in words.
    pub(crate) fn idle(&self) -> String {
        self.idle_ms.map_or_else(String::new, |idle| {
            format!("idle {}", human::duration(Duration::from_millis(idle)))
        })
    }

    /// When it was opened, in words.
    pub(crate) fn age(&self) -> String {
        ago(self.age_ms)
    }

    /// Its foreground program, or the command that it was opened with.
    pub(crate) fn shown_command(&self) -> &str {
        self.program.as_deref().unwrap_or(&self.command)
    }
}
