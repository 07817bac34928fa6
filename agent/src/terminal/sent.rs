//! Which exchanges were typed into a session: one that is asked for again is not typed again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::Because;

/// No exchange is forgotten before so many others have followed it, and this time has passed: a bridge asks again for
/// as long as it waits, which is an hour at most, and a little longer.
const FOLLOWERS: usize = 1_024;
const KEEP: Duration = Duration::from_secs(70 * 60);

/// So many are remembered. That is fifteen a second, of 100 bytes each.
const MOST: usize = 1 << 16;

/// An exchange that was typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sent {
    /// Where the log was before.
    pub(crate) offset: u64,
    /// How many commands had ended before.
    pub(crate) ended: u64,
    /// So many bytes were typed, and so many were not.
    pub(crate) typed: u64,
    pub(crate) left: u64,
    /// It was one line, and nothing after it: the end of a command is that of all that was typed.
    pub(crate) line: bool,
    /// Where the log was when it was answered, and why. What comes later is none of it, though it is asked for again.
    pub(crate) answered: Option<(u64, Because)>,
}

/// The exchanges of one session.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    known: HashMap<Nonce, Sent>,
    /// Those that are known, in the order in which they were typed, and when, since boot.
    order: VecDeque<(Duration, Nonce)>,
}

impl Exchanges {
    /// Something is typed now, under this id.
    ///
    /// # Errors
    ///
    /// `busy` when none of those that are known may be forgotten: then nothing may be typed.
    pub(super) fn begin(&mut self, id: Nonce, sent: Sent, now: Duration) -> Result<(), Failure> {
        let old = |(typed, _): &(Duration, Nonce)| now.saturating_sub(*typed) > KEEP;
        while self.order.len() >= FOLLOWERS && self.order.front().is_some_and(old) {
            let forgotten = self.order.pop_front();
            forgotten.and_then(|(_, id)| self.known.remove(&id));
        }
        if self.order.len() >= MOST {
            let text =
                format!("{MOST} lines were typed into this session in a little more than an hour");
            return Err(Failure::new(Kind::Busy, text)
                .with_hint("nothing was typed; wait, or open another session"));
        }
        if self.known.insert(id, sent).is_none() {
            self.order.push_back((now, id));
        }
        Ok(())
    }

    /// The exchange with this id, if it was typed.
    pub(super) fn get(&self, id: &Nonce) -> Option<Sent> {
        self.known.get(id).copied()
    }

    /// The same, to note what has come of it.
    pub(super) fn get_mut(&mut self, id: &Nonce) -> Option<&mut Sent> {
        self.known.get_mut(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(offset: u64) -> Sent {
        Sent { offset, ended: 0, typed: 1, left: 0, line: true, answered: None }
    }

    fn id(number: usize) -> Nonce {
        let mut id = Nonce::ZERO;
        id.0[..8].copy_from_slice(&number.to_le_bytes());
        id
    }

    #[test]
    fn none_is_forgotten_within_the_time_in_which_it_may_be_asked_for_again() {
        let mut all = Exchanges::default();
        for number in 0..MOST {
            all.begin(id(number), sent(number as u64), KEEP).unwrap();
        }
        assert_eq!(all.begin(id(MOST), sent(0), KEEP + KEEP).unwrap_err().kind, Kind::Busy);
        assert_eq!(all.get(&id(0)), Some(sent(0)));
        assert_eq!(all.get(&id(MOST)), None);
    }

    #[test]
    fn none_is_forgotten_before_many_others_have_followed() {
        let mut all = Exchanges::default();
        for number in 0..FOLLOWERS {
            all.begin(id(number), sent(0), Duration::ZERO).unwrap();
        }
        let later = KEEP * 100;
        assert!(all.get(&id(0)).is_some());
        all.begin(id(FOLLOWERS), sent(0), later).unwrap();
        assert!(all.get(&id(0)).is_none() && all.get(&id(1)).is_some());
        assert_eq!((all.order.len(), all.known.len()), (FOLLOWERS, FOLLOWERS));
    }
}
