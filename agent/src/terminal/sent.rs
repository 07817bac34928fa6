//! The exchanges that were typed into a session, so that none is typed twice.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::streams::session::Because;

/// An exchange is forgotten only after this many others have followed it, and after this time: a
/// bridge may repeat a request for as long as it waits, which is at most an hour, and a little
/// longer.
const FOLLOWERS: usize = 1_024;
const KEEP: Duration = Duration::from_secs(70 * 60);

/// At most this many are remembered, of some 150 bytes each. The device that has typed most of them
/// loses its oldest.
const MOST: usize = 1 << 14;

/// An exchange that was typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sent {
    /// The end of the log before it.
    pub(crate) offset: u64,
    /// How many commands had ended before it.
    pub(crate) ended: u64,
    /// The number of the command to which it was typed: its end may have nothing to do with it.
    pub(crate) taken_by: Option<u64>,
    /// How many bytes were typed, and how many were not.
    pub(crate) typed: u64,
    pub(crate) left: u64,
    /// It is still being typed.
    pub(crate) typing: bool,
    /// It was a single line, so that the end of a command is the end of all that was typed.
    pub(crate) line: bool,
    /// The end of the log when somebody else typed before it was answered: what begins later is
    /// theirs.
    pub(crate) until: Option<u64>,
    /// The end of the log when it was answered, and why. A repeated request gets nothing after
    /// that.
    pub(crate) answered: Option<(u64, Because)>,
}

impl Sent {
    /// Before anything is typed: the end of the log, and how many commands have ended.
    pub(crate) const fn at(offset: u64, ended: u64) -> Self {
        let (typed, left, typing, line) = (0, 0, false, false);
        let (taken_by, until, answered) = (None, None, None);
        Self { offset, ended, taken_by, typed, left, typing, line, until, answered }
    }
}

/// An exchange that is about to be typed.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewExchange {
    pub(super) id: Nonce,
    /// The device that types it.
    pub(super) by: Id,
    pub(super) sent: Sent,
    /// It is part of another exchange.
    pub(super) joins: bool,
}

/// The exchanges of one session.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    known: HashMap<Nonce, Sent>,
    /// Those that have not been answered, with nobody else typing since.
    open: Vec<Nonce>,
    /// Those that are known, in the order in which they were typed.
    order: VecDeque<Typed>,
    /// How many of them each device has.
    counts: HashMap<Id, usize>,
}

#[derive(Clone, Copy, Debug)]
struct Typed {
    /// Since boot.
    at: Duration,
    by: Id,
    id: Nonce,
}

impl Exchanges {
    /// Begins an exchange. If one was typed under this id already, returns that, and nothing is to
    /// be typed again.
    pub(super) fn begin(&mut self, new: NewExchange, now: Duration) -> Option<Sent> {
        let NewExchange { id, by, sent, joins } = new;
        if let Some(known) = self.known.get(&id) {
            return Some(*known);
        }
        if !joins {
            self.cut(sent.offset);
        }
        self.open.push(id);
        let old = |typed: &Typed| now.saturating_sub(typed.at) > KEEP;
        while self.order.len() >= FOLLOWERS && self.order.front().is_some_and(old) {
            self.forget(0);
        }
        if self.order.len() >= MOST {
            let busiest = self.counts.iter().max_by_key(|(_, count)| **count).map(|(by, _)| *by);
            let first = self.order.iter().position(|typed| Some(typed.by) == busiest);
            self.forget(first.unwrap_or(0));
        }
        self.known.insert(id, sent);
        self.order.push_back(Typed { at: now, by, id });
        *self.counts.entry(by).or_default() += 1;
        None
    }

    /// Records that somebody types something else when the log ends at `at`.
    pub(super) fn cut(&mut self, at: u64) {
        for id in self.open.drain(..) {
            if let Some(sent) = self.known.get_mut(&id) {
                sent.until = Some(at);
            }
        }
    }

    /// Records that it was answered with the log up to `at`. Only the first call counts.
    pub(super) fn answer(&mut self, id: &Nonce, at: u64, because: Because) {
        self.open.retain(|open| open != id);
        if let Some(sent) = self.known.get_mut(id) {
            sent.answered.get_or_insert((at, because));
        }
    }

    fn forget(&mut self, at: usize) {
        let Some(Typed { by, id, .. }) = self.order.remove(at) else { return };
        self.known.remove(&id);
        self.open.retain(|open| *open != id);
        match self.counts.get_mut(&by) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.counts.remove(&by)),
        }
    }

    /// The exchange with this id, if it was typed.
    pub(super) fn get(&self, id: &Nonce) -> Option<Sent> {
        self.known.get(id).copied()
    }

    /// The same, to update it.
    pub(super) fn get_mut(&mut self, id: &Nonce) -> Option<&mut Sent> {
        self.known.get_mut(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Id = Id([1; 32]);
    const THERE: Id = Id([2; 32]);

    fn sent(offset: u64) -> Sent {
        Sent { typed: 1, line: true, ..Sent::at(offset, 0) }
    }

    fn new(id: Nonce, by: Id, sent: Sent, joins: bool) -> NewExchange {
        NewExchange { id, by, sent, joins }
    }

    fn id(number: usize) -> Nonce {
        let mut id = Nonce::ZERO;
        id.0[..8].copy_from_slice(&number.to_le_bytes());
        id
    }

    #[test]
    fn what_is_known_is_not_begun_again() {
        let mut all = Exchanges::default();
        assert_eq!(all.begin(new(id(1), HERE, sent(5), false), KEEP), None);
        assert_eq!(all.begin(new(id(1), HERE, sent(9), false), KEEP), Some(sent(5)));
        assert_eq!((all.get(&id(1)), all.order.len()), (Some(sent(5)), 1));
    }

    #[test]
    fn a_device_that_types_very_much_loses_what_it_typed_itself() {
        let mut all = Exchanges::default();
        all.begin(new(id(0), THERE, sent(0), false), KEEP);
        for number in 1..=MOST {
            all.begin(new(id(number), HERE, sent(0), false), KEEP);
        }
        assert!(all.get(&id(0)).is_some() && all.get(&id(2)).is_some());
        assert!(all.get(&id(1)).is_none(), "the first of its own");
        assert_eq!((all.order.len(), all.known.len()), (MOST, MOST));
        assert_eq!(all.counts.values().sum::<usize>(), MOST);
    }

    #[test]
    fn none_is_forgotten_before_its_time_and_before_many_others_have_followed() {
        let mut all = Exchanges::default();
        for number in 0..FOLLOWERS {
            all.begin(new(id(number), HERE, sent(0), false), Duration::ZERO);
        }
        assert!(all.get(&id(0)).is_some());
        all.begin(new(id(FOLLOWERS), HERE, sent(0), false), KEEP);
        assert!(all.get(&id(0)).is_some());
        all.begin(new(id(FOLLOWERS + 1), HERE, sent(0), false), KEEP * 100);
        assert!(all.get(&id(1)).is_none() && all.get(&id(2)).is_some());
        assert_eq!((all.order.len(), all.known.len()), (FOLLOWERS, FOLLOWERS));
    }

    #[test]
    fn what_others_type_bounds_what_was_not_answered() {
        let mut all = Exchanges::default();
        let until = |all: &Exchanges, number| all.get(&id(number)).unwrap().until;
        all.begin(new(id(1), HERE, sent(5), false), KEEP);
        all.begin(new(id(2), HERE, sent(7), true), KEEP);
        assert_eq!((until(&all, 1), until(&all, 2)), (None, None), "keys for the first");
        all.answer(&id(2), 8, Because::Time);
        all.begin(new(id(3), THERE, sent(9), false), KEEP);
        all.cut(11);
        assert_eq!([until(&all, 1), until(&all, 2), until(&all, 3)], [Some(9), None, Some(11)]);
        assert_eq!(all.get(&id(2)).unwrap().answered, Some((8, Because::Time)));
    }
}
