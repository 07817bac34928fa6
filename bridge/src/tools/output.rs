//! `output`: more of a run, or what comes next.

use std::time::Duration;

use farwire_keystore::{Class, ShortId};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Delivery, Digest, Read, Request, Take, View};
use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::client::{Client, Server};
use crate::runs::answer::{Answer, NoAnswer, ask};
use crate::runs::find;
use crate::text::header::Key;
use crate::text::shown::matches::Matches;
use crate::text::shown::{Budget, Keep};
use crate::tools::run::{SLACK, Said, digest, header, output, tell, unanswered};
use crate::tools::{Caller, Desk, Effect, Tool, budget};
use crate::tools::{picture, session};

/// Raw bytes for one character that is shown, at most: colours and progress bars clean down.
const RAW: usize = 8;

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

/// What is looked at.
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
    // What a session's terminal shows.
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

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let (id, server, job) = find(client, &self.id)?;
        let session = id.class == Class::Session;
        match self.view.unwrap_or(Views::New) {
            Views::Screen if session => {
                session::look(client, (id, &server, job), budget(self.max_output)).await
            }
            Views::Png if session => picture::draw(desk, caller, (id, &server, job)).await,
            Views::Screen | Views::Png => {
                Err(Failure::new(Kind::InvalidArgument, "output: a run has no screen")
                    .with_hint("use view=tail"))
            }
            Views::New if session => {
                let (wait, _) = desk.wait(self.wait)?;
                let (target, budget) = ((id, &server, job), budget(self.max_output));
                let (text, shown) =
                    session::next(client, target, (desk.cursor(job), wait, self.until), budget)
                        .await?;
                desk.shown(job, shown);
                Ok(text)
            }
            Views::New => self.new_output(desk, caller, (id, &server, job)).await,
            _ => self.look(client, (id, &server, job)).await,
        }
    }
}

impl Output {
    async fn new_output(
        &self,
        desk: &Desk,
        caller: &Caller,
        (id, server, job): (ShortId, &Server, Nonce),
    ) -> Result<String, Failure> {
        let client = desk.client().await?;
        let (wait, clamped) = desk.wait(self.wait)?;
        let budget = budget(self.max_output);
        let digest = Digest {
            from: Some(desk.cursor(job)),
            until: self.until.clone(),
            ..digest(wait, budget, caller.progress.is_some())
        };
        let request = Request::Take(Take { job, delivery: Delivery::Digest(digest) });
        let begun = Instant::now();
        let asked = ask(client, server, &request, wait + SLACK, |news| tell(caller, &news));
        let answer = tokio::select! {
            answer = asked => answer,
            // Only the waiting is cancelled: the run goes on.
            () = caller.cancelled.cancelled() => {
                return Err(Failure::new(Kind::Cancelled, "the wait was cancelled; the run goes on"));
            }
        };
        match answer {
            Ok(answer) => {
                desk.shown(job, answer.ended.state.bytes);
                let limited = clamped.then_some(desk.settings.max_wait);
                Ok(Said { id, answer: &answer, keep: Keep::Ends, budget, limited }.to_string())
            }
            Err(no) => unanswered(id, no, begun.elapsed()),
        }
    }

    async fn look(
        self,
        client: &Client,
        (id, server, job): (ShortId, &Server, Nonce),
    ) -> Result<String, Failure> {
        let lines = self.lines.unwrap_or(80).clamp(1, 2000);
        let first = self.offset.unwrap_or(1);
        let (view, keep) = match self.view.unwrap_or(Views::Tail) {
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
        };
        let budget = budget(self.max_output);
        let raw = u32::try_from(budget.characters() * RAW).unwrap_or(u32::MAX);
        let request = Request::Read(Read { job, view, budget: raw });
        let answer = ask(client, server, &request, Duration::from_secs(20), |_| ()).await;
        let answer = answer.map_err(NoAnswer::failure)?;
        Ok(match &self.pattern {
            Some(pattern) if self.view == Some(Views::Grep) => {
                found(id, &answer, (pattern, self.context.unwrap_or(0)), budget)
            }
            _ => Said { id, answer: &answer, keep, budget, limited: None }.to_string(),
        })
    }
}

/// Matching lines, each with its number.
fn found(id: ShortId, answer: &Answer, (pattern, context): (&str, u32), budget: Budget) -> String {
    // The agent has read it as one before.
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
        let answer = Answer { ended: Ended { state, next: Some(901), matched: None }, pieces };
        let id = "r7".parse().unwrap();
        let text = found(id, &answer, ("^x+,", 0), Budget::new(250));
        let line = "x".repeat(99);
        assert_eq!(
            text,
            format!(
                "[run r7 exit=0 0.0s lines=900 matches=2 \
                 next=output(id=r7,view=grep,pattern=\"^x+,\",offset=300)]\n100: {line}\n200: {line}\n"
            )
        );
        let text = found(id, &answer, ("x", 0), Budget::default());
        assert!(text.contains(" matches=9 next=output(id=r7,view=grep,pattern=x,offset=901)]\n"));
    }
}
