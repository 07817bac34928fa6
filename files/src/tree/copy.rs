//! Copying. What is replaced stays until what replaces it is whole.

use std::os::fd::AsFd as _;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{How, NAMED, What};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::access::plain_mode;
use super::content::copy_one;
use super::draft::{changed, copy_attributes};
use super::owner::owners;
use super::rename::{apart, put};
use super::sweep::hold;
use super::{Listing, Place, Room, Stat, Tree, Wanted};
use crate::fault::fault;
use crate::path::Rel;

/// So deep is a tree that is copied at most: each level holds descriptors.
const DEEP: usize = 400;

/// What a copy came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Links, and what is neither file nor directory: left out.
    pub skipped: u64,
    /// Some of those, by their paths from the directory that was copied.
    pub left_out: Vec<Vec<u8>>,
}

/// Whether something cannot be looked at or opened because of what it is itself: the rest can be copied.
const fn is_of_its_own(error: Errno) -> bool {
    matches!(
        error,
        Errno::LOOP
            | Errno::NXIO
            | Errno::ACCESS
            | Errno::XDEV
            | Errno::IO
            | Errno::NOTCONN
            | Errno::STALE
            | Errno::HOSTDOWN
            | Errno::TIMEDOUT
    )
}

impl Copied {
    fn leave_out(&mut self, at: Option<&[u8]>) {
        self.skipped += 1;
        if self.left_out.len() < NAMED {
            self.left_out.extend(at.map(<[u8]>::to_vec));
        }
    }
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
        self.holds_nothing_hidden(&place)?;
        let (found, _) = self.found(from)?;
        self.apart_really(self.location(&found).ok().flatten(), &place)?;
        let (file, stat) = self.open(from)?;
        let (real, aside) = (self.real_of(&place)?, self.beside(&place)?);
        let mut room = Room::new(&self.rules, 0);
        let copied = copy_one((&file, &stat), (&aside.dir, &aside.name), (to, &mut room));
        let copied = copied.and_then(|bytes| {
            self.arrive(&aside, &place, (true, &real))?;
            Ok(Copied { files: 1, bytes, ..Copied::default() })
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
        let mode = Some(plain_mode(&file, stat.mode));
        let wanted = Wanted { how, mode, durable: false, ..Wanted::default() };
        let mut draft = self.draft(to, wanted)?;
        let bytes = draft.copy(&file, &stat)?;
        // A file system without attributes has none to copy.
        let _ = copy_attributes(&file, draft.file());
        draft.commit()?;
        Ok(Copied { files: 1, bytes, ..Copied::default() })
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
            self.holds_nothing_hidden(&place)?;
        }
        let listing = self.list(from)?;
        self.apart_really(listing.location(), &place)?;
        let real = self.real_of(&place)?;
        let aside = self.beside(&place)?;
        rustix::fs::mkdirat(&aside.dir, &aside.name[..], Mode::from_raw_mode(0o700))
            .map_err(failed)?;
        let built = self
            .stat(from)
            .and_then(|stat| self.build(listing, (&aside, real.clone()), stat.mode, content));
        let built = built
            .and_then(|copied| self.arrive(&aside, &place, (overwrite, &real)).map(|()| copied));
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
        // A second descriptor of it, as it is let go of when it is full.
        let held = top.try_clone().map_err(|_| failed(Errno::MFILE))?;
        hold(held.as_fd());
        let (mut copied, mut room) = (Copied::default(), Room::new(&self.rules, 0));
        let begin = real.clone();
        let mut waiting = vec![(from, (top, real), mode, 1)];
        while let Some((mut from, (to, real), mode, depth)) = waiting.pop() {
            let mut deeper = None;
            while let Some(listed) = content.then(|| from.next()).flatten() {
                let listed = listed?;
                let there = real.join(&listed.name);
                if self.is_the_owners(&there) {
                    return Err(owners(&aside.path));
                }
                let stat = match from.stat(&listed.name) {
                    Ok(Some(stat)) => stat,
                    Ok(None) => continue,
                    Err(error) if is_of_its_own(error) => {
                        copied.leave_out(there.beneath(&begin));
                        continue;
                    }
                    Err(error) => return Err(failed(error)),
                };
                match stat.what {
                    What::File => match from.open(&listed.name) {
                        Ok(file) => {
                            let bounds = (&aside.path, &mut room);
                            copied.bytes += copy_one((&file, &stat), (&to, &listed.name), bounds)?;
                            copied.files += 1;
                        }
                        Err(Errno::NOENT) => {}
                        Err(error) if is_of_its_own(error) => {
                            copied.leave_out(there.beneath(&begin));
                        }
                        Err(error) => return Err(failed(error)),
                    },
                    What::Directory if depth < DEEP => {
                        let Some(next) = from.down(&listed.name).map_err(failed)? else {
                            copied.leave_out(there.beneath(&begin));
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
                    What::Link | What::Other => copied.leave_out(there.beneath(&begin)),
                }
            }
            match deeper {
                // One way down is open at a time: as many descriptors as levels.
                Some(deeper) => {
                    waiting.push((from, (to, real), mode, depth));
                    waiting.push(deeper);
                }
                None => {
                    let mode = Mode::from_raw_mode(from.resemble(&to, mode));
                    rustix::fs::fchmod(&to, mode).map_err(failed)?;
                }
            }
        }
        Ok(copied)
    }

    /// Puts what was built aside for `real` into its place. What was there is removed.
    fn arrive(
        &self,
        aside: &Place,
        place: &Place,
        (overwrite, real): (bool, &Rel),
    ) -> Result<(), Failure> {
        let failed = |error| fault(&place.path, error);
        let lane = self.lane(place);
        let moving = self.moving(&[place])?;
        if self.real_of(place)? != *real {
            return Err(changed(&place.path));
        }
        let before = place.stat().map_err(failed)?;
        if before.is_some() && !overwrite {
            return Err(failed(Errno::EXIST));
        }
        if before.is_some_and(|stat| stat.what == What::Directory) {
            self.holds_nothing_hidden(place)?;
        }
        let old = put(aside, place, before.is_some()).map_err(failed)?;
        drop((moving, lane));
        old.iter().for_each(|old| self.discard(old));
        Ok(())
    }
}
