//! The index of a store in memory: the changes, and how often each content is needed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use farwire_protocol::cbor::{self, Blob};

use super::journal::Journal;
use super::{CHANGES, ChangeRecord, RECORDS, Snapshot, Unexpected};

/// SHA-256 of a content.
pub(super) type Hash = [u8; 32];

/// The changes of a store, and the contents that they need.
#[derive(Debug, Default)]
pub(super) struct StoreIndex {
    pub(super) records: BTreeMap<u64, StoredRecord>,
    /// The number of the next change.
    pub(super) next: u64,
    /// How many undos are known to have been made.
    pub(super) undo_count: u64,
    /// The contents in the store, with their sizes.
    objects: HashMap<Hash, u64>,
    /// The bytes of all contents, including those being written.
    pub(super) bytes: u64,
    /// The bytes of the contents that are pinned by questions in progress.
    pub(super) pinned: u64,
    /// The length of all records together.
    pub(super) live: u64,
    pub(super) journal: Journal,
    /// How many times records name each content, whether it is in the store or not.
    uses: HashMap<Hash, u32>,
    /// How many questions in progress pin each content.
    pins: HashMap<Hash, u32>,
}

/// A change, with the length of its record.
#[derive(Debug)]
pub(super) struct StoredRecord {
    pub(super) record: Arc<ChangeRecord>,
    length: u64,
}

impl StoreIndex {
    /// The index of an empty store.
    pub(super) fn new() -> Self {
        Self { next: 1, ..Self::default() }
    }

    /// Applies a line of the journal.
    pub(super) fn read(&mut self, line: ChangeRecord, length: u64) {
        self.next = self.next.max(line.change.saturating_add(1));
        if line.unexpected.is_some() {
            self.revert(&line);
        } else if line.steps.is_empty() {
            // A record without steps voids the change.
            self.forget(line.change);
        } else {
            self.insert(line, length);
        }
    }

    /// Adds a change, or replaces its record.
    pub(super) fn insert(&mut self, record: ChangeRecord, length: u64) {
        self.forget(record.change);
        let undo = record.order.map_or(0, |order| order.undo);
        self.undo_count = self.undo_count.max(undo);
        for hash in record.hashes() {
            *self.uses.entry(hash).or_default() += 1;
        }
        self.live += length;
        self.records.insert(record.change, StoredRecord { record: Arc::new(record), length });
    }

    /// Removes a change. Returns the contents that may no longer be needed.
    pub(super) fn forget(&mut self, change: u64) -> Vec<Hash> {
        let Some(StoredRecord { record, length }) = self.records.remove(&change) else {
            return Vec::new();
        };
        self.live = self.live.saturating_sub(length);
        let hashes: Vec<_> = record.hashes().collect();
        for hash in &hashes {
            self.release(hash);
        }
        hashes
    }

    /// Updates a change that was undone or redone, with what was found where something else had
    /// been expected.
    pub(super) fn revert(&mut self, line: &ChangeRecord) -> Vec<Hash> {
        let (change, undone) = (line.change, line.undone);
        let Some(StoredRecord { record, .. }) = self.records.get(&change) else {
            return Vec::new();
        };
        let mut record = ChangeRecord::clone(record);
        (record.undone, record.order) = (undone, line.order);
        for Unexpected { step, snapshot } in line.unexpected.iter().flatten() {
            let step = usize::try_from(*step).ok().and_then(|step| record.steps.get_mut(step));
            let Some(step) = step else { continue };
            *(if undone { &mut step.after } else { &mut step.before }) = snapshot.clone();
        }
        let length = cbor::encode(&record).len() as u64;
        let before = self.forget(change);
        self.insert(record, length);
        before
    }

    fn release(&mut self, hash: &Hash) {
        if let Some(uses) = self.uses.get_mut(hash) {
            *uses -= 1;
            if *uses == 0 {
                self.uses.remove(hash);
            }
        }
    }

    /// Whether neither a record nor a question needs a content.
    pub(super) fn is_free(&self, hash: &Hash) -> bool {
        !self.uses.contains_key(hash) && !self.pins.contains_key(hash)
    }

    /// Whether there are too many changes.
    pub(super) fn is_crowded(&self) -> bool {
        self.records.len() > CHANGES || self.live > RECORDS
    }

    /// Removes the oldest change. Returns the contents that may no longer be needed; `None` without
    /// changes.
    pub(super) fn forget_oldest(&mut self) -> Option<Vec<Hash>> {
        let oldest = *self.records.first_key_value()?.0;
        Some(self.forget(oldest))
    }

    /// Adds a content that is in the store.
    pub(super) fn add_object(&mut self, hash: Hash, size: u64) {
        if self.objects.insert(hash, size).is_none() {
            self.bytes += size;
            // An undo in progress has pinned it already, when it was not there to be counted.
            if self.pins.contains_key(&hash) {
                self.pinned += size;
            }
        }
    }

    /// Removes a content from the index. Returns whether it was there.
    pub(super) fn drop_object(&mut self, hash: &Hash) -> bool {
        let size = self.objects.remove(hash);
        self.bytes = self.bytes.saturating_sub(size.unwrap_or(0));
        size.is_some()
    }

    /// Pins a content for a question.
    pub(super) fn pin(&mut self, hash: Hash) {
        let pins = self.pins.entry(hash).or_default();
        *pins += 1;
        if *pins == 1 {
            self.pinned += self.objects.get(&hash).copied().unwrap_or(0);
        }
    }

    /// Unpins a content when its question ends.
    pub(super) fn unpin(&mut self, hash: &Hash) {
        if let Some(pins) = self.pins.get_mut(hash) {
            *pins -= 1;
            if *pins == 0 {
                self.pins.remove(hash);
                let size = self.objects.get(hash).copied().unwrap_or(0);
                self.pinned = self.pinned.saturating_sub(size);
            }
        }
    }

    /// The lines of a journal with this index.
    pub(super) fn lines(&self) -> impl Iterator<Item = &ChangeRecord> {
        self.records.values().map(|entry| &*entry.record)
    }
}

impl ChangeRecord {
    /// The contents that it needs.
    pub(super) fn hashes(&self) -> impl Iterator<Item = Hash> {
        let all = self.steps.iter().flat_map(|step| [&step.before, &step.after]);
        all.filter_map(Snapshot::hash)
    }
}

impl Snapshot {
    fn hash(&self) -> Option<Hash> {
        match self {
            Self::File { hash, .. } => hash_of(hash),
            Self::Absent | Self::Directory { .. } | Self::Unknown => None,
        }
    }
}

/// A hash from a record. `None` if its length is wrong.
pub(super) fn hash_of(hash: &Blob) -> Option<Hash> {
    hash.0.as_slice().try_into().ok()
}
