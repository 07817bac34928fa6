//! Writing a log: the process that reads the program's output has the only writer of its log.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FallocateFlags;

use super::limits::{HOLE, IN_FLIGHT, INDEX_STEP, SpoolLimits, Stream, pack};
use super::memory::{ENTRIES, Marks, Memory, RING, SWITCHES};

/// The writer of a log.
#[derive(Debug)]
pub(crate) struct SpoolWriter {
    memory: Arc<Memory>,
    limits: SpoolLimits,
    /// The path of the file, once one is needed.
    path: PathBuf,
    file: Option<File>,
    marks: Marks,
    /// How many of the bytes belong to stream 1.
    first: u64,
    /// The stream of the last byte.
    stream: Option<Stream>,
}

impl SpoolWriter {
    /// The writer of an empty log.
    pub(crate) fn new(memory: Arc<Memory>, limits: SpoolLimits, path: PathBuf) -> Self {
        let mut marks = Marks { whole: 1, ..Marks::default() };
        memory.set_entry(0, (0, 0));
        marks.next_entry = 1;
        memory.publish(&marks);
        Self { memory, limits, path, file: None, marks, first: 0, stream: None }
    }

    /// Changes how much is kept.
    pub(crate) fn keep(&mut self, kept: Option<u64>) {
        self.limits = self.limits.with_total(kept);
    }

    /// The offset after the newest byte.
    pub(crate) fn end(&self) -> u64 {
        self.marks.end
    }

    /// Adds up to `limit` bytes of a stream, which `fill` puts into the buffer. Returns what `fill`
    /// returned: how many there were. Never waits for readers: see [`Self::has_room`].
    pub(crate) fn append(
        &mut self,
        stream: Stream,
        limit: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let limit = self.make_room(limit);
        let slot = self.memory.slot(self.marks.end, limit);
        let count = fill(slot)?;
        let Some(bytes) = slot.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(0);
        };
        let newlines = memchr::memchr_iter(b'\n', bytes).count() as u64;
        let whole = u64::from(bytes.last() == Some(&b'\n'));
        if self.stream != Some(stream) {
            let switch = (pack(self.marks.end, stream), self.first);
            self.memory.set_switch(self.marks.next_switch, switch);
            self.marks.next_switch += 1;
            self.stream = Some(stream);
        }
        let last = self.memory.entry(self.marks.next_entry.wrapping_sub(1));
        if self.marks.end - last.0 >= INDEX_STEP {
            self.index_end();
        }
        self.marks.lines += newlines;
        self.marks.whole = whole;
        self.marks.end += count as u64;
        if stream == 1 {
            self.first += count as u64;
        }
        self.bound();
        self.memory.publish(&self.marks);
        Ok(count)
    }

    /// Whether more can be added without dropping bytes that a lossless reader has not read. If
    /// not, the reading side will report when it has moved.
    pub(crate) fn has_room(&self) -> bool {
        let room = || {
            let unread = self.memory.hold().map(|hold| self.marks.end.saturating_sub(hold));
            let limit =
                if self.marks.failed > 0 { self.limits.fallback } else { self.limits.total };
            let most = self.limits.ahead.min(limit - IN_FLIGHT.min(limit / 2));
            unread.is_none_or(|unread| unread < most)
        };
        room() || {
            self.memory.block();
            room()
        }
    }

    /// No more bytes will come.
    pub(crate) fn finish(&mut self) {
        if self.marks.filed == 1 {
            self.write_out();
        }
        self.file = None;
        self.memory.publish(&self.marks);
    }

    /// Makes room at the end for at most `limit` bytes. Returns for how many.
    fn make_room(&mut self, limit: usize) -> usize {
        let limit = limit.min(RING as usize / 8);
        let ring = (self.marks.end + limit as u64).saturating_sub(RING);
        if ring > self.marks.ring {
            if self.marks.failed == 0 && ring > self.marks.file {
                self.write_out();
            }
            if self.marks.failed > 0 && ring > self.marks.start {
                self.drop_until(ring);
            }
            self.marks.ring = self.marks.ring.max(ring);
            self.memory.publish(&self.marks);
        }
        limit
    }

    fn index_end(&mut self) {
        self.memory.set_entry(self.marks.next_entry, (self.marks.end, self.marks.lines));
        self.marks.next_entry += 1;
    }

    /// Brings the log back within its limits.
    fn bound(&mut self) {
        let marks = self.marks;
        if marks.failed == 0 {
            let due = if marks.filed == 1 { self.limits.block } else { self.limits.memory };
            if marks.end - marks.file > due {
                self.write_out();
            }
        }
        let Marks { start, end, .. } = self.marks;
        if self.marks.failed > 0 && end - start > self.limits.fallback {
            self.drop_until(end - self.limits.fallback);
        } else if self.marks.filed == 1 {
            let window = end.saturating_sub(self.limits.window).min(self.marks.file);
            self.marks.ring = self.marks.ring.max(window);
        }
        if end - start > self.limits.total + HOLE.min(self.limits.total) {
            self.drop_until(end - self.limits.total);
        }
        if self.marks.next_switch - self.marks.first_switch >= SWITCHES {
            let middle = self.marks.first_switch + SWITCHES / 2;
            self.drop_until(self.memory.switch(middle).0 >> 2);
        }
        if self.marks.next_entry - self.marks.first_entry >= ENTRIES - 1 {
            let middle = self.marks.first_entry + ENTRIES / 2;
            self.drop_until(self.memory.entry(middle).0);
        }
    }

    /// Writes what is only in the ring to the file.
    fn write_out(&mut self) {
        if self.marks.failed > 0 {
            return;
        }
        if let Err(error) = self.try_write_out() {
            // EIO stands for whatever has no number.
            let number = error.raw_os_error().unwrap_or(libc::EIO);
            self.marks.failed = u64::from(number.unsigned_abs().max(1));
        }
    }

    fn try_write_out(&mut self) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let options = options.write(true).create_new(true).mode(0o600);
                self.file.insert(options.open(&self.path)?)
            }
        };
        self.marks.filed = 1;
        while self.marks.file < self.marks.end {
            let left = usize::try_from(self.marks.end - self.marks.file).unwrap_or(usize::MAX);
            let bytes = self.memory.slot(self.marks.file, left);
            file.write_all_at(bytes, self.marks.file)?;
            self.marks.file += bytes.len() as u64;
        }
        Ok(())
    }

    /// Drops the oldest bytes up to the first entry of the line index at or after `until`.
    fn drop_until(&mut self, until: u64) {
        let (mut low, mut high) = (self.marks.first_entry, self.marks.next_entry);
        while low < high {
            let middle = low.midpoint(high);
            if self.memory.entry(middle).0 < until { low = middle + 1 } else { high = middle }
        }
        if low == self.marks.next_entry {
            // Nothing is indexed there yet: drop everything before the end.
            self.index_end();
        }
        let (offset, lines) = self.memory.entry(low);
        if offset <= self.marks.start {
            return;
        }
        let before = self.marks.start;
        self.marks.first_entry = low;
        self.marks.start = offset;
        self.marks.start_lines = lines;
        self.marks.ring = self.marks.ring.max(offset);
        self.marks.file = self.marks.file.max(offset);
        while self.marks.first_switch + 1 < self.marks.next_switch
            && self.memory.switch(self.marks.first_switch + 1).0 >> 2 <= offset
        {
            self.marks.first_switch += 1;
        }
        if let Some(file) = &self.file {
            // Readers must know first: one that reads a hole finds out when it checks again.
            self.memory.publish(&self.marks);
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // A file system without holes keeps the space until the job is removed.
            let _ = rustix::fs::fallocate(file, hole, before, offset - before);
        }
    }
}
