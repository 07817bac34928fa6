//! Who started us, and that they are gone.
//!
//! A client that is killed takes its end of standard input along, and that is our end too. But
//! others may have inherited that end, and then nothing comes and nothing ends: so the parent
//! itself is watched.

use rustix::process::{Pid, getppid};
use tokio::net::unix::pipe;

/// Waits until the process that started us has ended. For ever where the system cannot tell.
pub(super) async fn wait_for_exit() {
    let Some(parent) = getppid() else { return std::future::pending().await };
    match watch(parent) {
        Some(watched) => {
            // It ended before it could be watched: its number may be another's by now.
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

    // To be read it is as a pipe is: when there is something to know.
    let parent = pidfd_open(parent, PidfdFlags::NONBLOCK).ok()?;
    pipe::Receiver::from_owned_fd_unchecked(parent).ok()
}

#[cfg(not(target_os = "linux"))]
fn watch(_: Pid) -> Option<pipe::Receiver> {
    None
}
