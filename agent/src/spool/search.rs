//! Looking forward through a log for a line that matches.

use regex::bytes::Regex;

use super::reader::{Item, SpoolReader};
use super::view::Line;
use super::{Mode, Spool};

/// How much is looked at in one step. A regular expression of a stranger may take long over it.
const STEP: usize = 256 << 10;

/// Looks at each line once, as far as there are any. The last one, which may become longer, is looked at again whenever
/// there is more of it.
#[derive(Debug)]
pub(crate) struct Search {
    pattern: Regex,
    log: SpoolReader,
    /// The last line, and whether there is more of it than was looked at.
    line: Line,
    grown: bool,
}

/// What one step has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// A line matches.
    Matched,
    /// There is more to look at.
    More,
    /// Nothing that is there matches.
    UpToDate,
}

impl Search {
    /// A search from an offset on, which begins a line.
    pub(crate) fn new(spool: &Spool, pattern: Regex, from: u64) -> Self {
        Self {
            pattern,
            log: spool.reader(from, Mode::Lagging),
            line: Line::default(),
            grown: false,
        }
    }

    /// Looks at some of what has come. May read a file, and take as long as the regular expression takes: call it where
    /// blocking is allowed.
    pub(crate) fn step(&mut self) -> Step {
        let mut left = STEP;
        while left > 0 {
            match self.log.next(left) {
                Item::Data(_, bytes) => {
                    left = left.saturating_sub(bytes.len());
                    if self.matches(&bytes) {
                        return Step::Matched;
                    }
                }
                Item::Gap { .. } => self.line.clear(),
                Item::UpToDate { .. } => {
                    let begun = self.line.started && std::mem::take(&mut self.grown);
                    let matched = begun && self.pattern.is_match(&self.line.bytes);
                    return if matched { Step::Matched } else { Step::UpToDate };
                }
            }
        }
        Step::More
    }

    /// Whether a line ends in these bytes that matches.
    fn matches(&mut self, bytes: &[u8]) -> bool {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend(0, part.strip_suffix(b"\n").unwrap_or(part));
            self.grown = true;
            if part.ends_with(b"\n") {
                if self.pattern.is_match(&self.line.bytes) {
                    return true;
                }
                self.line.clear();
            }
        }
        false
    }
}
