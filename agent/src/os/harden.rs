//! What the agent does to its own process before anything else.
//!
//! - Nobody but root reads its memory: not by a debugger, not by a core dump.
//! - What it inherited from whoever started it goes no further: no descriptor reaches a program.
//! - It learns how its programs ended, even if it was started with SIGCHLD ignored.
//!
//! None of it reaches the programs: the kernel makes a process dumpable again when it executes one,
//! and `spawn.rs` restores the limits.

#![expect(unsafe_code, reason = "signal dispositions and inherited descriptors are not in rustix")]

use farwire_protocol::failure::{Failure, Kind};
use rustix::io::Errno;

use super::{errno, limits};

/// Hardens this process. Call it once, before there are other threads.
pub(crate) fn harden() -> Result<(), Failure> {
    // First, because afterwards `/proc/self` belongs to root.
    close_inherited_on_exec();
    collect_children().map_err(|error| cannot("learn how its programs end", error))?;
    limits::forbid_core().map_err(|error| cannot("forbid its core dumps", error))?;
    undumpable().map_err(|error| cannot("protect its memory", error))
}

fn cannot(what: &str, error: Errno) -> Failure {
    Failure::new(Kind::Unsupported, format!("the agent cannot {what}: {}", errno::words(error)))
}

/// An ignored SIGCHLD is inherited, and lets the kernel throw exit codes away.
fn collect_children() -> Result<(), Errno> {
    // SAFETY: both calls get a valid pointer to a zeroed structure, which is a valid `sigaction`:
    // an empty mask, no flags, and `SIG_DFL`, which is 0. A handler of ours is left alone.
    let result = unsafe {
        let mut now: libc::sigaction = core::mem::zeroed();
        match libc::sigaction(libc::SIGCHLD, core::ptr::null(), &raw mut now) {
            0 if now.sa_sigaction == libc::SIG_IGN => {
                let default: libc::sigaction = core::mem::zeroed();
                libc::sigaction(libc::SIGCHLD, &raw const default, core::ptr::null_mut())
            }
            other => other,
        }
    };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

#[cfg(target_os = "linux")]
fn undumpable() -> Result<(), Errno> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

#[cfg(not(target_os = "linux"))]
fn undumpable() -> Result<(), Errno> {
    Ok(())
}

/// Every descriptor beyond the standard three that is open now is closed when a program starts.
///
/// What the agent opens itself is close-on-exec from the start. The child of `spawn` closes
/// everything anyway, but kernels before 5.9 cannot do that in one call.
#[cfg(target_os = "linux")]
fn close_inherited_on_exec() {
    use std::os::fd::BorrowedFd;

    // Without /proc the call in `spawn` has to suffice.
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let numbers: Vec<i32> = numbers.filter(|number| *number > 2).collect();
    for number in numbers {
        // SAFETY: the number is not -1. Should it have been closed meanwhile (the listing's own
        // descriptor has been), the call fails and nothing else happens.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if let Ok(flags) = rustix::io::fcntl_getfd(descriptor) {
            // It can only fail for a descriptor that is gone.
            let _ = rustix::io::fcntl_setfd(descriptor, flags | rustix::io::FdFlags::CLOEXEC);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn close_inherited_on_exec() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::io::FdFlags;
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    use super::*;
    use crate::os::testing::{alone, run, script};
    use crate::os::wait::Exit;

    #[test]
    fn the_agent_is_hard_to_look_into_and_its_programs_are_as_usual() {
        let test = "the_agent_is_hard_to_look_into_and_its_programs_are_as_usual";
        if !alone(module_path!(), test) {
            return;
        }
        let leaked = rustix::io::dup(std::fs::File::open("/dev/null").unwrap()).unwrap();
        // SAFETY: the runtime, which sets a handler of its own, does not exist yet.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        harden().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(rustix::io::fcntl_getfd(leaked.as_fd()).unwrap(), FdFlags::CLOEXEC);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // An ignored SIGCHLD would have made this outcome unknown.
        assert_eq!(runtime.block_on(run(&script("exit 5"))).exit, Exit::Code(5));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }

    #[test]
    fn a_handler_for_ended_children_stays() {
        if !alone(module_path!(), "a_handler_for_ended_children_stays") {
            return;
        }
        extern "C" fn handler(_: libc::c_int) {}
        let ours = handler as *const () as libc::sighandler_t;
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(libc::SIGCHLD, ours) };
        harden().unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) }, ours);
    }
}
