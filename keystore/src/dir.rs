//! A private directory, and how files in it are read and replaced.
//!
//! The directory is opened once and every operation goes through its handle, so that nobody can
//! swap it underneath us. A file or directory that is not private is refused: somebody else may
//! have read or written it, and continuing would hide that. A file is replaced by writing a
//! temporary file beside it, syncing that, renaming it and syncing the directory: after a power cut
//! there is either the old content or the new.
//!
//! Not here: the content of the files (`file`), and who may write when (`lock`).

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::fault::{Damage, FileError, shell_quote};
use crate::lock::Guard;
use crate::steps::{self, Step};

/// The suffix of a temporary file; its name begins with a dot. Only the holder of the lock writes
/// one, so that an existing file of that name is the remnant of a crash.
const UNFINISHED: &str = ".tmp";

/// A private directory.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    handle: Arc<File>,
    path: Arc<Path>,
}

impl Dir {
    /// Opens a directory if it exists.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Self::from_handle(File::from(fd), path.into()).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FileError::io("open", path, errno)),
        }
    }

    /// Opens a directory, creating it and its missing parents.
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

    /// Opens a subdirectory if it exists.
    pub(crate) fn sub(&self, name: &str) -> Result<Option<Self>, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.file_path(name);
        match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(fd) => Self::from_handle(File::from(fd), path).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(explain(&path, NodeKind::Directory, errno)),
        }
    }

    /// Opens a subdirectory, creating it if it is missing.
    pub(crate) fn create_sub(&self, name: &str) -> Result<Self, FileError> {
        let io = |errno: io::Error| FileError::io("make", &self.file_path(name), errno);
        match rustix::fs::mkdirat(&self.handle, name, Mode::RWXU) {
            Ok(()) => self.sync().map_err(io)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(io(errno.into())),
        }
        self.sub(name)?.ok_or_else(|| io(Errno::NOENT.into()))
    }

    fn from_handle(handle: File, path: PathBuf) -> Result<Self, FileError> {
        let metadata = handle.metadata().map_err(|error| FileError::io("open", &path, error))?;
        check(&metadata, &path, NodeKind::Directory)?;
        Ok(Self { handle: Arc::new(handle), path: path.into() })
    }

    /// The path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn shared_path(&self) -> Arc<Path> {
        Arc::clone(&self.path)
    }

    /// The path of a file in the directory.
    pub(crate) fn file_path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether an entry with this name exists.
    pub(crate) fn holds(&self, name: &str) -> Result<bool, FileError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(FileError::io("look at", &self.file_path(name), errno)),
        }
    }

    /// Reads a file of at most `limit` bytes, if it exists.
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
        // One byte more than needed, so that the end is detected without moving secrets to a larger
        // buffer, which would leave them behind in the old one.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
        (&file).take(length as u64).read_to_end(&mut bytes).map_err(io)?;
        Ok(Some(bytes))
    }

    /// Replaces the content of a file by `bytes`. After an error the old content stands, unless the
    /// new one is already in place and only the final sync failed.
    pub(crate) fn write(&self, guard: &Guard, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        debug_assert!(guard.covers(&self.path), "the lock of another directory");
        let io = |error| FileError::io("write", &self.file_path(name), error);
        let temp = temporary(name);
        if let Err(error) = self.write_beside(&temp, name, bytes) {
            // If this fails, a later sweep removes the file.
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
        // A strict umask may have removed our own permissions as well.
        rustix::fs::fchmod(&file, private)?;
        steps::before(&self.path, Step::Write(temp))?;
        file.write_all(bytes)?;
        steps::before(&self.path, Step::SyncFile(temp))?;
        file.sync_all()?;
        steps::before(&self.path, Step::Rename(temp, name))?;
        Ok(rustix::fs::renameat(&self.handle, temp, &self.handle, name)?)
    }

    /// Renames a file, replacing any file of the new name.
    pub(crate) fn rename(&self, guard: &Guard, from: &str, to: &str) -> Result<(), FileError> {
        debug_assert!(guard.covers(&self.path), "the lock of another directory");
        let io = |error| FileError::io("rename", &self.file_path(from), error);
        steps::before(&self.path, Step::Rename(from, to)).map_err(io)?;
        rustix::fs::renameat(&self.handle, from, &self.handle, to)
            .map_err(|errno| io(errno.into()))?;
        self.sync().map_err(io)
    }

    /// Durably removes a file and the remnant of a crashed write of it. Returns whether it existed.
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

    /// Lists the names that end with `suffix`, without the suffix, sorted. Temporary files are left
    /// out.
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

    /// Checks that every file is private, without opening any: a process opens only the keys that
    /// it needs, but refuses to work beside one that others could read.
    pub(crate) fn check_files(&self) -> Result<(), FileError> {
        for name in self.entries()?.into_iter().filter(|name| name != "." && name != "..") {
            let path = self.file_path(&name);
            match path.symlink_metadata() {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) => check(&metadata, &path, NodeKind::File)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // removed meanwhile
                Err(error) => return Err(FileError::io("look at", &path, error)),
            }
        }
        Ok(())
    }

    /// Removes the remnants of crashed writes. Not for a directory in which several locks guard
    /// different files.
    pub(crate) fn sweep(&self, guard: &Guard) -> Result<(), FileError> {
        debug_assert!(guard.covers(&self.path), "the lock of another directory");
        for name in self.entries()? {
            if name.starts_with('.') && name.ends_with(UNFINISHED) {
                // A remnant is harmless; the next sweep tries again.
                let _ = self.unlink(&name);
            }
        }
        Ok(())
    }

    /// Opens an existing file, without creating it.
    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> Result<Option<File>, FileError> {
        let path = self.file_path(name);
        // Without NONBLOCK, opening a FIFO in a file's place would block for ever.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(explain(&path, NodeKind::File, errno)),
        };
        let metadata = file.metadata().map_err(|error| FileError::io("open", &path, error))?;
        check(&metadata, &path, NodeKind::File)?;
        Ok(Some(file))
    }

    /// Opens a lock file, creating it if it is missing.
    pub(crate) fn open_lock(&self, name: &str) -> Result<File, FileError> {
        self.open_file(name, OFlags::RDWR | OFlags::CREATE)?
            .ok_or_else(|| FileError::io("open", &self.file_path(name), Errno::NOENT))
    }

    fn entries(&self) -> Result<Vec<String>, FileError> {
        let io = |errno: Errno| FileError::io("list", &self.path, errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle).map_err(io)? {
            // All our names are UTF-8.
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
        // Usually there is none. If one cannot be removed, creating the new file fails.
        let _ = rustix::fs::unlinkat(&self.handle, temporary(name), AtFlags::empty());
    }

    fn sync(&self) -> io::Result<()> {
        steps::before(&self.path, Step::SyncDir)?;
        sync_names(&self.handle)
    }
}

fn sync_names(dir: &File) -> io::Result<()> {
    match dir.sync_all() {
        // Some file systems cannot sync a directory; they order changes of names themselves.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput) => Ok(()),
        result => result,
    }
}

fn temporary(name: &str) -> String {
    format!(".{name}{UNFINISHED}")
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NodeKind {
    File,
    Directory,
}

/// Checks that nobody else can have read or changed the file or directory.
fn check(metadata: &Metadata, path: &Path, wanted: NodeKind) -> Result<(), FileError> {
    let refuse = |what: &str, fix: String| {
        Err(FileError::Exposed { path: path.to_owned(), what: what.to_owned(), fix })
    };
    let name = shell_quote(path);
    if metadata.is_symlink() {
        return refuse("is a symbolic link", format!("replace it with its target: {name}"));
    }
    let (fits, what, mode) = match wanted {
        NodeKind::File => (metadata.is_file(), "is not a regular file", "600"),
        NodeKind::Directory => (metadata.is_dir(), "is not a directory", "700"),
    };
    if !fits {
        return refuse(what, format!("move it away: mv {name} {name}.old"));
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me {
        let what =
            format!("belongs to user {}, but this program runs as user {me}", metadata.uid());
        return refuse(&what, format!("run as that user, or: chown {me} {name}"));
    }
    if metadata.mode() & 0o077 != 0 {
        let what = format!("is accessible to other users (mode {:04o})", metadata.mode() & 0o7777);
        return refuse(&what, format!("chmod {mode} {name}"));
    }
    if wanted == NodeKind::File && metadata.nlink() > 1 {
        let fix = format!("cp -p {name} {name}.copy && mv {name}.copy {name}");
        return refuse("has a second name (a hard link)", fix);
    }
    Ok(())
}

/// Explains why opening failed: what is wrong with the path, if known, rather than the bare errno.
fn explain(path: &Path, wanted: NodeKind, errno: Errno) -> FileError {
    if let Ok(metadata) = path.symlink_metadata()
        && let Err(exposed) = check(&metadata, path, wanted)
    {
        return exposed;
    }
    FileError::io("open", path, errno)
}

#[cfg(test)]
mod tests;
