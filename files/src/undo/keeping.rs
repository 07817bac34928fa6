//! What one question keeps: it stays until the question has written its change down, or has ended.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::kept::Hash;
use super::{LARGEST, Record, Step, Turned, Undo, failed, name, now};

/// A question that keeps something.
#[derive(Debug)]
pub(crate) struct Keeping<'a> {
    undo: &'a Undo,
    pinned: Vec<Hash>,
}

/// Room in the store for a content that is not there yet. It is given back when this is dropped.
struct Room<'a> {
    undo: &'a Undo,
    bytes: u64,
}

impl<'a> Room<'a> {
    /// Takes more room: `false` if there is none, even without all changes that are written down.
    fn take(&mut self, more: u64) -> bool {
        let mut kept = self.undo.kept();
        if kept.pinned.saturating_add(more) > self.undo.quota {
            return false;
        }
        self.undo.make_room(&mut kept, more);
        kept.pinned += more;
        kept.bytes += more;
        self.bytes += more;
        true
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut kept = self.undo.kept();
        kept.pinned -= self.bytes;
        kept.bytes -= self.bytes;
    }
}

impl<'a> Keeping<'a> {
    pub(super) fn new(undo: &'a Undo) -> Self {
        Self { undo, pinned: Vec::new() }
    }

    /// Keeps what a file holds. Gives its hash and size: `None` if it is too large, or there is too much that
    /// others keep at the moment.
    pub(crate) fn keep(&mut self, mut file: &File) -> Result<Option<(Blob, u64)>, Failure> {
        io::Seek::rewind(&mut file).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut room = Room { undo: self.undo, bytes: 0 };
        if size > LARGEST || !room.take(size) {
            return Ok(None);
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error)))?;
        let beside = format!("{}.new", data_encoding::HEXLOWER.encode(&random));
        let kept = self.write(file, &beside, room);
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
        mut room: Room<'_>,
    ) -> Result<Option<(Blob, u64)>, Failure> {
        let store = &self.undo.store;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = rustix::fs::openat(store, beside, flags, Mode::from_raw_mode(0o600));
        let mut object = File::from(object.map_err(failed)?);
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut piece = vec![0; 128 << 10];
        loop {
            let length = file.read(&mut piece).map_err(failed)?;
            let Some(bytes) = piece.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            size += length as u64;
            // It may grow while it is read.
            if size > LARGEST || !room.take(size.saturating_sub(room.bytes)) {
                return Ok(None);
            }
            hash.update(bytes);
            object.write_all(bytes).map_err(failed)?;
        }
        let hash: Hash = hash.finalize().into();
        let mut kept = self.undo.kept();
        rustix::fs::renameat(store, beside, store, name(&hash)).map_err(failed)?;
        // It takes the room that it had.
        let had = std::mem::take(&mut room.bytes);
        kept.pinned -= had;
        kept.bytes -= had;
        kept.hold(hash, size);
        kept.pin(hash);
        self.pinned.push(hash);
        Ok(Some((Blob(hash.to_vec()), size)))
    }

    /// What a change needs is not dropped meanwhile, even if the change is forgotten.
    pub(crate) fn needs(&mut self, record: &Record) {
        let mut kept = self.undo.kept();
        for hash in record.hashes() {
            kept.pin(hash);
            self.pinned.push(hash);
        }
    }

    /// Writes a change down that is about to be made, and gives its number.
    pub(crate) fn record(self, verb: &str, who: &str, steps: Vec<Step>) -> Result<u64, Failure> {
        let mut kept = self.undo.kept();
        let (verb, who) = (verb.to_owned(), who.to_owned());
        let (change, undone, turned, order) = (kept.next, false, None, None);
        let record = Record { change, verb, who, time: now(), steps, undone, turned, order };
        let length = kept.journal.append(&self.undo.store, &record)?;
        kept.next += 1;
        kept.insert(record, length);
        self.undo.make_room(&mut kept, 0);
        self.undo.tidy(&mut kept);
        Ok(change)
    }

    /// Writes down that a change was undone, or done again, and what stood there then.
    pub(crate) fn turned(
        self,
        change: u64,
        undone: bool,
        turned: Vec<Turned>,
    ) -> Result<(), Failure> {
        self.undo.turn(change, undone, turned)
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        let mut kept = self.undo.kept();
        let pinned = std::mem::take(&mut self.pinned);
        for hash in &pinned {
            kept.unpin(hash);
        }
        self.undo.remove(&mut kept, pinned);
    }
}
