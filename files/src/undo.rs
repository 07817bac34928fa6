//! What was there before a change: kept by its hash, so that the change can be undone and done again.
//!
//! ```text
//!     store/journal           records, one after the other: a length of four bytes and CBOR
//!     store/<sha-256 in hex>  what a file held
//! ```
//!
//! A record is written before its change is made, with what the file will hold: if the process dies in
//! between, the change is one that cannot be undone any more, and nothing is lost. When there is no room for
//! more, the oldest changes are forgotten, before anything is written. What a question has kept stays until it
//! is written down, or the question ends. The store is the agent's, and no path beneath a root leads to it.

mod index;
mod journal;
mod keeping;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use minicbor::{Decode, Encode};
use rustix::fs::{AtFlags, Mode, OFlags};

use self::index::{Hash, StoreIndex};
use self::journal::Journal;
pub(crate) use self::keeping::Keeping;

/// No larger file is kept.
pub const LARGEST: u64 = 64 << 20;

/// So many bytes are kept of one root.
pub const QUOTA: u64 = 512 << 20;

/// So many changes are kept.
const CHANGES: usize = 10_000;

/// The records of all of them have so many bytes. They are held in memory, and take a few times as much there.
const RECORDS: u64 = 16 << 20;

/// How something was at one time.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) enum Snapshot {
    /// Not there.
    #[n(0)]
    Absent,
    /// A file.
    #[n(1)]
    File {
        /// SHA-256 of what it held.
        #[n(0)]
        hash: Blob,
        /// How many bytes that were.
        #[n(1)]
        size: u64,
        /// Its rights.
        #[n(2)]
        mode: u32,
    },
    /// A directory.
    #[n(2)]
    Directory {
        /// Its rights, if they are known.
        #[n(0)]
        mode: Option<u32>,
    },
    /// Something that was not looked at: it is too large, or no file, or came with a directory that was moved.
    #[n(3)]
    Unknown,
}

/// What became of one path.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct ChangeStep {
    /// The path, from the root.
    #[n(0)]
    pub(crate) path: Blob,
    /// How it was.
    #[n(1)]
    pub(crate) before: Snapshot,
    /// How it is then.
    #[n(2)]
    pub(crate) after: Snapshot,
    /// It was moved here from this path, with all that is in it.
    #[n(3)]
    pub(crate) moved_from: Option<Blob>,
}

/// One change.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct ChangeRecord {
    /// Its number.
    #[n(0)]
    pub(crate) change: u64,
    /// What was done.
    #[n(1)]
    pub(crate) verb: String,
    /// By whom.
    #[n(2)]
    pub(crate) who: String,
    /// When, in milliseconds since 1970.
    #[n(3)]
    pub(crate) time: u64,
    /// To what.
    #[n(4)]
    pub(crate) steps: Vec<ChangeStep>,
    /// It has been undone.
    #[n(5)]
    pub(crate) undone: bool,
    /// In a line of the journal about a record that came before: only this is new, besides whether it is undone.
    #[n(6)]
    pub(crate) unexpected: Option<Vec<Unexpected>>,
    /// When it was undone, if it is.
    #[n(7)]
    pub(crate) order: Option<UndoOrder>,
}

/// When a change was undone, among all that happened to a root.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct UndoOrder {
    /// So many changes had been undone until then, with this one.
    #[n(0)]
    pub(crate) undo: u64,
    /// The number that the next change was going to have.
    #[n(1)]
    pub(crate) next: u64,
}

/// What stood in a place when it was undone or done again, where that was not what had been expected.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct Unexpected {
    /// Which step.
    #[n(0)]
    pub(crate) step: u32,
    /// How it was.
    #[n(1)]
    pub(crate) snapshot: Snapshot,
}

impl ChangeRecord {
    /// A line that says no more than that.
    fn line(change: u64, undone: bool, unexpected: Option<Vec<Unexpected>>) -> Self {
        let (verb, who, steps, order) = Default::default();
        Self { change, verb, who, time: now(), steps, undone, unexpected, order }
    }

    /// So many bytes were there before.
    pub(crate) fn kept_bytes(&self) -> u64 {
        let before = self.steps.iter().map(|step| match step.before {
            Snapshot::File { size, .. } => size,
            Snapshot::Absent | Snapshot::Directory { .. } | Snapshot::Unknown => 0,
        });
        before.sum()
    }
}

/// The store of one root.
#[derive(Debug)]
pub struct Undo {
    store: OwnedFd,
    quota: u64,
    index: Mutex<StoreIndex>,
    reverts: Mutex<()>,
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn name(hash: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(hash)
}

fn store_failure(error: impl Into<io::Error>) -> Failure {
    Failure::new(Kind::Io, format!("the store of what was changed: {}", error.into()))
}

impl Undo {
    /// Opens a store. A journal that breaks off, or makes no sense from somewhere on, counts up to there.
    pub fn open(store: OwnedFd, quota: u64) -> Result<Self, Failure> {
        let mut index = StoreIndex::new();
        index.journal = Journal::read(&store, |line, length| {
            index.read(line, length);
            // Not even while it is read is more of it in memory.
            while index.is_crowded() {
                index.forget_oldest();
            }
        })?;
        let undo = Self { store, quota, index: Mutex::default(), reverts: Mutex::default() };
        undo.load_objects(&mut index)?;
        undo.make_room(&mut index, 0);
        undo.compact(&mut index);
        *undo.index() = index;
        Ok(undo)
    }

    /// Looks at what is in the store, and removes what nothing needs.
    fn load_objects(&self, index: &mut StoreIndex) -> Result<(), Failure> {
        for entry in rustix::fs::Dir::read_from(&self.store).map_err(store_failure)? {
            let entry = entry.map_err(store_failure)?;
            let name = entry.file_name();
            let remove = || {
                // What cannot be removed is found again at the next start.
                let _ = rustix::fs::unlinkat(&self.store, name, AtFlags::empty());
            };
            if name.to_bytes().ends_with(b".new") {
                // It was never whole.
                remove();
            }
            let hash = data_encoding::HEXLOWER.decode(name.to_bytes()).ok();
            let Some(hash) = hash.and_then(|hash| Hash::try_from(hash).ok()) else { continue };
            if index.is_free(&hash) {
                remove();
                continue;
            }
            let stat = rustix::fs::statat(&self.store, name, AtFlags::SYMLINK_NOFOLLOW);
            if let Ok(stat) = stat {
                index.add_object(hash, u64::try_from(stat.st_size).unwrap_or(0));
            }
        }
        Ok(())
    }

    fn index(&self) -> MutexGuard<'_, StoreIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to keep what a question will change.
    pub(crate) fn begin(&self) -> Keeping<'_> {
        Keeping::new(self)
    }

    /// So many bytes are kept at most, and no larger file than that or [`LARGEST`].
    pub(crate) fn quota(&self) -> u64 {
        self.quota
    }

    /// What was kept under a hash.
    pub(crate) fn content(&self, hash: &[u8]) -> Result<File, Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = rustix::fs::openat(&self.store, name(hash), flags, Mode::empty());
        object.map(File::from).map_err(|_| {
            Failure::new(Kind::NothingToUndo, "what was there before is no longer kept")
        })
    }

    /// One change is undone at a time.
    pub(crate) fn lock_reverts(&self) -> MutexGuard<'_, ()> {
        self.reverts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that a change was undone, or done again.
    fn record_revert(
        &self,
        change: u64,
        undone: bool,
        unexpected: Vec<Unexpected>,
    ) -> Result<(), Failure> {
        let mut index = self.index();
        if !index.records.contains_key(&change) {
            return Ok(());
        }
        let order = undone.then(|| UndoOrder { undo: index.undo_count + 1, next: index.next });
        let line = ChangeRecord { order, ..ChangeRecord::line(change, undone, Some(unexpected)) };
        index.journal.append(&self.store, &line)?;
        let freed = index.revert(&line);
        self.remove(&mut index, freed);
        self.compact(&mut index);
        Ok(())
    }

    /// A change that was written down was not made after all.
    pub(crate) fn void(&self, change: u64) {
        let mut index = self.index();
        let freed = index.forget(change);
        self.remove(&mut index, freed);
        // If this is not written, the change is one that does not fit what is there.
        let _ = index.journal.append(&self.store, &ChangeRecord::line(change, false, None));
        self.compact(&mut index);
    }

    /// The changes, the latest first.
    pub(crate) fn records(&self) -> Vec<Arc<ChangeRecord>> {
        self.index().records.values().rev().map(|entry| entry.record.clone()).collect()
    }

    /// One of them.
    pub(crate) fn find_record(&self, change: u64) -> Option<Arc<ChangeRecord>> {
        self.index().records.get(&change).map(|entry| entry.record.clone())
    }

    /// Forgets the oldest changes until there is room for so many bytes more.
    fn make_room(&self, index: &mut StoreIndex, more: u64) {
        while index.bytes.saturating_add(more) > self.quota || index.is_crowded() {
            let Some(freed) = index.forget_oldest() else { return };
            self.remove(index, freed);
        }
    }

    /// Removes those of these contents that nothing needs any more.
    fn remove(&self, index: &mut StoreIndex, freed: Vec<Hash>) {
        for hash in freed {
            if index.is_free(&hash) && index.drop_object(&hash) {
                // What cannot be removed is found again at the next start.
                let _ = rustix::fs::unlinkat(&self.store, name(&hash), AtFlags::empty());
            }
        }
    }

    /// Writes a long journal anew.
    fn compact(&self, index: &mut StoreIndex) {
        if !index.journal.is_long(index.live) {
            return;
        }
        let mut journal = std::mem::take(&mut index.journal);
        // The number of the latest change is not given again, even if that one is forgotten.
        let latest = ChangeRecord::line(index.next.saturating_sub(1), false, None);
        let lines = Some(&latest).into_iter().chain(index.lines());
        // The long one says the same.
        let _ = journal.rewrite(&self.store, lines);
        index.journal = journal;
    }

    /// How old a record is, in milliseconds.
    pub(crate) fn age(record: &ChangeRecord) -> u64 {
        now().saturating_sub(record.time)
    }
}

#[cfg(test)]
mod tests;
