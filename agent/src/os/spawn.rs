//! Starts one program, with pipes or on a terminal.
//!
//! ```text
//!     SpawnCommand ── plan ──> ExecPlan ── launch ──> a child, which carries out the plan (child.rs)
//!        │                                              │ and then is the program, or reports why not
//!        └── pipes                                      └─ report ──> Child, or Failure
//! ```
//!
//! # What the program finds
//!
//! - Exactly the arguments and the environment of the command.
//! - Descriptors 0, 1 and 2, and no other but the one that the command names.
//! - A session and a process group of its own, so nobody's signals, and no terminal but one that
//!   was made for it.
//! - Every signal unblocked and with its default effect, SIGPIPE too.
//! - The limits that the agent was started with.
//! - Umask 022, and, as far as the agent's rights go, the usual priority and the usual OOM score.
//! - Where a user is given, that user's rights and groups, and nothing of the agent's.
//!
//! It outlives whoever started it: no death signal is set.
//!
//! # Errors
//!
//! When [`spawn`] returns a child, the kernel has executed the program. What goes wrong before is a
//! [`Failure`], reported by the child itself when it already has the user's rights and directory;
//! it never looks like an exit code.
//!
//! Not here: waiting (`wait.rs`), signals (`group.rs`), making terminals (`pty.rs`).

use std::ffi::OsString;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::environment::Variable;
use super::pty::{self, Size};
use super::user::User;
use super::wait::{self, Leader};
use super::{clock, errno};

mod child;
mod launch;
mod plan;
mod report;

/// A program to start.
#[derive(Clone, Debug)]
pub(crate) struct SpawnCommand {
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of
    /// `env`.
    pub(crate) argv: Vec<OsString>,
    /// Where it starts. If absent: in the user's home, or in `/` where that cannot be entered;
    /// without a user where the agent is.
    pub(crate) cwd: Option<PathBuf>,
    /// The complete environment.
    pub(crate) env: Vec<Variable>,
    /// The user that it runs as; the agent's own if absent.
    pub(crate) user: Option<User>,
    /// What it can read.
    pub(crate) stdin: Stdin,
    /// Whether its standard input is a terminal that is to be its own.
    pub(crate) terminal: bool,
    /// A descriptor that it also gets, as number [`EXTRA`].
    pub(crate) extra: Option<Arc<OwnedFd>>,
}

/// The number of [`SpawnCommand::extra`] in the program.
pub(crate) const EXTRA: i32 = 3;

/// The standard input of a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stdin {
    /// What is written to [`Child::stdin`].
    Pipe,
    /// Nothing: reading it returns end of file.
    Null,
}

/// A program that has started.
#[derive(Debug)]
pub(crate) struct Child {
    /// The process.
    pub(crate) leader: Leader,
    /// Our end of its standard input. Like the others, it does not block.
    pub(crate) stdin: Option<OwnedFd>,
    /// Our end of its standard output.
    pub(crate) stdout: OwnedFd,
    /// Our end of its standard error.
    pub(crate) stderr: OwnedFd,
}

/// Starts a program, and returns when it has been executed.
///
/// That takes a fraction of a millisecond, unless the program lies on a slow disk: the calling
/// thread waits for that.
pub(crate) fn spawn(command: &SpawnCommand) -> Result<Child, Failure> {
    let pipes = Pipes::open(command.stdin).map_err(no_pipe)?;
    let leader = spawn_with(command, pipes.theirs())?;
    let Pipes { stdin, stdout, stderr, .. } = pipes;
    Ok(Child { leader, stdin, stdout, stderr })
}

/// Starts a program on a terminal of this size, and returns our end of it.
pub(crate) fn spawn_on_terminal(
    command: &SpawnCommand,
    size: Size,
) -> Result<(Leader, OwnedFd), Failure> {
    let owner = command.user.as_ref().map(|user| user.uid);
    let (master, slave) = pty::open(size, owner).map_err(no_terminal)?;
    let slave = aside(slave).map_err(no_terminal)?;
    let leader = spawn_with(command, [slave.as_fd(); 3])?;
    Ok((leader, master))
}

/// The same with these as standard input, output and error, none of which may have one of those
/// three numbers unless it is its own.
pub(crate) fn spawn_with(
    command: &SpawnCommand,
    stdio: [BorrowedFd<'_>; 3],
) -> Result<Leader, Failure> {
    wait::collect_abandoned();
    let plan = plan::ExecPlan::new(command)?;
    let started = clock::boottime();
    let launched = launch::launch(&plan, stdio).map_err(no_process)?;
    if let Some(report) = launched.report {
        // It is about to end, and has not become the program.
        wait::collect_now(launched.pid);
        return Err(report.failure(command, &plan));
    }
    Ok(Leader::new(launched.pid, started, launched.pidfd))
}

/// The three descriptors of the program, and our ends of them.
struct Pipes {
    /// Closed here when the program has its own copies.
    theirs: [OwnedFd; 3],
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Pipes {
    fn open(stdin: Stdin) -> Result<Self, Errno> {
        let (input, stdin) = match stdin {
            Stdin::Pipe => {
                let (read, write) = pipe()?;
                (read, Some(unblocking(write)?))
            }
            Stdin::Null => {
                let read = OFlags::RDONLY | OFlags::CLOEXEC;
                (rustix::fs::open(c"/dev/null", read, Mode::empty())?, None)
            }
        };
        let (stdout, output) = pipe()?;
        let (stderr, errors) = pipe()?;
        Ok(Self {
            theirs: [aside(input)?, aside(output)?, aside(errors)?],
            stdin,
            stdout: unblocking(stdout)?,
            stderr: unblocking(stderr)?,
        })
    }

    fn theirs(&self) -> [BorrowedFd<'_>; 3] {
        self.theirs.each_ref().map(OwnedFd::as_fd)
    }
}

/// The ends to read from and to write to. No other program inherits them.
fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    match std::io::pipe() {
        Ok((read, write)) => Ok((read.into(), write.into())),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::MFILE)),
    }
}

/// Our end must not block. Theirs must, which is why this is not a flag of the whole pipe.
fn unblocking(end: OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Ok(end)
}

/// A copy of a descriptor with a number that the program does not get, so that the child does not
/// overwrite one that it still needs.
fn aside(end: OwnedFd) -> Result<OwnedFd, Errno> {
    match end.as_raw_fd() {
        0..=EXTRA => rustix::io::fcntl_dupfd_cloexec(&end, EXTRA + 1),
        _ => Ok(end),
    }
}

fn no_pipe(error: Errno) -> Failure {
    exhausted("cannot open pipes for the program", error)
}

fn no_terminal(error: Errno) -> Failure {
    if matches!(error, Errno::NOSPC) {
        let text = "the system's limit of terminals is reached (kernel.pty.max)";
        return Failure::new(Kind::ResourceExhausted, text);
    }
    exhausted("cannot open a terminal for the program", error)
}

fn no_process(error: Errno) -> Failure {
    exhausted("cannot start another process", error)
}

/// A failure that names what has run out.
fn exhausted(what: &str, error: Errno) -> Failure {
    let (kind, missing) = match error {
        Errno::AGAIN => (Kind::ResourceExhausted, "the limit of processes is reached"),
        Errno::NOMEM => (Kind::ResourceExhausted, "no memory is left"),
        Errno::MFILE => (Kind::ResourceExhausted, "the agent's limit of open files is reached"),
        Errno::NFILE => (Kind::ResourceExhausted, "the system's limit of open files is reached"),
        other => return Failure::new(Kind::Internal, format!("{what}: {}", errno::words(other))),
    };
    Failure::new(kind, format!("{what}: {missing} ({})", errno::name(error)))
}

#[cfg(test)]
mod tests;
