//! How a program ended, from `waitid` and nothing else.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use farwire_protocol::streams::run::Exit;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for the process behind the descriptor, calls `before` while its number is still its own, and
/// reaps it.
pub(crate) async fn leader(pidfd: OwnedFd, before: impl FnOnce()) -> io::Result<Exit> {
    // SAFETY: an `OwnedFd` is open, and stays so as long as the `AsyncFd` that owns it.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    let pidfd = pidfd.map_err(io::Error::from)?;
    let mut before = Some(before);
    loop {
        let mut ready = pidfd.readable().await?;
        let look = |options| waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), options);
        let exited = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if look(exited | WaitIdOptions::NOWAIT)?.is_none() {
            ready.clear_ready();
            continue;
        }
        if let Some(before) = before.take() {
            before();
        }
        if let Some(status) = look(exited)? {
            let code = status.exit_status().map(Exit::Code);
            let signal = || status.terminating_signal().map(Exit::Signal);
            return code.or_else(signal).ok_or_else(|| io::Error::other("neither code nor signal"));
        }
    }
}
