//! `stop`: ends a run.

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::control::Stopped;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::text::header::Header;
use crate::tools::answer::{header, word};
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::signals::parse_allowed;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::stop::StopJob;

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

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let parse = |text: &str| parse_allowed(&seat.settings.offer, text);
        let signal = self.signal.as_deref().map(parse).transpose()?;
        let answer = StopJob { id: self.id, signal }.carry_out(client).await?;
        let id = answer.handle.id;
        let in_words = |what: &str| Header::new(word(id)).value(&id.to_string()).words(what).end();
        if answer.stopped == Stopped::NeverStarted {
            return Ok(in_words("never-started"));
        }
        Ok(match answer.state(client).await {
            Ok(state) => header(id, &state).end(),
            Err(_) if answer.stopped == Stopped::Ended => in_words("ended"),
            Err(_) => in_words("signal-sent"),
        })
    }
}
