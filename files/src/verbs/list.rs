//! `list`: the entries of a directory, or of everything beneath it.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::fs::File;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, Entry, List, Sort, ToBridge, What};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::batch::Batch;
use super::desk::{Desk, VerbError};
use super::memory::MemoryShare;
use super::tidy::{Globs, Tidy};
use super::unread::Unread;
use crate::listener::Listener;
use crate::path::Rel;
use crate::peer::Peer;
use crate::rules::{LISTED, STREAMED};
use crate::tree::Visited;

/// The most memory for entries that are sorted.
const SORTED: usize = 64 << 20;

/// The size of an entry waiting to be sorted, besides its path. The list doubles when it grows.
const ENTRY: usize = 2 * size_of::<Entry>() + 64;

/// The size of an entry in a message, besides its path.
const OVERHEAD: usize = 96;

pub(super) fn list(desk: &Desk<'_>, list: &List, peer: &mut dyn Peer) -> Result<Done, VerbError> {
    let (tree, listener) = (desk.tree, desk.tree.listener());
    let path = Rel::parse(&list.path)?;
    let depth = list.depth.map_or(1, |depth| usize::try_from(depth).unwrap_or(usize::MAX).max(1));
    // Without an order nothing is collected, so that a listing may ask for more.
    let most = if list.sort.is_some() { LISTED } else { STREAMED };
    let limit = list.limit.map_or(LISTED, |limit| usize::try_from(limit).unwrap_or(most).min(most));
    let globs = Globs::new(list.globs.as_deref().unwrap_or_default())?;
    let mut tidy = list.tidy.unwrap_or(false).then(|| Tidy::new(tree, &path)).transpose()?;
    let mut sent = EntrySender { peer, batch: Batch::new(), broken: false };
    let mut sorted = list.sort.map(|_| Vec::new());
    let hashes = list.hashes.unwrap_or(false).then_some(listener);
    let mut count = 0;
    let (mut more, mut held, mut share) = (false, 0, MemoryShare::default());
    let left = Omissions::new(path.clone());
    let mut visit = |visited: &Visited<'_>| {
        listener.check_after_name()?;
        if let Some(tidy) = &mut tidy
            && tidy.leaves_out(visited)?
        {
            return Ok(false);
        }
        let directory = visited.listed.what.is_none_or(|what| what == What::Directory);
        if !globs.take(visited.at, directory) {
            return Ok(directory && !globs.refuse(visited.at));
        }
        // With an order, the first are chosen from all entries.
        if count >= if sorted.is_some() { LISTED } else { limit } || held > SORTED {
            more = true;
            return Err(Failure::new(Kind::TooLarge, "enough"));
        }
        let entry = entry(visited, hashes).unwrap_or_else(|_| {
            left.skip(visited.at);
            None
        });
        let Some(entry) = entry else { return Ok(false) };
        if hashes.is_some() && entry.what == What::File && entry.hash.is_none() {
            left.unread(visited.at);
        }
        count += 1;
        let directory = entry.what == What::Directory;
        match &mut sorted {
            Some(sorted) => {
                let bytes = entry.path.len() + ENTRY;
                share.take(bytes)?;
                held += bytes;
                sorted.push(entry);
            }
            None => sent.push(entry)?,
        }
        Ok(directory)
    };
    let walked = tree.walk_reporting(&path, depth, &mut visit, &mut |at| left.skip(at));
    match walked {
        Ok(()) => {}
        Err(_) if sent.broken => return Err(VerbError::Broken),
        Err(failure) if more && failure.kind == Kind::TooLarge => {}
        Err(failure) => return Err(failure.into()),
    }
    if let (Some(mut sorted), Some(order)) = (sorted, list.sort) {
        sorted.sort_by(|one, other| compare(order, one, other));
        more |= sorted.len() > limit;
        count = sorted.len().min(limit);
        sorted
            .into_iter()
            .take(limit)
            .try_for_each(|entry| sent.push(entry))
            .map_err(|_| VerbError::Broken)?;
    }
    sent.finish()?;
    let mut done = Done { count: Some(count as u64), more: Some(more), ..Done::default() };
    left.report(&mut done);
    Ok(done)
}

/// Entries that a listing lacks, or lacks a part of.
struct Omissions {
    names: RefCell<Unread>,
    skipped: Cell<u64>,
}

impl Omissions {
    fn new(below: Rel) -> Self {
        Self { names: RefCell::new(Unread::new(below)), skipped: Cell::new(0) }
    }

    /// Notes that the content of a file could not be read.
    fn unread(&self, at: &Rel) {
        self.names.borrow_mut().add(at);
    }

    /// Notes an entry that could not be looked at, and is missing.
    fn skip(&self, at: &Rel) {
        self.skipped.update(|skipped| skipped + 1);
        self.unread(at);
    }

    fn report(self, done: &mut Done) {
        done.skipped = Some(self.skipped.get()).filter(|skipped| *skipped > 0);
        self.names.into_inner().report(done);
    }
}

/// Entries being sent.
struct EntrySender<'a> {
    peer: &'a mut dyn Peer,
    batch: Batch<Entry>,
    broken: bool,
}

impl EntrySender<'_> {
    fn push(&mut self, entry: Entry) -> Result<(), Failure> {
        let bytes = entry.path.len() + OVERHEAD;
        if let Some(full) = self.batch.push(entry, bytes) {
            self.peer.say(&ToBridge::Entries(full)).map_err(|_| {
                self.broken = true;
                Failure::new(Kind::Cancelled, "nobody listens")
            })?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), VerbError> {
        if let Some(rest) = self.batch.rest() {
            self.peer.say(&ToBridge::Entries(rest))?;
        }
        Ok(())
    }
}

/// The entry for a step of the walk. `None` if the file no longer exists.
fn entry(visited: &Visited<'_>, hashes: Option<&Listener>) -> Result<Option<Entry>, Errno> {
    let Some(stat) = visited.stat()? else { return Ok(None) };
    let mut entry = stat.entry(visited.at.as_bytes());
    if let Some(listener) = hashes
        && entry.what == What::File
    {
        let file = visited.listing.open(&visited.listed.name).ok();
        entry.hash = file.and_then(|file| digest(file, listener).ok()).map(Blob);
    }
    Ok(Some(entry))
}

/// SHA-256 of a file. Fails once the answer is no longer wanted.
pub(super) fn digest(file: File, listener: &Listener) -> std::io::Result<Vec<u8>> {
    digest_of(file, u64::MAX, listener)
}

/// Like [`digest`], of at most the first `bytes` bytes.
pub(super) fn digest_of(file: File, bytes: u64, listener: &Listener) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut file = listener.reader(file).take(bytes);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hash.finalize().to_vec());
        }
        hash.update(buffer.get(..length).unwrap_or_default());
    }
}

fn compare(order: Sort, one: &Entry, other: &Entry) -> Ordering {
    let by_name = || {
        let file = |entry: &Entry| entry.what != What::Directory;
        file(one).cmp(&file(other)).then_with(|| one.path.cmp(&other.path))
    };
    match order {
        Sort::Name => by_name(),
        Sort::Size => other.size.cmp(&one.size).then_with(by_name),
        Sort::Time => other.modified.cmp(&one.modified).then_with(by_name),
    }
}
