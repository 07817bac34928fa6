//! Searches the output of a terminal for regular expressions, however it is split into chunks.
//!
//! Colours and other escape sequences are ignored, so that a pattern matches what a person sees.
//! The end of a match is given as an offset in the log.

use farwire_protocol::failure::{Failure, Kind};
use regex::bytes::{Regex, RegexBuilder};

/// Bytes of memory that an expression may take.
const SIZE: usize = 1 << 20;

/// At most this many expressions are looked for at once.
pub const MOST: usize = 32;

/// How many bytes are kept for searching: a longer match is not found.
const KEPT: usize = 1 << 20;

/// This much of the searched text is searched again: a match may have been incomplete.
const AGAIN: usize = 4096;

/// The expressions, and the output so far.
#[derive(Debug)]
pub struct OutputSearch {
    patterns: Vec<Regex>,
    /// The output without escape sequences.
    plain: Vec<u8>,
    /// The offset in the log of each of its bytes.
    offsets: Vec<u64>,
    /// Raw bytes at the end that may be the beginning of a sequence.
    pending: Vec<u8>,
    /// The offset after the last raw byte.
    end: u64,
    looked: usize,
}

/// Which matched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Match {
    /// Which expression, counted from 0.
    pub index: usize,
    /// The text that matched.
    pub text: Vec<u8>,
    /// The offset in the log of its first byte.
    pub from: u64,
    /// The offset in the log after its last byte.
    pub to: u64,
}

impl OutputSearch {
    /// Searches for these expressions, from an offset on.
    pub fn new<T: AsRef<str>>(patterns: &[T], from: u64) -> Result<Self, Failure> {
        if patterns.is_empty() || patterns.len() > MOST {
            let text = format!("give between 1 and {MOST} patterns");
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        let patterns =
            patterns.iter().map(|text| expression(text.as_ref())).collect::<Result<_, _>>()?;
        let (plain, offsets, pending) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { patterns, plain, offsets, pending, end: from, looked: 0 })
    }

    /// Adds the next bytes, which begin at this offset, and returns a match if there is one: the
    /// first in the text, and of several that begin together, that of the first expression.
    pub fn feed(&mut self, bytes: &[u8], offset: u64) -> Option<Match> {
        if offset != self.end {
            // Some bytes in between are no longer kept.
            self.pending.clear();
        }
        let start = offset - self.pending.len() as u64;
        let mut raw = std::mem::take(&mut self.pending);
        raw.extend_from_slice(bytes);
        self.end = start + raw.len() as u64;
        let left = strip(&raw, |at, byte| {
            self.plain.push(byte);
            self.offsets.push(start + at as u64);
        });
        self.pending = raw.split_off(left);
        let found = self.look();
        self.trim();
        found
    }

    fn look(&mut self) -> Option<Match> {
        let from = self.looked.saturating_sub(AGAIN);
        self.looked = self.plain.len();
        let found = (0..).zip(&self.patterns).filter_map(|(index, pattern)| {
            // An empty match counts only if there is any text.
            let found = pattern.find_at(&self.plain, from)?;
            let last = found.end().checked_sub(1)?;
            Some(Match {
                index,
                text: found.as_bytes().to_vec(),
                from: *self.offsets.get(found.start().min(last))?,
                to: *self.offsets.get(last)? + 1,
            })
        });
        found.min_by_key(|found| (found.from, found.index))
    }

    fn trim(&mut self) {
        if self.plain.len() > KEPT {
            let gone = self.plain.len() - KEPT / 2;
            self.plain.drain(..gone);
            self.offsets.drain(..gone);
            self.looked = self.plain.len();
        }
    }
}

/// Compiles an untrusted expression: matching is linear in time and bounded in memory. Lines end
/// with LF or CR LF.
pub fn expression(text: &str) -> Result<Regex, Failure> {
    let mut builder = RegexBuilder::new(text);
    builder.size_limit(SIZE).dfa_size_limit(SIZE).multi_line(true).crlf(true);
    builder.build().map_err(|error| {
        let text = error.to_string();
        let first = text.lines().last().unwrap_or_default().trim().trim_end_matches('.');
        Failure::new(Kind::InvalidArgument, format!("the regular expression is not valid: {first}"))
    })
}

/// Returns the bytes outside of escape sequences, and where the last sequence begins if it has not
/// ended.
fn strip(bytes: &[u8], mut keep: impl FnMut(usize, u8)) -> usize {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != 0x1b {
            keep(at, byte);
            at += 1;
            continue;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        match sequence(rest) {
            Some(length) => at += length,
            None if rest.len() > LONGEST => at += 1,
            None => return at,
        }
    }
    at
}

/// Anything longer is not a sequence.
const LONGEST: usize = 4096;

/// Whether the bytes, which begin with ESC, are the beginning of a sequence.
pub fn is_unfinished(bytes: &[u8]) -> bool {
    bytes.len() <= LONGEST && sequence(bytes).is_none()
}

/// The length of the sequence that begins here, if it has ended.
fn sequence(bytes: &[u8]) -> Option<usize> {
    let body = bytes.get(2..).unwrap_or_default();
    let position =
        |is_end: fn(u8) -> bool| body.iter().position(|&byte| is_end(byte)).map(|at| at + 3);
    match bytes.get(1)? {
        b'[' => position(|byte| !(0x20..=0x3f).contains(&byte)),
        b']' | b'P' | b'X' | b'^' | b'_' => {
            let at = body.iter().position(|&byte| matches!(byte, 0x07 | 0x1b | b'\n'))?;
            match body.get(at) {
                Some(0x1b) => match body.get(at + 1) {
                    Some(b'\\') => Some(at + 4),
                    Some(_) => Some(at + 2),
                    None => None,
                },
                Some(b'\n') => Some(at + 2),
                _ => Some(at + 3),
            }
        }
        0x20..=0x2f => position(|byte| !(0x20..=0x2f).contains(&byte)),
        _ => Some(2),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_match_is_found_across_pieces_lines_and_colours() {
        let log = b"one \x1b[32mRE\x1b[0mADY now\r\n$ \x1b]0;t\x07more";
        for cut in 0..log.len() {
            let mut search = OutputSearch::new(&["never", "READY n", r"^\$ $"], 100).unwrap();
            let (first, second) = log.split_at(cut);
            let found = search.feed(first, 100).or_else(|| search.feed(second, 100 + cut as u64));
            let found = found.unwrap_or_else(|| panic!("cut at {cut}"));
            assert_eq!((found.index, found.text.as_slice()), (1, b"READY n".as_slice()));
            let [from, to] = [found.from, found.to].map(|at| usize::try_from(at - 100).unwrap());
            assert_eq!(&log[from..to], b"RE\x1b[0mADY n");
        }
    }

    #[test]
    fn a_prompt_at_the_end_and_lines_with_carriage_returns_are_lines() {
        let mut search = OutputSearch::new(&["^done$"], 0).unwrap();
        assert_eq!(search.feed(b"not done\r\n", 0), None);
        assert_eq!(search.feed(b"done\r\n", 10).map(|found| found.to), Some(14));
        let mut search = OutputSearch::new(&[r"\$ $"], 0).unwrap();
        assert_eq!(search.feed(b"user$ \x1b[6n", 0).map(|found| found.to), Some(6));
        assert!(
            OutputSearch::new::<&str>(&[], 0).is_err() && OutputSearch::new(&["("], 0).is_err()
        );
        assert!(OutputSearch::new(&["a"; MOST + 1], 0).is_err());
    }

    #[test]
    fn a_flood_is_looked_at_in_bounded_memory() {
        let mut search = OutputSearch::new(&["needle"], 0).unwrap();
        let hay = vec![b'x'; 300_000];
        let mut at = 0;
        for _ in 0..20 {
            assert_eq!(search.feed(&hay, at), None);
            at += hay.len() as u64;
        }
        assert!(search.plain.len() <= KEPT + hay.len());
        assert_eq!(search.feed(b" needle", at).map(|found| found.from), Some(at + 1));
    }

    proptest! {
        #[test]
        fn where_it_is_cut_changes_nothing(bytes: Vec<u8>, cut: prop::sample::Index) {
            let whole = {
                let mut plain = Vec::new();
                strip(&bytes, |_, byte| plain.push(byte));
                plain
            };
            let mut search = OutputSearch::new(&["\u{1}\u{2}\u{3}never"], 0).unwrap();
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            search.feed(first, 0);
            search.feed(second, first.len() as u64);
            prop_assert_eq!(search.plain, whole);
        }
    }
}
