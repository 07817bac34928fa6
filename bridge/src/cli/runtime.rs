//! The threads of a command, and its end at a signal.
//!
//! A process that a signal ends does not close its connections. The relay and the agents notice
//! that after 45 s, and work for it until then. Every command therefore closes them first, and is
//! then ended by the signal as if it had not handled it: its parent sees the same status.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use libc::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals that end a command.
pub(crate) const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// How long closing the connections may take. It takes a few milliseconds, unless the processor is
/// busy.
const FAREWELL: Duration = Duration::from_secs(1);

/// Whether Ctrl-C is for a program that runs in the foreground.
static LENT: AtomicBool = AtomicBool::new(false);

/// One thread: a command waits more than it computes, and waking another thread costs time.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::ResourceExhausted, format!("no runtime: {error}")))
}

/// Carries out a command. Each of `signals` ends the process, after `close` or 1 s.
///
/// # Errors
///
/// There is no thread that could wait for signals.
pub(crate) async fn until_signal<T>(
    signals: &[i32],
    close: impl Future<Output = ()>,
    command: impl Future<Output = T>,
) -> Result<T, Failure> {
    let told = CancellationToken::new();
    let (closing, closed) = channel();
    wait_for_signals(signals, told.clone(), closed).map_err(|error| {
        Failure::new(Kind::ResourceExhausted, format!("no thread for signals: {error}"))
    })?;
    tokio::select! {
        biased;
        () = told.cancelled() => {
            close.await;
            drop(closing);
            std::future::pending().await
        }
        done = command => Ok(done),
    }
}

/// Starts a thread that waits for signals: the command's own may be blocked in a read or a write.
/// What is to be closed is closed when the sender of `closed` is dropped.
fn wait_for_signals(
    signals: &[i32],
    told: CancellationToken,
    closed: Receiver<()>,
) -> std::io::Result<()> {
    let ignored = ignored_signals();
    let mut signals = Signals::new(signals.iter().filter(|signal| !ignores(ignored, **signal)))?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGINT && LENT.load(Ordering::Relaxed) {
                continue;
            }
            told.cancel();
            // It brings nothing: either all is closed, or the time is up.
            let _ = closed.recv_timeout(FAREWELL);
            // It does not fail for a signal that ends a process.
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// The signals that this process was started to ignore, as `nohup` does: they stay ignored. A bit
/// for each, signal 1 is the lowest. Only Linux says this to safe code.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn ignores(mask: u64, signal: i32) -> bool {
    let bit = u32::try_from(signal - 1).ok().and_then(|at| 1_u64.checked_shl(at));
    bit.is_some_and(|bit| mask & bit != 0)
}

/// While this exists, Ctrl-C is for another program in the foreground and does not end us.
pub(crate) struct InterruptsLent(());

impl InterruptsLent {
    pub(crate) fn new() -> Self {
        LENT.store(true, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for InterruptsLent {
    fn drop(&mut self) {
        LENT.store(false, Ordering::Relaxed);
    }
}

/// What ends a mount, or what is served: Ctrl-C, or being told to.
pub(crate) struct Ends([Signal; 3]);

impl Ends {
    pub(crate) fn new() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(Kind::ResourceExhausted, format!("signals: {error}")))
        };
        let hangup = SignalKind::hangup();
        Ok(Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(hangup)?]))
    }

    /// The next one. Can be dropped and called again.
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_ignored_where_its_bit_says_so() {
        assert!(ignores(0b1, SIGHUP) && ignores(0b10, SIGINT) && ignores(1 << 14, SIGTERM));
        assert!(!ignores(0b1, SIGINT) && !ignores(u64::MAX, 0) && !ignores(u64::MAX, 65));
    }
}
