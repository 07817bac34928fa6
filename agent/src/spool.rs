//! The spool: every output byte of one job, by its offset in one log.
//!
//! ```text
//!     program -> SpoolWriter -> Memory (and a file) -> Spool -> SpoolReader, head, tail, range, grep
//!                one, in the    shared between the     in the    as many as there are people
//!                holder         two processes          agent     who look
//! ```
//!
//! The log holds the bytes in the order in which they were read, each with its stream. It begins in
//! memory. Above [`SpoolLimits::memory`] it goes to a sparse file in which each byte stands at its
//! offset; the newest bytes also stay in memory, for readers that keep up. When there are too many
//! bytes, the oldest are dropped by punching holes, and are counted in bytes and in lines. If the
//! disk fails, the log goes on in memory.
//!
//! Reading never consumes: see `reader`. Head, tail, ranges and grep are in `view`; `search` waits
//! for a line.
//!
//! # Invariants
//!
//! - `start..end` can be read: from the ring on from memory, before that from the file.
//! - Dropping moves `start` to an entry of the line index, so that lines stay countable.

mod limits;
mod log;
mod memory;
mod plain;
mod reader;
mod search;
mod view;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;
use tokio::sync::watch;

pub(crate) use self::limits::SpoolLimits;
pub(crate) use self::log::FinishedLog;
use self::log::SpoolLog;
pub(crate) use self::memory::{Memory, TypistSlot};
pub(crate) use self::reader::{Item, Mode, SpoolReader};
pub(crate) use self::search::{LogSearch, SearchStep};
pub(crate) use self::view::SpoolPiece;
pub(crate) use self::writer::SpoolWriter;
use crate::os::errno;

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

/// The log of one job, to be read. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

/// Called when the writer waits for readers and one of them has moved.
type Unblock = Box<dyn Fn() + Send + Sync>;

struct Shared {
    log: Mutex<SpoolLog>,
    path: PathBuf,
    /// The file, open as long as it is being written.
    file: Mutex<Option<Arc<File>>>,
    holds: Mutex<Holds>,
    /// Wakes readers: the end of the log, and whether it is finished.
    grown: watch::Sender<(u64, bool)>,
    unblock: Unblock,
    /// It was discarded: nobody will read it any more.
    discarded: AtomicBool,
}

/// Where lossless readers are.
#[derive(Debug, Default)]
struct Holds {
    next: u64,
    all: BTreeMap<u64, u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

impl Spool {
    /// The log that is written to this memory, and to the file of this path. `unblock` is called
    /// when the writer waits for a reader that has moved.
    pub(crate) fn new(
        memory: Arc<Memory>,
        path: PathBuf,
        unblock: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            log: Mutex::new(SpoolLog::Live(memory)),
            path,
            file: Mutex::default(),
            holds: Mutex::default(),
            grown: watch::Sender::new((0, false)),
            unblock: Box::new(unblock),
            discarded: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    fn log(&self) -> SpoolLog {
        lock(&self.shared.log).clone()
    }

    /// Where the file is, if there is one.
    pub(crate) fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The memory, while it is written.
    pub(crate) fn memory(&self) -> Option<Arc<Memory>> {
        match self.log() {
            SpoolLog::Live(memory) => Some(memory),
            SpoolLog::Kept(_) => None,
        }
    }

    /// Counts standard input that has been passed on, where the next agent finds it.
    pub(crate) fn add_input(&self, bytes: u64) {
        if let Some(memory) = self.memory() {
            memory.add_input(bytes);
        }
    }

    /// Wakes readers: there may be more to read.
    pub(crate) fn poke(&self) {
        let end = self.log().marks().end;
        self.shared.grown.send_if_modified(|grown| std::mem::replace(&mut grown.0, end) != end);
    }

    /// Finishes the log: no more bytes will come, and its memory shrinks to what is needed.
    pub(crate) fn finish(&self) {
        let end = {
            let mut log = lock(&self.shared.log);
            *log = log.finish();
            log.marks().end
        };
        *lock(&self.shared.file) = None;
        self.shared.grown.send_replace((end, true));
    }

    /// A reader from `from` on, or from the oldest byte that is kept.
    pub(crate) fn reader(&self, from: u64, mode: Mode) -> SpoolReader {
        SpoolReader::new(self.clone(), from, mode)
    }

    /// The offset in the log before which there are exactly `first` bytes of stream 1 and `second`
    /// of stream 2, if it is kept.
    pub(crate) fn offset_of(&self, first: u64, second: u64) -> Option<u64> {
        let wanted = first.checked_add(second)?;
        self.log().steady(|log, marks| {
            let kept = (marks.start..=marks.end).contains(&wanted);
            (kept && log.counts_at(marks, wanted) == (first, second)).then_some(wanted)
        })
    }

    /// A finished log of which only the end is left: `bytes` from offset `start` on, with `lines`
    /// line feeds before that.
    pub(crate) fn from_tail(
        start: u64,
        lines: u64,
        bytes: Vec<u8>,
        path: PathBuf,
    ) -> std::io::Result<Self> {
        // A file of the process that wrote the log: its content is unknown.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let log = SpoolLog::from_tail(start, lines, bytes.into()).released(&path)?;
        Ok(Self::from_finished(log, path))
    }

    /// A finished log from its record. `path` is where its file is, if it has one. Returns `None`
    /// for an invalid record.
    pub(crate) fn from_written(written: FinishedLog, path: PathBuf) -> Option<Self> {
        Some(Self::from_finished(written.log(&path)?, path))
    }

    /// The record of the log, once it is finished. Bytes in its file stay there.
    pub(crate) fn write_down(&self) -> Option<FinishedLog> {
        self.log().write_down()
    }

    /// Discards the log: its file is removed with its last reader.
    pub(crate) fn discard(&self) {
        self.shared.discarded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_discarded(&self) -> bool {
        self.shared.discarded.load(Ordering::Relaxed)
    }

    fn from_finished(log: SpoolLog, path: PathBuf) -> Self {
        let shared = Shared {
            grown: watch::Sender::new((log.marks().end, true)),
            log: Mutex::new(log),
            path,
            file: Mutex::default(),
            holds: Mutex::default(),
            unblock: Box::new(|| {}),
            discarded: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The last place at or before `offset` at which lines are counted.
    pub(crate) fn indexed_before(&self, offset: u64) -> u64 {
        let indexed = |log: &SpoolLog, marks: &memory::Marks| {
            log.entry_before(marks, |entry| entry.0 <= offset).0.max(marks.start)
        };
        self.log().steady(indexed)
    }

    /// The offset after the newest byte.
    pub(crate) fn end(&self) -> u64 {
        self.log().marks().end
    }

    /// Its size, and how much of it is gone.
    pub(crate) fn stats(&self) -> Stats {
        let log = self.log();
        let marks = log.marks();
        let failed = i32::try_from(marks.failed).ok().filter(|&number| number != 0);
        Stats {
            start: marks.start,
            end: marks.end,
            lines: marks.lines + u64::from(marks.end > 0 && marks.whole == 0),
            dropped_lines: marks.start_lines,
            memory: log.memory(),
            memory_only: failed.map(|number| errno::words(Errno::from_raw_os_error(number))),
        }
    }

    /// Moves what a finished log has in memory to the file, for jobs that ended long ago.
    pub(crate) fn release_memory(&self) {
        let mut log = lock(&self.shared.log);
        if let SpoolLog::Kept(_) = *log {
            // Without a disk it stays where it is.
            if let Ok(released) = log.released(&self.shared.path) {
                *log = released;
            }
        }
    }

    /// The line that is being written, cut, and how many whole lines there are.
    pub(crate) fn last_line(&self, limit: usize) -> (u64, Vec<u8>) {
        (self.log().marks().lines, view::last_line(self, limit))
    }

    /// The file, to read from.
    fn file(&self) -> Option<Arc<File>> {
        let mut file = lock(&self.shared.file);
        if let Some(file) = &*file {
            return Some(file.clone());
        }
        let opened = Arc::new(File::open(&self.shared.path).ok()?);
        if matches!(*lock(&self.shared.log), SpoolLog::Live(_)) {
            *file = Some(opened.clone());
        }
        Some(opened)
    }

    /// Publishes where lossless readers are, after one of them has moved, come or gone.
    fn hold(&self, change: impl FnOnce(&mut Holds)) {
        let mut holds = lock(&self.shared.holds);
        change(&mut holds);
        let lowest = holds.all.values().min().copied();
        let SpoolLog::Live(memory) = self.log() else { return };
        if memory.set_hold(lowest) {
            (self.shared.unblock)();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The log outlives us for the next agent, unless it was discarded. A file that cannot be
        // removed is found at the next start.
        if *self.discarded.get_mut() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
