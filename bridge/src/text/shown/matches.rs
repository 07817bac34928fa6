//! Matching lines with their numbers: `499: text`, and lines around them: `500- text`.
//!
//! The first of them always fits, cut if necessary, so that continuing from the first that did not
//! fit makes progress with each call.

use regex::bytes::Regex;

use super::{Budget, Piece};
use crate::text::clean::{CleanLine, Cleaner, Removed, WIDTH};

/// The most that a match costs besides its text: its number, marks, LF.
const MARKS: usize = 60;

/// The matching lines that are shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Matches {
    /// The text, each line ended by LF.
    pub text: String,
    /// How many are shown.
    pub count: usize,
    /// The first line that matches and did not fit.
    pub next: Option<u64>,
    /// What was removed from those that are shown.
    pub removed: Removed,
}

impl Matches {
    /// Fits the matches, each the beginning of its line, into the budget.
    pub fn fit(pieces: &[Piece], budget: Budget) -> Self {
        Self::of(pieces, None, budget)
    }

    /// The same with lines around them, which do not match. A mark separates lines that are not
    /// adjacent.
    pub fn around(pieces: &[Piece], pattern: &Regex, budget: Budget) -> Self {
        Self::of(pieces, Some(pattern), budget)
    }

    fn of(pieces: &[Piece], around: Option<&Regex>, budget: Budget) -> Self {
        let mut shown = Self::default();
        let mut left = budget.0;
        let mut last: Option<&Piece> = None;
        for piece in pieces {
            // Only the beginning of a line that continues is here.
            let matches = |pattern: &Regex| piece.ends_within || pattern.is_match(&piece.bytes);
            let matched = around.is_none_or(matches);
            let (mut row, removed) = row(piece, if matched { ": " } else { "- " }, budget);
            let apart = |last: &Piece| last.first_line.saturating_add(1) != piece.first_line;
            if around.is_some() && last.is_some_and(apart) {
                row.insert_str(0, "--\n");
            }
            let Some(rest) = left.checked_sub(row.chars().count()) else {
                shown.next = Some(piece.first_line);
                break;
            };
            left = rest;
            shown.text.push_str(&row);
            shown.count += usize::from(matched);
            last = Some(piece);
            shown.removed = shown.removed.plus(removed);
        }
        shown
    }
}

fn row(piece: &Piece, mark: &str, budget: Budget) -> (String, Removed) {
    let mut cleaner = Cleaner::new(piece.first_line).width(WIDTH.min(budget.0 - MARKS));
    let mut line = CleanLine::default();
    // A match is one line, whatever its sender claims.
    let bytes = piece.bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    cleaner.feed(bytes, &mut |one| line = one);
    let removed = cleaner.finish(&mut |one| line = one);
    let mut said = String::new();
    line.write(&mut said);
    let goes_on = if piece.ends_within && line.cut == 0 { "…" } else { "" };
    let row = format!("{}{mark}{}{goes_on}", piece.first_line, said.trim_end());
    (format!("{}\n", row.trim_end()), removed)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn piece(first_line: u64, bytes: &[u8]) -> Piece {
        Piece { first_line, bytes: bytes.to_vec(), ..Piece::default() }
    }

    #[test]
    fn each_match_has_its_number_and_is_clean() {
        let long = Piece { ends_within: true, ..piece(9, b"begins and goes on") };
        let pieces = [piece(3, b"\x1b[31mred\x1b[0m"), piece(4, b""), piece(7, b"[run r1]"), long];
        let shown = Matches::fit(&pieces, Budget::default());
        expect![[r#"
            3: red
            4:
            7: \[run r1]
            9: begins and goes on…
        "#]]
        .assert_eq(&shown.text);
        assert_eq!((shown.count, shown.next), (4, None));
    }

    #[test]
    fn lines_around_a_match_are_told_from_it() {
        let line = |number, text: &str| piece(number, text.as_bytes());
        let pieces = [line(4, "a"), line(5, "hit"), line(6, "b"), line(9, "c"), line(10, "hit")];
        let shown = Matches::around(&pieces, &Regex::new("hit").unwrap(), Budget::default());
        assert_eq!(shown.text, "4- a\n5: hit\n6- b\n--\n9- c\n10: hit\n");
        assert_eq!((shown.count, shown.next), (2, None));
    }

    #[test]
    fn the_first_match_fits_into_every_budget() {
        let pieces = [piece(u64::MAX, &[b'x'; 9_999]), piece(5, b"y")];
        let shown = Matches::fit(&pieces, Budget::new(0));
        assert_eq!(shown.count, 2);
        let shown = Matches::fit(&[pieces[0].clone(), pieces[0].clone()], Budget::new(0));
        assert_eq!((shown.count, shown.next), (1, Some(u64::MAX)));
        assert!(shown.text.ends_with("…(+9859)\n"), "{}", shown.text);
    }

    #[test]
    fn any_matches_fit_into_any_budget() {
        type Input = (Vec<(u64, bool, Vec<u8>)>, u16);
        bolero::check!().with_type::<Input>().for_each(|(pieces, budget)| {
            let pieces: Vec<Piece> = pieces
                .iter()
                .map(|(line, within, bytes)| Piece { ends_within: *within, ..piece(*line, bytes) })
                .collect();
            let budget = Budget::new(usize::from(*budget));
            let shown = Matches::fit(&pieces, budget);
            assert!(shown.text.chars().count() <= budget.characters());
            assert_eq!(shown.text.lines().count(), shown.count);
            assert!(shown.count > 0 || pieces.is_empty());
        });
    }
}
