//! `session_retry`: repeats a command until it succeeds, with growing pauses.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::Client;
use crate::sessions::find::SessionName;
use crate::sessions::search::expression;
use crate::sessions::target::chosen_server;
use crate::text::header::{Fate, Header, Key};
use crate::text::shown::{Budget, Keep};
use crate::text::{Word, human};
use crate::tools::answer::run::LogExcerpt;
use crate::tools::answer::session::input_answer;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Cancel, Effect, Tool};
use crate::verbs::retry as verb;
use crate::verbs::retry::{Attempt, AttemptResult, CANCELLED, LONGEST, Retry, RetryEnd, RetryOn};

/// Characters of an attempt that are shown.
const SHOWN: usize = 5_000;

/// The arguments of `session_retry`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRetry {
    /// Shell command line.
    pub command: String,
    /// Type it into this session; otherwise each attempt is a run of its own.
    pub session: Option<String>,
    /// Server of the runs; default: the active or only one.
    pub server: Option<String>,
    /// Default 3, at most 20.
    pub max_attempts: Option<u32>,
    /// fixed (default) or exponential.
    pub backoff: Option<Backoff>,
    /// Seconds between attempts (default 1).
    pub delay: Option<f64>,
    /// Succeeds if the output matches this regex, whatever the exit code.
    pub success_pattern: Option<String>,
    /// Fails if the output matches this regex, even with exit 0.
    pub fail_pattern: Option<String>,
    /// Seconds for each attempt (default 20).
    pub timeout: Option<f64>,
}

/// How pauses grow.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "doc comments would go into the schema that models pay for")]
pub enum Backoff {
    #[default]
    Fixed,
    Exponential,
}

impl Tool for SessionRetry {
    const NAME: &'static str = "session_retry";
    const TITLE: &'static str = "Retry command";
    const ABOUT: &'static str = "Run a flaky command again until it succeeds: attempts, fixed or exponential backoff, \
        success and failure by exit code or pattern. One call.";
    const EFFECT: Effect = Effect::ACTS;
    /// The attempt that runs is stopped.
    const CANCEL: Cancel = Cancel::Notices;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let retry = self.verb()?;
        let on = caller.unless_cancelled(CANCELLED, self.place(client)).await?;
        let within = seat.settings.max_wait;
        let answer = Box::pin(retry.carry_out(client, &on, within, caller)).await?;
        let why = match answer.end {
            RetryEnd::Success => "success",
            RetryEnd::Attempts => "attempts",
            RetryEnd::Time => "wait-over",
        };
        let lines = (1..).zip(&answer.attempts).map(|(number, attempt)| line(number, attempt));
        let lines = lines.collect::<Vec<_>>().join("\n");
        let last = answer.attempts.last().map(|last| in_full(last, retry.budget));
        let header = Header::new(Word::Status).words("retry");
        let header = header.field(Key::Attempts, answer.attempts.len()).field(Key::Reason, why);
        Ok(format!("{}\n{lines}\n{}", header.end(), last.unwrap_or_default()))
    }
}

impl SessionRetry {
    fn verb(&self) -> Result<Retry, Failure> {
        let seconds = |what: &str, asked: Option<f64>, default: f64| {
            Duration::try_from_secs_f64(asked.unwrap_or(default)).map_err(|_| {
                let text = format!("{what} is not a number of seconds that is 0 or more");
                Failure::new(Kind::InvalidArgument, text)
            })
        };
        let pattern = |text: &Option<String>| text.as_deref().map(expression).transpose();
        let retry = Retry {
            command: self.command.clone(),
            attempts: self.max_attempts.unwrap_or(3),
            backoff: match self.backoff.unwrap_or_default() {
                Backoff::Fixed => verb::Backoff::Fixed,
                Backoff::Exponential => verb::Backoff::Exponential,
            },
            delay: seconds("delay", self.delay, 1.0)?.min(LONGEST),
            timeout: seconds("timeout", self.timeout, 20.0)?,
            success: pattern(&self.success_pattern)?,
            fail: pattern(&self.fail_pattern)?,
            budget: Budget::new(SHOWN),
        };
        retry.check()?;
        if self.session.is_some() && self.server.is_some() {
            return Err(Failure::new(
                Kind::InvalidArgument,
                "name a session or a server, not both",
            ));
        }
        Ok(retry)
    }

    async fn place(&self, client: &Client) -> Result<RetryOn, Failure> {
        Ok(match &self.session {
            Some(name) => {
                RetryOn::Session(SessionName::parse(name).find(client, None).await?.handle)
            }
            None => RetryOn::Server(chosen_server(client, self.server.as_deref()).await?),
        })
    }
}

/// How an attempt ended, in a line.
fn line(number: usize, attempt: &Attempt) -> String {
    let time = |millis| human::duration(Duration::from_millis(millis));
    let end = match &attempt.result {
        AttemptResult::Run(answer) => {
            let state = &answer.ended.state;
            format!("{} {} {}", Fate::of(state), time(state.duration_ms), attempt.handle.id)
        }
        AttemptResult::Typed(answer) => {
            let command = answer.ended.command.as_ref();
            let exit = command.and_then(|command| command.exit);
            let exit =
                exit.map_or_else(|| "no exit code".to_owned(), |code| format!("exit={code}"));
            match command.and_then(|command| command.duration_ms) {
                Some(millis) => format!("{exit} {}", time(millis)),
                None => exit,
            }
        }
    };
    format!("attempt {number}: {end}{}", if attempt.success { " success" } else { "" })
}

/// The answer for one attempt.
fn in_full(attempt: &Attempt, budget: Budget) -> String {
    let id = attempt.handle.id;
    match &attempt.result {
        AttemptResult::Run(answer) => {
            LogExcerpt { id, answer, keep: Keep::Ends, budget, limited: None }.to_string()
        }
        AttemptResult::Typed(answer) => input_answer(id, answer, budget),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused() {
        let retry = |text: &str| serde_json::from_str::<SessionRetry>(text).unwrap().verb();
        assert_eq!(retry(r#"{"command":"x","delay":99}"#).unwrap().delay, LONGEST);
        for wrong in [
            r#"{"command":" "}"#,
            r#"{"command":"x","max_attempts":0}"#,
            r#"{"command":"x","delay":-1}"#,
            r#"{"command":"x","fail_pattern":"("}"#,
            r#"{"command":"x","session":"s1","server":"web-1"}"#,
        ] {
            assert!(retry(wrong).is_err(), "{wrong}");
        }
    }
}
