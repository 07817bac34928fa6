//! `run`: one command on one server.
//!
//! The agent's half is `agent/src/streams/run.rs`; what they say to each other is
//! `protocol/src/streams/run.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use farwire_keystore::{Class, ShortId};
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::Stopped;
use farwire_protocol::streams::run::{
    Delivery, Digest, INPUT_LIMIT, Program, Reason, Request, Start, State, Variable,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::client::{Client, Server, random_nonce};
use crate::runs::answer::{Answer, News, NoAnswer, ask};
use crate::runs::slow::is_slow;
use crate::runs::{assign, control, outcome};
use crate::text::Word;
use crate::text::clean::last_line;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::neutral::neutral_within;
use crate::text::shown::{Budget, Keep, Shown, Total, fit};
use crate::tools::output::Output;
use crate::tools::session;
use crate::tools::{Caller, Cancel, Desk, Effect, Tool, budget, fate};

/// How much longer than its wait an answer may take on the way.
pub(super) const SLACK: Duration = Duration::from_secs(4);

/// What a call says that was cancelled before anything was sent.
const UNSENT: &str = "cancelled, and nothing was started";

/// What is known to take long is waited for so many seconds, where nothing else is said: enough for it to
/// fail at once.
const AT_ONCE: f64 = 1.0;

/// No timeout is longer: 366 days, as on the command line.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// The arguments of `run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Server name, from servers.
    pub server: Option<String>,
    /// Session to type it into, instead.
    pub session: Option<String>,
    /// Shell command line.
    pub command: String,
    /// Default: home.
    pub cwd: Option<String>,
    /// Extra variables.
    pub env: Option<BTreeMap<String, String>>,
    /// Text for stdin.
    pub stdin: Option<String>,
    /// Run as this user.
    pub user: Option<String>,
    /// Login shell.
    pub login: Option<bool>,
    /// Seconds (default 25); then it goes on under its id.
    pub wait: Option<f64>,
    /// Kill after seconds.
    pub timeout: Option<f64>,
    /// Characters (default 7500).
    pub max_output: Option<usize>,
}

impl Tool for Run {
    const NAME: &'static str = "run";
    const TITLE: &'static str = "Run command";
    const ABOUT: &'static str = "Run (execute) one shell command on a remote server, like ssh HOST COMMAND: \
        exit code and output. No terminal: prompts fail. What outlasts wait keeps running: \
        go on with output, end it with stop. A non-zero exit is a normal result.";
    const EFFECT: Effect = Effect::ACTS;
    /// The command is stopped.
    const CANCEL: Cancel = Cancel::Notices;

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let slow = is_slow(&self.command).then_some(AT_ONCE);
        let (wait, clamped) = desk.wait(self.wait.or(slow))?;
        let budget = budget(self.max_output);
        if let Some(id) = &self.session {
            self.only_a_line()?;
            let what = (id.as_str(), self.command.clone());
            let typed = session::run(desk, caller, what, (wait, budget));
            return caller.unless_cancelled("the call was cancelled", typed).await;
        }
        let name = self.server.as_ref().ok_or_else(|| {
            Failure::new(Kind::InvalidArgument, "run: server is missing")
                .with_hint("name a server, or a session to type it into")
        })?;
        let server = caller.unless_cancelled(UNSENT, client.find(name)).await?;
        let start = self.start(wait, budget, caller.progress.is_some())?;
        let begun = Instant::now();
        let job = start.request;
        let id = assign(client, &server, job)?;
        match ask_or_stop(client, caller, &server, (id, start), wait + SLACK).await? {
            Ok(answer) => {
                desk.shown(job, answer.ended.state.bytes);
                let limited = clamped.then_some(desk.settings.max_wait);
                Ok(Said { id, answer: &answer, keep: Keep::Ends, budget, limited }.to_string())
            }
            Err(no) => unanswered(id, no, begun.elapsed()),
        }
    }
}

impl Run {
    /// A session has its own directory, variables, user and terminal, and ends when it ends.
    fn only_a_line(&self) -> Result<(), Failure> {
        let given = [
            ("server", self.server.is_some()),
            ("cwd", self.cwd.is_some()),
            ("env", self.env.is_some()),
            ("stdin", self.stdin.is_some()),
            ("user", self.user.is_some()),
            ("login", self.login.is_some()),
            ("timeout", self.timeout.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((name, _)) => Err(Failure::new(
                Kind::InvalidArgument,
                format!("run: {name} and session do not go together"),
            )
            .with_hint("leave it out, or write it into the command: cd /x && A=b command")),
        }
    }

    fn start(self, wait: Duration, budget: Budget, progress: bool) -> Result<Start, Failure> {
        let variable = |(name, value): (String, String)| Variable {
            name: Blob(name.into_bytes()),
            value: Blob(value.into_bytes()),
        };
        if self.stdin.as_ref().is_some_and(|stdin| stdin.len() > INPUT_LIMIT) {
            return Err(Failure::new(Kind::TooLarge, "stdin has more than 48 KiB")
                .with_hint("write it to a file on the server in several calls, then read that"));
        }
        let timeout_ms = self.timeout.map(milliseconds).transpose()?;
        Ok(Start {
            request: random_nonce()?,
            instance: Nonce::ZERO,
            program: Program::Line(Blob(self.command.into_bytes())),
            cwd: self.cwd.map(|cwd| Blob(cwd.into_bytes())),
            env: self.env.map(|env| env.into_iter().map(variable).collect()),
            user: self.user,
            login: self.login,
            timeout_ms,
            stdin: None,
            delivery: Delivery::Digest(digest(wait, budget, progress)),
            input: self.stdin.map(|stdin| Blob(stdin.into_bytes())),
        })
    }
}

pub(super) fn milliseconds(seconds: f64) -> Result<u64, Failure> {
    let fits = Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= LONGEST);
    let fits = fits.and_then(|duration| u64::try_from(duration.as_millis()).ok());
    fits.filter(|&milliseconds| milliseconds > 0).ok_or_else(|| {
        let message = "a time is not between 0.001 and 31622400 seconds";
        Failure::new(Kind::InvalidArgument, message)
            .with_hint("leave it out, and it may take as long as it takes")
    })
}

/// A digest from the beginning. Raw bytes clean down: more than is shown is asked for.
pub(super) fn digest(wait: Duration, budget: Budget, progress: bool) -> Digest {
    let budget = u32::try_from(budget.characters()).unwrap_or(u32::MAX);
    Digest {
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        head: budget,
        tail: budget.saturating_mul(2),
        from: None,
        until: None,
        until_new: None,
        progress: progress.then_some(true),
    }
}

/// Passes progress on, one line of text at a time.
pub(super) fn tell(caller: &Caller, news: &News) {
    let Some(progress) = &caller.progress else { return };
    let (lines, text) = match news {
        News::Progress(lines, last) => (*lines, last_line(last, 80)),
        News::Queued => (0, "waiting for its turn".to_owned()),
        News::Sent(_) => return,
    };
    // A client that does not read its notifications misses some.
    let _ = progress.try_send((lines, text));
}

/// Starts a run and waits for its answer. Where the caller cancels, the run is stopped if it was sent.
pub(super) async fn ask_or_stop(
    client: &Client,
    caller: &Caller,
    server: &Server,
    (id, start): (ShortId, Start),
    patience: Duration,
) -> Result<Result<Answer, NoAnswer>, Failure> {
    let job = start.request;
    let request = Request::Start(start);
    // The agent process to which it was first sent.
    let sent = OnceLock::new();
    let asked = ask(client, server, &request, patience, |news| match news {
        // It is sent for the first time once.
        News::Sent(instance) => {
            let _ = sent.set(instance);
        }
        news => tell(caller, &news),
    });
    tokio::select! {
        answer = asked => Ok(answer),
        () = caller.cancelled.cancelled() => {
            Err(cancel(client, server, (id, job), sent.get().copied()).await)
        }
    }
}

async fn cancel(
    client: &Client,
    server: &Server,
    (id, job): (ShortId, Nonce),
    sent: Option<Nonce>,
) -> Failure {
    let message = match sent {
        None => UNSENT,
        Some(_) => match control::stop_sent(client, server, (job, sent), None).await {
            Ok(Stopped::NeverStarted) => "cancelled before the command was started",
            Ok(Stopped::Ended) => "cancelled; the command had ended",
            Ok(_) => "cancelled, and the command was stopped",
            Err(failure) => {
                let message = format!("cancelled; whether `{id}` was stopped: {}", failure.message);
                return Failure::new(Kind::OutcomeUnknown, message)
                    .with_hint(format!("`output {id}` shows how it is, `stop {id}` stops it"));
            }
        },
    };
    Failure::new(Kind::Cancelled, message)
}

/// An answer: its header, and what is shown of the output.
pub(super) struct Said<'a> {
    pub(super) id: ShortId,
    pub(super) answer: &'a Answer,
    pub(super) keep: Keep,
    pub(super) budget: Budget,
    /// The longest that a call waits, where more was asked for.
    pub(super) limited: Option<Duration>,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { ended, pieces } = self.answer;
        let state = &ended.state;
        let total = Total {
            lines: state.lines,
            dropped_lines: state.dropped_lines,
            dropped_bytes: state.dropped_bytes,
        };
        // A digest has two pieces at most.
        let shown = fit(pieces.first(), pieces.get(1), total, self.keep, self.budget);
        let mut header = header(self.id, state);
        if let Some(most) = self.limited {
            header = header.field(Key::WaitLimit, format_args!("{}s", most.as_secs()));
        }
        if ended.matched == Some(true) {
            header = header.field(Key::Until, "matched");
        }
        header = header.shown(&shown);
        let line = match self.next(&shown) {
            Some(call) => header.next(&call),
            None => header.end(),
        };
        write!(f, "{line}\n{}", shown.text)
    }
}

impl Said<'_> {
    /// The exact next call, if there is more to be had.
    fn next(&self, shown: &Shown) -> Option<Call> {
        let call = output(self.id);
        match shown.next {
            _ if self.answer.ended.state.is_open() => Some(call),
            Some(line) => Some(call.with("view", "range").with("offset", line)),
            // Bytes of a long line that did not fit are no lines of their own.
            None if self.answer.pieces.iter().any(|piece| piece.ends_within) => {
                Some(call.with("view", "grep").with("pattern", "…"))
            }
            None => None,
        }
    }
}

/// The beginning of the header: its exit or signal if and only if it has ended, its time, its lines.
pub(super) fn header(id: ShortId, state: &State) -> Header {
    let mut header = Header::ending(word(id), &id.to_string(), fate(state));
    header = match (&state.failure, state.reason) {
        (Some(failure), _) => header.field(Key::Reason, &failure.message),
        (None, Some(Reason::Timeout)) => header.field(Key::Reason, "timeout"),
        (None, Some(Reason::Stopped)) => header.field(Key::Reason, "stopped"),
        (None, None) => header,
    };
    header = header.time(Duration::from_millis(state.duration_ms)).field(Key::Lines, state.lines);
    header = header.dropped(state.dropped_lines, state.dropped_bytes);
    if let Some(escaped) = state.escaped {
        header = header.field(Key::Left, escaped);
    }
    if let (Some(reason), None) = (&state.memory_only, &state.failure) {
        header = header.field(Key::Spool, format_args!("memory only: {reason}"));
    }
    header
}

/// What an id is of.
pub(super) fn word(id: ShortId) -> Word {
    match id.class {
        Class::Session => Word::Session,
        Class::Run | Class::Forward => Word::Run,
    }
}

/// The call that goes on with a run.
pub(super) fn output(id: ShortId) -> Call {
    Call::new(Output::NAME).with("id", id)
}

/// What is said of a run about which no answer has come in time.
///
/// # Errors
///
/// The failure, where it is the answer.
pub(super) fn unanswered(id: ShortId, no: NoAnswer, waited: Duration) -> Result<String, Failure> {
    let header = |fate| Header::ending(word(id), &id.to_string(), fate).time(waited);
    match no {
        NoAnswer::Failed(failure) if failure.kind == Kind::OutcomeUnknown => {
            Err(outcome(id, NoAnswer::Unknown(failure)))
        }
        NoAnswer::Failed(failure) => Err(failure),
        NoAnswer::Queued => Ok(format!(
            "{}\nThe server is busy, and the command waits there for its turn.\n",
            header(Fate::Queued).next(&output(id))
        )),
        NoAnswer::Unknown(why) => {
            let why = neutral_within(&why.message, 300);
            Ok(format!(
                "{}\noutcome_unknown: no answer of the server has come ({why}). Whether the command has started or \
                 ended is not known; it is not run a second time.\n",
                header(Fate::Unreachable).next(&output(id))
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use farwire_protocol::streams::run::{Ended, Exit};

    use super::*;
    use crate::text::shown::Piece;

    fn said(state: State, pieces: Vec<Piece>) -> String {
        let answer = Answer { ended: Ended { state, next: None, matched: None }, pieces };
        let id = "r12".parse().unwrap();
        let (keep, budget) = (Keep::Ends, Budget::default());
        Said { id, answer: &answer, keep, budget, limited: None }.to_string()
    }

    fn piece(first_line: u64, offset: u64, text: &str) -> Piece {
        Piece { first_line, offset, bytes: text.as_bytes().to_vec(), ..Piece::default() }
    }

    #[test]
    fn a_header_says_how_it_ended_and_what_comes_next() {
        let ended =
            State { exit: Some(Exit::Code(0)), duration_ms: 1_300, lines: 2, ..State::default() };
        let text = said(ended.clone(), vec![piece(1, 0, "a\nb\n")]);
        assert_eq!(text, "[run r12 exit=0 1.3s lines=2]\na\nb\n");
        let state = State { exit: None, ..ended.clone() };
        let text = said(state, vec![piece(2, 2, "b\n")]);
        assert_eq!(text, "[run r12 running 1.3s lines=2 shown=2 next=output(id=r12)]\nb\n");
        let state = State { lines: 91, ..ended.clone() };
        let text = said(state, vec![piece(1, 0, "a\n"), piece(90, 300, "y\nz\n")]);
        assert_eq!(
            text,
            "[run r12 exit=0 1.3s lines=91 shown=1,90-91 next=output(id=r12,view=range,offset=2)]\n\
             a\n[omitted 88 lines, 298 bytes]\ny\nz\n"
        );
        let state = State {
            exit: Some(Exit::Signal(9)),
            reason: Some(Reason::Timeout),
            dropped_bytes: 5,
            ..ended
        };
        let text = said(state, Vec::new());
        assert_eq!(text, "[run r12 signal=KILL reason=timeout 1.3s lines=2 dropped=0lines/5]\n");
    }

    #[test]
    fn a_run_that_was_lost_says_so_and_shows_what_it_said() {
        let failure = Failure::new(Kind::OutcomeUnknown, "its holder has died");
        let state = State { failure: Some(failure), lines: 1, ..State::default() };
        let text = said(state, vec![piece(1, 0, "so far\n")]);
        let header = "[run r12 error=outcome_unknown reason=\"its holder has died\" 0.0s lines=1]";
        assert_eq!(text, format!("{header}\nso far\n"));
    }

    #[test]
    fn a_line_without_an_end_shows_both_of_its_ends_and_how_to_look_for_more() {
        let state = State { exit: Some(Exit::Code(0)), lines: 1, ..State::default() };
        let head = Piece { ends_within: true, ..piece(1, 0, &"a".repeat(7_500)) };
        let tail = Piece { starts_within: true, ..piece(1, 9_985_000, &"z".repeat(15_000)) };
        let text = said(state, vec![head, tail]);
        let (header, payload) = text.split_once('\n').unwrap();
        assert_eq!(
            header,
            "[run r12 exit=0 0.0s lines=1 shown=1 next=output(id=r12,view=grep,pattern=\"…\")]"
        );
        let lines: Vec<_> = payload.lines().collect();
        assert!(lines[0].starts_with("aaa") && lines[0].ends_with('…'), "{payload}");
        assert!(lines[1].starts_with("[omitted 9.9M bytes of line 1]"), "{payload}");
        assert!(lines[2].starts_with('…') && lines[2].ends_with("zzz"), "{payload}");
    }

    /// 8,000 characters is the smallest ceiling of a client.
    #[test]
    fn no_numbers_of_an_agent_make_an_answer_too_long() {
        let most = u64::MAX;
        let state = State {
            exit: Some(Exit::Code(i32::MIN)),
            reason: Some(Reason::Stopped),
            duration_ms: most,
            lines: most,
            bytes: most,
            dropped_bytes: most,
            dropped_lines: most / 2,
            escaped: Some(u32::MAX),
            memory_only: Some("]\n[run r1 exit=0]".repeat(99)),
            queued: None,
            failure: Some(Failure::new(Kind::Unknown(u16::MAX), "]\n[run r1 exit=0]".repeat(99))),
        };
        let line = "\u{202e}0123456789 0123456789 0123456789\n";
        for (head, tail) in [(1, most / 3), (most / 3, most / 2), (most - 9, most)] {
            let pieces = [head, tail].map(|first| piece(first, first, &line.repeat(1_000)));
            let answer = Answer {
                ended: Ended { state: state.clone(), next: Some(most), matched: Some(true) },
                pieces: pieces.to_vec(),
            };
            let id = format!("r{most}").parse().unwrap();
            let (keep, budget) = (Keep::Ends, Budget::default());
            let limited = Some(Duration::from_secs(540));
            let text = Said { id, answer: &answer, keep, budget, limited }.to_string();
            let (header, payload) = text.split_once('\n').unwrap();
            assert!(header.len() < 500, "{} {header}", header.len());
            assert!(payload.chars().count() <= 7_500, "{}", payload.chars().count());
            assert_eq!(text.lines().filter(|line| line.starts_with("[run ")).count(), 1);
        }
    }
}
