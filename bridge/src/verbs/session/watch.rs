//! Waits until a session says something or something happens to it, whichever comes first.

use std::time::Duration;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::session::{Ended, Event, Events};

use crate::client::Client;
use crate::sessions::control::events;
use crate::sessions::find::KnownSession;
use crate::sessions::window::{Span, Window, window};
use crate::verbs::observer::Observer;

/// Bytes of output that one answer brings.
const BYTES: u32 = 6_000;

/// Events that one answer brings.
const EVENTS: u32 = 30;

/// Watches a session.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Output is new from this offset on; by default from now.
    pub offset: Option<u64>,
    /// Events are new from this number on; by default from now.
    pub event: Option<u64>,
    /// How long to wait for either.
    pub wait: Duration,
}

/// What was new.
#[derive(Clone, Debug)]
pub struct WatchAnswer {
    /// How the session is.
    pub ended: Ended,
    /// What happened.
    pub events: Vec<Event>,
    /// The number from which on events are new the next time.
    pub next_event: u64,
    /// What it said.
    pub output: Window,
}

impl Watch {
    /// Waits, and reads.
    ///
    /// # Errors
    ///
    /// What the server says, or why it does not answer; and `cancelled`.
    pub async fn carry_out(
        &self,
        client: &Client,
        session: &KnownSession,
        observer: &dyn Observer,
    ) -> Result<WatchAnswer, Failure> {
        let (server, job) = (&session.handle.server, session.handle.job);
        let offset = self.offset.unwrap_or(session.job.state.bytes);
        let from = self.event.unwrap_or_else(|| session.status.events.unwrap_or(0) + 1);
        let asked = Events {
            session: job,
            caller: None,
            from,
            limit: EVENTS,
            wait_ms: u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX),
            offset: Some(offset),
        };
        let waiting = Box::pin(events(client, server, &asked));
        let (events, ended) = observer.unless_cancelled("the watch was cancelled", waiting).await?;
        let span = Span { from: offset, limit: BYTES, wait: Duration::ZERO };
        let mut output = window(client, server, job, span).await?;
        output.settle();
        let next_event = events.last().map_or(from, |event| event.number + 1);
        Ok(WatchAnswer { ended, events, next_event, output })
    }
}
