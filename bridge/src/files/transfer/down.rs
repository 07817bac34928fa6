//! From a server to here.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, List, Part, Read, ToBridge, What};

use super::local::{Incoming, beneath, digest, make_directory};
use super::{Patience, Transfer, WITH_ALL};
use crate::files::{Down, Files, Said};

/// So many files are asked for before the first has come.
const AHEAD: usize = 64;

/// Fetches a file, or a directory with all that is in it.
///
/// # Errors
///
/// Those of the server, and `io` and `file_exists` for files here. What was fetched before stays.
pub async fn download(transfer: &Transfer<'_>) -> Result<(), Failure> {
    let path = Blob(transfer.remote.path.clone());
    let entry = transfer.stat(&path).await?;
    match entry.target.unwrap_or(entry.what) {
        What::Directory if transfer.recursive => directory(transfer).await,
        What::Directory => {
            Err(Failure::new(Kind::NotAFile, format!("{} is a directory", transfer.remote.shown()))
                .with_hint(WITH_ALL))
        }
        _ => {
            let mut target = transfer.local.clone();
            if target.is_dir() {
                let name =
                    transfer.remote.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                target = beneath(&target, name)?;
            }
            transfer.meter.expect(entry.size);
            one(transfer, &path.0, &target).await
        }
    }
}

/// Fetches one file; goes on with what is here of it.
async fn one(transfer: &Transfer<'_>, path: &[u8], target: &Path) -> Result<(), Failure> {
    let mut patience = Patience::new(transfer.meter);
    let mut counted = 0;
    while let Err(failure) = attempt(transfer, (path, target), &mut counted, &mut patience).await {
        patience.wait(failure).await?;
    }
    transfer.meter.whole();
    Ok(())
}

async fn attempt(
    transfer: &Transfer<'_>,
    (path, target): (&[u8], &Path),
    counted: &mut u64,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut files = transfer.enter().await?;
    patience.entered();
    let stat = files.ask(Ask::Stat(Blob(path.to_vec())), None).await?;
    let missing = || Failure::new(Kind::ProtocolViolation, "an answer without the file");
    let entry = stat.done.entry.ok_or_else(missing)?;
    let mut incoming = Incoming::begin(target, entry.revision, transfer.overwrite)?;
    if incoming.have > entry.size {
        incoming.restart()?;
    }
    let resumed = incoming.have > 0;
    // What came before counts, once.
    transfer.meter.came_before(incoming.have.saturating_sub(*counted));
    *counted = incoming.have.max(*counted);
    let part = Part::Bytes { offset: incoming.have, length: None };
    let revision = Some(entry.revision);
    let hash = resumed.then_some(true);
    files.up.ask(Ask::Read(Read {
        path: Blob(path.to_vec()),
        part,
        revision,
        hash,
        before: None,
    }))?;
    files.up.flush().await?;
    let hash = receive(transfer, &mut files.down, &mut incoming, counted).await?;
    if incoming.have != entry.size {
        let text = "the file is not as long as it was said to be";
        return Err(Failure::new(Kind::StreamTruncated, text));
    }
    if let Some(hash) = hash.filter(|_| resumed)
        && digest(incoming.content()?, target).await? != hash.0
    {
        incoming.restart()?;
        let text = format!("{} is not what is on the server", target.display());
        return Err(Failure::new(Kind::IntegrityFailure, text));
    }
    incoming.finish(entry.mode, entry.modified)
}

/// Receives the content of one file, of which so many bytes are `counted`; gives the hash of the whole, if that was
/// asked for.
async fn receive(
    transfer: &Transfer<'_>,
    down: &mut Down,
    incoming: &mut Incoming,
    counted: &mut u64,
) -> Result<Option<Blob>, Failure> {
    let mut longest = u64::MAX;
    loop {
        match down.next().await? {
            Said::Content(bytes) => {
                incoming.write(&bytes)?;
                transfer.meter.came(incoming.have.saturating_sub(*counted));
                *counted = incoming.have.max(*counted);
                if incoming.have > longest {
                    let text = "the file does not end where the server said that it would";
                    return Err(Failure::new(Kind::ProtocolViolation, text));
                }
            }
            // It may have grown since it was listed; this is what is read.
            Said::Message(ToBridge::Entries(entries)) => {
                longest = entries.first().map_or(longest, |entry| entry.size);
            }
            Said::Message(ToBridge::Done(done)) => {
                return match done.failure {
                    Some(failure) => Err(failure),
                    None => Ok(done.hash),
                };
            }
            Said::Message(_) => {
                return Err(Failure::new(Kind::ProtocolViolation, "an answer to another question"));
            }
        }
    }
}

/// Fetches a directory: first what there is, then all of it, many files at a time.
async fn directory(transfer: &Transfer<'_>) -> Result<(), Failure> {
    let list =
        List { path: Blob(transfer.remote.path.clone()), depth: Some(64), ..List::default() };
    let mut patience = Patience::new(transfer.meter);
    let answer = loop {
        let asked = async { transfer.enter().await?.ask(Ask::List(list.clone()), None).await };
        match asked.await {
            Ok(answer) => break answer,
            Err(failure) => patience.wait(failure).await?,
        }
    };
    if answer.done.more == Some(true) {
        let text =
            format!("{} has too many entries to be fetched at once", transfer.remote.shown());
        return Err(
            Failure::new(Kind::TooLarge, text).with_hint("fetch its directories one by one")
        );
    }
    make_directory(&transfer.local)?;
    let mut wanted = Vec::new();
    for entry in answer.entries {
        let target = beneath(&transfer.local, &entry.path)?;
        match entry.what {
            What::File | What::Directory => wanted.push((entry, target)),
            What::Link | What::Other => transfer.meter.skip(1),
        }
    }
    fetch_all(transfer, wanted).await
}

/// Fetches these files and directories, each to its place.
///
/// # Errors
///
/// As of [`download`].
pub async fn fetch_all(
    transfer: &Transfer<'_>,
    mut wanted: Vec<(Entry, PathBuf)>,
) -> Result<(), Failure> {
    // Directories stand before what is in them.
    wanted.sort_by(|one, other| one.0.path.cmp(&other.0.path));
    for (_, target) in wanted.iter().filter(|(entry, _)| entry.what == What::Directory) {
        make_directory(target)?;
    }
    // A server that leaves a directory out does not get its file put through a link that is here.
    let above: BTreeSet<_> = wanted.iter().flat_map(|(entry, _)| above(&entry.path)).collect();
    for path in above {
        make_directory(&beneath(&transfer.local, path)?)?;
    }
    wanted.retain(|(entry, _)| entry.what == What::File);
    wanted.iter().for_each(|(entry, _)| transfer.meter.expect(entry.size));
    if !transfer.overwrite {
        wanted.retain(|(entry, target)| !is_here(transfer, entry, target));
    }
    let mut done = 0;
    let mut patience = Patience::new(transfer.meter);
    while let Err(failure) = many(transfer, &wanted, &mut done, &mut patience).await {
        patience.wait(failure).await?;
    }
    Ok(())
}

/// Whether an earlier call has fetched this file of a directory: it is neither fetched again nor in the way.
fn is_here(transfer: &Transfer<'_>, entry: &Entry, target: &Path) -> bool {
    let like = is_like(entry, target);
    if like {
        transfer.meter.came_before(entry.size);
        transfer.meter.whole();
    }
    like
}

/// Whether there is a file here with this size and this time of its last change.
fn is_like(entry: &Entry, target: &Path) -> bool {
    std::fs::symlink_metadata(target).is_ok_and(|is| {
        let nanos = is.mtime().saturating_mul(1_000_000_000).saturating_add(is.mtime_nsec());
        is.is_file() && is.len() == entry.size && nanos == entry.modified
    })
}

/// All directories that a path is in.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.filter_map(|(at, _)| path.get(..at))
}

async fn many(
    transfer: &Transfer<'_>,
    wanted: &[(Entry, PathBuf)],
    done: &mut usize,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut files = transfer.enter().await?;
    patience.entered();
    let wanted = wanted.get(*done..).unwrap_or_default();
    let Files { up, down, .. } = &mut files;
    let mut asked = 0;
    for (at, (entry, target)) in wanted.iter().enumerate() {
        let mut fresh = false;
        while asked <= at + AHEAD {
            let Some((next, _)) = wanted.get(asked) else { break };
            let part = Part::Bytes { offset: 0, length: None };
            let path = Blob(transfer.remote.join(&next.path));
            up.ask(Ask::Read(Read { path, part, revision: None, hash: None, before: None }))?;
            asked += 1;
            fresh = true;
        }
        if fresh {
            up.flush().await?;
        }
        let named = |failure: Failure| {
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            Failure { message: format!("{name}: {}", failure.message), ..failure }
        };
        let mut incoming = Incoming::begin(target, entry.revision, transfer.overwrite)?;
        incoming.restart()?;
        match receive(transfer, down, &mut incoming, &mut 0).await {
            Ok(_) => incoming.finish(entry.mode, entry.modified)?,
            // It was removed since the list was made.
            Err(failure) if failure.kind == Kind::NoSuchFile => {
                incoming.discard();
                transfer.meter.skip(1);
            }
            Err(failure) => return Err(named(failure)),
        }
        *done += 1;
        transfer.meter.whole();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_before_is_known_by_size_and_time() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("f");
        let entry = Entry {
            path: Blob(b"f".to_vec()),
            what: What::File,
            size: 3,
            modified: 5_000_000_007,
            revision: 1,
            mode: 0o644,
            hash: None,
            target: None,
        };
        assert!(!is_like(&entry, &target));
        let mut incoming = Incoming::begin(&target, 1, false).unwrap();
        incoming.write(b"abc").unwrap();
        incoming.finish(entry.mode, entry.modified).unwrap();
        assert!(is_like(&entry, &target));
        assert!(!is_like(&Entry { size: 4, ..entry.clone() }, &target));
        assert!(!is_like(&Entry { modified: 5_000_000_008, ..entry.clone() }, &target));
        std::os::unix::fs::symlink(&target, place.path().join("link")).unwrap();
        assert!(!is_like(&entry, &place.path().join("link")));
    }
}
