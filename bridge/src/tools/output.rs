//! `output`: more of a run or a session, or what comes next.

use std::time::Duration;

use farwire_keystore::ShortId;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::View;
use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::handles::Handle;
use crate::runs::answer::RunReply;
use crate::sessions::control;
use crate::text::header::Key;
use crate::text::shown::matches::Matches;
use crate::text::shown::{Budget, Keep};
use crate::tools::answer::run::{LogExcerpt, no_answer};
use crate::tools::answer::session::{input_answer, screen};
use crate::tools::answer::{header, output};
use crate::tools::arguments::budget;
use crate::tools::caller::Caller;
use crate::tools::picture;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::output::{NewOutput, OutputPart};
use crate::verbs::run::{Excerpt, RunAnswer};
use crate::verbs::session::send::{SendInput, raw_bytes};

/// The most raw bytes per shown character: cleaning removes colours and progress bars.
const RAW: usize = 8;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The arguments of `output`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Run or session id, e.g. r12 or s3.
    pub id: String,
    /// Seconds (default 25; 0 = now).
    pub wait: Option<f64>,
    /// Regex: return on a matching line.
    pub until: Option<String>,
    /// Default: new.
    pub view: Option<Views>,
    /// First line, from 1.
    pub offset: Option<u64>,
    /// Lines or matches (default 80).
    pub lines: Option<u32>,
    /// Regex for grep.
    pub pattern: Option<String>,
    /// Lines around matches.
    pub context: Option<u32>,
    /// Characters (default 7500).
    pub max_output: Option<usize>,
}

/// The part to show.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "doc comments would go into the schema that models pay for")]
pub enum Views {
    // What is new since the last read.
    New,
    // The last lines.
    Tail,
    // The first lines.
    Head,
    // Lines from an offset on.
    Range,
    // Lines that match.
    Grep,
    // The screen of a session's terminal.
    Screen,
    // The same as a picture.
    Png,
}

impl Tool for Output {
    const NAME: &'static str = "output";
    const TITLE: &'static str = "Read or wait";
    const ABOUT: &'static str = "Read or wait for the output of a run or session. Default: what is new, waiting for \
        exit or for the until pattern. Other views re-read or grep any part; screen and png show a terminal.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let handle = Handle::find(client, &self.id)?;
        match self.view.unwrap_or(Views::New) {
            Views::Screen if handle.is_session() => {
                let answer = control::look(client, &handle.server, handle.job).await?;
                Ok(screen(handle.id, &answer, budget(self.max_output)))
            }
            Views::Png if handle.is_session() => picture::draw(seat, caller, &handle).await,
            Views::Screen | Views::Png => {
                Err(Failure::new(Kind::InvalidArgument, "output: a run has no screen")
                    .with_hint("use view=tail"))
            }
            Views::New if handle.is_session() => self.new_in_session(seat, caller, handle).await,
            Views::New => self.new_of_run(seat, caller, handle).await,
            _ => self.part(seat, &handle).await,
        }
    }
}

impl Output {
    async fn new_in_session(
        self,
        seat: &Seat,
        caller: &Caller,
        session: Handle,
    ) -> Result<String, Failure> {
        let (wait, _) = seat.wait(self.wait)?;
        let budget = budget(self.max_output);
        let waiting = SendInput {
            wait,
            until: self.until,
            bytes: raw_bytes(budget),
            cancelled: "the call was cancelled",
            ..SendInput::nothing(seat.cursor(session.job))
        };
        let answer = waiting.carry_out(seat.client().await?, &session, caller).await?;
        seat.set_cursor(session.job, answer.ended.offset);
        Ok(input_answer(session.id, &answer, budget))
    }

    async fn new_of_run(
        self,
        seat: &Seat,
        caller: &Caller,
        run: Handle,
    ) -> Result<String, Failure> {
        let (wait, clamped) = seat.wait(self.wait)?;
        let budget = budget(self.max_output);
        let excerpt = Excerpt { wait, budget, progress: caller.progress.is_some() };
        let new = NewOutput { from: seat.cursor(run.job), until: self.until, excerpt };
        let RunAnswer { handle: Handle { id, job, .. }, answer, waited } =
            new.carry_out(seat.client().await?, run, caller).await?;
        match answer {
            Ok(answer) => {
                seat.set_cursor(job, answer.ended.state.bytes);
                let limited = clamped.then_some(seat.settings.max_wait);
                let shown = LogExcerpt { id, answer: &answer, keep: Keep::Ends, budget, limited };
                Ok(shown.to_string())
            }
            Err(no) => no_answer(id, no, waited),
        }
    }

    async fn part(self, seat: &Seat, of: &Handle) -> Result<String, Failure> {
        let (view, keep) = self.view()?;
        let budget = budget(self.max_output);
        let raw = u32::try_from(budget.characters() * RAW).unwrap_or(u32::MAX);
        let part = OutputPart { view, budget: raw, patience: PATIENCE };
        let answer = part.carry_out(seat.client().await?, of).await?;
        Ok(match &self.pattern {
            Some(pattern) if self.view == Some(Views::Grep) => {
                let grep = Grep { pattern, context: self.context.unwrap_or(0) };
                matches(of.id, &answer, grep, budget)
            }
            _ => {
                let shown = LogExcerpt { id: of.id, answer: &answer, keep, budget, limited: None };
                shown.to_string()
            }
        })
    }

    /// The part of the log to ask for, and which of its ends is shown if it does not fit.
    fn view(&self) -> Result<(View, Keep), Failure> {
        let lines = self.lines.unwrap_or(80).clamp(1, 2000);
        let first = self.offset.unwrap_or(1);
        Ok(match self.view.unwrap_or(Views::Tail) {
            Views::Head => (View::Head(lines), Keep::Start),
            Views::Tail | Views::New | Views::Screen | Views::Png => (View::Tail(lines), Keep::End),
            Views::Range => (View::Range { first, count: lines }, Keep::Start),
            Views::Grep => {
                let pattern = self.pattern.clone().ok_or_else(|| {
                    Failure::new(Kind::InvalidArgument, "output: view=grep needs a pattern")
                })?;
                let context = self.context.filter(|context| *context > 0);
                (View::Grep { pattern, first, limit: lines, context }, Keep::Start)
            }
        })
    }
}

/// What was looked for.
#[derive(Clone, Copy)]
struct Grep<'a> {
    pattern: &'a str,
    /// Lines around each match.
    context: u32,
}

/// Matching lines, each with its number.
fn matches(id: ShortId, answer: &RunReply, grep: Grep<'_>, budget: Budget) -> String {
    let Grep { pattern, context } = grep;
    // The agent has already parsed it.
    let shown = match Regex::new(pattern) {
        Ok(pattern) if context > 0 => Matches::around(&answer.pieces, &pattern, budget),
        _ => Matches::fit(&answer.pieces, budget),
    };
    let state = &answer.ended.state;
    let header = header(id, state).field(Key::Matches, shown.count).hidden(shown.removed.hidden());
    let line = match shown.next.or(answer.ended.next) {
        Some(line) => {
            let call = output(id).with("view", "grep").with("pattern", pattern);
            let call = call.with_some("context", Some(context).filter(|lines| *lines > 0));
            header.next(&call.with("offset", line))
        }
        None if state.is_open() => header.next(&output(id)),
        None => header.end(),
    };
    format!("{line}\n{}", shown.text)
}

#[cfg(test)]
mod tests {
    use farwire_protocol::streams::run::{Ended, Exit, State};

    use super::*;
    use crate::text::shown::Piece;

    #[test]
    fn matches_that_do_not_fit_are_had_with_the_exact_next_call() {
        let exit = Some(Exit::Code(0));
        let state = State { exit, lines: 900, ..State::default() };
        let piece = |first_line| Piece { first_line, bytes: vec![b'x'; 99], ..Piece::default() };
        let pieces: Vec<_> = (1..=9).map(|at| piece(at * 100)).collect();
        let answer = RunReply { ended: Ended { state, next: Some(901), matched: None }, pieces };
        let id = "r7".parse().unwrap();
        let grep = |pattern| Grep { pattern, context: 0 };
        let text = matches(id, &answer, grep("^x+,"), Budget::new(250));
        let line = "x".repeat(99);
        assert_eq!(
            text,
            format!(
                "[run r7 exit=0 0.0s lines=900 matches=2 \
                 next=output(id=r7,view=grep,pattern=\"^x+,\",offset=300)]\n100: {line}\n200: {line}\n"
            )
        );
        let text = matches(id, &answer, grep("x"), Budget::default());
        assert!(text.contains(" matches=9 next=output(id=r7,view=grep,pattern=x,offset=901)]\n"));
    }
}
