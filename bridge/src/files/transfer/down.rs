//! From a server to here.

use std::collections::BTreeSet;
use std::iter;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, Part, Read, ToBridge, What};

use super::ends::{Transfer, WITH_ALL};
use super::local::{Incoming, beneath, digest, make_directory, through_link};
use super::meter::is_of_one;
use super::patience::Patience;
use super::reading::{READINGS, change_failure};
use super::rights::{Rights, set_here};
use crate::files::everything::everything;
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
        What::Directory if transfer.recursive => directory(transfer, &entry).await,
        What::Directory => Err(Failure::new(
            Kind::NotAFile,
            format!("{} is a directory", transfer.remote.to_text()),
        )
        .with_hint(WITH_ALL)),
        _ => {
            let local = &transfer.local;
            let target = match local.is_dir() {
                true => {
                    let mut names = transfer.remote.path.rsplit(|&byte| byte == b'/');
                    beneath(local, names.next().unwrap_or_default())?
                }
                false => through_link(local),
            };
            transfer.meter.expect(entry.size);
            one(transfer, &path.0, &target).await
        }
    }
}

/// Fetches one file; goes on with what is here of it.
async fn one(transfer: &Transfer<'_>, path: &[u8], target: &Path) -> Result<(), Failure> {
    let mut patience = Patience::new(transfer.meter);
    let (mut counted, mut readings) = (0, 1);
    while let Err(failure) = attempt(transfer, path, target, &mut counted, &mut patience).await {
        match failure.kind {
            Kind::ChangedMeanwhile if readings < READINGS => readings += 1,
            _ => patience.wait(failure).await?,
        }
    }
    transfer.meter.whole();
    Ok(())
}

async fn attempt(
    transfer: &Transfer<'_>,
    path: &[u8],
    target: &Path,
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
    // A part belongs to one state. What is read from its beginning is of whichever state it has
    // then.
    let offset = incoming.have;
    let part = Part::Bytes { offset, length: None };
    let (revision, hash) = (resumed.then_some(entry.revision), resumed.then_some(true));
    files.up.ask(Ask::Read(Read {
        path: Blob(path.to_vec()),
        part,
        revision,
        hash,
        before: None,
    }))?;
    files.up.flush().await?;
    let mut take = |bytes: &[u8]| {
        incoming.write(bytes)?;
        transfer.meter.came(incoming.have.saturating_sub(*counted));
        *counted = incoming.have.max(*counted);
        Ok(())
    };
    let came = receive(&mut files.down, offset, &mut take).await?;
    let entry = came.opened.unwrap_or(entry);
    incoming.is_of(entry.revision)?;
    if incoming.have != entry.size {
        let text = "the file is not as long as it was said to be";
        return Err(Failure::new(Kind::StreamTruncated, text));
    }
    if let Some(hash) = came.hash.filter(|_| resumed)
        && digest(incoming.content()?, target).await? != hash.0
    {
        incoming.restart()?;
        let text = format!("{} is not what is on the server", target.display());
        return Err(Failure::new(Kind::IntegrityFailure, text));
    }
    if let Some(now) = came.changed {
        let is = (path, &entry, &now);
        if let Err(failure) = only_grew(transfer, &mut files, is, (&incoming, target)).await {
            incoming.restart()?;
            return Err(failure);
        }
    }
    incoming.finish(entry.mode, entry.modified)
}

/// That a file which was changed while it was fetched still begins with what was fetched.
///
/// # Errors
///
/// `changed_meanwhile` if it does not.
async fn only_grew(
    transfer: &Transfer<'_>,
    files: &mut Files,
    (path, opened, now): (&[u8], &Entry, &Entry),
    (incoming, target): (&Incoming, &Path),
) -> Result<(), Failure> {
    let shown = transfer.remote.text_of(path);
    if now.size < opened.size {
        return Err(change_failure(&shown));
    }
    let part = Part::Bytes { offset: opened.size, length: Some(0) };
    let (path, hash) = (Blob(path.to_vec()), Some(true));
    let read = Read { path, part, revision: None, hash, before: Some(true) };
    let there = files.ask(Ask::Read(read), None).await?.done.hash;
    let here = digest(incoming.content()?, target).await?;
    if there.is_none_or(|there| there.0 != here) {
        return Err(change_failure(&shown));
    }
    if now.size > opened.size {
        let text = format!("it grew; only the first {} bytes were fetched", opened.size);
        transfer.meter.remark(shown.as_bytes(), &text);
    }
    Ok(())
}

/// What was said of a file that was read.
#[derive(Default)]
struct Came {
    /// What it was when it was opened.
    opened: Option<Entry>,
    /// What it was when its content had been read, if that is something else.
    changed: Option<Entry>,
    hash: Option<Blob>,
}

/// Receives the content of one file from an offset on, and hands it on as it comes.
async fn receive(
    down: &mut Down,
    offset: u64,
    take: &mut (dyn FnMut(&[u8]) -> Result<(), Failure> + Send),
) -> Result<Came, Failure> {
    let mut came = Came::default();
    let mut reached = offset;
    loop {
        match down.next().await? {
            Said::Content(bytes) => {
                reached += bytes.len() as u64;
                if came.opened.as_ref().is_some_and(|entry| reached > entry.size) {
                    let text = "the file does not end where the server said that it would";
                    return Err(Failure::new(Kind::ProtocolViolation, text));
                }
                take(&bytes)?;
            }
            Said::Message(ToBridge::Entries(entries)) => {
                let entry = entries.into_iter().next();
                // It may have changed since it was listed; the first is what is read.
                if came.opened.is_none() {
                    came.opened = entry;
                } else {
                    came.changed = entry;
                }
            }
            Said::Message(ToBridge::Done(done)) => {
                came.hash = done.hash;
                return done.failure.map_or(Ok(came), Err);
            }
            Said::Message(_) => {
                return Err(Failure::new(Kind::ProtocolViolation, "an answer to another question"));
            }
        }
    }
}

/// Fetches a directory: first what there is, then all of it, many files at a time.
async fn directory(transfer: &Transfer<'_>, top: &Entry) -> Result<(), Failure> {
    let mut patience = Patience::new(transfer.meter);
    let listed = loop {
        let asked = async {
            let mut files = transfer.enter().await?;
            everything(transfer.client, &mut files, &transfer.remote, false).await
        };
        match asked.await {
            Ok(listed) => break listed,
            Err(failure) => patience.wait(failure).await?,
        }
    };
    let made = make_directory(&transfer.local)?;
    for (path, failure) in listed.unread {
        transfer.meter.miss(&path, failure);
    }
    let mut wanted = Vec::new();
    for entry in listed.entries {
        let target = beneath(&transfer.local, &entry.path)?;
        match entry.what {
            What::File | What::Directory => wanted.push((entry, target)),
            What::Link | What::Other => transfer.meter.leave_out(&entry.path),
        }
    }
    let directories = wanted.iter().filter(|(entry, _)| entry.what == What::Directory);
    let mut rights: Vec<_> =
        directories.map(|(entry, target)| (rights_of(entry), target.clone())).collect();
    if made {
        let path = Vec::new();
        rights.push((Rights { path, ..rights_of(top) }, transfer.local.clone()));
    }
    fetch_all(transfer, wanted).await?;
    // What could not be made has been said.
    rights.retain(|(_, target)| target.is_dir());
    set_here(transfer, rights);
    Ok(())
}

fn rights_of(entry: &Entry) -> Rights {
    Rights { path: entry.path.0.clone(), mode: entry.mode & 0o777, modified: entry.modified }
}

/// Fetches these files and directories, each to its place. What cannot be is noted as missed.
/// Directories get their rights and times by [`set_here`], afterwards.
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
    let mut closed = BTreeSet::new();
    for (entry, target) in wanted.iter().filter(|(entry, _)| entry.what == What::Directory) {
        if is_beneath(&closed, &entry.path) {
            continue;
        }
        match make_directory(target) {
            Err(failure) if is_of_one(failure.kind) => {
                transfer.meter.miss(&entry.path, failure);
                closed.insert(entry.path.0.clone());
            }
            made => drop(made?),
        }
    }
    wanted.retain(|(entry, _)| entry.what == What::File && !is_beneath(&closed, &entry.path));
    // A server that leaves a directory out does not get its file put through a link that is here.
    let above: BTreeSet<_> = wanted.iter().flat_map(|(entry, _)| above(&entry.path)).collect();
    for path in above.into_iter().filter(|path| !path.is_empty()) {
        make_directory(&beneath(&transfer.local, path)?)?;
    }
    wanted.iter().for_each(|(entry, _)| transfer.meter.expect(entry.size));
    if !transfer.overwrite {
        wanted.retain(|(entry, target)| !is_here(transfer, entry, target));
    }
    let mut so_far = Fetched::default();
    let mut patience = Patience::new(transfer.meter);
    while let Err(failure) = many(transfer, &wanted, &mut so_far, &mut patience).await {
        patience.wait(failure).await?;
    }
    // What changed while it was read is read alone, until it stands still.
    for (entry, target) in so_far.again.iter().filter_map(|&at| wanted.get(at)) {
        let fetched = Box::pin(one(transfer, &transfer.remote.join(&entry.path), target)).await;
        transfer.meter.or_miss(&entry.path, fetched)?;
    }
    Ok(())
}

/// Whether a path is in one of these directories.
pub(in crate::files) fn is_beneath(directories: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    above(path).any(|dir| directories.contains(dir))
}

/// Whether an earlier call has fetched this file of a directory: it is neither fetched again nor in
/// the way.
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

/// All directories that a path is in, the topmost, whose path is empty, among them.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    iter::once(0).chain(slashes.map(|(at, _)| at)).filter_map(|at| path.get(..at))
}

/// How far many files are.
#[derive(Default)]
struct Fetched {
    /// So many were answered: they are not asked for again.
    done: usize,
    /// Those that changed while they were read.
    again: Vec<usize>,
}

async fn many(
    transfer: &Transfer<'_>,
    wanted: &[(Entry, PathBuf)],
    so_far: &mut Fetched,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let first = so_far.done;
    let rest = wanted.get(first..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(());
    }
    let mut files = transfer.enter().await?;
    patience.entered();
    let Files { up, down, .. } = &mut files;
    let mut asked = 0;
    for (at, (entry, target)) in rest.iter().enumerate() {
        let mut fresh = false;
        while asked <= at + AHEAD {
            let Some((next, _)) = rest.get(asked) else { break };
            let part = Part::Bytes { offset: 0, length: None };
            let path = Blob(transfer.remote.join(&next.path));
            let read = Read { path, part, revision: None, hash: None, before: None };
            up.ask(Ask::Read(read))?;
            asked += 1;
            fresh = true;
        }
        if fresh {
            up.flush().await?;
        }
        match Box::pin(next_of_many(transfer, down, entry, target)).await {
            Ok(true) => transfer.meter.whole(),
            Ok(false) => so_far.again.push(first + at),
            Err(failure) if failure.kind == Kind::NoSuchFile => {
                transfer.meter.remark(&entry.path, "it was removed since the list was made");
            }
            failed => transfer.meter.or_miss(&entry.path, failed.map(drop))?,
        }
        so_far.done += 1;
    }
    Ok(())
}

/// Receives the file whose answer comes next; returns false if it changed while it was read.
/// Whatever is wrong with its place here, its answer is taken: the next ones stand behind it.
async fn next_of_many(
    transfer: &Transfer<'_>,
    down: &mut Down,
    entry: &Entry,
    target: &Path,
) -> Result<bool, Failure> {
    let begun =
        Incoming::begin(target, entry.revision, transfer.overwrite).and_then(|mut begun| {
            begun.restart()?;
            Ok(begun)
        });
    let (mut incoming, mut wrong) = match begun {
        Ok(incoming) => (Some(incoming), None),
        Err(failure) => (None, Some(failure)),
    };
    let mut take = |bytes: &[u8]| {
        transfer.meter.came(bytes.len() as u64);
        if let Some(writing) = &mut incoming
            && let Err(failure) = writing.write(bytes)
        {
            wrong = Some(failure);
            incoming.take().into_iter().for_each(Incoming::discard);
        }
        Ok(())
    };
    let came = receive(down, 0, &mut take).await;
    if let Some(failure) = wrong {
        return Err(failure);
    }
    let Some(incoming) = incoming else { return Ok(false) };
    match came {
        Ok(Came { changed: None, opened, .. }) => {
            let entry = opened.as_ref().unwrap_or(entry);
            incoming.finish(entry.mode, entry.modified)?;
            Ok(true)
        }
        Ok(_) => {
            incoming.discard();
            Ok(false)
        }
        Err(failure) => {
            if is_of_one(failure.kind) {
                incoming.discard();
            }
            Err(failure)
        }
    }
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
