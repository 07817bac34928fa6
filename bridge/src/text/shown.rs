//! Fits a log, or the parts of it that are at hand, into a number of characters.
//!
//! ```text
//! head piece          [omitted 190 lines, 14k bytes]          tail piece
//! └ about 30 of 100 ┘                                 └ about 70 of 100 ┘
//! ```
//!
//! The end of a log shows the outcome, so it gets the larger share. Lines are kept whole if
//! possible; a line is cut only if it is longer than its share. What is missing is reported once,
//! between head and tail, in lines and bytes, and separately what the log no longer has; nothing is
//! reported if nothing is missing. Whatever a log holds, its text is within the budget.
//!
//! The caller decides which bytes to ask for; the first line of the answer is in `header`.

pub mod matches;
mod pick;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;

use self::pick::Picked;
use self::rows::{Row, Rows};
use super::clean::Removed;
use super::{Word, human};

/// How many characters an answer may have below its header, including the line about what is
/// missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budget(usize);

impl Budget {
    /// The range of budgets.
    pub const RANGE: std::ops::RangeInclusive<usize> = 200..=40_000;

    /// This many characters, or the nearest number that is allowed.
    pub fn new(characters: usize) -> Self {
        Self(characters.clamp(*Self::RANGE.start(), *Self::RANGE.end()))
    }

    /// The number of characters.
    pub fn characters(self) -> usize {
        self.0
    }
}

/// The smallest limit of the known clients is 8,000, and the header must fit, too.
impl Default for Budget {
    fn default() -> Self {
        Self(7_500)
    }
}

/// A piece of a log as it arrived.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Piece {
    /// The number of its first line.
    pub first_line: u64,
    /// It begins within its first line.
    pub starts_within: bool,
    /// It ends within its last line, which continues.
    pub ends_within: bool,
    /// The offset of its first byte in the log.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// How much the log has had in total, and how much of that is gone: always the oldest part.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Total {
    /// Lines, the last one counted even if its LF is missing.
    pub lines: u64,
    /// How many lines are no longer kept.
    pub dropped_lines: u64,
    /// How many bytes are no longer kept.
    pub dropped_bytes: u64,
}

/// Which part matters most if not everything fits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Keep {
    /// The beginning and the end: an answer to a run.
    #[default]
    Ends,
    /// The beginning: a range that is read on from where it stops.
    Start,
    /// The end: a tail.
    End,
}

/// The shown part of a log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shown {
    /// The text, each line ended by LF.
    pub text: String,
    /// The lines that are shown, including those that are only partly shown.
    pub ranges: Ranges,
    /// The first line that is kept and not shown; none if the rest is shown, and none for
    /// [`Keep::End`].
    pub next: Option<u64>,
    /// Every line of the log is shown, and none only partly. Long lines may be cut nevertheless.
    pub whole: bool,
    /// What was removed from the pieces, whether they are shown or not.
    pub removed: Removed,
}

/// Ranges of line numbers, in order: `1-60,253-312`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The first and the last line of each range.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Whether there are no ranges.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds lines that come after all others, or extend the last range.
    fn push(&mut self, first: u64, last: u64) {
        match self.0.last_mut() {
            Some(range) if first <= range.1.saturating_add(1) => range.1 = range.1.max(last),
            _ => self.0.push((first, last)),
        }
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// Fits the parts of a log that are at hand into the budget. `tail` comes after `head` in the log;
/// they may touch or overlap, and then nothing is missing between them.
pub fn fit(
    head: Option<&Piece>,
    tail: Option<&Piece>,
    total: Total,
    keep: Keep,
    budget: Budget,
) -> Shown {
    let rows = Rows::new(head, tail, keep, budget.0);
    let reserve = Missing::longest(rows.end.line, total);
    let picked = Picked::new(&rows, keep, budget.0, reserve);
    let mut shown = Shown { removed: rows.removed, ..Shown::default() };
    for row in &picked.front {
        shown.text.push_str(&row.text);
        shown.ranges.push(row.first, row.last);
    }
    let missing = missing(&rows, &picked);
    // A range or a tail has no gap between two parts: the header says enough.
    let between = keep == Keep::Ends || !picked.front.is_empty() && !picked.back.is_empty();
    if let Some(missing) = missing.filter(|_| between) {
        shown.text.push_str(&missing.marker(total));
    }
    for row in &picked.back {
        shown.text.push_str(&row.text);
        shown.ranges.push(row.first, row.last);
    }
    let all_lines = if total.lines == 0 {
        shown.ranges.0.is_empty()
    } else {
        shown.ranges.0 == [(1, total.lines)]
    };
    let in_parts = picked.front.iter().chain(&picked.back).any(Row::is_part);
    shown.whole = all_lines && missing.is_none() && !in_parts;
    // If nothing is at hand, it is not known where to continue.
    if keep != Keep::End && !rows.rows.is_empty() {
        let begin = if picked.front.is_empty() { rows.begin.line } else { 0 };
        shown.next = next(&shown.ranges, begin, total);
    }
    shown
}

/// The first line from `begin` on that is neither shown nor gone. Without `begin`, lines before the
/// first one that is shown were not asked for.
fn next(ranges: &Ranges, begin: u64, total: Total) -> Option<u64> {
    let first = if begin > 0 { begin } else { ranges.iter().next()?.0 };
    let mut next = first.max(total.dropped_lines.saturating_add(1));
    for (first, last) in ranges.iter() {
        if (first..=last).contains(&next) {
            next = last.saturating_add(1);
        }
    }
    (next <= total.lines).then_some(next)
}

/// A position in a log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct LogPosition {
    /// The line that begins or continues here.
    line: u64,
    offset: u64,
}

/// What is left out, from one position up to another.
#[derive(Clone, Copy, Debug)]
struct Missing {
    from: LogPosition,
    to: LogPosition,
}

fn missing(rows: &Rows, picked: &Picked) -> Option<Missing> {
    let from = picked.front.last().map_or(rows.begin, |row| row.end);
    let to = picked.back.first().map_or(rows.end, |row| row.begin);
    (from.offset < to.offset).then_some(Missing { from, to })
}

impl Missing {
    /// The most characters that the line about missing lines has, for a log that ends with this
    /// line.
    fn longest(last: u64, total: Total) -> usize {
        // No count has more digits, and a size has at most four characters.
        let digits = last.checked_ilog10().map_or(1, |log| log as usize + 1);
        let of_line = "[omitted 9.9k bytes of line ]\n".len() + digits;
        let lines = "[omitted  lines, 9.9k bytes]\n".len() + digits;
        let gone = "; no longer kept:  lines, 9.9k bytes".len() + digits;
        of_line.max(if total.dropped_bytes > 0 { lines + gone } else { lines })
    }

    /// The line that reports it.
    fn marker(self, total: Total) -> String {
        let lines = self.to.line.saturating_sub(self.from.line);
        let bytes = self.to.offset - self.from.offset;
        // The part that is gone is the log's beginning.
        let gone = total.dropped_bytes.min(self.to.offset).saturating_sub(self.from.offset);
        let before = self.from.line.saturating_sub(1);
        let gone_lines = total.dropped_lines.saturating_sub(before).min(lines);
        if lines == 0 {
            return format!(
                "[{} {} bytes of line {}]\n",
                Word::Omitted,
                human::size(bytes),
                self.from.line
            );
        }
        let kept = amount(lines - gone_lines, bytes - gone);
        match gone {
            0 => format!("[{} {kept}]\n", Word::Omitted),
            _ => {
                let gone = amount(gone_lines, gone);
                format!("[{} {kept}; no longer kept: {gone}]\n", Word::Omitted)
            }
        }
    }
}

fn amount(lines: u64, bytes: u64) -> String {
    let plural = if lines == 1 { "" } else { "s" };
    format!("{lines} line{plural}, {} bytes", human::size(bytes))
}
