//! `session_history`: lines of output, what was typed and by whom, and what else happened, in one
//! order.

use farwire_protocol::failure::Failure;
use schemars::JsonSchema;
use serde::Deserialize;

use super::events::{describe, is_input, time};
use crate::sessions::find::SessionName;
use crate::text::Word;
use crate::text::clean::clean;
use crate::text::header::{Call, Fate, Header, Key};
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::session::history::{History, HistoryAnswer, HistoryEntry, HistoryItem};

/// Characters of history that fit into an answer.
const ROOM: usize = 7_300;

/// The arguments of `session_history`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionHistory {
    /// Session id or server/name; default: the active or only one.
    pub session: Option<String>,
    /// First line, from 1 (default: the latest).
    pub line: Option<u64>,
    /// Lines (default 60).
    pub max: Option<u32>,
}

impl Tool for SessionHistory {
    const NAME: &'static str = "session_history";
    const TITLE: &'static str = "Session history";
    const ABOUT: &'static str = "Show the numbered history of a session: output lines, who typed what, attaching, leases, \
        resizes, in order. Numbers never change.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let found = SessionName::parse_optional(self.session.as_deref()).find(client, None).await?;
        let max = u64::from(self.max.unwrap_or(60).clamp(1, 1_000));
        let history = History { first: self.line, max };
        let HistoryAnswer { first, total, items } = history.carry_out(client, &found).await?;
        let (mut text, mut last) = (String::new(), None);
        for item in &items {
            let line = line(item);
            if text.len() + line.len() > ROOM && !text.is_empty() {
                break;
            }
            text.push_str(&line);
            last = Some(item.number);
        }
        let id = found.handle.id;
        let header = Header::ending(Word::Session, &id.to_string(), Fate::of(&found.job.state));
        let begin = items.first().map_or(first, |item| item.number);
        let shown = format!("{begin}-{} of {total}", last.unwrap_or(begin));
        let header = header.field(Key::Lines, shown);
        let line = match last {
            Some(last) if last < total => {
                let call = Call::new(Self::NAME).with("session", id);
                header.next(&call.with("line", last + 1))
            }
            _ => header.end(),
        };
        Ok(format!("{line}\n{text}"))
    }
}

/// A line of the history: its number, whether it is output, input or something else, and its text.
fn line(item: &HistoryItem) -> String {
    let (kind, text) = match &item.entry {
        HistoryEntry::Output(line) => {
            let line = clean(line, 1).0.into_iter().next();
            ("out", line.map(|line| line.text).unwrap_or_default())
        }
        HistoryEntry::Event(event) => {
            let kind = if is_input(event) { "in" } else { "--" };
            (kind, format!("{} {}", time(event), describe(event)))
        }
    };
    format!("{} {kind} {text}\n", item.number)
}
