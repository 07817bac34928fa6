//! The numbered history of a session: lines of output and events, in one order.
//!
//! A line stands where it begins in the log, and an event where the log ended when it happened. So
//! a number that was given once is never given to anything else: what comes later comes after.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::View;
use farwire_protocol::streams::session::{Caller, Event};

use crate::client::Client;
use crate::sessions::control::history;
use crate::sessions::find::KnownSession;
use crate::text::shown::Piece;
use crate::verbs::output::OutputPart;

/// Raw bytes of the log that are read for one answer.
const RAW: u32 = 128 << 10;

/// How long an agent may take to read a part of a log.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads a part of the history.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// The number of its first item, from 1; by default the latest items are read.
    pub first: Option<u64>,
    /// How many items it has at most.
    pub max: u64,
}

/// A part of the history.
#[derive(Clone, Debug)]
pub struct HistoryAnswer {
    /// The number that was asked for, or that of the first of the latest items.
    pub first: u64,
    /// How many items there are in all.
    pub total: u64,
    /// The items.
    pub items: Vec<HistoryItem>,
}

/// A line of the history.
#[derive(Clone, Debug)]
pub struct HistoryItem {
    /// Its number.
    pub number: u64,
    /// What it is.
    pub entry: HistoryEntry,
}

/// What stands in a line of the history.
#[derive(Clone, Debug)]
pub enum HistoryEntry {
    /// A line of output, as it came.
    Output(Vec<u8>),
    /// Something that happened, or was typed.
    Event(Box<Event>),
}

impl History {
    /// Reads the events, and as much of the log as is asked for.
    ///
    /// # Errors
    ///
    /// What the server says, or why it does not answer.
    pub async fn carry_out(
        &self,
        client: &Client,
        session: &KnownSession,
    ) -> Result<HistoryAnswer, Failure> {
        let handle = &session.handle;
        let events = history(client, &handle.server, handle.job, &Caller::default()).await?;
        let total = session.job.state.lines + events.len() as u64;
        let latest = || (total + 1).saturating_sub(self.max);
        let first = self.first.unwrap_or_else(latest).max(1);
        let log = HistorySource { client, session, events };
        let items = log.items(first, self.max).await?;
        Ok(HistoryAnswer { first, total, items })
    }
}

/// The two things that a history is made of.
struct HistorySource<'a> {
    client: &'a Client,
    session: &'a KnownSession,
    events: Vec<Event>,
}

impl HistorySource<'_> {
    /// At most `max` items from this number on.
    async fn items(&self, first: u64, max: u64) -> Result<Vec<HistoryItem>, Failure> {
        let lines = self.session.job.state.lines;
        let begin = self.first_line(first).await?;
        let piece = match begin <= lines {
            true => self.piece(begin, u32::try_from(max).unwrap_or(u32::MAX), RAW).await?,
            false => Piece { offset: u64::MAX, first_line: begin, ..Piece::default() },
        };
        let mut items = Merge { piece: &piece, events: &self.events, lines }.from(first);
        items.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        Ok(items)
    }

    /// The first line of output whose number in the history is not before this one.
    async fn first_line(&self, first: u64) -> Result<u64, Failure> {
        let state = &self.session.job.state;
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
        let part = OutputPart { view, budget, patience: PATIENCE };
        let answer = part.carry_out(self.client, &self.session.handle).await?;
        answer.pieces.into_iter().next().ok_or_else(|| {
            Failure::new(Kind::ProtocolViolation, "a part of a log that is not there")
        })
    }
}

/// How many events stand before a line that begins at this offset.
fn before(events: &[Event], start: u64) -> u64 {
    events.partition_point(|event| event.offset <= start) as u64
}

/// A part of the log, and the events between its lines.
struct Merge<'a> {
    piece: &'a Piece,
    events: &'a [Event],
    /// How many lines the whole log has.
    lines: u64,
}

impl Merge<'_> {
    /// The items from a number on, as far as the part goes.
    fn from(&self, first: u64) -> Vec<HistoryItem> {
        let Self { piece, events, lines } = *self;
        let mut items: Vec<HistoryItem> = Vec::new();
        let mut number = piece.first_line;
        let mut start = piece.offset;
        // The events before its first line, as far as they are asked for: they follow the line
        // before it.
        let upto = before(events, start);
        let mut next = first.saturating_sub(number.saturating_sub(1)).saturating_sub(1).min(upto);
        let mut push_events = |items: &mut Vec<HistoryItem>, upto: u64, number: u64| {
            while next < upto {
                let Some(event) = usize::try_from(next).ok().and_then(|at| events.get(at)) else {
                    return;
                };
                let entry = HistoryEntry::Event(Box::new(event.clone()));
                items.push(HistoryItem { number: next + number, entry });
                next += 1;
            }
        };
        let parts: Vec<&[u8]> = piece.bytes.split_inclusive(|&byte| byte == b'\n').collect();
        let count = parts.len();
        for (at, line) in parts.into_iter().enumerate() {
            push_events(&mut items, before(events, start), number);
            if at + 1 == count && piece.ends_within && !line.ends_with(b"\n") && count > 1 {
                // The rest of it did not fit: it is shown as the first the next time.
                return items;
            }
            let entry = HistoryEntry::Output(line.to_vec());
            items.push(HistoryItem { number: number + before(events, start), entry });
            start += line.len() as u64;
            number += 1;
        }
        if number > lines {
            push_events(&mut items, events.len() as u64, number);
        }
        items
    }
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
        let items = Merge { piece: &piece, events, lines }.from(from);
        let shown = |item: HistoryItem| match item.entry {
            HistoryEntry::Output(line) => {
                (item.number, format!("out {}", String::from_utf8(line).unwrap().trim_end()))
            }
            HistoryEntry::Event(event) => (item.number, format!("-- {}", event.number)),
        };
        items.into_iter().map(shown).collect()
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
