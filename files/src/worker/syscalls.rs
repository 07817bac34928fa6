//! Refuses system calls that a worker never makes (seccomp).
//!
//! Landlock controls what is opened, and much else can be done by path: changing modes and owners,
//! connecting to sockets. The worker does such things through descriptors that it has opened, and
//! needs no calls by path, no socket, no program and no other process. Calls that are not listed
//! are allowed: a C library that uses another call for the same purpose must keep working.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

/// Refused whatever the arguments are.
const NEVER: &[c_long] = &[
    // A process that can talk to others can have them act for it.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    // By path, without a check by Landlock.
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_truncate,
    libc::SYS_open_by_handle_at,
    libc::SYS_acct,
    libc::SYS_quotactl,
    // We never create links or special files.
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mknodat,
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_kcmp,
    // Another view of the system.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Large parts of the kernel that nothing here needs.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_personality,
];

/// Older calls, which newer architectures lack.
#[cfg(target_arch = "x86_64")]
const NEVER_OLD: &[c_long] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mknod,
    libc::SYS_fork,
    libc::SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_OLD: &[c_long] = &[];

/// Calls from this number on are newer than this list, or belong to another calling convention
/// (x32). They fail as if they did not exist.
const UNKNOWN: u32 = 463;

/// A filter cannot see its arguments. If it does not exist, the C library uses `clone`.
const CLONE3: u32 = 435;

/// Why there is no filter.
#[derive(Debug)]
pub(super) enum Unfiltered {
    /// The kernel or the architecture does not support filters.
    Unknown,
    /// The filter could not be built or installed.
    Failed(Error),
}

/// Installs the filter in all threads of this process.
pub(super) fn refuse() -> Result<(), Unfiltered> {
    apply(seccompiler::apply_filter_all_threads)
}

fn apply(one: impl Fn(&[sock_filter]) -> Result<(), Error>) -> Result<(), Unfiltered> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| Unfiltered::Unknown)?;
    let failed = |error: BackendError| Unfiltered::Failed(Error::Backend(error));
    let never = never(arch).map_err(failed)?;
    // If the first filter was installed, the second must be too.
    for program in [&absent()[..], &never] {
        one(program).map_err(|error| match error {
            Error::Seccomp(why)
                if matches!(why.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
            {
                Unfiltered::Unknown
            }
            error => Unfiltered::Failed(error),
        })?;
    }
    Ok(())
}

fn never(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{MaskedEq, Ne};
    let when = |argument, length, operator, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])
    };
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        NEVER.iter().chain(NEVER_OLD).map(|&call| (call, Vec::new())).collect();
    // Without a path it is about the descriptor.
    rules.insert(libc::SYS_utimensat, vec![when(1, Qword, Ne, 0)?]);
    let own = u64::from(std::process::id());
    for call in [libc::SYS_tgkill, libc::SYS_rt_tgsigqueueinfo] {
        rules.insert(call, vec![when(0, Dword, Ne, own)?]);
    }
    // Threads are allowed, and processes are not: each would have limits of its own.
    let threads = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, vec![when(0, Qword, MaskedEq(threads), 0)?]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

/// A filter that makes unknown calls fail as if they did not exist.
fn absent() -> [sock_filter; 5] {
    // The number of the call is the first field that a filter sees: seccomp(2).
    let step = |code: u32, yes, no, k| sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: yes,
        jf: no,
        k,
    };
    let give = libc::BPF_RET | libc::BPF_K;
    let compare = libc::BPF_JMP | libc::BPF_K;
    [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(compare | libc::BPF_JGE, 1, 0, UNKNOWN),
        step(compare | libc::BPF_JEQ, 0, 1, CLONE3),
        step(give, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs::{File, Permissions};
    use std::io::ErrorKind::PermissionDenied;
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use rustix::fs::{AtFlags, CWD, Mode, Timestamps, XattrFlags};
    use rustix::io::Errno;

    use super::*;

    /// Runs a test in a filtered thread. Other threads are not affected.
    fn filtered<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(|| {
            apply(seccompiler::apply_filter).expect("this kernel has filters");
            test()
        });
        thread.join().expect("it ends well")
    }

    const NOW: Timestamps = Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
    };

    #[test]
    fn what_is_done_by_path_is_refused_and_by_descriptor_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut file = File::create(&path).unwrap();
        filtered(move || {
            let mode = Permissions::from_mode(0o600);
            assert_eq!(std::fs::set_permissions(&path, mode).unwrap_err().kind(), PermissionDenied);
            let owned = rustix::fs::chownat(CWD, &path, None, None, AtFlags::empty());
            assert_eq!(owned, Err(Errno::PERM));
            let named = rustix::fs::setxattr(&path, "user.a", b"", XattrFlags::empty());
            assert_eq!(named, Err(Errno::PERM));
            let timed = rustix::fs::utimensat(CWD, &path, &NOW, AtFlags::empty());
            assert_eq!(timed, Err(Errno::PERM));
            assert_eq!(rustix::fs::symlinkat("a", CWD, dir.path().join("b")), Err(Errno::PERM));

            rustix::fs::fchmod(&file, Mode::RUSR).unwrap();
            rustix::fs::fchown(&file, None, None).unwrap();
            rustix::fs::futimens(&file, &NOW).unwrap();
            file.write_all(b"x").unwrap();
            std::fs::rename(&path, dir.path().join("c")).unwrap();
        });
    }

    #[test]
    fn nothing_else_is_reached_or_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        filtered(move || {
            assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), PermissionDenied);
            let udp = std::net::UdpSocket::bind("127.0.0.1:0");
            assert_eq!(udp.unwrap_err().kind(), PermissionDenied);
            assert_eq!(Command::new("true").status().unwrap_err().kind(), PermissionDenied);
            let parent = rustix::process::getppid().expect("it has one");
            assert_eq!(rustix::process::test_kill_process(parent), Err(Errno::PERM));
            assert_eq!(std::thread::spawn(|| 1).join().unwrap(), 1, "threads are");
        });
    }
}
