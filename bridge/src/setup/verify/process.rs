//! A short-lived server process: its lines, its last error output, its end.
//!
//! Three threads wait, one each for standard output, standard error and the end of the process, and
//! report to the caller through one channel of [`QUEUE`] places. A full channel makes them wait,
//! and so the process. They end when the process does, which [`Process::end`] ensures.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use farwire_protocol::failure::Kind;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{Launch, Problem, printable};
use crate::text::signal;

/// What [`Process::hear`] can return.
#[derive(Debug)]
pub(crate) enum Said {
    /// A line that is not blank.
    Line(Vec<u8>),
    /// A line that is longer than any valid answer.
    TooLong,
    /// Nothing until the deadline.
    Nothing,
    /// The end of standard output, and how the process ended, if it did.
    End(Option<String>),
}

/// A process that has been started.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Pid,
    stdin: Option<ChildStdin>,
    events: Receiver<ProcessEvent>,
    stderr: VecDeque<u8>,
    stdout_open: bool,
    stderr_open: bool,
    /// When and how it ended.
    exit: Option<(Instant, String)>,
    reaped: bool,
}

#[derive(Debug)]
enum ProcessEvent {
    Line(Vec<u8>),
    TooLong,
    StdoutEnd,
    Stderr(Vec<u8>),
    StderrEnd,
    Exited(String),
}

impl Process {
    /// Starts it in its own process group.
    pub(crate) fn start(launch: &Launch) -> Result<Self, Problem> {
        let mut command = Command::new(&launch.command);
        command.args(&launch.args).env_clear().envs(&launch.env).current_dir(&launch.cwd);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| not_started(launch, &error))?;
        let group = Pid::from_child(&child);
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (sender, events) = sync_channel(QUEUE);
        let process = Self {
            child,
            group,
            stdin,
            events,
            stderr: VecDeque::new(),
            stdout_open: true,
            stderr_open: true,
            exit: None,
            reaped: false,
        };
        // The threads are not joined: a grandchild that has left the group can hold a pipe open for
        // longer than anybody wants to wait. A thread that still waits then ends with our process.
        let senders = (sender.clone(), sender.clone(), sender);
        let threads = [
            thread::Builder::new()
                .spawn(move || stdout.map(|stdout| read_lines(stdout, &senders.0)))
                .is_ok(),
            thread::Builder::new()
                .spawn(move || stderr.map(|stderr| read_tail(stderr, &senders.1)))
                .is_ok(),
            thread::Builder::new().spawn(move || await_exit(group, &senders.2)).is_ok(),
        ];
        if threads.contains(&false) {
            return Err(Problem::new(Kind::ResourceExhausted, "no thread can be started"));
        }
        Ok(process)
    }

    /// Writes to its standard input. Our messages fit into a pipe, so this never waits.
    pub(crate) fn say(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            // If it has stopped reading, it will not answer, and that is what is reported.
            let _ = stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush());
        }
    }

    /// Its next line or event, until `deadline`.
    pub(crate) fn hear(&mut self, deadline: Instant) -> Said {
        while self.stdout_open {
            // A child process that it has left behind may hold its output open forever.
            let until =
                self.exit.as_ref().map_or(deadline, |(ended, _)| deadline.min(*ended + GRACE));
            match self.event(until) {
                Some(ProcessEvent::Line(line)) => return Said::Line(line),
                Some(ProcessEvent::TooLong) => return Said::TooLong,
                Some(_) => {}
                None if self.exit.is_some() => break,
                None => return Said::Nothing,
            }
        }
        self.await_end(deadline.min(Instant::now() + GRACE));
        Said::End(self.exit.as_ref().map(|(_, how)| how.clone()))
    }

    /// Ends it, gracefully at first, and returns the last that it wrote to standard error.
    pub(crate) fn end(mut self) -> Option<String> {
        self.stdin = None;
        self.await_end(Instant::now() + GRACE);
        self.kill();
        self.await_end(Instant::now() + GRACE);
        let bytes: Vec<u8> = std::mem::take(&mut self.stderr).into();
        let text = printable(&String::from_utf8_lossy(&bytes));
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Receives events until the process has ended and its last error output has arrived.
    fn await_end(&mut self, until: Instant) {
        while (self.exit.is_none() || self.stderr_open) && self.event(until).is_some() {}
    }

    fn event(&mut self, until: Instant) -> Option<ProcessEvent> {
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let event = match self.events.recv_timeout(left) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        match &event {
            ProcessEvent::StdoutEnd => self.stdout_open = false,
            ProcessEvent::StderrEnd => self.stderr_open = false,
            ProcessEvent::Exited(how) => self.exit = Some((Instant::now(), how.clone())),
            ProcessEvent::Stderr(bytes) => {
                self.stderr.extend(bytes);
                let excess = self.stderr.len().saturating_sub(STDERR_LIMIT);
                self.stderr.drain(..excess);
            }
            ProcessEvent::Line(_) | ProcessEvent::TooLong => {}
        }
        Some(event)
    }

    fn kill(&mut self) {
        if self.reaped {
            return;
        }
        self.reaped = true;
        // The process has not been waited for yet, so its pid is still its own. An error means that
        // nobody is left in the group.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn not_started(launch: &Launch, error: &io::Error) -> Problem {
    let command = Path::new(&launch.command);
    let named = printable(&launch.command);
    let message = match error.kind() {
        io::ErrorKind::NotFound if !launch.cwd.is_dir() => {
            format!("the directory `{}` does not exist", launch.cwd.display())
        }
        io::ErrorKind::NotFound if !named.contains('/') => {
            format!("`{named}` is not on the client's PATH")
        }
        io::ErrorKind::NotFound if !launch.cwd.join(command).exists() => {
            format!("`{named}` does not exist")
        }
        io::ErrorKind::PermissionDenied => format!("`{named}` is not executable"),
        _ => format!("`{named}` cannot be started: {error}"),
    };
    Problem::new(Kind::ExecFailed, message)
}

fn read_lines(stdout: impl Read, sender: &SyncSender<ProcessEvent>) {
    let mut stdout = BufReader::new(stdout);
    let end = loop {
        let mut line = Vec::new();
        match stdout.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break ProcessEvent::StdoutEnd,
            Ok(length) if length as u64 == LINE_LIMIT => break ProcessEvent::TooLong,
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) if sender.send(ProcessEvent::Line(line)).is_err() => return,
            Ok(_) => {}
        }
    };
    // Nobody listens any more when the check is over.
    let _ = sender.send(end);
}

fn read_tail(mut stderr: impl Read, sender: &SyncSender<ProcessEvent>) {
    let mut buffer = [0; STDERR_LIMIT];
    while let Ok(length @ 1..) = stderr.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        if sender.send(ProcessEvent::Stderr(bytes)).is_err() {
            return;
        }
    }
    // As above.
    let _ = sender.send(ProcessEvent::StderrEnd);
}

/// Waits for the end without reaping the process: its pid must stay taken until the group has been
/// killed.
fn await_exit(pid: Pid, sender: &SyncSender<ProcessEvent>) {
    let status = loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(status) => break status,
            Err(_) => break None,
        }
    };
    let code = status.as_ref().and_then(|status| status.exit_status());
    let signal = status.as_ref().and_then(|status| status.terminating_signal());
    let how = match (code, signal) {
        (Some(code), _) => format!("it ended with exit status {code}"),
        (_, Some(number)) => format!("it was ended by signal {}", signal::name(number)),
        _ => "it ended".to_owned(),
    };
    // As above.
    let _ = sender.send(ProcessEvent::Exited(how));
}

/// How many events may wait; a process that writes faster than we read waits, too.
const QUEUE: usize = 64;

/// The longest line: the list of all our tools has a hundredth of this.
const LINE_LIMIT: u64 = 4 << 20;

/// The end of standard error, which holds the reason for a failed start.
const STDERR_LIMIT: usize = 4096;

/// How long a process may take to end.
const GRACE: Duration = Duration::from_secs(1);
