//! Looking at the screen of a session.
//!
//! A look first draws the screen up to the end of the log. What may take longer than an instant is
//! drawn on a blocking thread, at most one for each terminal: the agent's own thread never waits
//! for a screen. Frequent questions are answered from the last summary.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::screen::{Effort, FLOOD, Screen, ScreenSummary};
use super::{Terminal, lock};
use crate::os::pty::{self, Size};
use crate::spool::Spool;

/// What is drawn at once: at most this many bytes, on a screen of at most this many cells, for at
/// most this long, with this many bytes between two checks of the clock. All else is drawn aside,
/// on a blocking thread.
const LITTLE: u64 = 16 << 10;
const CELLS: usize = 32 << 10;
const INSTANT: Duration = Duration::from_millis(5);
const BITE: usize = 64;

/// How much is drawn aside at once.
const CHUNK: usize = 64 << 10;

/// How long drawing may take before the rest is left out; its end is then drawn for at most as long
/// again. The second is for a terminal that has just taken too long: a program may write nothing
/// but slow sequences.
const ASIDE: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(200)];

/// A screen that nobody looks at is drawn at most this often, and a slow one ten times less: what
/// falls further behind meanwhile is a flood.
const UNSEEN: Duration = Duration::from_secs(1);

/// At most this many sizes wait to be drawn; the last one replaces the one before it when there are
/// more.
const SIZES: usize = 16;

/// The screen of a terminal, and its last summary.
#[derive(Debug)]
pub(super) struct View {
    screen: Mutex<Screen>,
    seen: Mutex<ScreenSummary>,
    /// The last output took too long to draw.
    slow: AtomicBool,
    /// The sizes that the terminal was given, and where the log ended then. The screen gets them
    /// when it is drawn up to there, so that a change of the size never waits for a screen.
    sizes: Mutex<VecDeque<(u64, Size)>>,
    /// Held while drawing aside.
    aside: Arc<tokio::sync::Mutex<()>>,
}

impl View {
    pub(super) fn new(size: Size) -> Self {
        Self {
            screen: Mutex::new(Screen::new(size)),
            seen: Mutex::default(),
            slow: AtomicBool::new(false),
            sizes: Mutex::default(),
            aside: Arc::default(),
        }
    }

    fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    fn tell(&self, screen: &Screen) {
        *lock(&self.seen) = screen.summary();
    }

    /// The terminal has another size from this offset of the log on.
    fn resize(&self, at: u64, size: Size) {
        let mut sizes = lock(&self.sizes);
        if sizes.len() >= SIZES {
            sizes.pop_back();
        }
        sizes.push_back((at, size));
    }

    /// Whether the screen has few cells, both now and after the pending sizes.
    fn is_small(&self, screen: &Screen) -> bool {
        let cells = |size: &Size| usize::from(size.rows) * usize::from(size.cols);
        screen.cells() <= CELLS && lock(&self.sizes).iter().all(|(_, size)| cells(size) <= CELLS)
    }

    /// Gives the screen the size that the terminal had when the next output was written. Returns up
    /// to which offset it had that size, at most `end`.
    fn sized(&self, screen: &mut Screen, end: u64) -> u64 {
        loop {
            let next = {
                let mut sizes = lock(&self.sizes);
                match sizes.front().copied() {
                    Some((at, size)) if at <= screen.offset() => {
                        sizes.pop_front();
                        size
                    }
                    next => return next.map_or(end, |(at, _)| end.min(at)),
                }
            };
            screen.resize(next);
        }
    }

    /// Draws what there is, if that is little. Returns whether all is drawn.
    fn at_once(&self, spool: &Spool) -> bool {
        let end = spool.stats().end;
        if lock(&self.seen).offset >= end && lock(&self.sizes).is_empty() {
            return true;
        }
        // Do not wait for a thread that draws aside.
        let Some(mut screen) = self.screen.try_lock().ok().filter(|_| !self.is_slow()) else {
            return false;
        };
        let behind = end.saturating_sub(screen.offset());
        if behind > LITTLE || !self.is_small(&screen) || !screen.is_near() {
            return false;
        }
        let (effort, all) = (Effort::new(INSTANT), Effort::new(Duration::MAX));
        loop {
            let until = self.sized(&mut screen, end);
            if screen.offset() >= end
                || effort.is_spent()
                || !screen.follow(spool, until, BITE, &all)
            {
                break;
            }
        }
        self.tell(&screen);
        let drawn = screen.offset() >= end;
        self.slow.store(!drawn, Ordering::Relaxed);
        drawn
    }

    /// Draws what there is, or only its end if that takes too long, and looks at it.
    fn look<T>(&self, spool: &Spool, look: impl FnOnce(&mut Screen) -> T) -> T {
        let [most, again] = ASIDE;
        let most = if self.is_slow() { again } else { most };
        let end = spool.stats().end;
        let mut screen = lock(&self.screen);
        let (mut effort, mut slow) = (Effort::new(most), false);
        loop {
            if !slow && effort.is_spent() {
                screen.jump(spool, end);
                (effort, slow) = (Effort::new(most), true);
            }
            let until = self.sized(&mut screen, end);
            if screen.offset() >= end || !screen.follow(spool, until, CHUNK, &effort) {
                break;
            }
        }
        self.slow.store(slow, Ordering::Relaxed);
        let seen = look(&mut screen);
        self.tell(&screen);
        seen
    }
}

impl Terminal {
    /// Draws what the log has now.
    pub(crate) async fn draw(self: &Arc<Self>) {
        if !self.view.at_once(&self.program.spool) {
            self.look_at(|_| ()).await;
        }
    }

    /// Draws what the log has now and looks at the screen, or changes it. Dropping this does not
    /// stop it.
    pub(crate) async fn look_at<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&mut Screen) -> T + Send + 'static,
    ) -> T {
        let turn = self.view.aside.clone().lock_owned().await;
        let terminal = self.clone();
        let look = move || {
            let seen = terminal.view.look(&terminal.program.spool, look);
            drop(turn);
            seen
        };
        let looked = tokio::task::spawn_blocking(look);
        looked.await.expect("a look at a screen does not panic")
    }

    /// A summary of the screen, without waiting for it: up to date if there was little output since
    /// the last one, and otherwise the last one. A caller that can wait calls [`Self::draw`] first.
    pub(crate) fn summary(&self) -> ScreenSummary {
        self.view.at_once(&self.program.spool);
        lock(&self.view.seen).clone()
    }

    /// Puts the cells away if nobody has looked at them for a while. Call it where blocking is
    /// allowed.
    pub(crate) fn put_away(&self) {
        if lock(&self.view.seen).drawn
            && let Ok(_turn) = self.view.aside.try_lock()
        {
            let mut screen = lock(&self.view.screen);
            screen.rest();
            self.view.tell(&screen);
        }
    }

    /// Whether there was so much output since the screen was drawn that it is to be drawn although
    /// nobody looks, lest something is skipped that the program never draws again. `last` is when
    /// that was last done.
    pub(super) fn is_behind(&self, last: Option<Instant>) -> bool {
        let behind = self.program.spool.stats().end.saturating_sub(lock(&self.view.seen).offset);
        let every = if self.view.is_slow() { 10 * UNSEEN } else { UNSEEN };
        let early = last.is_some_and(|last| last.elapsed() < every);
        behind > FLOOD as u64 / 2 && !early
    }

    /// Gives it another size. Returns whether that is a change; a terminal that is gone keeps its
    /// size.
    pub(crate) fn resize(&self, size: Size) -> bool {
        // What comes after this is drawn for the new size.
        let end = self.program.spool.end();
        let Some(master) = self.program.master() else { return false };
        if pty::resize(&*master, size).is_err() {
            return false;
        }
        self.view.resize(end, size);
        self.resized.send_if_modified(|now| std::mem::replace(now, size) != size)
    }
}
