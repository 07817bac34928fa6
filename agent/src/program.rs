//! The program of a job: its log, its phase, its holder and its input.
//!
//! A job and its terminal share one. It belongs to a holder, which reports what becomes of it; the
//! others read its log, watch its phase, write its input, or send orders to its [holder](holding).
//!
//! # Order of locks
//!
//! The lock on its holder comes before all locks of a terminal, since the note for the next agent
//! is gathered under it. The lock on its input comes after them, and only the log's memory is
//! locked under that.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use farwire_protocol::failure::Failure;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Exit, Reason};
use tokio::sync::{Notify, watch};

use self::holding::{HoldState, Orders};
use self::input::Feed;
use crate::holder::message::ProgramEnd;
use crate::os::clock::boottime;
use crate::os::input::Input;
use crate::spool::{Memory, Spool};

pub(crate) mod holding;
pub(crate) mod input;

/// The texts of a failure have at most this many bytes each.
const FAILURE: usize = 1_024;

/// The phase of a program.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running(u32),
    /// It could not be started, or its end is unknown.
    Failed(Failure),
    /// Records its end. Output up to `output_end` in the log was written before that.
    Ended { exit: Exit, reason: Option<Reason>, output_end: u64, escaped: u32 },
}

/// The kind of input that is passed on to a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Accepts {
    /// None; or input that came with the request, which its holder passes on.
    Nothing,
    /// Input from streams.
    Input,
    /// What is typed on its terminal.
    Keys,
}

/// A program, from the request until its job is forgotten.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its job.
    pub(crate) job: Nonce,
    pub(crate) spool: Spool,
    /// It has a terminal, whose master its input is.
    on_terminal: bool,
    times: Mutex<Times>,
    phase: watch::Sender<Phase>,
    place: Arc<Mutex<HoldState>>,
    /// It was cancelled while there was no holder.
    cancelled: Notify,
    feed: Mutex<Feed>,
    /// How much input from streams has been passed on.
    written: Option<watch::Sender<u64>>,
}

/// How a program is taken over from an earlier agent.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) holder: Weak<dyn Orders>,
    pub(crate) accepts: Accepts,
    /// The holder still has something to write input to.
    pub(crate) connected: bool,
}

#[derive(Debug, Default)]
struct Times {
    started: Option<Duration>,
    ended: Option<Duration>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

impl Program {
    /// A program that no holder has yet. Its output goes to `memory`, and to a file at `path`.
    pub(crate) fn new(job: Nonce, memory: Arc<Memory>, path: PathBuf, accepts: Accepts) -> Self {
        let written = (accepts != Accepts::Nothing).then(|| watch::Sender::new(0));
        let place = Arc::default();
        Self {
            job,
            spool: Spool::new(memory, path, holding::unblock(job, Arc::clone(&place))),
            on_terminal: accepts == Accepts::Keys,
            times: Mutex::default(),
            phase: watch::Sender::new(Phase::Queued),
            place,
            cancelled: Notify::new(),
            feed: Mutex::new(Feed::new(written.is_some())),
            written,
        }
    }

    /// A program that a holder had before this agent came, as [`Adoption`] says.
    pub(crate) fn adopted(job: Nonce, memory: Arc<Memory>, path: PathBuf, how: Adoption) -> Self {
        let Adoption { holder, accepts, connected } = how;
        let written = (accepts != Accepts::Nothing).then(|| watch::Sender::new(memory.input()));
        // Typed input is counted for each typist.
        let unknown = accepts != Accepts::Keys && !memory.knows_input();
        let place = Arc::new(Mutex::new(HoldState::Held(holder)));
        Self {
            job,
            spool: Spool::new(memory, path, holding::unblock(job, Arc::clone(&place))),
            on_terminal: accepts == Accepts::Keys,
            times: Mutex::default(),
            phase: watch::Sender::new(Phase::Queued),
            place,
            cancelled: Notify::new(),
            feed: Mutex::new(Feed::new(connected).with_unknown(unknown)),
            written,
        }
    }

    /// A program that an earlier agent has recorded, and that no holder has.
    pub(crate) fn from_record(job: Nonce, spool: Spool, phase: Phase, on_terminal: bool) -> Self {
        Self {
            job,
            spool,
            on_terminal,
            times: Mutex::default(),
            phase: watch::Sender::new(phase),
            place: Arc::default(),
            cancelled: Notify::new(),
            feed: Mutex::new(Feed::new(false)),
            written: None,
        }
    }

    /// Whether streams bring it input, or keys.
    pub(crate) fn accepts_input(&self) -> bool {
        self.written.is_some()
    }

    /// Its phase, and a way to wait for a change.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Whether it is over: nothing more happens to it.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ended { .. } | Phase::Failed(_))
    }

    /// When it ended, since boot.
    pub(crate) fn ended_at(&self) -> Option<Duration> {
        lock(&self.times).ended
    }

    /// The process that was started, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match *self.phase.borrow() {
            Phase::Running(pid) => Some(pid),
            _ => None,
        }
    }

    /// Whether it was started.
    pub(crate) fn has_started(&self) -> bool {
        lock(&self.times).started.is_some()
    }

    /// How long it has run, or ran.
    pub(crate) fn duration(&self) -> Duration {
        let times = lock(&self.times);
        let until = times.ended.unwrap_or_else(boottime);
        times.started.map_or(Duration::ZERO, |started| until.saturating_sub(started))
    }

    /// Waits until it runs, or has run. Returns an error if it never will.
    pub(crate) async fn wait_for_start(&self) -> Result<u32, Failure> {
        let mut phase = self.phase();
        let begun = phase.wait_for(|phase| !matches!(phase, Phase::Queued)).await;
        match begun.as_deref() {
            Ok(Phase::Running(pid)) => Ok(*pid),
            Ok(Phase::Failed(failure)) if !self.has_started() => Err(failure.clone()),
            Ok(Phase::Failed(_) | Phase::Ended { .. } | Phase::Queued) | Err(_) => Ok(0),
        }
    }

    /// Waits for its end.
    pub(crate) async fn exit(&self) -> Option<Exit> {
        let mut phase = self.phase();
        let over = |phase: &Phase| matches!(phase, Phase::Ended { .. } | Phase::Failed(_));
        match phase.wait_for(over).await.as_deref() {
            Ok(Phase::Ended { exit, .. }) => Some(*exit),
            _ => None,
        }
    }

    /// Records that its holder has started it. `at` is microseconds since boot.
    pub(crate) fn set_started(&self, pid: u32, at: u64, input: Option<OwnedFd>) {
        let input = input.and_then(|input| Input::new(input).ok());
        lock(&self.feed).connect(input);
        lock(&self.times).started = Some(Duration::from_micros(at));
        self.phase.send_replace(Phase::Running(pid));
    }

    /// It could not be started, or its end is unknown.
    pub(crate) fn set_failed(&self, failure: Failure) {
        self.finish_at(boottime(), Phase::Failed(brief(failure)));
    }

    /// Records its end.
    pub(crate) fn set_ended(&self, end: &ProgramEnd) {
        let ProgramEnd { exit, reason, output_end, escaped, at } = *end;
        let phase = Phase::Ended { exit, reason, output_end, escaped };
        self.finish_at(Duration::from_micros(at), phase);
    }

    fn finish_at(&self, at: Duration, phase: Phase) {
        lock(&self.times).ended = Some(at);
        lock(&self.feed).connect(None);
        self.spool.poke();
        self.phase.send_replace(phase);
    }
}

/// The failure with its texts cut to fit a message, a note or a record.
fn brief(mut failure: Failure) -> Failure {
    let cut = |text: &mut String| {
        if text.len() > FAILURE {
            text.truncate(text.floor_char_boundary(FAILURE));
            text.push('…');
        }
    };
    cut(&mut failure.message);
    failure.hint.iter_mut().for_each(cut);
    failure
}
