//! Reading a spool: a cursor of one's own, woken when there is more.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::{Spool, Stream};

/// How a reader treats what it cannot keep up with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// What it has not read is held: the program waits.
    Lossless,
    /// What is dropped before it has read it is reported as a gap.
    Lagging,
}

/// What a reader gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Item {
    /// Bytes of one stream.
    Data(Stream, Bytes),
    /// Bytes were dropped before they were read: of channels 1 and 2, and lines.
    Gap { stdout: u64, stderr: u64, lines: u64 },
    /// Everything there is has been read. More may come, unless the log is finished.
    UpToDate { finished: bool },
}

/// One reader.
#[derive(Debug)]
pub(crate) struct SpoolReader {
    spool: Spool,
    at: u64,
    /// What had been dropped when this reader last looked.
    gone: ([u64; 3], u64),
    hold: Option<u64>,
    grown: watch::Receiver<(u64, bool)>,
}

impl SpoolReader {
    pub(super) fn new(spool: Spool, from: u64, mode: Mode) -> Self {
        let grown = spool.shared.grown.subscribe();
        let mut inner = spool.lock();
        let at = from.min(inner.end);
        let hold = (mode == Mode::Lossless).then(|| {
            let hold = inner.next_hold;
            inner.next_hold += 1;
            inner.holds.insert(hold, at);
            hold
        });
        let lines = inner.index.front().map_or(0, |entry| entry.1);
        // What was dropped before `from` is no gap for this reader.
        let gone = if at >= inner.start { (inner.gone, lines) } else { ([0; 3], 0) };
        drop(inner);
        Self { spool, at, gone, hold, grown }
    }

    /// Where it is in the log.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    /// The next bytes, at most `limit` of them. Never waits.
    pub(crate) fn next(&mut self, limit: usize) -> Item {
        loop {
            self.grown.mark_unchanged();
            let inner = self.spool.lock();
            if self.at < inner.start {
                let before = self.gone;
                self.gone = (inner.gone, inner.index.front().map_or(0, |entry| entry.1));
                self.at = inner.start;
                let lost = |channel: usize| self.gone.0[channel] - before.0[channel];
                return Item::Gap {
                    stdout: lost(1),
                    stderr: lost(2),
                    lines: self.gone.1 - before.1,
                };
            }
            if self.at >= inner.end {
                let finished = self.grown.borrow().1;
                return Item::UpToDate { finished };
            }
            let (stream, until) = inner.run_at(self.at);
            let limit = limit.min(usize::try_from(until - self.at).unwrap_or(limit));
            let found = inner.in_memory(self.at, limit);
            let file = if found.is_none() { inner.open() } else { None };
            let file_limit =
                usize::try_from(inner.file_end.saturating_sub(self.at)).unwrap_or(limit);
            drop(inner);
            let bytes = found.or_else(|| read(&*file?, self.at, limit.min(file_limit)));
            let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
                // The file cannot be read: what was only there is lost, and said to be.
                self.lose_file();
                continue;
            };
            // A hole may have been punched while we read.
            if self.at < self.spool.lock().start {
                continue;
            }
            self.advance(bytes.len() as u64);
            return Item::Data(stream, bytes);
        }
    }

    fn lose_file(&self) {
        let mut inner = self.spool.lock();
        let until = inner.memory_start;
        inner.drop_until(until.max(self.at + 1));
    }

    fn advance(&mut self, by: u64) {
        self.at += by;
        if let Some(hold) = self.hold {
            self.spool.lock().holds.insert(hold, self.at);
            self.spool.shared.read.notify_one();
        }
    }

    /// Goes to the end without reading, for a reader that only wants to know of more.
    pub(crate) fn catch_up(&mut self) {
        self.grown.mark_unchanged();
        self.at = self.spool.lock().end;
    }

    /// Waits until there may be more than when [`SpoolReader::next`] last looked.
    pub(crate) async fn wait(&mut self) {
        // The sender lives as long as `self.spool`.
        let _ = self.grown.changed().await;
    }
}

impl Drop for SpoolReader {
    fn drop(&mut self) {
        if let Some(hold) = self.hold {
            self.spool.lock().holds.remove(&hold);
            self.spool.shared.read.notify_one();
        }
    }
}

/// Reads from the file without holding the lock.
fn read(file: &File, at: u64, limit: usize) -> Option<Bytes> {
    let mut buffer = BytesMut::zeroed(limit);
    let length = file.read_at(&mut buffer, at).ok()?;
    buffer.truncate(length);
    Some(buffer.freeze())
}
