//! How a program ended, from `waitid` and nothing else.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use farwire_protocol::streams::run::Exit;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for the process behind the descriptor and reaps it.
pub(crate) async fn leader(pidfd: OwnedFd) -> io::Result<Exit> {
    // SAFETY: an `OwnedFd` is open, and stays so as long as the `AsyncFd` that owns it.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    let pidfd = pidfd.map_err(io::Error::from)?;
    loop {
        let mut ready = pidfd.readable().await?;
        let status = waitid(
            WaitId::PidFd(pidfd.get_ref().as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        )?;
        if let Some(status) = status {
            let code = status.exit_status().map(Exit::Code);
            let signal = || status.terminating_signal().map(Exit::Signal);
            return code.or_else(signal).ok_or_else(|| io::Error::other("neither code nor signal"));
        }
        ready.clear_ready();
    }
}
