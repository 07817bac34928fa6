//! Link time: milliseconds on a clock that nobody sets and that counts suspend.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long a stream may be acted on after its header was written, in milliseconds of link time.
pub const LIFETIME_MS: u64 = 30_000;

/// A header from further ahead than this is refused, in milliseconds of link time.
pub const AHEAD_MS: u64 = 60_000;

/// Time since the system started, suspend included.
pub fn boottime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0))
}

/// The clock of one link.
#[derive(Clone, Copy, Debug)]
pub struct LinkClock {
    start: Duration,
}

impl LinkClock {
    /// Starts now: at the agent when it sends message 2, at the bridge when it has received it, so
    /// that a relay which holds message 2 back only shortens the bridge's time.
    pub fn start() -> Self {
        Self { start: boottime() }
    }

    /// How long the link has been up.
    pub fn elapsed(&self) -> Duration {
        boottime().saturating_sub(self.start)
    }

    /// The same in the unit of headers.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The `not_after` of a header that is written now.
    pub fn deadline_ms(&self) -> u64 {
        self.now_ms().saturating_add(LIFETIME_MS)
    }

    /// Whether a stream with this `not_after` may still be acted on, and is not from the future.
    pub fn admits(&self, not_after: u64) -> bool {
        let now = self.now_ms();
        now <= not_after && not_after <= now.saturating_add(AHEAD_MS)
    }
}
