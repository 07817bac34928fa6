//! Moving. A name that is replaced always leads to the old file or the new one.

use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, BorrowedFd};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::draft::{changed_meanwhile, rename, set_aside, temporary};
use super::place::Place;
use super::remove::Removal;
use super::root::Tree;
use super::stat::Stat;
use super::walk::EVERYTHING;
use crate::fault::fault;
use crate::path::Rel;

impl Tree {
    /// Moves a file, a directory or a link itself.
    pub fn rename(&self, from: &Rel, to: &Rel, overwrite: bool) -> Result<(), Failure> {
        self.rename_if(from, to, overwrite, None)
    }

    /// Like [`Self::rename`], but only if the source has this revision.
    pub fn rename_if(
        &self,
        from: &Rel,
        to: &Rel,
        overwrite: bool,
        revision: Option<u64>,
    ) -> Result<(), Failure> {
        check_apart(from, to)?;
        let source = self.place_to_change(from)?;
        let place = self.place_to_change(to)?;
        let name_locks = self.lock_names(&source, &place);
        let stat = source.stat().map_err(|error| fault(from, error))?;
        let stat = stat.ok_or_else(|| fault(from, Errno::NOENT))?;
        if revision.is_some_and(|expected| expected != stat.revision) {
            return Err(changed_meanwhile(from));
        }
        let before = place.stat().map_err(|error| fault(to, error))?;
        if before.is_some() && !overwrite {
            return Err(fault(to, Errno::EXIST));
        }
        let is_directory = |stat: &Stat| stat.what == What::Directory;
        let moved = if is_directory(&stat) || before.as_ref().is_some_and(is_directory) {
            self.move_directory(&source, &stat, &place, before.as_ref())?
        } else {
            let _in_place = self.hold_in_place(&[&source, &place])?;
            move_file(&source, &place, before.is_some()).map(|()| None)
        };
        drop(name_locks);
        match moved {
            Ok(old) => {
                old.iter().for_each(|old| self.discard(old));
                Ok(())
            }
            // The destination is on another file system, mounted beneath the root.
            Err(Errno::XDEV) => self.move_by_copying(&source, &stat, to, overwrite),
            Err(error) => Err(fault(to, error)),
        }
    }

    /// Moves or replaces a directory. Returns what was replaced.
    fn move_directory(
        &self,
        source: &Place,
        stat: &Stat,
        place: &Place,
        before: Option<&Stat>,
    ) -> Result<Result<Option<Place>, Errno>, Failure> {
        let _moving = self.begin_move(&[source, place])?;
        // Without `/proc` only the paths that were asked for are compared.
        let real = self.location(&source.dir).ok().flatten().map(|dir| dir.join(&source.name));
        self.check_apart_resolved(real, place)?;
        if stat.what == What::Directory {
            self.check_nothing_protected(source)?;
            self.check_brings_nothing_protected(source, place)?;
        }
        if before.is_some_and(|stat| stat.what == What::Directory) {
            self.check_nothing_protected(place)?;
        }
        Ok(replace(source, place, before.is_some()))
    }

    /// Copies the source, then removes it if it has not changed.
    fn move_by_copying(
        &self,
        source: &Place,
        stat: &Stat,
        to: &Rel,
        overwrite: bool,
    ) -> Result<(), Failure> {
        let from = &source.path;
        let state = RandomState::new();
        let before = self.check_copyable(from, stat, &state)?;
        self.copy_whole(from, to, overwrite)?;
        let removed = self.remove_copied(source, stat, before, &state);
        // The old destination is gone, and the copy is in its place.
        removed.map_err(|failure| {
            let text =
                format!("{from} was copied to {to}, but may not have been removed: {failure}");
            Failure::new(Kind::OutcomeUnknown, text).with_hint("look at both before you go on")
        })
    }

    /// Removes the source of a copy if it is still as it was before.
    fn remove_copied(
        &self,
        source: &Place,
        stat: &Stat,
        before: u64,
        state: &RandomState,
    ) -> Result<(), Failure> {
        let from = &source.path;
        let name_lock = self.lock_name(source);
        let now = source.stat().map_err(|error| fault(from, error))?;
        let same = now.is_some_and(|now| now.revision == stat.revision);
        // Removing a directory may take long, and must not block others.
        let _name_lock = (stat.what != What::Directory).then_some(name_lock);
        if !same || self.check_copyable(from, stat, state)? != before {
            return Err(changed_meanwhile(from));
        }
        self.remove_at(source, stat, Some(Removal::Asked))
    }

    /// Refuses a source of which a copy would leave something out, since that would be lost.
    /// Returns a fingerprint that changes when anything beneath the source changes.
    pub(super) fn check_copyable(
        &self,
        path: &Rel,
        stat: &Stat,
        state: &RandomState,
    ) -> Result<u64, Failure> {
        match stat.what {
            What::File => return Ok(stat.revision),
            What::Link | What::Other => return Err(not_movable(path)),
            What::Directory => {}
        }
        let mut all = 0_u64;
        let skipped = self.walk(path, EVERYTHING, &mut |visited| {
            self.listener.check_after_name()?;
            let stat = visited.stat().ok().flatten().ok_or_else(|| not_movable(path))?;
            all = all.wrapping_add(state.hash_one((visited.at.as_bytes(), stat.revision)));
            match stat.what {
                What::Directory => Ok(true),
                What::File => Ok(false),
                What::Link | What::Other => Err(not_movable(path)),
            }
        })?;
        if skipped > 0 { Err(not_movable(path)) } else { Ok(all) }
    }

    /// A hidden name beside this place.
    pub(super) fn beside(&self, place: &Place) -> Result<Place, Failure> {
        let dir = place.dir.try_clone().map_err(|_| fault(&place.path, Errno::MFILE))?;
        Ok(Place { name: temporary()?, dir, path: place.path.clone() })
    }

    /// Removes something under a hidden name. If that fails, it stays hidden.
    pub(super) fn discard(&self, place: &Place) {
        if let Ok(Some(stat)) = place.stat() {
            let _ = self.remove_at(place, &stat, Some(Removal::Replaced));
        }
    }

    /// Like [`Self::discard`], for a draft, which is removed whatever its permissions are.
    pub(super) fn discard_draft(&self, place: &Place) {
        if let Ok(real) = self.real_of(place) {
            // This fails for a file, which has no entries to remove.
            let _ = self.empty(place.dir.as_fd(), &place.name, &real, Removal::Draft);
        }
        self.discard(place);
    }

    /// Refuses a destination that resolves to the source, into it, or to a directory around it.
    pub(super) fn check_apart_resolved(
        &self,
        from: Option<Rel>,
        to: &Place,
    ) -> Result<(), Failure> {
        let there = self.location(&to.dir).ok().flatten().map(|dir| dir.join(&to.name));
        let (Some(from), Some(there)) = (from, there) else { return Ok(()) };
        if there.beneath(&from).is_some() || from.beneath(&there).is_some() {
            let text =
                format!("{} is the same as what is moved, inside it, or contains it", to.path);
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        Ok(())
    }
}

/// Moves a file or link to a place without a directory.
fn move_file(source: &Place, place: &Place, replaces: bool) -> Result<(), Errno> {
    let (from, to) = ((&source.dir, &source.name[..]), (&place.dir, &place.name[..]));
    if replaces {
        return rustix::fs::renameat(from.0, from.1, to.0, to.1);
    }
    match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(from.0, from.1, to.0, to.1),
        other => other,
    }
}

/// Moves a directory, or replaces one. Returns what was replaced, under a hidden name.
///
/// An error means that both names are as before: whatever can fail is prepared before the exchange,
/// and a failure after it is undone.
pub(super) fn replace(
    source: &Place,
    place: &Place,
    replaces: bool,
) -> Result<Option<Place>, Errno> {
    if !replaces {
        return move_file(source, place, false).map(|()| None);
    }
    let old = hidden_beside(source)?;
    let (from, to) = ((&source.dir, &source.name[..]), (&place.dir, &place.name[..]));
    // Both names lead to something at every moment, even if the process is killed.
    match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS) => return step_aside(source, place).map(Some),
        Err(error) => return Err(error),
    }
    match rename(source.dir.as_fd(), &source.name, &old.name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Some(old)),
        Err(error) => {
            // If this fails too, both still exist, each under the name of the other.
            let _ = rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::EXCHANGE);
            Err(error)
        }
    }
}

/// Replaces on a file system that cannot exchange names. Until the replacement is in place, the old
/// directory has a name that a sweep does not remove.
fn step_aside(source: &Place, place: &Place) -> Result<Place, Errno> {
    let mut old = hidden_beside(place)?;
    let aside = set_aside().map_err(|_| Errno::IO)?;
    let dir = place.dir.as_fd();
    rename(dir, &place.name, &aside, RenameFlags::NOREPLACE)?;
    let moved = rustix::fs::renameat(&source.dir, &source.name[..], dir, &place.name[..]);
    if let Err(error) = moved {
        rename(dir, &aside, &place.name, RenameFlags::NOREPLACE)?;
        return Err(error);
    }
    // The replacement is in place, so this succeeds whatever becomes of the old directory.
    old.name = make_sweepable(dir, aside, old.name);
    Ok(old)
}

/// Renames what stepped aside so that a sweep removes it even if this process does not. Returns the
/// name that it has in the end, which is the old one if no rename succeeds.
pub(super) fn make_sweepable(dir: BorrowedFd<'_>, aside: Vec<u8>, hidden: Vec<u8>) -> Vec<u8> {
    let succeeds = |to: &[u8]| rename(dir, &aside, to, RenameFlags::NOREPLACE).is_ok();
    if succeeds(&hidden) {
        return hidden;
    }
    match temporary() {
        Ok(fresh) if succeeds(&fresh) => fresh,
        _ => aside,
    }
}

/// A hidden name in the directory of a place.
fn hidden_beside(place: &Place) -> Result<Place, Errno> {
    let name = temporary().map_err(|_| Errno::IO)?;
    let dir = place.dir.try_clone().map_err(|_| Errno::MFILE)?;
    Ok(Place { name, dir, path: place.path.clone() })
}

/// Refuses a destination that is the source, in it, or around it.
pub(super) fn check_apart(from: &Rel, to: &Rel) -> Result<(), Failure> {
    if from.is_root() || to.is_root() {
        return Err(super::root::root_stays(from));
    }
    if to.beneath(from).is_some() || from.beneath(to).is_some() {
        let text = format!("{to} is the same as {from}, inside it, or contains it");
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    Ok(())
}

pub(super) fn not_movable(path: &Rel) -> Failure {
    let text =
        format!("{path} is or contains something that cannot be moved to another file system");
    Failure::new(Kind::Unsupported, text)
        .with_hint("symbolic links and special files stay where they are")
}
