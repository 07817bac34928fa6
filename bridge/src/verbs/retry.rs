//! Repeats a command until it succeeds, with pauses that may grow.

use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::Exit;
use farwire_protocol::streams::session::Input;
use regex::bytes::Regex;
use tokio::time::{Instant, sleep};

use super::observer::Observer;
use super::run::{Excerpt, RunAnswer, RunProgram};
use super::session::send::{SendInput, raw_bytes};
use crate::client::{Client, Server};
use crate::handles::Handle;
use crate::runs::answer::{NoAnswer, RunReply};
use crate::runs::outcome;
use crate::sessions::{self, untyped};
use crate::text::shown::Budget;

/// One call tries a command at most this often.
const MOST: u32 = 20;

/// The longest pause.
pub const LONGEST: Duration = Duration::from_secs(30);

/// A run is killed when the time of its attempt is up, and its end is waited for this much longer.
const SLACK: Duration = Duration::from_secs(6);

/// The failure of a retry that was cancelled between attempts.
pub const CANCELLED: &str = "the retry was cancelled";

/// Repeats a command.
#[derive(Clone, Debug)]
pub struct Retry {
    /// A line for a shell.
    pub command: String,
    /// How often it is tried at most.
    pub attempts: u32,
    /// How pauses grow.
    pub backoff: Backoff,
    /// The first pause.
    pub delay: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Output that matches this expression is a success, whatever the exit code.
    pub success: Option<Regex>,
    /// Output that matches this expression is none, also with exit code 0.
    pub fail: Option<Regex>,
    /// How many characters of one attempt are shown.
    pub budget: Budget,
}

/// How pauses grow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backoff {
    /// They do not.
    Fixed,
    /// Each is twice as long as the one before.
    Exponential,
}

/// Where a command is tried.
#[derive(Clone, Debug)]
pub enum RetryOn {
    /// It is typed into this session, which must be at its prompt.
    Session(Handle),
    /// Each attempt is a run of its own on this server.
    Server(Server),
}

/// All attempts.
#[derive(Debug)]
pub struct RetryAnswer {
    /// Each of them, in order; at least one.
    pub attempts: Vec<Attempt>,
    /// Why no other followed.
    pub end: RetryEnd,
}

/// Why no other attempt followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetryEnd {
    /// The last one succeeded.
    Success,
    /// There were as many as were asked for.
    Attempts,
    /// The next would have come too late.
    Time,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The run, or the session that it was typed into.
    pub handle: Handle,
    /// What came of it.
    pub result: AttemptResult,
    /// Whether that is a success.
    pub success: bool,
}

/// What came of one attempt.
#[derive(Clone, Debug)]
pub enum AttemptResult {
    /// How the run ended.
    Run(Box<RunReply>),
    /// What the session said.
    Typed(Box<sessions::SessionReply>),
}

impl AttemptResult {
    fn exit(&self) -> Option<i32> {
        match self {
            Self::Run(answer) => match answer.ended.state.exit {
                Some(Exit::Code(code)) => Some(code),
                _ => None,
            },
            Self::Typed(answer) => answer.ended.command.as_ref()?.exit,
        }
    }

    fn output(&self) -> Vec<u8> {
        let pieces = match self {
            Self::Run(answer) => &answer.pieces,
            Self::Typed(answer) => &answer.pieces,
        };
        pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect()
    }
}

impl Retry {
    /// Checks what was asked for.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for too many attempts or none, and `empty_command`.
    pub fn check(&self) -> Result<(), Failure> {
        if !(1..=MOST).contains(&self.attempts) {
            let text = format!("max_attempts: between 1 and {MOST}");
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        if self.command.trim().is_empty() {
            return Err(Failure::new(Kind::EmptyCommand, "command is empty"));
        }
        Ok(())
    }

    /// Tries it until it succeeds, for at most `within`. When the caller cancels, the run of the
    /// attempt is stopped.
    ///
    /// # Errors
    ///
    /// Where it is not known what came of an attempt, no other follows: `outcome_unknown`, or
    /// `busy` where the line was not typed as a whole. Also `cancelled`.
    pub async fn carry_out(
        &self,
        client: &Client,
        on: &RetryOn,
        within: Duration,
        observer: &dyn Observer,
    ) -> Result<RetryAnswer, Failure> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut attempts = Vec::new();
        let mut end = RetryEnd::Attempts;
        for attempt in 1..=self.attempts {
            let timeout = self.timeout.min(left());
            let attempted = self.attempt(client, on, timeout, observer).await?;
            let success = attempted.success;
            attempts.push(attempted);
            if success {
                end = RetryEnd::Success;
                break;
            }
            if attempt < self.attempts {
                let pause = self.pause(attempt);
                if pause >= left() {
                    end = RetryEnd::Time;
                    break;
                }
                let pausing = async {
                    sleep(pause).await;
                    Ok(())
                };
                observer.unless_cancelled(CANCELLED, pausing).await?;
            }
        }
        Ok(RetryAnswer { attempts, end })
    }

    fn pause(&self, attempt: u32) -> Duration {
        let factor = match self.backoff {
            Backoff::Fixed => 1,
            Backoff::Exponential => 2_u32.saturating_pow(attempt.saturating_sub(1)),
        };
        self.delay.saturating_mul(factor).min(LONGEST)
    }

    fn is_success(&self, exit: Option<i32>, output: &[u8]) -> bool {
        let matches = |pattern: &Option<Regex>| pattern.as_ref().map(|one| one.is_match(output));
        match (matches(&self.fail), matches(&self.success)) {
            (Some(true), _) => false,
            (_, Some(success)) => success,
            (_, None) => exit == Some(0),
        }
    }

    async fn attempt(
        &self,
        client: &Client,
        on: &RetryOn,
        timeout: Duration,
        observer: &dyn Observer,
    ) -> Result<Attempt, Failure> {
        let (handle, result) = match on {
            RetryOn::Server(server) => {
                let (run, answer) = self.run(client, server, timeout, observer).await?;
                (run, AttemptResult::Run(Box::new(answer)))
            }
            RetryOn::Session(session) => {
                let answer = self.type_into(client, session, timeout, observer).await?;
                (session.clone(), AttemptResult::Typed(Box::new(answer)))
            }
        };
        let success = self.is_success(result.exit(), &result.output());
        Ok(Attempt { handle, result, success })
    }

    /// Tries it as a run of its own, which is killed when its time is up.
    async fn run(
        &self,
        client: &Client,
        server: &Server,
        timeout: Duration,
        observer: &dyn Observer,
    ) -> Result<(Handle, RunReply), Failure> {
        let run = RunProgram {
            timeout_ms: Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)),
            ..RunProgram::line(self.command.as_str())
        };
        let excerpt = Excerpt { wait: timeout + SLACK, budget: self.budget, progress: false };
        let RunAnswer { handle, answer, .. } =
            run.carry_out(client, server.clone(), excerpt, observer).await?;
        let answer = answer.map_err(|no| outcome(handle.id, no))?;
        let state = &answer.ended.state;
        let lost = state.failure.as_ref().filter(|failure| failure.kind == Kind::OutcomeUnknown);
        if state.is_open() || lost.is_some() {
            let going_on = || Failure::new(Kind::TimedOut, "it has not ended in its time");
            let why = lost.cloned().unwrap_or_else(going_on);
            return Err(outcome(handle.id, NoAnswer::Unknown(why)));
        }
        Ok((handle, answer))
    }

    async fn type_into(
        &self,
        client: &Client,
        session: &Handle,
        timeout: Duration,
        observer: &dyn Observer,
    ) -> Result<sessions::SessionReply, Failure> {
        let send = SendInput {
            wait: timeout,
            bytes: raw_bytes(self.budget),
            at_prompt: true,
            cancelled: CANCELLED,
            ..SendInput::new(vec![Input::Text(Blob(format!("{}\n", self.command).into_bytes()))])
        };
        let sending = Box::pin(send.carry_out(client, session, observer));
        let answer = observer.unless_cancelled(CANCELLED, sending).await?;
        // What is left of it in the line would become part of the next attempt.
        if let Some(untyped) = untyped(&answer.ended) {
            let hint = "look at its screen before anything else is typed there";
            return Err(Failure::new(Kind::Busy, untyped).with_hint(hint));
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(backoff: Backoff, delay_ms: u64) -> Retry {
        Retry {
            command: "x".to_owned(),
            attempts: 3,
            backoff,
            delay: Duration::from_millis(delay_ms),
            timeout: Duration::from_secs(20),
            success: None,
            fail: None,
            budget: Budget::default(),
        }
    }

    #[test]
    fn pauses_are_as_they_were_asked_for() {
        let plan = retry(Backoff::Exponential, 500);
        let pauses: Vec<_> = (1..=8).map(|attempt| plan.pause(attempt).as_secs_f64()).collect();
        assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        let plan = retry(Backoff::Fixed, 2_000);
        assert_eq!(plan.pause(1), plan.pause(7));
        let kind = |plan: Retry| plan.check().map_err(|failure| failure.kind);
        let ok = retry(Backoff::Fixed, 0);
        assert_eq!(kind(ok.clone()), Ok(()));
        for attempts in [0, MOST + 1] {
            assert_eq!(kind(Retry { attempts, ..ok.clone() }), Err(Kind::InvalidArgument));
        }
        assert_eq!(kind(Retry { command: " ".to_owned(), ..ok }), Err(Kind::EmptyCommand));
    }

    #[test]
    fn patterns_go_before_exit_codes() {
        let pattern = |text: &str| Some(sessions::search::expression(text).unwrap());
        let plan = retry(Backoff::Fixed, 0);
        assert!(plan.is_success(Some(0), b"") && !plan.is_success(Some(1), b""));
        assert!(!plan.is_success(None, b""), "no exit code is no success");
        let plan = Retry { fail: pattern("ERR"), ..plan };
        assert!(!plan.is_success(Some(0), b"an ERR") && plan.is_success(Some(0), b"ok"));
        let plan = Retry { success: pattern("^ok$"), ..plan };
        assert!(plan.is_success(Some(3), b"a\r\nok\r\n"));
        assert!(!plan.is_success(Some(0), b"fine") && !plan.is_success(Some(0), b"ok\nERR"));
    }
}
