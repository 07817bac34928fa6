//! `stop`: ends a run.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::control::Stopped;
use farwire_protocol::streams::run::{Delivery, Digest, Request, Take};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::runs::answer::ask;
use crate::runs::{control, find};
use crate::text::header::Header;
use crate::text::neutral::neutral_within;
use crate::text::signal;
use crate::tools::Group;
use crate::tools::offer::Offer;
use crate::tools::run::{header, word};
use crate::tools::{Caller, Desk, Effect, Tool};

/// Longer than INT, TERM and KILL take.
const LADDER: Duration = Duration::from_secs(12);

/// A program that handles a single signal is given this long to end.
const SINGLE: Duration = Duration::from_secs(2);

/// Signals that ask a program to end, or end it.
const ENDING: [&str; 5] = ["INT", "TERM", "KILL", "HUP", "QUIT"];

/// The arguments of `stop`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Run or session id, e.g. r12 or s3.
    pub id: String,
    /// Only this signal: INT, TERM, KILL, HUP or QUIT.
    pub signal: Option<String>,
}

impl Tool for Stop {
    const NAME: &'static str = "stop";
    const TITLE: &'static str = "Stop run";
    const ABOUT: &'static str = "Interrupt, kill or end a run (process) and what it started: INT, then \
        TERM, then KILL, 5 s apart. A session gets HUP first.";
    const EFFECT: Effect = Effect::ENDS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let may = |text: &str| allowed(&desk.settings.offer, text);
        let signal = self.signal.as_deref().map(may).transpose()?;
        let (id, server, job) = find(client, &self.id)?;
        let said = |what: &str| Header::new(word(id)).value(&id.to_string()).words(what).end();
        let stopped = control::stop_known(client, &server, (id, job), signal).await?;
        if stopped == Stopped::NeverStarted {
            return Ok(said("never-started"));
        }
        let wait = if signal.is_some() { SINGLE } else { LADDER };
        let digest = Digest {
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            head: 0,
            tail: 0,
            from: None,
            until: None,
            until_new: None,
            progress: None,
        };
        let request = Request::Take(Take { job, delivery: Delivery::Digest(digest) });
        let answer = ask(client, &server, &request, wait + Duration::from_secs(3), |_| ()).await;
        Ok(match answer {
            Ok(answer) => header(id, &answer.ended.state).end(),
            Err(_) if stopped == Stopped::Ended => said("ended"),
            Err(_) => said("signal-sent"),
        })
    }
}

/// Reads the name of a signal that a model wants to have sent, by whatever tool: those that ask a program to end
/// are what `stop` is for, and all others act on it directly, and are of the group that has to be enabled.
pub fn allowed(offer: &Offer, text: &str) -> Result<i32, Failure> {
    let number = parse(text)?;
    if ENDING.contains(&signal::name(number).as_str()) || offer.enables(Group::Control) {
        return Ok(number);
    }
    let text = format!(
        "{} does not end a program, and other signals are not enabled",
        signal::name(number)
    );
    Err(Failure::new(Kind::NotGranted, text)
        .with_hint("INT, TERM, KILL, HUP and QUIT end one; a user enables all with `mcp serve --enable control`"))
}

/// Reads the name of a signal.
pub fn parse(text: &str) -> Result<i32, Failure> {
    signal::number(text).ok_or_else(|| {
        let shown = neutral_within(text, 40);
        Failure::new(Kind::InvalidArgument, format!("signal: `{shown}` is not a signal"))
            .with_hint("use INT, TERM, KILL, HUP, QUIT, USR1 or USR2")
    })
}
