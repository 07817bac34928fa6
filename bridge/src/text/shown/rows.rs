//! The lines of one or two pieces, as they would be shown, with their positions in the log.
//!
//! If a piece has far more lines than needed, only those at its ends are kept.

use std::collections::VecDeque;

use super::{Keep, LogPosition, Piece};
use crate::text::clean::{CleanLine, Cleaner, Removed, WIDTH};

/// The most that a line costs besides its text: LF, and marks at its beginning and its end.
const MARKS: usize = 40;

/// The lines at hand.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
    /// The first row of the tail, if something is missing before it.
    pub(super) gap: Option<usize>,
    /// Where the first piece begins.
    pub(super) begin: LogPosition,
    /// Where the last one ends.
    pub(super) end: LogPosition,
    pub(super) removed: Removed,
}

/// One server.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) begin: LogPosition,
    pub(super) end: LogPosition,
    /// As it is shown, with its LF.
    pub(super) text: String,
    /// How many characters that are.
    pub(super) cost: usize,
    line: CleanLine,
    goes_on: bool,
}

impl Rows {
    pub(super) fn new(
        head: Option<&Piece>,
        tail: Option<&Piece>,
        keep: Keep,
        budget: usize,
    ) -> Self {
        let some = |piece: &&Piece| !piece.bytes.is_empty();
        let (head, tail) = (head.filter(some), tail.filter(some));
        let (Some(head), tail) = (head.or(tail), head.and(tail)) else {
            return Self::none();
        };
        let head_end = head.offset.saturating_add(head.bytes.len() as u64);
        let joined = tail.filter(|tail| tail.offset <= head_end);
        let apart = tail.filter(|tail| tail.offset > head_end);
        let more = joined.map_or(&[][..], |tail| after(tail, head_end));
        let mut lengths = Lengths::new(&[&head.bytes, more], apart, budget);
        lengths.ends = keep == Keep::End;
        let last = joined.unwrap_or(head);
        let mut all = Self::clean(head, more, &lengths);
        all.begin = LogPosition { line: head.first_line, offset: head.offset };
        // A partial line comes whole with the next call.
        if last.ends_within && (apart.is_some() || keep == Keep::Start) {
            all.go_on();
        }
        if let Some(tail) = apart {
            all.gap = Some(all.rows.len());
            let of_tail = Lengths { width: lengths.tail, ends: true, ..lengths };
            let mut rest = Self::clean(tail, &[], &of_tail);
            if tail.starts_within && rest.rows.len() > 1 {
                rest.rows.remove(0);
            }
            all.rows.append(&mut rest.rows);
            all.removed = all.removed.plus(rest.removed);
            all.end = rest.end;
        }
        all
    }

    fn none() -> Self {
        let place = LogPosition { line: 1, offset: 0 };
        let removed = Removed::default();
        Self { rows: Vec::new(), gap: None, begin: place, end: place, removed }
    }

    /// The lines of a piece and of what follows. If the ends of lines matter, a line without its
    /// beginning that is the last line is cut at its front.
    fn clean(piece: &Piece, more: &[u8], lengths: &Lengths) -> Self {
        let &Lengths { width, ends, .. } = lengths;
        let single = ends && piece.starts_within && more.is_empty() && lines(&[&piece.bytes]) <= 1;
        let skip = if single { piece.bytes.len().saturating_sub(width) } else { 0 };
        let mut cleaner = Cleaner::new(piece.first_line).width(width);
        if piece.starts_within {
            cleaner = cleaner.within();
        }
        let offset = piece.offset.saturating_add(skip as u64);
        let mut both = Both::new(lengths.budget);
        let mut sink = |line| both.push(Row::new(line, offset));
        cleaner.feed(piece.bytes.get(skip..).unwrap_or_default(), &mut sink);
        cleaner.feed(more, &mut sink);
        let removed = cleaner.finish(&mut sink);
        let rows = both.rows();
        let begin = LogPosition { line: piece.first_line, offset };
        let line = rows.last().map_or(begin.line, |row| row.end.line);
        let length = (piece.bytes.len() + more.len()) as u64;
        let end = LogPosition { line, offset: piece.offset.saturating_add(length) };
        Self { rows, gap: None, begin, end, removed }
    }

    /// The last line continues beyond what is at hand: it is left out if there are others, and
    /// marked if not.
    fn go_on(&mut self) {
        if self.rows.len() > 1 {
            self.rows.pop();
        } else if let Some(row) = self.rows.last_mut() {
            row.goes_on = true;
            row.render();
        }
    }
}

impl Row {
    fn new(line: CleanLine, offset: u64) -> Self {
        let (first, last) = (line.number, line.last());
        let end = if line.open { last } else { last.saturating_add(1) };
        let mut row = Self {
            first,
            last,
            begin: LogPosition { line: first, offset: offset.saturating_add(line.start) },
            end: LogPosition { line: end, offset: offset.saturating_add(line.end) },
            text: String::new(),
            cost: 0,
            line,
            goes_on: false,
        };
        row.render();
        row
    }

    /// Whether it is only a part of its line.
    pub(super) fn is_part(&self) -> bool {
        self.goes_on || self.line.starts_within
    }

    /// The same in at most `room` characters, which are more than [`MARKS`].
    pub(super) fn within(&self, room: usize) -> Self {
        let mut row = self.clone();
        if self.cost <= room {
            return row;
        }
        let keep = room.saturating_sub(MARKS);
        let all = row.line.text.chars().count();
        row.line.text = row.line.text.chars().take(keep).collect();
        row.line.cut = row.line.cut.saturating_add(all.saturating_sub(keep));
        row.render();
        row
    }

    fn render(&mut self) {
        self.text.clear();
        self.line.write(&mut self.text);
        if self.goes_on {
            self.text.truncate(self.text.trim_end_matches('\n').len());
            self.text.push_str("…\n");
        }
        self.cost = self.text.chars().count();
    }
}

/// The rows at both ends of many: as many as fit into the budget, and one more at each end, where
/// picking must stop.
struct Both {
    budget: usize,
    front: Vec<Row>,
    front_cost: usize,
    back: VecDeque<Row>,
    back_cost: usize,
}

impl Both {
    fn new(budget: usize) -> Self {
        Self { budget, front: Vec::new(), front_cost: 0, back: VecDeque::new(), back_cost: 0 }
    }

    fn push(&mut self, row: Row) {
        if self.front_cost <= self.budget {
            self.front_cost += row.cost;
            self.front.push(row);
            return;
        }
        self.back_cost += row.cost;
        self.back.push_back(row);
        while let Some(first) = self.back.front()
            && self.back_cost - first.cost > self.budget
        {
            self.back_cost -= first.cost;
            self.back.pop_front();
        }
    }

    fn rows(self) -> Vec<Row> {
        let mut rows = self.front;
        rows.extend(self.back);
        rows
    }
}

/// How long lines may be, and all of them together.
///
/// [`WIDTH`] keeps one line from crowding out the others. If there are so few lines that each could
/// be longer, it may be: a single line of JSON comes whole if it fits.
#[derive(Clone, Copy)]
struct Lengths {
    /// Of each line of the head.
    width: usize,
    /// Of each line of the tail.
    tail: usize,
    /// The ends of lines matter more than their beginnings.
    ends: bool,
    budget: usize,
}

impl Lengths {
    fn new(head: &[&[u8]], tail: Option<&Piece>, budget: usize) -> Self {
        let head_lines = lines(head);
        let tail_lines = tail.map_or(0, |tail| lines(&[&tail.bytes]));
        let share = (budget / (head_lines + tail_lines).max(1)).saturating_sub(MARKS);
        let each = share.max(WIDTH);
        // Pieces of one or two long lines: each has its share of the budget.
        let part = |tenths: usize| (budget * tenths / 10).saturating_sub(MARKS).max(1);
        let width = if tail.is_some() && head_lines == 1 { part(3).min(each) } else { each };
        let tail = if tail_lines == 1 { part(7) } else { each };
        Self { width, tail, ends: false, budget }
    }
}

/// How many lines the bytes have together, the last one counted without its LF.
fn lines(parts: &[&[u8]]) -> usize {
    let ended: usize =
        parts.iter().map(|part| part.iter().filter(|&&byte| byte == b'\n').count()).sum();
    let open = parts.iter().rev().find_map(|part| part.last()).is_some_and(|&last| last != b'\n');
    ended + usize::from(open)
}

/// The part of a piece after an offset in the log.
fn after(piece: &Piece, offset: u64) -> &[u8] {
    let skip = usize::try_from(offset - piece.offset).unwrap_or(usize::MAX);
    piece.bytes.get(skip..).unwrap_or_default()
}
