//! What should not be there is removed.

use std::io;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Remove};

use crate::files::asked::outcome;
use crate::files::transfer::{Patience, Transfer, beneath, io_failure, is_of_one, walk};

/// Removes these from the server; with all that is in them, where they are in the way. What cannot
/// be removed is noted as missed.
pub(super) async fn remove_there(
    transfer: &Transfer<'_>,
    paths: &[Vec<u8>],
    with_all: bool,
) -> Result<(), Failure> {
    if paths.is_empty() {
        return Ok(());
    }
    let mut done = 0;
    let mut patience = Patience::new(transfer.meter);
    while let Err(failure) = remove_on(transfer, paths, &mut done, with_all, &mut patience).await {
        patience.wait(failure).await.map_err(outcome)?;
    }
    Ok(())
}

/// Removes what is left of these over one stream. What was removed by an answer that was lost is
/// not there any more.
async fn remove_on(
    transfer: &Transfer<'_>,
    paths: &[Vec<u8>],
    done: &mut usize,
    with_all: bool,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut files = transfer.enter_on(patience).await?;
    for below in paths.get(*done..).unwrap_or_default() {
        let path = Blob(transfer.remote.join(below));
        let recursive = with_all.then_some(true);
        let remove = Remove { path, recursive, revision: None, undo: Some(true) };
        match files.ask(Ask::Remove(remove), None).await {
            Err(failure) if failure.kind == Kind::NoSuchFile => {}
            Err(failure) if is_of_one(failure.kind) => transfer.meter.miss(below, failure),
            other => drop(other?),
        }
        *done += 1;
    }
    // All of it has been answered.
    let _ = files.leave().await;
    Ok(())
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
