//! Clocks. Ages and deadlines that must survive a suspend are measured by the time since boot,
//! which goes on while the machine sleeps and never steps.

use core::time::Duration;
use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

/// How long the machine has been up, including the time that it slept.
pub(crate) fn boottime() -> Duration {
    now(CLOCK)
}

/// The processor time of this thread.
pub(crate) fn worked() -> Duration {
    now(ClockId::ThreadCPUTime)
}

fn now(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// The time of day, in seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    unix_millis() / 1_000
}

/// The time of day, in milliseconds since 1970: for people, and to compare across a restart of the
/// machine.
pub(crate) fn unix_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The id of the current boot; empty if it cannot be read.
pub(crate) fn boot_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    let read = || {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    };
    ID.get_or_init(read).clone()
}

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;

/// The closest that other systems have.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back_and_is_what_the_kernel_calls_uptime() {
        let first = boottime();
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = text.split(' ').next().unwrap().parse().unwrap();
        let second = boottime();
        // The file has hundredths of a second, cut.
        assert!(first.as_secs_f64() - 0.02 <= uptime && uptime <= second.as_secs_f64() + 0.02);
        assert!(first <= second);
    }
}
