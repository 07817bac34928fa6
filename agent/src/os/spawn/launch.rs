//! Creates the child.
//!
//! There are two ways:
//!
//! - **Shared**: the child runs in the agent's memory, on a stack of its own, while the thread that
//!   started it is suspended, until it is another program or has ended. Nothing is copied, so it
//!   takes the same time whatever the agent's size is. For programs of the agent's own user, on
//!   Linux.
//! - **Copied**: `fork`, with a pipe for the report. For programs of another user, because a
//!   process with that user's rights could be stopped, or with debugging allowed for everything
//!   even be written to, by that user, and must not have our memory in its hands. And for other
//!   systems.
//!
//! Why sharing is safe: the child makes system calls on data that the parent has ready, and follows
//! the rules in `child.rs`. It has its own descriptors, directory, umask, limits, signal actions
//! and signal mask; all that it shares is memory, of which it writes its stack, the report, and the
//! error number of the thread that stands still. All signals are blocked across the birth, so that
//! no handler of the agent ever runs in the child.

#![expect(unsafe_code, reason = "clone, fork and signal masks are not in rustix")]

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::plan::ExecPlan;
use super::report::SpawnFailure;
use super::{aside, child, pipe};

/// A child that is a program by now, or has reported why not.
pub(super) struct Launched {
    pub(super) pid: Pid,
    /// Its descriptor, if the kernel has one.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) report: Option<SpawnFailure>,
}

/// Starts a child that carries out the plan, and waits until it is the program.
pub(super) fn launch(plan: &ExecPlan, stdio: [BorrowedFd<'_>; 3]) -> Result<Launched, Errno> {
    #[cfg(target_os = "linux")]
    if !plan.changes_user() {
        match shared::launch(plan, stdio) {
            // A kernel that only emulates Linux, or a filter, may refuse this.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => {}
            result => return result,
        }
    }
    copied(plan, stdio)
}

/// With `fork`.
pub(super) fn copied(plan: &ExecPlan, stdio: [BorrowedFd<'_>; 3]) -> Result<Launched, Errno> {
    let (ours, theirs) = pipe()?;
    let theirs = aside(theirs)?;
    let blocked = Blocked::all();
    // SAFETY: the child follows the rules in `child.rs`, which are stricter than what may be done
    // in the child of a process with threads.
    match unsafe { libc::fork() } {
        0 => {
            let numbers = child::carry_out(plan, stdio, Some(theirs.as_fd())).numbers();
            // 16 bytes go into an empty pipe at once or not at all. Were they lost, the parent
            // would see a program that ended with the code below; but there is nobody to lose them.
            let bytes = numbers.map(u32::to_ne_bytes);
            let _ = rustix::io::write(&theirs, bytes.as_flattened());
            // SAFETY: ends this process without running anything of the parent's.
            unsafe { libc::_exit(NOT_THE_PROGRAM) }
        }
        -1 => Err(last_error()),
        pid => {
            drop(blocked);
            drop(theirs);
            let mut numbers = [[0; 4]; 4];
            // An end without a byte means that the program was executed.
            let told = File::from(ours).read_exact(numbers.as_flattened_mut()).is_ok();
            let report = told.then(|| SpawnFailure::from_numbers(numbers.map(u32::from_ne_bytes)));
            let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
            Ok(Launched { pid, pidfd: descriptor(pid), report: report.flatten() })
        }
    }
}

/// The descriptor of a child of ours that nobody has reaped.
#[cfg(target_os = "linux")]
fn descriptor(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn descriptor(_: Pid) -> Option<OwnedFd> {
    None
}

#[cfg(target_os = "linux")]
mod shared {
    //! With `clone`, in our own memory.

    use core::ffi::{c_int, c_void};
    use core::sync::atomic::{AtomicU32, Ordering};
    use std::os::fd::FromRawFd as _;

    use super::*;

    /// What the child finds in the memory that it shares.
    struct Birth<'a> {
        plan: &'a ExecPlan,
        stdio: [BorrowedFd<'a>; 3],
        report: [AtomicU32; 4],
    }

    pub(super) fn launch(plan: &ExecPlan, stdio: [BorrowedFd<'_>; 3]) -> Result<Launched, Errno> {
        let stack = Stack::new()?;
        let birth = Birth { plan, stdio, report: Default::default() };
        let mut pidfd: c_int = -1;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
        let blocked = Blocked::all();
        // SAFETY: `birth` and the stack outlive the child's use of them, because this thread stands
        // still until the child has ended or is another program. The child runs `be_born` on its
        // own stack, which is large enough and ends at a page that nobody can write, and never
        // returns into our frames. Where the kernel knows CLONE_PIDFD, `pidfd` takes the
        // descriptor.
        let pid = unsafe {
            let argument = (&raw const birth).cast_mut().cast::<c_void>();
            libc::clone(be_born, stack.top(), flags, argument, &raw mut pidfd)
        };
        let error = last_error();
        drop(blocked);
        if pid == -1 {
            return Err(error);
        }
        // SAFETY: the kernel has opened it for us, and nobody else knows its number.
        let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
        let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
        let numbers = birth.report.map(AtomicU32::into_inner);
        Ok(Launched { pid, pidfd, report: SpawnFailure::from_numbers(numbers) })
    }

    extern "C" fn be_born(birth: *mut c_void) -> c_int {
        // SAFETY: the pointer is that of `launch`, which stands still and holds it.
        let birth = unsafe { &*birth.cast::<Birth<'_>>() };
        let numbers = child::carry_out(birth.plan, birth.stdio, None).numbers();
        for (place, number) in birth.report.iter().zip(numbers) {
            place.store(number, Ordering::Relaxed);
        }
        // SAFETY: ends this process without running anything of the parent's.
        unsafe { libc::_exit(NOT_THE_PROGRAM) }
    }

    /// Memory for the child to run on.
    struct Stack {
        base: *mut c_void,
    }

    impl Stack {
        fn new() -> Result<Self, Errno> {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
            // SAFETY: asks for new memory wherever there is room, which touches none that is in
            // use.
            let base = unsafe { libc::mmap(core::ptr::null_mut(), SIZE, access, kind, -1, 0) };
            if base == libc::MAP_FAILED {
                return Err(last_error());
            }
            let stack = Self { base };
            // SAFETY: the range is the lower end of what was just mapped.
            match unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) } {
                0 => Ok(stack),
                _ => Err(last_error()),
            }
        }

        /// Stacks grow downwards from here. Aligned as every architecture wants it.
        fn top(&self) -> *mut c_void {
            // SAFETY: one past the end of the mapping.
            unsafe { self.base.byte_add(SIZE) }
        }
    }

    impl Drop for Stack {
        fn drop(&mut self) {
            // SAFETY: the mapping is ours, and the child that ran on it is gone. It cannot fail.
            let _ = unsafe { libc::munmap(self.base, SIZE) };
        }
    }

    /// Some twenty frames and a path. Only what is touched takes memory.
    const SIZE: usize = 128 * 1024;

    /// A page of the largest kind.
    const GUARD: usize = 64 * 1024;
}

/// All signals are blocked for this thread until it is dropped.
struct Blocked {
    before: libc::sigset_t,
}

impl Blocked {
    fn all() -> Self {
        // SAFETY: `all` is initialised by `sigfillset` before it is read, `before` by
        // `pthread_sigmask`; zero is a valid value of both. With valid arguments neither fails.
        unsafe {
            let mut all: libc::sigset_t = core::mem::zeroed();
            let mut before: libc::sigset_t = core::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the mask is the one that was in force before; null means that the old one is not
        // wanted.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, core::ptr::null_mut())
        };
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Nobody sees this code, because the child is reaped where its report is read.
const NOT_THE_PROGRAM: libc::c_int = 127;
