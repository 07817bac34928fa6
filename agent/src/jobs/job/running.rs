//! Carries a job out: starts its program, reads its pipes, stops it, and waits for its end.
//!
//! # Invariants
//!
//! - The exit is what the kernel said, or there is none.
//! - The leader is collected after the last signal for its group, so that no signal can hit a
//!   stranger that was given the same number.
//! - The end is told when the leader has ended and what was in the pipes after that has been read. What
//!   children in the background write later goes into the log, and holds nothing up.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{Exit, Reason, STDERR, STDOUT};
use rustix::io::Errno;
use tokio::net::unix::pipe;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::{Job, Phase, Plan, Stdin};
use crate::jobs::spool::Spool;
use crate::os::group::census::census;
use crate::os::spawn::{Child, spawn};
use crate::os::wait::Leader;

/// How much is read from a pipe at once.
const READ: usize = 64 << 10;

/// A buffer is given up when less than this is left in it.
const SMALL: usize = 4 << 10;

/// How large the pipes are made, if the system lets us: fewer wake-ups for programs that say much.
const PIPE: usize = 256 << 10;

/// Between INT, TERM and KILL of a stop.
const GRACE: Duration = Duration::from_secs(5);

/// How long pipes may stay open after the end of the program without anybody's saying anything,
/// before nobody reads them any more.
const LINGER: Duration = Duration::from_secs(24 * 3600);

/// What a stop sends, one after the other.
const LADDER: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGKILL];

/// Carries a job out, from its turn to its last byte. Gives the exit when the program has ended.
pub(crate) async fn run(job: &Job, plan: Plan, turns: &Semaphore) -> Option<Exit> {
    let turn = tokio::select! {
        biased;
        _ = job.stops.next() => None,
        turn = turns.acquire() => turn.ok(),
    };
    let started = match turn {
        Some(_) => spawn(&plan.command),
        None => Err(Failure::new(Kind::Cancelled, "it was stopped before its turn came")),
    };
    let started = started.and_then(|child| Running::new(job, child, plan.timeout));
    let (mut running, stdin) = match started {
        Ok(started) => started,
        Err(failure) => return failed(job, failure),
    };
    if let Some(stdin) = stdin {
        *job.stdin.lock().await = Stdin::Open(stdin);
    }
    job.times().started = Some(Instant::now());
    job.phase.send_replace(Phase::Running(running.leader.pid()));
    let feed = async {
        if let Some(input) = &plan.input {
            job.write(input).await;
            job.close_stdin().await;
        }
        std::future::pending().await
    };
    let exit = tokio::select! {
        exit = running.until_exit() => exit,
        never = feed => never,
    };
    let escaped = running.settle(&plan.mark).await;
    running.drain();
    let exit = match exit {
        Ok(exit) => {
            job.times().ended = Some(Instant::now());
            let output_end = job.spool.stats().end;
            let reason = running.reason;
            job.phase.send_replace(Phase::Ended { exit, reason, output_end, escaped });
            exit
        }
        Err(failure) => return failed(job, failure),
    };
    *job.stdin.lock().await = Stdin::Closed;
    drop(turn);
    running.until_silent().await;
    job.spool.finish();
    Some(exit)
}

fn failed(job: &Job, failure: Failure) -> Option<Exit> {
    job.spool.finish();
    job.times().ended = Some(Instant::now());
    job.phase.send_replace(Phase::Failed(failure));
    None
}

/// A program that runs, with its pipes.
struct Running<'a> {
    job: &'a Job,
    leader: Arc<Leader>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    buffer: BytesMut,
    deadline: Option<Instant>,
    /// The next rung of the ladder, and when.
    ladder: Option<(usize, Instant)>,
    /// Whether all of the group has to end with the leader.
    all: bool,
    reason: Option<Reason>,
}

impl<'a> Running<'a> {
    fn new(
        job: &'a Job,
        child: Child,
        timeout: Option<Duration>,
    ) -> Result<(Self, Option<pipe::Sender>), Failure> {
        let failed =
            |error: std::io::Error| Failure::new(Kind::ResourceExhausted, error.to_string());
        let stdin = child.stdin.map(pipe::Sender::from_owned_fd_unchecked).transpose();
        let running = Self {
            job,
            leader: Arc::new(child.leader),
            stdout: Some(output(child.stdout).map_err(failed)?),
            stderr: Some(output(child.stderr).map_err(failed)?),
            buffer: BytesMut::new(),
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            ladder: None,
            all: false,
            reason: None,
        };
        Ok((running, stdin.map_err(failed)?))
    }

    async fn until_exit(&mut self) -> Result<Exit, Failure> {
        let job = self.job;
        let leader = self.leader.clone();
        let mut exit = std::pin::pin!(leader.exited());
        loop {
            let room = job.spool.room();
            tokio::select! {
                // Stops first, so that a program that never stops talking can be stopped; its end
                // last, so that its last words come before it.
                biased;
                signal = job.stops.next() => self.stop(signal),
                () = at(self.deadline) => self.time_out(),
                () = at(self.ladder.map(|rung| rung.1)) => self.climb(),
                () = readable(self.stdout.as_ref(), self.stderr.as_ref(), room) => {
                    self.read_some();
                }
                exit = &mut exit => return exit,
            }
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
        if let Some(&signal) = LADDER.get(rung) {
            self.send(signal);
        }
        self.ladder = (rung + 1 < LADDER.len()).then(|| (rung + 1, Instant::now() + GRACE));
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
            let counted = tokio::task::spawn_blocking(move || census(&leader, Some(&mark))).await;
            escaped = counted.map_or(0, |census| census.escaped);
        }
        self.leader.reap();
        escaped
    }

    /// Reads what is there, both streams in turn, so that neither starves.
    fn read_some(&mut self) {
        read(&mut self.stdout, STDOUT, &mut self.buffer, &self.job.spool);
        read(&mut self.stderr, STDERR, &mut self.buffer, &self.job.spool);
    }

    /// Reads what was written before the end of the program.
    ///
    /// The pipes themselves are asked: the runtime may not have heard yet that there is something in
    /// them when it already knows that the program has ended.
    fn drain(&self) {
        drain(self.stdout.as_ref(), STDOUT, &self.job.spool);
        drain(self.stderr.as_ref(), STDERR, &self.job.spool);
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

/// A pipe to read from, as large as the system lets us have it.
fn output(pipe: OwnedFd) -> std::io::Result<pipe::Receiver> {
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

/// Reads once, if there is anything. Forgets the pipe at its end.
fn read(pipe: &mut Option<pipe::Receiver>, stream: u8, buffer: &mut BytesMut, spool: &Spool) {
    let Some(open) = pipe else { return };
    if buffer.capacity() < SMALL {
        *buffer = BytesMut::with_capacity(READ);
    }
    match open.try_read_buf(buffer) {
        Ok(0) => *pipe = None,
        Ok(_) => spool.append(stream, buffer.split().freeze()),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
        Err(_) => *pipe = None,
    }
}

/// Reads what is in the pipe now, and no more: whoever still writes to it could go on for ever.
fn drain(pipe: Option<&pipe::Receiver>, stream: u8, spool: &Spool) {
    let Some(pipe) = pipe else { return };
    let mut rest = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
    let mut piece = [0; SMALL];
    while rest > 0 {
        match rustix::io::read(pipe, &mut piece) {
            Ok(count @ 1..) => {
                let read = piece.get(..count).unwrap_or_default();
                spool.append(stream, Bytes::copy_from_slice(read));
                rest = rest.saturating_sub(count as u64);
            }
            Err(Errno::INTR) => {}
            // Its end, or nothing after all, is seen by whoever reads on.
            Ok(0) | Err(_) => return,
        }
    }
}
