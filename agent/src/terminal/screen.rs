//! What a terminal would show.
//!
//! It follows the log on demand, without delaying keys. A screen that nobody has looked at for a
//! while is put away as the bytes that redraw it: a grid of cells takes hundreds of KiB.

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

/// How long a grid is kept while nobody looks at it.
pub(super) const KEEP: Duration = Duration::from_secs(5);

/// How much is drawn between two checks of the clock: a few bytes may take milliseconds, such as
/// those that clear a very large screen.
const PIECE: usize = 64;

/// A screen that is further behind than this skips to the end. Drawing takes a second for some 20
/// MB, and while a program writes faster than that, nobody would see anything before it ended.
pub(super) const FLOOD: usize = 1 << 20;

/// How much before the end is still drawn then, or eight bytes for each cell if that is more.
const TAIL: usize = 256 << 10;

/// How much before the end is drawn if what comes before that takes too long.
const LAST: u64 = 4 << 10;

/// Cancels any sequence.
const CANCEL: &[u8] = b"\x18";

/// How many bytes a cell takes, for both screens together.
const CELL: usize = 2 * 32;

/// A grid that was put away as at most this many bytes may be redrawn at once.
const NEAR: usize = 16 << 10;

/// The longest title, in characters.
const TITLE: usize = 200;

/// The screen of one terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    size: Size,
    /// Everything before this offset of the log has been drawn.
    at: u64,
    grid: Option<Grid>,
    /// The bytes that redraw the screen, while the grid is put away.
    away: Vec<u8>,
    /// What was done to the terminal besides drawing.
    modes: Modes,
    /// What is needed often, and must not require the grid.
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
    /// The title of the terminal.
    pub(crate) title: Option<String>,
    /// The unsolicited reports that a program has enabled.
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
    /// The first bytes of an incomplete character. The crate that draws loses the next character
    /// after one that it gets in pieces (vte 0.15, alacritty/vte#159).
    begun: Vec<u8>,
}

impl std::fmt::Debug for Grid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grid")
    }
}

/// Receives what is not drawing.
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

    /// Draws `bytes`, as far as the effort goes. Returns whether that was all of them.
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

    /// Cancels a sequence that has begun.
    fn cancel(&mut self) {
        self.begun.clear();
        self.parser.process(CANCEL);
    }

    fn screen(&self) -> &vt100::Screen {
        self.parser.screen()
    }
}

/// How often a sequence repeats a character, if it does that.
fn repeats(sequence: &[u8]) -> Option<usize> {
    let count = sequence.strip_prefix(b"\x1b[")?.strip_suffix(b"b")?;
    let count =
        std::str::from_utf8(count).ok()?.split(';').next().filter(|count| !count.is_empty())?;
    // A number that is too long to parse is larger than any other.
    count.bytes().all(|byte| byte.is_ascii_digit()).then(|| count.parse().unwrap_or(usize::MAX))
}

/// The length without an incomplete character at the end.
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

    /// Whether its cells are there, or can be redrawn at once.
    pub(crate) fn is_near(&self) -> bool {
        self.grid.is_some() || self.away.len() <= NEAR
    }

    /// Draws at most `most` bytes of the log up to `until`, as far as the effort goes. Returns
    /// whether there were any.
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
        // The last part is drawn by itself, just as if the rest had to be skipped.
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
            // What the dropped bytes have drawn is unknown.
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

    /// Draws `bytes`, either `whole` or only what shows at the end, as far as the effort goes.
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
                tracing::warn!("the screen could not draw something, and was reset");
                self.clear();
            }
        }
    }

    /// Skips output that later output scrolls away or overwrites: only mode switches are drawn.
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

    /// Skips what it has not drawn before `end`, except the last part. The mode switches in the
    /// skipped part are read, as far back as a flood reaches.
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

    /// Applies the mode switches of output that was not drawn.
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

    /// Clears the screen, since what it shows is unknown.
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

    /// A summary without the cells.
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

    /// The bytes that redraw it on a terminal of its size, with the beginning of an unfinished
    /// sequence.
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
