//! What one question keeps: it stays until the question has written its change down, or has ended.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::index::Hash;
use super::{ChangeRecord, ChangeStep, LARGEST, Undo, Unexpected, name, now, store_failure};

/// A question that keeps something.
#[derive(Debug)]
pub(crate) struct Keeping<'a> {
    undo: &'a Undo,
    pinned: Vec<Hash>,
}

/// Reservation in the store for a content that is not there yet. It is given back when this is dropped.
struct Reservation<'a> {
    undo: &'a Undo,
    bytes: u64,
}

impl<'a> Reservation<'a> {
    /// Takes more reservation: `false` if there is none, even without all changes that are written down.
    fn take(&mut self, more: u64) -> bool {
        let mut index = self.undo.index();
        if index.pinned.saturating_add(more) > self.undo.quota {
            return false;
        }
        self.undo.make_room(&mut index, more);
        index.pinned += more;
        index.bytes += more;
        self.bytes += more;
        true
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut index = self.undo.index();
        index.pinned -= self.bytes;
        index.bytes -= self.bytes;
    }
}

impl<'a> Keeping<'a> {
    pub(super) fn new(undo: &'a Undo) -> Self {
        Self { undo, pinned: Vec::new() }
    }

    /// Keeps what a file holds. Gives its hash and size: `None` if it is too large, or there is too much that
    /// others keep at the moment.
    pub(crate) fn keep(&mut self, mut file: &File) -> Result<Option<(Blob, u64)>, Failure> {
        io::Seek::rewind(&mut file).map_err(store_failure)?;
        let size = file.metadata().map_err(store_failure)?.len();
        let mut reservation = Reservation { undo: self.undo, bytes: 0 };
        if size > LARGEST || !reservation.take(size) {
            return Ok(None);
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| store_failure(io::Error::other(error)))?;
        let beside = format!("{}.new", data_encoding::HEXLOWER.encode(&random));
        let kept = self.write(file, &beside, reservation);
        if !matches!(kept, Ok(Some(_))) {
            // What is not kept leaves nothing.
            let _ = rustix::fs::unlinkat(&self.undo.store, &beside, AtFlags::empty());
        }
        kept
    }

    /// Copies what a file holds, and gives the copy its name.
    fn write(
        &mut self,
        mut file: &File,
        beside: &str,
        mut reservation: Reservation<'_>,
    ) -> Result<Option<(Blob, u64)>, Failure> {
        let store = &self.undo.store;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = rustix::fs::openat(store, beside, flags, Mode::from_raw_mode(0o600));
        let mut object = File::from(object.map_err(store_failure)?);
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut piece = vec![0; 128 << 10];
        loop {
            let length = file.read(&mut piece).map_err(store_failure)?;
            let Some(bytes) = piece.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            size += length as u64;
            // It may grow while it is read.
            if size > LARGEST || !reservation.take(size.saturating_sub(reservation.bytes)) {
                return Ok(None);
            }
            hash.update(bytes);
            object.write_all(bytes).map_err(store_failure)?;
        }
        let hash: Hash = hash.finalize().into();
        let mut index = self.undo.index();
        rustix::fs::renameat(store, beside, store, name(&hash)).map_err(store_failure)?;
        // It takes the reservation that it had.
        let had = std::mem::take(&mut reservation.bytes);
        index.pinned -= had;
        index.bytes -= had;
        index.add_object(hash, size);
        index.pin(hash);
        self.pinned.push(hash);
        Ok(Some((Blob(hash.to_vec()), size)))
    }

    /// What a change needs is not dropped meanwhile, even if the change is forgotten.
    pub(crate) fn pin(&mut self, record: &ChangeRecord) {
        let mut index = self.undo.index();
        for hash in record.hashes() {
            index.pin(hash);
            self.pinned.push(hash);
        }
    }

    /// Writes a change down that is about to be made, and gives its number.
    pub(crate) fn record(
        self,
        verb: &str,
        who: &str,
        steps: Vec<ChangeStep>,
    ) -> Result<u64, Failure> {
        let mut index = self.undo.index();
        let (verb, who) = (verb.to_owned(), who.to_owned());
        let (change, undone, unexpected, order) = (index.next, false, None, None);
        let record =
            ChangeRecord { change, verb, who, time: now(), steps, undone, unexpected, order };
        let length = index.journal.append(&self.undo.store, &record)?;
        index.next += 1;
        index.insert(record, length);
        self.undo.make_room(&mut index, 0);
        self.undo.compact(&mut index);
        Ok(change)
    }

    /// Writes down that a change was undone, or done again, and what stood there then.
    pub(crate) fn record_revert(
        self,
        change: u64,
        undone: bool,
        unexpected: Vec<Unexpected>,
    ) -> Result<(), Failure> {
        self.undo.record_revert(change, undone, unexpected)
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        let mut index = self.undo.index();
        let pinned = std::mem::take(&mut self.pinned);
        for hash in &pinned {
            index.unpin(hash);
        }
        self.undo.remove(&mut index, pinned);
    }
}
