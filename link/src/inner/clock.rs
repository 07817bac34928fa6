//! Link time: milliseconds on a clock that nobody can set and that includes suspend.
//!
//! The wall clock decides one thing: if it was stepped since a link was established, the link is
//! over. A machine that was restored from a snapshot would otherwise use the link's keys a second
//! time. Slewing is not a step: the kernel slews both clocks alike.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long a stream may be acted on after its header was written, in milliseconds of link time.
pub const LIFETIME_MS: u64 = 30_000;

/// How far ahead `not_after` of a header may lie, in milliseconds of link time.
pub const AHEAD_MS: u64 = 60_000;

/// A step of the wall clock by more than this ends the links.
pub const STEP: Duration = Duration::from_secs(10);

/// The two clocks are read again if more than this passed between the readings.
const TOGETHER: Duration = Duration::from_millis(100);

/// The maximum number of attempts to read both clocks close together.
const READINGS: usize = 8;

/// The time since boot, including suspend.
pub fn boottime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

/// The wall clock time of the boot, in nanoseconds since 1970: constant until the wall clock is
/// stepped.
fn wall_at_boot() -> i128 {
    let mut boot = boottime();
    let mut wall = 0;
    for _ in 0..READINGS {
        let time = clock_gettime(ClockId::Realtime);
        wall = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
        let after = boottime();
        let together = after.saturating_sub(boot) < TOGETHER;
        boot = after;
        if together {
            break;
        }
    }
    wall - i128::try_from(boot.as_nanos()).unwrap_or(i128::MAX) + test_step()
}

/// How far a test has stepped the wall clock.
#[cfg(not(test))]
const fn test_step() -> i128 {
    0
}

#[cfg(test)]
thread_local! {
    static TEST_STEP: core::cell::Cell<i128> = const { core::cell::Cell::new(0) };
}

#[cfg(test)]
fn test_step() -> i128 {
    TEST_STEP.get()
}

/// Steps the wall clock of this thread.
#[cfg(test)]
pub(super) fn step_wall_clock(seconds: i128) {
    TEST_STEP.set(TEST_STEP.get() + seconds * 1_000_000_000);
}

/// Whether the wall clock was stepped between two readings of [`wall_at_boot`].
fn stepped(before: i128, after: i128) -> bool {
    after.abs_diff(before) > STEP.as_nanos()
}

/// The clock of one link.
#[derive(Clone, Copy, Debug)]
pub struct LinkClock {
    start: Duration,
    wall_at_boot: i128,
}

impl LinkClock {
    /// Starts the clock now: at the agent when it sends message 2, at the bridge when it has
    /// received it, so that a relay which delays message 2 only shortens the bridge's deadlines.
    pub fn start() -> Self {
        Self { start: boottime(), wall_at_boot: wall_at_boot() }
    }

    /// Whether the wall clock was stepped by more than [`STEP`] since the link was established.
    pub fn wall_stepped(&self) -> bool {
        stepped(self.wall_at_boot, wall_at_boot())
    }

    /// The age of the link.
    pub fn elapsed(&self) -> Duration {
        boottime().saturating_sub(self.start)
    }

    /// The age of the link in milliseconds, the unit of headers.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The `not_after` for a header that is written now.
    pub fn deadline_ms(&self) -> u64 {
        self.now_ms().saturating_add(LIFETIME_MS)
    }

    /// Whether a stream with this `not_after` may still be acted on, and is not too far ahead.
    pub fn admits(&self, not_after: u64) -> bool {
        admits(self.now_ms(), not_after)
    }
}

fn admits(now: u64, not_after: u64) -> bool {
    now <= not_after && not_after <= now.saturating_add(AHEAD_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_step_of_more_than_ten_seconds_counts_in_either_direction() {
        let second = 1_000_000_000;
        let before = 1_700_000_000 * second;
        for (by, counts) in [
            (0, false),
            (10 * second, false),
            (10 * second + 1, true),
            (-10 * second, false),
            (-10 * second - 1, true),
            (400 * 86_400 * second, true),
        ] {
            assert_eq!(stepped(before, before + by), counts, "{by}");
        }
        assert!(stepped(i128::MIN, i128::MAX));
    }

    #[test]
    fn a_stepped_wall_clock_is_noticed_and_one_that_only_goes_on_is_not() {
        let clock = LinkClock::start();
        assert!(!clock.wall_stepped());
        step_wall_clock(-9);
        assert!(!clock.wall_stepped());
        step_wall_clock(-2);
        assert!(clock.wall_stepped(), "small steps add up: they are measured against link time");
        assert!(!LinkClock::start().wall_stepped(), "a new link begins with the clock as it is");
    }

    #[test]
    fn a_header_is_admitted_up_to_its_own_time_and_no_further_ahead_than_a_minute() {
        let now = 100_000;
        for (not_after, admitted) in [
            (0, false),
            (now - 1, false),
            (now, true),
            (now + LIFETIME_MS, true),
            (now + AHEAD_MS, true),
            (now + AHEAD_MS + 1, false),
            (u64::MAX, false),
        ] {
            assert_eq!(admits(now, not_after), admitted, "{not_after}");
        }
        assert!(admits(u64::MAX, u64::MAX));
    }
}
