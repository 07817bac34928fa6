//! Looking forward through a log for a line that matches.

use regex::bytes::Regex;

use super::reader::{Item, SpoolReader};
use super::view::LINE;
use super::{Mode, Spool};

/// How much is looked at in one step. A regular expression of a stranger may take long over it.
const STEP: usize = 256 << 10;

/// Of a line that is longer than [`LINE`] so much of what has been looked at is looked at again,
/// with what follows.
const AGAIN: usize = 4 << 10;

/// Looks at each line once, as far as there are any. The last one, which may become longer, is
/// looked at again whenever there is more of it.
#[derive(Debug)]
pub(crate) struct LogSearch {
    pattern: Regex,
    log: SpoolReader,
    /// The last line, or the end of it, whether that is all that there is of it, and whether it was
    /// not looked at yet.
    line: Vec<u8>,
    cut: bool,
    grown: bool,
}

/// What one step has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SearchStep {
    /// A line matches.
    Matched,
    /// There is more to look at.
    More,
    /// Nothing that is there matches.
    UpToDate,
}

impl LogSearch {
    /// A search from an offset on, which begins a line.
    pub(crate) fn new(spool: &Spool, pattern: Regex, from: u64) -> Self {
        let log = spool.reader(from, Mode::Lagging);
        Self { pattern, log, line: Vec::new(), cut: false, grown: false }
    }

    /// Looks at some of what has come. May read a file, and take as long as the regular expression
    /// takes: call it where blocking is allowed.
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

    /// Whether a line matches that ends in these bytes, or is too long to be kept.
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
        // Where its beginning is gone, what is there begins no line.
        self.pattern.is_match_at(&self.line, usize::from(self.cut))
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
