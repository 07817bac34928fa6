//! Looking forward through a log for a line that matches.

use regex::bytes::Regex;

use super::plain::plain;
use super::reader::{Item, SpoolReader};
use super::view::LINE;
use super::{Mode, Spool};

/// How much is searched in one step. An untrusted regular expression may be slow.
const STEP: usize = 256 << 10;

/// How much of a line longer than [`LINE`] is searched again, together with what follows.
const AGAIN: usize = 4 << 10;

/// Searches each line once. The last one, which may become longer, is searched again whenever there
/// is more of it.
#[derive(Debug)]
pub(crate) struct LogSearch {
    pattern: Regex,
    log: SpoolReader,
    /// The last line, or its end; whether its beginning was cut off; and whether it has yet to be
    /// searched.
    line: Vec<u8>,
    cut: bool,
    grown: bool,
}

/// The result of one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SearchStep {
    /// A line matches.
    Matched,
    /// There is more to search.
    More,
    /// Nothing matches so far.
    UpToDate,
}

impl LogSearch {
    /// A search from an offset on, which begins a line.
    pub(crate) fn new(spool: &Spool, pattern: Regex, from: u64) -> Self {
        let log = spool.reader(from, Mode::Lagging);
        Self { pattern, log, line: Vec::new(), cut: false, grown: false }
    }

    /// Searches some of what has come. It may read a file, and takes as long as the regular
    /// expression takes: call it where blocking is allowed.
    pub(crate) fn step(&mut self) -> SearchStep {
        let mut left = STEP;
        while left > 0 {
            match self.log.next(left) {
                Item::Data(_, bytes) => {
                    left = left.saturating_sub(bytes.len());
                    if self.matches(&bytes) {
                        return SearchStep::Matched;
                    }
                }
                Item::Gap { .. } => self.begin(),
                Item::UpToDate { .. } => {
                    let matched = std::mem::take(&mut self.grown) && self.is_match();
                    return if matched { SearchStep::Matched } else { SearchStep::UpToDate };
                }
            }
        }
        SearchStep::More
    }

    /// Whether the line matches that these bytes end, or that is too long to be kept.
    fn matches(&mut self, bytes: &[u8]) -> bool {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part.strip_suffix(b"\n").unwrap_or(part));
            self.grown = true;
            let ends = part.ends_with(b"\n");
            if ends || self.line.len() > LINE {
                if self.is_match() {
                    return true;
                }
                if ends { self.begin() } else { self.shorten() }
            }
        }
        false
    }

    fn is_match(&self) -> bool {
        // If its beginning was cut off, the rest does not begin a line.
        let from = usize::from(self.cut);
        self.pattern.is_match_at(&plain(&self.line, from), from)
    }

    fn begin(&mut self) {
        self.line.clear();
        (self.cut, self.grown) = (false, false);
    }

    fn shorten(&mut self) {
        let before = self.line.len().saturating_sub(AGAIN);
        self.line.drain(..before);
        (self.cut, self.grown) = (true, false);
    }
}
