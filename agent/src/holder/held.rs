//! One job as its holder has it: starts its program, reads its output, stops it, waits for its end.
//!
//! # Invariants
//!
//! - The exit is what the kernel said, or there is none.
//! - The leader is collected after the last signal for its group, so that no signal can hit a
//!   stranger that was given the same number.
//! - The end is told when the leader has ended and what was in the pipes after that has been read. What
//!   children in the background write later goes into the log, and holds nothing up.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Exit, Reason, STDERR, STDOUT};
use rustix::io::Errno;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, sleep_until};

use super::message::{End, Held as Shown, Report};
use super::{Agent, micros};
use crate::os::clock;
use crate::os::group::census::census;
use crate::os::input::Input;
use crate::os::pty::Size;
use crate::os::spawn::{Command, spawn, spawn_on_terminal};
use crate::os::thread::{Fault, on_thread};
use crate::os::wait::Leader;
use crate::pace::Pace;
use crate::spool::{Memory, SpoolWriter};

/// How much is read from a pipe at once.
const READ: usize = 128 << 10;

/// A terminal that gives so much at once has more, and is asked so often before others have their turn.
const PAGE: u64 = 2 << 10;
const BURST: usize = 16;

/// What is left in a pipe at the end is read in pieces of this size.
const REST: usize = 16 << 10;

/// How large the pipes are made, if the system lets us: fewer wake-ups for programs that say much.
const PIPE: usize = 256 << 10;

/// A program that ends at once is told of with one wake-up of the agent: that it has started is said
/// so much later, unless it has input to be given.
const COMPANY: Duration = Duration::from_millis(2);

/// Between INT, TERM and KILL of a stop.
const GRACE: Duration = Duration::from_secs(5);

/// How long pipes may stay open after the end of the program without anybody's saying anything,
/// before nobody reads them any more.
const LINGER: Duration = Duration::from_secs(24 * 3600);

/// What a stop sends, one after the other.
const LADDER: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGKILL];

/// The same for what has a terminal: shells ignore INT and TERM, and pass on HUP.
const HANGUP: [i32; 3] = [libc::SIGHUP, libc::SIGTERM, libc::SIGKILL];

/// How long the rest of what was written to a terminal may take to come through, after its end.
const FLUSH: Duration = Duration::from_millis(500);

/// What the agent tells the task of a job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Stop(Option<i32>),
    CloseInput,
    /// How much is kept of what it says, and how much it may say in a second.
    Bound {
        kept: Option<u64>,
        rate: Option<u64>,
    },
    /// Nothing but that the log may have room again.
    Unblock,
}

/// What there is to do.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) command: Command,
    /// The size of its terminal, if it has one.
    pub(super) size: Option<Size>,
    /// All of its standard input, if that came with the request.
    pub(super) input: Option<Vec<u8>>,
    pub(super) timeout: Option<Duration>,
    /// What every process of the job has in its environment.
    pub(super) mark: String,
    pub(super) writer: SpoolWriter,
    /// It says so many bytes in a second at most.
    pub(super) rate: Option<u64>,
    pub(super) told: Receiver<Told>,
}

/// A job that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: Nonce,
    pub(super) memory: Arc<Memory>,
    pub(super) told: Sender<Told>,
    status: Mutex<Status>,
}

#[derive(Debug)]
struct Status {
    shown: Shown,
    /// Our copy of its standard input, for the agent after this one: without it the program would
    /// take the end of the agent for the end of its input.
    stdin: Option<OwnedFd>,
}

impl Held {
    pub(super) fn new(
        id: Nonce,
        note: farwire_protocol::cbor::Blob,
        memory: Arc<Memory>,
        told: Sender<Told>,
    ) -> Self {
        let (pid, at, end, failure, finished) = (0, 0, None, None, false);
        let shown = Shown { job: id, note, pid, at, end, failure, finished };
        Self { id, memory, told, status: Mutex::new(Status { shown, stdin: None }) }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().expect("nothing panics while it is held")
    }

    pub(super) fn note(&self, note: farwire_protocol::cbor::Blob) {
        self.status().shown.note = note;
    }

    /// Tells an agent that has just come all about it.
    pub(super) fn show(&self, agent: &Agent) {
        let status = self.status();
        let memory = self.memory.file();
        let mut descriptors: Vec<_> = memory.iter().map(|memory| memory.as_fd()).collect();
        descriptors.extend(status.stdin.as_ref().map(OwnedFd::as_fd));
        agent.report(&Report::Held(status.shown.clone()), &descriptors);
    }

    /// Carries the job out, from its start to the last byte of its output.
    pub(super) async fn run(self: Arc<Self>, agent: Arc<Agent>, work: Work) {
        let mark = work.mark.clone();
        let mut running = match self.start(&agent, work).await {
            Ok(running) => running,
            Err(failure) => return self.failed(&agent, failure),
        };
        let exit = running.until_exit().await;
        // What is left is no flood.
        running.rate = None;
        running.announce();
        let escaped = running.settle(&mark).await;
        running.drain().await;
        let exit = match exit {
            Ok(exit) => exit,
            Err(failure) => return self.failed(&agent, failure),
        };
        let output_end = running.writer.end();
        let at = micros(clock::boottime());
        let end = End { exit, reason: running.reason, output_end, escaped, at };
        {
            let mut status = self.status();
            status.stdin = None;
            status.shown.end = Some(end.clone());
        }
        agent.report(&Report::Ended { job: self.id, end }, &[]);
        running.until_silent().await;
        running.writer.finish();
        self.finished(&agent);
    }

    fn finished(&self, agent: &Agent) {
        self.status().shown.finished = true;
        agent.report(&Report::Finished(self.id), &[]);
    }

    fn failed(&self, agent: &Agent, failure: Failure) {
        {
            let mut status = self.status();
            status.stdin = None;
            status.shown.failure = Some(failure.clone());
        }
        agent.report(&Report::Failed { job: self.id, failure }, &[]);
        self.finished(agent);
    }

    async fn start<'a>(&'a self, agent: &'a Agent, work: Work) -> Result<Running<'a>, Failure> {
        let Work { command, size, input, timeout, writer, rate, told, .. } = work;
        // Its directory or its file may lie where nothing answers: the other programs go on meanwhile.
        let spawned = on_thread(move || match size {
            Some(size) => {
                let (leader, master) = spawn_on_terminal(&command, size)?;
                Ok((leader, (None, master, None)))
            }
            None => {
                let child = spawn(&command)?;
                Ok::<_, Failure>((child.leader, (child.stdin, child.stdout, Some(child.stderr))))
            }
        });
        let (leader, ends) = spawned.await.map_err(not_spawned)??;
        // It runs from here on.
        let ends = Ends::attend(ends, input).map_err(|error| abandoned(&leader, &error))?;
        let Ends { stdin, feed, stdout, stderr } = ends;
        let mut running = Running {
            held: self,
            agent,
            writer,
            rate,
            pace: Pace::default(),
            told,
            leader: Arc::new(leader),
            terminal: size.is_some(),
            feed,
            stdout: Some(stdout),
            stderr,
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            ladder: None,
            all: false,
            reason: None,
            announce: Some(Instant::now() + COMPANY),
        };
        let (pid, at) = (running.leader.pid(), micros(clock::boottime()));
        let mut status = self.status();
        (status.shown.pid, status.shown.at) = (pid, at);
        status.stdin = stdin;
        let waited_for = status.stdin.is_some();
        drop(status);
        if waited_for {
            running.announce();
        }
        running.feed();
        Ok(running)
    }
}

/// Our ends of a program's pipes, watched by the runtime.
struct Ends {
    /// What the agent writes to.
    stdin: Option<OwnedFd>,
    /// Input that came with the request.
    feed: Option<Feed>,
    stdout: pipe::Receiver,
    stderr: Option<pipe::Receiver>,
}

impl Ends {
    /// Takes our ends of standard input, output and error: of a terminal only the second, which is all three.
    fn attend(
        (stdin, stdout, stderr): (Option<OwnedFd>, OwnedFd, Option<OwnedFd>),
        input: Option<Vec<u8>>,
    ) -> io::Result<Self> {
        let stdin = match &stderr {
            Some(_) => stdin,
            None => Some(stdout.try_clone()?),
        };
        // Input that came with the request is ours to write, and the agent gets no way to end it.
        let (stdin, feed) = match input {
            Some(bytes) => (None, stdin.map(|pipe| Feed::new(pipe, bytes)).transpose()?),
            None => (stdin, None),
        };
        let (stdout, stderr) = (output(stdout)?, stderr.map(output).transpose()?);
        Ok(Self { stdin, feed, stdout, stderr })
    }
}

/// What is said of a program whose thread is not there.
fn not_spawned(fault: Fault) -> Failure {
    match fault {
        Fault::NoThread(error) => {
            let text = format!("cannot start another process: no thread can be started: {error}");
            Failure::new(Kind::ResourceExhausted, text)
        }
        Fault::Died => Failure::new(Kind::OutcomeUnknown, "the thread that starts it has died"),
    }
}

/// Ends a program that has been started and cannot be attended to. It may have done something: that is said, and
/// never that it was not started.
fn abandoned(leader: &Leader, error: &io::Error) -> Failure {
    let killed = match leader.signal_group(libc::SIGKILL) {
        Ok(()) => "it was killed",
        Err(failure) if failure.kind == Kind::AlreadyEnded => "it had ended",
        Err(_) => "it may go on",
    };
    let text =
        format!("the program was started, and its output could not be read ({error}); {killed}");
    Failure::new(Kind::OutcomeUnknown, text)
        .with_hint("look whether it has done something before you run it again")
}

/// A program that runs, with its pipes.
struct Running<'a> {
    held: &'a Held,
    agent: &'a Agent,
    writer: SpoolWriter,
    rate: Option<u64>,
    pace: Pace,
    told: Receiver<Told>,
    leader: Arc<Leader>,
    /// Whether `stdout` is the master of a terminal.
    terminal: bool,
    /// What is left of the input that came with the request.
    feed: Option<Feed>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    deadline: Option<Instant>,
    /// The next rung of the ladder, and when.
    ladder: Option<(usize, Instant)>,
    /// Whether all of the group has to end with the leader.
    all: bool,
    reason: Option<Reason>,
    /// When to say that it has started, as long as nobody has been told.
    announce: Option<Instant>,
}

impl Running<'_> {
    /// Says that it has started.
    fn announce(&mut self) {
        if self.announce.take().is_none() {
            return;
        }
        let status = self.held.status();
        let stdin: Vec<_> = status.stdin.as_ref().map(OwnedFd::as_fd).into_iter().collect();
        let Shown { job, pid, at, .. } = status.shown;
        self.agent.report(&Report::Started { job, pid, at }, &stdin);
    }

    async fn until_exit(&mut self) -> Result<Exit, Failure> {
        let leader = self.leader.clone();
        let mut exit = std::pin::pin!(leader.exited());
        loop {
            let early = self.early();
            let room = early.is_none() && self.writer.has_room();
            tokio::select! {
                // What we are told first, so that a program that never stops talking can be stopped;
                // its end last, so that its last words come before it.
                biased;
                Some(told) = self.told.recv() => self.obey(told),
                () = at(self.deadline) => self.time_out(),
                () = at(self.ladder.map(|rung| rung.1)) => self.climb(),
                () = at(self.announce) => self.announce(),
                () = at(early) => {}
                () = wanted(self.feed.as_ref()) => self.feed(),
                () = readable(self.stdout.as_ref(), self.stderr.as_ref()), if room => {
                    self.read_some();
                    // Others have their turn beside a program that never stops talking.
                    tokio::task::yield_now().await;
                }
                exit = &mut exit => return exit,
            }
        }
    }

    /// Writes what the program's pipe takes of its input, and closes it after the last byte. A program
    /// that wants no more gets none.
    fn feed(&mut self) {
        if let Some(feed) = &mut self.feed
            && feed.write()
        {
            self.feed = None;
        }
    }

    fn obey(&mut self, told: Told) {
        match told {
            Told::Stop(signal) => self.stop(signal),
            Told::CloseInput => self.held.status().stdin = None,
            Told::Bound { kept, rate } => {
                self.writer.keep(kept);
                self.rate = rate;
            }
            Told::Unblock => {}
        }
    }

    fn stop(&mut self, signal: Option<i32>) {
        self.reason.get_or_insert(Reason::Stopped);
        match signal {
            Some(signal) => self.send(signal),
            None if self.ladder.is_none() => {
                self.all = true;
                self.ladder = Some((0, Instant::now()));
                self.climb();
            }
            None => {}
        }
    }

    fn time_out(&mut self) {
        self.deadline = None;
        self.all = true;
        self.reason = Some(Reason::Timeout);
        self.send(libc::SIGKILL);
    }

    fn climb(&mut self) {
        let Some((rung, _)) = self.ladder else { return };
        let ladder = if self.terminal { HANGUP } else { LADDER };
        if let Some(&signal) = ladder.get(rung) {
            self.send(signal);
        }
        self.ladder = (rung + 1 < ladder.len()).then(|| (rung + 1, Instant::now() + GRACE));
    }

    fn send(&self, signal: i32) {
        match self.leader.signal_group(signal) {
            Err(failure) if failure.kind != Kind::AlreadyEnded => {
                tracing::warn!(%failure, "a program could not be signalled");
            }
            _ => {}
        }
    }

    /// Deals with the rest of the group, now that the leader has ended, and lets go of its number.
    /// Gives how many processes have left the group and live on.
    async fn settle(&self, mark: &str) -> u32 {
        let mut escaped = 0;
        if self.all {
            // Whoever asked for the end of it meant all of it: what the leader has left behind in
            // its group goes with it. What has left the group is counted, and told.
            self.send(libc::SIGKILL);
            let (leader, mark) = (self.leader.clone(), mark.to_owned());
            let counted = on_thread(move || census(&leader, Some(&mark))).await;
            escaped = counted.map_or(0, |census| census.escaped);
        }
        self.leader.reap();
        escaped
    }

    /// When it may say more, if it has said as much as it may.
    fn early(&self) -> Option<Instant> {
        let (rate, now) = (self.rate?, clock::boottime());
        let early = self.pace.room(rate, 1, now) == 0;
        early.then(|| Instant::now() + self.pace.next().saturating_sub(now))
    }

    /// How much is read at once.
    fn most(&self) -> usize {
        self.rate.map_or(READ, |rate| self.pace.room(rate, READ, clock::boottime()).max(1))
    }

    /// Reads what is there, both streams in turn, so that neither starves.
    fn read_some(&mut self) {
        let before = self.writer.end();
        for _ in 0..BURST {
            let (at, most) = (self.writer.end(), self.most());
            read(&mut self.stdout, STDOUT, most, &mut self.writer);
            read(&mut self.stderr, STDERR, most, &mut self.writer);
            // A terminal gives a page at a time, and has more where it gave most of one.
            let more = self.terminal && self.rate.is_none() && self.writer.end() - at >= PAGE;
            if !more || !self.writer.has_room() {
                break;
            }
        }
        if let Some(rate) = self.rate {
            let said = usize::try_from(self.writer.end() - before).unwrap_or(usize::MAX);
            self.pace.went(rate, said, clock::boottime());
        }
        self.tell(before);
    }

    fn tell(&mut self, before: u64) {
        if self.writer.end() > before && self.held.memory.must_tell() {
            self.announce();
            self.agent.report(&Report::Grown(self.held.id), &[]);
        }
    }

    /// Reads what was written before the end of the program.
    ///
    /// The pipes themselves are asked: the runtime may not have heard yet that there is something in
    /// them when it already knows that the program has ended.
    ///
    /// A terminal has its own way: the kernel passes on what was written after a moment, and says that
    /// that was all once nobody has it open. That is so when its session has lost its leader.
    async fn drain(&mut self) {
        if self.terminal {
            let rest = async {
                while self.stdout.is_some() {
                    ready(self.stdout.as_ref()).await;
                    self.read_some();
                }
            };
            // Somebody may keep it open all the same; what that says is read later.
            let _ = tokio::time::timeout(FLUSH, rest).await;
            return;
        }
        drain(self.stdout.as_ref(), STDOUT, &mut self.writer);
        drain(self.stderr.as_ref(), STDERR, &mut self.writer);
    }

    /// Goes on reading for children that hold the pipes, so that they do not die of writing.
    async fn until_silent(&mut self) {
        let mut silent = Instant::now() + LINGER;
        while self.stdout.is_some() || self.stderr.is_some() {
            let room = self.writer.has_room();
            tokio::select! {
                Some(_) = self.told.recv() => {}
                () = sleep_until(silent) => return,
                () = wanted(self.feed.as_ref()) => self.feed(),
                () = readable(self.stdout.as_ref(), self.stderr.as_ref()), if room => {
                    silent = Instant::now() + LINGER;
                    self.read_some();
                }
            }
        }
    }
}

/// Input that came with the request. It usually fits the pipe at once.
#[derive(Debug)]
struct Feed {
    pipe: Input,
    bytes: Vec<u8>,
    at: usize,
}

impl Feed {
    fn new(pipe: OwnedFd, bytes: Vec<u8>) -> io::Result<Self> {
        Ok(Self { pipe: Input::new(pipe)?, bytes, at: 0 })
    }

    /// Writes what there is room for. Returns whether that was all, or nobody reads it.
    fn write(&mut self) -> bool {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                return true;
            }
            match self.pipe.try_write(rest) {
                Ok(taken) => self.at += taken,
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Waits until there is room for input, if there is some to be written.
async fn wanted(feed: Option<&Feed>) {
    match feed {
        // An error shows at the next write.
        Some(feed) => drop(feed.pipe.writable().await),
        None => std::future::pending().await,
    }
}

/// A pipe to read from, as large as the system lets us have it.
fn output(pipe: OwnedFd) -> io::Result<pipe::Receiver> {
    // A pipe of the usual size does as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE);
    pipe::Receiver::from_owned_fd_unchecked(pipe)
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Waits until one of the pipes has something to say.
async fn readable(stdout: Option<&pipe::Receiver>, stderr: Option<&pipe::Receiver>) {
    tokio::select! {
        () = ready(stdout) => {}
        () = ready(stderr) => {}
    }
}

async fn ready(pipe: Option<&pipe::Receiver>) {
    match pipe {
        // An error shows at the next read.
        Some(pipe) => drop(pipe.readable().await),
        None => std::future::pending().await,
    }
}

/// Reads once, if there is anything. Forgets the pipe at its end.
fn read(pipe: &mut Option<pipe::Receiver>, stream: u8, most: usize, writer: &mut SpoolWriter) {
    let Some(open) = pipe else { return };
    match past_hangup(|| writer.append(stream, most, |slot| open.try_read(slot))) {
        Ok(0) => *pipe = None,
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => *pipe = None,
    }
}

/// Reads, and once more where a terminal says that nobody has it open any more.
///
/// Linux looks for output first, and then whether the other side is closed (`n_tty_read`). What was written, and
/// closed, between the two is lost to whoever takes that for the end; the second time all of it is there to be
/// found.
fn past_hangup(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    match read() {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => read(),
        other => other,
    }
}

/// Reads what is in the pipe now, and no more: whoever still writes to it could go on for ever.
fn drain(pipe: Option<&pipe::Receiver>, stream: u8, writer: &mut SpoolWriter) {
    let Some(pipe) = pipe else { return };
    let mut rest = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
    while rest > 0 {
        match writer.append(stream, REST, |slot| Ok(rustix::io::read(pipe, slot)?)) {
            Ok(count @ 1..) => rest = rest.saturating_sub(count as u64),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INTR) => {}
            // Its end, or nothing after all, is seen by whoever reads on.
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::spawn::Stdin;

    #[tokio::test]
    async fn a_program_that_cannot_be_attended_to_is_killed_and_said_to_have_been_started() {
        let command = Command {
            argv: ["/bin/sleep", "600"].map(Into::into).into(),
            cwd: Some("/".into()),
            env: Vec::new(),
            user: None,
            stdin: Stdin::Null,
            terminal: false,
            extra: None,
        };
        let child = spawn(&command).unwrap();
        // A file, which no runtime can wait for.
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let ends = Ends::attend((None, file, Some(child.stderr)), None);
        let failure = ends.map(drop).map_err(|error| abandoned(&child.leader, &error)).unwrap_err();
        assert_eq!(failure.kind, Kind::OutcomeUnknown, "{failure}");
        assert!(failure.message.contains("was started") && failure.message.contains("killed"));
        assert_eq!(child.leader.exited().await.unwrap(), Exit::Signal(9));
    }

    /// The last line of a program that ended at once after it was missing on a busy machine.
    #[test]
    fn what_was_written_just_before_a_terminal_was_closed_is_read() {
        let closed = || Err(Errno::IO.into());
        let mut says = [closed(), Ok(11), closed(), closed()].into_iter();
        let mut read = || past_hangup(|| says.next().expect("no more is asked"));
        assert_eq!(read().expect("the last words"), 11);
        assert_eq!(Errno::from_io_error(&read().expect_err("its end")), Some(Errno::IO));
        let mut once = [Err(io::ErrorKind::WouldBlock.into())].into_iter();
        let waits = past_hangup(|| once.next().expect("it is not asked again"));
        assert_eq!(waits.expect_err("nothing yet").kind(), io::ErrorKind::WouldBlock);
    }
}
