//! Reads what the journal's files say about earlier processes.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use farwire_protocol::id::Nonce;
use rustix::io::Errno;

use super::past::Past;
use super::record::{self, HEAD, Hash, JournalHead, JournalRecord};

/// At most this many earlier processes are vouched for.
const INSTANCES: usize = 64;

/// How the file says `Ending::NotStarted`. The first agents wrote another text, even for programs
/// that had been started.
pub(super) const NOT_STARTED: &str = "nothing: it was never started";

/// A request of an earlier process.
#[derive(Clone, Debug)]
pub(super) struct PastRequest {
    pub(super) body: Hash,
    pub(super) end: Option<Box<str>>,
}

impl PastRequest {
    /// What became of it.
    pub(super) fn past(&self) -> Past {
        match self.end.as_deref() {
            Some(NOT_STARTED) => Past::NotStarted,
            Some(end) => Past::Ended(end.to_owned()),
            None => Past::Reserved,
        }
    }
}

/// What the files say about earlier processes.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) past: HashMap<Hash, PastRequest>,
    pub(super) order: Vec<Hash>,
    pub(super) vouched: Vec<Nonce>,
    pub(super) complete: bool,
}

/// One file, as it was read.
#[derive(Debug, Default)]
pub(super) struct JournalFile {
    head: Option<JournalHead>,
    /// The file is intact, as far as that matters.
    whole: bool,
    records: Vec<JournalRecord>,
    /// How many numbered records there are up to the length in its head.
    numbered: u64,
}

impl Replay {
    /// Reads the file put aside and the current one.
    ///
    /// # Errors
    ///
    /// If a file cannot be read now, but perhaps later.
    pub(super) fn read(path: &Path, boot: &str) -> io::Result<Self> {
        let read = |path: &Path| match std::fs::read(path) {
            Ok(bytes) => Ok(Some(JournalFile::of(&bytes, boot))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_for_want(&error) => Err(error),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the journal cannot be read");
                // If it cannot be put aside, it is replaced all the same: otherwise nothing could
                // run.
                let _ = std::fs::rename(path, path.with_extension("unread"));
                Ok(Some(JournalFile::default()))
            }
        };
        Ok(Self::of(read(&before(path))?, read(path)?))
    }

    /// Combines the file put aside and the current one.
    pub(super) fn of(old: Option<JournalFile>, current: Option<JournalFile>) -> Self {
        let mut found = Self::default();
        let whole = |read: &Option<JournalFile>| {
            read.as_ref().and_then(|read| read.whole.then_some(read.head.clone()?))
        };
        let (old_head, head) = (whole(&old), whole(&current));
        let numbered = old.as_ref().map_or(0, |old| old.numbered);
        if let Some(head) = head {
            let follows = old_head.as_ref().is_some_and(|old| {
                old.from == 0 && old.instance == head.instance && numbered == head.from
            });
            if head.from == 0 || follows {
                found.vouched.push(head.instance);
                found.complete = head.complete;
            }
        }
        let processes = |read: &Option<JournalFile>| -> Vec<Nonce> {
            let records = read.iter().filter(|read| read.whole).flat_map(|read| &read.records);
            let process = |record: &JournalRecord| match record {
                JournalRecord::Process(instance) => Some(*instance),
                _ => None,
            };
            records.filter_map(process).collect()
        };
        // The latest last, as in the file.
        let mut vouched = processes(&old);
        vouched.extend(processes(&current));
        vouched.append(&mut found.vouched);
        let mut seen = HashSet::new();
        vouched.retain(|instance| seen.insert(*instance));
        vouched.drain(..vouched.len().saturating_sub(INSTANCES));
        found.vouched = vouched;
        let records = old.into_iter().chain(current).flat_map(|read| read.records);
        records.for_each(|record| found.take(record));
        found
    }

    pub(super) fn take(&mut self, record: JournalRecord) {
        match record {
            JournalRecord::Process(_) => {}
            JournalRecord::Reserved { name, body } => {
                if self.past.insert(name, PastRequest { body, end: None }).is_none() {
                    self.order.push(name);
                }
            }
            JournalRecord::Ended { name, end } => {
                if let Some(entry) = self.past.get_mut(&name) {
                    entry.end = Some(end);
                }
            }
        }
    }

    /// Drops the older half if there are more requests than `most`. Then nothing is vouched for.
    pub(super) fn bound(&mut self, most: usize) {
        if self.order.len() <= most {
            return;
        }
        let dropped = self.order.len() - most / 2;
        for name in self.order.drain(..dropped) {
            self.past.remove(&name);
        }
        self.vouched.clear();
        self.complete = false;
    }
}

impl JournalFile {
    pub(super) fn of(bytes: &[u8], boot: &str) -> Self {
        let head = bytes.get(..HEAD).and_then(JournalHead::parse);
        let mut read = Self { head, ..Self::default() };
        let length = read.head.as_ref().map_or(0, |head| head.length);
        // Whether every record is in its place up to that length.
        let (mut next, mut at, mut whole) = (0, HEAD as u64, true);
        for line in bytes
            .get(HEAD.min(bytes.len())..)
            .unwrap_or_default()
            .split_inclusive(|&byte| byte == b'\n')
        {
            let record = JournalRecord::parse(line);
            whole &= at >= length || record.as_ref().is_some_and(|(number, _)| *number == next);
            at += line.len() as u64;
            next += 1;
            if at == length {
                read.numbered = next;
            }
            read.records.extend(record.map(|(_, record)| record));
        }
        let known = read.head.as_ref().is_some_and(|head| head.boot == boot && !boot.is_empty());
        let ends_there = read.numbered > 0 || length == HEAD as u64;
        read.whole = known && whole && ends_there && at >= length;
        if read.head.is_none() {
            // A file of the first format, which had no head; or one with a damaged head.
            read.records.extend(bytes.split(|&byte| byte == b'\n').filter_map(record::parse_first));
        }
        read
    }
}

/// Whether a file could not be read for lack of a resource that may be available later.
fn is_for_want(error: &io::Error) -> bool {
    let want = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN];
    Errno::from_io_error(error).is_some_and(|errno| want.contains(&errno))
}

/// The path of the previous file.
pub(super) fn before(path: &Path) -> PathBuf {
    path.with_extension("old")
}
