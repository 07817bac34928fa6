//! Removing one name, or a directory with everything in it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::RwLockReadGuard;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::draft::{changed_meanwhile, temporary};
use super::place::Place;
use super::root::Tree;
use super::stat::Stat;
use super::walk::step;
use crate::fault::fault;
use crate::path::Rel;

/// How many levels a removal descends: each holds a descriptor. Deeper directories are moved up
/// first.
const DEEP: usize = 400;

/// What the contents of a directory are removed for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Removal {
    /// Somebody has asked for it. It stops once nobody listens any more.
    Asked,
    /// Something else has taken the place of the directory. The removal goes on to the end.
    Replaced,
    /// The directory is a draft that others cannot reach by a name.
    Draft,
}

impl Removal {
    /// Whether others can reach the directory by a name. What they move out of it during the
    /// removal is then not removed.
    fn is_shared(self) -> bool {
        self != Self::Draft
    }
}

/// Why a removal stopped, and at which path relative to the directory being emptied.
#[derive(Debug)]
pub(super) struct Stopped {
    at: Vec<u8>,
    why: Why,
    /// Whether something had been removed before.
    partly: bool,
}

#[derive(Clone, Copy, Debug)]
enum Why {
    Failed(Errno),
    /// Something is mounted there, or it is in use.
    Mounted,
    /// The directory has been moved from where the descent found it.
    Moved,
    /// The directory was removed by somebody else. Nothing is left to be done.
    Gone,
    /// Nobody waits for the removal any more.
    Unheard,
    /// It is too deep and may not be moved up: the rules would no longer match what they protect in
    /// it.
    TooDeep,
}

impl From<Errno> for Why {
    fn from(error: Errno) -> Self {
        match error {
            Errno::BUSY | Errno::XDEV => Self::Mounted,
            error => Self::Failed(error),
        }
    }
}

impl Stopped {
    fn failure(self, path: &Rel) -> Failure {
        let at = path.join(&self.at);
        let mut failure = match self.why {
            Why::Failed(error) => fault(&at, error),
            Why::Mounted => fault(&at, Errno::BUSY),
            Why::Moved | Why::Gone => {
                let text = format!("{at} was moved while its content was being removed");
                Failure::new(Kind::ChangedMeanwhile, text)
            }
            Why::Unheard => {
                let text = format!("{at} and what follows it were not removed: nobody listens");
                Failure::new(Kind::Cancelled, text)
            }
            Why::TooDeep => {
                let text = format!("{path} is more than {DEEP} levels deep");
                Failure::new(Kind::TooLarge, text).with_hint("remove the deepest part of it first")
            }
        };
        if self.partly {
            failure.message.push_str("; some of the files beside it have been removed");
        }
        failure
    }

    /// The error number, for callers that show no message.
    pub(super) const fn errno(&self) -> Errno {
        match self.why {
            Why::Failed(error) => error,
            Why::Mounted | Why::Moved | Why::Gone | Why::Unheard | Why::TooDeep => Errno::BUSY,
        }
    }
}

impl Tree {
    /// Removes a file, a link itself, or an empty directory. With `recursive` also a directory that
    /// is not empty.
    pub fn remove(
        &self,
        path: &Rel,
        recursive: bool,
        revision: Option<u64>,
    ) -> Result<(), Failure> {
        let place = self.place_to_change(path)?;
        let name_lock = self.lock_name(&place);
        let stat = place.stat().map_err(|error| fault(path, error))?;
        let stat = stat.ok_or_else(|| fault(path, Errno::NOENT))?;
        if revision.is_some_and(|expected| expected != stat.revision) {
            return Err(changed_meanwhile(path));
        }
        if stat.what == What::Directory && recursive {
            // The location is checked on each level instead. A removal may take long, and must not
            // block others.
            drop(name_lock);
            return self.remove_at(&place, &stat, Some(Removal::Asked));
        }
        let _in_place = self.hold_in_place(&[&place])?;
        self.remove_at(&place, &stat, None)
    }

    /// Removes what stands at a place: of a directory all that is in it, or only an empty one.
    pub(super) fn remove_at(
        &self,
        place: &Place,
        stat: &Stat,
        contents: Option<Removal>,
    ) -> Result<(), Failure> {
        let failed = |error| fault(&place.path, error);
        if stat.what != What::Directory {
            return rustix::fs::unlinkat(&place.dir, &place.name[..], AtFlags::empty())
                .map_err(failed);
        }
        let mut partly = false;
        if let Some(removal) = contents {
            let real = self.real_of(place)?;
            partly = self
                .empty(place.dir.as_fd(), &place.name, &real, removal)
                .map_err(|stopped| stopped.failure(&place.path))?;
        }
        match rustix::fs::unlinkat(&place.dir, &place.name[..], AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if contents.is_none() => {
                // Leftovers of unfinished writes belong to nobody.
                self.sweep_all(place).map_err(failed)?;
                match rustix::fs::unlinkat(&place.dir, &place.name[..], AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) => Err(self.not_empty(place)),
                    other => other.map_err(failed),
                }
            }
            Err(error @ (Errno::NOTEMPTY | Errno::EXIST)) => {
                let mut failure = failed(error);
                if partly {
                    failure.message.push_str("; the rest of its content has been removed");
                }
                Err(failure.with_hint(
                    "what remains is hidden or protected by the server's owner, or was added meanwhile",
                ))
            }
            other => other.map_err(failed),
        }
    }

    /// The failure for a directory that is not empty, even if all its entries are hidden.
    fn not_empty(&self, place: &Place) -> Failure {
        let failure = fault(&place.path, Errno::NOTEMPTY);
        match self.has_only_leftovers(place) {
            Ok(true) => failure.with_hint(
                "it only contains data of interrupted transfers, which is removed after a day; remove it recursively if they are not to be resumed",
            ),
            _ => failure,
        }
    }

    /// Removes everything in a directory except what the rules hide or protect: the directories
    /// around that stay. Descends by handles, follows no link and enters no mount.
    ///
    /// Returns whether anything was removed.
    pub(super) fn empty(
        &self,
        above: BorrowedFd<'_>,
        name: &[u8],
        real: &Rel,
        removal: Removal,
    ) -> Result<bool, Stopped> {
        let mut emptying = Emptying { tree: self, removal, partly: false };
        let begun = Below { real: real.clone(), at: Vec::new(), top: None, level: 0 };
        match emptying.directory(above, name, begun) {
            Ok(()) => Ok(emptying.partly),
            Err((at, why)) => Err(Stopped { at, why, partly: emptying.partly }),
        }
    }
}

/// A directory that is being emptied.
struct Emptying<'a> {
    tree: &'a Tree,
    removal: Removal,
    partly: bool,
}

/// A directory inside the one being emptied.
struct Below<'a> {
    /// Its real path.
    real: Rel,
    /// Its path relative to the directory being emptied.
    at: Vec<u8>,
    /// The directory that what is too deep is moved up to.
    top: Option<BorrowedFd<'a>>,
    level: usize,
}

impl Below<'_> {
    fn path(&self, name: &[u8]) -> Vec<u8> {
        let slash: &[u8] = if self.at.is_empty() { b"" } else { b"/" };
        [&self.at, slash, name].concat()
    }
}

/// Where a removal stopped, and why.
type No = (Vec<u8>, Why);

impl<'a> Emptying<'a> {
    fn directory(
        &mut self,
        above: BorrowedFd<'_>,
        name: &[u8],
        mut below: Below<'_>,
    ) -> Result<(), No> {
        let no = |why: Errno| (below.at.clone(), Why::from(why));
        let dir = match step(above, name, OFlags::RDONLY | OFlags::DIRECTORY, false) {
            Err(Errno::NOENT) if below.level > 0 => return Ok(()),
            dir => dir.map_err(no)?,
        };
        let found = self.tree.location(&dir);
        match found {
            Ok(Some(now))
                if below.level == 0
                    || !self.removal.is_shared()
                    || now == below.real
                    // The rules match names as they are listed.
                    || !self.tree.protects_anything()
                        && is_alias(above, name, &dir, &now, &below.real) =>
            {
                below.real = now;
            }
            Ok(_) if below.level > 0 && is_gone(&dir) => return Ok(()),
            Ok(_) => return Err((below.at, Why::Moved)),
            // The kernel cannot report a path this long. Trust the path that the descent took.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NAMETOOLONG) => {}
            Err(_) if self.tree.protects_anything() => return Err(no(Errno::NOENT)),
            Err(_) => {}
        }
        if !self.removal.is_shared() {
            // A directory may lack write permission for its owner. If this fails, the removal
            // reports it.
            let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
        }
        let mut names = Dir::new(dir).map_err(no)?;
        // On some file systems, removing entries makes a running listing skip others.
        loop {
            match self.pass(&mut names, &below) {
                Ok(true) => names.rewind(),
                Ok(false) => return Ok(()),
                Err((_, Why::Gone)) if below.level > 0 => return Ok(()),
                Err(no) => return Err(no),
            }
        }
    }

    /// Keeps directories from moving, after checking that this one is still where it was.
    fn hold_in_place(
        &self,
        held: BorrowedFd<'_>,
        real: &Rel,
    ) -> Result<Option<RwLockReadGuard<'a, ()>>, Why> {
        if !self.removal.is_shared() {
            return Ok(None);
        }
        let guard = self.tree.forbid_moves();
        match self.tree.location(&held) {
            Ok(now) if now.as_ref() == Some(real) => Ok(Some(guard)),
            Ok(_) if is_gone(&held) => Err(Why::Gone),
            Ok(_) => Err(Why::Moved),
            Err(_) => Ok(Some(guard)),
        }
    }

    /// Moves a directory up to the top of the removal, where the next pass finds it.
    fn move_up(&self, dir: BorrowedFd<'_>, name: &[u8], top: BorrowedFd<'_>) -> Result<(), Why> {
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            done => return Ok(done?),
        }
        if self.tree.protects_anything() {
            return Err(Why::TooDeep);
        }
        let up = temporary().map_err(|_| Errno::IO)?;
        Ok(rustix::fs::renameat(dir, name, top, &up[..])?)
    }

    /// Lists a directory once and removes its entries. Returns whether anything was removed.
    fn pass(&mut self, names: &mut Dir, below: &Below<'_>) -> Result<bool, No> {
        let mut removed = false;
        while let Some(entry) = names.next() {
            let entry = entry.map_err(|error| (below.at.clone(), Why::from(error)))?;
            let name = entry.file_name().to_bytes();
            let real = below.real.join(name);
            if name == b"." || name == b".." || self.tree.is_protected(&real) {
                continue;
            }
            let no = |why: Why| (below.path(name), why);
            if self.removal == Removal::Asked && self.tree.listener.check().is_err() {
                return Err(no(Why::Unheard));
            }
            let held = names.fd().map_err(|error| no(error.into()))?;
            let (dir, top) = (held, below.top.unwrap_or(held));
            {
                let _in_place = self.hold_in_place(held, &below.real).map_err(no)?;
                match remove_one(dir, name) {
                    Ok(true) => {
                        (removed, self.partly) = (true, true);
                        continue;
                    }
                    Ok(false) => {}
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(no(error.into())),
                }
                if below.level >= DEEP {
                    self.move_up(dir, name, top).map_err(no)?;
                    removed = true;
                    continue;
                }
            }
            let (at, level) = (below.path(name), below.level + 1);
            self.directory(dir, name, Below { real, at, top: Some(top), level })?;
            let _in_place = self.hold_in_place(held, &below.real).map_err(no)?;
            match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) => (removed, self.partly) = (true, true),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(no(error.into())),
            }
        }
        Ok(removed)
    }
}

/// Whether somebody else has removed the directory.
fn is_gone(held: &impl AsFd) -> bool {
    rustix::fs::fstat(held).is_ok_and(|stat| stat.st_nlink == 0)
}

/// Whether the kernel knows a directory by another spelling of its name, as on case-insensitive
/// file systems.
fn is_alias(
    above: BorrowedFd<'_>,
    name: &[u8],
    held: &impl AsFd,
    now: &Rel,
    expected: &Rel,
) -> bool {
    let parent = |path: &Rel| path.split().map(|(parent, _)| parent);
    let beside = parent(now) == parent(expected);
    let there = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW);
    let same = |found: rustix::fs::Stat| {
        let is = rustix::fs::fstat(held);
        is.is_ok_and(|is| (is.st_dev, is.st_ino) == (found.st_dev, found.st_ino))
    };
    beside && there.is_ok_and(same)
}

/// Removes a name unless it is a directory. Returns whether it was removed.
fn remove_one(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // Some systems return this for a directory, and all of them for what may not be removed.
        Err(Errno::PERM) => {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match Stat::new(&stat).what {
                What::Directory => Ok(false),
                _ => Err(Errno::PERM),
            }
        }
        Err(error) => Err(error),
    }
}
