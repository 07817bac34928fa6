//! The terminal of a session: everything known about it besides its bytes.
//!
//! ```text
//!     log ──> marks    what the shell says of its commands; questions that programs ask a terminal
//!         └─> screen   what a terminal would show
//!     kernel ─> doing  who is in the foreground, and how input is treated
//!
//!     typing_rights ──> turn, typing  who may type, whose turn it is, and typing
//!     events, participants   who did what, and who is there
//! ```
//!
//! The bytes are in the log, which the holder owns. All of this can be rebuilt from them, so
//! nothing is lost when the agent dies. Nothing is ever typed or written to the log to find it out.
//!
//! # Order of locks
//!
//! A thread that holds a lock takes only locks further down this list:
//!
//! 1. the table of jobs (`jobs.rs`)
//! 2. who holds the program (`program/holding.rs`), while a note for the next agent is made
//! 3. `typing`; of the sessions of a group, in the order of their ids
//! 4. `filed`
//! 5. the sizes that are to be drawn (`view.rs`), the input of the program (`program/input.rs`),
//!    the log
//!
//! The screen (`view.rs`) comes before what was seen of it and before its sizes. `marked_lines`,
//! the events and the participants are each locked alone: no other of these locks is held
//! meanwhile.

pub(crate) mod doing;
pub(crate) mod events;
pub(crate) mod filing;
pub(crate) mod keys;
mod line;
pub(crate) mod marks;
pub(crate) mod participants;
pub(crate) mod screen;
mod sent;
pub(crate) mod shell;
pub(crate) mod turn;
pub(crate) mod typing;
pub(crate) mod typing_rights;
pub(crate) mod typist;
mod view;

use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Because, Doing, Size as SizeMessage, Status};
use farwire_protocol::streams::session::{Labels, LeaseChange, Limits, TypingRule};
use tokio::sync::{mpsc, watch};

use self::events::{Events, What, When};
pub(crate) use self::filing::Filed;
use self::line::TypedLine;
use self::marks::{Marks, Query};
use self::participants::Participants;
use self::screen::ScreenSummary;
pub(crate) use self::sent::Sent;
use self::sent::{Exchanges, NewExchange};
use self::typing_rights::{Arbiter, Transfer};
use self::view::View;
use crate::gate::principal::Principal;
use crate::os::clock::{boottime, unix_millis};
use crate::os::pty::Size;
use crate::pace::Pace;
use crate::program::Program;
use crate::spool::{Item, Mode};

/// How much of the log is read at once.
const CHUNK: usize = 64 << 10;

/// At most this many queries wait for their answers; further ones get none.
const QUESTIONS: usize = 32;

/// Passes what is known of a terminal on to the next agent.
pub(crate) trait Remembers: Send + Sync {
    /// Records its current state for the next agent.
    fn remember(&self);
}

/// The agent's state of a session, besides the job.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// What runs on it.
    program: Arc<Program>,
    job: Weak<dyn Remembers>,
    /// What people call it.
    pub(crate) name: String,
    /// Whether its shell was given our marks.
    pub(crate) nonce: Option<String>,
    marked_lines: Mutex<Marked>,
    view: View,
    /// Counts the changes that marks have reported.
    marked: watch::Sender<u64>,
    /// The shell edits a line according to its marks, or has no marks.
    editing: AtomicBool,
    resized: watch::Sender<Size>,
    typing: Mutex<Typing>,
    /// Counts the changes of who may type.
    rights_changed: watch::Sender<u64>,
    /// Counts the changes of turns.
    turns_changed: watch::Sender<u64>,
    filed: Mutex<Filed>,
    pub(crate) events: Events,
    pub(crate) participants: Participants,
    /// When there was last input or output, in milliseconds since boot.
    busy: AtomicU64,
    /// The end of the log when it was last checked.
    said: AtomicU64,
    /// It was closed for being idle.
    closed: AtomicBool,
    /// Everything that is kept of it is on the disk.
    archived: AtomicBool,
}

/// What is checked and updated under one lock with each write.
#[derive(Debug)]
pub(crate) struct Typing {
    pub(crate) arbiter: Arbiter,
    /// The rate of typing.
    pace: Pace,
    /// Exchanges that were typed.
    exchanges: Exchanges,
    /// The line that is being typed to the shell.
    line: TypedLine,
    /// One bit for each slot of an attached typist.
    typists: u64,
}

/// What the shell reports about its commands.
#[derive(Debug)]
struct Marked {
    marks: Marks,
    /// The command line of the program that reports it.
    by: Option<Arc<[u8]>>,
}

/// The initial state of a terminal.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    pub(crate) name: String,
    pub(crate) nonce: Option<String>,
    pub(crate) size: Size,
    pub(crate) filed: Filed,
    pub(crate) policy: TypingRule,
    /// The last change of the lease, under an earlier agent.
    pub(crate) transfer: Option<Transfer>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

impl Terminal {
    pub(crate) fn new(
        beginning: Beginning,
        program: Arc<Program>,
        job: Weak<dyn Remembers>,
    ) -> Arc<Self> {
        let Beginning { name, nonce, size, filed, policy, transfer } = beginning;
        let mut arbiter = Arbiter::new(policy, transfer);
        arbiter.set_read_only(filed.labels.read_only == Some(true));
        Arc::new(Self {
            program,
            job,
            name,
            marked_lines: Mutex::new(Marked { marks: Marks::new(nonce.as_deref()), by: None }),
            editing: AtomicBool::new(nonce.is_none()),
            nonce,
            view: View::new(size),
            marked: watch::Sender::new(0),
            resized: watch::Sender::new(size),
            typing: Mutex::new(Typing {
                arbiter,
                pace: Pace::default(),
                exchanges: Exchanges::default(),
                line: TypedLine::default(),
                typists: 0,
            }),
            rights_changed: watch::Sender::new(0),
            turns_changed: watch::Sender::new(0),
            filed: Mutex::new(filed),
            events: Events::default(),
            participants: Participants::default(),
            busy: AtomicU64::new(millis(boottime())),
            said: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            archived: AtomicBool::new(false),
        })
    }

    /// Follows the log of a terminal until it is finished, or the terminal is gone: reads marks,
    /// answers the terminal queries of programs, and draws the backlog.
    pub(crate) async fn follow(terminal: Weak<Self>) {
        let (asks, asked) = mpsc::channel(QUESTIONS);
        let (draw, drawn) = mpsc::channel(1);
        tokio::join!(
            Self::follow_marks(terminal.clone(), asks, draw),
            Self::answer_queries(terminal.clone(), asked),
            Self::draw_backlog(terminal, drawn)
        );
    }

    /// Reads marks, and waits for nothing else.
    async fn follow_marks(terminal: Weak<Self>, asks: mpsc::Sender<Query>, draw: mpsc::Sender<()>) {
        let mut unseen = None;
        let spool = terminal.upgrade().map(|terminal| terminal.program.spool.clone());
        let Some(mut log) = spool.map(|spool| spool.reader(0, Mode::Lagging)) else { return };
        loop {
            {
                let Some(terminal) = terminal.upgrade() else { return };
                let mut looked = 0;
                loop {
                    let at = log.offset();
                    match log.next(CHUNK) {
                        Item::Data(_, bytes) => {
                            looked += bytes.len();
                            terminal.read_marks(at, &bytes, &asks);
                        }
                        Item::Gap { .. } => lock(&terminal.marked_lines).marks.gap(),
                        Item::UpToDate { .. } => break,
                    }
                    // Keys of other sessions go first.
                    tokio::task::yield_now().await;
                }
                if terminal.is_behind(unseen) && draw.try_send(()).is_ok() {
                    unseen = Some(Instant::now());
                }
                if terminal.program.has_ended() && looked == 0 {
                    lock(&terminal.marked_lines).marks.over(log.offset());
                    return;
                }
            }
            log.wait().await;
            // Attached clients get the output before it is scanned.
            tokio::task::yield_now().await;
        }
    }

    /// Reads the marks in the output from `at` on. Passes on queries, unless an earlier agent has
    /// seen them.
    fn read_marks(&self, at: u64, bytes: &[u8], asks: &mpsc::Sender<Query>) {
        // Recorded before it is answered: a query gets at most one answer, even if an agent dies.
        let memory = self.program.spool.memory();
        let seen = memory.as_ref().map_or(u64::MAX, |memory| memory.seen_until());
        let found = lock(&self.marked_lines).marks.read(at, bytes, seen);
        if let Some(memory) = &memory {
            memory.see(at + bytes.len() as u64);
        }
        if found.changed {
            let phase = self.marks(Marks::phase);
            let waits = phase == marks::Phase::Waiting;
            let editing = waits || phase == marks::Phase::Prompting;
            self.editing.store(editing, Ordering::Relaxed);
            if let Some(shell) = self.program.pid().filter(|_| waits) {
                let cwd = std::fs::read_link(format!("/proc/{shell}/cwd")).ok();
                let mut marked = lock(&self.marked_lines);
                marked.marks.is_at(cwd);
                if marked.by.is_none() {
                    marked.by = doing::command_line(shell).map(Arc::from);
                }
            }
            self.marked.send_modify(|count| *count += 1);
        }
        for (_, query) in found.queries.iter().filter(|(at, _)| *at > seen) {
            let _ = asks.try_send(*query);
        }
    }

    /// Answers queries one after the other.
    async fn answer_queries(terminal: Weak<Self>, mut asked: mpsc::Receiver<Query>) {
        while let Some(query) = asked.recv().await {
            let Some(terminal) = terminal.upgrade() else { return };
            terminal.answer(query).await;
        }
    }

    /// Draws the backlog.
    async fn draw_backlog(terminal: Weak<Self>, mut wanted: mpsc::Receiver<()>) {
        while wanted.recv().await.is_some() {
            let Some(terminal) = terminal.upgrade() else { return };
            terminal.draw().await;
        }
    }

    async fn answer(self: &Arc<Self>, query: Query) {
        let answer = match query {
            Query::Attributes => "\x1b[?62;22c".to_owned(),
            Query::MoreAttributes => "\x1b[>1;10;0c".to_owned(),
            Query::Status => "\x1b[0n".to_owned(),
            Query::Cursor => {
                self.draw().await;
                let (row, col) = self.summary().facts.cursor();
                format!("\x1b[{row};{col}R")
            }
        };
        // A program that queries but never reads would block us.
        let _ =
            tokio::time::timeout(Duration::from_millis(100), self.program.write(answer.as_bytes()))
                .await;
    }

    /// Reads what the shell has reported about its commands.
    pub(crate) fn marks<T>(&self, look: impl FnOnce(&Marks) -> T) -> T {
        look(&lock(&self.marked_lines).marks)
    }

    /// A way to wait for more marks.
    pub(crate) fn marked(&self) -> watch::Receiver<u64> {
        self.marked.subscribe()
    }

    /// A way to wait for another size.
    pub(crate) fn resized(&self) -> watch::Receiver<Size> {
        self.resized.subscribe()
    }

    /// Its size.
    pub(crate) fn size(&self) -> Size {
        *self.resized.borrow()
    }

    /// Its labels and limits.
    pub(crate) fn filing(&self) -> MutexGuard<'_, Filed> {
        lock(&self.filed)
    }

    /// Who may type, and what was typed.
    pub(crate) fn typing(&self) -> MutexGuard<'_, Typing> {
        lock(&self.typing)
    }

    /// Whether everything that is kept of it is on the disk.
    pub(crate) fn is_archived(&self) -> bool {
        self.archived.load(Ordering::Acquire)
    }

    /// Records that everything that is kept of it is on the disk.
    pub(crate) fn set_archived(&self) {
        self.archived.store(true, Ordering::Release);
    }

    /// Records its current state for the next agent.
    pub(crate) fn remember(&self) {
        if let Some(job) = self.job.upgrade() {
            job.remember();
        }
    }

    /// Marks it as closed for being idle. Returns `false` if it already was.
    pub(crate) fn close_once(&self) -> bool {
        !self.closed.swap(true, Ordering::Relaxed)
    }

    /// A way to wait for a change of who may type.
    pub(crate) fn rights_changed(&self) -> watch::Receiver<u64> {
        self.rights_changed.subscribe()
    }

    /// Wakes everybody who waits for a change of who may type.
    pub(crate) fn tell_rights(&self) {
        self.rights_changed.send_modify(|count| *count += 1);
        self.tell_turns();
    }

    /// A way to wait for another turn.
    pub(crate) fn turns_changed(&self) -> watch::Receiver<u64> {
        self.turns_changed.subscribe()
    }

    /// Wakes everybody who waits for a turn, and the holder of the turn.
    pub(crate) fn tell_turns(&self) {
        self.turns_changed.send_modify(|count| *count += 1);
    }

    /// Records the changes of the lease, made by `who` or by expiry.
    pub(crate) fn settle(&self, who: Option<&Principal>) {
        let news = lock(&self.typing).arbiter.news();
        if news.is_empty() {
            return;
        }
        for transfer in news {
            let who = who.filter(|_| transfer.way != LeaseChange::Expired);
            self.note(who, What::Leased(Box::new(transfer)));
        }
        self.tell_rights();
        self.remember();
    }

    /// Timestamps for an event that happens now.
    fn now(&self) -> When {
        When { now: boottime(), at_ms: unix_millis(), offset: self.program.spool.end() }
    }

    /// Records an event.
    pub(crate) fn note(&self, who: Option<&Principal>, what: What) {
        self.events.note(self.now(), who.cloned(), what);
        self.count_events();
    }

    /// Records the number of the last event, so that the next agent goes on counting from it.
    pub(crate) fn count_events(&self) {
        if let Some(memory) = self.program.spool.memory() {
            memory.count_events(self.events.last());
        }
    }

    /// Records that somebody types.
    fn busy(&self, now: Duration) {
        self.busy.fetch_max(millis(now), Ordering::Relaxed);
    }

    /// How long there has been neither input nor output, as of the last check.
    pub(crate) fn idle(&self, now: Duration) -> Duration {
        let end = self.program.spool.end();
        if self.said.swap(end, Ordering::Relaxed) != end {
            self.busy(now);
        }
        now.saturating_sub(Duration::from_millis(self.busy.load(Ordering::Relaxed)))
    }

    /// How much may be typed per second.
    fn input_rate(&self) -> Option<u64> {
        lock(&self.filed).limits.input_rate
    }

    /// Whether the shell edits a line.
    fn edits_line(&self) -> bool {
        self.editing.load(Ordering::Relaxed)
    }

    /// Begins an exchange under this id. If it was typed already, returns what was typed then, and
    /// nothing is to be typed again. `joins` says that it is part of another exchange.
    pub(crate) fn exchange(
        &self,
        id: Nonce,
        joins: bool,
        who: &Principal,
        sent: Sent,
    ) -> Option<Sent> {
        let new = NewExchange { id, by: who.device, sent, joins };
        lock(&self.typing).exchanges.begin(new, boottime())
    }

    /// What its foreground program is doing.
    pub(crate) fn doing(&self) -> Doing {
        if self.program.has_ended() {
            return Doing::Exited;
        }
        let (Some(master), Some(shell)) = (self.program.master(), self.program.pid()) else {
            return Doing::Running;
        };
        let alternate = self.summary().facts.alternate;
        let phase = self.marks(|marks| match marks.is_about_to_wait() {
            true => marks::Phase::Waiting,
            false => marks.phase(),
        });
        let marked = lock(&self.marked_lines).by.clone();
        doing::doing(master.as_fd(), shell, marked.as_deref(), phase, alternate)
    }

    /// Waits for the prompt that follows a command, so that what is typed next is shown after it.
    pub(crate) async fn wait_prompt(&self) {
        let mut marked = self.marked();
        let _ = tokio::time::timeout(marks::PROMPT, async {
            // The sender lives as long as we do.
            while self.marks(Marks::is_about_to_wait) && marked.changed().await.is_ok() {}
        })
        .await;
    }

    /// Waits until the shell has taken a line that was entered a moment ago.
    pub(crate) async fn wait_taken(&self) {
        let mut marked = self.marked();
        let entered = || {
            let waits_since = self.marks(Marks::waits_since);
            lock(&self.typing).line.is_entered(waits_since)
        };
        let _ = tokio::time::timeout(marks::PROMPT, async {
            // The sender lives as long as we do.
            while entered() && marked.changed().await.is_ok() {}
        })
        .await;
    }

    /// The number of the command that takes what is typed now, unless the shell does: the one that
    /// runs, or of which the line was entered.
    pub(crate) fn taken_by(&self) -> Option<u64> {
        let (running, count, waits_since) =
            self.marks(|marks| (marks.running(), marks.count(), marks.waits_since()));
        let entered = || lock(&self.typing).line.is_entered(waits_since);
        running.or_else(|| entered().then_some(count + 1))
    }

    /// The exchange with this id, if it was typed.
    pub(crate) fn exchange_of(&self, request: Nonce) -> Option<Sent> {
        lock(&self.typing).exchanges.get(&request)
    }

    /// Ends the typing of an exchange.
    pub(crate) fn end_typing(&self, request: Nonce) {
        if let Some(sent) = lock(&self.typing).exchanges.get_mut(&request) {
            sent.typing = false;
        }
    }

    /// Records how much of an exchange was typed.
    pub(crate) fn count_exchange(&self, request: Nonce, typed: u64, left: u64) {
        if let Some(sent) = lock(&self.typing).exchanges.get_mut(&request) {
            (sent.typed, sent.left) = (typed, left);
        }
    }

    /// Records that an exchange was answered with the log up to `at`. Only the first call counts.
    pub(crate) fn answers(&self, request: Nonce, at: u64, because: Because) {
        lock(&self.typing).exchanges.answer(&request, at, because);
    }

    /// Whether the foreground program waits for somebody to type.
    pub(crate) fn reads(&self) -> bool {
        let (Some(master), Some(shell)) = (self.program.master(), self.program.pid()) else {
            return false;
        };
        doing::reads(master.as_fd(), shell)
    }

    /// Whether the foreground program reads single keys, and waits.
    pub(crate) fn polls(&self) -> bool {
        let (Some(master), Some(shell)) = (self.program.master(), self.program.pid()) else {
            return false;
        };
        doing::polls(master.as_fd(), shell)
    }

    /// Whether its program is idle at this moment.
    pub(crate) fn rests(&self) -> bool {
        self.program.pid().is_none_or(doing::rests)
    }

    /// Its status, as shown to `to`. It lists who is attached only if there is `room`.
    pub(crate) fn status(&self, to: &Principal, room: bool) -> Status {
        let now = boottime();
        let doing = self.doing();
        let foreground = self
            .program
            .master()
            .and_then(|master| doing::foreground_name(master.as_fd(), self.program.pid()?));
        let ScreenSummary { facts, title, .. } = self.summary();
        let (row, col) = facts.cursor();
        let size = self.size();
        let Filed { labels, limits, recovered_ms, lost } = lock(&self.filed).clone();
        // Its guard is gone before the events and the participants are locked.
        let typing = lock(&self.typing).arbiter.show(to, now);
        let attached = self.participants.count();
        Status {
            session: self.program.job,
            name: self.name.clone(),
            doing,
            size: SizeMessage { cols: size.cols, rows: size.rows },
            marked: self.marks(Marks::marks_commands),
            attached: u32::try_from(attached).unwrap_or(u32::MAX),
            title,
            foreground,
            cursor: Some(SizeMessage { cols: col, rows: row }),
            known: None,
            typing: Some(typing),
            labels: Some(labels).filter(|labels| *labels != Labels::default()),
            limits: Some(limits).filter(|limits| *limits != Limits::default()),
            events: Some(self.events.last()),
            idle_ms: Some(millis(self.idle(now))),
            participants: room.then(|| self.participants.show(to, now)),
            recovered_ms,
            lost,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
