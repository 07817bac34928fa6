//! Fits pieces of a log into a budget: the head, the tail, and between them what was left out.

use std::fmt::Write as _;

use crate::render::clean::{self, Line};

/// Why writing a text cannot fail.
const MEMORY: &str = "a string takes whatever is written to it";

/// The budget when none is given, in characters.
pub const DEFAULT: usize = 7_500;

/// What may be asked for.
pub const RANGE: std::ops::RangeInclusive<usize> = 200..=40_000;

/// A piece of a log as it came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Piece {
    /// The number of its first line.
    pub first_line: u64,
    /// It begins within its first line.
    pub starts_within: bool,
    /// It ends within its last line although that goes on.
    pub ends_within: bool,
    /// The offset of its first byte.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What is shown of a log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shown {
    /// The text, each line ended.
    pub text: String,
    /// The ranges of lines that are shown, when not all are: `1-60,253-312`.
    pub ranges: Option<String>,
    /// The first line that was left out.
    pub next: Option<u64>,
    /// Invisible characters that were removed.
    pub hidden: usize,
}

/// Fits pieces, in the order of the log, into `budget` characters. `lines` is the number of the last
/// line of the log.
pub fn fit(pieces: &[Piece], lines: u64, budget: usize) -> Shown {
    let mut shown = Shown::default();
    let mut all: Vec<(Line, bool)> = Vec::new();
    for piece in pieces {
        let cleaned = clean::clean(&piece.bytes, piece.first_line);
        shown.hidden += cleaned.hidden;
        for (at, line) in cleaned.lines.into_iter().enumerate() {
            all.push((line, at == 0 && piece.starts_within));
        }
    }
    let cost = |line: &Line| line.text.chars().count() + 1 + if line.times > 1 { 24 } else { 0 };
    let total: usize = all.iter().map(|(line, _)| cost(line)).sum();
    let (head, tail) = if total <= budget {
        (all.len(), all.len())
    } else {
        split(&all.iter().map(|(line, _)| cost(line)).collect::<Vec<_>>(), budget)
    };
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (at, (line, within)) in all.iter().enumerate() {
        if at >= head && at < tail {
            continue;
        }
        let first = line.number;
        let before = ranges.last().map_or(0, |range| range.1);
        if first > before + 1 && before > 0 {
            writeln!(shown.text, "… {} lines left out …", first - before - 1).expect(MEMORY);
        }
        if *within {
            shown.text.push('…');
        }
        shown.text.push_str(&line.text);
        if line.times > 1 {
            write!(shown.text, "  … same line ×{}", line.times).expect(MEMORY);
        }
        shown.text.push('\n');
        let last = first + line.times - 1;
        match ranges.last_mut() {
            Some(range) if first <= range.1 + 1 => range.1 = range.1.max(last),
            _ => ranges.push((first, last)),
        }
    }
    shown.next = gap(&ranges, lines);
    if shown.next.is_some() || ranges.first().is_some_and(|range| range.0 > 1) {
        let said: Vec<_> = ranges.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        shown.ranges = Some(said.join(","));
    }
    shown
}

/// How many lines of the head, and from where on the tail: about 30 and 70 parts of the budget.
fn split(costs: &[usize], budget: usize) -> (usize, usize) {
    let (for_head, mut left) = (budget * 3 / 10, budget);
    let mut head = 0;
    let mut used = 0;
    while let Some(cost) = costs.get(head).filter(|cost| used + **cost <= for_head) {
        used += cost;
        head += 1;
    }
    left -= used;
    let mut tail = costs.len();
    while let Some(cost) = tail.checked_sub(1).filter(|&at| at >= head).and_then(|at| costs.get(at))
    {
        if *cost > left {
            break;
        }
        left -= cost;
        tail -= 1;
    }
    (head, tail)
}

/// The first line after a shown one that is not shown.
fn gap(ranges: &[(u64, u64)], lines: u64) -> Option<u64> {
    let first = ranges.first()?;
    let next = first.1 + 1;
    let is_last = ranges.len() == 1;
    (!is_last || next <= lines).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(first_line: u64, text: &str) -> Piece {
        Piece { first_line, bytes: text.as_bytes().to_vec(), ..Piece::default() }
    }

    #[test]
    fn what_fits_is_shown_whole_and_nothing_is_said_about_it() {
        let shown = fit(&[piece(1, "a\nb\n")], 2, 200);
        assert_eq!((shown.text.as_str(), shown.ranges, shown.next), ("a\nb\n", None, None));
    }

    #[test]
    fn what_does_not_fit_is_cut_in_the_middle_with_the_way_to_the_rest() {
        let text: String = (1..=100).map(|n| format!("line {n}\n")).collect();
        let shown = fit(&[piece(1, &text)], 100, 200);
        assert!(shown.text.chars().count() <= 200 + 30, "{}", shown.text);
        assert!(shown.text.starts_with("line 1\n") && shown.text.ends_with("line 100\n"));
        // Eight lines of seven characters are within 30 % of the budget.
        assert_eq!(shown.next, Some(9));
        assert!(shown.ranges.unwrap().starts_with("1-8,"));
        assert!(shown.text.contains("lines left out"));
    }

    #[test]
    fn two_pieces_far_apart_are_told_apart() {
        let shown = fit(&[piece(1, "a\n"), piece(90, "y\nz\n")], 91, 200);
        assert_eq!(shown.text, "a\n… 88 lines left out …\ny\nz\n");
        assert_eq!((shown.ranges.as_deref(), shown.next), (Some("1-1,90-91"), Some(2)));
    }

    #[test]
    fn a_range_in_the_middle_says_where_to_go_on() {
        let shown = fit(&[piece(61, "a\nb\n")], 100, 200);
        assert_eq!((shown.ranges.as_deref(), shown.next), (Some("61-62"), Some(63)));
    }

    #[test]
    fn folded_lines_count_as_all_of_their_lines() {
        let shown = fit(&[piece(1, "x\nx\nx\ny\n")], 4, 200);
        assert_eq!((shown.text.as_str(), shown.next), ("x  … same line ×3\ny\n", None));
    }

    #[test]
    fn no_budget_is_exceeded_by_more_than_the_marks() {
        bolero::check!().with_type::<(Vec<u8>, u16)>().for_each(|(bytes, budget)| {
            let budget = usize::from(*budget).clamp(*RANGE.start(), *RANGE.end());
            let shown = fit(
                &[Piece { first_line: 1, bytes: bytes.clone(), ..Piece::default() }],
                9,
                budget,
            );
            assert!(shown.text.chars().count() <= budget + 60);
        });
    }
}
