//! Looking at a part of a log: head, tail, a range of lines, grep.
//!
//! It happens here, so that a grep does not carry 2 GB over the wire. These functions read files:
//! call them where blocking is allowed. Of a line that is longer than [`LINE`] only the first
//! [`LINE`] bytes are searched and shown. A line is matched as a terminal shows it, see [`plain`].

use regex::bytes::Regex;

use super::plain::plain;
use super::reader::Item;
use super::{Mode, Spool};

/// How much of a line grep searches.
pub(crate) const LINE: usize = 64 << 10;

/// How much of a matching line is returned.
const SHOWN: usize = 2 << 10;

/// How much is read around one match.
const BLOCK: usize = 1 << 20;

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// A part of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SpoolPiece {
    /// The offset of its first byte.
    pub(crate) offset: u64,
    /// The number of its first line.
    pub(crate) first_line: u64,
    /// It begins within its first line.
    pub(crate) starts_within: bool,
    /// It ends before its last line does.
    pub(crate) ends_within: bool,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

/// A line that matched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Match {
    /// Its number.
    pub(crate) line: u64,
    /// The offset of its first byte.
    pub(crate) offset: u64,
    /// Its first bytes.
    pub(crate) bytes: Vec<u8>,
    /// Whether it goes on.
    pub(crate) cut: bool,
}

/// Walks a log from an offset on, counting lines.
struct Walk {
    reader: super::SpoolReader,
    /// The line that the next byte belongs to.
    line: u64,
    /// Whether the next byte is the first of its line.
    fresh: bool,
}

impl Walk {
    /// Begins at the last entry of the line index for which `before` holds.
    fn begin(spool: &Spool, before: impl Fn(&(u64, u64)) -> bool) -> Self {
        let (offset, newlines) = spool.log().steady(|log, marks| log.entry_before(marks, &before));
        let reader = spool.reader(offset, Mode::Lagging);
        Self { reader, line: newlines + 1, fresh: offset == 0 }
    }

    /// The next chunk with the offset of its first byte.
    fn next(&mut self) -> Option<(u64, bytes::Bytes)> {
        loop {
            let at = self.reader.offset();
            match self.reader.next(CHUNK) {
                Item::Data(_, bytes) => return Some((at, bytes)),
                Item::Gap { lines, .. } => {
                    self.line += lines;
                    self.fresh = false;
                }
                Item::UpToDate { .. } => return None,
            }
        }
    }
}

impl Spool {
    /// Up to `budget` bytes from `offset` on.
    pub(crate) fn bytes_from(&self, offset: u64, budget: usize) -> SpoolPiece {
        let start = self.stats().start.max(offset);
        let mut walk = Walk::begin(self, |entry| entry.0 <= start);
        let mut piece: Option<SpoolPiece> = None;
        while let Some((at, bytes)) = walk.next() {
            let skip =
                usize::try_from(start.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
            let (before, wanted) = bytes.split_at(skip);
            walk.line += newlines(before);
            if let Some(last) = before.last() {
                walk.fresh = *last == b'\n';
            }
            if wanted.is_empty() {
                continue;
            }
            let piece = piece.get_or_insert_with(|| SpoolPiece {
                offset: at + skip as u64,
                first_line: walk.line,
                starts_within: !walk.fresh,
                ends_within: false,
                bytes: Vec::new(),
            });
            let room = budget - piece.bytes.len();
            piece.bytes.extend_from_slice(wanted.get(..room).unwrap_or(wanted));
            if piece.bytes.len() >= budget {
                break;
            }
        }
        let mut piece =
            piece.unwrap_or_else(|| empty(walk.reader.offset(), walk.line, !walk.fresh));
        self.mark_end(&mut piece);
        piece
    }

    fn mark_end(&self, piece: &mut SpoolPiece) {
        let more = piece.offset + (piece.bytes.len() as u64) < self.stats().end;
        piece.ends_within = more && piece.bytes.last().is_some_and(|&byte| byte != b'\n');
    }

    /// The first `count` lines that are kept, within the budget.
    pub(crate) fn head(&self, count: u64, budget: usize) -> SpoolPiece {
        let start = self.stats().start;
        let mut piece = self.bytes_from(start, budget);
        keep_lines(&mut piece, count);
        self.mark_end(&mut piece);
        piece
    }

    /// `count` lines from line `first` on, within the budget.
    pub(crate) fn range(&self, first: u64, count: u64, budget: usize) -> SpoolPiece {
        let mut piece = self.bytes_from(self.offset_of_line(first), budget);
        let partial = u64::from(piece.starts_within);
        keep_lines(&mut piece, count.saturating_add(partial));
        self.mark_end(&mut piece);
        piece
    }

    /// The last `count` lines, within the budget: what does not fit is cut at the front.
    pub(crate) fn tail(&self, count: u64, budget: usize) -> SpoolPiece {
        let stats = self.stats();
        let first = stats.lines.saturating_sub(count).saturating_add(1);
        let by_lines = self.offset_of_line(first);
        let by_bytes = stats.end.saturating_sub(budget as u64);
        self.bytes_from(by_lines.max(by_bytes), budget)
    }

    /// Where a line begins, or the end if there is no such line.
    fn offset_of_line(&self, line: u64) -> u64 {
        let mut walk = Walk::begin(self, |entry| entry.1 + 1 < line || entry.0 == 0);
        if walk.line >= line && walk.fresh {
            return walk.reader.offset();
        }
        while let Some((at, bytes)) = walk.next() {
            for (place, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
                walk.line += 1;
                if walk.line >= line {
                    return at + place as u64 + 1;
                }
            }
        }
        walk.reader.offset()
    }

    /// Lines from `first` on that match, at most `limit` of them within the budget; and the line to
    /// go on from, when there may be more.
    pub(crate) fn grep(
        &self,
        pattern: &Regex,
        first: u64,
        limit: usize,
        budget: usize,
    ) -> (Vec<Match>, Option<u64>) {
        let mut walk = Walk::begin(self, |entry| entry.1 + 1 < first || entry.0 == 0);
        let mut found = FoundMatches { matches: Vec::new(), left: budget, limit };
        let mut line = LineStart::default();
        let mut skipping = !walk.fresh;
        while let Some((at, bytes)) = walk.next() {
            let mut at = at;
            for part in bytes.split_inclusive(|&byte| byte == b'\n') {
                let whole = part.last() == Some(&b'\n');
                if !skipping && walk.line >= first {
                    line.extend(at, part.strip_suffix(b"\n").unwrap_or(part));
                }
                at += part.len() as u64;
                if !whole {
                    continue;
                }
                if !skipping && walk.line >= first && !found.take(pattern, walk.line, &line) {
                    return (found.matches, Some(walk.line));
                }
                line.clear();
                skipping = false;
                walk.line += 1;
            }
        }
        if line.started && !found.take(pattern, walk.line, &line) {
            return (found.matches, Some(walk.line));
        }
        (found.matches, None)
    }

    /// Matches with lines of context before and after each, every line a piece of its own, within
    /// the budget; and the line to go on from, when there may be more.
    pub(crate) fn around(
        &self,
        matches: &[Match],
        context: u64,
        budget: usize,
        next: Option<u64>,
    ) -> (Vec<SpoolPiece>, Option<u64>) {
        let (mut lines, mut left, mut done) = (Vec::new(), budget, 0);
        for (at, found) in matches.iter().enumerate() {
            let first = found.line.saturating_sub(context).max(done + 1);
            // The next match brings what is before it.
            let limit = matches.get(at + 1).map_or(u64::MAX, |after| after.line - 1);
            let last = found.line.saturating_add(context).min(limit);
            if first > last {
                continue;
            }
            let block = self.range(first, last - first + 1, BLOCK);
            let from = lines.len();
            for line in single(&block) {
                let Some(rest) = left.checked_sub(line.bytes.len()) else {
                    // Part of the context would be taken for all of it. It is shown only if there
                    // is nothing else.
                    if from > 0 {
                        lines.truncate(from);
                    }
                    return (lines, Some(found.line + u64::from(from == 0)));
                };
                left = rest;
                lines.push(line);
            }
            done = last;
        }
        (lines, next)
    }
}

/// The first bytes of a line.
#[derive(Default)]
struct LineStart {
    offset: u64,
    started: bool,
    bytes: Vec<u8>,
    cut: bool,
}

impl LineStart {
    fn extend(&mut self, at: u64, bytes: &[u8]) {
        if !self.started {
            self.offset = at;
            self.started = true;
        }
        let room = LINE - self.bytes.len();
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.started = false;
        self.cut = false;
    }
}

struct FoundMatches {
    matches: Vec<Match>,
    left: usize,
    limit: usize,
}

impl FoundMatches {
    /// Takes the line if it matches. Returns `false` if it does and there is no room for it.
    fn take(&mut self, pattern: &Regex, number: u64, line: &LineStart) -> bool {
        if !pattern.is_match(&plain(&line.bytes, 0)) {
            return true;
        }
        let shown = line.bytes.get(..SHOWN).unwrap_or(&line.bytes);
        if self.matches.len() >= self.limit || shown.len() > self.left {
            return false;
        }
        self.left -= shown.len();
        self.matches.push(Match {
            line: number,
            offset: line.offset,
            bytes: shown.to_vec(),
            cut: line.cut || shown.len() < line.bytes.len(),
        });
        true
    }
}

/// Each line of a piece, by its first bytes.
fn single(piece: &SpoolPiece) -> Vec<SpoolPiece> {
    let mut lines = Vec::new();
    let (mut offset, mut number) = (piece.offset, piece.first_line);
    for (at, part) in piece.bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let line = part.strip_suffix(b"\n").unwrap_or(part);
        let shown = line.get(..SHOWN).unwrap_or(line);
        lines.push(SpoolPiece {
            offset,
            first_line: number,
            starts_within: piece.starts_within && at == 0,
            ends_within: shown.len() < line.len(),
            bytes: shown.to_vec(),
        });
        offset += part.len() as u64;
        number += 1;
    }
    lines
}

fn empty(offset: u64, first_line: u64, starts_within: bool) -> SpoolPiece {
    SpoolPiece { offset, first_line, starts_within, ends_within: false, bytes: Vec::new() }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// Cuts a piece after `count` lines.
fn keep_lines(piece: &mut SpoolPiece, count: u64) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let ends = piece.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let length = match count.checked_sub(1) {
        None => 0,
        Some(last) => ends.map(|(at, _)| at + 1).nth(last).unwrap_or(piece.bytes.len()),
    };
    piece.bytes.truncate(length);
}

/// The last bytes of the log, from the last line that is not empty, at most `limit`.
pub(super) fn last_line(spool: &Spool, limit: usize) -> Vec<u8> {
    let end = spool.stats().end;
    let piece = spool.bytes_from(end.saturating_sub(limit as u64 * 2), limit * 2);
    let text = piece.bytes.strip_suffix(b"\n").unwrap_or(&piece.bytes);
    let line = text.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    line.get(..limit).unwrap_or(line).to_vec()
}
