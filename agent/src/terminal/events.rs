//! What happened to a session besides its output: events counted from 1, each with who caused it.
//!
//! What somebody types within a second is one event, which is reported only after that. The newest
//! events are kept in memory; `sessions/files.rs` writes them to disk, without delaying keys.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::streams::session::Size;
use farwire_protocol::streams::session::{self as wire, TypingRule};
use tokio::sync::watch;

use super::typing_rights::Transfer;
use crate::gate::principal::Principal;

/// At most this many events are kept.
const KEPT: usize = 10_000;

/// How much typed text is kept of all of them together.
const KEPT_TEXT: usize = 512 << 10;

/// How much typed text is kept of one event.
pub(crate) const TEXT: usize = 4 << 10;

/// What somebody types within this time is one event.
const OPEN: Duration = Duration::from_secs(1);

/// In how many of the last events to look for the same principal.
const SHARED: usize = 8;

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) number: u64,
    /// Since 1970, in milliseconds.
    pub(crate) at_ms: u64,
    /// The end of the log at that time.
    pub(crate) offset: u64,
    pub(crate) actor: Option<Arc<Principal>>,
    pub(crate) what: What,
}

/// What happened: see [`wire::What`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Opened,
    Typed { text: Option<Vec<u8>>, length: u64 },
    Resized(Size),
    Joined { read_only: bool },
    Left,
    Leased(Box<Transfer>),
    Rule(TypingRule),
    Signalled(i32),
    Refused(u64),
    Recovered,
    Changed,
    Closed,
    Ended,
}

impl Event {
    fn text(&self) -> usize {
        match &self.what {
            What::Typed { text: Some(text), .. } => text.len(),
            _ => 0,
        }
    }

    /// The wire form, as seen by `to`; `now_ms` is since 1970.
    pub(crate) fn show(&self, to: &Principal, now_ms: u64) -> wire::Event {
        let what = match &self.what {
            What::Opened => wire::What::Opened,
            What::Typed { text, length } => {
                wire::What::Typed { text: text.clone().map(Blob), length: *length }
            }
            What::Resized(size) => wire::What::Resized(*size),
            What::Joined { read_only } => wire::What::Joined(*read_only),
            What::Left => wire::What::Left,
            What::Leased(transfer) => {
                let mut shown = transfer.show(Some(to), transfer.at);
                shown.age_ms = now_ms.saturating_sub(self.at_ms);
                wire::What::Leased(shown)
            }
            What::Rule(policy) => wire::What::Rule(*policy),
            What::Signalled(signal) => wire::What::Signalled(*signal),
            What::Refused(length) => wire::What::Refused(*length),
            What::Recovered => wire::What::Recovered,
            What::Changed => wire::What::Changed,
            What::Closed => wire::What::Closed,
            What::Ended => wire::What::Ended,
        };
        wire::Event {
            number: self.number,
            at_ms: self.at_ms,
            offset: self.offset,
            actor: self.actor.as_ref().map(|actor| actor.show(Some(to))),
            what: Some(what),
        }
    }
}

/// The events of one session.
#[derive(Debug)]
pub(crate) struct Events {
    inner: Mutex<EventLog>,
    /// How many there are that may be reported.
    count: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct EventLog {
    kept: VecDeque<Event>,
    /// Total bytes of typed text in `kept`.
    text: usize,
    /// The last number given.
    last: u64,
    /// The open event: more keys are merged into it for up to a second.
    open: Option<(Event, Duration)>,
    /// All up to this number were written to disk.
    written: u64,
}

/// When an event happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct When {
    /// Since boot.
    pub(crate) now: Duration,
    /// Since 1970, in milliseconds.
    pub(crate) at_ms: u64,
    /// The end of the log.
    pub(crate) offset: u64,
}

impl Default for Events {
    fn default() -> Self {
        Self { inner: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, EventLog> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Takes over the events of an earlier agent, of which the last had this number.
    pub(crate) fn recall(&self, events: Vec<Event>, last: u64) {
        let mut inner = self.lock();
        for event in events {
            inner.last = inner.last.max(event.number);
            inner.keep(event);
        }
        inner.last = inner.last.max(last);
        inner.written = inner.last;
        self.count.send_replace(inner.last);
    }

    /// Records an event.
    pub(crate) fn note(&self, when: When, actor: Option<Principal>, what: What) {
        let mut inner = self.lock();
        inner.close();
        let event = inner.event(when, actor, what);
        inner.keep(event);
        self.tell(&inner);
    }

    /// Records what somebody has typed, and whether the terminal showed it.
    pub(crate) fn note_typed(&self, when: When, actor: &Principal, bytes: &[u8], shown: bool) {
        let mut inner = self.lock();
        if let Some((Event { actor: Some(who), what: What::Typed { text, length }, .. }, begun)) =
            &mut inner.open
            && **who == *actor
            && text.is_some() == shown
            && when.now < *begun + OPEN
            && *length < TEXT as u64
        {
            *length += bytes.len() as u64;
            if let Some(text) = text {
                let room = TEXT.saturating_sub(text.len()).min(bytes.len());
                text.extend_from_slice(bytes.get(..room).unwrap_or_default());
            }
            return;
        }
        let text = shown.then(|| bytes.get(..TEXT).unwrap_or(bytes).to_vec());
        inner.open(when, actor, What::Typed { text, length: bytes.len() as u64 });
        self.tell(&inner);
    }

    /// Records how many bytes of somebody's input were refused.
    pub(crate) fn note_refused(&self, when: When, actor: &Principal, bytes: usize) {
        let mut inner = self.lock();
        if let Some((Event { actor: Some(who), what: What::Refused(length), .. }, begun)) =
            &mut inner.open
            && **who == *actor
            && when.now < *begun + OPEN
        {
            *length += bytes as u64;
            return;
        }
        inner.open(when, actor, What::Refused(bytes as u64));
        self.tell(&inner);
    }

    fn tell(&self, inner: &EventLog) {
        let told = inner.kept.back().map_or(0, |event| event.number);
        self.count.send_if_modified(|count| told > std::mem::replace(count, told.max(*count)));
    }

    /// Closes an event that has been open for long enough.
    pub(crate) fn tick(&self, now: Duration) {
        let mut inner = self.lock();
        if inner.open.as_ref().is_some_and(|(_, begun)| now >= *begun + OPEN) {
            inner.close();
            self.tell(&inner);
        }
    }

    /// How many there are, and a way to wait for more.
    pub(crate) fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// The last number given.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// Calls `each` for every event from `number` on, until it returns false.
    pub(crate) fn for_each_from(&self, number: u64, mut each: impl FnMut(&Event) -> bool) {
        let mut inner = self.lock();
        inner.close();
        self.tell(&inner);
        let begin = inner.kept.partition_point(|event| event.number < number);
        for event in inner.kept.iter().skip(begin) {
            if !each(event) {
                return;
            }
        }
    }

    /// The events that have not been written to disk, which now count as written. An open event
    /// waits, unless this is the `end`.
    pub(crate) fn unwritten(&self, end: bool) -> Vec<Event> {
        let mut inner = self.lock();
        if end {
            inner.close();
        }
        let begin = inner.kept.partition_point(|event| event.number <= inner.written);
        let events: Vec<_> = inner.kept.iter().skip(begin).cloned().collect();
        inner.written = events.last().map_or(inner.written, |event| event.number);
        events
    }
}

impl EventLog {
    fn event(&mut self, when: When, actor: Option<Principal>, what: What) -> Event {
        self.last += 1;
        let actor = actor.map(|actor| self.shared(actor));
        Event { number: self.last, at_ms: when.at_ms, offset: when.offset, actor, what }
    }

    /// The principal, shared with one of the last events if possible.
    fn shared(&self, who: Principal) -> Arc<Principal> {
        let mut last = self.kept.iter().rev().take(SHARED).filter_map(|event| event.actor.as_ref());
        let same = last.find(|actor| ***actor == who && actor.name == who.name);
        same.cloned().unwrap_or_else(|| Arc::new(who))
    }

    fn open(&mut self, when: When, actor: &Principal, what: What) {
        self.close();
        let event = self.event(when, Some(actor.clone()), what);
        self.open = Some((event, when.now));
    }

    fn close(&mut self) {
        if let Some((event, _)) = self.open.take() {
            self.keep(event);
        }
    }

    fn keep(&mut self, event: Event) {
        self.text += event.text();
        self.kept.push_back(event);
        while self.kept.len() > KEPT || self.text > KEPT_TEXT {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.text -= oldest.text();
        }
    }
}

#[cfg(test)]
mod tests {
    use farwire_protocol::id::Id;
    use farwire_protocol::surface::Surface;

    use super::*;

    fn actor(client: &str) -> Principal {
        let client = Some(client.into());
        Principal { client, ..Principal::new(Id([1; 32]), Surface::AiLocal, "d") }
    }

    fn when(millis: u64) -> When {
        When { now: Duration::from_millis(millis), at_ms: millis, offset: 7 }
    }

    fn all(events: &Events) -> Vec<(u64, What)> {
        let mut all = Vec::new();
        events.for_each_from(1, |event| {
            all.push((event.number, event.what.clone()));
            true
        });
        all
    }

    fn typed(text: &str) -> What {
        What::Typed { text: Some(text.as_bytes().to_vec()), length: text.len() as u64 }
    }

    #[test]
    fn what_is_typed_in_one_go_is_one_event_and_secrets_have_no_text() {
        let events = Events::default();
        events.note(when(0), None, What::Opened);
        for (at, text) in [(0, "l"), (900, "s"), (999, " "), (1_000, "x")] {
            events.note_typed(when(at), &actor("a"), text.as_bytes(), true);
        }
        events.note_typed(when(1_001), &actor("b"), b"y", true);
        events.note_typed(when(1_002), &actor("b"), b"hunter2", false);
        events.note_refused(when(1_003), &actor("b"), 3);
        events.note_refused(when(1_004), &actor("b"), 4);
        let expected = [
            What::Opened,
            typed("ls "),
            typed("x"),
            typed("y"),
            What::Typed { text: None, length: 7 },
            What::Refused(7),
        ];
        let numbered: Vec<_> = (1..).zip(expected).collect();
        assert_eq!(all(&events), numbered);
    }

    #[test]
    fn it_is_told_when_it_can_become_no_more_and_written_once() {
        let events = Events::default();
        let count = events.count();
        events.note_typed(when(0), &actor("a"), b"x", true);
        events.tick(when(999).now);
        assert_eq!((*count.borrow(), events.unwritten(false).len()), (0, 0));
        events.tick(when(1_000).now);
        assert_eq!((*count.borrow(), events.unwritten(false).len()), (1, 1));
        events.note_typed(when(2_000), &actor("a"), b"x", true);
        assert_eq!((events.unwritten(false).len(), events.unwritten(true).len()), (0, 1));
        assert_eq!(events.unwritten(true), []);
    }

    #[test]
    fn memory_is_bounded_and_the_next_agent_counts_on() {
        let events = Events::default();
        for at in 0..20_000 {
            events.note(when(at), None, What::Closed);
        }
        let large = vec![b'x'; 100_000];
        for at in 0..200 {
            events.note_typed(when(at * 2_000), &actor("a"), &large, true);
        }
        let kept = all(&events);
        assert!(kept.len() <= KEPT && kept.last().unwrap().0 == 20_200);
        let text: usize = events.lock().text;
        assert!(text <= KEPT_TEXT, "{text}");
        let next = Events::default();
        next.recall(events.unwritten(true), 20_300);
        next.note(when(0), None, What::Recovered);
        assert_eq!(all(&next).last().unwrap(), &(20_301, What::Recovered));
        assert_eq!(next.unwritten(true).len(), 1, "what was read back is not written again");
    }
}
