//! `session_diagnostics`: why a session does not do what one expects.

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::session::{Doing, Status};
use farwire_protocol::streams::session::{Labels, TypingRule};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

use crate::sessions::control::look;
use crate::sessions::find::KnownSession;
use crate::sessions::find::SessionName;
use crate::text::human;
use crate::text::neutral::neutral;
use crate::tools::answer::lease::{lease, person};
use crate::tools::answer::session::header;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::session::commands::latest;

/// The arguments of `session_diagnostics`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionDiagnostics {
    /// Session id or server/name; default: the active or only one.
    pub session: Option<String>,
}

impl Tool for SessionDiagnostics {
    const NAME: &'static str = "session_diagnostics";
    const TITLE: &'static str = "Diagnose session";
    const ABOUT: &'static str = "Diagnose a session: who may type (lock, policy, lease, drafting), who is attached, which \
        command runs, warnings with what to do.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let found = SessionName::parse_optional(self.session.as_deref()).find(client, None).await?;
        let answer = look(client, &found.handle.server, found.handle.job).await?;
        let status = &answer.ended.status;
        let mut text = format!("{}\n", header(found.handle.id, &answer.ended).end());
        let mut put =
            |name: &str, value: String| text.extend([format!("{name}: {}\n", neutral(&value))]);
        put("session", format!("{}/{}", found.handle.server.name, status.name));
        put("size", format!("{}x{}", status.size.cols, status.size.rows));
        put(
            "marks",
            if status.marked { "exit codes are known" } else { "no: exit codes are not known" }
                .to_owned(),
        );
        if let Some(rights) = &status.typing {
            put("may type", if rights.may_type { "yes" } else { "no" }.to_owned());
            put("policy", rights.rule.name().to_owned());
            put("lease", lease(status).unwrap_or_else(|| "none".to_owned()));
            if let Some(last) = &rights.transfer {
                let who = last.to.as_ref().or(last.from.as_ref()).map(person).unwrap_or_default();
                let age = human::duration(Duration::from_millis(last.age_ms));
                let reason =
                    last.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
                put("last lease change", format!("{} by {who} {age} ago{reason}", last.way.name()));
            }
            if let Some(drafting) = &rights.drafting {
                put("drafting", person(drafting));
            }
        }
        put("attached", status.attached.to_string());
        for one in status.participants.iter().flatten() {
            let how = if one.read_only { "looks" } else { "may type" };
            let age = human::duration(Duration::from_millis(one.age_ms));
            put(
                "participant",
                format!("{}/{} {how}, for {age}", one.actor.device, one.actor.surface),
            );
        }
        if let Some(idle) = status.idle_ms {
            put("idle", human::duration(Duration::from_millis(idle)));
        }
        let command = latest(client, &found.handle).await?;
        if let Some(command) = command.filter(|command| command.end.is_none()) {
            let age = command
                .age_ms
                .map_or_else(|| "?".to_owned(), |age| human::duration(Duration::from_millis(age)));
            put(
                "running command",
                format!("#{} {} ({age})", command.number, command.text.unwrap_or_default()),
            );
        }
        for warning in warnings(&found, status) {
            text.extend([format!("warning: {warning}\n")]);
        }
        Ok(text)
    }
}

/// Warnings, and what to do about them.
fn warnings(found: &KnownSession, status: &Status) -> Vec<String> {
    let mut all = Vec::new();
    match status.doing {
        Doing::Password => {
            all.push("it is waiting for a password: a person can type it, or you can send a secret by name".to_owned());
        }
        Doing::Pager => all.push("a pager is waiting: press q".to_owned()),
        Doing::Editor => {
            all.push("a program fills the screen: look at it before you type".to_owned());
        }
        Doing::Repl => {
            all.push("an interpreter other than the shell reads what is typed".to_owned());
        }
        Doing::Prompt | Doing::Running | Doing::Exited => {}
    }
    if let Some(rights) = &status.typing {
        if !rights.may_type {
            all.push("you may not type now: ask for a handoff, or wait".to_owned());
        }
        if rights.rule == TypingRule::UserOnly {
            all.push("only people may type until one of them changes the policy".to_owned());
        }
    }
    if matches!(&status.labels, Some(Labels { read_only: Some(true), .. })) {
        all.push("it was opened as read-only: nobody may type".to_owned());
    }
    if let Some(lost) = status.lost {
        all.push(format!("its program is gone: {}", lost.name()));
    }
    let state = &found.job.state;
    if state.dropped_bytes > 0 {
        all.push(format!(
            "the first {} of its output are no longer kept",
            human::size(state.dropped_bytes)
        ));
    }
    if let Some(why) = &state.memory_only {
        all.push(format!("its output is kept in memory only: {}", neutral(why)));
    }
    let limit = status.limits.as_ref().and_then(|limits| limits.idle_ms);
    if let (Some(limit), Some(idle)) = (limit, status.idle_ms)
        && idle * 2 > limit
    {
        let left = human::duration(Duration::from_millis(limit.saturating_sub(idle)));
        all.push(format!("it is closed after another {left} of silence"));
    }
    all
}
