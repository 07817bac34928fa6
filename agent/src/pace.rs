//! A rate limit in bytes per second, with a burst of a tenth of a second's worth.
//!
//! Times are since any beginning, and come as arguments.

use std::time::Duration;

/// The limiter of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// When all bytes so far would have gone, at this rate.
    due: Duration,
}

/// How much may be used at once.
const BURST: Duration = Duration::from_millis(100);

impl Pace {
    /// How many of `wanted` bytes may go now at `rate` bytes per second; at least one, unless it is
    /// too early.
    pub(crate) fn room(&self, rate: u64, wanted: usize, now: Duration) -> usize {
        let saved = (now + BURST).saturating_sub(self.due.max(now.saturating_sub(BURST)));
        if saved.is_zero() {
            return 0;
        }
        let bytes = saved.as_micros().saturating_mul(rate.into()) / 1_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
    }

    /// Records that bytes have gone.
    pub(crate) fn went(&mut self, rate: u64, bytes: usize, now: Duration) {
        let micros = (bytes as u64).saturating_mul(1_000_000) / rate.max(1);
        self.due = self.due.max(now.saturating_sub(BURST)) + Duration::from_micros(micros);
    }

    /// When more may go.
    pub(crate) fn next(&self) -> Duration {
        self.due.saturating_sub(BURST) + Duration::from_millis(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes go in ten seconds, with pieces of at most `piece`.
    fn in_ten_seconds(rate: u64, piece: usize) -> u64 {
        let mut pace = Pace::default();
        let begin = Duration::from_secs(1_000);
        let (mut now, mut sum) = (begin, 0);
        while now < begin + Duration::from_secs(10) {
            match pace.room(rate, piece, now) {
                0 => now = now.max(pace.next()),
                room => {
                    pace.went(rate, room, now);
                    sum += room as u64;
                }
            }
        }
        sum
    }

    #[test]
    fn it_is_kept_within_a_few_hundredths_whatever_the_pieces() {
        for rate in [10, 1_000, 65_536, 1_000_000] {
            for piece in [1, 100, 4_096, 131_072] {
                let (sum, wanted) = (in_ten_seconds(rate, piece), rate * 10);
                let off = sum.abs_diff(wanted);
                assert!(off <= wanted / 20 + 1, "{rate}, {piece}: {sum}");
            }
        }
    }
}
