//! A running program, until its pipes are silent for good: reads its output, and carries out the
//! orders of the agent.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::run::{Exit, Reason, STDERR, STDOUT};
use tokio::net::unix::pipe;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until};

use super::pipes::{Feed, drain, read, readable, ready, writable};
use super::{Held, Told};
use crate::holder::Agent;
use crate::holder::message::{Held as Shown, HolderReport};
use crate::os::clock;
use crate::os::group::census::census;
use crate::os::thread::on_thread;
use crate::os::wait::Leader;
use crate::pace::Pace;
use crate::spool::SpoolWriter;

/// How much is read from a pipe at once.
const READ: usize = 128 << 10;

/// A terminal that returns this much at once has more; it is read this often before others get
/// their turn.
const PAGE: u64 = 2 << 10;
const BURST: usize = 16;

/// Between INT, TERM and KILL of a stop.
const GRACE: Duration = Duration::from_secs(5);

/// How long open pipes are read after the end of the program while nothing is written to them.
const LINGER: Duration = Duration::from_secs(24 * 3600);

/// What a stop sends, one after the other.
const LADDER: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGKILL];

/// The same for a program on a terminal: shells ignore INT and TERM, and pass on HUP.
const HANGUP: [i32; 3] = [libc::SIGHUP, libc::SIGTERM, libc::SIGKILL];

/// How long the rest of the output may take to come through a terminal after the end of the
/// program.
const FLUSH: Duration = Duration::from_millis(500);

/// A program that runs, with its pipes.
pub(super) struct Running<'a> {
    pub(super) held: &'a Held,
    pub(super) agent: &'a Agent,
    pub(super) writer: SpoolWriter,
    pub(super) rate: Option<u64>,
    pub(super) pace: Pace,
    pub(super) told: Receiver<Told>,
    pub(super) leader: Arc<Leader>,
    /// Whether `stdout` is the master of a terminal.
    pub(super) terminal: bool,
    /// What is left of the input that came with the request.
    pub(super) feed: Option<Feed>,
    pub(super) stdout: Option<pipe::Receiver>,
    pub(super) stderr: Option<pipe::Receiver>,
    pub(super) deadline: Option<Instant>,
    /// The next rung of the ladder, and when.
    pub(super) ladder: Option<(usize, Instant)>,
    /// Whether all of the group has to end with the leader.
    pub(super) all: bool,
    pub(super) reason: Option<Reason>,
    /// When to report that it has started, until that was reported.
    pub(super) announce: Option<Instant>,
}

impl Running<'_> {
    /// Reports that it has started.
    pub(super) fn announce(&mut self) {
        if self.announce.take().is_none() {
            return;
        }
        let status = self.held.status();
        let stdin: Vec<_> = status.stdin.as_ref().map(OwnedFd::as_fd).into_iter().collect();
        let Shown { job, pid, at, .. } = status.shown;
        self.agent.report(&HolderReport::Started { job, pid, at }, &stdin);
    }

    pub(super) async fn until_exit(&mut self) -> Result<Exit, Failure> {
        let leader = self.leader.clone();
        let mut exit = std::pin::pin!(leader.exited());
        loop {
            let early = self.early();
            let room = early.is_none() && self.writer.has_room();
            tokio::select! {
                // Orders first, so that a program that never stops writing can be stopped; its end
                // last, so that its last output comes before it.
                biased;
                Some(told) = self.told.recv() => self.obey(told),
                () = at(self.deadline) => self.time_out(),
                () = at(self.ladder.map(|rung| rung.1)) => self.climb(),
                () = at(self.announce) => self.announce(),
                () = at(early) => {}
                () = writable(self.feed.as_ref()) => self.feed(),
                () = readable(self.stdout.as_ref(), self.stderr.as_ref()), if room => {
                    self.read_some();
                    // Others get their turn beside a program that never stops writing.
                    tokio::task::yield_now().await;
                }
                exit = &mut exit => return exit,
            }
        }
    }

    /// Writes what the program's pipe takes of its input, and closes it after the last byte. The
    /// rest is dropped if the program reads no more.
    pub(super) fn feed(&mut self) {
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
    /// Returns how many processes have left the group and live on.
    pub(super) async fn settle(&self, mark: &str) -> u32 {
        let mut escaped = 0;
        if self.all {
            // A stop is for the whole job: processes that the leader has left behind in its group
            // are killed with it. Those that have left the group are counted and reported.
            self.send(libc::SIGKILL);
            let (leader, mark) = (self.leader.clone(), mark.to_owned());
            let counted = on_thread(move || census(&leader, Some(&mark))).await;
            escaped = counted.map_or(0, |census| census.escaped);
        }
        self.leader.reap();
        escaped
    }

    /// When it may write more, if it has used up its rate.
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
            self.agent.report(&HolderReport::Grown(self.held.id), &[]);
        }
    }

    /// Reads what was written before the end of the program.
    ///
    /// The pipes themselves are asked: the runtime may not have heard yet that there is something
    /// in them when it already knows that the program has ended.
    ///
    /// A terminal is different: the kernel passes on what was written after a moment, and reports
    /// the end once nobody has it open, which is when its session has lost its leader.
    pub(super) async fn drain(&mut self) {
        if self.terminal {
            let rest = async {
                while self.stdout.is_some() {
                    ready(self.stdout.as_ref()).await;
                    self.read_some();
                }
            };
            // A process may keep it open all the same; its output is read later.
            let _ = tokio::time::timeout(FLUSH, rest).await;
            return;
        }
        drain(self.stdout.as_ref(), STDOUT, &mut self.writer);
        drain(self.stderr.as_ref(), STDERR, &mut self.writer);
    }

    /// Goes on reading for children that hold the pipes, so that they do not die of writing.
    pub(super) async fn until_silent(&mut self) {
        let mut silent = Instant::now() + LINGER;
        while self.stdout.is_some() || self.stderr.is_some() {
            let room = self.writer.has_room();
            tokio::select! {
                Some(_) = self.told.recv() => {}
                () = sleep_until(silent) => return,
                () = writable(self.feed.as_ref()) => self.feed(),
                () = readable(self.stdout.as_ref(), self.stderr.as_ref()), if room => {
                    silent = Instant::now() + LINGER;
                    self.read_some();
                }
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
