//! Removes leftovers of work that broke off, once they are old, when a listing comes across them.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farwire_protocol::streams::files::What;
use rustix::fs::{AtFlags, Dir, FlockOperation, OFlags};
use rustix::io::Errno;

use super::place::Place;
use super::remove::Removal;
use super::root::Tree;
use super::stat::Stat;
use super::walk::step;
use crate::path::{HIDDEN, Rel};

/// The age at which an unfinished file is removed, counted from the last write to it.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Locks a directory that is being built aside, so that no sweep removes it however long that
/// takes. The lock ends with the process.
pub(super) fn hold(directory: BorrowedFd<'_>) {
    // On file systems without locks, its age has to do.
    let _ = rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive);
}

impl Tree {
    /// Removes a leftover with this name, in the directory at `above`, if it is old enough.
    pub(super) fn sweep(&self, dir: BorrowedFd<'_>, above: &Rel, name: &[u8], now: SystemTime) {
        // A `was-` name is a directory that stepped aside, and may be the only copy of it.
        let unfinished = name.strip_prefix(HIDDEN).is_some_and(|kind| !kind.starts_with(b"was-"));
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Not `mtime`: a draft gets that of its content before it gets its name.
        let age = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(stat.st_ctime);
        if !unfinished || age <= i64::try_from(STALE.as_secs()).unwrap_or(i64::MAX) {
            return;
        }
        // Another process may have removed it.
        let _ = match Stat::new(&stat).what {
            What::File | What::Link => rustix::fs::unlinkat(dir, name, AtFlags::empty()),
            What::Directory => self.sweep_directory(dir, above, name),
            What::Other => Ok(()),
        };
    }

    fn sweep_directory(&self, dir: BorrowedFd<'_>, above: &Rel, name: &[u8]) -> Result<(), Errno> {
        let directory = step(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, false)?;
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
        let emptied = self.empty(dir, name, &above.join(name), Removal::Draft);
        emptied.map_err(|stopped| stopped.errno())?;
        rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
    }

    /// Whether a directory contains nothing but leftovers of transfers. What stepped aside does not
    /// count as a leftover.
    pub(super) fn has_only_leftovers(&self, place: &Place) -> Result<bool, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let names = Dir::new(step(place.dir.as_fd(), &place.name, flags, true)?)?;
        for entry in names {
            let name = entry?.file_name().to_bytes().to_vec();
            let left = name.strip_prefix(HIDDEN).is_some_and(|kind| !kind.starts_with(b"was-"));
            if name != b"." && name != b".." && !left {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes old leftovers from a directory.
    pub(super) fn sweep_all(&self, place: &Place) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut names = Dir::new(step(place.dir.as_fd(), &place.name, flags, true)?)?;
        let real = self.real_of(place).map_err(|_| Errno::NOENT)?;
        while let Some(entry) = names.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            self.sweep(names.fd()?, &real, name, SystemTime::now());
        }
        Ok(())
    }
}
