//! One job: a program and its output, from the request to the end of what is kept.
//!
//! [`run()`] is the only one that reads the program's pipes and waits for it. Everybody else reads the
//! spool, watches the phase, writes standard input, or asks for a stop.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use farwire_protocol::failure::Failure;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::{Job as Shown, Stopped};
use farwire_protocol::streams::run::{Exit, Reason, State};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::jobs::owner::Owner;
use crate::jobs::spool::Spool;

mod plan;
mod running;

pub(crate) use plan::Plan;
pub(crate) use running::run;

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
    pub(crate) owner: Arc<Owner>,
    pub(crate) spool: Spool,
    command: String,
    user: String,
    asked: Instant,
    times: Mutex<Times>,
    phase: watch::Sender<Phase>,
    stops: Stops,
    stdin: tokio::sync::Mutex<Stdin>,
    /// How much standard input has been passed on, where there is any.
    written: Option<watch::Sender<u64>>,
}

/// No input is ever passed on.
static NOTHING: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Stops that wait to be carried out. A channel would take more room than the rest of a job.
#[derive(Debug, Default)]
struct Stops {
    waiting: Mutex<VecDeque<Option<i32>>>,
    told: Notify,
}

impl Stops {
    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Option<i32>>> {
        self.waiting.lock().expect("nothing panics while it is held")
    }

    fn add(&self, stop: Option<i32>) {
        let mut waiting = self.waiting();
        // When eight stops wait already, the program is being stopped.
        if waiting.len() < 8 {
            waiting.push_back(stop);
            self.told.notify_one();
        }
    }

    /// The next stop. For one task.
    async fn next(&self) -> Option<i32> {
        loop {
            if let Some(stop) = self.waiting().pop_front() {
                return stop;
            }
            self.told.notified().await;
        }
    }
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

impl Job {
    pub(crate) fn new(id: Nonce, owner: Arc<Owner>, plan: &Plan, spool: Spool) -> Self {
        let stdin = if plan.piped() { Stdin::Waiting } else { Stdin::Closed };
        Self {
            id,
            owner,
            spool,
            command: plan.shown.clone(),
            user: plan.user.clone(),
            asked: Instant::now(),
            times: Mutex::default(),
            phase: watch::Sender::new(Phase::Queued),
            stops: Stops::default(),
            stdin: tokio::sync::Mutex::new(stdin),
            written: plan.piped().then(|| watch::Sender::new(0)),
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
        self.stops.add(signal);
        Stopped::Signalled
    }

    /// How far standard input has been passed on, and a way to wait for more.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.as_ref().unwrap_or(&NOTHING).subscribe()
    }

    /// Passes on standard input. A program that wants no more gets none, and that is no error.
    pub(crate) async fn write(&self, bytes: &[u8]) {
        let Some(written) = &self.written else { return };
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
                    written.send_modify(|written| *written += taken as u64);
                }
                Err(_) => *stdin = Stdin::Closed,
            }
        }
        written.send_modify(|written| *written += rest.len() as u64);
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
            mine: *self.owner == *to,
            pid,
        }
    }
}
