//! Makes a directory like another one, on the other side: only what differs is sent.
//!
//! Two files are the same if they have the same size and the same time of their last change, which
//! a transfer keeps; or, where that is asked for, the same content. Rights, and times of
//! directories, are made alike, too. What stands in the way and is of another kind, a directory for
//! a file or the other way round, is removed first, but only where what is too much is removed.

mod removal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::{Entry, What};

use self::removal::{Removal, remove_here, remove_there};
use super::alike::{Like, like, there};
pub use super::place::Direction;
use super::transfer::{
    LocalEntry, Meter, Rights, Transfer, Walked, beneath, fetch_all, io_failure, is_beneath,
    send_all, set_here, set_there, walk,
};

/// What has to be done.
#[derive(Debug, Default)]
pub struct SyncPlan {
    /// What is sent to the server.
    send: Vec<LocalEntry>,
    /// What is fetched from it.
    fetch: Vec<(Entry, PathBuf)>,
    /// What is there and should not be, the innermost first.
    pub remove: Vec<Vec<u8>>,
    /// What is there and is of another kind than it should be.
    in_the_way: Vec<Vec<u8>>,
    /// What of that is on the server, as it was listed.
    listed: BTreeMap<Vec<u8>, Entry>,
    /// What has other rights, or a directory another time, than it should.
    differs: BTreeSet<Vec<u8>>,
    /// What all files and directories should have.
    rights: Vec<Rights>,
    /// Links and special files where it is taken from: they are left out.
    pub left_out: Vec<Vec<u8>>,
    /// How many files are the same.
    pub same: u64,
    /// What could not be read where it is taken from, and why: nobody knows what is in it.
    unread: Vec<(Vec<u8>, Failure)>,
    /// The directory itself is made.
    made: bool,
    /// Directories that are on both sides.
    both: BTreeSet<Vec<u8>>,
}

impl SyncPlan {
    /// The paths of what is sent or fetched, with sizes; directories end with `/`.
    pub fn transfers(&self) -> Vec<(String, u64)> {
        let sent = self.send.iter().map(|one| (display(&one.below, one.directory), one.size));
        let fetched = self
            .fetch
            .iter()
            .map(|(entry, _)| (display(&entry.path, entry.what == What::Directory), entry.size));
        sent.chain(fetched).collect()
    }

    /// The paths of what gets other rights, or of directories another time, and nothing else.
    pub fn set(&self) -> Vec<String> {
        self.differs.iter().map(|path| display(path, false)).collect()
    }

    /// Notes as missed what could not be read where it is taken from.
    pub fn note_unread(&self, meter: &Meter) {
        self.unread.iter().for_each(|(path, failure)| meter.miss(path, failure.clone()));
    }

    /// What is removed, where that is wanted.
    pub fn removed(&self) -> Vec<Vec<u8>> {
        self.in_the_way.iter().chain(&self.remove).cloned().collect()
    }
}

fn display(path: &[u8], directory: bool) -> String {
    let slash: &[u8] = if directory { b"/" } else { b"" };
    quote(&[path, slash].concat()).into_owned()
}

/// Finds out what has to be done. `by_content` compares hashes, which both sides compute.
pub async fn plan(
    transfer: &Transfer<'_>,
    direction: Direction,
    by_content: bool,
) -> Result<SyncPlan, Failure> {
    let listed = there(transfer, by_content).await?;
    let mut plan = SyncPlan::default();
    let walked = here(transfer, direction, &mut plan)?;
    // Links here, and what is neither file nor directory: nothing is written through them, nor in
    // their place.
    let mut odd = BTreeSet::new();
    match direction {
        Direction::Up => {
            plan.left_out = walked.left_out;
            plan.unread = walked.unread;
        }
        Direction::Down => {
            plan.unread.clone_from(&listed.unread);
            odd.extend(walked.left_out);
        }
    }
    let mut there = listed.by_path();
    let mut here: BTreeMap<Vec<u8>, LocalEntry> =
        walked.found.into_iter().map(|one| (one.below.clone(), one)).collect();
    plan.rights = match direction {
        Direction::Up => here.values().map(LocalEntry::rights).collect(),
        Direction::Down => there.values().filter(|entry| is_plain(entry)).map(rights_of).collect(),
    };
    for (path, entry) in &there {
        let mine = here.remove(path);
        let like = match &mine {
            Some(mine) => Some(like(mine, entry, by_content).await?),
            None => None,
        };
        if let (Some(Like::Same | Like::Rights), Some(mine)) = (like, &mine) {
            plan.same += u64::from(!mine.directory);
            if mine.directory {
                plan.both.insert(path.clone());
            }
            if like == Some(Like::Rights) {
                plan.differs.insert(path.clone());
            }
            continue;
        }
        let kept = direction == Direction::Down && !is_plain(entry);
        if (like == Some(Like::Nothing) || odd.contains(path)) && !kept {
            plan.in_the_way.push(path.clone());
        }
        match (direction, mine) {
            (Direction::Up, Some(mine)) => plan.send.push(mine),
            (Direction::Up, None) => plan.remove.push(path.clone()),
            (Direction::Down, _) if !kept => {
                plan.fetch.push((entry.clone(), beneath(&transfer.local, path)?));
            }
            (Direction::Down, _) => plan.left_out.push(path.clone()),
        }
    }
    match direction {
        Direction::Up => plan.send.extend(here.into_values()),
        Direction::Down => plan.remove = here.into_keys().collect(),
    }
    plan.settle();
    if direction == Direction::Up {
        let removed = plan.removed().into_iter();
        plan.listed = removed.filter_map(|path| there.remove_entry(&path)).collect();
    }
    Ok(plan)
}

/// What is here.
fn here(
    transfer: &Transfer<'_>,
    direction: Direction,
    plan: &mut SyncPlan,
) -> Result<Walked, Failure> {
    match std::fs::symlink_metadata(&transfer.local) {
        Ok(is) if is.is_dir() => walk(&transfer.local),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && direction == Direction::Down =>
        {
            plan.made = true;
            Ok(Walked::default())
        }
        Ok(_) => {
            let text = format!("{} is not a directory", transfer.local.display());
            Err(Failure::new(Kind::NotADirectory, text))
        }
        Err(error) => Err(io_failure(&transfer.local, &error)),
    }
}

fn is_plain(entry: &Entry) -> bool {
    matches!(entry.what, What::File | What::Directory)
}

fn rights_of(entry: &Entry) -> Rights {
    Rights { path: entry.path.0.clone(), mode: entry.mode & 0o777, modified: entry.modified }
}

impl SyncPlan {
    /// Puts it in order, and takes out of what is removed whatever may be at the source after all.
    fn settle(&mut self) {
        self.left_out.sort();
        let unknown: BTreeSet<_> = self.unread.iter().map(|(path, _)| path.clone()).collect();
        let left_out: BTreeSet<_> = self.left_out.iter().cloned().collect();
        let in_the_way = self.in_the_way.iter().cloned().collect();
        self.remove.retain(|path| {
            !left_out.contains(path)
                && !is_beneath(&left_out, path)
                && !is_beneath(&unknown, path)
                && !is_beneath(&in_the_way, path)
        });
        // What is in a directory goes before it.
        self.remove.sort_by(|one, other| other.cmp(one));
    }

    /// That what is only here is really not there.
    fn may_remove(&self, transfer: &Transfer<'_>) -> Result<(), Failure> {
        let nothing = self.remove.is_empty() && self.in_the_way.is_empty();
        if transfer.upward || nothing || self.unread.is_empty() {
            return Ok(());
        }
        let text = format!(
            "{} directories under {} cannot be read: what exists only here may exist there, too",
            self.unread.len(),
            transfer.remote.to_text()
        );
        Err(Failure::new(Kind::PermissionDenied, text).with_hint(
            "nothing was changed; leave out --delete, or let the agent's user read them",
        ))
    }

    /// Leaves what stands in the way, and says so; what it was to be replaced by is not
    /// transferred.
    fn leave_in_the_way(&mut self, transfer: &Transfer<'_>) {
        let left: BTreeSet<_> = std::mem::take(&mut self.in_the_way).into_iter().collect();
        for path in &left {
            let text = "something of another type is there";
            let failure = Failure::new(Kind::FileExists, text)
                .with_hint("--delete removes what is only there, and what is in the way");
            transfer.meter.miss(path, failure);
        }
        let stays = |path: &[u8]| left.contains(path) || is_beneath(&left, path);
        self.send.retain(|one| !stays(&one.below));
        self.fetch.retain(|(entry, _)| !stays(&entry.path));
        self.rights.retain(|one| !stays(&one.path));
    }

    /// Takes what gets its rights and time at the end: what differs, all that is new, and every
    /// directory in which something is done.
    fn take_rights(&mut self, removed: bool) -> Vec<Rights> {
        let mut touched = std::mem::take(&mut self.differs);
        let above =
            |path: &[u8]| path.iter().rposition(|&byte| byte == b'/').map(|at| path[..at].to_vec());
        let sent = self.send.iter().map(|one| (&one.below[..], one.directory));
        let fetched =
            self.fetch.iter().map(|(entry, _)| (&entry.path[..], entry.what == What::Directory));
        for (path, directory) in sent.chain(fetched) {
            touched.extend(above(path));
            if directory {
                touched.insert(path.to_vec());
            }
        }
        if removed {
            touched.extend(self.remove.iter().chain(&self.in_the_way).filter_map(|one| above(one)));
        }
        let mut rights = std::mem::take(&mut self.rights);
        rights.retain(|one| touched.contains(&one.path));
        rights
    }
}

/// Does what has to be done. What should not be there is removed only if `delete`. What cannot be
/// done is noted as missed.
///
/// # Errors
///
/// Those of the transfer, and `permission_denied`, before anything is done, where it is not known
/// what should not be there.
pub async fn carry_out(
    transfer: &Transfer<'_>,
    mut plan: SyncPlan,
    delete: bool,
) -> Result<(), Failure> {
    plan.note_unread(transfer.meter);
    match delete {
        true => plan.may_remove(transfer)?,
        false => plan.leave_in_the_way(transfer),
    }
    let rights = plan.take_rights(delete);
    // What is done in a directory may need more rights than it will have.
    let closed = |one: &&Rights| one.mode & 0o300 != 0o300 && plan.both.contains(&one.path);
    let opened: Vec<_> = rights.iter().filter(closed).map(Rights::with_owner_access).collect();
    let SyncPlan { send, fetch, remove, in_the_way, listed, made, .. } = plan;
    let remove = if delete { remove } else { Vec::new() };
    if transfer.upward {
        set_there(transfer, opened).await?;
        let removal = Removal { paths: &in_the_way, listed: &listed, with_all: true };
        remove_there(transfer, &removal).await?;
        if !send.is_empty() {
            send_all(transfer, send).await?;
        }
        let removal = Removal { paths: &remove, listed: &listed, with_all: false };
        remove_there(transfer, &removal).await?;
        return set_there(transfer, rights).await;
    }
    remove_here(transfer, &in_the_way, true)?;
    if !fetch.is_empty() || made {
        std::fs::create_dir_all(&transfer.local)
            .map_err(|error| io_failure(&transfer.local, &error))?;
        fetch_all(transfer, fetch).await?;
    }
    remove_here(transfer, &remove, false)?;
    let mut set = Vec::new();
    for rights in rights {
        let target = beneath(&transfer.local, &rights.path)?;
        // What could not be fetched has been said.
        if target.symlink_metadata().is_ok() {
            set.push((rights, target));
        }
    }
    set_here(transfer, set);
    Ok(())
}
