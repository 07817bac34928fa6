//! A configuration file of another program: reads it, and replaces it in one step.
//!
//! # Invariants
//!
//! - A reader that opens the file at any moment sees all the old bytes or all the new ones, also
//!   after a power cut: the new file is written beside it, synced and renamed.
//! - Mode and owner stay. A symbolic link stays a link; what it leads to is replaced.
//! - What was there before stands in `NAME.farwire-backup`, and a file that has changed since it
//!   was read is not replaced.
//!
//! Not here: what is changed in the text (`codex.rs`, `claude.rs`).

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};

/// A configuration file as it was when we read it.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// Where the client looks for it.
    path: PathBuf,
    /// Its path after following all links.
    target: PathBuf,
    /// How many bytes it may have.
    limit: u64,
    /// What was in it; `None` where there was no file.
    old: Option<Old>,
}

#[derive(Debug)]
struct Old {
    bytes: Vec<u8>,
    metadata: Metadata,
}

impl ConfigFile {
    /// Reads the file at `path`, which need not exist, and is refused beyond `limit` bytes.
    pub(crate) fn read(path: &Path, limit: u64) -> Result<Self, Failure> {
        let target = resolved(path).map_err(|error| io_failure("find", path, &error))?;
        let old = read_regular(&target, limit)?;
        Ok(Self { path: path.to_owned(), target, limit, old })
    }

    /// Its text, without the mark that some editors put at the beginning; empty where there is
    /// none.
    pub(crate) fn text(&self) -> Result<&str, Failure> {
        self.old.as_ref().map_or(Ok(""), |old| text(&self.path, &old.bytes))
    }

    /// The text of the backup, if there is one that can be read.
    pub(crate) fn backup_text(&self) -> Option<String> {
        // A backup that is damaged or cannot be read is ignored.
        let old = read_regular(&self.backup_path(), self.limit).ok()??;
        text(&self.path, &old.bytes).ok().map(str::to_owned)
    }

    /// Replaces its text, and returns where the old one is kept. With `private`, only the owner can
    /// read a new file.
    pub(crate) fn replace(&self, text: &str, private: bool) -> Result<Option<PathBuf>, Failure> {
        let Some(old) = &self.old else {
            self.make_directory(private)?;
            self.check_unchanged()?;
            self.write(&self.target, text.as_bytes(), if private { 0o600 } else { 0o644 })?;
            return Ok(None);
        };
        self.check_writable(&old.metadata)?;
        let backup = self.backup_path();
        self.write(&backup, &old.bytes, old.metadata.mode())?;
        let mark = if old.bytes.starts_with(MARK) { MARK } else { b"" };
        self.check_unchanged()?;
        self.write(&self.target, &[mark, text.as_bytes()].concat(), old.metadata.mode())?;
        Ok(Some(backup))
    }

    /// Restores the backup, which is then no longer needed.
    pub(crate) fn restore(&self, text: &str) -> Result<(), Failure> {
        self.replace(text, true)?;
        self.remove_backup()
    }

    /// Removes the file and its backup.
    pub(crate) fn delete(&self) -> Result<(), Failure> {
        if let Some(old) = &self.old {
            self.check_writable(&old.metadata)?;
            self.check_unchanged()?;
            fs::remove_file(&self.target)
                .map_err(|error| io_failure("remove", &self.path, &error))?;
        }
        self.remove_backup()
    }

    fn remove_backup(&self) -> Result<(), Failure> {
        let backup = self.backup_path();
        match fs::remove_file(&backup) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_failure("remove", &backup, &error))
            }
            _ => Ok(()),
        }
    }

    fn backup_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".farwire-backup");
        path.into()
    }

    fn make_directory(&self, private: bool) -> Result<(), Failure> {
        let Some(directory) = self.target.parent() else { return Ok(()) };
        let mode = if private { 0o700 } else { 0o755 };
        let made = DirBuilder::new().recursive(true).mode(mode).create(directory);
        made.map_err(|error| io_failure("create", directory, &error))
    }

    /// A rename would replace a file that a user has made read-only on purpose, so we check.
    fn check_writable(&self, metadata: &Metadata) -> Result<(), Failure> {
        if metadata.mode() & 0o222 != 0 {
            return Ok(());
        }
        let message = format!("`{}` is read-only", self.path.display());
        Err(Failure::new(Kind::Io, message).with_hint(BY_HAND))
    }

    fn check_unchanged(&self) -> Result<(), Failure> {
        let now = read_regular(&self.target, self.limit)?.map(|now| now.bytes);
        if now.as_ref() == self.old.as_ref().map(|old| &old.bytes) {
            return Ok(());
        }
        let message = format!("`{}` was changed by another program just now", self.path.display());
        Err(Failure::new(Kind::ChangedMeanwhile, message).with_hint("run the command again"))
    }

    /// Writes these bytes to a file next to `path`, and renames it to `path`.
    fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
        let failed = |error: &io::Error| io_failure("write", path, error);
        let (file, beside) = create_beside(path).map_err(|error| failed(&error))?;
        let written = self.fill(file, bytes, mode).and_then(|()| fs::rename(&beside, path));
        if let Err(error) = written {
            // It may no longer exist; the first error is the one that counts.
            let _ = fs::remove_file(&beside);
            return Err(failed(&error));
        }
        // Some file systems cannot sync a directory.
        let _ = path
            .parent()
            .map(|directory| File::open(directory).and_then(|directory| directory.sync_all()));
        Ok(())
    }

    fn fill(&self, mut file: File, bytes: &[u8], mode: u32) -> io::Result<()> {
        file.write_all(bytes)?;
        if let Some(old) = &self.old {
            let new = file.metadata()?;
            if (new.uid(), new.gid()) != (old.metadata.uid(), old.metadata.gid()) {
                std::os::unix::fs::fchown(
                    &file,
                    Some(old.metadata.uid()),
                    Some(old.metadata.gid()),
                )?;
            }
        }
        file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
        file.sync_all()
    }
}

/// The path that `path` leads to, even if the last link leads to nothing yet.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        match fs::read_link(&path) {
            Ok(target) => path = path.with_file_name("").join(target),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::NotFound
                ) =>
            {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// The file at `path`, if there is one. A pipe or a device is refused without waiting for it.
fn read_regular(path: &Path, limit: u64) -> Result<Option<Old>, Failure> {
    let read = || {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(Old { bytes, metadata })
    };
    match read() {
        Ok(old) if old.bytes.len() as u64 > limit => {
            let message = format!("`{}` is larger than {} MiB", path.display(), limit >> 20);
            Err(Failure::new(Kind::TooLarge, message).with_hint(BY_HAND))
        }
        Ok(old) => Ok(Some(old)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_failure("read", path, &error)),
    }
}

fn text<'b>(path: &Path, bytes: &'b [u8]) -> Result<&'b str, Failure> {
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        Failure::new(Kind::Configuration, format!("`{}` line {line} is not UTF-8", path.display()))
    })
}

/// A new, empty file in the directory of `path`, under an unused name.
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().ok_or_else(|| io::Error::other("not a file name"))?;
    for attempt in 0..100 {
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}-{attempt}", std::process::id()));
        let beside = path.with_file_name(beside);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside) {
            Ok(file) => return Ok((file, beside)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many temporary files are left over next to it"))
}

fn io_failure(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::caused(Kind::Io, format!("cannot {verb} `{}`", path.display()), error)
}

const BY_HAND: &str = "`--print` prints the entry, so that you can add it by hand";

/// The byte order mark with which some editors begin UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// As many links as Linux follows.
const LINK_LIMIT: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 20;

    #[test]
    fn a_file_beyond_its_limit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        File::create(&path).unwrap().set_len(LIMIT).unwrap();
        ConfigFile::read(&path, LIMIT).unwrap();
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(ConfigFile::read(&path, LIMIT).unwrap_err().kind, Kind::TooLarge);
    }

    #[test]
    fn a_pipe_or_a_directory_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let failure = ConfigFile::read(directory.path(), LIMIT).unwrap_err();
        assert_eq!(failure.kind, Kind::Io);
        assert!(failure.message.ends_with("not a regular file"), "{failure}");
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(
            ConfigFile::read(&pipe, LIMIT).unwrap_err().message.ends_with("not a regular file")
        );
    }

    #[test]
    fn links_that_lead_in_a_circle_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        let failure = ConfigFile::read(&link, LIMIT).unwrap_err();
        assert!(
            failure.message.contains("link")
                && failure.message.ends_with("too many symbolic links"),
            "{failure}"
        );
    }

    #[test]
    fn a_file_that_has_changed_since_it_was_read_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        fs::write(&path, "one").unwrap();
        let file = ConfigFile::read(&path, LIMIT).unwrap();
        fs::write(&path, "two").unwrap();
        assert_eq!(file.replace("three", true).unwrap_err().kind, Kind::ChangedMeanwhile);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    }

    #[test]
    fn mode_links_and_the_mark_at_the_beginning_survive() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        let link = directory.path().join("link");
        fs::write(&real, "\u{feff}one").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let file = ConfigFile::read(&link, LIMIT).unwrap();
        assert_eq!(file.text().unwrap(), "one");
        let backup = file.replace("two", true).unwrap().unwrap();
        assert_eq!(backup, directory.path().join("link.farwire-backup"));
        assert_eq!(fs::read_to_string(&backup).unwrap(), "\u{feff}one");
        assert_eq!(fs::read_to_string(&real).unwrap(), "\u{feff}two");
        assert!(link.is_symlink());
        for path in [real, backup] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o640);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "nothing is left over");
    }

    #[test]
    fn a_link_to_nothing_gets_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("far/away", &link).unwrap();
        assert_eq!(ConfigFile::read(&link, LIMIT).unwrap().replace("x", true).unwrap(), None);
        assert_eq!(fs::read_to_string(directory.path().join("far/away")).unwrap(), "x");
        assert!(link.is_symlink());
    }

    #[test]
    fn text_in_another_encoding_is_refused_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        fs::write(&path, b"a\nb\xff").unwrap();
        let failure = ConfigFile::read(&path, LIMIT).unwrap().text().unwrap_err();
        assert_eq!(failure.kind, Kind::Configuration);
        assert!(failure.message.ends_with("config` line 2 is not UTF-8"), "{failure}");
    }
}
