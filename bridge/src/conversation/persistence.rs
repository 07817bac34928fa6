//! When work that takes many streams, such as a transfer, goes on after one of them broke: for as
//! long as it makes progress.

use std::time::Duration;

use farwire_protocol::failure::Kind;

use super::backoff::backoff;
use super::may_come_back;

/// How often in a row work that makes no progress is taken up again.
const ATTEMPTS: u32 = 8;

/// How far the work has come, and how often in a row it has broken off since.
#[derive(Debug)]
pub(crate) struct Persistence {
    reached: u64,
    fruitless: u32,
    /// A stream was there.
    begun: bool,
}

impl Persistence {
    /// Work that stands at this count now.
    pub(crate) const fn new(reached: u64) -> Self {
        Self { reached, fruitless: 0, begun: false }
    }

    /// A stream was there: the server is not merely out of reach.
    pub(crate) fn mark_begun(&mut self) {
        self.begun = true;
    }

    /// Returns how long to wait before the work is taken up again, or nothing if that would not
    /// help. `now` is how far it has come, in whatever it counts.
    pub(crate) fn after(&mut self, fault: Kind, now: u64) -> Option<Duration> {
        self.fruitless = if now > self.reached { 1 } else { self.fruitless + 1 };
        self.reached = self.reached.max(now);
        let hopeless = !self.begun && now == 0;
        let goes_on = !hopeless && may_come_back(fault) && self.fruitless <= ATTEMPTS;
        goes_on.then(|| backoff(self.fruitless))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_on_as_long_as_it_makes_progress() {
        let mut work = Persistence::new(0);
        work.mark_begun();
        for round in 0..3 {
            assert!(work.after(Kind::LinkLost, 10 + round).is_some(), "it has come further");
            for _ in 1..ATTEMPTS {
                assert!(work.after(Kind::LinkLost, 10 + round).is_some());
            }
        }
        assert_eq!(work.after(Kind::LinkLost, 12), None, "it has not, for too often");
    }

    #[test]
    fn what_the_agent_refuses_and_what_never_began_is_over() {
        let mut work = Persistence::new(0);
        assert_eq!(work.after(Kind::ServerOffline, 0), None, "there never was a stream");
        work.mark_begun();
        assert!(work.after(Kind::ServerOffline, 0).is_some());
        assert_eq!(work.after(Kind::NoSuchFile, 5), None);
        let mut resumed = Persistence::new(7);
        assert!(resumed.after(Kind::LinkLost, 7).is_some(), "a part of it was there before");
    }
}
