//! Reading a spool: each reader has its own cursor, and is woken when there is more.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::Spool;
use super::limits::Stream;
use super::log::SpoolLog;

/// What happens when a reader cannot keep up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// Nothing is dropped before it has read it: the program waits.
    Lossless,
    /// Bytes that are dropped before it has read them are reported as a gap.
    Lagging,
}

/// What a reader gets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Item {
    /// Bytes of one stream.
    Data(Stream, Bytes),
    /// Bytes were dropped before they were read: of streams 1 and 2, and line feeds. Those are
    /// counted from the last place of the line index when the reader is lossless.
    Gap { stdout: u64, stderr: u64, lines: u64 },
    /// Everything there is has been read. More may come, unless the log is finished.
    UpToDate { finished: bool },
}

/// One reader.
#[derive(Debug)]
pub(crate) struct SpoolReader {
    spool: Spool,
    at: u64,
    /// How much is before it: bytes of streams 1 and 2, and line feeds.
    passed: (u64, u64),
    lines: u64,
    mode: Mode,
    hold: Option<u64>,
    grown: watch::Receiver<(u64, bool)>,
}

impl SpoolReader {
    pub(super) fn new(spool: Spool, from: u64, mode: Mode) -> Self {
        let grown = spool.shared.grown.subscribe();
        let (at, passed, lines) = spool.log().steady(|log, marks| {
            let at = from.min(marks.end);
            if at < marks.start {
                // How much was before it is no longer known.
                return (at, (0, 0), 0);
            }
            let (_, lines) = log.entry_before(marks, |entry| entry.0 <= at);
            (at, log.counts_at(marks, at), lines)
        });
        let mut reader = Self { spool, at, passed, lines, mode, hold: None, grown };
        if mode == Mode::Lossless {
            let mut number = 0;
            reader.spool.hold(|holds| {
                number = holds.next;
                holds.next += 1;
                holds.all.insert(number, at);
            });
            reader.hold = Some(number);
        }
        reader
    }

    /// The same reader, with the known number of bytes of each stream before it.
    pub(crate) fn having(mut self, first: u64, second: u64) -> Self {
        self.passed = (first, second);
        self
    }

    /// Where it is in the log.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    /// How many line feeds are before it; exact for a reader that began at an entry of the line
    /// index.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The next bytes, at most `limit` of them. Never waits.
    pub(crate) fn next(&mut self, limit: usize) -> Item {
        loop {
            self.grown.mark_unchanged();
            let finished = self.grown.borrow().1;
            let log = self.spool.log();
            let marks = log.marks();
            if self.at < marks.start {
                let place = log.steady(|log, marks| {
                    (marks.start, marks.start_lines, log.counts_at(marks, marks.start))
                });
                return self.skip(place);
            }
            if self.at >= marks.end {
                return Item::UpToDate { finished };
            }
            let (stream, until) = log.run_at(&marks, self.at);
            let limit = limit.min(usize::try_from(until - self.at).unwrap_or(limit));
            let bytes = log.bytes(&marks, self.at, limit).or_else(|| {
                let filed = usize::try_from(marks.file.checked_sub(self.at)?).unwrap_or(limit);
                read(&*self.spool.file()?, self.at, limit.min(filed))
            });
            let now = log.marks();
            if now.start != marks.start {
                // Something was dropped meanwhile, perhaps these bytes or the entry of their
                // stream.
                continue;
            }
            match bytes.filter(|bytes| !bytes.is_empty()) {
                Some(bytes) => {
                    self.advance(stream, &bytes);
                    return Item::Data(stream, bytes);
                }
                // They have moved from the ring to the file since we looked.
                None if matches!(log, SpoolLog::Live(_))
                    && now.ring > self.at
                    && marks.ring <= self.at => {}
                None => {
                    // The file cannot be read: what is only there is reported as lost.
                    let place = log.steady(|log, marks| lost_until(log, marks, self.at));
                    return self.skip(place);
                }
            }
        }
    }

    /// Goes on at an offset for which the counts before it are known.
    fn skip(&mut self, (at, lines, passed): (u64, u64, (u64, u64))) -> Item {
        let gap = Item::Gap {
            stdout: passed.0.saturating_sub(self.passed.0),
            stderr: passed.1.saturating_sub(self.passed.1),
            lines: lines.saturating_sub(self.lines),
        };
        (self.at, self.lines, self.passed) = (at, lines, passed);
        self.update_hold();
        gap
    }

    fn advance(&mut self, stream: Stream, bytes: &[u8]) {
        let length = bytes.len() as u64;
        self.at += length;
        match stream {
            1 => self.passed.0 += length,
            _ => self.passed.1 += length,
        }
        if self.mode == Mode::Lagging {
            self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        }
        self.update_hold();
    }

    fn update_hold(&self) {
        if let Some(hold) = self.hold {
            self.spool.hold(|holds| {
                holds.all.insert(hold, self.at);
            });
        }
    }

    /// Goes to the end without reading, for a reader that only wants to know of more.
    pub(crate) fn catch_up(&mut self) {
        self.grown.mark_unchanged();
        self.at = self.spool.log().marks().end;
    }

    /// Waits until there may be more than when [`SpoolReader::next`] last looked.
    pub(crate) async fn wait(&mut self) {
        if let SpoolLog::Live(memory) = self.spool.log() {
            memory.listen();
            // There is no notice of what came before we listened.
            if memory.marks().end > self.at {
                return;
            }
        }
        // The sender lives as long as `self.spool`.
        let _ = self.grown.changed().await;
    }
}

impl Drop for SpoolReader {
    fn drop(&mut self) {
        if let Some(hold) = self.hold {
            self.spool.hold(|holds| {
                holds.all.remove(&hold);
            });
        }
    }
}

/// Where to go on when the bytes at `at` cannot be read.
fn lost_until(log: &SpoolLog, marks: &super::memory::Marks, at: u64) -> (u64, u64, (u64, u64)) {
    let wanted = marks.ring.max(at + 1);
    let mut slots = marks.first_entry..marks.next_entry;
    let entry = slots.find_map(|slot| Some(log.entry(slot)).filter(|entry| entry.0 >= wanted));
    let (at, lines) = entry.unwrap_or((marks.end, marks.lines));
    (at, lines, log.counts_at(marks, at))
}

/// Reads from the file.
fn read(file: &File, at: u64, limit: usize) -> Option<Bytes> {
    let mut buffer = BytesMut::zeroed(limit);
    let length = file.read_at(&mut buffer, at).ok()?;
    buffer.truncate(length);
    Some(buffer.freeze())
}
