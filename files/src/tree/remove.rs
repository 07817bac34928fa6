//! Removing: one name, or a directory with all that is in it.

use std::os::fd::{AsFd as _, BorrowedFd};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;
use rustix::fs::{AtFlags, Dir, OFlags};
use rustix::io::Errno;

use super::draft::{changed, temporary};
use super::walk::step;
use super::{Place, Stat, Tree};
use crate::fault::fault;
use crate::path::Rel;

/// So many levels are gone down at once: each holds a descriptor. What is deeper is moved up first.
const DEEP: usize = 400;

/// What is deeper may not be moved up: the rules would not find what they keep in it.
/// No call that removes gives this error.
const TOO_DEEP: Errno = Errno::HWPOISON;

impl Tree {
    /// Removes a file, a link itself, or a directory: one that is not empty only if `recursive`.
    pub fn remove(
        &self,
        path: &Rel,
        recursive: bool,
        revision: Option<u64>,
    ) -> Result<(), Failure> {
        let place = self.place_to_change(path)?;
        let _lane = self.lane(&place);
        let stat = place.stat().map_err(|error| fault(path, error))?;
        let stat = stat.ok_or_else(|| fault(path, Errno::NOENT))?;
        if revision.is_some_and(|expected| expected != stat.revision) {
            return Err(changed(path));
        }
        if stat.what == What::Directory && recursive {
            // Where it is, is looked at on each level: much may be beneath it.
            return self.remove_at(&place, &stat, true);
        }
        let _settled = self.settled(&[&place])?;
        self.remove_at(&place, &stat, false)
    }

    /// Removes what stands at a place.
    pub(super) fn remove_at(
        &self,
        place: &Place,
        stat: &Stat,
        recursive: bool,
    ) -> Result<(), Failure> {
        let failed = |error| fault(&place.path, error);
        if stat.what != What::Directory {
            return rustix::fs::unlinkat(&place.dir, &place.name[..], AtFlags::empty())
                .map_err(failed);
        }
        if recursive {
            let real = self.real_of(place)?;
            self.empty(place.dir.as_fd(), &place.name, &real).map_err(|error| match error {
                TOO_DEEP => {
                    let text = format!("{} has more than {DEEP} levels", place.path);
                    Failure::new(Kind::TooLarge, text).with_hint("remove what is deep in it first")
                }
                error => failed(error),
            })?;
        }
        match rustix::fs::unlinkat(&place.dir, &place.name[..], AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if !recursive => {
                // What is left of files that never became whole is nobody's.
                self.sweep_all(place).map_err(failed)?;
                match rustix::fs::unlinkat(&place.dir, &place.name[..], AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) => Err(self.not_empty(place)),
                    other => other.map_err(failed),
                }
            }
            other => other.map_err(failed),
        }
    }

    /// Why a directory is not removed that is not empty, be it only for what nobody sees.
    fn not_empty(&self, place: &Place) -> Failure {
        let failure = fault(&place.path, Errno::NOTEMPTY);
        match self.shows_nothing(place) {
            Ok(true) => failure.with_hint(
                "all that is in it is left of transfers that were broken off, and is removed after a day; remove it with all that is in it if they are not to go on",
            ),
            _ => failure,
        }
    }

    /// Removes all that is in a directory, but for what the rules hide or keep: then the directory stays
    /// around it. Goes down by handles, follows no link and enters nothing that is mounted.
    pub(super) fn empty(
        &self,
        above: BorrowedFd<'_>,
        name: &[u8],
        real: &Rel,
    ) -> Result<(), Errno> {
        self.empty_below(above, name, (real, None, 0))
    }

    /// The same so many levels down from a directory.
    fn empty_below(
        &self,
        above: BorrowedFd<'_>,
        name: &[u8],
        (real, top, level): (&Rel, Option<BorrowedFd<'_>>, usize),
    ) -> Result<(), Errno> {
        let dir = step(above, name, OFlags::RDONLY | OFlags::DIRECTORY, false);
        let dir = dir.map_err(|error| if error == Errno::XDEV { Errno::NODEV } else { error })?;
        let real = match self.location(&dir) {
            // It may have been moved since.
            Ok(now) if self.has_an_owner() => &now.ok_or(Errno::NOENT)?,
            // The kernel cannot say a path that is longer: it is where the way down has led.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NAMETOOLONG) => real,
            Err(_) if self.has_an_owner() => return Err(Errno::NOENT),
            _ => real,
        };
        let mut names = Dir::new(dir)?;
        // What is removed while it is read may have a file system pass over something else.
        while self.pass(&mut names, (real, top, level))? {
            names.rewind();
        }
        Ok(())
    }

    /// Moves a directory to the top of what is removed, where the next pass finds it.
    fn move_up(&self, dir: BorrowedFd<'_>, name: &[u8], top: BorrowedFd<'_>) -> Result<(), Errno> {
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            // Something is mounted there.
            Err(Errno::BUSY) => return Err(Errno::NODEV),
            done => return done,
        }
        if self.has_an_owner() {
            return Err(TOO_DEEP);
        }
        let up = temporary().map_err(|_| Errno::IO)?;
        rustix::fs::renameat(dir, name, top, &up[..]).map_err(|error| match error {
            Errno::XDEV | Errno::BUSY => Errno::NODEV,
            error => error,
        })
    }

    /// Reads a directory through once, and removes what it finds. Says whether there was something.
    fn pass(
        &self,
        names: &mut Dir,
        (real, top, level): (&Rel, Option<BorrowedFd<'_>>, usize),
    ) -> Result<bool, Errno> {
        let mut removed = false;
        while let Some(entry) = names.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let real = real.join(name);
            if name == b"." || name == b".." || self.is_the_owners(&real) {
                continue;
            }
            let dir = names.fd()?;
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Ok(()) => {
                    removed = true;
                    continue;
                }
                Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                // Something is mounted there.
                Err(Errno::BUSY) => return Err(Errno::NODEV),
                Err(error) => return Err(error),
            }
            let top = top.unwrap_or(dir);
            if level >= DEEP {
                self.move_up(dir, name, top)?;
                removed = true;
                continue;
            }
            self.empty_below(dir, name, (&real, Some(top), level + 1))?;
            match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) => removed = true,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}
