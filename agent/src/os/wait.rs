//! The leader of a run: the process that was started, and how it ended.
//!
//! ```text
//!     running -- exited() --> ended, not collected -- reap() or drop --> collected
//!              status known;                           number free again
//!              number still taken
//! ```
//!
//! # Invariants
//!
//! - The status comes from `waitid`, and from nothing else. It is queried without reaping as often
//!   as needed, and the process is reaped once.
//! - Until it is reaped the leader's number cannot be given to an unrelated process, so its process
//!   group may be signalled on every kernel. That is why [`Leader::exited`] does not reap: the last
//!   KILL for background children comes after the leader's end. See `group.rs`.
//! - No zombie stays: dropping a leader reaps it, at once if it has ended, or else with the next
//!   program that is started.

use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use farwire_protocol::failure::{Failure, Kind};
pub(crate) use farwire_protocol::streams::run::Exit;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

use super::errno;
use super::watch::watch;

/// A process that we started. It leads a session and a process group of its own.
#[derive(Debug)]
pub(crate) struct Leader {
    pid: Pid,
    /// When it was started, or a moment before, since boot.
    started: Duration,
    /// Becomes readable when it ends. Kernels before 5.3 have none to wait for.
    pidfd: Option<Arc<OwnedFd>>,
    /// The same, watched by the runtime from the first wait on.
    watched: OnceLock<Option<AsyncFd<Arc<OwnedFd>>>>,
    state: Mutex<WaitState>,
}

#[derive(Debug, Default)]
struct WaitState {
    exit: Option<Exit>,
    collected: bool,
}

impl Leader {
    /// A child of ours that nobody has reaped, and nobody else will.
    pub(super) fn new(pid: Pid, started: Duration, pidfd: Option<OwnedFd>) -> Self {
        let pidfd = pidfd.map(Arc::new);
        Self { pid, started, pidfd, watched: OnceLock::new(), state: Mutex::default() }
    }

    /// Its process id, which is that of its group and its session too.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// When it was started, as `clock::boottime` counts.
    pub(crate) fn start_time(&self) -> Duration {
        self.started
    }

    /// How it ended; waits for that. May be dropped and called again.
    ///
    /// The process stays a zombie until [`Self::reap`], so that its group can still be signalled.
    pub(crate) async fn exited(&self) -> Result<Exit, Failure> {
        match self.async_pidfd() {
            Some(pidfd) => loop {
                if let Some(exit) = self.poll()? {
                    return Ok(exit);
                }
                let mut ready = pidfd.readable().await.map_err(|error| unwatched(&error))?;
                // Check again with the readiness cleared, so that no end is missed.
                ready.clear_ready();
                if let Some(exit) = self.poll()? {
                    return Ok(exit);
                }
            },
            None => self.exited_by_signal().await,
        }
    }

    /// The same without process descriptors: each SIGCHLD may be about this one.
    async fn exited_by_signal(&self) -> Result<Exit, Failure> {
        // Subscribed to before the first look, so that no end falls between the two.
        let mut children = signal(SignalKind::child()).map_err(|error| unwatched(&error))?;
        loop {
            if let Some(exit) = self.poll()? {
                return Ok(exit);
            }
            if children.recv().await.is_none() {
                return Err(unwatched(&io::Error::other("the runtime is going down")));
            }
        }
    }

    /// How it ended, if it has.
    pub(crate) fn poll(&self) -> Result<Option<Exit>, Failure> {
        let mut state = self.state();
        if state.exit.is_none() && !state.collected {
            state.exit =
                status(self.pid, WaitIdOptions::NOWAIT).map_err(|e| self.outcome_unknown(e))?;
        }
        match state.exit {
            None if state.collected => Err(self.outcome_unknown(Errno::CHILD)),
            exit => Ok(exit),
        }
    }

    /// Reaps it, if it has ended: its number is free for other processes from now on.
    ///
    /// Returns whether it is gone. [`Self::exited`] still returns the same.
    pub(crate) fn reap(&self) -> bool {
        let mut state = self.state();
        if state.collected {
            return true;
        }
        match status(self.pid, WaitIdOptions::empty()) {
            Ok(None) => return false,
            Ok(exit) => state.exit = state.exit.or(exit),
            // Somebody else reaped it, which `exited` reports if the status was not known.
            Err(_) => {}
        }
        state.collected = true;
        true
    }

    /// Does something while its number can belong to nobody else. Returns `None` if it was reaped.
    pub(super) fn uncollected<T>(&self, act: impl FnOnce(u32) -> T) -> Option<T> {
        let state = self.state();
        (!state.collected).then(|| act(self.pid()))
    }

    /// The descriptor of the process, if the kernel has one.
    #[cfg(target_os = "linux")]
    pub(super) fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_deref()
    }

    /// As if the kernel had no descriptors for processes.
    #[cfg(test)]
    pub(super) fn forget_pidfd(&mut self) {
        self.pidfd = None;
    }

    fn async_pidfd(&self) -> Option<&AsyncFd<Arc<OwnedFd>>> {
        let watch = || {
            let pidfd = self.pidfd.clone()?;
            // Where it cannot be watched (kernel 5.2), SIGCHLD does.
            watch(pidfd, Interest::READABLE).ok()
        };
        self.watched.get_or_init(watch).as_ref()
    }

    fn state(&self) -> MutexGuard<'_, WaitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outcome_unknown(&self, error: Errno) -> Failure {
        let pid = self.pid();
        let text =
            format!("the exit status of process {pid} cannot be read: {}", errno::words(error));
        Failure::new(Kind::OutcomeUnknown, text)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.reap() {
            abandoned().push(self.pid);
        }
    }
}

/// Reaps those whose [`Leader`] was dropped while they ran.
pub(crate) fn collect_abandoned() {
    abandoned().retain(|pid| matches!(status(*pid, WaitIdOptions::empty()), Ok(None)));
}

/// At most as many as our processes that still run.
fn abandoned() -> MutexGuard<'static, Vec<Pid>> {
    static ABANDONED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
    ABANDONED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unwatched(error: &io::Error) -> Failure {
    Failure::new(Kind::OutcomeUnknown, format!("cannot wait for a process: {error}"))
}

/// How the child ended, if it has. Does not wait.
fn status(pid: Pid, how: WaitIdOptions) -> Result<Option<Exit>, Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | how;
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options))?;
    Ok(status.as_ref().and_then(exit))
}

/// Waits for a child that is ending at this moment, and collects it.
pub(super) fn collect_now(pid: Pid) {
    // The only other outcome is that somebody has collected it already.
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED));
}

fn exit(status: &WaitIdStatus) -> Option<Exit> {
    let code = status.exit_status().map(Exit::Code);
    code.or_else(|| status.terminating_signal().map(Exit::Signal))
}

#[cfg(test)]
mod tests;
