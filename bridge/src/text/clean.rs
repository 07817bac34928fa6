//! Cleans output: takes bytes in chunks of any size, and returns numbered lines of text.
//!
//! ```text
//! bytes ─ utf8 ─▶ units ─ escape ─▶ text and moves ─ row ─▶ one line ─ fold ─▶ lines
//! ```
//!
//! A *raw line* ends with LF, as the log counts it; an output line stands for one or several
//! consecutive raw lines: a repeated text, or binary bytes.
//!
//! # Invariants
//!
//! - A raw line becomes at most one line; no line is lost or made up.
//! - The output depends on the bytes, not on how they were cut into chunks.
//! - Memory is one row of at most `width` characters and one line that may still be repeated.
//! - The text of a line holds nothing but TAB and what [`chars::visible_form`] leaves as it is, has
//!   no blanks at its end, and does not imitate a line of ours.

mod escape;
mod row;
#[cfg(test)]
mod tests;
mod utf8;

use std::fmt::Write as _;

use self::escape::{Escapes, Move, UnitKind};
use self::row::Row;
use self::utf8::{Decoder, Unit};
use super::{chars, human, imitation};

/// The default number of characters after which a line is cut.
pub const WIDTH: usize = 500;

/// One output line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CleanLine {
    /// The number of its raw line, or of the first of several.
    pub number: u64,
    /// How many raw lines it stands for.
    pub count: u64,
    /// Where it begins in the input.
    pub start: u64,
    /// Where it ends, its LF included.
    pub end: u64,
    /// Its text, at most the cleaner's width in characters plus a mark.
    pub text: String,
    /// How many characters of it are missing at its end.
    pub cut: usize,
    /// It stands for bytes that are no text.
    pub binary: bool,
    /// The first of its bytes is not the first of its raw line.
    pub starts_within: bool,
    /// The input ends before its LF.
    pub open: bool,
}

impl CleanLine {
    /// The number of its last raw line.
    pub fn last(&self) -> u64 {
        self.number.saturating_add(self.count.saturating_sub(1))
    }

    /// Writes it as it is shown: a repeated text once with a mark, if that is shorter than
    /// repeating it; each line ended by LF.
    pub fn write(&self, out: &mut String) {
        if self.starts_within {
            out.push('…');
        }
        let mark = self.mark();
        let times = if self.binary || mark.is_some() { 1 } else { self.count };
        for _ in 0..times {
            out.push_str(&self.text);
            if self.cut > 0 {
                // Writing to a string cannot fail.
                let _ = write!(out, "…(+{})", self.cut);
            }
            out.push_str(mark.as_deref().unwrap_or_default());
            out.push('\n');
        }
    }

    fn mark(&self) -> Option<String> {
        if self.binary || self.count < 2 {
            return None;
        }
        let blank = if self.text.is_empty() { "" } else { " " };
        let mark = format!("{blank}… same line ×{}", self.count);
        let length = self.text.chars().count() as u64 + 1;
        let pays = length.saturating_mul(self.count - 1) > mark.chars().count() as u64;
        pays.then_some(mark)
    }
}

/// What was removed and might have had a meaning.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Removed {
    /// Invisible characters.
    pub invisible: u64,
    /// Characters that were swallowed by sequences without an end.
    pub swallowed: u64,
}

impl Removed {
    /// The count that a header should warn of: text that a person would not have seen.
    pub fn hidden(&self) -> u64 {
        self.invisible.saturating_add(self.swallowed)
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            invisible: self.invisible.saturating_add(other.invisible),
            swallowed: self.swallowed.saturating_add(other.swallowed),
        }
    }
}

/// Cleans these bytes; their first line has this number.
pub fn clean(bytes: &[u8], first_line: u64) -> (Vec<CleanLine>, Removed) {
    let mut lines = Vec::new();
    let mut cleaner = Cleaner::new(first_line);
    cleaner.feed(bytes, &mut |line| lines.push(line));
    let removed = cleaner.finish(&mut |line| lines.push(line));
    (lines, removed)
}

/// The last non-empty line, cut to `limit` characters, for progress reports.
pub fn last_line(bytes: &[u8], limit: usize) -> String {
    let (lines, _) = clean(bytes, 1);
    let text = lines.into_iter().rev().map(|line| line.text).find(|text| !text.is_empty());
    text.unwrap_or_default().chars().take(limit).collect()
}

/// Cleans bytes as they come.
#[derive(Clone, Debug)]
pub struct Cleaner {
    decoder: Decoder,
    escapes: Escapes,
    row: Row,
    /// The raw line that is being read.
    number: u64,
    /// Where it began.
    start: u64,
    /// How many bytes have been read.
    offset: u64,
    /// It began before the input did.
    within: bool,
    /// This many bytes may belong to a character that began before the input.
    resync: u8,
    /// The line before, which may be repeated.
    held: Option<CleanLine>,
    removed: Removed,
}

impl Cleaner {
    /// A cleaner for input whose first line has this number.
    pub fn new(first_line: u64) -> Self {
        Self {
            decoder: Decoder::default(),
            escapes: Escapes::default(),
            row: Row::new(WIDTH),
            number: first_line,
            start: 0,
            offset: 0,
            within: false,
            resync: 0,
            held: None,
            removed: Removed::default(),
        }
    }

    /// Lines are cut after this many characters, instead of [`WIDTH`].
    #[must_use]
    pub fn width(mut self, width: usize) -> Self {
        self.row = Row::new(width);
        self
    }

    /// The input begins within its first line, possibly within a character.
    #[must_use]
    pub fn within(mut self) -> Self {
        self.within = true;
        self.resync = 3;
        self
    }

    /// Takes more input, and passes on the lines that are complete.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(CleanLine)) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            let plain = if self.is_idle() { ascii(rest) } else { 0 };
            if let Some((text, after)) = rest.split_at_checked(plain).filter(|_| plain > 0) {
                self.resync = 0;
                self.row.ascii(text);
                self.offset += plain as u64;
                rest = after;
                continue;
            }
            self.byte(byte, sink);
            rest = after;
        }
    }

    /// Ends the input: passes on the remaining lines, and returns what was removed in total.
    pub fn finish(mut self, sink: &mut impl FnMut(CleanLine)) -> Removed {
        if let Some(unit) = self.decoder.flush() {
            self.unit(unit, sink);
        }
        self.removed.swallowed += self.escapes.flush();
        if self.offset > self.start {
            self.end_line(true, sink);
        }
        if let Some(line) = self.held.take() {
            sink(line);
        }
        self.removed
    }

    fn is_idle(&self) -> bool {
        self.escapes.is_idle() && self.decoder.is_idle()
    }

    fn byte(&mut self, byte: u8, sink: &mut impl FnMut(CleanLine)) {
        self.offset += 1;
        if self.resync > 0 && (0x80..0xc0).contains(&byte) {
            self.resync -= 1;
            return;
        }
        self.resync = 0;
        let (bad, unit) = self.decoder.push(byte);
        for unit in bad.into_iter().chain(unit) {
            self.unit(unit, sink);
        }
    }

    fn unit(&mut self, unit: Unit, sink: &mut impl FnMut(CleanLine)) {
        loop {
            match self.escapes.step(unit, !self.row.has_invalid()) {
                UnitKind::Text => return self.text(unit, sink),
                UnitKind::Inside => return,
                UnitKind::Ended(effect) => return self.obey(effect),
                UnitKind::GivenUp(skipped) => self.removed.swallowed += skipped,
            }
        }
    }

    fn obey(&mut self, effect: Move) {
        match effect {
            Move::None => {}
            Move::Column(column) => self.row.to(column),
            Move::Back(count) => self.row.back(count),
            // Keeps words that are apart on the screen from running together.
            Move::Away => self.row.char(' '),
            Move::EraseRight => self.row.erase_right(),
            Move::EraseAll => self.row.erase_all(),
        }
    }

    fn text(&mut self, unit: Unit, sink: &mut impl FnMut(CleanLine)) {
        let char = match unit {
            Unit::Char(char) => char,
            Unit::Byte(_) => return self.row.junk(unit),
        };
        match char {
            '\n' => self.end_line(false, sink),
            '\t' => self.row.char(char),
            '\r' => self.row.home(),
            '\u{8}' => self.row.back(1),
            // Bell and shifts of the character set: heard or obeyed, never seen.
            '\u{7}' | '\u{e}' | '\u{f}' => {}
            _ if char.is_control() => self.row.junk(unit),
            _ => match chars::visible_form(char) {
                Some(seen) => self.row.char(seen),
                None => self.hide(char),
            },
        }
    }

    fn hide(&mut self, char: char) {
        if !chars::is_presentation(self.row.last(), char) {
            self.removed.invisible += 1;
        }
        // Where some readers begin a new line, words must not run together.
        if matches!(char, '\u{2028}' | '\u{2029}') {
            self.row.char(' ');
        }
    }

    fn end_line(&mut self, open: bool, sink: &mut impl FnMut(CleanLine)) {
        let binary = self.row.is_binary();
        let (text, cut) = if binary { (String::new(), 0) } else { self.row.text() };
        let line = CleanLine {
            number: self.number,
            count: 1,
            start: self.start,
            end: self.offset,
            text: imitation::marked(&text).into_owned(),
            cut,
            binary,
            starts_within: std::mem::take(&mut self.within),
            open,
        };
        // The first number may come from a hostile agent.
        self.number = self.number.saturating_add(1);
        self.start = self.offset;
        self.resync = 0;
        self.row.clear();
        self.hold(line, sink);
    }

    /// Merges the line with the previous one, or passes that one on.
    fn hold(&mut self, mut line: CleanLine, sink: &mut impl FnMut(CleanLine)) {
        let same = |held: &&mut CleanLine| {
            let text = held.text == line.text && held.cut == 0 && line.cut == 0;
            let alike = if line.binary { held.binary } else { text && !held.binary };
            alike && !held.starts_within && !line.open
        };
        if let Some(held) = self.held.as_mut().filter(same) {
            held.count += 1;
            held.end = line.end;
            if held.binary {
                held.text = binary(held);
            }
            return;
        }
        if line.binary {
            line.text = binary(&line);
        }
        if let Some(before) = self.held.replace(line) {
            sink(before);
        }
    }
}

/// The text that stands for binary bytes.
fn binary(line: &CleanLine) -> String {
    let mut text = format!("[binary {} bytes", human::size(line.end - line.start));
    if line.count > 1 {
        // Writing to a string cannot fail.
        let _ = write!(text, " in {} lines", line.count);
    }
    text.push(']');
    text
}

/// How many bytes at the beginning are printable ASCII.
fn ascii(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !(b' '..=b'~').contains(byte)).unwrap_or(bytes.len())
}
