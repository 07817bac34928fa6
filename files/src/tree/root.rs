//! A directory that paths are resolved beneath, under the rules of its root.
//!
//! What is done with the files beneath it is in the other modules of `tree`, as methods of
//! [`Tree`].

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{PATH_LIMIT, What};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::locks::NameLocks;
use super::place::Place;
use super::stat::Stat;
use crate::fault::fault;
use crate::listener::Listener;
use crate::path::Rel;
use crate::rules::Rules;

/// How often a path is resolved again because a directory above it was being renamed.
pub(super) const TRIES: usize = 32;

/// At most this many links are followed in a row at the end of a path that is written to.
const LINKS: usize = 40;

/// A directory, and everything beneath it.
#[derive(Debug)]
pub struct Tree {
    pub(super) root: Arc<OwnedFd>,
    /// Where the root is, relative to the root that the rules were written for.
    pub(super) base: Rel,
    pub(super) rules: Rules,
    pub(super) resolve: ResolveFlags,
    pub(super) locks: Arc<NameLocks>,
    /// Nothing is changed through this handle any more once its other end no longer listens.
    pub(super) listener: Arc<Listener>,
}

impl Tree {
    /// Opens a root.
    ///
    /// # Errors
    ///
    /// `unsupported` if the kernel cannot confine paths to a directory. That is probed here once,
    /// with known paths, and never inferred from the error of a request.
    pub fn enter(root: OwnedFd, rules: Rules) -> Result<Self, Failure> {
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if !rules.follow {
            resolve |= ResolveFlags::NO_SYMLINKS;
        }
        if !rules.mounts {
            resolve |= ResolveFlags::NO_XDEV;
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let probe = |path| rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve);
        match (probe(c"."), probe(c"..")) {
            (Ok(_), Err(Errno::XDEV)) => {}
            _ => {
                let text = "this kernel cannot confine paths to a directory (openat2)";
                return Err(Failure::new(Kind::Unsupported, text).with_hint(
                    "serving files needs Linux 5.6 or newer, and a sandbox that permits openat2",
                ));
            }
        }
        let (root, locks) = (Arc::new(root), Arc::new(NameLocks::new()));
        let listener = Arc::default();
        Ok(Self { root, base: Rel::ROOT, rules, resolve, locks, listener })
    }

    /// The tree beneath this directory, with it as the root.
    pub fn below(&self, path: &Rel) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let (root, base) = self.reach(path, path, flags)?;
        let (locks, listener) = (self.locks.clone(), self.listener.clone());
        Ok(Self { base, locks, listener, ..Self::enter(root, self.rules.clone())? })
    }

    /// A path of this tree, relative to the root that the rules were written for.
    pub(crate) fn outer(&self, path: &Rel) -> Rel {
        self.base.join(path.as_bytes())
    }

    /// The inverse of [`Self::outer`]. `None` if the path is not in this tree.
    pub(crate) fn inner(&self, path: &[u8]) -> Option<Rel> {
        Rel::parse(Rel::parse(path).ok()?.beneath(&self.base)?).ok()
    }

    /// A second handle of this tree. Changes through both use the same locks.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            root: self.root.clone(),
            base: self.base.clone(),
            rules: self.rules.clone(),
            resolve: self.resolve,
            locks: self.locks.clone(),
            listener: self.listener.clone(),
        }
    }

    /// Works for this listener: what takes long stops, and nothing is changed any more, once the
    /// other end no longer listens.
    #[must_use]
    pub fn for_listener(mut self, listener: Listener) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    /// A second handle, for taking back what was done, which goes on to the end.
    pub(crate) fn for_taking_back(&self) -> Self {
        self.share().for_listener(Listener::default())
    }

    /// The listener that this handle works for.
    pub(crate) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// The rules of this tree.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Forbids all changes through this handle.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.rules.writable = false;
        self
    }

    /// Where the root is, relative to the root that the rules were written for.
    pub(crate) fn base(&self) -> &Rel {
        &self.base
    }

    /// Resolves a path beneath the root.
    pub(super) fn open_at(&self, path: &Rel, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.open_raw(path.as_bytes(), flags)
    }

    /// Resolves a path that may contain `..`, from the target of a link. The kernel keeps it
    /// beneath the root.
    pub(super) fn open_raw(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), self.resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Resolves `path` on behalf of a request for `asked`, which errors name. Also returns the real
    /// path of what was found, and refuses what the rules hide there.
    pub(super) fn reach(
        &self,
        path: &Rel,
        asked: &Rel,
        flags: OFlags,
    ) -> Result<(OwnedFd, Rel), Failure> {
        let mut tries = 1..TRIES;
        loop {
            let found = self.open_at(path, flags).map_err(|error| self.not_found(asked, error))?;
            let real = match self.real(&found, path) {
                // It was replaced in the meantime: the path leads to another file now.
                Err(_) if tries.next().is_some() => continue,
                Err(_) => return Err(fault(asked, Errno::NOENT)),
                Ok(real) => real,
            };
            if self.rules.hidden.fit(&real) && !path.is_root() {
                return Err(fault(asked, Errno::NOENT));
            }
            return Ok((found, real));
        }
    }

    /// The real path of an open file or directory, relative to the root that the rules were written
    /// for. If the rules name no paths, the path that was asked for is good enough.
    ///
    /// # Errors
    ///
    /// `no_such_file` if the file no longer has a path beneath the root.
    pub(crate) fn real(&self, found: &OwnedFd, asked: &Rel) -> Result<Rel, Failure> {
        if self.rules.hidden.is_empty() && self.rules.kept.is_empty() {
            return Ok(self.base.join(asked.as_bytes()));
        }
        let place = self.location(found).ok().flatten();
        // It was moved out of the root, or removed, in the meantime.
        place.ok_or_else(|| fault(asked, Errno::NOENT))
    }

    /// The path of an open file, relative to the root that the rules were written for. `None` if it
    /// is not beneath the root.
    pub(super) fn location(&self, found: &impl AsFd) -> std::io::Result<Option<Rel>> {
        let place = |fd: BorrowedFd<'_>| {
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            std::fs::read_link(link).map(|path| path.into_os_string().into_vec())
        };
        let (root, at) = (place(self.root.as_fd())?, place(found.as_fd())?);
        let root = if root == b"/" { &[][..] } else { &root[..] };
        let real = match at.strip_prefix(root) {
            Some([]) => return Ok(Some(self.base.clone())),
            Some([b'/', rest @ ..]) => rest,
            _ => return Ok(None),
        };
        // The kernel appends this to the path of a removed file. It may also be part of the name.
        let removed = real.ends_with(b" (deleted)") && !self.stands_at(real, found);
        Ok((!removed).then(|| self.base.join(real)))
    }

    /// Whether a path leads to this open file.
    pub(super) fn stands_at(&self, path: &[u8], found: &impl AsFd) -> bool {
        let Ok(there) = self.open_raw(path, OFlags::PATH | OFlags::NOFOLLOW) else { return false };
        match (rustix::fs::fstat(&there), rustix::fs::fstat(found)) {
            (Ok(there), Ok(found)) => (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino),
            _ => false,
        }
    }

    /// Refuses a path that the rules hide by name.
    pub(super) fn check_shown(&self, path: &Rel) -> Result<(), Failure> {
        match self.rules.hidden.fit(&self.base.join(path.as_bytes())) && !path.is_root() {
            true => Err(fault(path, Errno::NOENT)),
            false => Ok(()),
        }
    }

    /// The failure for a path that could not be resolved. If the rules hide anything, `ENOTDIR`
    /// would reveal that a hidden file exists, and becomes `ENOENT`.
    pub(super) fn not_found(&self, path: &Rel, error: Errno) -> Failure {
        let tells = error == Errno::NOTDIR && !self.rules.hidden.is_empty();
        fault(path, if tells { Errno::NOENT } else { error })
    }

    /// Finds the target of a path, through links that stay beneath the root.
    pub(crate) fn find(&self, path: &Rel) -> Result<(OwnedFd, Stat), Failure> {
        self.check_shown(path)?;
        let (found, _) = self.reach(path, path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&found).map_err(|error| fault(path, error))?;
        Ok((found, Stat::new(&stat)))
    }

    /// The state of the target of a path.
    pub fn stat(&self, path: &Rel) -> Result<Stat, Failure> {
        self.find(path).map(|(_, stat)| stat)
    }

    /// The state of a path itself: of a link, the link.
    pub fn stat_link(&self, path: &Rel) -> Result<Stat, Failure> {
        if path.is_root() {
            return self.stat(path);
        }
        let place = self.place(path)?;
        place.stat().map_err(|error| fault(path, error))?.ok_or_else(|| fault(path, Errno::NOENT))
    }

    /// Opens a regular file for reading.
    pub fn open(&self, path: &Rel) -> Result<(File, Stat), Failure> {
        let (_, stat) = self.find(path)?;
        match stat.what {
            What::File => {}
            What::Directory => return Err(fault(path, Errno::ISDIR)),
            // Opening a FIFO would block, and a device might do anything.
            What::Link | What::Other => return Err(fault(path, Errno::NXIO)),
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (file, _) = self.reach(path, path, flags)?;
        // The file may have been replaced since it was found.
        let stat = rustix::fs::fstat(&file).map_err(|error| fault(path, error))?;
        let stat = Stat::new(&stat);
        if stat.what != What::File {
            return Err(fault(path, Errno::NXIO));
        }
        Ok((file.into(), stat))
    }

    /// The place of a path. A link at its end is not followed.
    pub fn place(&self, path: &Rel) -> Result<Place, Failure> {
        self.check_shown(path)?;
        let (above, name) = path.split().ok_or_else(|| root_stays(path))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let (dir, real) = self.reach(&above, path, flags)?;
        let place = Place { dir, name: name.to_vec(), path: path.clone() };
        if self.rules.hidden.fit(&real.join(name)) {
            return Err(fault(path, Errno::NOENT));
        }
        Ok(place)
    }

    /// The place of a path that is to be changed.
    pub fn place_to_change(&self, path: &Rel) -> Result<Place, Failure> {
        self.check_writable(path)?;
        let place = self.place(path)?;
        self.check_unprotected(&place)?;
        Ok(place)
    }

    pub(super) fn check_writable(&self, path: &Rel) -> Result<(), Failure> {
        match self.rules.writable {
            true => Ok(()),
            false => {
                Err(Failure::new(Kind::ReadOnly, format!("{path} is in a root that is read-only")))
            }
        }
    }

    pub(super) fn check_unprotected(&self, place: &Place) -> Result<(), Failure> {
        match self.rules.kept.fit(&self.real_of(place)?) {
            true => {
                let text = format!(
                    "{} is protected: programs such as ssh or the shell trust it",
                    place.path
                );
                Err(Failure::new(Kind::ReadOnly, text))
            }
            false => Ok(()),
        }
    }

    /// The real path of a place, as the rules see it.
    pub(super) fn real_of(&self, place: &Place) -> Result<Rel, Failure> {
        let (above, _) = place.path.split().ok_or_else(|| root_stays(&place.path))?;
        Ok(self.real(&place.dir, &above)?.join(&place.name))
    }

    /// The place to write to: if the path ends in links, where the last of them leads. It keeps the
    /// path that was asked for.
    pub fn place_to_write(&self, path: &Rel) -> Result<Place, Failure> {
        let mut place = self.place_to_change(path)?;
        let (above, _) = path.split().ok_or_else(|| root_stays(path))?;
        let mut above = above.as_bytes().to_vec();
        for _ in 0..LINKS {
            let stat = place.stat().map_err(|error| fault(path, error))?;
            if stat.is_none_or(|stat| stat.what != What::Link) {
                self.check_unprotected(&place)?;
                return Ok(place);
            }
            if !self.rules.follow {
                return Err(fault(path, Errno::LOOP));
            }
            let target = rustix::fs::readlinkat(&place.dir, &place.name[..], Vec::new());
            let target = target.map_err(|error| fault(path, error))?.into_bytes();
            if target.starts_with(b"/") {
                return Err(fault(path, Errno::XDEV));
            }
            if !above.is_empty() {
                above.push(b'/');
            }
            above.extend_from_slice(&target);
            let at = above.iter().rposition(|&byte| byte == b'/');
            let name = at.map_or(&above[..], |at| &above[at + 1..]).to_vec();
            above.truncate(at.unwrap_or(0));
            if matches!(&name[..], b"" | b"." | b"..") || above.len() > PATH_LIMIT {
                return Err(fault(path, Errno::ISDIR));
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let dir = self.open_raw(&above, flags).map_err(|error| fault(path, error))?;
            let real = self.real(&dir, &Rel::ROOT)?.join(&name);
            if self.rules.hidden.fit(&real) || crate::path::is_ours(&name) {
                return Err(fault(path, Errno::NOENT));
            }
            if self.rules.kept.fit(&real) {
                let text = format!(
                    "{path} leads to a protected file: programs such as ssh or the shell trust it"
                );
                return Err(Failure::new(Kind::ReadOnly, text));
            }
            place = Place { dir, name, path: path.clone() };
        }
        Err(fault(path, Errno::LOOP))
    }

    /// Creates a directory.
    pub fn make_directory(&self, path: &Rel) -> Result<(), Failure> {
        self.make_directory_with(path, 0o777)
    }

    /// Creates a directory with at most these permissions.
    pub(super) fn make_directory_with(&self, path: &Rel, mode: u32) -> Result<(), Failure> {
        let place = self.place_to_change(path)?;
        let _in_place = self.hold_in_place(&[&place])?;
        // Its contents may have to be created next.
        let mode = Mode::from_raw_mode(mode & 0o777 | 0o700);
        rustix::fs::mkdirat(&place.dir, &place.name[..], mode).map_err(|error| fault(path, error))
    }

    /// Creates a directory and its missing parents.
    pub fn make_directories(&self, path: &Rel) -> Result<(), Failure> {
        self.make_directories_with(path, 0o777)
    }

    /// Like [`Self::make_directories`]; the last directory gets at most these permissions.
    pub(crate) fn make_directories_with(&self, path: &Rel, mode: u32) -> Result<(), Failure> {
        if path.is_root() {
            return Ok(());
        }
        match self.stat(path) {
            Ok(stat) if stat.what == What::Directory => return Ok(()),
            Ok(_) => return Err(fault(path, Errno::NOTDIR)),
            Err(failure) if failure.kind == Kind::NoSuchFile => {}
            Err(failure) => return Err(failure),
        }
        if let Some((above, _)) = path.split() {
            self.make_directories(&above)?;
        }
        match self.make_directory_with(path, mode) {
            // Somebody else has just created it.
            Err(failure) if failure.kind == Kind::FileExists => Ok(()),
            other => other,
        }
    }

    /// The size of the file system and the space available to us, in bytes.
    pub fn space(&self) -> Result<(u64, u64), Failure> {
        let stat = rustix::fs::fstatvfs(&self.root).map_err(|error| fault(&Rel::ROOT, error))?;
        Ok((
            stat.f_blocks.saturating_mul(stat.f_frsize),
            stat.f_bavail.saturating_mul(stat.f_frsize),
        ))
    }
}

pub(super) fn root_stays(_: &Rel) -> Failure {
    Failure::new(Kind::InvalidArgument, "the root itself cannot be changed")
        .with_hint("name a path beneath it")
}
