//! `farwire session history`: what happened to a session, and who did it.

use std::time::Duration;

use clap::Args;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::session::Request;
use farwire_protocol::streams::session::{Event, Events, What};

use super::which::Which;
use crate::cli::output::{Json, print, print_json, reader_is_gone};
use crate::client::Client;
use crate::handles::Handle;
use crate::render::typing as words;
use crate::runs::answer::NoAnswer;
use crate::sessions::ask;
use crate::text::neutral::neutral_within;

/// One answer has at most this many events.
const PAGE: u32 = 100;

/// How long to wait for the next one before asking again.
const WAIT: Duration = Duration::from_secs(25);

/// How much longer than its wait an answer may take on the way.
const SLACK: Duration = Duration::from_secs(10);

/// Print a session's history: what happened, and who did it
///
/// Who typed, attached, left, took the keyboard or was refused, with times by the server's clock.
/// Input that the terminal did not echo is never recorded. With --json, prints one object per line.
#[derive(Args, Debug)]
pub(crate) struct History {
    #[command(flatten)]
    which: Which,
    /// Start at the event with this number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    from: u64,
    /// Follow the session until it ends
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl History {
    pub(crate) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let session = self.which.find(client).await?;
        let mut from = self.from.max(1);
        loop {
            let (events, open) = self.page(client, &session, from).await?;
            let last = events.last().map(|event| event.number);
            let ended = events.iter().any(|event| event.what == Some(What::Ended));
            for event in &events {
                self.print(event)?;
            }
            if reader_is_gone() {
                return Ok(());
            }
            from = last.map_or(from, |last| last.saturating_add(1));
            let more = !events.is_empty() && !self.follow;
            if ended && self.follow || !open && events.is_empty() || !more && !self.follow {
                return Ok(());
            }
        }
    }

    /// The next events, and whether there can be more.
    async fn page(
        &self,
        client: &Client,
        session: &Handle,
        from: u64,
    ) -> Result<(Vec<Event>, bool), Failure> {
        let wait = if self.follow { WAIT } else { Duration::ZERO };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let asked =
            Events { session: session.job, caller: None, from, limit: PAGE, wait_ms, offset: None };
        let request = Request::Events(asked);
        let answer = ask(client, &session.server, &request, wait + SLACK)
            .await
            .map_err(NoAnswer::failure)?;
        let open = answer.ended.state.is_open();
        Ok((answer.ended.events.unwrap_or_default(), open))
    }

    fn print(&self, event: &Event) -> Result<(), Failure> {
        if self.json.json {
            return print_json(&json(event));
        }
        let actor = event.actor.as_ref().map_or_else(|| "-".to_owned(), words::actor_or_you);
        let line =
            format!("{} {} {actor}  {}", event.number, clock(event.at_ms), words::event(event));
        print(&format!("{}\n", neutral_within(&line, 300)))
    }
}

/// The time of an event, by the clock here.
fn clock(millis: u64) -> String {
    let stamp =
        i64::try_from(millis).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    match stamp {
        Some(stamp) => {
            stamp.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        None => millis.to_string(),
    }
}

fn json(event: &Event) -> serde_json::Value {
    let mut value = serde_json::json!({
        "number": event.number, "at_ms": event.at_ms, "offset": event.offset,
        "who": event.actor.as_ref().map(words::actor),
        "device": event.actor.as_ref().map(|actor| &actor.device),
        "surface": event.actor.as_ref().map(|actor| &actor.surface),
        "client": event.actor.as_ref().and_then(|actor| actor.client.as_ref()),
        "you": event.actor.as_ref().is_some_and(|actor| actor.mine == Some(true)),
        "what": kind(event), "said": words::event(event),
    });
    if let Some(What::Typed { text, length }) = &event.what {
        value["length"] = (*length).into();
        value["text"] = text.as_ref().map(|text| String::from_utf8_lossy(text).into_owned()).into();
    }
    value
}

/// The kind of an event, for programs.
fn kind(event: &Event) -> &'static str {
    match &event.what {
        Some(What::Opened) => "opened",
        Some(What::Typed { .. }) => "typed",
        Some(What::Resized(_)) => "resized",
        Some(What::Joined(_)) => "joined",
        Some(What::Left) => "left",
        Some(What::Leased(_)) => "leased",
        Some(What::Rule(_)) => "policy",
        Some(What::Signalled(_)) => "signalled",
        Some(What::Refused(_)) => "refused",
        Some(What::Recovered) => "recovered",
        Some(What::Changed) => "changed",
        Some(What::Closed) => "closed",
        Some(What::Ended) => "ended",
        _ => "unknown",
    }
}
