//! The relay's clock: seconds since 1970, signed as databases keep them and unsigned as the wire
//! has them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the current time in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Converts a kept time or age to its wire form. Negative values, from a clock that was set back,
/// become 0.
pub(crate) fn seconds(time: i64) -> u64 {
    u64::try_from(time).unwrap_or(0)
}
