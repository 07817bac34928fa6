//! The contents of a log, while it is written and afterwards.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use farwire_protocol::cbor::Blob;
use minicbor::{Decode, Encode};

use super::limits::{INDEX_STEP, Stream, pack};
use super::memory::{ENTRIES, MARKS, Marks, Memory, SWITCHES};

/// A log as readers find it.
#[derive(Clone, Debug)]
pub(super) enum SpoolLog {
    /// It is being written.
    Live(Arc<Memory>),
    /// It is finished, and takes no more memory than needed.
    Kept(Arc<Kept>),
}

/// A finished log.
#[derive(Debug)]
pub(super) struct Kept {
    marks: Marks,
    switches: Box<[(u64, u64)]>,
    entries: Box<[(u64, u64)]>,
    /// From [`Marks::ring`] on.
    bytes: Bytes,
}

/// The record of a finished log, with those bytes that are in no file.
#[derive(Debug, Decode, Encode)]
#[cbor(map)]
pub(crate) struct FinishedLog {
    #[n(0)]
    marks: Vec<u64>,
    /// Pairs of numbers of eight bytes each, in little-endian order.
    #[n(1)]
    switches: Blob,
    #[n(2)]
    entries: Blob,
    #[n(3)]
    bytes: Blob,
}

impl FinishedLog {
    /// The log, if all of it is consistent. `path` is where its file is.
    pub(super) fn log(self, path: &Path) -> Option<SpoolLog> {
        let numbers: [u64; MARKS] = self.marks.try_into().ok()?;
        let marks = Marks::from_numbers(numbers);
        let (switches, entries) = (pairs(&self.switches)?, pairs(&self.entries)?);
        let counted = |first: u64, next: u64, pairs: &[(u64, u64)]| {
            next.checked_sub(first) == Some(pairs.len() as u64)
        };
        let fits = marks.start <= marks.ring
            && marks.ring.checked_add(self.bytes.len() as u64) == Some(marks.end)
            && marks.start_lines <= marks.lines
            && marks.whole <= 1
            && counted(marks.first_switch, marks.next_switch, &switches)
            && counted(marks.first_entry, marks.next_entry, &entries);
        if !fits || entries.is_empty() {
            return None;
        }
        let filed = || std::fs::metadata(path).is_ok_and(|file| file.len() >= marks.ring);
        if marks.start < marks.ring && !filed() {
            // The file is gone: all of it counts as dropped.
            return Some(SpoolLog::from_tail(marks.end, marks.lines, Bytes::new()));
        }
        let (switches, entries) = (switches.into(), entries.into());
        Some(SpoolLog::Kept(Arc::new(Kept {
            marks,
            switches,
            entries,
            bytes: self.bytes.0.into(),
        })))
    }
}

fn pairs(bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let (pairs, rest) = bytes.as_chunks::<16>();
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
    let pair = |pair: &[u8; 16]| Some((number(&pair[..8])?, number(&pair[8..])?));
    rest.is_empty().then(|| pairs.iter().map(pair).collect()).flatten()
}

fn blob(pairs: &[(u64, u64)]) -> Blob {
    Blob(
        pairs
            .iter()
            .flat_map(|pair| [pair.0.to_le_bytes(), pair.1.to_le_bytes()])
            .flatten()
            .collect(),
    )
}

impl SpoolLog {
    /// Its record, once it is finished.
    pub(super) fn write_down(&self) -> Option<FinishedLog> {
        let Self::Kept(kept) = self else { return None };
        Some(FinishedLog {
            marks: kept.marks.numbers().to_vec(),
            switches: blob(&kept.switches),
            entries: blob(&kept.entries),
            bytes: Blob(kept.bytes.to_vec()),
        })
    }

    pub(super) fn marks(&self) -> Marks {
        match self {
            Self::Live(memory) => memory.marks(),
            Self::Kept(kept) => kept.marks,
        }
    }

    fn switch(&self, slot: u64) -> (u64, u64) {
        match self {
            Self::Live(memory) => memory.switch(slot),
            Self::Kept(kept) => place(&kept.switches, slot, kept.marks.first_switch),
        }
    }

    pub(super) fn entry(&self, slot: u64) -> (u64, u64) {
        match self {
            Self::Live(memory) => memory.entry(slot),
            Self::Kept(kept) => place(&kept.entries, slot, kept.marks.first_entry),
        }
    }

    /// Repeats `look` until nothing was dropped meanwhile.
    pub(super) fn steady<T>(&self, look: impl Fn(&Self, &Marks) -> T) -> T {
        loop {
            let marks = self.marks();
            let found = look(self, &marks);
            if matches!(self, Self::Kept(_)) || self.marks().start == marks.start {
                return found;
            }
        }
    }

    /// The last entry of the line index for which `before` holds; it holds for those before, too.
    pub(super) fn entry_before(
        &self,
        marks: &Marks,
        before: impl Fn(&(u64, u64)) -> bool,
    ) -> (u64, u64) {
        let after = search(marks.first_entry, marks.next_entry, |slot| before(&self.entry(slot)));
        self.entry(after.saturating_sub(1).max(marks.first_entry))
    }

    /// The run of bytes of one stream that contains `offset`: its slot, offset and stream.
    fn run(&self, marks: &Marks, offset: u64) -> Option<(u64, u64, Stream, u64)> {
        let (first, next) = (marks.first_switch, marks.next_switch);
        let after = search(first, next, |slot| self.switch(slot).0 >> 2 <= offset);
        let slot = after.checked_sub(1).filter(|&slot| slot >= first)?;
        let (packed, count) = self.switch(slot);
        let stream = Stream::try_from(packed & 3).unwrap_or_default();
        Some((slot, packed >> 2, stream, count))
    }

    /// The stream of the byte at `offset`, and where its run ends.
    pub(super) fn run_at(&self, marks: &Marks, offset: u64) -> (Stream, u64) {
        let Some((slot, _, stream, _)) = self.run(marks, offset) else { return (1, marks.end) };
        let next = slot + 1;
        let until = if next < marks.next_switch { self.switch(next).0 >> 2 } else { marks.end };
        (stream, until.clamp(offset + 1, marks.end.max(offset + 1)))
    }

    /// How many bytes of streams 1 and 2 are before `offset`.
    pub(super) fn counts_at(&self, marks: &Marks, offset: u64) -> (u64, u64) {
        let Some((_, begin, stream, count)) = self.run(marks, offset) else { return (0, 0) };
        let first = if stream == 1 { count + (offset - begin) } else { count };
        (first, offset.saturating_sub(first))
    }

    /// Bytes from memory at `offset`, if they are there.
    pub(super) fn bytes(&self, marks: &Marks, offset: u64, limit: usize) -> Option<Bytes> {
        let left = usize::try_from(marks.end.checked_sub(offset)?).unwrap_or(usize::MAX);
        if offset < marks.ring {
            return None;
        }
        match self {
            Self::Live(memory) => {
                let mut out = BytesMut::zeroed(limit.min(left));
                memory.copy(offset, &mut out);
                (memory.marks().ring <= offset).then(|| out.freeze())
            }
            Self::Kept(kept) => {
                let at = usize::try_from(offset - marks.ring).ok()?;
                let until = kept.bytes.len().min(at.saturating_add(limit));
                (at < until).then(|| kept.bytes.slice(at..until))
            }
        }
    }

    /// How many bytes are in memory.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Live(memory) => {
                let marks = memory.marks();
                usize::try_from(marks.end - marks.ring).unwrap_or(usize::MAX)
            }
            Self::Kept(kept) => kept.bytes.len(),
        }
    }

    /// A finished log of one stream, of which only the end is left.
    pub(super) fn from_tail(start: u64, start_lines: u64, bytes: Bytes) -> Self {
        let mut entries = vec![(start, start_lines)];
        let (mut at, mut lines) = (start, start_lines);
        let step = usize::try_from(INDEX_STEP).unwrap_or(usize::MAX);
        for piece in bytes.chunks(step) {
            at += piece.len() as u64;
            lines += memchr::memchr_iter(b'\n', piece).count() as u64;
            entries.push((at, lines));
        }
        let marks = Marks {
            start,
            start_lines,
            end: at,
            lines,
            ring: start,
            file: start,
            next_switch: 1,
            next_entry: entries.len() as u64,
            whole: u64::from(bytes.last().is_none_or(|&byte| byte == b'\n')),
            ..Marks::default()
        };
        let switches = Box::new([(pack(0, 1), 0)]);
        Self::Kept(Arc::new(Kept { marks, switches, entries: entries.into(), bytes }))
    }

    /// The finished log.
    pub(super) fn finish(&self) -> Self {
        let mut marks = self.marks();
        if marks.filed == 1 && marks.failed == 0 {
            marks.ring = marks.end;
        }
        let left = usize::try_from(marks.end - marks.ring).unwrap_or(0);
        let bytes = self.bytes(&marks, marks.ring, left).unwrap_or_default();
        self.keep(marks, bytes)
    }

    /// The same with its bytes in a file instead of memory.
    pub(super) fn released(&self, path: &Path) -> io::Result<Self> {
        let mut marks = self.marks();
        let left = usize::try_from(marks.end - marks.ring).unwrap_or(0);
        let bytes = self.bytes(&marks, marks.ring, left).unwrap_or_default();
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.write_all_at(&bytes, marks.ring)?;
        (marks.ring, marks.file, marks.filed) = (marks.end, marks.end, 1);
        Ok(self.keep(marks, Bytes::new()))
    }

    fn keep(&self, marks: Marks, bytes: Bytes) -> Self {
        // Never more than there is room for, whatever the marks say.
        let switches = marks.next_switch.min(marks.first_switch.saturating_add(SWITCHES));
        let entries = marks.next_entry.min(marks.first_entry.saturating_add(ENTRIES));
        let switches = (marks.first_switch..switches).map(|slot| self.switch(slot)).collect();
        let entries = (marks.first_entry..entries).map(|slot| self.entry(slot)).collect();
        Self::Kept(Arc::new(Kept { marks, switches, entries, bytes }))
    }
}

fn place(pairs: &[(u64, u64)], slot: u64, first: u64) -> (u64, u64) {
    let at = slot.checked_sub(first).and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| pairs.get(at)).copied().unwrap_or_default()
}

/// The first of the slots for which `before` does not hold; it holds for none after that.
fn search(first: u64, next: u64, before: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (first, next);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
