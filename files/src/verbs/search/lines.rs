//! The matching lines of one file, and where its text ends.

use std::cell::Cell;
use std::io::{self, Read};

use farwire_protocol::cbor::Blob;
use farwire_protocol::streams::files::Match;
use grep_matcher::Matcher as _;
use grep_searcher::{Searcher, Sink, SinkContext, SinkMatch};

use super::{ActiveSearch, GROUP, OVERHEAD};
use crate::path::Rel;

/// How much of a long line is shown.
const LINE: usize = 1_000;

/// Lines longer than this come with the position of the match. Shorter ones are shown completely.
const SHORT: usize = 100;

/// A file up to its end, or up to the first NUL.
pub(super) struct SearchText<'a, R> {
    file: R,
    /// The position of the first NUL.
    nul: &'a Cell<Option<u64>>,
    /// Whether to read beyond it.
    whole: bool,
    read: u64,
}

impl<'a, R> SearchText<'a, R> {
    pub(super) fn new(file: R, nul: &'a Cell<Option<u64>>, whole: bool) -> Self {
        Self { file, nul, whole, read: 0 }
    }
}

impl<R: Read> Read for SearchText<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.nul.get().is_some() && !self.whole {
            return Ok(0);
        }
        let length = self.file.read(buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if self.nul.get().is_none()
            && let Some(at) = memchr::memchr(0, bytes)
        {
            self.nul.set(Some(self.read + at as u64));
            if !self.whole {
                return Ok(at);
            }
        }
        self.read += length as u64;
        Ok(length)
    }
}

/// Collects the lines to show of one file.
pub(super) struct FoundLines<'a> {
    pub(super) asked: &'a ActiveSearch<'a>,
    pub(super) path: &'a Rel,
    pub(super) nul: &'a Cell<Option<u64>>,
    /// How many more matches may be found.
    pub(super) left: &'a mut u64,
    pub(super) lines: Vec<Match>,
    pub(super) bytes: usize,
    /// Whether anything of this file was collected.
    pub(super) any: bool,
    pub(super) told: &'a mut dyn FnMut(Vec<Match>, usize),
}

impl FoundLines<'_> {
    fn add(&mut self, line: u64, bytes: &[u8], beside: bool) {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let at = match bytes.len() > SHORT && !beside {
            true => self.asked.matcher.find(bytes).ok().flatten().map(|found| found.start()),
            false => None,
        };
        let start = start(bytes, at.unwrap_or(0));
        let text = bytes.get(start..bytes.len().min(start + LINE)).unwrap_or(bytes);
        let behind = start + text.len() < bytes.len();
        self.push(Match {
            line,
            text: Blob(text.to_vec()),
            beside: beside.then_some(true),
            at: at.and_then(|at| u32::try_from(at - start).ok()).filter(|at| *at > 0),
            cut_before: (start > 0).then_some(true),
            cut_after: behind.then_some(true),
            ..Match::default()
        });
    }

    /// Adds a note that the file contains a NUL. It counts as a match if one is at the NUL or after
    /// it.
    pub(super) fn binary(&mut self, matches: bool) {
        let beside = (!matches).then_some(true);
        self.push(Match { binary: Some(true), beside, ..Match::default() });
    }

    fn push(&mut self, found: Match) {
        self.any = true;
        self.bytes += found.text.len() + self.path.as_bytes().len() + OVERHEAD;
        self.lines.push(Match { path: Blob(self.path.as_bytes().to_vec()), ..found });
        if self.bytes >= GROUP {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if !self.lines.is_empty() {
            (self.told)(std::mem::take(&mut self.lines), bytes);
        }
    }
}

/// The start of the part of a line to show: the match, with some text before it.
fn start(line: &[u8], at: usize) -> usize {
    if line.len() <= LINE {
        return 0;
    }
    let start = at.saturating_sub(LINE / 4).min(line.len() - LINE);
    // Not in the middle of a character.
    let within = |at: &usize| line.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (start..start + 4).find(|at| !within(at)).filter(|start| *start <= at).unwrap_or(start)
}

impl Sink for FoundLines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        if self.asked.is_enough() || *self.left == 0 {
            return Ok(false);
        }
        *self.left -= 1;
        let end = found.absolute_byte_offset() + found.bytes().len() as u64;
        let cut = end == self.nul.get().unwrap_or(u64::MAX) && !found.bytes().ends_with(b"\n");
        if cut || self.nul.get().is_some_and(|nul| end > nul) {
            self.binary(true);
            return Ok(false);
        }
        if self.asked.names {
            self.add(0, b"", false);
            return Ok(false);
        }
        self.add(found.line_number().unwrap_or(0), found.bytes(), false);
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> Result<bool, io::Error> {
        let end = context.absolute_byte_offset() + context.bytes().len() as u64;
        let text = self.nul.get().is_none_or(|nul| end <= nul && context.bytes().ends_with(b"\n"));
        if !self.asked.names && text {
            self.add(context.line_number().unwrap_or(0), context.bytes(), true);
        }
        Ok(true)
    }
}
