//! What should not be there is removed.

use std::collections::BTreeMap;
use std::io;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, Remove, What};

use crate::files::Files;
use crate::files::asked::outcome;
use crate::files::transfer::{Patience, Transfer, beneath, io_failure, is_of_one, walk};

/// What is removed from the server.
pub(super) struct Removal<'a> {
    pub(super) paths: &'a [Vec<u8>],
    /// What was there when it was listed. What somebody has put in its place since stays, also
    /// where the answer to a removal was lost and it is asked for again.
    pub(super) listed: &'a BTreeMap<Vec<u8>, Entry>,
    /// Directories with all that is in them.
    pub(super) with_all: bool,
}

/// Removes these from the server. What cannot be removed is noted as missed.
pub(super) async fn remove_there(
    transfer: &Transfer<'_>,
    removal: &Removal<'_>,
) -> Result<(), Failure> {
    if removal.paths.is_empty() {
        return Ok(());
    }
    let mut done = 0;
    let mut patience = Patience::new(transfer.meter);
    while let Err(failure) = removal.carry_on(transfer, &mut done, &mut patience).await {
        patience.wait(failure).await.map_err(outcome)?;
    }
    Ok(())
}

impl Removal<'_> {
    /// Removes what is left of these over one stream. What was removed by an answer that was lost
    /// no longer exists.
    async fn carry_on(
        &self,
        transfer: &Transfer<'_>,
        done: &mut usize,
        patience: &mut Patience<'_>,
    ) -> Result<(), Failure> {
        let mut files = transfer.enter_on(patience).await?;
        for below in self.paths.get(*done..).unwrap_or_default() {
            let path = Blob(transfer.remote.join(below));
            match self.remove(&mut files, path, self.listed.get(below)).await {
                Err(failure) if failure.kind == Kind::NoSuchFile => {}
                Err(failure) if is_of_one(failure.kind) => transfer.meter.miss(below, failure),
                other => other?,
            }
            *done += 1;
        }
        // All of it has been answered.
        let _ = files.leave().await;
        Ok(())
    }

    /// Removes one of these in the state in which it was listed.
    async fn remove(
        &self,
        files: &mut Files,
        path: Blob,
        listed: Option<&Entry>,
    ) -> Result<(), Failure> {
        let with_all = self.with_all;
        let question = |revision| {
            let (path, recursive) = (path.clone(), with_all.then_some(true));
            Ask::Remove(Remove { path, recursive, revision, undo: Some(true) })
        };
        // What is removed in a directory changes it. It is removed if nothing is left in it.
        let emptied = |entry: &&Entry| entry.what == What::Directory && !with_all;
        let Some(listed) = listed.filter(|entry| !emptied(entry)) else {
            return files.ask(question(None), None).await.map(drop);
        };
        match files.ask(question(Some(listed.revision)), None).await {
            Err(failure) if failure.kind == Kind::ChangedMeanwhile => {
                // A file has another revision, too, once another name of it is removed.
                let now = files.ask(Ask::Stat(path.clone()), None).await?.done.entry;
                match now.filter(|now| is_same(listed, now)) {
                    Some(now) => files.ask(question(Some(now.revision)), None).await.map(drop),
                    None => Err(failure),
                }
            }
            removed => removed.map(drop),
        }
    }
}

/// Whether something still has the content that it had when it was listed.
fn is_same(listed: &Entry, now: &Entry) -> bool {
    let state = |entry: &Entry| (entry.what, entry.size, entry.modified);
    state(listed) == state(now)
}

/// The same here. Links and special files were never ours to remove, unless they are in the way.
pub(super) fn remove_here(
    transfer: &Transfer<'_>,
    paths: &[Vec<u8>],
    with_all: bool,
) -> Result<(), Failure> {
    for below in paths {
        let path = beneath(&transfer.local, below)?;
        let removed = match std::fs::symlink_metadata(&path) {
            Ok(is) if is.is_dir() && with_all => {
                // Only what was looked at goes: files and directories.
                empty(&path).and_then(|()| std::fs::remove_dir(&path))
            }
            Ok(is) if is.is_dir() => std::fs::remove_dir(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => transfer.meter.or_miss(below, Err(io_failure(&path, &error)))?,
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Removes the files and directories in a directory.
fn empty(path: &std::path::Path) -> io::Result<()> {
    let walked = walk(path).map_err(|failure| io::Error::other(failure.message))?;
    for one in walked.found.iter().rev() {
        match one.directory {
            true => std::fs::remove_dir(&one.path)?,
            false => std::fs::remove_file(&one.path)?,
        }
    }
    Ok(())
}
