//! Looking at the screen of a session.
//!
//! Whoever looks has it drawn up to the end of the log first. What may take longer than an instant
//! is done on a thread that may take its time, one for each terminal at most; the agent's own waits
//! for no screen. What is asked often is told from what was seen last.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::screen::{Effort, FLOOD, Screen, ScreenSummary};
use super::{Terminal, lock};
use crate::os::pty::{self, Size};
use crate::spool::Spool;

/// So much is drawn at once, of a screen of so many cells at most, that takes no longer than this,
/// so many bytes between two looks at the clock. All else is drawn aside.
const LITTLE: u64 = 16 << 10;
const CELLS: usize = 32 << 10;
const INSTANT: Duration = Duration::from_millis(5);
const BITE: usize = 64;

/// How much is drawn aside in one go.
const CHUNK: usize = 64 << 10;

/// How long drawing may take before the rest is left out; its end is then drawn for as long again
/// at most. The second is for a terminal that has just taken too long: a program may say nothing
/// but what takes long.
const ASIDE: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(200)];

/// A screen that nobody looks at is drawn so often at most, and a slow one ten times less: what
/// falls further behind meanwhile is a flood.
const UNSEEN: Duration = Duration::from_secs(1);

/// So many sizes wait to be drawn at most: of more the last one counts.
const SIZES: usize = 16;

/// The screen of a terminal, and what was seen of it last.
#[derive(Debug)]
pub(super) struct View {
    screen: Mutex<Screen>,
    seen: Mutex<ScreenSummary>,
    /// What was said last took too long to draw.
    slow: AtomicBool,
    /// Sizes that the terminal was given, and where the log ended then. Whoever draws so far gives
    /// them to the screen: nobody who changes the size waits for a screen.
    sizes: Mutex<VecDeque<(u64, Size)>>,
    /// Whoever draws aside has this.
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

    /// Whether the screen has a size of at most so many cells, now and by what is to be drawn.
    fn is_small(&self, screen: &Screen) -> bool {
        let cells = |size: &Size| usize::from(size.rows) * usize::from(size.cols);
        screen.cells() <= CELLS && lock(&self.sizes).iter().all(|(_, size)| cells(size) <= CELLS)
    }

    /// Gives the screen the size that the terminal had when it said what comes next. Returns how
    /// far it had that, up to `end`.
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

    /// Draws what there is, if that is little. Whether all is drawn.
    fn at_once(&self, spool: &Spool) -> bool {
        let end = spool.stats().end;
        if lock(&self.seen).offset >= end && lock(&self.sizes).is_empty() {
            return true;
        }
        // Who draws aside is not waited for.
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

    /// Draws what there is, or the end of it where that takes too long, and looks at it.
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

    /// Draws what the log has now and looks at the screen, or changes it. Whoever drops this does
    /// not stop it.
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

    /// What is known of the screen without waiting for it: as it is now if little was said since,
    /// and otherwise as it was seen last. Whoever can wait has it [drawn](Self::draw) before.
    pub(crate) fn summary(&self) -> ScreenSummary {
        self.view.at_once(&self.program.spool);
        lock(&self.view.seen).clone()
    }

    /// Puts cells away that nobody has looked at for a while: call it where blocking is allowed.
    pub(crate) fn put_away(&self) {
        if lock(&self.view.seen).drawn
            && let Ok(_turn) = self.view.aside.try_lock()
        {
            let mut screen = lock(&self.view.screen);
            screen.rest();
            self.view.tell(&screen);
        }
    }

    /// Whether so much was said since the screen was drawn that it is drawn though nobody looks:
    /// what a program does not draw again is there to be seen. `last` is when that was done last.
    pub(super) fn is_behind(&self, last: Option<Instant>) -> bool {
        let behind = self.program.spool.stats().end.saturating_sub(lock(&self.view.seen).offset);
        let every = if self.view.is_slow() { 10 * UNSEEN } else { UNSEEN };
        let early = last.is_some_and(|last| last.elapsed() < every);
        behind > FLOOD as u64 / 2 && !early
    }

    /// Gives it another size. Whether it had another one before; a terminal that is gone keeps its
    /// own.
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
