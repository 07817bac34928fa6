//! What is shown of logs that fit, that do not, and of which only parts are at hand.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::text::imitation::imitates;

/// A log, and the pieces of it that an agent would send.
#[derive(Clone, Debug)]
struct Log(Vec<u8>);

impl Log {
    fn of_lines(count: usize) -> Self {
        Self((1..=count).flat_map(|n| format!("line {n}\n").into_bytes()).collect())
    }

    fn total(&self) -> Total {
        Total { lines: lines(&self.0), ..Total::default() }
    }

    fn piece(&self, from: usize, to: usize) -> Piece {
        let before = &self.0[..from];
        Piece {
            first_line: before.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1,
            starts_within: before.last().is_some_and(|&byte| byte != b'\n'),
            ends_within: to < self.0.len()
                && self.0[from..to].last().is_some_and(|&byte| byte != b'\n'),
            offset: from as u64,
            bytes: self.0[from..to].to_vec(),
        }
    }

    fn all(&self) -> Piece {
        self.piece(0, self.0.len())
    }

    fn ends(&self, head: usize, tail: usize) -> (Piece, Piece) {
        (self.piece(0, head), self.piece(self.0.len() - tail, self.0.len()))
    }
}

fn lines(bytes: &[u8]) -> u64 {
    let ended = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    ended + u64::from(bytes.last().is_some_and(|&byte| byte != b'\n'))
}

fn check(shown: &Shown, expected: Expect) {
    let next = shown.next.map_or_else(|| "-".to_owned(), |line| line.to_string());
    let whole = if shown.whole { " whole" } else { "" };
    expected.assert_eq(&format!("shown={} next={next}{whole}\n{}", shown.ranges, shown.text));
}

#[test]
fn what_fits_is_shown_whole_and_nothing_is_said_about_it() {
    let log = Log(b"a\nb\n\nc".to_vec());
    let shown = fit(Some(&log.all()), None, log.total(), Keep::Ends, Budget::default());
    check(
        &shown,
        expect![[r#"
        shown=1-4 next=- whole
        a
        b

        c
    "#]],
    );
}

#[test]
fn what_does_not_fit_keeps_its_ends_and_says_what_is_missing() {
    let log = Log::of_lines(1_000);
    let shown = fit(Some(&log.all()), None, log.total(), Keep::Ends, Budget::new(200));
    check(
        &shown,
        expect![[r#"
            shown=1-8,989-1000 next=9
            line 1
            line 2
            line 3
            line 4
            line 5
            line 6
            line 7
            line 8
            [omitted 980 lines, 8.7k bytes]
            line 989
            line 990
            line 991
            line 992
            line 993
            line 994
            line 995
            line 996
            line 997
            line 998
            line 999
            line 1000
        "#]],
    );
}

#[test]
fn two_pieces_with_half_lines_at_the_gap_show_whole_ones() {
    let log = Log::of_lines(1_000);
    let (head, tail) = log.ends(24, 24);
    assert!(head.ends_within && tail.starts_within);
    let shown = fit(Some(&head), Some(&tail), log.total(), Keep::Ends, Budget::default());
    check(
        &shown,
        expect![[r#"
        shown=1-3,999-1000 next=4
        line 1
        line 2
        line 3
        [omitted 995 lines, 8.8k bytes]
        line 999
        line 1000
    "#]],
    );
}

#[test]
fn pieces_that_touch_or_overlap_are_one() {
    let log = Log::of_lines(9);
    for (head, tail) in [(30, 33), (30, 40), (63, 63), (10, 53)] {
        let (head, tail) = log.ends(head, tail);
        let shown = fit(Some(&head), Some(&tail), log.total(), Keep::Ends, Budget::default());
        assert!(shown.whole, "{}", shown.ranges);
        assert_eq!(shown.text.as_bytes(), log.0);
    }
}

#[test]
fn what_the_log_no_longer_has_is_said_apart() {
    let log = Log::of_lines(1_000);
    let (head, tail) = log.ends(21, 19);
    let dropped =
        |lines, bytes| Total { dropped_lines: lines, dropped_bytes: bytes, ..log.total() };
    let shown = |total| fit(Some(&head), Some(&tail), total, Keep::Ends, Budget::default());
    check(
        &shown(dropped(200, 1_692)),
        expect![[r#"
        shown=1-3,999-1000 next=201
        line 1
        line 2
        line 3
        [omitted 798 lines, 7.1k bytes; no longer kept: 197 lines, 1.6k bytes]
        line 999
        line 1000
    "#]],
    );
    check(
        &shown(dropped(2, 14)),
        expect![[r#"
        shown=1-3,999-1000 next=4
        line 1
        line 2
        line 3
        [omitted 995 lines, 8.8k bytes]
        line 999
        line 1000
    "#]],
    );
}

#[test]
fn one_endless_line_shows_both_of_its_ends() {
    let mut log = Log((0..20_000_u32).flat_map(|n| format!("{n} ").into_bytes()).collect());
    log.0.extend_from_slice(b"end\n");
    let (head, tail) = log.ends(400, 800);
    let shown = fit(Some(&head), Some(&tail), log.total(), Keep::Ends, Budget::new(200));
    check(
        &shown,
        expect![[r#"
        shown=1 next=-
        0 1 2 3 4 5 6 7 8 9 …(+380)…
        [omitted 108k bytes of line 1]
        …19984 19985 19986 19987 19988 19989 19990 19991 19992 19993 19994 19995 19996 19997 19998 19999 end
    "#]],
    );
    assert!(!shown.whole);
}

#[test]
fn a_single_long_line_comes_whole_if_it_fits() {
    let json = format!("{{{}}}\n", "\"key\":1,".repeat(700));
    let log = Log(json.clone().into_bytes());
    let shown = fit(Some(&log.all()), None, log.total(), Keep::Ends, Budget::default());
    assert_eq!(shown.text, json);
    let shown = fit(Some(&log.all()), None, log.total(), Keep::Ends, Budget::new(1_000));
    assert!(shown.text.ends_with("…(+4642)\n"), "{}", shown.text);
    // Among many lines it is cut, so that they are seen.
    let log = Log([Log::of_lines(50).0, json.into_bytes()].concat());
    let shown = fit(Some(&log.all()), None, log.total(), Keep::Ends, Budget::default());
    assert!(shown.whole && shown.text.ends_with("…(+5102)\n"), "{}", shown.text);
}

#[test]
fn a_range_goes_on_where_it_stops() {
    let log = Log::of_lines(100);
    let piece = log.piece(63, 500);
    assert!(piece.ends_within);
    let shown = fit(Some(&piece), None, log.total(), Keep::Start, Budget::new(200));
    assert_eq!((shown.ranges.to_string(), shown.next), ("10-34".to_owned(), Some(35)));
    let shown = fit(Some(&piece), None, log.total(), Keep::Start, Budget::default());
    assert_eq!((shown.ranges.to_string(), shown.next), ("10-63".to_owned(), Some(64)));
    let rest = fit(Some(&log.piece(495, 792)), None, log.total(), Keep::Start, Budget::default());
    assert_eq!((rest.ranges.to_string(), rest.next), ("64-100".to_owned(), None));
    assert!(!shown.text.contains("omitted") && !rest.text.contains("omitted"));
}

#[test]
fn a_tail_keeps_its_end() {
    let log = Log::of_lines(100);
    let shown = fit(Some(&log.piece(290, 792)), None, log.total(), Keep::End, Budget::new(200));
    assert_eq!((shown.ranges.to_string(), shown.next), ("77-100".to_owned(), None));
    assert!(shown.text.ends_with("line 100\n"));
}

#[test]
fn what_is_new_goes_on_within_its_line() {
    let log = Log(b"Password: wrong\nbye\n".to_vec());
    let piece = log.piece(10, 20);
    let shown = fit(Some(&piece), None, log.total(), Keep::Ends, Budget::default());
    check(
        &shown,
        expect![[r#"
        shown=1-2 next=-
        …wrong
        bye
    "#]],
    );
}

#[test]
fn a_log_without_output_is_whole() {
    let shown = fit(None, None, Total::default(), Keep::Ends, Budget::default());
    assert_eq!((shown.text.as_str(), shown.whole, shown.next), ("", true, None));
}

#[test]
fn a_folded_line_counts_as_all_of_its_lines() {
    let log = Log([b"waiting for the lock\n".repeat(40), b"done\n".to_vec()].concat());
    let shown = fit(Some(&log.all()), None, log.total(), Keep::Ends, Budget::new(200));
    check(
        &shown,
        expect![[r#"
        shown=1-41 next=- whole
        waiting for the lock … same line ×40
        done
    "#]],
    );
}

#[test]
fn budgets_are_what_may_be_asked_for() {
    assert_eq!([0, 500, usize::MAX].map(|n| Budget::new(n).characters()), [200, 500, 40_000]);
    assert_eq!(Budget::default().characters(), 7_500);
}

#[test]
fn a_flood_of_lines_takes_no_more_memory_than_its_ends() {
    let log = Log::of_lines(200_000);
    let all = log.all();
    let rows = Rows::new(Some(&all), None, Keep::Ends, 7_500);
    assert!(rows.rows.len() < 2_000, "{} rows", rows.rows.len());
    let shown = fit(Some(&all), None, log.total(), Keep::Ends, Budget::default());
    let named: Vec<u64> = shown.ranges.iter().flat_map(|(first, last)| first..=last).collect();
    let lines = shown.text.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok());
    assert_eq!(named, lines.collect::<Vec<u64>>());
    assert_eq!(omitted(&shown.text), Some(200_000 - named.len()));
}

#[test]
fn numbers_at_the_end_of_their_range_are_no_trouble() {
    let piece = |offset, bytes: &[u8]| Piece {
        first_line: u64::MAX,
        offset,
        bytes: bytes.to_vec(),
        starts_within: true,
        ends_within: true,
    };
    let total = Total { lines: u64::MAX, dropped_lines: u64::MAX, dropped_bytes: u64::MAX };
    for keep in [Keep::Ends, Keep::Start, Keep::End] {
        for (head, tail) in
            [(u64::MAX, u64::MAX), (0, u64::MAX), (u64::MAX, 0), (u64::MAX - 9, u64::MAX - 2)]
        {
            let (head, tail) = (piece(head, b"a\nb\nc"), piece(tail, b"a\nb\nc"));
            let shown = fit(Some(&head), Some(&tail), total, keep, Budget::default());
            assert!(shown.text.contains("b\n"), "{}", shown.text);
        }
    }
}

/// Lines of which no two are the same and each can be found again: `<n>` and some more.
fn numbered() -> impl Strategy<Value = Log> {
    let widths = prop_oneof![6 => 0_usize..40, 1 => 0_usize..900];
    (prop::collection::vec(widths, 0..120), any::<bool>()).prop_map(|(widths, ended)| {
        let line = |(at, width): (usize, usize)| format!("<{}>{}", at + 1, "x".repeat(width));
        let all: Vec<_> = widths.into_iter().enumerate().map(line).collect();
        let mut text = all.join("\n");
        if ended && !text.is_empty() {
            text.push('\n');
        }
        Log(text.into_bytes())
    })
}

/// The numbers of the lines that a text really shows.
fn found(text: &str) -> Vec<u64> {
    let number = |line: &str| line.strip_prefix('<')?.split_once('>')?.0.parse().ok();
    text.lines().filter_map(number).collect()
}

/// How many lines the marker says are missing.
fn omitted(text: &str) -> Option<usize> {
    let marker = text.lines().find_map(|line| line.strip_prefix("[omitted "))?;
    let (lines, rest) = marker.split_once(' ')?;
    lines.parse().ok().filter(|_| rest.starts_with("line"))
}

fn keeps() -> impl Strategy<Value = Keep> {
    prop_oneof![Just(Keep::Ends), Just(Keep::Start), Just(Keep::End)]
}

proptest! {
    #[test]
    fn the_ranges_name_the_lines_that_are_there(log in numbered(), keep in keeps(), budget in 200_usize..3_000) {
        let shown = fit(Some(&log.all()), None, log.total(), keep, Budget::new(budget));
        let named: Vec<u64> = shown.ranges.iter().flat_map(|(first, last)| first..=last).collect();
        prop_assert_eq!(&named, &found(&shown.text));
        let total = log.total().lines;
        prop_assert_eq!(shown.whole, named.len() as u64 == total);
        let next = (1..=total).find(|line| !named.contains(line));
        prop_assert_eq!(shown.next, next.filter(|_| keep != Keep::End));
        let markers = shown.text.lines().filter(|line| line.starts_with("[omitted ")).count();
        prop_assert_eq!(markers, usize::from(keep == Keep::Ends && !shown.whole));
    }

    // An empty head is none: then nothing is between.
    #[test]
    fn the_marker_counts_what_is_between_the_pieces(log in numbered(), cut in 1_usize..4_000, end in 0_usize..4_000, budget in 200_usize..3_000) {
        let (head, tail) = log.ends(cut.min(log.0.len()), end.max(1).min(log.0.len()));
        let shown = fit(Some(&head), Some(&tail), log.total(), Keep::Ends, Budget::new(budget));
        let named: Vec<u64> = shown.ranges.iter().flat_map(|(first, last)| first..=last).collect();
        let total = log.total().lines;
        let missing = (1..=total).filter(|line| !named.contains(line)).count();
        if let Some(lines) = omitted(&shown.text) {
            // A line of which a part is shown may be among those of which the rest is missing.
            prop_assert!(lines == missing || lines == missing + 1, "{lines} {missing} {}", shown.text);
        } else {
            prop_assert_eq!(missing, 0, "{}", shown.text);
        }
        if let Some(next) = shown.next {
            prop_assert!(!named.contains(&next) && next <= total);
        }
    }

    #[test]
    fn the_budget_is_never_exceeded(log in numbered(), keep in keeps(), cut in 0_usize..9_000, end in 0_usize..9_000, budget in 200_usize..3_000) {
        let (head, tail) = log.ends(cut.min(log.0.len()), end.min(log.0.len()));
        for tail in [None, Some(&tail)] {
            let shown = fit(Some(&head), tail, log.total(), keep, Budget::new(budget));
            let text = shown.text.chars().count();
            prop_assert!(text <= budget, "{text} of {budget}: {}", shown.text);
        }
    }
}

/// What a hostile or a broken program may say.
#[test]
fn no_output_is_too_much() {
    let units = [
        b"x".as_slice(),
        b"\0",
        b"\n",
        b"\r",
        b"\x08",
        b"\x1b[31m",
        b"\x1b]0;t\x07",
        b"\x1b",
        b"\x9b1",
        b"\xff",
        b"\xf0\x9f",
        b"[run r1 exit=0 1.3s]\n",
        b"[omitted 3 lines, 9 bytes]\n\xff",
        "\u{202e}".as_bytes(),
        "x\u{301}".as_bytes(),
    ];
    for unit in units {
        // Plain text is read fast, so that more of it is no trouble to the test.
        let length = if unit == b"x" { 10 << 20 } else { 100 << 10 };
        let log = Log(unit.iter().copied().cycle().take(length).collect());
        let (head, tail) = log.ends(7_500, 15_000);
        for keep in [Keep::Ends, Keep::Start, Keep::End] {
            for pieces in [(log.all(), None), (head.clone(), Some(&tail))] {
                let shown = fit(Some(&pieces.0), pieces.1, log.total(), keep, Budget::default());
                assert!(shown.text.chars().count() <= 7_500, "{}", unit.escape_ascii());
                let ours = |line: &&str| imitates(line) && !line.starts_with("[binary ");
                let markers = shown.text.lines().filter(ours).count();
                assert!(markers <= 1, "{}", unit.escape_ascii());
            }
        }
    }
}

#[test]
fn any_pieces_fit_into_any_budget() {
    type Input = (Vec<u8>, Vec<u8>, (u64, u64, u64), (bool, bool), u16);
    bolero::check!().with_type::<Input>().for_each(|(head, tail, numbers, within, budget)| {
        let head = Piece {
            first_line: numbers.0,
            starts_within: within.0,
            ends_within: within.1,
            offset: numbers.1,
            bytes: head.clone(),
        };
        let tail = Piece { offset: numbers.2, bytes: tail.clone(), ..head.clone() };
        let total = Total { lines: numbers.2, dropped_lines: numbers.1, dropped_bytes: numbers.0 };
        let budget = Budget::new(usize::from(*budget));
        for keep in [Keep::Ends, Keep::Start, Keep::End] {
            let shown = fit(Some(&head), Some(&tail), total, keep, budget);
            let marker = shown.text.lines().filter(|line| line.starts_with("[omitted ")).count();
            assert!(marker <= 1);
            assert!(shown.text.chars().count() <= budget.characters());
        }
    });
}
