//! `output`: more of a run, or what comes next.

use std::time::Duration;

use farwire_keystore::ShortId;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Delivery, Digest, Read, Request, Take, View};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::client::{Client, Server};
use crate::render::digest::fit;
use crate::render::header::Header;
use crate::runs::answer::{Answer, NoAnswer, ask};
use crate::runs::find;
use crate::tools::run::{SLACK, digest, present, tell, unreachable, with_shown};
use crate::tools::{Caller, Desk, Effect, Tool, budget};

/// Raw bytes for one character that is shown, at most: colours and progress bars clean down.
const RAW: usize = 8;

/// The arguments of `output`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Run id, e.g. r12.
    pub id: String,
    /// Seconds (default 25; 0 = now).
    pub wait: Option<f64>,
    /// Regex: return when a new line matches.
    pub until: Option<String>,
    /// Default: new.
    pub view: Option<Views>,
    /// First line, from 1.
    pub offset: Option<u64>,
    /// Lines or matches (default 80).
    pub lines: Option<u32>,
    /// Regex for grep.
    pub pattern: Option<String>,
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
}

impl Tool for Output {
    const NAME: &'static str = "output";
    const TITLE: &'static str = "Read or wait";
    const ABOUT: &'static str = "Wait for and read the output of a run. Default: what is new since your \
        last read, waiting for exit or for the until pattern. Also re-reads any part or greps it.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let (id, server, job) = find(client, &self.id)?;
        match self.view.unwrap_or(Views::New) {
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
                let clamped = clamped.then_some(desk.max_wait);
                Ok(present("run", id, &answer, budget, clamped))
            }
            Err(NoAnswer::Failed(failure)) => Err(failure),
            Err(NoAnswer::Unreachable(why)) => Ok(unreachable(id, &why, begun.elapsed())),
        }
    }

    async fn look(
        self,
        client: &Client,
        (id, server, job): (ShortId, &Server, Nonce),
    ) -> Result<String, Failure> {
        let lines = self.lines.unwrap_or(80).clamp(1, 2000);
        let first = self.offset.unwrap_or(1);
        let view = match self.view.unwrap_or(Views::Tail) {
            Views::Head => View::Head(lines),
            Views::Tail | Views::New => View::Tail(lines),
            Views::Range => View::Range { first, count: lines },
            Views::Grep => {
                let pattern = self.pattern.ok_or_else(|| {
                    Failure::new(Kind::InvalidArgument, "output: view=grep needs a pattern")
                })?;
                View::Grep { pattern, first, limit: lines }
            }
        };
        let grep = matches!(view, View::Grep { .. });
        let budget = budget(self.max_output);
        let raw = u32::try_from(budget * RAW).unwrap_or(u32::MAX);
        let request = Request::Read(Read { job, view, budget: raw });
        let answer = ask(client, server, &request, Duration::from_secs(20), |_| ()).await;
        let answer = answer.map_err(|error| match error {
            NoAnswer::Failed(failure) | NoAnswer::Unreachable(failure) => failure,
        })?;
        Ok(if grep {
            matches(id, &answer, budget)
        } else {
            present("run", id, &answer, budget, None)
        })
    }
}

/// Matching lines, each with its number.
fn matches(id: ShortId, answer: &Answer, budget: usize) -> String {
    let mut text = String::new();
    let mut hidden = 0;
    let mut next = answer.ended.next;
    let mut count = 0;
    for piece in &answer.pieces {
        let shown = fit(std::slice::from_ref(piece), piece.first_line, budget);
        let line = format!("{}: {}", piece.first_line, shown.text.trim_end_matches('\n'));
        if text.chars().count() + line.chars().count() > budget {
            next = Some(piece.first_line);
            break;
        }
        hidden += shown.hidden;
        count += 1;
        text.push_str(&line);
        text.push('\n');
    }
    let state = &answer.ended.state;
    let header = Header::new(&format!("run {id}")).state(state).word(&format!("matches={count}"));
    let shown = crate::render::digest::Shown { hidden, ..Default::default() };
    let header = match next {
        Some(line) => header.next(&format!("output(id={id},view=grep,pattern=…,offset={line})")),
        None => with_shown(header, id, state, &shown, &[]),
    };
    format!("{}\n{text}", header.end())
}
