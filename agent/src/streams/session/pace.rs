//! How much a viewer is sent ahead of what it has shown: no more than it shows within a moment.
//!
//! Bytes in flight cannot be taken back. On a slow path everything that was queued would have to be
//! shown before the prompt that follows Ctrl-C. So the bridge reports how much it has shown, and a
//! viewer that has more to come than it can show soon gets the screen instead, once the bytes in
//! flight have arrived.
//!
//! Pure: the caller passes the time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The window at the beginning.
const FIRST: u64 = 64 << 10;

/// The smallest window, and the largest.
const LEAST: u64 = 16 << 10;
const MOST: u64 = 4 << 20;

/// The path counts as full when bytes take this much longer than the minimum.
const QUEUE: Duration = Duration::from_millis(30);

/// A viewer lags if it needs this much more than a round trip to catch up.
const LAG: Duration = Duration::from_millis(60);

/// A viewer lags if it has something to show, and shows nothing for this much longer than a round
/// trip.
const STALL: Duration = Duration::from_millis(500);

/// A rate is believed after it was measured for this long.
const BELIEVED: Duration = Duration::from_millis(50);

/// Less than this is no flood.
const LITTLE: u64 = 4 << 10;

/// The time of sending is recorded once per this many bytes, for at most this many steps.
const STEP: u64 = 4 << 10;
const MARKS: usize = 1_024;

/// What one viewer was sent and has shown, in bytes of this stream.
#[derive(Debug)]
pub(super) struct Pace {
    /// Whether this viewer reports what it has shown.
    told: bool,
    sent: u64,
    seen: u64,
    window: u64,
    /// Up to where something had been sent, and when.
    marks: VecDeque<(u64, Instant)>,
    /// When there was progress, or something to wait for.
    moved: Option<Instant>,
    /// The shortest time from sending to showing, and the latest.
    base: Duration,
    delay: Duration,
    /// Nothing is in flight, so that the next bytes find no queue and measure the path anew: it may
    /// have become longer.
    fresh: bool,
    /// Since when the viewer has always had something to show, and what it had shown then.
    busy: Option<(Instant, u64)>,
    /// Bytes per second.
    rate: Option<f64>,
    /// When the window was changed, and whether it is what the path takes.
    changed: Option<Instant>,
    fitted: bool,
    /// Whether it ever was.
    known: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            told: false,
            sent: 0,
            seen: 0,
            window: FIRST,
            marks: VecDeque::new(),
            moved: None,
            base: Duration::MAX,
            delay: Duration::ZERO,
            fresh: true,
            busy: None,
            rate: None,
            changed: None,
            fitted: false,
            known: false,
        }
    }
}

impl Pace {
    /// How much may be sent now.
    pub(super) fn room(&self) -> u64 {
        match self.told {
            true => self.window.saturating_sub(self.sent - self.seen),
            false => u64::MAX,
        }
    }

    /// Records that bytes were sent.
    pub(super) fn note_sent(&mut self, bytes: u64, now: Instant) {
        if bytes == 0 {
            return;
        }
        if self.is_drained() {
            self.moved = Some(now);
        }
        let begin = self.sent;
        self.sent += bytes;
        let marks = (1..=bytes / STEP).map(|n| begin + n * STEP);
        for mark in marks.chain((!bytes.is_multiple_of(STEP)).then_some(self.sent)) {
            if self.told && self.marks.len() < MARKS {
                self.marks.push_back((mark, now));
            }
        }
    }

    /// Records how much of this stream the viewer has shown. Returns `false` if that was never
    /// sent.
    pub(super) fn acknowledge(&mut self, until: u64, now: Instant) -> bool {
        if until > self.sent {
            return false;
        }
        if std::mem::replace(&mut self.told, true) && until <= self.seen {
            // It only says that it is alive.
            return true;
        }
        if until > self.seen {
            self.moved = Some(now);
        }
        let (was_full, shown) = (self.room() == 0, until.saturating_sub(self.seen));
        self.seen = self.seen.max(until);
        if self.is_drained() && shown < LITTLE {
            // A viewer may report a little late that it has shown a little.
            self.marks.clear();
            self.fresh = true;
            (self.delay, self.fitted) = (Duration::ZERO, false);
            (self.busy, self.rate) = (None, None);
            return true;
        }
        while let Some(&(mark, at)) = self.marks.front().filter(|(mark, _)| *mark <= self.seen) {
            debug_assert!(mark <= self.sent, "marks are of what was sent");
            self.delay = now.duration_since(at);
            self.base = if self.fresh { self.delay } else { self.base.min(self.delay) };
            self.fresh = false;
            self.marks.pop_front();
        }
        self.measure(now);
        self.adapt(was_full, now);
        true
    }

    fn measure(&mut self, now: Instant) {
        if self.is_drained() {
            self.fresh = true;
            (self.busy, self.rate) = (None, None);
            return;
        }
        let &mut (since, shown) = self.busy.get_or_insert((now, self.seen));
        let time = now.duration_since(since);
        if time >= BELIEVED {
            self.rate = Some((self.seen - shown) as f64 / time.as_secs_f64());
            if time >= 4 * BELIEVED {
                self.busy = Some((now, self.seen));
            }
        }
    }

    /// Adapts the window to what was measured, once per round trip.
    fn adapt(&mut self, was_full: bool, now: Instant) {
        let round = self.base.min(Duration::from_secs(1));
        if self.changed.is_some_and(|at| now.duration_since(at) < round) {
            return;
        }
        self.fitted = self.is_full() && self.rate.is_some();
        self.known |= self.fitted;
        let window = match (self.is_full(), self.rate) {
            (true, Some(rate)) => (rate * self.base.saturating_add(QUEUE).as_secs_f64()) as u64,
            (true, None) => return,
            // It was once found what the path takes: go beyond that with care.
            (false, Some(_)) if was_full && self.known => self.window + self.window / 8,
            (false, Some(_)) if was_full => self.window + self.window / 2,
            (false, _) => return,
        };
        self.window = window.clamp(LEAST, MOST);
        self.changed = Some(now);
    }

    /// Whether more is in flight than the path takes.
    fn is_full(&self) -> bool {
        self.delay > self.base.saturating_add(QUEUE)
    }

    /// Whether the viewer lags, with `waiting` bytes still to be sent.
    pub(super) fn lags(&self, waiting: u64, now: Instant) -> bool {
        let under_way = self.sent - self.seen;
        let patience = STALL + self.base.min(Duration::from_secs(1));
        let still = self.moved.is_some_and(|moved| now.duration_since(moved) > patience);
        if self.room() == 0 && still {
            return true;
        }
        let fitted = self.fitted && under_way <= self.window;
        let Some(rate) = self.rate.filter(|_| fitted && self.is_full()) else { return false };
        (waiting + under_way) as f64 > rate * self.base.saturating_add(LAG).as_secs_f64()
    }

    /// Whether all that was sent is shown.
    pub(super) fn is_drained(&self) -> bool {
        !self.told || self.seen == self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that always has more to say, and a path that takes `rate` bytes a second each way
    /// of `half`. Returns whether the viewer lagged, and how much was in flight at most after a
    /// second.
    fn flood(rate: f64, half: Duration) -> (bool, u64) {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        assert!(pace.acknowledge(0, begun));
        let step = Duration::from_millis(1);
        let (mut now, mut queue) = (begun, 0.0_f64);
        let mut arriving: VecDeque<(Instant, u64)> = VecDeque::new();
        let (mut shown, mut lagged, mut most) = (0, false, 0);
        while now < begun + Duration::from_secs(5) {
            let bytes = pace.room();
            pace.note_sent(bytes, now);
            queue += bytes as f64;
            let passed = queue.min(rate * step.as_secs_f64());
            queue -= passed;
            shown += passed as u64;
            arriving.push_back((now + 2 * half, shown));
            while let Some(&(_, seen)) = arriving.front().filter(|(at, _)| *at <= now) {
                assert!(pace.acknowledge(seen, now));
                arriving.pop_front();
            }
            lagged |= pace.lags(512 << 10, now);
            if now > begun + Duration::from_secs(1) {
                most = most.max(pace.sent - pace.seen);
            }
            now += step;
        }
        (lagged, most)
    }

    #[test]
    fn a_slow_path_lags_and_has_little_under_way() {
        for (rate, half) in [(2.5e6, 50), (1.25e5, 20), (1e6, 5)] {
            let half = Duration::from_millis(half);
            let (lagged, most) = flood(rate, half);
            assert!(lagged, "{rate}");
            let bound = rate * (2 * half + 3 * QUEUE).as_secs_f64();
            assert!(most as f64 <= bound.max(2.0 * LEAST as f64), "{rate}: {most} {bound}");
        }
    }

    #[test]
    fn a_fast_path_is_filled_and_does_not_lag() {
        for (rate, half) in [(50e6, 0), (50e6, 10), (20e6, 50)] {
            let half = Duration::from_millis(half);
            let (lagged, most) = flood(rate, half);
            assert!(!lagged, "{rate}");
            assert!(most as f64 >= 0.7 * rate * (2 * half).as_secs_f64(), "{rate}: {most}");
        }
    }

    #[test]
    fn who_never_says_what_was_shown_is_not_waited_for() {
        let mut pace = Pace::default();
        pace.note_sent(1 << 30, Instant::now());
        assert!(
            pace.room() == u64::MAX && pace.is_drained() && !pace.lags(1 << 30, Instant::now())
        );
    }

    #[test]
    fn who_shows_nothing_lags_after_a_moment() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        assert!(pace.acknowledge(0, begun));
        pace.note_sent(pace.room(), begun);
        assert!(!pace.lags(1, begun + STALL));
        assert!(pace.lags(1, begun + 2 * STALL + Duration::from_secs(1)));
        assert!(pace.acknowledge(1, begun + STALL) && !pace.lags(1, begun + 2 * STALL));
    }

    #[test]
    fn nobody_has_shown_what_was_not_sent() {
        let mut pace = Pace::default();
        pace.note_sent(10, Instant::now());
        assert!(pace.acknowledge(10, Instant::now()) && !pace.acknowledge(11, Instant::now()));
    }
}
