//! `farwire session take`, `release`, `handoff` and `policy`: who types.

use std::time::Duration;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::{
    Action, Caller, Heir, LEASE_LIMIT_MS, REASON_LIMIT, TypingRights, TypingRule,
};

use super::listed::typing_json;
use super::which::Which;
use crate::cli::output::{Json, print, print_json};
use crate::cli::server::duration;
use crate::client::Client;
use crate::render::typing::lease;
use crate::sessions::control;

/// Take the keyboard of a session: nobody else can type until you release it, or the time is up
///
/// Input that AI clients have queued is dropped. `farwire attach --take` does the same for as long
/// as you are attached.
#[derive(Args, Debug)]
pub(crate) struct Take {
    #[command(flatten)]
    which: Which,
    /// How long to hold it, such as 30s or 5m; at most 1h
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "10m")]
    for_: Duration,
    /// The reason, for those who are attached and for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}

#[derive(Args, Debug)]
pub(crate) struct Release {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Give the keyboard of a session to somebody else
///
/// To a client, by the name that `farwire session show` prints, or to the first client that acts
/// through a surface.
#[derive(Args, Debug)]
#[group(id = "heir", required = true, multiple = true, args = ["to", "surface"])]
pub(crate) struct Handoff {
    #[command(flatten)]
    which: Which,
    /// To this client
    #[arg(long, value_name = "CLIENT")]
    to: Option<String>,
    /// To this surface: human, ai-local [default: your own]
    #[arg(long, value_name = "SURFACE")]
    surface: Option<String>,
    /// The reason, for those who are attached and for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Show or change a session's policy: who may type while nobody holds the keyboard
///
/// shared: everybody. user-only: only people. user-priority: everybody, but no AI client while
/// somebody is typing or has an unfinished line. agent-only: only AI clients.
#[derive(Args, Debug)]
pub(crate) struct SetPolicy {
    #[command(flatten)]
    which: Which,
    /// The new policy [default: show the current one]
    #[arg(value_parser = ["shared", "user-only", "user-priority", "agent-only"])]
    policy: Option<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Take {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let for_ms = u32::try_from(self.for_.as_millis()).unwrap_or(u32::MAX);
        if for_ms > LEASE_LIMIT_MS {
            return Err(Failure::new(Kind::InvalidArgument, "--for: at most 1h"));
        }
        let reason = reason(self.reason.as_ref())?;
        let action = Action::TakeOver { from: None, reason, for_ms };
        act(client, &self.which, action, self.json).await
    }
}

impl Release {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        act(client, &self.which, Action::Release, self.json).await
    }
}

impl Handoff {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let to = Heir { surface: self.surface.clone(), client: self.to.clone() };
        let action = Action::HandOver { to, reason: reason(self.reason.as_ref())? };
        act(client, &self.which, action, self.json).await
    }
}

impl SetPolicy {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        match self.policy.as_deref().and_then(TypingRule::from_name) {
            Some(policy) => act(client, &self.which, Action::Rule(policy), self.json).await,
            None => {
                let session = self.which.find(client).await?;
                let answer = control::look(client, &session.server, session.job).await?;
                say(&session.id.to_string(), answer.ended.status.typing.as_ref(), self.json)
            }
        }
    }
}

fn reason(reason: Option<&String>) -> Result<Option<String>, Failure> {
    if reason.is_some_and(|reason| reason.len() > REASON_LIMIT) {
        let text = format!("--reason has more than {REASON_LIMIT} bytes");
        return Err(Failure::new(Kind::TooLarge, text));
    }
    Ok(reason.cloned())
}

async fn act(client: &Client, which: &Which, action: Action, json: Json) -> Result<(), Failure> {
    let session = which.find(client).await?;
    let ended =
        control::act(client, &session.server, session.job, &Caller::default(), action).await?;
    say(&session.id.to_string(), ended.status.typing.as_ref(), json)
}

/// Who types from now on.
fn say(id: &str, rights: Option<&TypingRights>, json: Json) -> Result<(), Failure> {
    if json.json {
        return print_json(&serde_json::json!({"id": id, "typing": rights.map(typing_json)}));
    }
    let text = match rights {
        Some(TypingRights { lease: Some(held), rule, .. }) => {
            format!("{id}: the keyboard is held by {} (policy {})", lease(held), rule.name())
        }
        Some(rights) => format!("{id}: nobody holds the keyboard (policy {})", rights.rule.name()),
        None => format!("{id}: everybody may type"),
    };
    print(&format!("{text}\n"))
}
