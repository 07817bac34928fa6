//! The terminal of a session: what is known of it besides its bytes.
//!
//! ```text
//!     log ──> marks    what the shell says of its commands; questions that programs ask a terminal
//!         └─> screen   what a terminal would show
//!     kernel ─> doing  who is in the foreground, and how input is treated
//! ```
//!
//! The bytes are the log's, and belong to the holder; all of this can be made anew from them, so that
//! nothing is lost with the agent. Nothing is ever typed, nor written to the log, to find out.

pub(crate) mod doing;
pub(crate) mod keys;
pub(crate) mod marks;
pub(crate) mod screen;
pub(crate) mod shell;

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Doing, Size as SizeMessage, Status};
use tokio::sync::watch;

use self::marks::{Marks, Query};
use self::screen::Screen;
use crate::jobs::job::Job;
use crate::os::pty::{self, Size};
use crate::spool::{Item, Mode};

/// So many exchanges of one session are remembered.
const REMEMBERED: usize = 256;

/// How much of the log is looked at in one go.
const CHUNK: usize = 64 << 10;

/// More than that is not drawn while others wait: it takes some milliseconds.
const BEHIND: u64 = 256 << 10;

/// The screen follows the log at the latest when it is so much behind. To draw a flood that nobody looks at
/// costs as much as to make it; to draw what is left of it when somebody does takes a second.
const LAZY: u64 = 64 << 20;

/// What the agent has of a session besides the job.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// What people call it.
    pub(crate) name: String,
    /// Whether its shell was given our marks.
    pub(crate) nonce: Option<String>,
    marks: Mutex<Marks>,
    screen: Mutex<Screen>,
    /// Counts what the marks have said.
    marked: watch::Sender<u64>,
    attached: AtomicU32,
    resized: watch::Sender<Size>,
    /// Exchanges that were typed.
    sent: Mutex<VecDeque<(Nonce, Sent)>>,
}

/// An exchange that was typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sent {
    /// Where the log was before.
    pub(crate) offset: u64,
    /// How many commands had ended before.
    pub(crate) ended: u64,
}

/// As long as it lives, somebody is attached.
#[derive(Debug)]
pub(crate) struct Attachment(Arc<Terminal>);

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.attached.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

impl Terminal {
    pub(crate) fn new(name: String, nonce: Option<String>, size: Size) -> Arc<Self> {
        Arc::new(Self {
            name,
            marks: Mutex::new(Marks::new(nonce.as_deref())),
            nonce,
            screen: Mutex::new(Screen::new(size)),
            marked: watch::Sender::new(0),
            attached: AtomicU32::new(0),
            resized: watch::Sender::new(size),
            sent: Mutex::default(),
        })
    }

    /// Follows the log until it is finished: reads marks, answers what programs ask a terminal.
    pub(crate) async fn follow(self: Arc<Self>, job: Weak<Job>) {
        let Some(mut log) = job.upgrade().map(|job| job.spool.reader(0, Mode::Lagging)) else {
            return;
        };
        loop {
            {
                let Some(job) = job.upgrade() else { return };
                let mut looked = 0;
                loop {
                    let at = log.offset();
                    match log.next(CHUNK) {
                        Item::Data(_, bytes) => {
                            looked += bytes.len();
                            // What is written down first is answered at most once, whoever dies.
                            let memory = job.spool.memory();
                            let seen = memory.as_ref().map_or(u64::MAX, |memory| memory.seen());
                            let found = lock(&self.marks).read(at, &bytes, seen);
                            if let Some(memory) = &memory {
                                memory.see(log.offset());
                            }
                            if found.changed {
                                let waits = self.marks(Marks::phase) == marks::Phase::Waiting;
                                if let Some(shell) = job.pid().filter(|_| waits) {
                                    let cwd = std::fs::read_link(format!("/proc/{shell}/cwd")).ok();
                                    lock(&self.marks).is_at(cwd);
                                }
                                self.marked.send_modify(|count| *count += 1);
                            }
                            for (_, query) in found.queries.iter().filter(|(at, _)| *at > seen) {
                                self.answer(&job, *query).await;
                            }
                        }
                        Item::Gap { .. } => lock(&self.marks).gap(),
                        Item::UpToDate { .. } => break,
                    }
                    // Keys of others come first.
                    tokio::task::yield_now().await;
                }
                if job.spool.stats().end.saturating_sub(lock(&self.screen).offset()) > LAZY {
                    self.drawn(&job).await;
                }
                if job.ended() && looked == 0 {
                    return;
                }
            }
            // A grid that nobody looks at is put away once; after that there is nothing to wake up for.
            loop {
                let drawn = lock(&self.screen).is_drawn();
                let patience = if drawn { screen::KEEP } else { Duration::MAX };
                match tokio::time::timeout(patience, log.wait()).await {
                    Ok(()) => break,
                    Err(_) => lock(&self.screen).rest(),
                }
            }
            // What was said is passed on to those who are attached before it is looked at.
            tokio::task::yield_now().await;
        }
    }

    async fn answer(&self, job: &Job, query: Query) {
        let answer = match query {
            Query::Attributes => "\x1b[?62;22c".to_owned(),
            Query::MoreAttributes => "\x1b[>1;10;0c".to_owned(),
            Query::Status => "\x1b[0n".to_owned(),
            Query::Cursor => {
                let (row, col) = self.screen(job, Screen::cursor);
                format!("\x1b[{row};{col}R")
            }
        };
        // A program that asks and does not read is its own enemy.
        let _ =
            tokio::time::timeout(Duration::from_millis(100), job.write(answer.as_bytes())).await;
    }

    /// Draws what the log has now, where that takes a while.
    pub(crate) async fn drawn(self: &Arc<Self>, job: &Arc<Job>) {
        let behind = job.spool.stats().end.saturating_sub(lock(&self.screen).offset());
        if behind > BEHIND {
            let (terminal, job) = (self.clone(), job.clone());
            // Dies only if the agent does.
            let _ = tokio::task::spawn_blocking(move || terminal.draw(&job)).await;
        }
    }

    /// Draws what the log has now. Others may look in between.
    fn draw(&self, job: &Job) {
        let end = job.spool.stats().end;
        loop {
            let mut screen = lock(&self.screen);
            if screen.offset() >= end || !screen.follow(&job.spool) {
                return;
            }
        }
    }

    /// Looks at the screen as it is now: see [`Self::drawn`].
    pub(crate) fn screen<T>(&self, job: &Job, look: impl FnOnce(&mut Screen) -> T) -> T {
        self.draw(job);
        look(&mut lock(&self.screen))
    }

    /// Looks at what the shell has said of its commands.
    pub(crate) fn marks<T>(&self, look: impl FnOnce(&Marks) -> T) -> T {
        look(&lock(&self.marks))
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

    /// Gives it another size.
    pub(crate) fn resize(&self, job: &Job, size: Size) {
        let Some(master) = job.master() else { return };
        // The screen has what was drawn for the old size first.
        self.screen(job, |screen| {
            // A terminal that is gone keeps its size.
            if pty::resize(master.as_fd(), size).is_ok() {
                screen.resize(size);
            }
        });
        self.resized.send_if_modified(|now| std::mem::replace(now, size) != size);
    }

    /// Somebody attaches.
    pub(crate) fn attach(self: &Arc<Self>) -> Attachment {
        self.attached.fetch_add(1, Ordering::Relaxed);
        Attachment(self.clone())
    }

    /// Whether the exchange with this id was typed.
    pub(crate) fn knows(&self, request: Nonce) -> bool {
        lock(&self.sent).iter().any(|(other, _)| *other == request)
    }

    /// The exchange with this id, if it was typed; otherwise it is noted as typed now.
    pub(crate) fn exchange(&self, request: Nonce, now: Sent) -> (Sent, bool) {
        let mut all = lock(&self.sent);
        if let Some((_, sent)) = all.iter().find(|(other, _)| *other == request) {
            return (*sent, true);
        }
        all.push_back((request, now));
        if all.len() > REMEMBERED {
            all.pop_front();
        }
        (now, false)
    }

    /// What it is doing.
    pub(crate) fn doing(&self, job: &Job) -> Doing {
        if job.ended() {
            return Doing::Exited;
        }
        let (Some(master), Some(shell)) = (job.master(), job.pid()) else { return Doing::Running };
        let alternate = self.screen(job, |screen| screen.alternate());
        let phase = self.marks(Marks::phase);
        doing::doing(master.as_fd(), shell, phase, alternate)
    }

    /// How it is.
    pub(crate) fn status(&self, job: &Job) -> Status {
        let doing = self.doing(job);
        let foreground =
            job.master().and_then(|master| doing::foreground_name(master.as_fd(), job.pid()?));
        let (title, (row, col)) =
            self.screen(job, |screen| (screen.title().map(str::to_owned), screen.cursor()));
        let size = self.size();
        Status {
            session: job.id,
            name: self.name.clone(),
            doing,
            size: SizeMessage { cols: size.cols, rows: size.rows },
            marked: self.marks(Marks::seen),
            attached: self.attached.load(Ordering::Relaxed),
            title,
            foreground,
            cursor: Some(SizeMessage { cols: col, rows: row }),
            known: None,
            hands: None,
            labels: None,
            limits: None,
            events: None,
            idle_ms: None,
            participants: None,
            recovered_ms: None,
            lost: None,
        }
    }
}
