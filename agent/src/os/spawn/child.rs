//! What the child does between its birth and the program.
//!
//! # Rules
//!
//! The child may share its memory with the agent (see `launch.rs`), or be a copy of one thread of
//! many whose other threads held locks. So nothing in this file allocates, takes a lock, panics, or
//! returns to its caller except with a report. It makes system calls on what the plan has prepared.
//!
//! All signals are blocked until the last step. No handler of the agent runs here: by the time they
//! are unblocked, none is installed any more.

#![expect(unsafe_code, reason = "signal dispositions and execve are not in rustix")]

use core::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode};
use rustix::io::{self, Errno};

use super::EXTRA;
use super::plan::{ExecPlan, Identity};
use super::report::{PathKind, SpawnFailure, Stage};

/// Becomes the program. Returns only if that fails; `kept` is still open then.
pub(super) fn carry_out(
    plan: &ExecPlan,
    stdio: [BorrowedFd<'_>; 3],
    kept: Option<BorrowedFd<'_>>,
) -> SpawnFailure {
    if let Err(error) = prepare(plan, stdio, kept) {
        return SpawnFailure::before(Stage::Prepare, error);
    }
    if let Some(identity) = &plan.identity
        && let Err(error) = take_on(identity)
    {
        return SpawnFailure::before(Stage::Identity, error);
    }
    // As the user, who must be able to enter it.
    if let Some(cwd) = &plan.cwd
        && let Err(error) = rustix::process::chdir(cwd.as_c_str())
        && !(plan.or_root && rustix::process::chdir(c"/").is_ok())
    {
        return SpawnFailure::before(Stage::Directory, error);
    }
    unblock_signals();
    execute(plan)
}

fn prepare(
    plan: &ExecPlan,
    [stdin, stdout, stderr]: [BorrowedFd<'_>; 3],
    kept: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    rustix::process::setsid()?;
    default_signals()?;
    // The three are none of 0, 1 and 2, so that none is overwritten before its turn.
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    if plan.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    let first = match &plan.extra {
        // Its copy stays open on executing, as the three do.
        Some(extra) => {
            give(extra, EXTRA)?;
            EXTRA.unsigned_abs() + 1
        }
        None => 3,
    };
    close_rest(first, kept, plan.descriptors, close_range);
    // The mask of this process is its own even while memory is shared.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    be_ordinary();
    plan.limits.restore()
}

/// Takes on the usual priority and the usual OOM score. If that is not allowed, because it needs
/// rights where the agent's own are worse, they stay as they are.
fn be_ordinary() {
    let _ = rustix::process::setpriority_process(None, 0);
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{OFlags, open};
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
            let _ = io::write(&file, b"0");
        }
    }
}

/// Makes a descriptor known to the program under this number.
fn give(extra: &OwnedFd, number: i32) -> io::Result<()> {
    // SAFETY: no pointers are involved. Nobody in this process uses the number for anything else:
    // the table of descriptors belongs to it alone, and what it still needs is above (see `aside`).
    match unsafe { libc::dup2(extra.as_raw_fd(), number) } {
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

/// Every signal gets its default effect. A handler would be reset by executing, but must not run
/// before that either; an ignored signal would stay ignored.
#[cfg(target_os = "linux")]
fn default_signals() -> io::Result<()> {
    /// Larger than the kernel's structure. All zero is a valid one: no flags, an empty mask, and
    /// `SIG_DFL`, which is 0.
    const DEFAULT: [usize; 16] = [0; 16];
    /// The kernel's set of 64 signals.
    const SET: usize = 8;
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // The system call as it is: the C library would keep two signals for itself, which can be
        // inherited as ignored too, and takes a lock for another one.
        // SAFETY: the action is valid, and null means that the old one is not wanted.
        let result = unsafe {
            let none = core::ptr::null_mut::<usize>();
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), none, SET)
        };
        if result != 0 {
            return Err(last_error());
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn default_signals() -> io::Result<()> {
    // SAFETY: all zero is a valid `sigaction`: no flags, an empty mask, and `SIG_DFL`, which is 0.
    let default: libc::sigaction = unsafe { core::mem::zeroed() };
    for signal in 1..=31 {
        // SAFETY: the pointer is valid, and null means that the old action is not wanted. It fails
        // for KILL and STOP only, which cannot be ignored.
        let _ = unsafe { libc::sigaction(signal, &raw const default, core::ptr::null_mut()) };
    }
    Ok(())
}

fn unblock_signals() {
    // SAFETY: `none` is initialised by `sigemptyset` before it is read, and null means that the old
    // mask is not wanted. With valid arguments neither of them fails.
    unsafe {
        let mut none: libc::sigset_t = core::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut());
    }
}

/// Closes whatever else is open, including what the agent has inherited, and the pipes of programs
/// that other threads start at this moment: those would stay open while this child lives, and from
/// the next step on its user decides how long that is. A terminal that another thread opens at this
/// moment may not even be close-on-exec: see `pty.rs`.
///
/// Kernels before 5.9 have no `close_range`, and filters of system calls refuse it. Then the
/// descriptors up to `bound` are closed one by one. What was inherited above it, `harden` has
/// marked.
fn close_rest(
    open: libc::c_uint,
    kept: Option<BorrowedFd<'_>>,
    bound: libc::c_uint,
    close_range: fn(libc::c_uint, libc::c_uint) -> bool,
) {
    let close = |first: libc::c_uint, last: libc::c_uint| {
        if close_range(first, last) {
            return;
        }
        for number in first..=last.min(bound) {
            // SAFETY: no pointers are involved, and nothing here uses what is closed. The table of
            // descriptors belongs to this process alone, so the agent's stay open.
            let _ = unsafe { libc::close(number.cast_signed()) };
        }
    };
    match kept.map(|kept| kept.as_raw_fd().unsigned_abs()) {
        None => close(open, libc::c_uint::MAX),
        Some(kept) => {
            if kept > open {
                close(open, kept - 1);
            }
            close(kept + 1, libc::c_uint::MAX);
        }
    }
}

/// Whether the kernel has closed these descriptors.
#[cfg(target_os = "linux")]
fn close_range(first: libc::c_uint, last: libc::c_uint) -> bool {
    // SAFETY: as in `close_rest`, which is the only caller.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

/// Elsewhere everything of the agent's own closes on executing.
#[cfg(not(target_os = "linux"))]
fn close_range(_: libc::c_uint, _: libc::c_uint) -> bool {
    true
}

/// Takes on the rights of a user, for good, and makes sure.
#[cfg(target_os = "linux")]
fn take_on(identity: &Identity) -> io::Result<()> {
    use rustix::{process, thread};

    // These are the system calls as they are. The functions of the C library would first call all
    // threads of the agent together, whose memory this may be.
    let Identity { uid, gid, groups } = identity;
    thread::set_thread_groups(groups)?;
    thread::set_thread_res_gid(*gid, *gid, *gid)?;
    thread::set_thread_res_uid(*uid, *uid, *uid)?;
    let users = [process::getuid(), process::geteuid()] == [*uid; 2];
    let groups = [process::getgid(), process::getegid()] == [*gid; 2];
    if users && groups { Ok(()) } else { Err(Errno::PERM) }
}

/// Takes on the rights of a user. Elsewhere they belong to processes, and this is one of its own.
#[cfg(not(target_os = "linux"))]
fn take_on(identity: &Identity) -> io::Result<()> {
    let Identity { uid, gid, groups } = identity;
    let count = libc::c_int::try_from(groups.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: a group is the same 32-bit number in both types, and there are `count` of them.
    let result = unsafe {
        match libc::setgroups(count as _, groups.as_ptr().cast()) {
            0 => match libc::setgid(gid.as_raw()) {
                0 => libc::setuid(uid.as_raw()),
                error => error,
            },
            error => error,
        }
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// Tries one program after the other, as `execvp` does, but never falls back to a shell for a file
/// that is not a program.
fn execute(plan: &ExecPlan) -> SpawnFailure {
    let mut best = SpawnFailure::execute(Errno::NOENT, 0, PathKind::Nothing);
    let mut told = false;
    for (index, program) in (0_u32..).zip(&plan.programs) {
        // SAFETY: the program ends with NUL, and both lists are as `execve` wants them as long as
        // the plan lives. That is until this process ends or is another program.
        unsafe { libc::execve(program.as_ptr(), plan.argv.as_ptr(), plan.env.as_ptr()) };
        let error = last_error();
        let report = SpawnFailure::execute(error, index, look(program));
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {
                // A file without its interpreter tells more than a missing file elsewhere.
                if !told && (index == 0 || report.path_kind() == PathKind::File) {
                    best = report;
                    told = report.path_kind() == PathKind::File;
                }
            }
            Errno::ACCESS if told => {}
            Errno::ACCESS => {
                best = report;
                told = true;
            }
            _ => return report,
        }
    }
    best
}

/// What is at this path, as this user sees it.
fn look(program: &CStr) -> PathKind {
    match rustix::fs::stat(program) {
        Err(_) => PathKind::Nothing,
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            PathKind::Directory
        }
        Ok(_) => PathKind::File,
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn without_close_range_no_descriptor_below_the_bound_is_left() {
        let null = std::fs::File::open("/dev/null").unwrap();
        // Without close-on-exec.
        let left: [OwnedFd; 8] = core::array::from_fn(|_| io::dup(&null).unwrap());
        let kept = left[3].as_fd();
        let bound = super::super::plan::descriptors();
        let highest = left.iter().map(|left| left.as_raw_fd().unsigned_abs()).max().unwrap();
        assert!(highest < bound, "{highest} of {bound}");
        // SAFETY: the child makes system calls and nothing else.
        let child = match unsafe { libc::fork() } {
            0 => {
                close_rest(3, Some(kept), bound, |_, _| false);
                let is_open = |number: libc::c_uint| {
                    // SAFETY: no pointers are involved.
                    unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_GETFD) != -1 }
                };
                let kept = kept.as_raw_fd().unsigned_abs();
                let others = (3..=bound).filter(|number| *number != kept && is_open(*number));
                let code = if is_open(kept) { others.count().min(100) } else { 101 };
                // SAFETY: ends this process without running anything of the parent's.
                unsafe { libc::_exit(i32::try_from(code).unwrap_or(102)) }
            }
            child => rustix::process::Pid::from_raw(child).unwrap(),
        };
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::waitpid(Some(child), options).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0), "so many are left, or the one to keep is not");
    }
}
