//! Copying. The destination stays until its replacement is complete.

use std::os::fd::{AsFd, OwnedFd};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{How, NAMED, What};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::access::mode_without_acl;
use super::content::{Destination, NotCopied, Source, copy_one};
use super::draft::WriteOptions;
use super::draft::{changed_meanwhile, copy_attributes};
use super::owner::partly_owned;
use super::place::Place;
use super::rename::{check_apart, not_movable, replace};
use super::root::Tree;
use super::space::Space;
use super::stat::Stat;
use super::sweep::hold;
use super::walk::Listing;
use crate::fault::fault;
use crate::listener::Listener;
use crate::path::Rel;

/// The deepest tree that is copied: each level holds descriptors.
const DEEP: usize = 400;

/// How often a file is read that changes while it is read.
const TRIES: usize = 3;

/// How much of a directory is copied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Content {
    /// Nothing in it.
    Nothing,
    /// Everything that can be read.
    Readable,
    /// Everything; otherwise the copy fails.
    All,
}

/// The result of a copy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// How many files were copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Links and special files, which are left out.
    pub links: LeftOut,
    /// Files that could not be read, or changed with every attempt; they are left out.
    pub unread: LeftOut,
}

/// Files that were left out of a copy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// Some of them, by their paths relative to the directory that was copied.
    pub names: Vec<Vec<u8>>,
}

/// Whether this failure is about one file only, so that the rest can be copied.
pub(crate) const fn is_left_out(kind: Kind) -> bool {
    matches!(kind, Kind::PermissionDenied | Kind::OutsideRoot | Kind::NotAFile | Kind::Io)
}

impl LeftOut {
    fn add(&mut self, at: &[u8]) {
        self.count += 1;
        if self.names.len() < NAMED {
            self.names.push(at.to_vec());
        }
    }
}

impl Copied {
    /// Whether something was left out.
    pub const fn is_in_part(&self) -> bool {
        self.links.count > 0 || self.unread.count > 0
    }

    /// Fails if something was left out because it could not be read.
    fn has_read_all(&self, source: &Rel) -> Result<(), Failure> {
        match self.unread.names.first() {
            Some(at) => {
                let at = source.join(at);
                let text = format!("{at} could not be read, or changed while it was being read");
                Err(Failure::new(Kind::Io, text).with_hint("nothing was changed"))
            }
            None => Ok(()),
        }
    }
}

impl Tree {
    /// Copies a file, or with `recursive` also a directory and everything in it.
    pub fn copy(
        &self,
        from: &Rel,
        to: &Rel,
        overwrite: bool,
        recursive: bool,
    ) -> Result<Copied, Failure> {
        check_apart(from, to)?;
        if !recursive && self.stat(from)?.what == What::Directory {
            return Err(fault(from, Errno::ISDIR).with_hint("copy it recursively"));
        }
        self.copy_any(from, to, overwrite, Content::Readable)
    }

    fn copy_any(
        &self,
        from: &Rel,
        to: &Rel,
        overwrite: bool,
        content: Content,
    ) -> Result<Copied, Failure> {
        match self.stat(from)?.what {
            What::File => self.copy_file(from, to, overwrite),
            What::Directory => self.copy_directory(from, to, overwrite, content),
            What::Link | What::Other => Err(fault(from, Errno::NXIO)),
        }
    }

    /// Like a recursive [`Self::copy`], but a file may replace a directory.
    pub fn copy_over(&self, from: &Rel, to: &Rel, overwrite: bool) -> Result<Copied, Failure> {
        self.over(from, to, overwrite, Content::Readable)
    }

    /// Like [`Self::copy_over`], but copies nothing if anything would be left out.
    pub(super) fn copy_whole(
        &self,
        from: &Rel,
        to: &Rel,
        overwrite: bool,
    ) -> Result<Copied, Failure> {
        self.over(from, to, overwrite, Content::All)
    }

    fn over(
        &self,
        from: &Rel,
        to: &Rel,
        overwrite: bool,
        content: Content,
    ) -> Result<Copied, Failure> {
        check_apart(from, to)?;
        let in_the_way = |stat: Option<Stat>| stat.is_some_and(|stat| stat.what == What::Directory);
        let place = self.place_to_change(to)?;
        let before = place.stat().map_err(|error| fault(to, error))?;
        let stat = self.stat(from)?;
        if !overwrite || stat.what != What::File || !in_the_way(before) {
            return self.copy_any(from, to, overwrite, content);
        }
        self.check_nothing_protected(&place)?;
        let (found, _) = self.find(from)?;
        self.check_apart_resolved(self.location(&found).ok().flatten(), &place)?;
        let (file, stat) = self.open(from)?;
        let (real, aside) = (self.real_of(&place)?, self.beside(&place)?);
        let mut space = Space::new(&self.rules, 0);
        let copied = copy_one(
            Source { file: &file, stat: &stat },
            &aside.dir,
            &aside.name,
            &mut Destination { path: to, space: &mut space, listener: &self.listener },
        );
        let copied = copied.map_err(|not| not.failure(to));
        let copied = copied.and_then(|bytes| {
            self.put_in_place(&aside, &place, true, &real)?;
            Ok(Copied { files: 1, bytes, ..Copied::default() })
        });
        if copied.is_err() {
            self.discard_draft(&aside);
        }
        copied
    }

    /// Copies a directory and its attributes, without its entries.
    pub fn copy_shallow(&self, from: &Rel, to: &Rel, overwrite: bool) -> Result<(), Failure> {
        check_apart(from, to)?;
        self.copy_directory(from, to, overwrite, Content::Nothing).map(|_| ())
    }

    fn copy_file(&self, from: &Rel, to: &Rel, overwrite: bool) -> Result<Copied, Failure> {
        let (file, stat) = self.open(from)?;
        // A directory at the destination would have to be replaced as a whole, and not written to.
        if overwrite
            && self
                .place(to)?
                .stat()
                .is_ok_and(|stat| stat.is_some_and(|stat| stat.what == What::Directory))
        {
            return Err(fault(to, Errno::ISDIR));
        }
        let how = if overwrite { How::Put } else { How::Create };
        let mode = Some(mode_without_acl(&file, stat.mode));
        let wanted = WriteOptions { how, mode, durable: false, ..WriteOptions::default() };
        let mut draft = self.draft(to, wanted)?;
        let bytes = draft.copy(&file, &stat)?;
        // A file system without attributes has none to copy.
        let _ = copy_attributes(&file, draft.file());
        draft.commit()?;
        Ok(Copied { files: 1, bytes, ..Copied::default() })
    }

    fn copy_directory(
        &self,
        from: &Rel,
        to: &Rel,
        overwrite: bool,
        content: Content,
    ) -> Result<Copied, Failure> {
        let place = self.place_to_change(to)?;
        let failed = |error| fault(to, error);
        let before = place.stat().map_err(failed)?;
        if before.is_some() && !overwrite {
            return Err(failed(Errno::EXIST));
        }
        if before.is_some_and(|stat| stat.what == What::Directory) {
            self.check_nothing_protected(&place)?;
        }
        let listing = self.list(from)?;
        self.check_apart_resolved(listing.location(), &place)?;
        let real = self.real_of(&place)?;
        let aside = self.beside(&place)?;
        rustix::fs::mkdirat(&aside.dir, &aside.name[..], Mode::from_raw_mode(0o700))
            .map_err(failed)?;
        let built = self.stat(from).and_then(|stat| {
            let source = SourceDirectory { listing, path: from, mode: stat.mode };
            self.build(source, &aside, real.clone(), content)
        });
        let built = built.and_then(|copied| {
            // A partial copy never replaces anything, even if the destination appeared in the
            // meantime.
            if before.is_some() || content == Content::All {
                copied.has_read_all(from)?;
            }
            let overwrite = overwrite && copied.unread.count == 0;
            if content == Content::All && copied.links.count > 0 {
                return Err(not_movable(from));
            }
            self.put_in_place(&aside, &place, overwrite, &real).map(|()| copied)
        });
        if built.is_err() {
            self.discard_draft(&aside);
        }
        built
    }

    /// Builds the copy of a directory at `aside`. It will be moved to `real` later.
    fn build(
        &self,
        source: SourceDirectory<'_>,
        aside: &Place,
        real: Rel,
        content: Content,
    ) -> Result<Copied, Failure> {
        let failed = |error| fault(&aside.path, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = rustix::fs::openat(&aside.dir, &aside.name[..], flags, Mode::empty())
            .map_err(failed)?;
        // A second descriptor: `top` is closed once that directory is complete.
        let held = top.try_clone().map_err(|_| failed(Errno::MFILE))?;
        hold(held.as_fd());
        let (copied, space) = (Copied::default(), Space::new(&self.rules, 0));
        let SourceDirectory { listing, path: source, mode } = source;
        let mut build = Build { source, to: &aside.path, copied, space, listener: &self.listener };
        let content = content != Content::Nothing;
        let begin = real.clone();
        let mut waiting = vec![Level { from: listing, to: top, real, mode, depth: 1 }];
        while let Some(mut level) = waiting.pop() {
            let mut deeper = None;
            while let Some(listed) = content.then(|| level.from.next()).flatten() {
                let listed = listed?;
                self.listener.check()?;
                let there = level.real.join(&listed.name);
                if self.is_protected(&there) {
                    return Err(partly_owned(&aside.path));
                }
                let at = there.beneath(&begin).unwrap_or_default();
                let Some((next, mode)) = build.entry(&level.from, &listed.name, &level.to, at)?
                else {
                    continue;
                };
                if level.depth >= DEEP {
                    return Err(too_deep(source));
                }
                rustix::fs::mkdirat(&level.to, &listed.name[..], Mode::from_raw_mode(0o700))
                    .map_err(failed)?;
                let made = rustix::fs::openat(&level.to, &listed.name[..], flags, Mode::empty());
                let (to, depth) = (made.map_err(failed)?, level.depth + 1);
                deeper = Some(Level { from: next, to, real: there, mode, depth });
                break;
            }
            match deeper {
                // Depth-first, so that there is one open descriptor per level.
                Some(deeper) => {
                    waiting.push(level);
                    waiting.push(deeper);
                }
                None => {
                    let mode = level.from.copy_metadata(&level.to, level.mode);
                    rustix::fs::fchmod(&level.to, Mode::from_raw_mode(mode)).map_err(failed)?;
                }
            }
        }
        Ok(build.copied)
    }

    /// Moves a copy that was built at `aside` to its place, which must still be at `real`. What it
    /// replaces is removed.
    fn put_in_place(
        &self,
        aside: &Place,
        place: &Place,
        overwrite: bool,
        real: &Rel,
    ) -> Result<(), Failure> {
        let failed = |error| fault(&place.path, error);
        let name_lock = self.lock_name(place);
        let moving = self.begin_move(&[place])?;
        if self.real_of(place)? != *real {
            return Err(changed_meanwhile(&place.path));
        }
        let before = place.stat().map_err(failed)?;
        if before.is_some() && !overwrite {
            return Err(failed(Errno::EXIST));
        }
        if before.is_some_and(|stat| stat.what == What::Directory) {
            self.check_nothing_protected(place)?;
        }
        let old = replace(aside, place, before.is_some()).map_err(failed)?;
        drop((moving, name_lock));
        old.iter().for_each(|old| self.discard(old));
        Ok(())
    }
}

/// A directory to be copied.
struct SourceDirectory<'a> {
    listing: Listing<'a>,
    /// The path that was asked for.
    path: &'a Rel,
    mode: u32,
}

/// One level of a tree that is being copied.
struct Level<'a> {
    from: Listing<'a>,
    to: OwnedFd,
    /// Where the copy will be.
    real: Rel,
    mode: u32,
    depth: usize,
}

/// A copy of a directory that is being made.
struct Build<'a> {
    source: &'a Rel,
    /// The destination that was asked for.
    to: &'a Rel,
    copied: Copied,
    space: Space<'a>,
    listener: &'a Listener,
}

impl Build<'_> {
    /// Copies the entry `name`. A directory is opened and returned with its mode instead. `at` is
    /// the path of the entry relative to the directory that is copied.
    fn entry<'t>(
        &mut self,
        from: &Listing<'t>,
        name: &[u8],
        to: &impl AsFd,
        at: &[u8],
    ) -> Result<Option<(Listing<'t>, u32)>, Failure> {
        let stat = match from.stat(name) {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok(None),
            Err(error) => return self.unread(at, error).map(|()| None),
        };
        match stat.what {
            What::File => self.file(from, to, name, at).map(|()| None),
            What::Directory => match from.open_directory(name) {
                Ok(Some(next)) => Ok(Some((next, stat.mode))),
                Ok(None) => {
                    self.copied.links.add(at);
                    Ok(None)
                }
                Err(error) => self.unread(at, error).map(|()| None),
            },
            What::Link | What::Other => {
                self.copied.links.add(at);
                Ok(None)
            }
        }
    }

    /// Copies a file. If it cannot be read, or changes with every attempt, it is left out.
    fn file(
        &mut self,
        from: &Listing<'_>,
        to: &impl AsFd,
        name: &[u8],
        at: &[u8],
    ) -> Result<(), Failure> {
        let path = self.to.join(at);
        for _ in 0..TRIES {
            let file = match from.open(name) {
                Ok(file) => file,
                // It no longer exists.
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return self.unread(at, error),
            };
            // The name may lead to another file each time.
            let stat = match rustix::fs::fstat(&file) {
                Ok(stat) => Stat::new(&stat),
                Err(error) => return self.unread(at, error),
            };
            let source = Source { file: &file, stat: &stat };
            let mut destination =
                Destination { path: &path, space: &mut self.space, listener: self.listener };
            match copy_one(source, to, name, &mut destination) {
                Ok(bytes) => {
                    self.copied.bytes += bytes;
                    self.copied.files += 1;
                    return Ok(());
                }
                Err(NotCopied::Unwritten(failure)) => return Err(failure),
                Err(NotCopied::Unread(_) | NotCopied::Changed(_)) => {}
            }
            let gone = rustix::fs::unlinkat(to, name, AtFlags::empty());
            gone.map_err(|error| fault(&path, error))?;
        }
        self.copied.unread.add(at);
        Ok(())
    }

    /// Leaves a file out if the error is about this file only.
    fn unread(&mut self, at: &[u8], error: Errno) -> Result<(), Failure> {
        let failure = fault(&self.source.join(at), error);
        if is_left_out(failure.kind) {
            self.copied.unread.add(at);
            return Ok(());
        }
        Err(failure)
    }
}

fn too_deep(source: &Rel) -> Failure {
    let text = format!("{source} is more than {DEEP} levels deep");
    Failure::new(Kind::TooLarge, text).with_hint("copy the deep part of it separately")
}
