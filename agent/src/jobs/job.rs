//! One job: a program and its output, from the request to the end of what is kept.
//!
//! [`run()`] is the only one that reads the program's pipes and waits for it. Everybody else reads the
//! spool, watches the phase, writes standard input, or asks for a stop.
//!
//! # Invariants
//!
//! - The exit is what `waitid` said, or there is none.
//! - The end is told when the leader has ended and the pipes were empty after that. What children in
//!   the background write later goes into the log, and holds nothing up.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::{Job as Shown, Stopped};
use farwire_protocol::streams::run::{
    self, Exit, INPUT_LIMIT, Reason, STDERR, STDOUT, Start, State,
};
use rustix::process::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::jobs::owner::Owner;
use crate::jobs::spool::Spool;
use crate::system::spawn::{Child, Program, spawn};
use crate::system::user::User;
use crate::system::{environment, group, shell, wait};

/// How much is read from a pipe at once.
const READ: usize = 64 << 10;

/// A buffer is given up when less than this is left in it.
const SMALL: usize = 4 << 10;

/// Between INT, TERM and KILL of a stop.
const GRACE: Duration = Duration::from_secs(5);

/// How long pipes may stay open after the end of the program without anybody's saying anything,
/// before nobody reads them any more.
const LINGER: Duration = Duration::from_secs(24 * 3600);

/// What the command is shown as has at most so many characters.
const SHOWN: usize = 200;

/// Where a job is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running(u32),
    /// It could not be started.
    Failed(Failure),
    /// It has ended, and its output up to this offset of the log was written before that.
    Ended { exit: Exit, reason: Option<Reason>, output_end: u64, escaped: u32 },
}

/// A job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Nonce,
    pub(crate) owner: Owner,
    pub(crate) spool: Spool,
    command: String,
    user: String,
    asked: Instant,
    times: Mutex<Times>,
    phase: watch::Sender<Phase>,
    stops: mpsc::Sender<Option<i32>>,
    stops_taken: Mutex<Option<mpsc::Receiver<Option<i32>>>>,
    stdin: tokio::sync::Mutex<Stdin>,
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Times {
    started: Option<Instant>,
    ended: Option<Instant>,
}

#[derive(Debug)]
enum Stdin {
    Waiting,
    Open(pipe::Sender),
    Closed,
}

/// A request that makes sense, as far as can be said before it is carried out.
#[derive(Debug)]
pub(crate) struct Plan {
    program: Program,
    timeout: Option<Duration>,
    shown: String,
    /// All of standard input, when it came with the request.
    input: Option<Vec<u8>>,
}

impl Plan {
    pub(crate) fn new(start: &Start) -> Result<Self, Failure> {
        use std::os::unix::ffi::OsStringExt as _;
        let user = match &start.user {
            Some(name) => User::named(name)?,
            None => User::current(),
        };
        let os = |bytes: &[u8]| std::ffi::OsString::from_vec(bytes.to_vec());
        let login = start.login.unwrap_or(false);
        let (argv, shown) = match &start.program {
            run::Program::Argv(argv) => {
                let shown = argv.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(" ");
                (argv.iter().map(|part| os(part)).collect(), shown)
            }
            run::Program::Line(line) if line.trim_ascii().is_empty() => {
                return Err(Failure::new(Kind::EmptyCommand, "the command line is empty"));
            }
            run::Program::Line(line) => {
                (shell::argv(&user, line, login), String::from_utf8_lossy(line).into_owned())
            }
        };
        let env = environment::complete(&user, start.env.as_deref().unwrap_or_default())?;
        let cwd = start.cwd.as_ref().map(|cwd| os(cwd).into());
        let input = start.input.as_ref().map(|input| input.0.clone());
        if input.as_ref().is_some_and(|input| input.len() > INPUT_LIMIT) {
            return Err(Failure::new(Kind::TooLarge, "input within a request is at most 48 KiB"));
        }
        let stdin = input.is_some() || start.stdin.unwrap_or(false);
        let shown: String =
            shown.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
        let timeout = start.timeout_ms.map(Duration::from_millis);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(Failure::new(Kind::InvalidArgument, "a timeout of nothing"));
        }
        Ok(Self { program: Program { argv, cwd, env, user, stdin }, timeout, shown, input })
    }
}

fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

impl Job {
    pub(crate) fn new(id: Nonce, owner: Owner, plan: &Plan, spool: Spool) -> Self {
        let (stops, taken) = mpsc::channel(8);
        let stdin = if plan.program.stdin { Stdin::Waiting } else { Stdin::Closed };
        Self {
            id,
            owner,
            spool,
            command: plan.shown.clone(),
            user: plan.program.user.name.clone(),
            asked: Instant::now(),
            times: Mutex::default(),
            phase: watch::Sender::new(Phase::Queued),
            stops,
            stops_taken: Mutex::new(Some(taken)),
            stdin: tokio::sync::Mutex::new(stdin),
            written: watch::Sender::new(0),
        }
    }

    /// Where it is, and a way to wait for a change.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Whether nothing more happens to it.
    pub(crate) fn ended(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ended { .. } | Phase::Failed(_))
    }

    /// How long ago it ended.
    pub(crate) fn ended_for(&self) -> Option<Duration> {
        self.times().ended.map(|then| then.elapsed())
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.times.lock().expect("nothing panics while it is held")
    }

    /// Waits until it runs or will not.
    pub(crate) async fn started(&self) -> Result<u32, Failure> {
        let mut phase = self.phase();
        let begun = phase.wait_for(|phase| !matches!(phase, Phase::Queued)).await;
        match begun.as_deref() {
            Ok(Phase::Running(pid)) => Ok(*pid),
            Ok(Phase::Failed(failure)) => Err(failure.clone()),
            Ok(Phase::Ended { .. } | Phase::Queued) | Err(_) => Ok(0),
        }
    }

    /// Asks for a stop: with one signal, or with the ladder.
    pub(crate) fn stop(&self, signal: Option<i32>) -> Stopped {
        if self.ended() {
            return Stopped::Ended;
        }
        // When eight stops wait already, the program is being stopped.
        let _ = self.stops.try_send(signal);
        Stopped::Signalled
    }

    /// How far standard input has been passed on, and a way to wait for more.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Passes on standard input. A program that wants no more gets none, and that is no error.
    pub(crate) async fn write(&self, bytes: &[u8]) {
        let mut rest = bytes;
        let mut stdin = self.stdin.lock().await;
        while matches!(*stdin, Stdin::Waiting) {
            drop(stdin);
            if self.started().await.is_err() {
                return;
            }
            stdin = self.stdin.lock().await;
        }
        while let Stdin::Open(pipe) = &mut *stdin
            && !rest.is_empty()
        {
            // Written to a pipe that is full when this is cancelled: what was taken is counted.
            match pipe.write(rest).await {
                Ok(taken) => {
                    rest = rest.get(taken..).unwrap_or_default();
                    self.written.send_modify(|written| *written += taken as u64);
                }
                Err(_) => *stdin = Stdin::Closed,
            }
        }
        self.written.send_modify(|written| *written += rest.len() as u64);
    }

    /// Ends standard input, when the bridge has ended it and everything before has been passed on.
    pub(crate) async fn close_stdin(&self) {
        if self.started().await.is_ok() {
            *self.stdin.lock().await = Stdin::Closed;
        }
    }

    /// How it is.
    pub(crate) fn state(&self) -> State {
        let stats = self.spool.stats();
        let times = self.times();
        let until = times.ended.unwrap_or_else(Instant::now);
        let duration = times.started.map_or(Duration::ZERO, |started| until - started);
        drop(times);
        let mut state = State {
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            lines: stats.lines,
            bytes: stats.end,
            dropped_bytes: stats.start,
            dropped_lines: stats.dropped_lines,
            memory_only: stats.memory_only,
            ..State::default()
        };
        match &*self.phase.borrow() {
            Phase::Queued => state.queued = Some(true),
            Phase::Running(_) | Phase::Failed(_) => {}
            Phase::Ended { exit, reason, escaped, .. } => {
                state.exit = Some(*exit);
                state.reason = *reason;
                state.escaped = Some(*escaped).filter(|&count| count > 0);
            }
        }
        state
    }

    /// The same with what people want to know besides.
    pub(crate) fn show(&self, to: &Owner) -> Shown {
        let pid = match *self.phase.borrow() {
            Phase::Running(pid) => Some(pid),
            _ => None,
        };
        Shown {
            job: self.id,
            command: self.command.clone(),
            user: self.user.clone(),
            device: self.owner.name.clone(),
            surface: self.owner.surface.to_string(),
            age_ms: u64::try_from(self.asked.elapsed().as_millis()).unwrap_or(u64::MAX),
            state: self.state(),
            mine: self.owner == *to,
            pid,
        }
    }
}

/// Carries a job out, from its turn to its last byte. Gives the exit when the program has ended.
pub(crate) async fn run(job: &Job, plan: Plan, turns: &Semaphore) -> Option<Exit> {
    let stops = job.stops_taken.lock().expect("nothing panics while it is held").take();
    let mut stops = stops.expect("a job is run once");
    let turn = tokio::select! {
        biased;
        _ = stops.recv() => None,
        turn = turns.acquire() => turn.ok(),
    };
    let started = match turn {
        Some(_) => spawn(&plan.program),
        None => Err(Failure::new(Kind::Cancelled, "it was stopped before its turn came")),
    };
    let started = started.and_then(|child| Running::new(job, child, plan.timeout));
    let mut running = match started {
        Ok((running, stdin)) => {
            if let Some(stdin) = stdin {
                *job.stdin.lock().await = Stdin::Open(stdin);
            }
            job.times().started = Some(Instant::now());
            job.phase
                .send_replace(Phase::Running(running.pid.as_raw_nonzero().get().unsigned_abs()));
            running
        }
        Err(failure) => {
            job.spool.finish();
            job.times().ended = Some(Instant::now());
            job.phase.send_replace(Phase::Failed(failure));
            return None;
        }
    };
    let feed = async {
        if let Some(input) = &plan.input {
            job.write(input).await;
            job.close_stdin().await;
        }
        std::future::pending().await
    };
    let exit = tokio::select! {
        exit = running.until_exit(&mut stops) => exit,
        never = feed => never,
    };
    running.drain();
    let escaped = u32::try_from(running.escaped).unwrap_or(u32::MAX);
    job.times().ended = Some(Instant::now());
    let output_end = job.spool.stats().end;
    let reason = running.reason;
    job.phase.send_replace(Phase::Ended { exit, reason, output_end, escaped });
    *job.stdin.lock().await = Stdin::Closed;
    drop(turn);
    running.until_silent().await;
    job.spool.finish();
    Some(exit)
}

/// A program that runs, with its pipes.
struct Running<'a> {
    job: &'a Job,
    pid: Pid,
    pidfd: Option<OwnedFd>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    buffer: BytesMut,
    deadline: Option<Instant>,
    /// The next rung of the ladder, and when.
    ladder: Option<(usize, Instant)>,
    reason: Option<Reason>,
    escaped: usize,
    /// Whether the ladder has been begun.
    laddering: Arc<AtomicBool>,
}

/// INT, TERM, KILL.
const LADDER: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGKILL];

impl<'a> Running<'a> {
    fn new(
        job: &'a Job,
        child: Child,
        timeout: Option<Duration>,
    ) -> Result<(Self, Option<pipe::Sender>), Failure> {
        let failed =
            |error: std::io::Error| Failure::new(Kind::ResourceExhausted, error.to_string());
        let stdin = child.stdin.map(pipe::Sender::from_owned_fd).transpose().map_err(failed)?;
        let running = Self {
            job,
            pid: child.pid,
            pidfd: Some(child.pidfd),
            stdout: Some(pipe::Receiver::from_owned_fd(child.stdout).map_err(failed)?),
            stderr: Some(pipe::Receiver::from_owned_fd(child.stderr).map_err(failed)?),
            buffer: BytesMut::new(),
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            ladder: None,
            reason: None,
            escaped: 0,
            laddering: Arc::default(),
        };
        Ok((running, stdin))
    }

    async fn until_exit(&mut self, stops: &mut mpsc::Receiver<Option<i32>>) -> Exit {
        let Some(pidfd) = self.pidfd.take() else { return Exit::Code(0) };
        let (pid, laddering) = (self.pid, self.laddering.clone());
        let mut exit = std::pin::pin!(wait::leader(pidfd, move || {
            // Whoever asked for the end of it meant all of it: what the leader started and left behind
            // goes with it, while the group's number is certainly still its own.
            if laddering.load(Ordering::Relaxed) {
                // There may be nobody left.
                let _ = group::signal(pid, libc::SIGKILL);
            }
        }));
        loop {
            let room = self.job.spool.room();
            tokio::select! {
                // Stops first, so that a program that never stops talking can be stopped; its end
                // last, so that its last words come before it.
                biased;
                Some(signal) = stops.recv() => self.stop(signal),
                () = at(self.deadline) => self.time_out(),
                () = at(self.ladder.map(|rung| rung.1)) => self.climb(),
                () = readable(self.stdout.as_ref(), self.stderr.as_ref(), room) => {
                    self.read_some();
                }
                exit = &mut exit => return exit.unwrap_or_else(|error| {
                    // waitid does not fail for a child of ours that has not been waited for.
                    tracing::error!(%error, "a program's end could not be read");
                    Exit::Signal(libc::SIGKILL)
                }),
            }
        }
    }

    fn stop(&mut self, signal: Option<i32>) {
        self.reason.get_or_insert(Reason::Stopped);
        match signal {
            Some(signal) => self.send(signal),
            None if self.ladder.is_none() => {
                self.laddering.store(true, Ordering::Relaxed);
                self.ladder = Some((0, Instant::now()));
                self.climb();
            }
            None => {}
        }
    }

    fn time_out(&mut self) {
        self.deadline = None;
        self.reason = Some(Reason::Timeout);
        self.send(libc::SIGKILL);
    }

    fn climb(&mut self) {
        let Some((rung, _)) = self.ladder else { return };
        if let Some(&signal) = LADDER.get(rung) {
            self.send(signal);
        }
        self.ladder = (rung + 1 < LADDER.len()).then(|| (rung + 1, Instant::now() + GRACE));
    }

    /// Signals the group. The leader has not been reaped while we are here.
    fn send(&mut self, signal: i32) {
        self.escaped = self.escaped.max(group::escaped(self.pid).len());
        if let Err(error) = group::signal(self.pid, signal) {
            tracing::warn!(%error, signal, "a program could not be signalled");
        }
    }

    /// Reads what is there, both streams in turn, so that neither starves.
    fn read_some(&mut self) -> bool {
        let out = read(&mut self.stdout, STDOUT, &mut self.buffer, &self.job.spool);
        let err = read(&mut self.stderr, STDERR, &mut self.buffer, &self.job.spool);
        out | err
    }

    /// Reads until both pipes are empty.
    fn drain(&mut self) {
        while self.read_some() {}
    }

    /// Goes on reading for children that hold the pipes, so that they do not die of writing.
    async fn until_silent(&mut self) {
        while self.stdout.is_some() || self.stderr.is_some() {
            let ready = readable(self.stdout.as_ref(), self.stderr.as_ref(), self.job.spool.room());
            if tokio::time::timeout(LINGER, ready).await.is_err() {
                return;
            }
            self.read_some();
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Waits until one of the pipes has something to say, and there is room for it.
async fn readable(
    stdout: Option<&pipe::Receiver>,
    stderr: Option<&pipe::Receiver>,
    room: impl Future<Output = ()>,
) {
    room.await;
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

/// Reads once, if there is anything. Gives whether there was. Forgets the pipe at its end.
fn read(
    pipe: &mut Option<pipe::Receiver>,
    stream: u8,
    buffer: &mut BytesMut,
    spool: &Spool,
) -> bool {
    let Some(open) = pipe else { return false };
    if buffer.capacity() < SMALL {
        *buffer = BytesMut::with_capacity(READ);
    }
    match open.try_read_buf(buffer) {
        Ok(0) => *pipe = None,
        Ok(_) => {
            let bytes: Bytes = buffer.split().freeze();
            spool.append(stream, bytes);
            return true;
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
        Err(_) => *pipe = None,
    }
    false
}
