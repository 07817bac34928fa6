//! Chooses the rows that fit: from the front, from the back, or both.

use super::Keep;
use super::rows::{Row, Rows};

/// The percentage of the budget that the front may have if both ends do not fit.
const FRONT: usize = 30;

/// The least to which a line is cut.
const LEAST: usize = 60;

/// The rows that are shown. What is between the two, if anything, is omitted.
#[derive(Clone, Debug, Default)]
pub(super) struct Picked {
    pub(super) front: Vec<Row>,
    pub(super) back: Vec<Row>,
}

impl Picked {
    /// Chooses within the budget. If both ends do not fit, `reserve` characters are left for the
    /// line between them.
    pub(super) fn new(all: &Rows, keep: Keep, budget: usize, reserve: usize) -> Self {
        let rows = all.rows.as_slice();
        let (head, tail) = rows.split_at(all.gap.unwrap_or(rows.len()));
        let room = budget.saturating_sub(reserve);
        if cost(rows) <= if all.gap.is_some() { room } else { budget } {
            return Self { front: head.to_vec(), back: tail.to_vec() };
        }
        match (keep, all.gap) {
            (Keep::Start, _) => Self { front: front(head, budget), back: Vec::new() },
            (Keep::End, None) => Self { front: Vec::new(), back: back(rows, budget) },
            (Keep::End, Some(_)) => Self { front: Vec::new(), back: back(tail, budget) },
            (Keep::Ends, None) => both(rows, rows, room),
            (Keep::Ends, Some(_)) => both(head, tail, room),
        }
    }
}

/// Of the rows in front and of those at the back, which may be the same.
fn both(head: &[Row], tail: &[Row], budget: usize) -> Picked {
    let for_front = cost(head).min(budget * FRONT / 100);
    let back = back(tail, budget - for_front);
    // What the back leaves of the budget goes to the front, up to where the back begins.
    let left = budget.saturating_sub(cost(&back));
    let before = back.first().map_or(u64::MAX, |row| row.begin.offset);
    let free = head.partition_point(|row| row.begin.offset < before);
    let front = front(head.get(..free).unwrap_or(head), left);
    Picked { front, back }
}

fn front(rows: &[Row], room: usize) -> Vec<Row> {
    let fits = fitting(rows.iter(), room);
    match rows.first().filter(|_| fits == 0 && room >= LEAST) {
        Some(first) => vec![first.within(room)],
        None => rows.iter().take(fits).cloned().collect(),
    }
}

fn back(rows: &[Row], room: usize) -> Vec<Row> {
    let fits = fitting(rows.iter().rev(), room);
    match rows.last().filter(|_| fits == 0 && room >= LEAST) {
        Some(last) => vec![last.within(room)],
        None => rows.iter().skip(rows.len() - fits).cloned().collect(),
    }
}

/// How many rows fit.
fn fitting<'a>(rows: impl Iterator<Item = &'a Row>, room: usize) -> usize {
    let mut used = 0_usize;
    let fits = |row: &&Row| {
        used = used.saturating_add(row.cost);
        used <= room
    };
    rows.take_while(fits).count()
}

fn cost(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.cost).sum()
}
