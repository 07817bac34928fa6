//! A directory that only we can read, and how files in it are read and replaced.
//!
//! The directory is opened once and everything goes through its handle, so that nobody can exchange
//! it under us. What is not private is refused: it may have been read or written by somebody else,
//! and to go on would hide that. A file is replaced by writing another beside it, syncing that,
//! renaming it and syncing the directory: after a power cut there is the old content or the new.
//!
//! Not here: what is in the files (`file`), and who may write when (`lock`).

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::fault::{Damage, FileError, quoted};
use crate::lock::Guard;
use crate::steps::{self, Step};

/// How the name of a file ends that is being written. It begins with a dot. Whoever holds the lock is
/// the only one to write it, so that a second one of that name is what a crash has left.
const UNFINISHED: &str = ".tmp";

/// A private directory.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    handle: Arc<File>,
    path: Arc<Path>,
}

impl Dir {
    /// Opens a directory, if there is one.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Self::checked(File::from(fd), path.into()).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FileError::io("open", path, errno)),
        }
    }

    /// Opens a directory, and makes it and those above it where they are missing.
    pub(crate) fn create(path: &Path) -> Result<Self, FileError> {
        let missing: Vec<_> = path.ancestors().take_while(|at| !at.exists()).collect();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| FileError::io("make", path, error))?;
        for parent in missing.iter().filter_map(|made| made.parent()) {
            if let Ok(parent) = File::open(parent) {
                sync_names(&parent).map_err(|error| FileError::io("sync", path, error))?;
            }
        }
        Self::open(path)?.ok_or_else(|| FileError::io("open", path, Errno::NOENT))
    }

    /// Opens a directory in this one, if there is one.
    pub(crate) fn sub(&self, name: &str) -> Result<Option<Self>, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.file_path(name);
        match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(fd) => Self::checked(File::from(fd), path).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(explain(&path, Wanted::Directory, errno)),
        }
    }

    /// Opens a directory in this one, and makes it if it is missing.
    pub(crate) fn create_sub(&self, name: &str) -> Result<Self, FileError> {
        let io = |errno: io::Error| FileError::io("make", &self.file_path(name), errno);
        match rustix::fs::mkdirat(&self.handle, name, Mode::RWXU) {
            Ok(()) => self.sync().map_err(io)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(io(errno.into())),
        }
        self.sub(name)?.ok_or_else(|| io(Errno::NOENT.into()))
    }

    fn checked(handle: File, path: PathBuf) -> Result<Self, FileError> {
        let metadata = handle.metadata().map_err(|error| FileError::io("open", &path, error))?;
        check(&metadata, &path, Wanted::Directory)?;
        Ok(Self { handle: Arc::new(handle), path: path.into() })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn shared_path(&self) -> Arc<Path> {
        Arc::clone(&self.path)
    }

    /// Where a file in it is.
    pub(crate) fn file_path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether something has this name.
    pub(crate) fn holds(&self, name: &str) -> Result<bool, FileError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(FileError::io("look at", &self.file_path(name), errno)),
        }
    }

    /// The content of a file of at most `limit` bytes, if there is one.
    pub(crate) fn read(
        &self,
        name: &str,
        limit: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
        let Some(file) = self.open_file(name, OFlags::RDONLY)? else { return Ok(None) };
        let path = self.file_path(name);
        let io = |error| FileError::io("read", &path, error);
        let length = usize::try_from(file.metadata().map_err(io)?.len()).unwrap_or(usize::MAX);
        if length > limit {
            return Err(FileError::damaged(path, Damage::TooLong));
        }
        // One byte more than is needed, so that the end is seen without moving secrets to a larger
        // buffer, which would leave them behind in the old one.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
        (&file).take(length as u64).read_to_end(&mut bytes).map_err(io)?;
        Ok(Some(bytes))
    }

    /// Puts `bytes` in the place of a file's content. On any error the old content stands, unless
    /// the new one stands already and only could not be made durable.
    pub(crate) fn write(&self, guard: &Guard, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        debug_assert!(guard.covers(&self.path), "the lock of another directory");
        let io = |error| FileError::io("write", &self.file_path(name), error);
        let temp = temporary(name);
        if let Err(error) = self.write_beside(&temp, name, bytes) {
            // What cannot be removed now is swept away later.
            let _ = self.unlink(&temp);
            return Err(io(error));
        }
        self.sync().map_err(io)
    }

    fn write_beside(&self, temp: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        self.unlink_leftover(name);
        steps::before(&self.path, Step::Create(temp))?;
        let private = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::openat(&self.handle, temp, flags, private)?);
        // A strict umask may have taken our own rights as well.
        rustix::fs::fchmod(&file, private)?;
        steps::before(&self.path, Step::Write(temp))?;
        file.write_all(bytes)?;
        steps::before(&self.path, Step::SyncFile(temp))?;
        file.sync_all()?;
        steps::before(&self.path, Step::Rename(temp, name))?;
        Ok(rustix::fs::renameat(&self.handle, temp, &self.handle, name)?)
    }

    /// Gives a file another name. What had that name is lost.
    pub(crate) fn rename(&self, guard: &Guard, from: &str, to: &str) -> Result<(), FileError> {
        debug_assert!(guard.covers(&self.path), "the lock of another directory");
        let io = |error| FileError::io("rename", &self.file_path(from), error);
        steps::before(&self.path, Step::Rename(from, to)).map_err(io)?;
        rustix::fs::renameat(&self.handle, from, &self.handle, to)
            .map_err(|errno| io(errno.into()))?;
        self.sync().map_err(io)
    }

    /// Removes a file, durably, and what a crashed write of it has left. Says whether there was one.
    pub(crate) fn remove(&self, guard: &Guard, name: &str) -> Result<bool, FileError> {
        debug_assert!(guard.covers(&self.path), "the lock of another directory");
        let io = |error| FileError::io("remove", &self.file_path(name), error);
        self.unlink_leftover(name);
        match self.unlink(name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io(error)),
        }
        self.sync().map_err(io)?;
        Ok(true)
    }

    /// The names in it that end with `suffix`, without it, in order. Unfinished files are no names.
    pub(crate) fn names(&self, suffix: &str) -> Result<Vec<String>, FileError> {
        let mut names: Vec<_> = self
            .entries()?
            .iter()
            .filter(|name| !name.starts_with('.'))
            .filter_map(|name| name.strip_suffix(suffix).map(str::to_owned))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Whether every file in it is private, without opening any: a process opens the keys that it needs, and
    /// refuses to work beside one that others could read.
    pub(crate) fn check_files(&self) -> Result<(), FileError> {
        for name in self.entries()?.into_iter().filter(|name| name != "." && name != "..") {
            let path = self.file_path(&name);
            match path.symlink_metadata() {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) => check(&metadata, &path, Wanted::File)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // removed since we listed
                Err(error) => return Err(FileError::io("look at", &path, error)),
            }
        }
        Ok(())
    }

    /// Removes what crashed writes have left. Not for a directory in which several locks guard
    /// different files.
    pub(crate) fn sweep(&self, guard: &Guard) -> Result<(), FileError> {
        debug_assert!(guard.covers(&self.path), "the lock of another directory");
        for name in self.entries()? {
            if name.starts_with('.') && name.ends_with(UNFINISHED) {
                // It does no harm where it is; the next sweep tries again.
                let _ = self.unlink(&name);
            }
        }
        Ok(())
    }

    /// Opens a file as it is, if it is there.
    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<File>, FileError> {
        let path = self.file_path(name);
        // Without NONBLOCK, opening a pipe in a file's place would wait for ever.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(explain(&path, Wanted::File, errno)),
        };
        let metadata = file.metadata().map_err(|error| FileError::io("open", &path, error))?;
        check(&metadata, &path, Wanted::File)?;
        Ok(Some(file))
    }

    /// Opens the file of a lock, and makes it if it is missing.
    pub(crate) fn open_lock(&self, name: &str) -> Result<File, FileError> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE)?
            .ok_or_else(|| FileError::io("open", &self.file_path(name), Errno::NOENT))
    }

    fn entries(&self) -> Result<Vec<String>, FileError> {
        let io = |errno: Errno| FileError::io("list", &self.path, errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle).map_err(io)? {
            // A name that is no text is none of ours.
            if let Ok(name) = entry.map_err(io)?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        steps::before(&self.path, Step::Remove(name))?;
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    fn unlink_leftover(&self, name: &str) {
        // Mostly there is none. One that cannot be removed shows when its place is needed.
        let _ = rustix::fs::unlinkat(&self.handle, temporary(name), AtFlags::empty());
    }

    fn sync(&self) -> io::Result<()> {
        steps::before(&self.path, Step::SyncDir)?;
        sync_names(&self.handle)
    }
}

fn sync_names(dir: &File) -> io::Result<()> {
    match dir.sync_all() {
        // Some file systems cannot sync a directory; they keep names in order by themselves.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput) => Ok(()),
        result => result,
    }
}

fn temporary(name: &str) -> String {
    format!(".{name}{UNFINISHED}")
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    File,
    Directory,
}

/// Whether nobody but us can have read or changed it.
fn check(metadata: &Metadata, path: &Path, wanted: Wanted) -> Result<(), FileError> {
    let refuse = |what: &str, fix: String| {
        Err(FileError::Exposed { path: path.to_owned(), what: what.to_owned(), fix })
    };
    let name = quoted(path);
    if metadata.is_symlink() {
        return refuse("is a symbolic link", format!("put what it leads to in its place: {name}"));
    }
    let (fits, what, mode) = match wanted {
        Wanted::File => (metadata.is_file(), "is not a regular file", "600"),
        Wanted::Directory => (metadata.is_dir(), "is not a directory", "700"),
    };
    if !fits {
        return refuse(what, format!("move it away: mv {name} {name}.old"));
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me {
        let what = format!("belongs to user {}, and we run as {me}", metadata.uid());
        return refuse(&what, format!("run as that user, or: chown {me} {name}"));
    }
    if metadata.mode() & 0o077 != 0 {
        let what = format!("is open to others (mode {:04o})", metadata.mode() & 0o7777);
        return refuse(&what, format!("chmod {mode} {name}"));
    }
    if wanted == Wanted::File && metadata.nlink() > 1 {
        let fix = format!("cp -p {name} {name}.copy && mv {name}.copy {name}");
        return refuse("has a second name (a hard link)", fix);
    }
    Ok(())
}

/// Why something could not be opened: rather what is wrong with it than what the system called it.
fn explain(path: &Path, wanted: Wanted, errno: Errno) -> FileError {
    if let Ok(metadata) = path.symlink_metadata()
        && let Err(exposed) = check(&metadata, path, wanted)
    {
        return exposed;
    }
    FileError::io("open", path, errno)
}

#[cfg(test)]
mod tests;
