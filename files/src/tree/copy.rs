//! Copying and moving. What is replaced stays until what replaces it is whole, and comes back on failure.

use std::os::fd::AsFd as _;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{DEPTH_LIMIT, How, What};
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::content::copy_one;
use super::draft::{copy_attributes, rename, temporary};
use super::{Listing, Place, Room, Stat, Tree, Wanted};
use crate::fault::fault;
use crate::path::Rel;

/// What a copy came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Links, and what is neither file nor directory: left out.
    pub skipped: u64,
}

impl Tree {
    /// Copies a file, or a directory with all that is in it if `recursive`.
    pub fn copy(
        &self,
        (from, to): (&Rel, &Rel),
        overwrite: bool,
        recursive: bool,
    ) -> Result<Copied, Failure> {
        apart(from, to)?;
        let stat = self.stat(from)?;
        match stat.what {
            What::File => self.copy_file(from, to, overwrite),
            What::Directory if recursive => self.copy_directory((from, to), overwrite, true),
            What::Directory => Err(fault(from, Errno::ISDIR)
                .with_hint("say that it is to be copied with all that is in it")),
            What::Link | What::Other => Err(fault(from, Errno::NXIO)),
        }
    }

    /// The same, but a file may replace a directory.
    pub fn copy_over(&self, (from, to): (&Rel, &Rel), overwrite: bool) -> Result<Copied, Failure> {
        apart(from, to)?;
        let in_the_way = |stat: Option<Stat>| stat.is_some_and(|stat| stat.what == What::Directory);
        let place = self.place_to_change(to)?;
        let before = place.stat().map_err(|error| fault(to, error))?;
        let stat = self.stat(from)?;
        if !overwrite || stat.what != What::File || !in_the_way(before) {
            return self.copy((from, to), overwrite, true);
        }
        self.holds_nothing_hidden(to)?;
        let (file, stat) = self.open(from)?;
        let aside = self.beside(&place)?;
        let mut room = Room::new(&self.rules, 0);
        let copied = copy_one((&file, &stat), (&aside.dir, &aside.name), (to, &mut room));
        let copied = copied.and_then(|bytes| {
            self.swap_in(&aside, &place, before.as_ref())?;
            Ok(Copied { files: 1, bytes, skipped: 0 })
        });
        if copied.is_err() {
            self.discard(&aside);
        }
        copied
    }

    /// Copies a directory itself, with what was said of it and nothing that is in it.
    pub fn copy_shallow(&self, (from, to): (&Rel, &Rel), overwrite: bool) -> Result<(), Failure> {
        apart(from, to)?;
        self.copy_directory((from, to), overwrite, false).map(|_| ())
    }

    /// A place beside this one that nobody sees.
    fn beside(&self, place: &Place) -> Result<Place, Failure> {
        let dir = place.dir.try_clone().map_err(|_| fault(&place.path, Errno::MFILE))?;
        Ok(Place { name: temporary()?, dir, path: place.path.clone() })
    }

    fn copy_file(&self, from: &Rel, to: &Rel, overwrite: bool) -> Result<Copied, Failure> {
        let (file, stat) = self.open(from)?;
        // A directory in the way is replaced as a whole, and not written to.
        if overwrite
            && self
                .place(to)?
                .stat()
                .is_ok_and(|stat| stat.is_some_and(|stat| stat.what == What::Directory))
        {
            return Err(fault(to, Errno::ISDIR));
        }
        let how = if overwrite { How::Put } else { How::Create };
        let wanted =
            Wanted { how, mode: Some(stat.mode & 0o777), durable: false, ..Wanted::default() };
        let mut draft = self.draft(to, wanted)?;
        let bytes = draft.copy(&file, &stat)?;
        // A file system without attributes has none to copy.
        let _ = copy_attributes(&file, draft.file());
        draft.commit()?;
        Ok(Copied { files: 1, bytes, skipped: 0 })
    }

    fn copy_directory(
        &self,
        (from, to): (&Rel, &Rel),
        overwrite: bool,
        content: bool,
    ) -> Result<Copied, Failure> {
        let place = self.place_to_change(to)?;
        let failed = |error| fault(to, error);
        let before = place.stat().map_err(failed)?;
        if before.is_some() && !overwrite {
            return Err(failed(Errno::EXIST));
        }
        if before.is_some_and(|stat| stat.what == What::Directory) {
            self.holds_nothing_hidden(to)?;
        }
        let listing = self.list(from)?;
        let real = self.real_of(&place)?;
        let aside = self.beside(&place)?;
        rustix::fs::mkdirat(&aside.dir, &aside.name[..], Mode::from_raw_mode(0o700))
            .map_err(failed)?;
        let built = self
            .stat(from)
            .and_then(|stat| self.build(listing, (&aside, real), stat.mode, content));
        let built =
            built.and_then(|copied| self.swap_in(&aside, &place, before.as_ref()).map(|()| copied));
        if built.is_err() {
            self.discard(&aside);
        }
        built
    }

    /// Copies the content of a directory, or only what was said of it, into a new one that will be at `real`.
    fn build(
        &self,
        from: Listing<'_>,
        (aside, real): (&Place, Rel),
        mode: u32,
        content: bool,
    ) -> Result<Copied, Failure> {
        let failed = |error| fault(&aside.path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = rustix::fs::openat(&aside.dir, &aside.name[..], flags, Mode::empty())
            .map_err(failed)?;
        let (mut copied, mut room) = (Copied::default(), Room::new(&self.rules, 0));
        let mut waiting = vec![(from, (top, real), mode, 1)];
        while let Some((mut from, (to, real), mode, depth)) = waiting.pop() {
            let mut deeper = None;
            while let Some(listed) = content.then(|| from.next()).flatten() {
                let listed = listed?;
                let there = real.join(&listed.name);
                if self.is_the_owners(&there) {
                    return Err(owners(&aside.path));
                }
                let Some(stat) = from.stat(&listed.name) else { continue };
                match stat.what {
                    What::File => match from.open(&listed.name) {
                        Ok(file) => {
                            let bounds = (&aside.path, &mut room);
                            copied.bytes += copy_one((&file, &stat), (&to, &listed.name), bounds)?;
                            copied.files += 1;
                        }
                        Err(Errno::NOENT) => {}
                        Err(Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::XDEV) => {
                            copied.skipped += 1;
                        }
                        Err(error) => return Err(failed(error)),
                    },
                    What::Directory if depth < DEPTH_LIMIT => {
                        let Some(next) = from.down(&listed.name).map_err(failed)? else {
                            copied.skipped += 1;
                            continue;
                        };
                        rustix::fs::mkdirat(&to, &listed.name[..], Mode::from_raw_mode(0o700))
                            .map_err(failed)?;
                        let made = rustix::fs::openat(&to, &listed.name[..], flags, Mode::empty());
                        let made = (made.map_err(failed)?, there);
                        deeper = Some((next, made, stat.mode, depth + 1));
                        break;
                    }
                    What::Directory => return Err(failed(Errno::NAMETOOLONG)),
                    What::Link | What::Other => copied.skipped += 1,
                }
            }
            match deeper {
                // One way down is open at a time: as many descriptors as levels.
                Some(deeper) => {
                    waiting.push((from, (to, real), mode, depth));
                    waiting.push(deeper);
                }
                None => {
                    from.copy_attributes(&to);
                    let mode = Mode::from_raw_mode(mode & 0o777 | 0o700);
                    rustix::fs::fchmod(&to, mode).map_err(failed)?;
                }
            }
        }
        Ok(copied)
    }

    /// Puts what stands aside into its place, and removes what was there.
    fn swap_in(&self, aside: &Place, place: &Place, before: Option<&Stat>) -> Result<(), Failure> {
        let failed = |error| fault(&place.path, error);
        let dir = place.dir.as_fd();
        if before.is_none() {
            return rename(dir, &aside.name, &place.name, RenameFlags::NOREPLACE).map_err(failed);
        }
        match rustix::fs::renameat_with(
            dir,
            &aside.name[..],
            dir,
            &place.name[..],
            RenameFlags::EXCHANGE,
        ) {
            Ok(()) => {
                self.discard(aside);
                return Ok(());
            }
            Err(Errno::INVAL | Errno::NOSYS) => {}
            Err(error) => return Err(failed(error)),
        }
        let old = temporary()?;
        rename(dir, &place.name, &old, RenameFlags::NOREPLACE).map_err(failed)?;
        if let Err(error) = rename(dir, &aside.name, &place.name, RenameFlags::NOREPLACE) {
            rename(dir, &old, &place.name, RenameFlags::NOREPLACE).map_err(failed)?;
            return Err(failed(error));
        }
        self.discard(&Place {
            name: old,
            dir: place.dir.try_clone().map_err(|_| failed(Errno::MFILE))?,
            path: place.path.clone(),
        });
        Ok(())
    }

    /// Removes what nobody sees. What cannot be removed stays unseen.
    fn discard(&self, place: &Place) {
        if let Ok(Some(stat)) = place.stat() {
            let _ = self.remove_at(place, &stat, true);
        }
    }

    /// Moves what stands at one path, a link itself, to another.
    pub fn rename(&self, from: &Rel, to: &Rel, overwrite: bool) -> Result<(), Failure> {
        apart(from, to)?;
        let source = self.place_to_change(from)?;
        let place = self.place_to_change(to)?;
        let stat = source.stat().map_err(|error| fault(from, error))?;
        let stat = stat.ok_or_else(|| fault(from, Errno::NOENT))?;
        let before = place.stat().map_err(|error| fault(to, error))?;
        if before.is_some() && !overwrite {
            return Err(fault(to, Errno::EXIST));
        }
        if stat.what == What::Directory {
            self.holds_nothing_hidden(from)?;
            self.brings_nothing_hidden(from, &self.real_of(&place)?)?;
        }
        if before.is_some_and(|stat| stat.what == What::Directory) {
            self.holds_nothing_hidden(to)?;
        }
        match self.rename_places(&source, &place, before.as_ref()) {
            // Another file system, mounted beneath the root.
            Err(Errno::XDEV) => {
                self.survives_copying(from, &stat)?;
                self.copy((from, to), overwrite, true)?;
                self.remove_at(&source, &stat, true)
            }
            other => other.map_err(|error| fault(to, error)),
        }
    }

    fn rename_places(
        &self,
        source: &Place,
        place: &Place,
        before: Option<&Stat>,
    ) -> Result<(), Errno> {
        let (from, to) = ((&source.dir, &source.name[..]), (&place.dir, &place.name[..]));
        let Some(before) = before else {
            let flags = RenameFlags::NOREPLACE;
            return match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, flags) {
                Err(Errno::INVAL | Errno::NOSYS) => {
                    rustix::fs::renameat(from.0, from.1, to.0, to.1)
                }
                other => other,
            };
        };
        if before.what != What::Directory
            && source.stat()?.is_some_and(|stat| stat.what != What::Directory)
        {
            return rustix::fs::renameat(from.0, from.1, to.0, to.1);
        }
        // A directory is in the way, or comes: what is there steps aside.
        let old = temporary().map_err(|_| Errno::IO)?;
        rename(place.dir.as_fd(), &place.name, &old, RenameFlags::NOREPLACE)?;
        if let Err(error) = rustix::fs::renameat(from.0, from.1, to.0, to.1) {
            rename(place.dir.as_fd(), &old, &place.name, RenameFlags::NOREPLACE)?;
            return Err(error);
        }
        let dir = place.dir.try_clone().map_err(|_| Errno::MFILE)?;
        self.discard(&Place { name: old, dir, path: place.path.clone() });
        Ok(())
    }

    /// Refuses to move by copying what a copy would leave a part of behind: it would be gone.
    pub(super) fn survives_copying(&self, path: &Rel, stat: &Stat) -> Result<(), Failure> {
        let lost = || {
            let text = format!("{path} is or holds what cannot be moved to another file system");
            Failure::new(Kind::Unsupported, text)
                .with_hint("links, and what is neither file nor directory, stay where they are")
        };
        match stat.what {
            What::File => return Ok(()),
            What::Link | What::Other => return Err(lost()),
            What::Directory => {}
        }
        let skipped = self.walk(path, DEPTH_LIMIT, &mut |visited| match visited
            .listing
            .stat(&visited.listed.name)
            .map(|stat| stat.what)
        {
            Some(What::Directory) => Ok(true),
            Some(What::File) => Ok(false),
            Some(What::Link | What::Other) | None => Err(lost()),
        })?;
        if skipped > 0 { Err(lost()) } else { Ok(()) }
    }

    /// Refuses to move or replace a directory if that would show, or take away, what the rules hide or keep
    /// in it.
    fn holds_nothing_hidden(&self, path: &Rel) -> Result<(), Failure> {
        self.has_nothing_of_the_owner(path, None)
    }

    /// Refuses to move a directory to where something in it would be what the rules hide or keep.
    fn brings_nothing_hidden(&self, path: &Rel, to: &Rel) -> Result<(), Failure> {
        self.has_nothing_of_the_owner(path, Some(to))
    }

    /// Looks at all that is in a directory, as if the directory were at `there`.
    fn has_nothing_of_the_owner(&self, path: &Rel, there: Option<&Rel>) -> Result<(), Failure> {
        if self.rules.hidden.is_empty() && self.rules.kept.is_empty() {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = self.open_at(path, flags).map_err(|error| fault(path, error))?;
        let real = there.map_or_else(|| self.real(&dir, path), |there| Ok(there.clone()))?;
        let everything =
            Self::enter(dir, crate::rules::Rules { writable: false, ..Default::default() })?;
        everything.walk(&Rel::ROOT, DEPTH_LIMIT, &mut |visited| match self
            .is_the_owners(&real.join(visited.at.as_bytes()))
        {
            true => Err(owners(path)),
            false => Ok(true),
        })?;
        Ok(())
    }

    /// Whether the rules hide or keep this very path.
    pub(super) fn is_the_owners(&self, real: &Rel) -> bool {
        let path = real.as_bytes();
        self.rules.hidden.fits_itself(path) || self.rules.kept.fits_itself(path)
    }

    /// Where a place really is, as the rules see it.
    fn real_of(&self, place: &Place) -> Result<Rel, Failure> {
        let (above, _) = place.path.split().unwrap_or_default();
        Ok(self.real(&place.dir, &above)?.join(&place.name))
    }
}

fn owners(path: &Rel) -> Failure {
    let text = format!("{path} cannot be moved as a whole: the owner keeps a part of it");
    Failure::new(Kind::ReadOnly, text)
}

/// Refuses a destination that is the source, in it or around it.
fn apart(from: &Rel, to: &Rel) -> Result<(), Failure> {
    if from.is_root() || to.is_root() {
        return Err(super::root_stays(from));
    }
    if to.beneath(from).is_some() || from.beneath(to).is_some() {
        let text = format!("{to} is {from} itself, in it, or around it");
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    Ok(())
}
