//! `session_watch`: waits for output or for something to happen, whichever comes first.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::session::Events;
use schemars::JsonSchema;
use serde::Deserialize;

use super::events::{time, told};
use crate::sessions::control::events;
use crate::sessions::find::SessionName;
use crate::sessions::window::{Span, window};
use crate::text::header::{Call, Key};
use crate::tools::answer::session::header;
use crate::tools::{Caller, Desk, Effect, Tool};

/// So much output is shown at once.
const BYTES: u32 = 6_000;

/// So many events are shown at once.
const EVENTS: u32 = 30;

/// The arguments of `session_watch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionWatch {
    /// Session id or server/name; default: the active or only one.
    pub session: Option<String>,
    /// Output from this byte on (default: from now).
    pub offset: Option<u64>,
    /// Events from this number on (default: from now).
    pub event: Option<u64>,
    /// Seconds (default 25).
    pub wait: Option<f64>,
}

impl Tool for SessionWatch {
    const NAME: &'static str = "session_watch";
    const TITLE: &'static str = "Watch session";
    const ABOUT: &'static str = "Wait (long-poll) until a session says something or something happens to it: typing, \
        lease, resize, people coming and going. Whichever is first.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let found = SessionName::parse_optional(self.session.as_deref()).find(client, None).await?;
        let (wait, _) = desk.wait(self.wait)?;
        let offset = self.offset.unwrap_or(found.job.state.bytes);
        let from = match self.event {
            Some(number) => number,
            None => found.status.events.unwrap_or(0) + 1,
        };
        let asked = Events {
            session: found.handle.job,
            caller: None,
            from,
            limit: EVENTS,
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            offset: Some(offset),
        };
        let waiting = events(client, &found.handle.server, &asked);
        let (happened, ended) = tokio::select! {
            answer = waiting => answer?,
            () = caller.cancelled.cancelled() => {
                return Err(Failure::new(Kind::Cancelled, "the watch was cancelled"));
            }
        };
        let span = Span { from: offset, limit: BYTES, wait: Duration::ZERO };
        let mut said = window(client, &found.handle.server, found.handle.job, span).await?;
        said.settle();
        let next = happened.last().map_or(from, |event| event.number + 1);
        let header = header(found.handle.id, &ended);
        let header = header.field(Key::Offset, format_args!("{}-{}", said.from(), said.to()));
        let header = header.field(Key::Event, next.saturating_sub(1));
        let (text, hidden) = said.text();
        let call = Call::new(Self::NAME).with("session", found.handle.id);
        let call = call.with("offset", said.to()).with("event", next);
        let over = !said.state.is_open() && !said.more();
        let header = header.hidden(hidden);
        let mut answer = if over { header.end() } else { header.next(&call) };
        answer.push('\n');
        for event in &happened {
            answer.extend([format!("#{} {} {}\n", event.number, time(event), told(event))]);
        }
        if !text.is_empty() && !happened.is_empty() {
            answer.push_str("---\n");
        }
        answer.push_str(&text);
        Ok(answer)
    }
}
