//! The process group of a run: signals for all of it.
//!
//! # Whom a signal can hit
//!
//! A process group is named by the number of its leader, and numbers are reused. What keeps a
//! signal from hitting an unrelated process:
//!
//! 1. As long as the leader has not been reaped, the kernel reuses its number for nobody. A zombie
//!    is enough, and `wait.rs` keeps one until it is reaped.
//! 2. Linux 6.9 and later signal the group *of a process descriptor*. That means this group and no
//!    other for as long as the descriptor is open, even after the leader was reaped, while
//!    background children live on.
//! 3. On older kernels, and other systems, a group whose leader was reaped is not signalled at all:
//!    the answer is `already_ended`. To kill what is in the background, do so before reaping.
//!    Looking into `/proc` first would not help: an unrelated group with the same number looks the
//!    same.
//!
//! A number of 1 or less would mean everybody, or our own group, and is never passed on.
//!
//! Processes that left the group are not signalled, only counted: see [`census`].

#![expect(
    unsafe_code,
    reason = "rustix sends neither realtime signals nor signals to a pidfd's group"
)]

use farwire_protocol::failure::{Failure, Kind};
use rustix::io::Errno;

use super::wait::Leader;
use super::{errno, signals};

pub(crate) mod census;

impl Leader {
    /// Sends a signal to every process of the group, the leader included if it still runs.
    ///
    /// `already_ended` if nothing is left to signal. Right after the leader's end the kernel counts
    /// the zombie as a member, so that a signal succeeds even if nobody else is left.
    pub(crate) fn signal_group(&self, signal: i32) -> Result<(), Failure> {
        if !signals::exists(signal) {
            let text = format!("there is no signal {signal}");
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        self.send(signal).map_err(|error| self.unsent(signal, error))
    }

    fn send(&self, signal: i32) -> Result<(), Errno> {
        #[cfg(target_os = "linux")]
        match self.pidfd().map(|pidfd| send_to_group_of(pidfd, signal)) {
            // No descriptor, a kernel before 6.9, or a filter that knows no such call.
            None | Some(Err(Errno::INVAL | Errno::NOSYS | Errno::PERM)) => {}
            Some(result) => return result,
        }
        let sent = self.uncollected(|pid| match i32::try_from(pid) {
            Ok(group) if group > 1 => send_to_group(group, signal),
            _ => Err(Errno::SRCH),
        });
        sent.unwrap_or(Err(Errno::SRCH))
    }

    fn unsent(&self, signal: i32, error: Errno) -> Failure {
        let (name, pid) = (signals::name(signal), self.pid());
        match error {
            Errno::SRCH => Failure::new(
                Kind::AlreadyEnded,
                format!("no process is left in group {pid} for the signal {name}"),
            ),
            Errno::PERM => Failure::new(
                Kind::UserNotAllowed,
                format!("the agent may not send {name} to group {pid}, which changed its user"),
            ),
            other => Failure::new(
                Kind::Internal,
                format!("cannot send {name} to group {pid}: {}", errno::words(other)),
            ),
        }
    }
}

#[cfg(target_os = "linux")]
fn send_to_group_of(pidfd: &std::os::fd::OwnedFd, signal: i32) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;

    /// `PIDFD_SIGNAL_PROCESS_GROUP`, since Linux 6.9.
    const PROCESS_GROUP: libc::c_uint = 1 << 2;
    // SAFETY: the descriptor is open, and a null pointer stands for the information that `kill`
    // would send.
    let result = unsafe {
        let none = core::ptr::null::<libc::siginfo_t>();
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, PROCESS_GROUP)
    };
    check(result == 0)
}

fn send_to_group(group: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: no pointers are involved. The caller has checked that the number means our group.
    check(unsafe { libc::kill(-group, signal) } == 0)
}

fn check(success: bool) -> Result<(), Errno> {
    match success {
        true => Ok(()),
        false => {
            Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
        }
    }
}

#[cfg(test)]
mod tests;
