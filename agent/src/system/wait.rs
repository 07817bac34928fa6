//! How a program ended, from `waitid` and nothing else; and the names of signals.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use farwire_protocol::streams::run::Exit;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for the process behind the descriptor and reaps it.
pub(crate) async fn leader(pidfd: OwnedFd) -> io::Result<Exit> {
    let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
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
