//! What a terminal would show.
//!
//! It follows the log when somebody looks, off the way of keys. A screen that nobody has looked at for
//! a while is put away as the bytes that draw it anew: a grid of cells takes hundreds of KiB.

mod drawing;
mod skip;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use farwire_protocol::terminal::Modes;
use vt100::{Callbacks, Parser};

use self::drawing::drawing;
use crate::os::memory;
use crate::os::pty::Size;
use crate::spool::{Item, Mode, Spool};

/// How long a grid is kept that nobody looks at.
pub(super) const KEEP: Duration = Duration::from_secs(5);

/// How much is drawn in one go.
const CHUNK: usize = 64 << 10;

/// Who is further behind passes over what comes before the end. Drawing takes a second for some 20 MB, and whoever looks
/// while a program says more than that would see nothing before the program ended.
const FLOOD: usize = 1 << 20;

/// So much before the end is drawn, or eight bytes for each cell.
const TAIL: usize = 256 << 10;

/// So much before the end is drawn where even passing over takes too long.
const LAST: u64 = 4 << 10;

/// Breaks off any sequence.
const CANCEL: &[u8] = b"\x18";

/// What a cell takes, once for each of two screens.
const CELL: usize = 2 * 32;

/// No title is longer, in characters.
const TITLE: usize = 200;

/// The screen of one terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    size: Size,
    /// Everything before this offset of the log has been drawn.
    at: u64,
    grid: Option<Grid>,
    /// What draws the screen anew, when the grid is put away.
    away: Vec<u8>,
    /// What was done to the terminal besides drawing.
    modes: Modes,
    /// What is asked often, and needs no grid to be answered.
    facts: Facts,
    title: Option<String>,
    looked: Instant,
}

/// What is known of a screen without its cells.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    /// Row and column, from 0.
    cursor: (u16, u16),
    alternate: bool,
    application_cursor: bool,
    bracketed_paste: bool,
}

impl Facts {
    fn of(screen: &vt100::Screen) -> Self {
        Self {
            cursor: screen.cursor_position(),
            alternate: screen.alternate_screen(),
            application_cursor: screen.application_cursor(),
            bracketed_paste: screen.bracketed_paste(),
        }
    }
}

struct Grid(Parser<Watcher>);

impl std::fmt::Debug for Grid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grid")
    }
}

/// Hears what is no drawing.
#[derive(Debug, Default)]
struct Watcher {
    title: Option<String>,
}

impl Callbacks for Watcher {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        let text = String::from_utf8_lossy(title);
        self.title = Some(text.chars().filter(|c| !c.is_control()).take(TITLE).collect());
    }
}

impl Grid {
    fn new(size: Size, drawn: &[u8]) -> Self {
        let mut parser = Parser::new_with_callbacks(rows(size), cols(size), 0, Watcher::default());
        parser.process(drawn);
        Self(parser)
    }
}

fn rows(size: Size) -> std::num::NonZeroU16 {
    std::num::NonZeroU16::new(size.rows).unwrap_or(std::num::NonZeroU16::MIN)
}

fn cols(size: Size) -> std::num::NonZeroU16 {
    std::num::NonZeroU16::new(size.cols).unwrap_or(std::num::NonZeroU16::MIN)
}

impl Screen {
    /// An empty screen.
    pub(crate) fn new(size: Size) -> Self {
        let looked = Instant::now();
        let (grid, away, modes, facts) = Default::default();
        Self { size, at: 0, grid, away, modes, facts, title: None, looked }
    }

    /// How far in the log it is.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    /// Draws some of what the log has got since. Whether there was something.
    pub(crate) fn follow(&mut self, spool: &Spool) -> bool {
        self.looked = Instant::now();
        let mut log = spool.reader(self.at, Mode::Lagging);
        let behind = spool.stats().end.saturating_sub(self.at);
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        let kept = TAIL.max(8 * usize::from(self.size.rows) * usize::from(self.size.cols));
        let unseen = if behind > FLOOD { behind.saturating_sub(kept).min(FLOOD) } else { 0 };
        let more = match log.next(if unseen > 0 { unseen } else { CHUNK }) {
            Item::Data(_, bytes) => {
                match unseen {
                    0 => self.draw(&bytes),
                    _ => self.pass_over(&bytes),
                }
                true
            }
            // What was dropped has drawn something that nobody knows.
            Item::Gap { .. } => {
                self.clear();
                true
            }
            Item::UpToDate { .. } => false,
        };
        self.at = log.offset();
        more
    }

    fn draw(&mut self, bytes: &[u8]) {
        // Within a sequence, or where only some rows scroll, everything counts.
        let whole = self.modes.is_midway() || self.modes.region().is_some();
        let mut drawn = Vec::new();
        let plain = self.modes.is_plain(bytes);
        self.modes.read(bytes, |part| {
            if !plain {
                drawn.extend_from_slice(part);
            }
        });
        let bytes = if plain { bytes } else { drawn.as_slice() };
        let whole = whole || self.modes.region().is_some();
        self.show(bytes, whole);
    }

    /// Draws this, all of it or what of it is seen at the end.
    fn show(&mut self, bytes: &[u8], whole: bool) {
        let size = self.size;
        let mut grid = self.grid.take().unwrap_or_else(|| Grid::new(size, &self.away));
        // Hostile bytes must not take the session down with the screen.
        let drawn = catch_unwind(AssertUnwindSafe(|| {
            match whole {
                true => grid.0.process(bytes),
                false => skip::shown(bytes, size, |part| grid.0.process(part)),
            }
            grid
        }));
        match drawn {
            Ok(mut grid) => {
                if let Some(title) = grid.0.callbacks_mut().title.take() {
                    self.title = Some(title);
                }
                self.grid = Some(grid);
            }
            Err(_) => {
                tracing::warn!("the screen could not draw something, and begins anew");
                self.clear();
            }
        }
    }

    /// Passes over output that is scrolled or drawn away by what follows it: only what switches something is drawn.
    fn pass_over(&mut self, bytes: &[u8]) {
        let rest = skip::without_drawing(bytes, self.modes.is_midway());
        let mut switches = Vec::new();
        self.modes.read(&rest.bytes, |part| {
            let switch =
                matches!(part.last(), Some(b'h' | b'l' | b'r' | b'c' | b'p' | b'=' | b'>'));
            if part.starts_with(b"\x1b]") || part.starts_with(b"\x1b") && switch {
                switches.extend_from_slice(part);
            }
        });
        switches.extend_from_slice(rest.title.unwrap_or_default());
        if !switches.is_empty() {
            self.show(&switches, true);
        }
    }

    /// Leaves out what it has not drawn before this offset, but for the last of it, if that is more than is ever drawn
    /// of a flood. What was switched there is not known.
    pub(crate) fn jump(&mut self, end: u64) {
        if end.saturating_sub(self.at) <= FLOOD as u64 {
            return;
        }
        self.modes.break_off();
        self.show(CANCEL, true);
        self.at = self.at.max(end.saturating_sub(LAST));
    }

    /// Nothing is known of what it shows.
    fn clear(&mut self) {
        (self.grid, self.facts, self.modes) = Default::default();
        self.away.clear();
    }

    fn facts(&self) -> Facts {
        self.grid.as_ref().map_or(self.facts, |grid| Facts::of(grid.0.screen()))
    }

    fn grid(&mut self) -> &vt100::Screen {
        let (size, away) = (self.size, &self.away);
        self.grid.get_or_insert_with(|| Grid::new(size, away)).0.screen()
    }

    /// Whether there is a grid.
    pub(crate) fn is_drawn(&self) -> bool {
        self.grid.is_some()
    }

    /// Puts the grid away, if nobody has looked at it for a while.
    pub(crate) fn rest(&mut self) {
        if self.looked.elapsed() >= KEEP
            && let Some(grid) = self.grid.take()
        {
            self.away = drawing(grid.0.screen(), &self.modes, None);
            self.away.extend_from_slice(self.modes.begun_character());
            self.facts = Facts::of(grid.0.screen());
            drop(grid);
            memory::freed(usize::from(self.size.rows) * usize::from(self.size.cols) * CELL);
        }
    }

    /// Gives it another size.
    pub(crate) fn resize(&mut self, size: Size) {
        self.grid();
        if size != self.size {
            self.modes.resized();
        }
        self.size = size;
        if let Some(grid) = &mut self.grid {
            grid.0.set_size(rows(size), cols(size));
        }
    }

    /// What draws it anew on a terminal of its size, with what has come of a sequence that is not at its end.
    pub(crate) fn drawing(&mut self) -> Vec<u8> {
        self.grid();
        let title = self.title.as_deref();
        let grid = self.grid.as_ref().map(|grid| drawing(grid.0.screen(), &self.modes, title));
        let mut drawing = grid.unwrap_or_default();
        drawing.extend_from_slice(self.modes.pending());
        drawing
    }

    /// Its text, row by row, without blanks at the ends.
    pub(crate) fn text(&mut self) -> String {
        let size = self.size;
        let grid = self.grid();
        let rows: Vec<String> =
            grid.rows(0, size.cols).map(|row| row.trim_end().to_owned()).collect();
        let used = rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
        let mut text = String::new();
        for row in rows.iter().take(used) {
            text.push_str(row);
            text.push('\n');
        }
        text
    }

    /// Where the cursor is, from 1: row and column.
    pub(crate) fn cursor(&self) -> (u16, u16) {
        let (row, col) = self.facts().cursor;
        (row + 1, col + 1)
    }

    /// Whether a program has the screen to itself.
    pub(crate) fn alternate(&self) -> bool {
        self.facts().alternate
    }

    /// Whether arrow keys are to be sent as applications want them.
    pub(crate) fn application_cursor(&self) -> bool {
        self.facts().application_cursor
    }

    /// Whether what is pasted is to be marked as such.
    pub(crate) fn bracketed_paste(&self) -> bool {
        self.facts().bracketed_paste
    }

    /// What the terminal calls itself.
    pub(crate) fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }
}

#[cfg(test)]
mod tests;
