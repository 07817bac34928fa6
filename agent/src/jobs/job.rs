//! One job: its request, its program, and what is kept of both.
//!
//! Its program belongs to a holder, which reports what becomes of it. Everybody else reads the log,
//! watches the phase, passes input on (see `program.rs`), or asks for a stop. A session also has a
//! [`Terminal`].

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::control::{Job as Shown, Stopped};
use farwire_protocol::streams::run::{Delivery, Exit, State};
use farwire_protocol::streams::session::{Limits, Lost};
use tokio::sync::watch;

use crate::gate::demand::JobFacts;
use crate::gate::principal::{Principal, PrincipalNote};
use crate::gate::{self, Asker};
use crate::holder::message::{Held, HolderOrder};
use crate::holder::micros;
use crate::os::clock::{boottime, unix_millis};
use crate::os::pty::{self, Size};
use crate::program::holding::Orders;
use crate::program::{Accepts, Adoption, Phase, Program};
use crate::spool::{Memory, Spool};
use crate::terminal::{Beginning, Remembers, Terminal};

mod note;
mod plan;

use note::{NOTE, Note, TerminalNote};
pub(crate) use plan::JobPlan;

/// At most this many conversations about one job are remembered by the next agent.
const CONVERSATIONS: usize = 16;

/// How long a job is kept after its end by default.
pub(crate) const KEEP: Duration = Duration::from_secs(24 * 3600);

/// A job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Nonce,
    pub(crate) owner: Arc<Principal>,
    pub(crate) program: Arc<Program>,
    /// The log of its program.
    pub(crate) spool: Spool,
    /// The hash of the request, where that is known.
    pub(crate) body: Option<[u8; 32]>,
    command: String,
    user: String,
    /// Since boot, like all times here.
    asked: Duration,
    /// Its turn has come: it is about to be started, or was.
    has_turn: AtomicBool,
    conversations: Mutex<Conversations>,
    /// Its terminal, if it is a session.
    pub(crate) terminal: Option<Arc<Terminal>>,
    /// What an earlier agent recorded of it, if no holder has it.
    past: Option<Box<Past>>,
}

/// What was asked for, and by whom.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) id: Nonce,
    pub(crate) owner: Arc<Principal>,
    /// The hash of the request, where that is known.
    pub(crate) body: Option<[u8; 32]>,
    /// Its command, for people, and the user that it runs as.
    pub(crate) command: String,
    pub(crate) user: String,
    /// When, since boot.
    pub(crate) asked: Duration,
}

/// The record of a job that no holder has any more. Times that end in `_ms` are milliseconds since
/// 1970, for people; the others are since boot, and ages are measured by them.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) phase: Phase,
    /// `None` if an older agent did not write it.
    pub(crate) ended: Option<Duration>,
    pub(crate) started_ms: u64,
    pub(crate) ended_ms: u64,
    pub(crate) duration_ms: u64,
}

/// Conversations about a job, with what each is for.
pub(crate) type Conversations = Vec<(Nonce, Delivery)>;

/// A job that was taken over from its holder.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) job: Arc<Job>,
    /// The id of the user that its program runs as.
    pub(crate) user: u32,
    pub(crate) conversations: Conversations,
}

/// Why a run was never started whose stop came before its turn.
pub(crate) const STOPPED: &str = "it was stopped before a slot was free";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

impl Job {
    /// A job of this plan. Its output goes to `memory`, and to a file at `path`; `body` is the hash
    /// of its request.
    pub(crate) fn new(
        owner: Arc<Principal>,
        plan: &JobPlan,
        memory: Arc<Memory>,
        path: PathBuf,
        body: [u8; 32],
    ) -> Arc<Self> {
        let id = plan.start.job;
        let accepts = match &plan.terminal {
            Some(_) => Accepts::Keys,
            // The holder passes on input that came with the request.
            None if plan.start.piped && plan.start.input.is_none() => Accepts::Input,
            None => Accepts::Nothing,
        };
        let origin = Origin {
            id,
            owner,
            body: Some(body),
            command: plan.shown.clone(),
            user: plan.user.clone(),
            asked: boottime(),
        };
        let program = Program::new(id, memory, path, accepts);
        let parts = Parts { has_turn: plan.terminal.is_some(), ..Parts::default() };
        Self::assemble(origin, program, Parts { terminal: plan.terminal.clone(), ..parts })
    }

    /// A run or a session that an earlier agent has recorded, and that no holder has.
    pub(crate) fn from_record(
        origin: Origin,
        past: Past,
        terminal: Option<Beginning>,
        spool: Spool,
    ) -> Arc<Self> {
        let program =
            Program::from_record(origin.id, spool, past.phase.clone(), terminal.is_some());
        let past = Some(Box::new(past));
        let parts = Parts { terminal, has_turn: true, past, ..Parts::default() };
        Self::assemble(origin, program, parts)
    }

    /// A job that `holder` had before this agent came. `memory` is that of its log, and `input` is
    /// what its input is written to.
    pub(crate) fn adopted(
        held: &Held,
        holder: Weak<dyn Orders>,
        memory: Arc<Memory>,
        input: Option<BorrowedFd<'_>>,
        path: PathBuf,
    ) -> Result<Adopted, Failure> {
        let note: Note = cbor::decode(&held.note, NOTE).map_err(|error| {
            Failure::caused(Kind::Internal, "a note that cannot be read", &error)
        })?;
        let accepts = match &note.terminal {
            Some(_) => Accepts::Keys,
            None if note.piped => Accepts::Input,
            None => Accepts::Nothing,
        };
        let how = Adoption { holder, accepts, connected: input.is_some() };
        let program = Program::adopted(held.job, memory, path, how);
        let origin = Origin {
            id: held.job,
            owner: Arc::new(note.owner.into()),
            body: note.body.and_then(|body| body.0.try_into().ok()),
            command: note.command,
            user: note.user,
            asked: Duration::from_micros(note.asked),
        };
        let terminal = note.terminal.map(|terminal| {
            let size = input.and_then(|master| pty::size(master).ok());
            terminal.recalled(size.unwrap_or(Size { cols: 80, rows: 24 }))
        });
        let conversations = note.conversations.clone();
        let parts = Parts { terminal, has_turn: true, conversations, past: None };
        let job = Self::assemble(origin, program, parts);
        Ok(Adopted { job, user: note.uid, conversations: note.conversations })
    }

    fn assemble(origin: Origin, program: Program, parts: Parts) -> Arc<Self> {
        let Origin { id, owner, body, command, user, asked } = origin;
        let program = Arc::new(program);
        Arc::new_cyclic(|job: &Weak<Self>| Self {
            id,
            owner,
            spool: program.spool.clone(),
            body,
            command,
            user,
            asked,
            has_turn: AtomicBool::new(parts.has_turn),
            conversations: Mutex::new(parts.conversations),
            terminal: parts
                .terminal
                .map(|terminal| Terminal::new(terminal, program.clone(), job.clone())),
            past: parts.past,
            program,
        })
    }

    /// Records that its turn has come.
    pub(super) fn take_turn(&self) {
        self.has_turn.store(true, Ordering::Relaxed);
    }

    /// The note for the next agent. The oldest conversations are left out if it would be longer
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
            piped: self.program.accepts_input(),
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

    /// Checks that the note for the next agent is not too long.
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

    /// The phase of its program, and a way to wait for a change.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.program.phase()
    }

    /// Whether it is over: nothing more happens to it.
    pub(crate) fn has_ended(&self) -> bool {
        self.program.has_ended()
    }

    /// Waits until it runs, or has run. Returns an error if it never will.
    pub(crate) async fn wait_for_start(&self) -> Result<u32, Failure> {
        self.program.wait_for_start().await
    }

    /// Waits for its end.
    pub(crate) async fn exit(&self) -> Option<Exit> {
        self.program.exit().await
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
            None => self.program.ended_at(),
        }
    }

    /// How long it is kept after its end.
    pub(crate) fn keep(&self) -> Duration {
        let limits = self.terminal.as_ref().map(|terminal| terminal.filing().limits);
        limits.and_then(|limits| limits.keep_ms).map_or(KEEP, Duration::from_millis)
    }

    /// How long ago it was asked for.
    pub(crate) fn age(&self) -> Duration {
        match &self.past {
            Some(past) => Duration::from_millis(unix_millis().saturating_sub(past.started_ms)),
            None => boottime().saturating_sub(self.asked),
        }
    }

    /// Its command, for people.
    pub(crate) fn command(&self) -> &str {
        &self.command
    }

    /// The user that it runs as.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// When it was asked for, since boot.
    pub(crate) fn requested_at(&self) -> Duration {
        self.asked
    }

    /// Whether it waits for its turn.
    pub(crate) fn is_queued(&self) -> bool {
        matches!(*self.phase().borrow(), Phase::Queued) && !self.has_turn.load(Ordering::Relaxed)
    }

    /// Whether its program was started.
    pub(crate) fn has_started(&self) -> bool {
        self.program.has_started() || self.past.is_some()
    }

    /// Forgets its conversations, since its holder has forgotten the job, too.
    pub(crate) fn forget_conversations(&self) {
        *lock(&self.conversations) = Conversations::new();
    }

    /// Records that its holder is gone, so that its end is unknown.
    pub(crate) fn lose(&self) {
        self.spool.finish();
        if !self.has_ended() {
            if let Some(terminal) = &self.terminal {
                terminal.filing().lost = Some(Lost::HolderDied);
            }
            let text = "the process that held the program has died; the program may have ended or still run";
            self.program.set_failed(Failure::new(Kind::OutcomeUnknown, text));
        }
    }

    /// Applies new limits: sends its holder those that the holder enforces.
    pub(crate) fn bound(&self, limits: &Limits) {
        let (kept, rate) = (limits.kept, limits.output_rate);
        // The warning is all that can be done.
        let _ = self.program.order(&HolderOrder::Bound { job: self.id, kept, rate });
    }

    /// Whether it was begun, and what became of it is unknown.
    pub(crate) fn is_unknown(&self) -> bool {
        self.state().failure.is_some_and(|failure| failure.kind == Kind::OutcomeUnknown)
    }

    /// Asks for a stop: with one signal, or with the ladder.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] if its holder takes no more orders.
    pub(crate) fn stop(&self, signal: Option<i32>) -> Result<Stopped, Failure> {
        if self.has_ended() {
            return Ok(Stopped::Ended);
        }
        if let Some(signal) = signal
            && let Some(master) = self.program.master()
        {
            // To the foreground group, like a key.
            if let Err(error) = pty::signal_foreground(master.as_fd(), signal) {
                tracing::debug!(%error, "nobody was signalled");
            }
            return Ok(Stopped::Signalled);
        }
        if !self.program.cancel(STOPPED) {
            self.program.order(&HolderOrder::Stop { job: self.id, signal })?;
        }
        Ok(Stopped::Signalled)
    }

    /// Its state.
    pub(crate) fn state(&self) -> State {
        let stats = self.spool.stats();
        let past = self.past.as_ref().map(|past| Duration::from_millis(past.duration_ms));
        let duration = past.unwrap_or_else(|| self.program.duration());
        let mut state = State {
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            lines: stats.lines,
            bytes: stats.end,
            dropped_bytes: stats.start,
            dropped_lines: stats.dropped_lines,
            memory_only: stats.memory_only,
            ..State::default()
        };
        match &*self.phase().borrow() {
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

    /// What the gate needs to know of it.
    pub(crate) fn facts(&self) -> JobFacts<'_> {
        let terminal = self.terminal.as_ref();
        let filed_for = terminal.and_then(|terminal| terminal.filing().labels.owner.clone());
        JobFacts { opener: &self.owner, filed_for }
    }

    /// Whether `asker` may know that it exists. Rights are not checked: an asker without them gets
    /// that error, and not that there is no such job.
    pub(crate) fn is_seen_by(&self, asker: &Asker) -> bool {
        gate::sees(&asker.who, &self.facts()).is_ok()
    }

    /// Its state, with what else people want to know.
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
            own_device: Some(self.owner.device == to.device),
            pid: self.program.pid(),
            session: self.terminal.as_ref().map(|terminal| Box::new(terminal.status(to, room))),
        }
    }
}

/// The parts of a job in which its constructors differ.
#[derive(Debug, Default)]
struct Parts {
    terminal: Option<Beginning>,
    has_turn: bool,
    conversations: Conversations,
    past: Option<Box<Past>>,
}

impl Remembers for Job {
    fn remember(&self) {
        self.program.renew_note(|user| match self.note(user) {
            Ok(note) => Some(HolderOrder::Note { job: self.id, note }),
            Err(failure) => {
                tracing::warn!(job = %self.id, %failure, "a note is not renewed");
                None
            }
        });
    }
}
