//! One job: a program and its output, from the request to the end of what is kept.
//!
//! Its program belongs to a holder, which reports what becomes of it. Everybody else reads the spool,
//! watches the phase, writes standard input, or asks for a stop.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::{Job as Shown, Stopped};
use farwire_protocol::streams::run::{Delivery, Exit, Reason, State};
use farwire_protocol::streams::session::{Limits, Lost};
use tokio::sync::{Notify, watch};

use crate::gate::demand::JobFacts;
use crate::gate::principal::{Principal, PrincipalNote};
use crate::gate::{self, Asker};
use crate::holder::message::{End, Order};
use crate::holder::micros;
use crate::jobs::KEEP;
use crate::jobs::holders::{Found, Holder, Holders, Line};
use crate::jobs::turns;
use crate::os::clock::{boottime, unix_millis};
use crate::os::input::Input;
use crate::os::pty::{self, Size};
use crate::spool::{Memory, Spool};
use crate::terminal::Terminal;

pub(crate) mod input;
mod note;
mod plan;

use note::{NOTE, Note, TerminalNote};
pub(crate) use plan::Plan;

/// The texts of a job's failure have at most this many bytes each.
const FAILURE: usize = 1_024;

/// So many conversations about one job are remembered by the next agent.
const CONVERSATIONS: usize = 16;

/// Where a job is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running(u32),
    /// It could not be started, or nobody knows how it ended.
    Failed(Failure),
    /// It has ended, and its output up to this offset of the log was written before that.
    Ended { exit: Exit, reason: Option<Reason>, output_end: u64, escaped: u32 },
}

/// A job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Nonce,
    pub(crate) owner: Arc<Principal>,
    pub(crate) spool: Spool,
    /// The hash of the request, where that is known.
    pub(crate) body: Option<[u8; 32]>,
    command: String,
    user: String,
    /// Since boot, like all times here.
    asked: Duration,
    times: Mutex<Times>,
    phase: watch::Sender<Phase>,
    place: Arc<Mutex<Place>>,
    /// Its turn has come: it is about to be started, or was.
    has_turn: AtomicBool,
    /// It was cancelled while there was no holder.
    stopped: Notify,
    stdin: Mutex<Feed>,
    /// How much standard input has been passed on, where streams bring it.
    written: Option<watch::Sender<u64>>,
    conversations: Mutex<Conversations>,
    /// What it has besides, if it is a session.
    pub(crate) terminal: Option<Arc<Terminal>>,
    /// What is known of it from before this agent, and by no holder.
    past: Option<Box<Past>>,
}

/// What nobody holds any more, as it was written down. What ends in `_ms` is milliseconds, of times since 1970,
/// and for people; ages are measured by the others, which are since boot.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) phase: Phase,
    pub(crate) asked: Duration,
    /// `None` if an older agent did not write it.
    pub(crate) ended: Option<Duration>,
    pub(crate) body: Option<[u8; 32]>,
    pub(crate) started_ms: u64,
    pub(crate) ended_ms: u64,
    pub(crate) duration_ms: u64,
}

/// Conversations about a job, with what each is for.
pub(crate) type Conversations = Vec<(Nonce, Delivery)>;

/// Who holds the program.
#[derive(Debug, Default)]
enum Place {
    /// Nobody yet.
    #[default]
    Nowhere,
    /// Nobody, and nobody will, for this reason.
    Cancelled(&'static str),
    Held(Line),
}

#[derive(Debug, Default)]
struct Times {
    started: Option<Duration>,
    ended: Option<Duration>,
}

/// The program's standard input, or its terminal, and who passes on what.
#[derive(Debug)]
struct Feed {
    pipe: Stdin,
    /// The number of the [`input::Seat`] that counts.
    seat: u64,
    /// An agent died between writing and counting.
    unknown: bool,
}

impl Feed {
    fn new(pipe: Stdin) -> Self {
        Self { pipe, seat: 0, unknown: false }
    }
}

#[derive(Debug)]
enum Stdin {
    Waiting,
    Open(Arc<Input>),
    Closed,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

/// Carries a job out, from its turn to its end. Gives the exit.
pub(crate) async fn run(
    job: &Arc<Job>,
    plan: Plan,
    place: Option<turns::Place>,
    holders: &Arc<Holders>,
) -> Option<Exit> {
    let comes = async {
        match place {
            Some(place) => Some(place.turn().await),
            None => None,
        }
    };
    let turn = tokio::select! {
        biased;
        () = job.stopped.notified() => None,
        turn = comes => Some(turn),
    };
    let started = match turn {
        Some(_) => {
            job.has_turn.store(true, Ordering::Relaxed);
            holders.start(job, &plan)
        }
        None => Err(job.cancelled().unwrap_or_else(stopped_first)),
    };
    if let Err(failure) = started {
        job.failed(failure);
        job.spool.finish();
        return None;
    }
    job.exit().await
}

/// Why a run was never started whose stop came before its turn.
pub(crate) const STOPPED: &str = "it was stopped before its turn came";

fn stopped_first() -> Failure {
    Failure::new(Kind::Cancelled, STOPPED)
}

impl Job {
    pub(crate) fn new(
        owner: Arc<Principal>,
        plan: &Plan,
        memory: Arc<Memory>,
        (path, body): (std::path::PathBuf, [u8; 32]),
    ) -> Self {
        let id = plan.start.job;
        let place = Arc::new(Mutex::new(Place::Nowhere));
        // What came within the request is the holder's to pass on.
        let piped = plan.start.piped && plan.start.input.is_none();
        Self {
            id,
            owner,
            spool: Spool::new(memory, path, unblock(id, place.clone())),
            body: Some(body),
            command: plan.shown.clone(),
            user: plan.user.clone(),
            asked: boottime(),
            times: Mutex::default(),
            phase: watch::Sender::new(Phase::Queued),
            place,
            has_turn: AtomicBool::new(plan.terminal.is_some()),
            stopped: Notify::new(),
            stdin: Mutex::new(Feed::new(if piped { Stdin::Waiting } else { Stdin::Closed })),
            written: piped.then(|| watch::Sender::new(0)),
            conversations: Mutex::default(),
            terminal: plan.terminal.clone(),
            past: None,
        }
    }

    /// A run or a session that an earlier agent has written down, and that nobody holds.
    pub(crate) fn recorded(
        (id, owner): (Nonce, Arc<Principal>),
        (command, user): (String, String),
        past: Past,
        terminal: Option<Arc<Terminal>>,
        spool: Spool,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            owner,
            spool,
            body: past.body,
            command,
            user,
            asked: past.asked,
            times: Mutex::default(),
            phase: watch::Sender::new(past.phase.clone()),
            place: Arc::default(),
            has_turn: AtomicBool::new(true),
            stopped: Notify::new(),
            stdin: Mutex::new(Feed::new(Stdin::Closed)),
            written: None,
            conversations: Mutex::default(),
            terminal,
            past: Some(Box::new(past)),
        })
    }

    /// A job that its holder has told us of. Gives the conversations about it, too.
    pub(crate) fn adopt(
        found: Found,
        path: std::path::PathBuf,
    ) -> Result<(Arc<Self>, Conversations), Failure> {
        let Found { held, memory, stdin, holder } = found;
        let note: Note = cbor::decode(&held.note, NOTE).map_err(|error| {
            Failure::caused(Kind::Internal, "a note that cannot be read", &error)
        })?;
        let line = Line { holder: Arc::downgrade(&holder) };
        let place = Arc::new(Mutex::new(Place::Held(line)));
        let written = note.piped.then(|| watch::Sender::new(memory.input()));
        let unknown = note.terminal.is_none() && !memory.knows_input();
        let pipe = if stdin.is_some() { Stdin::Waiting } else { Stdin::Closed };
        let terminal = note.terminal.map(|terminal| {
            let size = stdin.as_ref().and_then(|master| pty::size(master).ok());
            let size = size.unwrap_or(Size { cols: 80, rows: 24 });
            Terminal::new(terminal.recalled(size))
        });
        let job = Arc::new(Self {
            id: held.job,
            owner: Arc::new(note.owner.into()),
            spool: Spool::new(memory, path, unblock(held.job, place.clone())),
            body: note.body.and_then(|body| body.0.try_into().ok()),
            command: note.command,
            user: note.user,
            asked: Duration::from_micros(note.asked),
            times: Mutex::default(),
            phase: watch::Sender::new(Phase::Queued),
            place,
            has_turn: AtomicBool::new(true),
            stopped: Notify::new(),
            stdin: Mutex::new(Feed { unknown, ..Feed::new(pipe) }),
            written,
            conversations: Mutex::new(note.conversations.clone()),
            terminal,
            past: None,
        });
        holder.keep(&job, note.uid);
        if held.pid > 0 {
            job.started_as(held.pid, held.at, stdin);
        }
        if let Some(failure) = held.failure {
            job.failed(failure);
        }
        if let Some(end) = &held.end {
            job.ended_with(end);
        }
        if held.finished {
            holder.finished(job.id);
        }
        Ok((job, note.conversations))
    }

    /// What the next agent has to know. The oldest conversations are left out where it would be longer
    /// than the next agent reads: they are answered `conversation_gone`, and begin anew.
    ///
    /// # Errors
    ///
    /// [`Kind::TooLarge`] if it is too long without any of them.
    pub(crate) fn note(&self, uid: u32) -> Result<Blob, Failure> {
        let mut note = Note {
            owner: PrincipalNote::from(&*self.owner),
            command: self.command.clone(),
            user: self.user.clone(),
            uid,
            asked: micros(self.asked),
            piped: self.written.is_some(),
            conversations: lock(&self.conversations).clone(),
            terminal: self.terminal.as_deref().map(TerminalNote::of),
            body: self.body.map(|body| Blob(body.to_vec())),
        };
        loop {
            let bytes = cbor::encode(&note);
            if bytes.len() <= NOTE {
                return Ok(Blob(bytes));
            }
            if note.conversations.is_empty() {
                let text =
                    format!("what is to be kept of it has {} bytes, over {NOTE}", bytes.len());
                return Err(Failure::new(Kind::TooLarge, text));
            }
            note.conversations.remove(0);
        }
    }

    /// Whether the next agent could read all that it has to know.
    pub(crate) fn check_note(&self, uid: u32) -> Result<(), Failure> {
        self.note(uid).map(drop)
    }

    /// Remembers a conversation about it, for the next agent.
    pub(crate) fn talked_about(&self, conversation: Nonce, delivery: &Delivery) {
        let mut all = lock(&self.conversations);
        if all.len() >= CONVERSATIONS {
            all.remove(0);
        }
        all.push((conversation, delivery.clone()));
        drop(all);
        self.remember();
    }

    /// Has its holder keep what the next agent has to know.
    pub(crate) fn remember(&self) {
        if let Place::Held(line) = &*lock(&self.place)
            && let Some(uid) = line.holder.upgrade().and_then(|holder| holder.user())
        {
            match self.note(uid) {
                // Where it cannot be given, the next agent knows a little less.
                Ok(note) => drop(line.order(&Order::Note { job: self.id, note })),
                Err(failure) => tracing::warn!(job = %self.id, %failure, "a note is not renewed"),
            }
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
        if let Some(Past { ended: None, ended_ms, .. }) = self.past.as_deref() {
            return Some(Duration::from_millis(unix_millis().saturating_sub(*ended_ms)));
        }
        self.ended_at().map(|then| boottime().saturating_sub(then))
    }

    /// When it ended, since boot.
    pub(crate) fn ended_at(&self) -> Option<Duration> {
        match &self.past {
            Some(past) => past.ended,
            None => lock(&self.times).ended,
        }
    }

    /// Whether a holder has, or had, its program.
    pub(crate) fn is_held(&self) -> bool {
        matches!(*lock(&self.place), Place::Held(_))
    }

    /// How long it is kept after its end.
    pub(crate) fn keep(&self) -> Duration {
        let limits = self.terminal.as_ref().map(|terminal| terminal.filed().limits);
        limits.and_then(|limits| limits.keep_ms).map_or(KEEP, Duration::from_millis)
    }

    /// How long ago it was asked for.
    pub(crate) fn age(&self) -> Duration {
        match &self.past {
            Some(past) => Duration::from_millis(unix_millis().saturating_sub(past.started_ms)),
            None => boottime().saturating_sub(self.asked),
        }
    }

    /// What it runs, for people.
    pub(crate) fn command(&self) -> &str {
        &self.command
    }

    /// As whom.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// When it was asked for, since boot.
    pub(crate) fn asked(&self) -> Duration {
        self.asked
    }

    /// Whether it waits for its turn.
    pub(crate) fn is_queued(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Queued) && !self.has_turn.load(Ordering::Relaxed)
    }

    /// Waits until it runs, or has run; an error if it never will.
    pub(crate) async fn started(&self) -> Result<u32, Failure> {
        let mut phase = self.phase();
        let begun = phase.wait_for(|phase| !matches!(phase, Phase::Queued)).await;
        match begun.as_deref() {
            Ok(Phase::Running(pid)) => Ok(*pid),
            Ok(Phase::Failed(failure)) if lock(&self.times).started.is_none() => {
                Err(failure.clone())
            }
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

    /// Somebody has it from now on.
    ///
    /// # Errors
    ///
    /// [`Kind::Cancelled`] if it must not be started any more.
    pub(crate) fn held_by(&self, holder: &Arc<Holder>) -> Result<(), Failure> {
        let mut place = lock(&self.place);
        if let Place::Cancelled(why) = *place {
            return Err(Failure::new(Kind::Cancelled, why));
        }
        *place = Place::Held(Line { holder: Arc::downgrade(holder) });
        Ok(())
    }

    /// Nobody has it after all: no order to start it was given.
    pub(crate) fn let_go(&self) {
        *lock(&self.place) = Place::Nowhere;
    }

    /// Why it will not be started, if that is so.
    fn cancelled(&self) -> Option<Failure> {
        match *lock(&self.place) {
            Place::Cancelled(why) => Some(Failure::new(Kind::Cancelled, why)),
            Place::Nowhere | Place::Held(_) => None,
        }
    }

    /// Makes sure that it is never started, if no holder has it. Returns whether that is so.
    pub(crate) fn cancel(&self, why: &'static str) -> bool {
        let mut place = lock(&self.place);
        match *place {
            Place::Held(_) => return false,
            Place::Nowhere => *place = Place::Cancelled(why),
            Place::Cancelled(_) => {}
        }
        drop(place);
        self.stopped.notify_one();
        true
    }

    /// Whether its program was started.
    pub(crate) fn has_started(&self) -> bool {
        lock(&self.times).started.is_some() || self.past.is_some()
    }

    /// Its holder has started it.
    pub(crate) fn started_as(&self, pid: u32, at: u64, stdin: Option<OwnedFd>) {
        let pipe = stdin.and_then(|pipe| Input::new(pipe).ok());
        lock(&self.stdin).pipe = pipe.map_or(Stdin::Closed, |pipe| Stdin::Open(Arc::new(pipe)));
        lock(&self.times).started = Some(Duration::from_micros(at));
        self.phase.send_replace(Phase::Running(pid));
    }

    /// It could not be started, or nobody knows how it ended.
    pub(crate) fn failed(&self, failure: Failure) {
        let failure = brief(failure);
        lock(&self.times).ended = Some(boottime());
        lock(&self.stdin).pipe = Stdin::Closed;
        self.spool.poke();
        self.phase.send_replace(Phase::Failed(failure));
    }

    /// It has ended.
    pub(crate) fn ended_with(&self, end: &End) {
        let End { exit, reason, output_end, escaped, at } = *end;
        lock(&self.times).ended = Some(Duration::from_micros(at));
        lock(&self.stdin).pipe = Stdin::Closed;
        self.spool.poke();
        self.phase.send_replace(Phase::Ended { exit, reason, output_end, escaped });
    }

    /// Its holder has forgotten it: nobody will ask for what the next agent would have to know.
    pub(crate) fn forgotten(&self) {
        *lock(&self.conversations) = Conversations::new();
    }

    /// Its holder is gone, and with it all that could be known.
    pub(crate) fn lost(&self) {
        self.spool.finish();
        if !self.ended() {
            if let Some(terminal) = &self.terminal {
                terminal.filed().lost = Some(Lost::HolderDied);
            }
            let text = "the process that held the program has died; it may go on or have ended";
            self.failed(Failure::new(Kind::OutcomeUnknown, text));
        }
    }

    /// Its bounds have changed: those that its holder keeps to go there.
    pub(crate) fn bound(&self, limits: &Limits) {
        if let Place::Held(line) = &*lock(&self.place) {
            let (kept, rate) = (limits.kept, limits.output_rate);
            // The warning is all that can be done.
            let _ = line.order(&Order::Bound { job: self.id, kept, rate });
        }
    }

    /// Whether it was begun, and nobody knows what became of it.
    pub(crate) fn is_unknown(&self) -> bool {
        self.state().failure.is_some_and(|failure| failure.kind == Kind::OutcomeUnknown)
    }

    /// Asks for a stop: with one signal, or with the ladder.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] if its holder takes no more orders.
    pub(crate) fn stop(&self, signal: Option<i32>) -> Result<Stopped, Failure> {
        if self.ended() {
            return Ok(Stopped::Ended);
        }
        if let Some(signal) = signal
            && let Some(master) = self.master()
        {
            // For whoever is in the foreground, as a key would be.
            if let Err(error) = pty::signal_foreground(master.as_fd(), signal) {
                tracing::debug!(%error, "nobody was signalled");
            }
            return Ok(Stopped::Signalled);
        }
        if !self.cancel(STOPPED)
            && let Place::Held(line) = &*lock(&self.place)
        {
            line.order(&Order::Stop { job: self.id, signal })?;
        }
        Ok(Stopped::Signalled)
    }

    /// The process that was started, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match *self.phase.borrow() {
            Phase::Running(pid) => Some(pid),
            _ => None,
        }
    }

    /// How it is.
    pub(crate) fn state(&self) -> State {
        let stats = self.spool.stats();
        let times = lock(&self.times);
        let until = times.ended.unwrap_or_else(boottime);
        let duration =
            times.started.map_or(Duration::ZERO, |started| until.saturating_sub(started));
        drop(times);
        let past = self.past.as_ref().map(|past| Duration::from_millis(past.duration_ms));
        let duration = past.unwrap_or(duration);
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
            Phase::Queued => state.queued = Some(true).filter(|_| self.is_queued()),
            Phase::Running(_) => {}
            Phase::Failed(failure) => state.failure = Some(failure.clone()),
            Phase::Ended { exit, reason, escaped, .. } => {
                state.exit = Some(*exit);
                state.reason = *reason;
                state.escaped = Some(*escaped).filter(|&count| count > 0);
            }
        }
        state
    }

    /// What the gate has to know of it.
    pub(crate) fn facts(&self) -> JobFacts<'_> {
        let terminal = self.terminal.as_ref();
        let filed_for = terminal.and_then(|terminal| terminal.filed().labels.owner.clone());
        JobFacts { opener: &self.owner, filed_for }
    }

    /// Whether this one is told that it is there. Rights are not looked at: whoever has none is to hear that, and not that
    /// there is nothing.
    pub(crate) fn is_seen_by(&self, asker: &Asker) -> bool {
        gate::sees(&asker.who, &self.facts()).is_ok()
    }

    /// The same with what people want to know besides.
    pub(crate) fn show(&self, to: &Principal, room: bool) -> Shown {
        Shown {
            job: self.id,
            command: self.command.clone(),
            user: self.user.clone(),
            device: self.owner.name.to_string(),
            surface: self.owner.surface.to_string(),
            age_ms: micros(self.age()) / 1000,
            state: self.state(),
            mine: self.owner.is_on_surface_of(to),
            pid: self.pid(),
            session: self
                .terminal
                .as_ref()
                .map(|terminal| Box::new(terminal.status(self, to, room))),
        }
    }
}

/// The failure with texts that fit whatever has to hold them: a message, a note, a record.
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

/// Tells a job's holder that a reader has moved.
fn unblock(job: Nonce, place: Arc<Mutex<Place>>) -> impl Fn() + Send + Sync + 'static {
    move || {
        if let Place::Held(line) = &*lock(&place) {
            // There is always room for one of each job.
            let _ = line.order(&Order::Unblock(job));
        }
    }
}
