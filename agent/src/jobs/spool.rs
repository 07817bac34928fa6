//! The spool: every output byte of one job, by its offset in one log.
//!
//! The log holds the bytes in the order in which they were read, each with its stream. It begins in
//! memory; what is more than [`Limits::memory`] goes to a sparse file in which a byte stands at its
//! offset, and the newest bytes stay in memory besides, for readers that keep up. The oldest bytes
//! are dropped when there are too many, by punching holes, and are counted in bytes and in lines.
//! When the disk fails, the log goes on in memory.
//!
//! Reading never consumes: see `reader`. Head, tail, ranges and grep are in `view`.
//!
//! # Invariants
//!
//! - `start..end` can be read: below `file_end` from the file, from `memory_start` on from memory.
//! - Dropping moves `start` to an entry of the line index, so that lines stay countable.

mod reader;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use tokio::sync::{Notify, watch};

pub(crate) use reader::{Item, Mode, SpoolReader};
pub(crate) use view::Piece;

/// Which stream bytes came from, by its channel on the wire.
pub(crate) type Stream = u8;

/// How much of a log is kept, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Up to so many bytes there is no file.
    pub(crate) memory: usize,
    /// So many of the newest bytes stay in memory beside the file.
    pub(crate) window: usize,
    /// So many bytes are kept altogether.
    pub(crate) total: u64,
    /// So many are kept when there is no disk.
    pub(crate) fallback: usize,
    /// Bytes are written to the file in blocks of at least this size.
    pub(crate) block: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 10,
            window: 256 << 10,
            total: 256 << 20,
            fallback: 1 << 20,
            block: 128 << 10,
        }
    }
}

/// A line index entry is made after so many bytes.
const INDEX_STEP: u64 = 64 << 10;

/// So many changes between streams are kept: a program that alternates with every byte loses its
/// oldest output earlier, and cannot use up our memory instead.
const SWITCHES: usize = 65_536;

/// How much may be between a lossless reader's cursor and what its far end has received: it is kept
/// that much longer, for a reader that takes up where it was cut. Half of what is kept at most.
const IN_FLIGHT: u64 = 16 << 20;

/// The file gives space back in steps of this size at least.
const HOLE: u64 = 1 << 20;

/// Pieces up to this size are gathered, so that a byte does not cost an allocation.
const GATHER: usize = 4 << 10;

/// How many bytes and lines a log has had, and how many of them are gone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stats {
    /// The offset of the oldest byte that is kept.
    pub(crate) start: u64,
    /// The offset after the newest byte.
    pub(crate) end: u64,
    /// Lines, the last one counted even if its LF is missing.
    pub(crate) lines: u64,
    /// Lines that are gone.
    pub(crate) dropped_lines: u64,
    /// Bytes in memory.
    pub(crate) memory: usize,
    /// Why there is no disk.
    pub(crate) memory_only: Option<String>,
}

/// The log of one job. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    /// Wakes readers: the end of the log, and whether it is finished.
    grown: watch::Sender<(u64, bool)>,
    /// Wakes the writer: some lossless reader has moved.
    read: Notify,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    path: PathBuf,
    /// There is a file.
    filed: bool,
    /// The same, open: as long as it is written.
    file: Option<Arc<File>>,
    finished: bool,
    /// Everything below is in the file, as far as it is kept.
    file_end: u64,
    failed: Option<String>,
    start: u64,
    end: u64,
    memory: VecDeque<Bytes>,
    memory_start: u64,
    /// The last, small pieces, before they become a chunk of `memory`.
    gathered: Vec<u8>,
    /// Where each run of bytes of one stream begins.
    switches: VecDeque<(u64, Stream)>,
    newlines: u64,
    last_is_newline: bool,
    /// (offset, line feeds before it), the first entry at `start`.
    index: VecDeque<(u64, u64)>,
    /// Where lossless readers are.
    holds: BTreeMap<u64, u64>,
    next_hold: u64,
    /// Bytes of each channel before `end`.
    totals: [u64; 3],
    /// Bytes of each channel before `start`.
    gone: [u64; 3],
}

impl Spool {
    /// An empty log whose file, if it needs one, will be `path`.
    pub(crate) fn new(limits: Limits, path: PathBuf) -> Self {
        let inner = Inner {
            limits,
            path,
            filed: false,
            file: None,
            finished: false,
            file_end: 0,
            failed: None,
            start: 0,
            end: 0,
            memory: VecDeque::new(),
            memory_start: 0,
            gathered: Vec::new(),
            switches: VecDeque::new(),
            newlines: 0,
            last_is_newline: true,
            index: VecDeque::from([(0, 0)]),
            holds: BTreeMap::new(),
            next_hold: 0,
            totals: [0; 3],
            gone: [0; 3],
        };
        let shared = Shared {
            inner: Mutex::new(inner),
            grown: watch::Sender::new((0, false)),
            read: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().expect("nothing panics while it is held")
    }

    /// Adds bytes of a stream. Never waits for readers: see [`Spool::room`].
    pub(crate) fn append(&self, stream: Stream, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let end = {
            let mut inner = self.lock();
            inner.append(stream, bytes);
            inner.end
        };
        self.shared.grown.send_modify(|grown| grown.0 = end);
    }

    /// No more bytes will come.
    pub(crate) fn finish(&self) {
        self.lock().finish();
        self.shared.grown.send_modify(|grown| grown.1 = true);
    }

    /// Waits while a lossless reader has so much unread that more would cost it bytes. For one writer.
    pub(crate) async fn room(&self) {
        while !self.lock().has_room() {
            self.shared.read.notified().await;
        }
    }

    /// A reader from `from` on, or from the oldest byte that is kept.
    pub(crate) fn reader(&self, from: u64, mode: Mode) -> SpoolReader {
        SpoolReader::new(self.clone(), from, mode)
    }

    /// The offset in the log before which there are exactly so many bytes of channels 1 and 2, if
    /// there is one that is kept.
    pub(crate) fn offset_of(&self, first: u64, second: u64) -> Option<u64> {
        let inner = self.lock();
        let wanted = first.checked_add(second)?;
        if wanted < inner.start || wanted > inner.end {
            return None;
        }
        let mut count = inner.gone;
        let mut runs = inner.switches.iter().peekable();
        while let Some(&(begin, stream)) = runs.next() {
            let until = runs.peek().map_or(inner.end, |next| next.0).min(wanted);
            let begin = begin.max(inner.start);
            if let Some(slot) = count.get_mut(usize::from(stream)) {
                *slot += until.saturating_sub(begin);
            }
        }
        (count[1] == first && count[2] == second).then_some(wanted)
    }

    /// How much there is.
    pub(crate) fn stats(&self) -> Stats {
        self.lock().stats()
    }

    /// Moves what is in memory to the file, for jobs that ended long ago.
    pub(crate) fn release_memory(&self) {
        let mut inner = self.lock();
        inner.gather();
        inner.write_out(true);
        inner.shrink_memory(0);
        if inner.finished {
            inner.file = None;
        }
    }

    /// The line that is being written, cut, and how many whole lines there are.
    pub(crate) fn last_line(&self, limit: usize) -> (u64, Vec<u8>) {
        let lines = self.lock().newlines;
        (lines, view::last_line(self, limit))
    }
}

impl Inner {
    fn append(&mut self, stream: Stream, bytes: Bytes) {
        if self.switches.back().is_none_or(|last| last.1 != stream) {
            self.switches.push_back((self.end, stream));
        }
        if self.index.back().is_none_or(|last| self.end - last.0 >= INDEX_STEP) {
            self.index.push_back((self.end, self.newlines));
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let newlines = memchr::memchr_iter(b'\n', &bytes).count();
        self.newlines += u64::try_from(newlines).unwrap_or(0);
        self.last_is_newline = bytes.last() == Some(&b'\n');
        if let Some(total) = self.totals.get_mut(usize::from(stream)) {
            *total += length;
        }
        self.end += length;
        if bytes.len() <= GATHER {
            self.gathered.extend_from_slice(&bytes);
            if self.gathered.len() > GATHER {
                self.gather();
            }
        } else {
            self.gather();
            self.memory.push_back(bytes);
        }
        self.bound();
    }

    /// Takes no more room than it must from now on: nobody writes, and few will read.
    fn finish(&mut self) {
        self.finished = true;
        self.gather();
        if self.filed {
            self.write_out(false);
            self.shrink_memory(0);
            self.file = None;
        }
        if !self.memory.is_empty() {
            // Pieces may be small parts of large buffers.
            let length = self.memory.iter().map(Bytes::len).sum();
            let mut all = Vec::with_capacity(length);
            self.memory.iter().for_each(|piece| all.extend_from_slice(piece));
            self.memory = VecDeque::from([Bytes::from(all)]);
        }
        self.index.shrink_to_fit();
        self.switches.shrink_to_fit();
    }

    /// The file, to read from.
    fn open(&self) -> Option<Arc<File>> {
        match &self.file {
            Some(file) => Some(file.clone()),
            None if self.filed => File::open(&self.path).ok().map(Arc::new),
            None => None,
        }
    }

    fn gather(&mut self) {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            self.memory.push_back(Bytes::from(gathered));
        }
    }

    /// Brings the log back within its limits.
    fn bound(&mut self) {
        let in_memory = self.end - self.memory_start;
        if self.failed.is_none() {
            let unwritten = self.end - self.file_end.max(self.memory_start);
            let due = if self.filed { self.limits.block } else { self.limits.memory };
            if unwritten > due as u64 {
                self.gather();
                self.write_out(false);
            }
        }
        if self.failed.is_some() && in_memory > self.limits.fallback as u64 {
            self.gather();
            self.shrink_memory(self.limits.fallback);
            self.drop_until(self.memory_start.max(self.start));
        } else if self.filed && in_memory > (self.limits.window + self.limits.block) as u64 {
            self.shrink_memory(self.limits.window);
        }
        if self.end - self.start > self.limits.total + HOLE.min(self.limits.total) {
            self.drop_until(self.end - self.limits.total);
        }
        if self.switches.len() > SWITCHES {
            let until = self.switches.get(SWITCHES / 2).map_or(self.end, |switch| switch.0);
            self.drop_until(until);
        }
    }

    /// Writes what is in memory and not yet in the file.
    fn write_out(&mut self, force: bool) {
        if self.failed.is_some() || (!self.filed && !force && self.end == 0) {
            return;
        }
        if let Err(error) = self.try_write_out() {
            self.failed = Some(error.to_string());
        }
    }

    fn try_write_out(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(!self.filed)
                .mode(0o600)
                .open(&self.path)?;
            self.file = Some(Arc::new(file));
            self.filed = true;
        }
        let Some(file) = &self.file else { return Ok(()) };
        let mut at = self.memory_start;
        for chunk in &self.memory {
            let end = at + chunk.len() as u64;
            if end > self.file_end {
                let skip = usize::try_from(self.file_end.saturating_sub(at)).unwrap_or(usize::MAX);
                let rest = chunk.get(skip..).unwrap_or_default();
                file.write_all_at(rest, self.file_end.max(at))?;
                self.file_end = end;
            }
            at = end;
        }
        Ok(())
    }

    /// Forgets chunks until at most `keep` bytes are in memory, as far as the file has them or the
    /// disk has failed.
    fn shrink_memory(&mut self, keep: usize) {
        while let Some(chunk) = self.memory.front() {
            let end = self.memory_start + chunk.len() as u64;
            let written = end <= self.file_end || self.failed.is_some();
            if self.end - end < keep as u64 || !written {
                return;
            }
            self.memory_start = end;
            self.memory.pop_front();
        }
    }

    /// Drops the oldest bytes up to the first place at or after `until` where lines are counted.
    fn drop_until(&mut self, until: u64) {
        let place = self.index.iter().find(|entry| entry.0 >= until).copied();
        let (offset, _) = place.unwrap_or_else(|| {
            // Nothing is indexed there yet: everything before the end goes.
            let entry = (self.end, self.newlines);
            self.index.push_back(entry);
            entry
        });
        if offset <= self.start {
            return;
        }
        while self.index.front().is_some_and(|entry| entry.0 < offset) {
            self.index.pop_front();
        }
        self.forget_switches(offset);
        if let Some(file) = &self.file {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // A file system without holes keeps the space until the job is removed.
            let _ = rustix::fs::fallocate(&**file, hole, self.start, offset - self.start);
        }
        self.start = offset;
        while let Some(chunk) = self.memory.front()
            && self.memory_start + chunk.len() as u64 <= self.start
        {
            self.memory_start += chunk.len() as u64;
            self.memory.pop_front();
        }
    }

    fn forget_switches(&mut self, offset: u64) {
        while let Some(&(begin, stream)) = self.switches.front() {
            let until = self.switches.get(1).map_or(self.end, |next| next.0);
            let begin = begin.max(self.start);
            let gone = until.min(offset).saturating_sub(begin);
            if let Some(slot) = self.gone.get_mut(usize::from(stream)) {
                *slot += gone;
            }
            if until > offset || self.switches.len() == 1 {
                if let Some(first) = self.switches.front_mut() {
                    first.0 = first.0.max(offset.min(until));
                }
                return;
            }
            self.switches.pop_front();
        }
    }

    fn has_room(&self) -> bool {
        let unread = self.holds.values().map(|at| self.end - at.min(&self.end)).max();
        let limit =
            if self.failed.is_some() { self.limits.fallback as u64 } else { self.limits.total };
        unread.is_none_or(|unread| unread < limit - IN_FLIGHT.min(limit / 2))
    }

    fn stats(&self) -> Stats {
        Stats {
            start: self.start,
            end: self.end,
            lines: self.newlines + u64::from(!self.last_is_newline),
            dropped_lines: self.index.front().map_or(0, |entry| entry.1),
            memory: usize::try_from(self.end - self.memory_start).unwrap_or(usize::MAX),
            memory_only: self.failed.clone(),
        }
    }

    /// The stream of the byte at `offset`, and where its run ends.
    fn run_at(&self, offset: u64) -> (Stream, u64) {
        let after = self.switches.partition_point(|switch| switch.0 <= offset);
        let stream = after.checked_sub(1).and_then(|at| self.switches.get(at)).map_or(1, |s| s.1);
        (stream, self.switches.get(after).map_or(self.end, |next| next.0))
    }

    /// Bytes from memory at `offset`, if they are there.
    fn in_memory(&self, offset: u64, limit: usize) -> Option<Bytes> {
        let mut at = self.memory_start;
        if offset < at {
            return None;
        }
        // Readers that keep up are near the end.
        let gathered_start = self.end - self.gathered.len() as u64;
        if offset >= gathered_start {
            let skip = usize::try_from(offset - gathered_start).ok()?;
            let rest = self.gathered.get(skip..)?;
            return Some(Bytes::copy_from_slice(rest.get(..limit).unwrap_or(rest)));
        }
        for chunk in &self.memory {
            let end = at + chunk.len() as u64;
            if offset < end {
                let skip = usize::try_from(offset - at).ok()?;
                let until = chunk.len().min(skip.saturating_add(limit));
                return Some(chunk.slice(skip..until));
            }
            at = end;
        }
        None
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.filed {
            // A file that cannot be removed is found at the next start, which removes all.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
