//! Keeps what changes replace, by hash, so that changes can be undone and redone.
//!
//! ```text
//!     store/journal           records, one after the other: a length of four bytes and CBOR
//!     store/<sha-256 in hex>  the content of a file
//! ```
//!
//! A record is written before its change is made, with what the file will hold. If the process dies
//! in between, that change cannot be undone, and nothing is lost. When space runs out, the oldest
//! changes are forgotten before anything new is written. What a question has kept stays until its
//! change is recorded, or the question ends. The store belongs to the agent, and no path beneath a
//! root leads to it.

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

/// The largest file that is kept.
pub const LARGEST: u64 = 64 << 20;

/// The most bytes that are kept of one root.
pub const QUOTA: u64 = 512 << 20;

/// The most changes that are kept.
const CHANGES: usize = 10_000;

/// The most bytes of all records. They are held in memory too, where they take a few times as much.
const RECORDS: u64 = 16 << 20;

/// The state of a path at one time.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) enum Snapshot {
    /// Nothing was there.
    #[n(0)]
    Absent,
    /// A file.
    #[n(1)]
    File {
        /// SHA-256 of its content.
        #[n(0)]
        hash: Blob,
        /// Its size in bytes.
        #[n(1)]
        size: u64,
        /// Its permission bits.
        #[n(2)]
        mode: u32,
    },
    /// A directory.
    #[n(2)]
    Directory {
        /// Its permission bits, if they are known.
        #[n(0)]
        mode: Option<u32>,
    },
    /// Unknown: too large, no regular file, or part of a directory that was moved.
    #[n(3)]
    Unknown,
}

/// A change of one path.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct ChangeStep {
    /// The path, relative to the root.
    #[n(0)]
    pub(crate) path: Blob,
    /// The state before the change.
    #[n(1)]
    pub(crate) before: Snapshot,
    /// The state after the change.
    #[n(2)]
    pub(crate) after: Snapshot,
    /// The path that it was moved from, with everything beneath it.
    #[n(3)]
    pub(crate) moved_from: Option<Blob>,
}

/// One change.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct ChangeRecord {
    /// The number of the change.
    #[n(0)]
    pub(crate) change: u64,
    /// The verb that made it.
    #[n(1)]
    pub(crate) verb: String,
    /// Who made it.
    #[n(2)]
    pub(crate) who: String,
    /// The time of the change, in milliseconds since 1970.
    #[n(3)]
    pub(crate) time: u64,
    /// The paths that it changed.
    #[n(4)]
    pub(crate) steps: Vec<ChangeStep>,
    /// Whether it has been undone.
    #[n(5)]
    pub(crate) undone: bool,
    /// Set in a line of the journal that updates an earlier record: such a line counts only for
    /// this, `undone` and `order`.
    #[n(6)]
    pub(crate) unexpected: Option<Vec<Unexpected>>,
    /// When it was undone, if it is undone.
    #[n(7)]
    pub(crate) order: Option<UndoOrder>,
}

/// The position of an undo among all changes of a root.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub(crate) struct UndoOrder {
    /// The number of this undo, counted from 1.
    #[n(0)]
    pub(crate) undo: u64,
    /// The number that the next change would have had.
    #[n(1)]
    pub(crate) next: u64,
}

/// What stood at a path when its change was undone or redone, where something else had been
/// expected.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct Unexpected {
    /// The index of the step.
    #[n(0)]
    pub(crate) step: u32,
    /// The state that was found.
    #[n(1)]
    pub(crate) snapshot: Snapshot,
}

impl ChangeRecord {
    /// A line that only updates an earlier record.
    fn line(change: u64, undone: bool, unexpected: Option<Vec<Unexpected>>) -> Self {
        let (verb, who, steps, order) = Default::default();
        Self { change, verb, who, time: now(), steps, undone, unexpected, order }
    }

    /// The bytes of the old contents.
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
    let error = error.into();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let text = "the disk of the undo store is full";
            Failure::new(Kind::DiskFull, text).with_hint(
                "free some space there: the store is in the state directory of the agent",
            )
        }
        _ => Failure::new(Kind::Io, format!("the undo store: {error}")),
    }
}

impl Undo {
    /// Opens a store. A journal that breaks off or cannot be decoded counts up to there.
    pub fn open(store: OwnedFd, quota: u64) -> Result<Self, Failure> {
        let mut index = StoreIndex::new();
        index.journal = Journal::read(&store, |line, length| {
            index.read(line, length);
            // This bounds the memory while the journal is read.
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

    /// Adds the contents in the store to the index, and removes those that no change needs.
    fn load_objects(&self, index: &mut StoreIndex) -> Result<(), Failure> {
        for entry in rustix::fs::Dir::read_from(&self.store).map_err(store_failure)? {
            let entry = entry.map_err(store_failure)?;
            let name = entry.file_name();
            let remove = || {
                // If this fails, the next start finds it again.
                let _ = rustix::fs::unlinkat(&self.store, name, AtFlags::empty());
            };
            if name.to_bytes().ends_with(b".new") {
                // It was never complete.
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

    /// The most bytes that are kept. A file that is larger than this or [`LARGEST`] is not kept.
    pub(crate) fn quota(&self) -> u64 {
        self.quota
    }

    /// Opens the content with this hash.
    pub(crate) fn content(&self, hash: &[u8]) -> Result<File, Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = rustix::fs::openat(&self.store, name(hash), flags, Mode::empty());
        object.map(File::from).map_err(|_| {
            Failure::new(Kind::NothingToUndo, "the content before the change is no longer kept")
        })
    }

    /// Allows one undo or redo at a time.
    pub(crate) fn lock_reverts(&self) -> MutexGuard<'_, ()> {
        self.reverts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a change was undone or redone.
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

    /// Forgets a recorded change that was not made after all.
    pub(crate) fn void(&self, change: u64) {
        let mut index = self.index();
        let freed = index.forget(change);
        self.remove(&mut index, freed);
        // If this cannot be written, the record remains, and an undo refuses it because the file
        // differs.
        let _ = index.journal.append(&self.store, &ChangeRecord::line(change, false, None));
        self.compact(&mut index);
    }

    /// All changes, the latest first.
    pub(crate) fn records(&self) -> Vec<Arc<ChangeRecord>> {
        self.index().records.values().rev().map(|entry| entry.record.clone()).collect()
    }

    /// The change with this number.
    pub(crate) fn find_record(&self, change: u64) -> Option<Arc<ChangeRecord>> {
        self.index().records.get(&change).map(|entry| entry.record.clone())
    }

    /// Forgets the oldest changes until there is space for `more` bytes.
    fn make_room(&self, index: &mut StoreIndex, more: u64) {
        while index.bytes.saturating_add(more) > self.quota || index.is_crowded() {
            let Some(freed) = index.forget_oldest() else { return };
            self.remove(index, freed);
        }
    }

    /// Forgets the oldest changes until more than `bytes` bytes of what they kept are gone from the
    /// disk. Returns whether any are.
    fn free(&self, index: &mut StoreIndex, bytes: u64) -> bool {
        let before = index.bytes;
        while before - index.bytes <= bytes {
            let Some(freed) = index.forget_oldest() else { break };
            self.remove(index, freed);
        }
        index.bytes < before
    }

    /// Removes those of the contents that no change needs any more.
    fn remove(&self, index: &mut StoreIndex, freed: Vec<Hash>) {
        for hash in freed {
            if index.is_free(&hash) && index.drop_object(&hash) {
                // If this fails, the next start finds it again.
                let _ = rustix::fs::unlinkat(&self.store, name(&hash), AtFlags::empty());
            }
        }
    }

    /// Rewrites a long journal.
    fn compact(&self, index: &mut StoreIndex) {
        if !index.journal.is_long(index.live) {
            return;
        }
        let mut journal = std::mem::take(&mut index.journal);
        // Keeps the latest number in use, even if that change is forgotten.
        let latest = ChangeRecord::line(index.next.saturating_sub(1), false, None);
        let lines = Some(&latest).into_iter().chain(index.lines());
        // If this fails, the long journal remains, which says the same.
        let _ = journal.rewrite(&self.store, lines);
        index.journal = journal;
    }

    /// The age of a record, in milliseconds.
    pub(crate) fn age(record: &ChangeRecord) -> u64 {
        now().saturating_sub(record.time)
    }
}

#[cfg(test)]
mod tests;
