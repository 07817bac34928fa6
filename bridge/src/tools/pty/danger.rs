//! `confirm_dangerous_command`: a token for a command that needs confirmation.

use std::time::{Duration, Instant};

use farwire_protocol::failure::{Failure, Kind};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::session::{Who, label};
use crate::machine::unix_time;
use crate::sessions::danger::{About, GOOD};
use crate::text::Word;
use crate::text::header::{Call, Header, Key};
use crate::tools::caller::Caller;
use crate::tools::names;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};

/// The arguments of `confirm_dangerous_command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmDangerousCommand {
    /// Exactly as it will be spawned.
    pub command: String,
    /// Why it is necessary.
    pub justification: String,
    /// Name of the user or task you act for; required unless run with --no-owner.
    pub owner: Option<String>,
    /// As for pty_spawn.
    pub scope: Option<String>,
    /// The server, if pty_spawn names one.
    pub server: Option<String>,
}

impl Tool for ConfirmDangerousCommand {
    const NAME: &'static str = "confirm_dangerous_command";
    const TITLE: &'static str = "Confirm dangerous command";
    const ABOUT: &'static str = "Get a token that lets pty_spawn run one dangerous command, once, within five minutes. \
        Ask the person you work for first.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: false, open_world: false };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let who = Who::of(seat, self.owner.as_ref(), None)?;
        if self.justification.trim().is_empty() {
            return Err(Failure::new(Kind::InvalidArgument, "justification is empty")
                .with_hint("give the reason why the command must be run"));
        }
        let Some(pattern) = seat.danger.matching(&self.command) else {
            let header = Header::new(Word::Status).words("not-dangerous");
            let call = Call::new(names::PTY_SPAWN).with("command", &self.command);
            return Ok(format!("{}\nNo token is needed.\n", header.next(&call)));
        };
        let pattern = pattern.to_owned();
        let server = match &self.server {
            Some(name) => Some(seat.client().await?.find(name).await?.name),
            None => None,
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let scope = label("scope", self.scope.as_ref())?;
        let about =
            About { command: self.command, owner: owned(who.owner), scope: owned(scope), server };
        let token = seat.danger.confirm(about, Instant::now())?;
        tracing::info!(
            owner = who.owner,
            why = self.justification,
            "a dangerous command was confirmed"
        );
        let until = i64::try_from(unix_time() + GOOD.as_secs()).unwrap_or(i64::MAX);
        let until =
            Timestamp::from_second(until).map_or_else(|_| "soon".to_owned(), |at| at.to_string());
        let header = Header::new(Word::Status).words("confirmed").field(Key::Token, &token);
        let header = header.field(Key::Expires, format_args!("{}s", Duration::as_secs(&GOOD)));
        Ok(format!(
            "{}\nconfirm_token: {token}\nexpires_at: {until}\nmatches: {}\n",
            header.end(),
            crate::text::neutral::neutral(&pattern)
        ))
    }
}
