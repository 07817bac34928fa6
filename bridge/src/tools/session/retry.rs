//! `session_retry`: a command until it succeeds, with pauses that grow.

use std::fmt;
use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::Exit;
use farwire_protocol::streams::session::Input;
use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Server};
use crate::runs::answer::NoAnswer;
use crate::runs::outcome;
use crate::sessions::find::{KnownSession, SessionName};
use crate::sessions::search::expression;
use crate::sessions::target::chosen_server;
use crate::sessions::untyped;
use crate::text::header::{Fate, Header, Key};
use crate::text::shown::{Budget, Keep};
use crate::text::{Word, human};
use crate::tools::answer::run::LogExcerpt;
use crate::tools::answer::session::typed;
use crate::tools::{Caller, Cancel, Desk, Effect, Tool};
use crate::verbs::run::{Excerpt, Run, RunAnswer};
use crate::verbs::session::send::{SendInput, raw_bytes};

/// A run is killed when the time of its attempt is up, and its end is waited for this much longer.
const SLACK: Duration = Duration::from_secs(6);

/// No command is tried more often in one call.
const MOST: u32 = 20;

/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(30);

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
    /// Fails if the output matches this regex, also with exit 0.
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

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let plan = self.plan()?;
        let place = async {
            Ok(match &self.session {
                Some(name) => {
                    Place::Session(Box::new(SessionName::parse(name).find(client, None).await?))
                }
                None => {
                    Place::Server(Box::new(chosen_server(client, self.server.as_deref()).await?))
                }
            })
        };
        let place = caller.unless_cancelled(CANCELLED, place).await?;
        let deadline = Instant::now() + desk.settings.max_wait;
        let mut tries = Vec::new();
        let (mut last, mut why) = (String::new(), "attempts");
        for attempt in 1..=plan.attempts {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = plan.timeout.min(left);
            let tried = self.attempt(client, &place, timeout, caller).await?;
            let ok = plan.succeeded(&tried);
            tries.push(format!(
                "attempt {attempt}: {}{}",
                tried.end,
                if ok { " success" } else { "" }
            ));
            last = tried.text;
            if ok {
                why = "success";
                break;
            }
            let pause = plan.pause(attempt);
            let left = deadline.saturating_duration_since(Instant::now());
            if attempt < plan.attempts {
                if pause >= left {
                    why = "wait-over";
                    break;
                }
                tokio::select! {
                    () = sleep(pause) => {}
                    () = caller.cancelled.cancelled() => return Err(cancelled()),
                }
            }
        }
        let header = Header::new(Word::Status).words("retry").field(Key::Attempts, tries.len());
        let header = header.field(Key::Reason, why);
        Ok(format!("{}\n{}\n{last}", header.end(), tries.join("\n")))
    }
}

const CANCELLED: &str = "the retry was cancelled";

fn cancelled() -> Failure {
    Failure::new(Kind::Cancelled, CANCELLED)
}

/// What is tried, and when it is over.
#[derive(Debug)]
struct Plan {
    attempts: u32,
    backoff: Backoff,
    delay: Duration,
    timeout: Duration,
    success: Option<Regex>,
    fail: Option<Regex>,
}

impl Plan {
    fn pause(&self, attempt: u32) -> Duration {
        let factor = match self.backoff {
            Backoff::Fixed => 1,
            Backoff::Exponential => 2_u32.saturating_pow(attempt.saturating_sub(1)),
        };
        self.delay.saturating_mul(factor).min(LONGEST)
    }

    fn succeeded(&self, tried: &Tried) -> bool {
        let matches =
            |pattern: &Option<Regex>| pattern.as_ref().map(|one| one.is_match(&tried.output));
        match (matches(&self.fail), matches(&self.success)) {
            (Some(true), _) => false,
            (_, Some(success)) => success,
            (_, None) => tried.exit == Some(0),
        }
    }
}

/// Where it is tried.
enum Place {
    Session(Box<KnownSession>),
    Server(Box<Server>),
}

/// What came of one attempt.
struct Tried {
    exit: Option<i32>,
    output: Vec<u8>,
    /// How it ended, in a few words.
    end: String,
    /// As an answer of its own.
    text: String,
}

impl SessionRetry {
    fn plan(&self) -> Result<Plan, Failure> {
        let attempts = self.max_attempts.unwrap_or(3);
        if !(1..=MOST).contains(&attempts) {
            let text = format!("max_attempts: between 1 and {MOST}");
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        if self.command.trim().is_empty() {
            return Err(Failure::new(Kind::EmptyCommand, "command says nothing"));
        }
        if self.session.is_some() && self.server.is_some() {
            return Err(Failure::new(
                Kind::InvalidArgument,
                "name a session or a server, not both",
            ));
        }
        let seconds = |what: &str, asked: Option<f64>, default: f64| {
            Duration::try_from_secs_f64(asked.unwrap_or(default)).map_err(|_| {
                let text = format!("{what} is not a number of seconds from 0 up");
                Failure::new(Kind::InvalidArgument, text)
            })
        };
        let pattern = |text: &Option<String>| text.as_deref().map(expression).transpose();
        Ok(Plan {
            attempts,
            backoff: self.backoff.unwrap_or_default(),
            delay: seconds("delay", self.delay, 1.0)?.min(LONGEST),
            timeout: seconds("timeout", self.timeout, 20.0)?,
            success: pattern(&self.success_pattern)?,
            fail: pattern(&self.fail_pattern)?,
        })
    }

    async fn attempt(
        &self,
        client: &Client,
        place: &Place,
        timeout: Duration,
        caller: &Caller,
    ) -> Result<Tried, Failure> {
        match place {
            Place::Server(server) => self.run(client, server, timeout, caller).await,
            Place::Session(found) => self.type_into(client, found, timeout, caller).await,
        }
    }

    /// As a run of its own, killed when its time is up.
    async fn run(
        &self,
        client: &Client,
        server: &Server,
        timeout: Duration,
        caller: &Caller,
    ) -> Result<Tried, Failure> {
        let budget = Budget::new(5_000);
        let run = Run {
            timeout_ms: Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)),
            ..Run::line(self.command.as_str())
        };
        let excerpt = Excerpt { wait: timeout + SLACK, budget, progress: false };
        let RunAnswer { handle, answer, .. } =
            run.carry_out(client, server.clone(), excerpt, caller).await?;
        let id = handle.id;
        // Where it is not known whether it ran it is not tried again.
        let answer = answer.map_err(|no| outcome(id, no))?;
        let state = &answer.ended.state;
        // Nor where it goes on, or the server has lost it.
        let lost = state.failure.as_ref().filter(|failure| failure.kind == Kind::OutcomeUnknown);
        if state.is_open() || lost.is_some() {
            let going_on = || Failure::new(Kind::TimedOut, "it has not ended in its time");
            let why = lost.cloned().unwrap_or_else(going_on);
            return Err(outcome(id, NoAnswer::Unknown(why)));
        }
        let exit = match state.exit {
            Some(Exit::Code(code)) => Some(code),
            _ => None,
        };
        let time = human::duration(Duration::from_millis(state.duration_ms));
        Ok(Tried {
            exit,
            output: answer.pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect(),
            end: format!("{} {time} {id}", Fate::of(state)),
            text: LogExcerpt { id, answer: &answer, keep: Keep::Ends, budget, limited: None }
                .to_string(),
        })
    }

    /// Typed into a session, which must be at its prompt.
    async fn type_into(
        &self,
        client: &Client,
        found: &KnownSession,
        timeout: Duration,
        caller: &Caller,
    ) -> Result<Tried, Failure> {
        let budget = Budget::new(5_000);
        let send = SendInput {
            wait: timeout,
            bytes: raw_bytes(budget),
            at_prompt: true,
            cancelled: CANCELLED,
            ..SendInput::new(vec![Input::Text(Blob(format!("{}\n", self.command).into_bytes()))])
        };
        let sending = send.carry_out(client, &found.handle, caller);
        let answer = caller.unless_cancelled(CANCELLED, sending).await?;
        // What is left of it in the line would become part of the next attempt.
        if let Some(untyped) = untyped(&answer.ended) {
            let hint = "look at its screen before anything else is typed there";
            return Err(Failure::new(Kind::Busy, untyped).with_hint(hint));
        }
        let exit = answer.ended.command.as_ref().and_then(|command| command.exit);
        let end =
            Ended(exit, answer.ended.command.as_ref().and_then(|command| command.duration_ms));
        Ok(Tried {
            exit,
            output: answer.pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect(),
            end: end.to_string(),
            text: typed(found.handle.id, &answer, budget),
        })
    }
}

/// How a command in a session ended.
struct Ended(Option<i32>, Option<u64>);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "exit={code}")?,
            None => f.write_str("no exit code")?,
        }
        match self.1 {
            Some(time) => write!(f, " {}", human::duration(Duration::from_millis(time))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(text: &str) -> SessionRetry {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn pauses_are_as_they_were_asked_for() {
        let plan = retry(r#"{"command":"x","backoff":"exponential","delay":0.5}"#).plan().unwrap();
        let pauses: Vec<_> = (1..=8).map(|attempt| plan.pause(attempt).as_secs_f64()).collect();
        assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        let plan = retry(r#"{"command":"x","delay":2}"#).plan().unwrap();
        assert_eq!(plan.pause(1), plan.pause(7));
        for wrong in [
            r#"{"command":" "}"#,
            r#"{"command":"x","max_attempts":0}"#,
            r#"{"command":"x","delay":-1}"#,
        ] {
            assert!(retry(wrong).plan().is_err(), "{wrong}");
        }
    }

    #[test]
    fn patterns_go_before_exit_codes() {
        let tried = |exit, output: &str| Tried {
            exit,
            output: output.as_bytes().to_vec(),
            end: String::new(),
            text: String::new(),
        };
        let plan = retry(r#"{"command":"x"}"#).plan().unwrap();
        assert!(plan.succeeded(&tried(Some(0), "")) && !plan.succeeded(&tried(Some(1), "")));
        assert!(!plan.succeeded(&tried(None, "")), "no exit code is no success");
        let plan = retry(r#"{"command":"x","fail_pattern":"ERR"}"#).plan().unwrap();
        assert!(
            !plan.succeeded(&tried(Some(0), "an ERR")) && plan.succeeded(&tried(Some(0), "ok"))
        );
        let text = r#"{"command":"x","success_pattern":"^ok$","fail_pattern":"ERR"}"#;
        let plan = retry(text).plan().unwrap();
        assert!(plan.succeeded(&tried(Some(3), "a\r\nok\r\n")));
        assert!(
            !plan.succeeded(&tried(Some(0), "fine")) && !plan.succeeded(&tried(Some(0), "ok\nERR"))
        );
    }
}
