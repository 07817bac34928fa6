//! `list`: what is in a directory, or in all directories beneath one.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::fs::File;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, Entry, List, Sort, ToBridge, What};
use sha2::{Digest as _, Sha256};

use super::gathered::Share;
use super::tidy::{Globs, Tidy};
use super::unread::Unread;
use super::{Batch, Desk, Listens, Stop};
use crate::path::Rel;
use crate::peer::Peer;
use crate::rules::{LISTED, STREAMED};
use crate::tree::Visited;

/// Entries that are put in order take so much memory at most.
const SORTED: usize = 64 << 20;

/// What an entry that waits takes besides its path: the list grows to twice of what is in it.
const ENTRY: usize = 2 * size_of::<Entry>() + 64;

/// What an entry takes in a message besides its path.
const OVERHEAD: usize = 96;

pub(super) fn list(desk: &Desk<'_>, list: &List, peer: &mut dyn Peer) -> Result<Done, Stop> {
    let (tree, listens) = (desk.tree, desk.listens);
    let path = Rel::parse(&list.path)?;
    let depth = list.depth.map_or(1, |depth| usize::try_from(depth).unwrap_or(usize::MAX).max(1));
    // Without an order nothing is kept here, so that more may be listed where that is asked for.
    let most = if list.sort.is_some() { LISTED } else { STREAMED };
    let limit = list.limit.map_or(LISTED, |limit| usize::try_from(limit).unwrap_or(most).min(most));
    let globs = Globs::new(list.globs.as_deref().unwrap_or_default())?;
    let mut tidy = list.tidy.unwrap_or(false).then(|| Tidy::new(tree, &path)).transpose()?;
    let mut sent = Sent { peer, batch: Batch::new(), broken: false };
    let mut sorted = list.sort.map(|_| Vec::new());
    let hashes = list.hashes.unwrap_or(false).then_some(listens);
    let mut count = 0;
    let (mut more, mut held, mut skipped, mut share) = (false, 0, 0, Share::default());
    let unread = RefCell::new(Unread::new(path.clone()));
    let mut visit = |visited: &Visited<'_>| {
        listens.visited()?;
        if let Some(tidy) = &mut tidy
            && tidy.leaves_out(visited)?
        {
            return Ok(false);
        }
        let directory = visited.listed.what.is_none_or(|what| what == What::Directory);
        if !globs.take(visited.at, directory) {
            return Ok(directory && !globs.refuse(visited.at));
        }
        // With an order, the best are chosen from all that there are.
        if count >= if sorted.is_some() { LISTED } else { limit } || held > SORTED {
            more = true;
            return Err(Failure::new(Kind::TooLarge, "enough"));
        }
        let Some(entry) = entry(visited, hashes) else { return Ok(false) };
        if hashes.is_some() && entry.what == What::File && entry.hash.is_none() {
            unread.borrow_mut().add(visited.at);
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
    let walked = tree.walk_telling(&path, depth, &mut visit, &mut |at| {
        skipped += 1;
        unread.borrow_mut().add(at);
    });
    match walked {
        Ok(()) => {}
        Err(_) if sent.broken => return Err(Stop::Broken),
        Err(failure) if more && failure.kind == Kind::TooLarge => {}
        Err(failure) => return Err(failure.into()),
    }
    if let (Some(mut sorted), Some(order)) = (sorted, list.sort) {
        sorted.sort_by(|one, other| compare(order, one, other));
        more |= sorted.len() > limit;
        sorted.truncate(limit);
        count = sorted.len();
        for entry in sorted {
            sent.push(entry).map_err(|_| Stop::Broken)?;
        }
    }
    sent.finish()?;
    let skipped = Some(skipped).filter(|skipped| *skipped > 0);
    let mut done = Done { count: Some(count as u64), more: Some(more), skipped, ..Done::default() };
    unread.into_inner().told(&mut done);
    Ok(done)
}

/// Entries on their way.
struct Sent<'a> {
    peer: &'a mut dyn Peer,
    batch: Batch<Entry>,
    broken: bool,
}

impl Sent<'_> {
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

    fn finish(self) -> Result<(), Stop> {
        if let Some(rest) = self.batch.rest() {
            self.peer.say(&ToBridge::Entries(rest))?;
        }
        Ok(())
    }
}

/// The entry of what a walk came to: `None` if it is gone again.
fn entry(visited: &Visited<'_>, hashes: Option<&Listens>) -> Option<Entry> {
    let mut entry = visited.listing.stat(&visited.listed.name)?.entry(visited.at.as_bytes());
    if let Some(listens) = hashes
        && entry.what == What::File
    {
        let file = visited.listing.open(&visited.listed.name).ok();
        entry.hash = file.and_then(|file| digest(file, listens).ok()).map(Blob);
    }
    Some(entry)
}

/// SHA-256 of what a file holds, as long as somebody listens.
pub(super) fn digest(file: File, listens: &Listens) -> std::io::Result<Vec<u8>> {
    digest_of(file, u64::MAX, listens)
}

/// The same of at most so many of its first bytes.
pub(super) fn digest_of(file: File, bytes: u64, listens: &Listens) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut file = listens.reads(file).take(bytes);
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
