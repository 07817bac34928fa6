//! How long to wait between attempts.

use std::time::Duration;

/// How long to wait before the next attempt to reach a server again: twice as long each time, with
/// some chance in it, so that many who lost the same relay do not come back at once.
pub(super) fn backoff(attempt: u32) -> Duration {
    let most = Duration::from_millis(100) * 2_u32.saturating_pow(attempt.min(6));
    let mut byte = [0];
    // Without random numbers everybody waits equally long, and nothing else is wrong.
    let _ = getrandom::fill(&mut byte);
    most.min(Duration::from_secs(5)).mul_f64(0.5 + f64::from(byte[0]) / 512.0)
}
