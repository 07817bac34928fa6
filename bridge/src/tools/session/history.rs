//! `session_history`: lines of output, what was typed and by whom, and what else happened, in one order.
//!
//! A line stands where it begins in the log, and an event where the log ended when it happened. So a number
//! once given is never given to anything else: what comes later comes after.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{Read, Request, View};
use farwire_protocol::streams::session::{Caller as Hand, Event};
use schemars::JsonSchema;
use serde::Deserialize;

use super::events::{is_input, time, told};
use crate::client::Client;
use crate::runs::answer::{NoAnswer, ask};
use crate::sessions::control::history;
use crate::sessions::find::KnownSession;
use crate::sessions::find::SessionName;
use crate::text::Word;
use crate::text::clean::clean;
use crate::text::header::{Call, Fate, Header, Key};
use crate::text::shown::Piece;
use crate::tools::{Caller, Desk, Effect, Tool};

/// So many characters are shown.
const ROOM: usize = 7_300;

/// So many raw bytes are looked at for them.
const RAW: u32 = 128 << 10;

/// How long an agent may take to read a part of a log.
const PATIENCE: Duration = Duration::from_secs(20);

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
        resizes, in order. Numbers stay the same.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let found = SessionName::parse_optional(self.session.as_deref()).find(client, None).await?;
        let events =
            history(client, &found.handle.server, found.handle.job, &Hand::default()).await?;
        let log = Log { client, found: &found, events };
        let max = u64::from(self.max.unwrap_or(60).clamp(1, 1_000));
        let state = &found.job.state;
        let total = state.lines + log.events.len() as u64;
        let first = self.line.unwrap_or_else(|| (total + 1).saturating_sub(max)).max(1);
        let items = log.items(first, max).await?;
        let (mut text, mut last) = (String::new(), None);
        for item in &items {
            let line = item.to_string();
            if text.len() + line.len() > ROOM && !text.is_empty() {
                break;
            }
            text.push_str(&line);
            last = Some(item.number);
        }
        let header = Header::ending(Word::Session, &found.handle.id.to_string(), Fate::of(state));
        let begin = items.first().map_or(first, |item| item.number);
        let shown = format!("{begin}-{} of {total}", last.unwrap_or(begin));
        let header = header.field(Key::Lines, shown);
        let line = match last {
            Some(last) if last < total => {
                let call = Call::new(Self::NAME).with("session", found.handle.id);
                header.next(&call.with("line", last + 1))
            }
            _ => header.end(),
        };
        Ok(format!("{line}\n{text}"))
    }
}

/// A line of the history.
struct Item {
    number: u64,
    /// `out`, `in` or `--`.
    kind: &'static str,
    text: String,
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {} {}", self.number, self.kind, self.text)
    }
}

/// The two things that a history is made of.
struct Log<'a> {
    client: &'a Client,
    found: &'a KnownSession,
    events: Vec<Event>,
}

impl Log<'_> {
    /// At most `max` items from this number on.
    async fn items(&self, first: u64, max: u64) -> Result<Vec<Item>, Failure> {
        let lines = self.found.job.state.lines;
        let begin = self.first_line(first).await?;
        let piece = match begin <= lines {
            true => self.piece(begin, u32::try_from(max).unwrap_or(u32::MAX), RAW).await?,
            false => Piece { offset: u64::MAX, first_line: begin, ..Piece::default() },
        };
        Ok(merged(&piece, &self.events, lines, (first, max)))
    }

    /// The first line of output whose number in the history is not before this one.
    async fn first_line(&self, first: u64) -> Result<u64, Failure> {
        let state = &self.found.job.state;
        let mut low = first.saturating_sub(self.events.len() as u64).max(state.dropped_lines + 1);
        let mut high = first.min(state.lines + 1).max(low);
        while low < high {
            let middle = low + (high - low) / 2;
            let start = self.piece(middle, 1, 1).await?.offset;
            if middle + before(&self.events, start) < first {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    async fn piece(&self, first: u64, count: u32, budget: u32) -> Result<Piece, Failure> {
        let view = View::Range { first, count };
        let request = Request::Read(Read { job: self.found.handle.job, view, budget });
        let answer = ask(self.client, &self.found.handle.server, &request, PATIENCE, |_| ()).await;
        let answer = answer.map_err(NoAnswer::failure)?;
        answer.pieces.into_iter().next().ok_or_else(|| {
            Failure::new(Kind::ProtocolViolation, "a part of a log that is not there")
        })
    }
}

/// How many events stand before a line that begins at this offset.
fn before(events: &[Event], start: u64) -> u64 {
    events.partition_point(|event| event.offset <= start) as u64
}

/// Lines from a piece on with the events between them, each with its number.
fn merged(piece: &Piece, events: &[Event], lines: u64, (first, max): (u64, u64)) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut number = piece.first_line;
    let mut start = piece.offset;
    // Events before the first line that are asked for, too: they follow the line before it.
    let upto = before(events, start);
    let mut next = first.saturating_sub(number.saturating_sub(1)).saturating_sub(1).min(upto);
    let mut tell = |items: &mut Vec<Item>, upto: u64, number: u64| {
        while next < upto {
            let Some(event) = usize::try_from(next).ok().and_then(|at| events.get(at)) else {
                return;
            };
            let kind = if is_input(event) { "in " } else { "-- " };
            let text = format!("{} {}", time(event), told(event));
            items.push(Item { number: next + number, kind: kind.trim_end(), text });
            next += 1;
        }
    };
    let parts: Vec<&[u8]> = piece.bytes.split_inclusive(|&byte| byte == b'\n').collect();
    let count = parts.len();
    for (at, line) in parts.into_iter().enumerate() {
        tell(&mut items, before(events, start), number);
        if at + 1 == count && piece.ends_within && !line.ends_with(b"\n") && count > 1 {
            // The rest of it did not fit: it is shown as the first the next time.
            items.truncate(usize::try_from(max).unwrap_or(usize::MAX));
            return items;
        }
        let text = clean(line, 1).0.into_iter().next().map(|line| line.text).unwrap_or_default();
        items.push(Item { number: number + before(events, start), kind: "out", text });
        start += line.len() as u64;
        number += 1;
    }
    if number > lines {
        tell(&mut items, events.len() as u64, number);
    }
    items.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    items
}

#[cfg(test)]
mod tests {
    use farwire_protocol::streams::session::What;

    use super::*;

    fn event(number: u64, offset: u64) -> Event {
        Event { number, at_ms: 0, offset, actor: None, what: Some(What::Left) }
    }

    fn all(log: &[u8], events: &[Event], from: u64) -> Vec<(u64, String)> {
        let lines = log.split_inclusive(|&byte| byte == b'\n').count() as u64;
        // What the search for the first line comes to.
        let (mut start, mut first_line) = (0_u64, 1_u64);
        for line in log.split_inclusive(|&byte| byte == b'\n') {
            if first_line + before(events, start) >= from {
                break;
            }
            start += line.len() as u64;
            first_line += 1;
        }
        let bytes = log.get(usize::try_from(start).unwrap()..).unwrap().to_vec();
        let offset = if bytes.is_empty() { u64::MAX } else { start };
        let piece = Piece { first_line, offset, bytes, ..Piece::default() };
        let items = merged(&piece, events, lines, (from, 1_000));
        items
            .into_iter()
            .map(|item| (item.number, format!("{} {}", item.kind, item.text)))
            .collect()
    }

    #[test]
    fn numbers_are_those_of_the_whole_wherever_one_begins_to_read() {
        let log = b"one\ntwo\nthree\nfour";
        let events =
            [event(1, 0), event(2, 5), event(3, 8), event(4, 8), event(5, 18), event(6, 18)];
        let whole = all(log, &events, 1);
        let numbers: Vec<u64> = whole.iter().map(|item| item.0).collect();
        assert_eq!(numbers, (1..=10).collect::<Vec<_>>(), "{whole:?}");
        let kinds: Vec<&str> = whole.iter().map(|item| item.1.split(' ').next().unwrap()).collect();
        assert_eq!(kinds, ["--", "out", "out", "--", "--", "--", "out", "out", "--", "--"]);
        for from in 1..=10 {
            let part = all(log, &events, from);
            assert_eq!(part, whole[usize::try_from(from).unwrap() - 1..], "from {from}");
        }
    }

    #[test]
    fn what_comes_later_gets_later_numbers() {
        let early = [event(1, 0), event(2, 6)];
        let late = [event(1, 0), event(2, 6), event(3, 11), event(4, 14)];
        let first = all(b"prompt$ ls\n", &early, 1);
        let second = all(b"prompt$ ls\na\nb\n", &late, 1);
        assert_eq!(first, second[..first.len()]);
    }
}
