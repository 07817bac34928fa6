//! Starts one program without a terminal, and says exactly why when it cannot.
//!
//! The child is the leader of a session and a process group of its own, so that it has no terminal
//! to ask at and can be signalled with all that it starts. It gets an environment that was made for
//! it, three descriptors, default signals, and the limits that the agent was started with.
#![expect(unsafe_code, reason = "`pre_exec` runs our closure between fork and exec")]

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::COMMAND_LIMIT;
use rustix::process::{Pid, Resource, setrlimit, setsid};

use crate::system::environment;
use crate::system::harden;
use crate::system::user::User;

/// A program to start.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) argv: Vec<OsString>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) user: User,
    /// Whether something will be written to its standard input; otherwise it is `/dev/null`.
    pub(crate) stdin: bool,
}

/// A program that has been started. It must be waited for.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Added to the error numbers of steps before exec, so that they can be told from exec's own: the
/// only thing that comes back from a child that could not become the program is a number.
const CWD: i32 = 10_000;
const USER: i32 = 20_000;
const SETUP: i32 = 30_000;

/// How large the pipes are made, if the system lets us: fewer wake-ups for programs that say much.
const PIPE: usize = 256 * 1024;

/// Starts it.
pub(crate) fn spawn(program: &Program) -> Result<Child, Failure> {
    check(program)?;
    let Some((name, arguments)) = program.argv.split_first() else {
        return Err(Failure::new(Kind::EmptyCommand, "there is no command to run"));
    };
    let cwd = program.cwd.as_deref().unwrap_or(&program.user.home);
    let mut command = Command::new(find(name.as_bytes(), program)?);
    command.arg0(name).args(arguments).env_clear().envs(program.env.iter().map(|(n, v)| (n, v)));
    command.stdin(if program.stdin { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let steps = steps(program, cwd)?;
    // SAFETY: the closure makes system calls on memory that was prepared before the fork, and
    // allocates nothing.
    unsafe { command.pre_exec(steps) };
    let mut child = command.spawn().map_err(|error| explain(&error, name, cwd, &program.user))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(no_pid)?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK)
        .map_err(|error| exhausted("a process descriptor", error.into()))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Failure::new(Kind::Internal, "a child without its pipes"));
    };
    let (stdout, stderr) = (OwnedFd::from(stdout), OwnedFd::from(stderr));
    for pipe in [&stdout, &stderr] {
        // A pipe of the usual size does as well.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
    }
    let stdin = child.stdin.take().map(OwnedFd::from);
    Ok(Child { pid, pidfd, stdin, stdout, stderr })
}

fn no_pid() -> Failure {
    Failure::new(Kind::Internal, "a child without a process id")
}

fn check(program: &Program) -> Result<(), Failure> {
    if program.argv.first().is_none_or(|name| name.is_empty()) {
        return Err(Failure::new(Kind::EmptyCommand, "there is no command to run"));
    }
    if program.argv.iter().any(|argument| argument.as_bytes().contains(&0)) {
        return Err(Failure::new(Kind::InvalidArgument, "an argument contains a NUL"));
    }
    let arguments = program.argv.iter().map(|argument| argument.len() + 1);
    let variables = program.env.iter().map(|(name, value)| name.len() + value.len() + 2);
    let size: usize = arguments.chain(variables).sum();
    if size > COMMAND_LIMIT {
        let message = format!(
            "arguments and environment have {size} bytes, at most {COMMAND_LIMIT} are allowed"
        );
        return Err(Failure::new(Kind::TooLarge, message));
    }
    Ok(())
}

/// The file to execute. A name without a slash is looked for in the child's own PATH, not in ours.
fn find(name: &[u8], program: &Program) -> Result<PathBuf, Failure> {
    let path = Path::new(std::ffi::OsStr::from_bytes(name));
    if name.contains(&b'/') {
        return Ok(path.to_path_buf());
    }
    let directories = environment::value(&program.env, "PATH").unwrap_or_default();
    let mut refused = None;
    for directory in directories.split(|&byte| byte == b':').filter(|part| !part.is_empty()) {
        let candidate = Path::new(std::ffi::OsStr::from_bytes(directory)).join(path);
        match rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK) {
            Ok(()) if candidate.is_file() => return Ok(candidate),
            Err(rustix::io::Errno::ACCESS) => refused = Some(candidate),
            _ => {}
        }
    }
    refused.ok_or_else(|| {
        let message = format!("`{}`: no such program in PATH", shown(name));
        Failure::new(Kind::ExecFailed, message)
    })
}

/// What the child does before it becomes the program.
fn steps(
    program: &Program,
    cwd: &Path,
) -> Result<impl FnMut() -> io::Result<()> + Send + Sync + use<>, Failure> {
    let cwd = std::ffi::CString::new(cwd.as_os_str().as_bytes())
        .map_err(|_| Failure::new(Kind::InvalidArgument, "the working directory contains a NUL"))?;
    let default = program.cwd.is_none();
    let limits = harden::inherited();
    let become_user = rustix::process::geteuid().as_raw() != program.user.uid;
    let (uid, gid) = (program.user.uid, program.user.gid);
    let groups = if become_user { program.user.groups() } else { Vec::new() };
    Ok(move || {
        let failed = |base: i32| {
            let number = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            io::Error::from_raw_os_error(base + number)
        };
        let step = |base: i32, error: rustix::io::Errno| {
            io::Error::from_raw_os_error(base + error.raw_os_error())
        };
        setsid().map_err(|error| step(SETUP, error))?;
        // What the agent ignores, or was started ignoring, is not the program's business.
        for signal in 1..=31 {
            // SAFETY: resetting a disposition touches no memory; it fails for KILL and STOP alone.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // Others do not write what a program makes, unless it says so itself.
        // SAFETY: umask cannot fail and touches no memory.
        unsafe { libc::umask(libc::umask(0o777) | 0o022) };
        // Limits that cannot be restored are no reason not to start.
        let _ = setrlimit(Resource::Nofile, limits.files);
        let _ = setrlimit(Resource::Core, limits.core);
        // SAFETY: these calls read the vectors and strings above, which live in this closure.
        unsafe {
            // std has already reset the signal mask and SIGPIPE.
            if become_user
                && (libc::setgroups(groups.len(), groups.as_ptr()) != 0
                    || libc::setgid(gid) != 0
                    || libc::setuid(uid) != 0)
            {
                return Err(failed(USER));
            }
            if libc::chdir(cwd.as_ptr()) != 0 {
                let why = failed(CWD);
                // A user without a home works at the root, as after a login.
                if !default || libc::chdir(c"/".as_ptr()) != 0 {
                    return Err(why);
                }
            }
        }
        Ok(())
    })
}

fn explain(error: &io::Error, name: &OsString, cwd: &Path, user: &User) -> Failure {
    let number = error.raw_os_error().unwrap_or(0);
    let reason = |number: i32| io::Error::from_raw_os_error(number).to_string();
    if number > SETUP {
        return Failure::new(Kind::ExecFailed, format!("no session: {}", reason(number - SETUP)));
    }
    if number > USER {
        let message = format!("cannot become `{}`: {}", user.name, reason(number - USER));
        return Failure::new(Kind::UserNotAllowed, message);
    }
    if number > CWD {
        let message = format!("{}: {}", shown(cwd.as_os_str().as_bytes()), reason(number - CWD));
        return Failure::new(Kind::CwdNotFound, message);
    }
    match number {
        libc::EAGAIN => exhausted("processes", io::Error::from_raw_os_error(number)),
        libc::ENOMEM => exhausted("memory", io::Error::from_raw_os_error(number)),
        libc::EMFILE | libc::ENFILE => {
            exhausted("open files", io::Error::from_raw_os_error(number))
        }
        _ => Failure::new(Kind::ExecFailed, format!("`{}`: {error}", shown(name.as_bytes()))),
    }
}

fn exhausted(what: &str, error: io::Error) -> Failure {
    Failure::new(Kind::ResourceExhausted, format!("the server is out of {what}: {error}"))
}

fn shown(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests;
