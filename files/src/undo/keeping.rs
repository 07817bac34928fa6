//! What one question keeps. It stays until the question has recorded its change, or has ended.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::index::Hash;
use super::{ChangeRecord, ChangeStep, LARGEST, Undo, Unexpected, name, now, store_failure};

/// A question that keeps contents.
#[derive(Debug)]
pub(crate) struct Keeping<'a> {
    undo: &'a Undo,
    pinned: Vec<Hash>,
}

/// Space reserved for a content that is being written. It is released on drop.
struct Reservation<'a> {
    undo: &'a Undo,
    bytes: u64,
}

impl<'a> Reservation<'a> {
    /// Reserves more space. Returns false if there is not enough, even without any recorded change.
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

    /// Keeps the content of a file. Returns its hash and size; `None` if it is too large, or
    /// questions in progress keep too much.
    pub(crate) fn keep(&mut self, file: &File) -> Result<Option<(Blob, u64)>, Failure> {
        loop {
            match self.keep_once(file) {
                // The disk may be full although the store has not reached its limit.
                Err(failure) if failure.kind == Kind::DiskFull => {
                    let size = file.metadata().map_err(store_failure)?.len();
                    if !self.undo.free(&mut self.undo.index(), size) {
                        return Err(failure);
                    }
                }
                kept => return kept,
            }
        }
    }

    fn keep_once(&mut self, mut file: &File) -> Result<Option<(Blob, u64)>, Failure> {
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
            // An incomplete copy must not stay behind.
            let _ = rustix::fs::unlinkat(&self.undo.store, &beside, AtFlags::empty());
        }
        kept
    }

    /// Copies the content of a file into the store, and names the copy by its hash.
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
            // The file may grow while it is read.
            if size > LARGEST || !reservation.take(size.saturating_sub(reservation.bytes)) {
                return Ok(None);
            }
            hash.update(bytes);
            object.write_all(bytes).map_err(store_failure)?;
        }
        let hash: Hash = hash.finalize().into();
        let mut index = self.undo.index();
        rustix::fs::renameat(store, beside, store, name(&hash)).map_err(store_failure)?;
        // The content takes over the space that was reserved for it.
        let had = std::mem::take(&mut reservation.bytes);
        index.pinned -= had;
        index.bytes -= had;
        index.add_object(hash, size);
        index.pin(hash);
        self.pinned.push(hash);
        Ok(Some((Blob(hash.to_vec()), size)))
    }

    /// Pins what a change needs, even if the change is forgotten meanwhile.
    pub(crate) fn pin(&mut self, record: &ChangeRecord) {
        let mut index = self.undo.index();
        for hash in record.hashes() {
            index.pin(hash);
            self.pinned.push(hash);
        }
    }

    /// Records a change that is about to be made. Returns its number.
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
        let length = loop {
            match index.journal.append(&self.undo.store, &record) {
                Err(failure) if failure.kind == Kind::DiskFull && self.undo.free(&mut index, 0) => {
                }
                appended => break appended?,
            }
        };
        index.next += 1;
        index.insert(record, length);
        self.undo.make_room(&mut index, 0);
        self.undo.compact(&mut index);
        Ok(change)
    }

    /// Records that a change was undone or redone, and what was found then.
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
