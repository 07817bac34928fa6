//! Listing a directory, and walking everything beneath it.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{PATH_LIMIT, What};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::root::Tree;
use super::stat::Stat;
use crate::fault::fault;
use crate::path::{Rel, is_ours};

/// How many sibling directories a walk holds open.
const ABREAST: usize = 8;

/// The depth of a walk without a limit.
pub(crate) const EVERYTHING: usize = usize::MAX;

/// No walk enters a directory with a longer path, relative to where the walk began: its entries
/// would not fit a message.
const DEEPEST: usize = 2 * PATH_LIMIT;

/// How many names of one directory are sorted at once.
const SORTED: usize = 100_000;

/// A directory that is being read.
#[derive(Debug)]
pub struct Listing<'a> {
    tree: &'a Tree,
    dir: Dir,
    handle: Arc<Handle>,
    /// Its real path, as the rules see it.
    real: Rel,
}

/// A name in a directory.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The name.
    pub name: Vec<u8>,
    /// The kind of file, if the file system reports it in listings.
    pub what: Option<What>,
}

impl Tree {
    /// Opens a directory for listing.
    pub fn list(&self, path: &Rel) -> Result<Listing<'_>, Failure> {
        if !self.rules.hidden.is_empty() {
            self.find(path)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (handle, real) = self.reach(path, path, flags)?;
        // A removed directory looks like an empty one.
        let stat = rustix::fs::fstat(&handle).map_err(|error| fault(path, error))?;
        if stat.st_nlink == 0 {
            return Err(fault(path, Errno::NOENT));
        }
        self.listing(handle, real).map_err(|error| fault(path, error))
    }

    pub(super) fn listing(&self, handle: OwnedFd, real: Rel) -> Result<Listing<'_>, Errno> {
        let dir = Dir::read_from(&handle)?;
        let handle = Arc::new(Handle { directory: handle, mounts: self.rules.mounts });
        Ok(Listing { tree: self, dir, handle, real })
    }

    /// Walks everything beneath a directory, without following links. Returns how much was skipped.
    ///
    /// # Errors
    ///
    /// Those of `visit`, and of the directory itself. What cannot be read beneath it is skipped and
    /// counted.
    pub fn walk(&self, path: &Rel, depth: usize, visit: &mut Visit<'_>) -> Result<u64, Failure> {
        let mut skipped = 0;
        self.walk_reporting(path, depth, visit, &mut |_| skipped += 1)?;
        Ok(skipped)
    }

    /// Like [`Self::walk`]. Calls `unread` with the path of everything that cannot be read,
    /// relative to where the walk began.
    ///
    /// # Errors
    ///
    /// Those of [`Self::walk`].
    pub fn walk_reporting(
        &self,
        path: &Rel,
        depth: usize,
        visit: &mut Visit<'_>,
        unread: &mut dyn FnMut(&Rel),
    ) -> Result<(), Failure> {
        let mut waiting = VecDeque::from([(self.list(path)?, Rel::ROOT, 1)]);
        while let Some((listing, below, level)) = waiting.pop_back() {
            let mut listing = listing;
            let mut inner = Vec::new();
            while let Some(listed) = listing.next() {
                let Ok(listed) = listed else {
                    unread(&below);
                    break;
                };
                let at = below.join(&listed.name);
                let visited =
                    visit(&Visited { at: &at, listed: &listed, listing: &listing, level })?;
                if visited && level < depth {
                    match listing.descend(&listed.name, &at) {
                        Ok(Some(next)) => inner.push((next, at, level + 1)),
                        Ok(None) => {}
                        Err(_) => unread(&at),
                    }
                }
                // Each holds a descriptor, so a directory with many subdirectories is walked in
                // pieces.
                if inner.len() >= ABREAST {
                    waiting.push_back((listing, below.clone(), level));
                    waiting.extend(inner.drain(..));
                    break;
                }
            }
            waiting.extend(inner);
        }
        Ok(())
    }

    /// Walks all levels in the order of names: the contents of each directory come where its name
    /// belongs.
    ///
    /// # Errors
    ///
    /// Those of [`Self::walk`].
    pub(crate) fn walk_in_order(
        &self,
        path: &Rel,
        visit: &mut Visit<'_>,
        unread: &mut dyn FnMut(&Rel),
    ) -> Result<(), Failure> {
        let mut waiting = vec![(self.list(path)?, Vec::new(), Rel::ROOT, 1)];
        while let Some((mut listing, mut names, below, level)) = waiting.pop() {
            loop {
                if names.is_empty() {
                    names = listing.next_sorted(SORTED).unwrap_or_else(|_| {
                        unread(&below);
                        Vec::new()
                    });
                }
                let Some(listed) = names.pop() else { break };
                let at = below.join(&listed.name);
                let visited =
                    visit(&Visited { at: &at, listed: &listed, listing: &listing, level })?;
                let next = match visited.then(|| listing.descend(&listed.name, &at)) {
                    None | Some(Ok(None)) => continue,
                    Some(Ok(Some(next))) => next,
                    Some(Err(_)) => {
                        unread(&at);
                        continue;
                    }
                };
                waiting.push((listing, names, below, level));
                waiting.push((next, Vec::new(), at, level + 1));
                break;
            }
        }
        Ok(())
    }
}

/// An entry that a walk has come to.
#[derive(Clone, Copy, Debug)]
pub struct Visited<'a> {
    /// Its path relative to where the walk began.
    pub at: &'a Rel,
    /// Its name, and what it is.
    pub listed: &'a Listed,
    /// The directory that contains it.
    pub listing: &'a Listing<'a>,
    /// Its depth, from 1.
    pub level: usize,
}

impl Visited<'_> {
    /// The state of the entry. `None` if it no longer exists, or is not part of the root.
    pub fn stat(&self) -> Result<Option<Stat>, Errno> {
        match self.listing.stat(&self.listed.name) {
            Err(Errno::XDEV) => Ok(None),
            stat => stat,
        }
    }

    /// The kind of the entry, which some file systems do not report in listings. `None` if it no
    /// longer exists.
    pub fn what(&self) -> Result<Option<What>, Errno> {
        match self.listed.what {
            None => Ok(self.stat()?.map(|stat| stat.what)),
            what => Ok(what),
        }
    }
}

/// Called for every entry of a walk. Returns whether to descend into it, if it is a directory.
pub type Visit<'a> = dyn FnMut(&Visited<'_>) -> Result<bool, Failure> + 'a;

impl Listing<'_> {
    /// The next entry that is not hidden.
    #[expect(clippy::should_implement_trait, reason = "it lends itself while it is read")]
    pub fn next(&mut self) -> Option<Result<Listed, Failure>> {
        loop {
            let entry = match self.dir.next()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(fault(&self.real, error))),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if is_ours(name) {
                if self.tree.rules.writable {
                    let dir = self.handle.directory.as_fd();
                    self.tree.sweep(dir, &self.real, name, SystemTime::now());
                }
                continue;
            }
            if self.tree.rules.hidden.fits_itself(self.real.join(name).as_bytes()) {
                continue;
            }
            let what = match entry.file_type() {
                FileType::RegularFile => Some(What::File),
                FileType::Directory => Some(What::Directory),
                FileType::Symlink => Some(What::Link),
                FileType::Unknown => None,
                _ => Some(What::Other),
            };
            return Some(Ok(Listed { name: name.to_vec(), what }));
        }
    }

    /// The state of an entry itself: of a link, the link. `None` if it no longer exists.
    ///
    /// # Errors
    ///
    /// `XDEV` if a mount there cannot be accessed and is not part of the root.
    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>, Errno> {
        match rustix::fs::statat(&self.handle.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::new(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => match self.handle.open(name, OFlags::PATH) {
                Err(Errno::XDEV) => Err(Errno::XDEV),
                _ => Err(error),
            },
        }
    }

    /// Opens a regular file of this directory, and no link.
    pub fn open(&self, name: &[u8]) -> Result<std::fs::File, Errno> {
        open_in(&self.handle, name)
    }

    /// Opens a file or a directory of this directory, and no link.
    pub(super) fn open_any(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        self.handle.open(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// The directory itself, for [`open_in`].
    pub fn handle(&self) -> Arc<Handle> {
        self.handle.clone()
    }

    /// Copies the attributes of this directory to another. Returns the mode that the other may
    /// have.
    pub(super) fn copy_metadata(&self, to: &OwnedFd, mode: u32) -> u32 {
        // A file system without attributes has none to copy.
        let _ = super::draft::copy_attributes(&self.handle.directory, to);
        super::access::mode_without_acl(&self.handle.directory, mode)
    }

    /// Its real path, if it is known.
    pub(super) fn location(&self) -> Option<Rel> {
        self.tree.location(&self.handle.directory).ok().flatten()
    }

    /// The next `many` entries, in reverse order of their names.
    fn next_sorted(&mut self, many: usize) -> Result<Vec<Listed>, Failure> {
        let mut names = Vec::new();
        while names.len() < many {
            let Some(listed) = self.next() else { break };
            names.push(listed?);
        }
        names.sort_unstable_by(|one, other| other.name.cmp(&one.name));
        Ok(names)
    }

    /// Like [`Self::open_directory`], for a walk, which has a limit on paths.
    fn descend(&self, name: &[u8], at: &Rel) -> Result<Option<Self>, Errno> {
        if at.as_bytes().len() > DEEPEST {
            Err(Errno::NAMETOOLONG)
        } else {
            self.open_directory(name)
        }
    }

    /// Opens a directory of this one. `None` for a mount that is not part of the root.
    pub(super) fn open_directory(&self, name: &[u8]) -> Result<Option<Self>, Errno> {
        let handle = match self.handle.open(name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::XDEV) => return Ok(None),
            handle => handle?,
        };
        self.tree.listing(handle, self.real.join(name)).map(Some)
    }
}

/// A directory that a walk has reached.
#[derive(Debug)]
pub struct Handle {
    directory: OwnedFd,
    /// Whether file systems mounted in it are part of it.
    mounts: bool,
}

impl Handle {
    /// Opens an entry, and no link.
    fn open(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        step(self.directory.as_fd(), name, flags, self.mounts)
    }
}

/// Opens an entry of a directory, and no link. Where mounts are not entered, a mount fails with
/// `XDEV`. Its device number would not do: it may be the same.
pub(super) fn step(
    directory: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
    mounts: bool,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = if mounts { ResolveFlags::empty() } else { ResolveFlags::NO_XDEV };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | within;
    for _ in 0..super::root::TRIES {
        match rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a regular file of a directory that a walk has reached, and no link.
pub fn open_in(directory: &Handle, name: &[u8]) -> Result<std::fs::File, Errno> {
    let file = directory.open(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(Errno::NXIO),
    }
}
