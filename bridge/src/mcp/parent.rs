//! The process that started us, and its end.
//!
//! A killed client closes its end of standard input, and then we end too. But other processes may
//! have inherited that end and keep it open, so the parent itself is watched.

use rustix::process::{Pid, getppid};
use tokio::net::unix::pipe;

/// Waits until the process that started us has ended. Waits forever if the system cannot tell.
pub(super) async fn wait_for_exit() {
    let Some(parent) = getppid() else { return std::future::pending().await };
    match watch(parent) {
        Some(watched) => {
            // It ended before it could be watched: its pid may belong to another process by now.
            if getppid() != Some(parent) {
                return;
            }
            if watched.readable().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

#[cfg(target_os = "linux")]
fn watch(parent: Pid) -> Option<pipe::Receiver> {
    use rustix::process::{PidfdFlags, pidfd_open};

    // A pidfd becomes readable when the process ends, so it can be polled as a pipe is.
    let parent = pidfd_open(parent, PidfdFlags::NONBLOCK).ok()?;
    pipe::Receiver::from_owned_fd_unchecked(parent).ok()
}

#[cfg(not(target_os = "linux"))]
fn watch(_: Pid) -> Option<pipe::Receiver> {
    None
}
