//! `session_watch`: waits for output or for something to happen, whichever comes first.

use farwire_protocol::failure::Failure;
use schemars::JsonSchema;
use serde::Deserialize;

use super::events::{describe, time};
use crate::sessions::find::SessionName;
use crate::text::header::{Call, Key};
use crate::tools::answer::session::header;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::session::watch::{Watch, WatchAnswer};

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
    /// Seconds to wait (default 25).
    pub wait: Option<f64>,
}

impl Tool for SessionWatch {
    const NAME: &'static str = "session_watch";
    const TITLE: &'static str = "Watch session";
    const ABOUT: &'static str = "Wait (long-poll) until a session prints something or something \
        happens to it: typing, lease, resize, people coming and going.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let found = SessionName::parse_optional(self.session.as_deref()).find(client, None).await?;
        let (wait, _) = seat.wait(self.wait)?;
        let watch = Watch { offset: self.offset, event: self.event, wait };
        let WatchAnswer { ended, events, next_event, output } =
            watch.carry_out(client, &found, caller).await?;
        let id = found.handle.id;
        let (from, to) = (output.from(), output.to());
        let header = header(id, &ended).field(Key::Offset, format_args!("{from}-{to}"));
        let header = header.field(Key::Event, next_event.saturating_sub(1));
        let (text, hidden) = output.text();
        let header = header.hidden(hidden);
        let over = !output.state.is_open() && !output.more();
        let mut answer = match over {
            true => header.end(),
            false => {
                let call = Call::new(Self::NAME).with("session", id);
                header.next(&call.with("offset", to).with("event", next_event))
            }
        };
        answer.push('\n');
        for event in &events {
            answer.extend([format!("#{} {} {}\n", event.number, time(event), describe(event))]);
        }
        if !text.is_empty() && !events.is_empty() {
            answer.push_str("---\n");
        }
        answer.push_str(&text);
        Ok(answer)
    }
}
