//! Makes a directory like another one, on the other side: only what differs is sent.
//!
//! Two files are the same if they have the same size and the same time of their last change, which a transfer
//! keeps; or, where that is asked for, the same content.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, List, Remove, What};

use super::transfer::{Found, Transfer, beneath, failed, fetch_all, file_hash, send_all, walk};

/// Which side is made like the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The server, like this machine.
    Up,
    /// This machine, like the server.
    Down,
}

/// What has to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// What is sent to the server.
    send: Vec<Found>,
    /// What is fetched from it.
    fetch: Vec<(Entry, PathBuf)>,
    /// What is there and should not be, the innermost first.
    pub remove: Vec<Vec<u8>>,
    /// Links and special files where it is taken from: they are left out.
    pub left_out: Vec<Vec<u8>>,
    /// How many files are the same.
    pub same: u64,
    /// So much of the server could not be read: what is only here may well be there, too.
    unread: u64,
}

impl Plan {
    /// The paths of what is sent or fetched, with sizes; directories end with `/`.
    pub fn moved(&self) -> Vec<(String, u64)> {
        let name = |path: &[u8], directory: bool| {
            let slash = if directory { "/" } else { "" };
            format!("{}{slash}", String::from_utf8_lossy(path))
        };
        let sent = self.send.iter().map(|one| (name(&one.below, one.directory), one.size));
        let fetched = self
            .fetch
            .iter()
            .map(|(entry, _)| (name(&entry.path, entry.what == What::Directory), entry.size));
        sent.chain(fetched).collect()
    }
}

/// Finds out what has to be done. `by_content` compares hashes, which both sides compute.
pub async fn plan(
    transfer: &Transfer<'_>,
    direction: Direction,
    by_content: bool,
) -> Result<Plan, Failure> {
    let (there, unread) = there(transfer, by_content).await?;
    let (here, left_out) = match std::fs::symlink_metadata(&transfer.local) {
        Ok(is) if is.is_dir() => walk(&transfer.local)?,
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && direction == Direction::Down =>
        {
            Default::default()
        }
        Ok(_) => {
            let text = format!("{} is not a directory", transfer.local.display());
            return Err(Failure::new(Kind::NotADirectory, text));
        }
        Err(error) => return Err(failed(&transfer.local, &error)),
    };
    let mut here: BTreeMap<Vec<u8>, Found> =
        here.into_iter().map(|one| (one.below.clone(), one)).collect();
    let mut plan = Plan { unread, ..Plan::default() };
    if direction == Direction::Up {
        plan.left_out = left_out;
    }
    for (path, entry) in &there {
        let mine = here.remove(path);
        let like = match &mine {
            Some(mine) => same(mine, entry, by_content).await?,
            None => false,
        };
        match (direction, mine) {
            (_, Some(mine)) if like => plan.same += u64::from(!mine.directory),
            (Direction::Up, Some(mine)) => plan.send.push(mine),
            (Direction::Up, None) => plan.remove.push(path.clone()),
            (Direction::Down, _) if matches!(entry.what, What::File | What::Directory) => {
                plan.fetch.push((entry.clone(), beneath(&transfer.local, path)?));
            }
            (Direction::Down, _) => plan.left_out.push(path.clone()),
        }
    }
    match direction {
        Direction::Up => plan.send.extend(here.into_values()),
        Direction::Down => plan.remove = here.into_keys().collect(),
    }
    plan.left_out.sort();
    // What is in a directory goes before it.
    plan.remove.sort_by(|one, other| other.cmp(one));
    Ok(plan)
}

impl Plan {
    /// That what is only here is really not there.
    fn may_remove(&self, transfer: &Transfer<'_>) -> Result<(), Failure> {
        if transfer.upward || self.remove.is_empty() || self.unread == 0 {
            return Ok(());
        }
        let text = format!(
            "{} directories beneath {} cannot be read: what is only here may be there, too",
            self.unread,
            transfer.remote.shown()
        );
        Err(Failure::new(Kind::PermissionDenied, text).with_hint(
            "nothing was changed; leave out --delete, or let the agent's user read them",
        ))
    }
}

/// Does what has to be done. What should not be there is removed only if `delete`.
///
/// # Errors
///
/// Those of the transfer, and `permission_denied`, before anything is done, where it is not known what should
/// not be there.
pub async fn carry_out(transfer: &Transfer<'_>, plan: Plan, delete: bool) -> Result<(), Failure> {
    if delete {
        plan.may_remove(transfer)?;
    }
    let Plan { send, fetch, remove, .. } = plan;
    if !send.is_empty() {
        send_all(transfer, send).await?;
        return remove_there(transfer, &remove, delete).await;
    }
    if !fetch.is_empty() {
        std::fs::create_dir_all(&transfer.local)
            .map_err(|error| failed(&transfer.local, &error))?;
        fetch_all(transfer, fetch).await?;
    }
    match transfer.upward {
        true => remove_there(transfer, &remove, delete).await,
        false => remove_here(transfer, &remove, delete),
    }
}

async fn remove_there(
    transfer: &Transfer<'_>,
    paths: &[Vec<u8>],
    delete: bool,
) -> Result<(), Failure> {
    if paths.is_empty() || !delete {
        return Ok(());
    }
    let mut files = transfer.enter().await?;
    for path in paths {
        let path = Blob(transfer.remote.join(path));
        let remove = Remove { path, recursive: None, revision: None, undo: Some(true) };
        match files.ask(Ask::Remove(remove), None).await {
            Err(failure) if failure.kind == Kind::NoSuchFile => {}
            other => drop(other?),
        }
    }
    files.leave().await
}

fn remove_here(transfer: &Transfer<'_>, paths: &[Vec<u8>], delete: bool) -> Result<(), Failure> {
    for path in paths.iter().filter(|_| delete) {
        let path = beneath(&transfer.local, path)?;
        let is = std::fs::symlink_metadata(&path).map_err(|error| failed(&path, &error))?;
        let removed =
            if is.is_dir() { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) };
        match removed {
            // A link in it was never ours to remove.
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            other => other.map_err(|error| failed(&path, &error))?,
        }
    }
    Ok(())
}

/// What is on the server, and how much of it cannot be read.
pub(super) async fn there(
    transfer: &Transfer<'_>,
    hashes: bool,
) -> Result<(BTreeMap<Vec<u8>, Entry>, u64), Failure> {
    let list = List {
        path: Blob(transfer.remote.path.clone()),
        depth: Some(64),
        hashes: hashes.then_some(true),
        ..List::default()
    };
    let answer = match transfer.enter().await?.ask(Ask::List(list), None).await {
        Err(failure) if failure.kind == Kind::NoSuchFile && transfer.upward => {
            return Ok((BTreeMap::new(), 0));
        }
        answer => answer?,
    };
    if answer.done.more == Some(true) {
        let text =
            format!("{} has too many entries to be compared at once", transfer.remote.shown());
        return Err(Failure::new(Kind::TooLarge, text));
    }
    let unread = answer.done.skipped.unwrap_or(0);
    let entries = answer.entries.into_iter().map(|entry| (entry.path.0.clone(), entry));
    Ok((entries.collect(), unread))
}

/// Whether what is here is like what is there.
pub(super) async fn same(here: &Found, there: &Entry, by_content: bool) -> Result<bool, Failure> {
    match there.what {
        What::Directory => return Ok(here.directory),
        What::File if !here.directory => {}
        _ => return Ok(false),
    }
    if here.size != there.size {
        return Ok(false);
    }
    if by_content {
        let hash = file_hash(&here.path).await?;
        return Ok(there.hash.as_ref().is_some_and(|theirs| theirs.0 == hash));
    }
    let is = std::fs::metadata(&here.path).map_err(|error| failed(&here.path, &error))?;
    Ok(is.mtime().saturating_mul(1_000_000_000).saturating_add(is.mtime_nsec()) == there.modified)
}
