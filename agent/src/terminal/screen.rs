//! What a terminal would show.
//!
//! It follows the log when somebody looks, off the way of keys. A screen that nobody has looked at
//! for a while is put away as the bytes that draw it anew: a grid of cells takes hundreds of KiB.

mod drawing;
mod effort;
mod skip;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use farwire_protocol::terminal::Modes;
use vt100::{Callbacks, Parser};

use self::drawing::drawing;
pub(super) use self::effort::Effort;
use super::keys::Reports;
use crate::os::memory;
use crate::os::pty::Size;
use crate::spool::{Item, Mode, Spool};

/// How long a grid is kept that nobody looks at.
pub(super) const KEEP: Duration = Duration::from_secs(5);

/// How much is drawn between two looks at the clock: a few bytes may take milliseconds, as those
/// that clear a very large screen.
const PIECE: usize = 64;

/// Who is further behind passes over what comes before the end. Drawing takes a second for some 20
/// MB, and whoever looks while a program says more than that would see nothing before the program
/// ended.
pub(super) const FLOOD: usize = 1 << 20;

/// So much before the end is drawn, or eight bytes for each cell.
const TAIL: usize = 256 << 10;

/// So much before the end is drawn where all that comes before it takes too long.
const LAST: u64 = 4 << 10;

/// Breaks off any sequence.
const CANCEL: &[u8] = b"\x18";

/// What a cell takes, once for each of two screens.
const CELL: usize = 2 * 32;

/// No grid that was put away takes longer to draw anew than one of so many bytes where that is to
/// be done at once.
const NEAR: usize = 16 << 10;

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
    facts: ScreenState,
    title: Option<String>,
    looked: Instant,
}

/// What is known of a screen without its cells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ScreenState {
    /// Row and column, from 0.
    cursor: (u16, u16),
    /// Whether a program has the screen to itself.
    pub(crate) alternate: bool,
    /// Whether arrow keys are to be sent as applications want them.
    pub(crate) application_cursor: bool,
    /// Whether what is pasted is to be marked as such.
    pub(crate) bracketed_paste: bool,
}

/// What was seen of a screen.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScreenSummary {
    /// Everything before this offset of the log had been drawn.
    pub(crate) offset: u64,
    /// Whether there were cells.
    pub(crate) drawn: bool,
    /// What was known of it.
    pub(crate) facts: ScreenState,
    /// What the terminal called itself.
    pub(crate) title: Option<String>,
    /// What a program wants the terminal to report by itself.
    pub(crate) reports: Reports,
}

impl ScreenState {
    fn of(screen: &vt100::Screen) -> Self {
        Self {
            cursor: screen.cursor_position(),
            alternate: screen.alternate_screen(),
            application_cursor: screen.application_cursor(),
            bracketed_paste: screen.bracketed_paste(),
        }
    }

    /// Where the cursor is, from 1: row and column.
    pub(crate) const fn cursor(self) -> (u16, u16) {
        let (row, col) = self.cursor;
        (row + 1, col + 1)
    }
}

/// The cells, and what draws them.
struct Grid {
    parser: Parser<Watcher>,
    /// What has come of a character of several bytes. The crate that draws loses the next character
    /// after one that it gets in pieces (vte 0.15, alacritty/vte#159).
    begun: Vec<u8>,
}

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
        let parser = Parser::new_with_callbacks(rows(size), cols(size), 0, Watcher::default());
        let mut grid = Self { parser, begun: Vec::new() };
        grid.draw(drawn, &Effort::new(Duration::MAX));
        grid
    }

    /// Draws this, as far as the effort goes. Whether that was all of it.
    fn draw(&mut self, bytes: &[u8], effort: &Effort) -> bool {
        let joined = (!self.begun.is_empty()).then(|| [&self.begun, bytes].concat());
        let mut rest = joined.as_deref().unwrap_or(bytes);
        loop {
            let piece = rest.get(..PIECE).unwrap_or(rest);
            let (piece, _) = piece.split_at(whole(piece));
            if piece.is_empty() {
                self.begun = rest.to_vec();
                return true;
            }
            if effort.is_spent() {
                return false;
            }
            self.parser.process(piece);
            rest = rest.get(piece.len()..).unwrap_or_default();
        }
    }

    /// Breaks off whatever has begun.
    fn cancel(&mut self) {
        self.begun.clear();
        self.parser.process(CANCEL);
    }

    fn screen(&self) -> &vt100::Screen {
        self.parser.screen()
    }
}

/// How often a sequence repeats a character, if it does that and says so.
fn repeats(sequence: &[u8]) -> Option<usize> {
    let count = sequence.strip_prefix(b"\x1b[")?.strip_suffix(b"b")?;
    let count =
        std::str::from_utf8(count).ok()?.split(';').next().filter(|count| !count.is_empty())?;
    // What is too long for a number is more than any.
    count.bytes().all(|byte| byte.is_ascii_digit()).then(|| count.parse().unwrap_or(usize::MAX))
}

/// The length of it without a character at its end that is not whole.
fn whole(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    let last = bytes.iter().skip(tail).rposition(|byte| *byte >= 0xc0).map(|at| tail + at);
    let begun = |at: &usize| {
        let character = bytes.get(*at..).map(std::str::from_utf8);
        character.is_some_and(|is| is.is_err_and(|error| error.error_len().is_none()))
    };
    last.filter(begun).unwrap_or(bytes.len())
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

    /// How many cells it has.
    pub(crate) fn cells(&self) -> usize {
        usize::from(self.size.rows) * usize::from(self.size.cols)
    }

    /// Whether it takes but an instant until there are cells.
    pub(crate) fn is_near(&self) -> bool {
        self.grid.is_some() || self.away.len() <= NEAR
    }

    /// Draws some of what the log has up to an offset, at most so many bytes, as far as the effort
    /// goes. Whether there was something.
    pub(crate) fn follow(
        &mut self,
        spool: &Spool,
        until: u64,
        most: usize,
        effort: &Effort,
    ) -> bool {
        self.looked = Instant::now();
        let mut log = spool.reader(self.at, Mode::Lagging);
        let behind = until.saturating_sub(self.at);
        if behind == 0 {
            return false;
        }
        // The last of it is drawn by itself, as whoever has to leave out the rest draws it.
        let chunk = match behind.saturating_sub(LAST) {
            0 => behind,
            before => before,
        };
        let chunk = usize::try_from(chunk).unwrap_or(most).min(most);
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        let kept = TAIL.max(8 * self.cells());
        let unseen = if behind > FLOOD { behind.saturating_sub(kept).min(FLOOD) } else { 0 };
        let more = match log.next(if unseen > 0 { unseen } else { chunk }) {
            Item::Data(_, bytes) => {
                match unseen {
                    0 => self.draw(&bytes, effort),
                    _ => self.pass_over(&bytes, effort),
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

    fn draw(&mut self, bytes: &[u8], effort: &Effort) {
        // Within a sequence, or where only some rows scroll, everything counts.
        let whole = self.modes.is_midway() || self.modes.region().is_some();
        let mut drawn = Vec::new();
        let (plain, cells) = (self.modes.is_plain(bytes), self.cells());
        self.modes.read(bytes, |part| {
            if !plain {
                match repeats(part).filter(|count| *count > cells) {
                    Some(_) => drawn.extend_from_slice(format!("\x1b[{cells}b").as_bytes()),
                    None => drawn.extend_from_slice(part),
                }
            }
        });
        let bytes = if plain { bytes } else { drawn.as_slice() };
        let whole = whole || self.modes.region().is_some();
        self.show(bytes, whole, effort);
    }

    /// Draws this, all of it or what of it is seen at the end, as far as the effort goes.
    fn show(&mut self, bytes: &[u8], whole: bool, effort: &Effort) {
        let size = self.size;
        let mut grid = self.grid.take().unwrap_or_else(|| Grid::new(size, &self.away));
        // Hostile bytes must not take the session down with the screen.
        let drawn = catch_unwind(AssertUnwindSafe(|| {
            let mut all = true;
            let mut draw = |part: &[u8]| all = all && grid.draw(part, effort);
            match whole {
                true => draw(bytes),
                false => skip::draw_shown(bytes, size, draw),
            }
            (grid, all)
        }));
        match drawn {
            Ok((mut grid, all)) => {
                if let Some(title) = grid.parser.callbacks_mut().title.take() {
                    self.title = Some(title);
                }
                self.grid = Some(grid);
                if !all {
                    self.settle();
                }
            }
            Err(_) => {
                tracing::warn!("the screen could not draw something, and begins anew");
                self.clear();
            }
        }
    }

    /// Passes over output that is scrolled or drawn away by what follows it: only what switches
    /// something is drawn.
    fn pass_over(&mut self, bytes: &[u8], effort: &Effort) {
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
            self.show(&switches, true, effort);
        }
    }

    /// Leaves out what it has not drawn before this offset, but for the last of it. What was
    /// switched there is read, as far as a flood reaches.
    pub(crate) fn jump(&mut self, spool: &Spool, end: u64) {
        let last = end.saturating_sub(LAST);
        if self.at >= last {
            return;
        }
        let from = self.at.max(last.saturating_sub(FLOOD as u64));
        if from > self.at {
            self.modes.break_off();
        }
        let mut log = spool.reader(from, Mode::Lagging);
        let mut title = Vec::new();
        while log.offset() < last {
            let most = usize::try_from(last - log.offset()).unwrap_or(FLOOD);
            match log.next(most) {
                Item::Data(_, bytes) => self.modes.read(&bytes, |part| {
                    if part.starts_with(b"\x1b]0;") || part.starts_with(b"\x1b]2;") {
                        title = part.to_vec();
                    }
                }),
                Item::Gap { .. } => self.modes.break_off(),
                Item::UpToDate { .. } => break,
            }
        }
        self.at = log.offset();
        self.settle();
        self.show(&title, true, &Effort::new(Duration::MAX));
    }

    /// Something was not drawn: what it switched is as if it had been.
    fn settle(&mut self) {
        let alternate = self.modes.alternate().is_some();
        let mut to = match (alternate, self.facts().alternate) {
            (true, false) => String::from("\x1b[?1049h"),
            (false, true) => String::from("\x1b[?1049l"),
            _ => String::new(),
        };
        let region = match self.modes.region() {
            Some((top, 0)) => format!("{top}"),
            Some((top, bottom)) => format!("{top};{bottom}"),
            None => String::new(),
        };
        to.extend([format!("\x1b7\x1b[{region}r\x1b8\x1b[?1l\x1b[?25h\x1b[?2004l")]);
        self.modes.changes().iter().for_each(|change| to += &change.to);
        let grid = self.grid();
        grid.cancel();
        grid.parser.process(to.as_bytes());
    }

    /// Nothing is known of what it shows.
    fn clear(&mut self) {
        (self.grid, self.facts, self.modes) = Default::default();
        self.away.clear();
    }

    fn facts(&self) -> ScreenState {
        self.grid.as_ref().map_or(self.facts, |grid| ScreenState::of(grid.screen()))
    }

    fn grid(&mut self) -> &mut Grid {
        let (size, away) = (self.size, &self.away);
        self.grid.get_or_insert_with(|| Grid::new(size, away))
    }

    /// What is seen of it without its cells.
    pub(crate) fn summary(&self) -> ScreenSummary {
        ScreenSummary {
            offset: self.at,
            drawn: self.grid.is_some(),
            facts: self.facts(),
            title: self.title.clone(),
            reports: Reports {
                focus: self.modes.is_on(1004),
                mouse: [9, 1000, 1001, 1002, 1003].iter().any(|mode| self.modes.is_on(*mode)),
            },
        }
    }

    /// Puts the grid away, if nobody has looked at it for a while.
    pub(crate) fn rest(&mut self) {
        if self.looked.elapsed() >= KEEP
            && let Some(grid) = self.grid.take()
        {
            self.away = drawing(grid.screen(), &self.modes, None);
            self.away.extend_from_slice(&grid.begun);
            self.facts = ScreenState::of(grid.screen());
            drop(grid);
            memory::freed(self.cells() * CELL);
        }
    }

    /// Gives it another size.
    pub(crate) fn resize(&mut self, size: Size) {
        self.grid().parser.set_size(rows(size), cols(size));
        if size != self.size {
            self.modes.resized();
        }
        self.size = size;
    }

    /// What draws it anew on a terminal of its size, with what has come of a sequence that is not
    /// at its end.
    pub(crate) fn drawing(&mut self) -> Vec<u8> {
        self.grid();
        let title = self.title.as_deref();
        let grid = self.grid.as_ref().map(|grid| drawing(grid.screen(), &self.modes, title));
        let mut drawing = grid.unwrap_or_default();
        drawing.extend_from_slice(self.modes.pending());
        drawing
    }

    /// Its text, row by row, without blanks at the ends.
    pub(crate) fn text(&mut self) -> String {
        let size = self.size;
        let grid = self.grid().screen();
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
}

#[cfg(test)]
mod tests;
