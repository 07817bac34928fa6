//! This machine's side: what is here, and what comes here.
//!
//! Names from a server are hostile: each is one component of a path, and none is followed through a
//! link.

mod settled;
mod standing;
mod walk;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

pub(super) use self::settled::{Stamp, open, read_small};
pub(crate) use self::standing::{may_be_replaced, there_already, through_link};
pub use self::walk::LocalEntry;
pub(in crate::files) use self::walk::{Walked, digest, digest_of, file_hash, walk};
use crate::text::neutral::neutral;

/// What stands at the end of the name of a file that is not whole.
pub(super) const PART: &str = "farwire-part";

/// Something went wrong with a file here.
pub(crate) fn io_failure(path: &Path, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::DiskFull,
        io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
        _ => Kind::Io,
    };
    Failure::new(kind, format!("{}: {error}", neutral(&path.display().to_string())))
}

/// The path of a name from a server in a directory here.
///
/// # Errors
///
/// `outside_root` for what is not one plain name.
pub(crate) fn beneath(dir: &Path, path: &[u8]) -> Result<PathBuf, Failure> {
    let mut result = dir.to_path_buf();
    for name in path.split(|&byte| byte == b'/') {
        if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
            let text =
                format!("the server sent the name `{}`", neutral(&String::from_utf8_lossy(path)));
            return Err(Failure::new(Kind::OutsideRoot, text));
        }
        result.push(std::ffi::OsStr::from_bytes(name));
    }
    Ok(result)
}

/// Makes a directory here that only we may look into, if it is not there; its rights come once all
/// is in it. One that is there is made writable to us. Returns whether it was made. A link in its
/// place is refused.
pub(super) fn make_directory(path: &Path) -> Result<bool, Failure> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is = fs::symlink_metadata(path).map_err(|error| io_failure(path, &error))?;
            match is.is_dir() {
                true => {
                    if is.mode() & 0o700 != 0o700 {
                        // What may not be written to is said where something is written.
                        let mode = (is.mode() & 0o7777) | 0o700;
                        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
                    }
                    Ok(false)
                }
                false => Err(Failure::new(
                    Kind::NotADirectory,
                    format!("{} is not a directory", path.display()),
                )),
            }
        }
        Err(error) => Err(io_failure(path, &error)),
    }
}

/// A file that comes here: beside its place until it is whole.
#[derive(Debug)]
pub(super) struct Incoming {
    file: File,
    part: PathBuf,
    target: PathBuf,
    /// So many bytes are there.
    pub(super) have: u64,
    overwrite: bool,
}

impl Incoming {
    /// Begins a file, or goes on with the part of it that is there from this state of it.
    pub(super) fn begin(target: &Path, revision: u64, overwrite: bool) -> Result<Self, Failure> {
        may_be_replaced(target, overwrite)?;
        let part = part(target, revision);
        let (file, is) = own(&part)?;
        if !is.is_file() || is.nlink() != 1 {
            return Err(io_failure(&part, &io::Error::other("it is no file of ours")));
        }
        Ok(Self { file, part, target: target.to_path_buf(), have: is.len(), overwrite })
    }

    /// It turns out to be of this state: a later call goes on with it only in that.
    pub(super) fn is_of(&mut self, revision: u64) -> Result<(), Failure> {
        let part = part(&self.target, revision);
        if part != self.part {
            fs::rename(&self.part, &part).map_err(|error| io_failure(&part, &error))?;
            self.part = part;
        }
        Ok(())
    }

    /// Forgets what is there.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        self.file.set_len(0).map_err(|error| io_failure(&self.part, &error))?;
        self.have = 0;
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        io::Write::write_all(&mut self.file, bytes).map_err(|error| self.write_failure(&error))?;
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// That no more can be written. A full disk gets back the room of what has arrived.
    fn write_failure(&self, error: &io::Error) -> Failure {
        let mut failure = io_failure(&self.part, error);
        if failure.kind == Kind::DiskFull && fs::remove_file(&self.part).is_ok() {
            failure.message.push_str("; what had arrived of it was removed");
        }
        failure
    }

    /// Leaves nothing of it.
    pub(super) fn discard(self) {
        // A part that stays is gone on with, or lies there.
        let _ = fs::remove_file(&self.part);
    }

    /// What is there, to be read.
    pub(super) fn content(&self) -> Result<File, Failure> {
        File::open(&self.part).map_err(|error| io_failure(&self.part, &error))
    }

    /// Puts it in its place, with these rights and this time of its last change.
    pub(super) fn finish(self, mode: u32, modified: i64) -> Result<(), Failure> {
        use std::os::unix::fs::PermissionsExt as _;
        let wrong = |error: io::Error| io_failure(&self.target, &error);
        // Something else may stand there by now.
        may_be_replaced(&self.target, self.overwrite)?;
        // Exactly those of the original, as `cp -p` does it, and no set-id.
        self.file.set_permissions(fs::Permissions::from_mode(mode & 0o777)).map_err(wrong)?;
        // A time that cannot be set is not worth the file.
        let _ = self.file.set_modified(super::rights::time(modified));
        if self.overwrite {
            return fs::rename(&self.part, &self.target).map_err(wrong);
        }
        // Refuses what came in its place meanwhile.
        match fs::hard_link(&self.part, &self.target) {
            Ok(()) => fs::remove_file(&self.part).map_err(wrong),
            // The part stays: if it may be replaced, nothing of it is fetched again.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(there_already(&self.target))
            }
            // A file system without second names.
            Err(_) => fs::rename(&self.part, &self.target).map_err(wrong),
        }
    }
}

/// The name of what is not whole yet.
fn part(target: &Path, revision: u64) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // A long name leaves no room for more.
    let name: String = name.chars().take(40).collect();
    target.with_file_name(format!(".{name}.{revision:012x}.{PART}"))
}

/// Opens a part, or makes it, for this process alone.
///
/// # Errors
///
/// `busy` while another one fetches the same file to the same place.
fn own(part: &Path) -> Result<(File, fs::Metadata), Failure> {
    let wrong = |error: io::Error| io_failure(part, &error);
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    loop {
        let file = options.open(part).map_err(wrong)?;
        // Where nothing can be locked, two at once are not kept apart.
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        if locked == Err(Errno::WOULDBLOCK) {
            let shown = neutral(&part.display().to_string());
            let text = format!("{shown} is being written by another process");
            return Err(Failure::new(Kind::Busy, text).with_hint("wait for it, then try again"));
        }
        let is = file.metadata().map_err(wrong)?;
        // Whoever had it may have finished it between our opening and our locking: it is theirs
        // then.
        match fs::symlink_metadata(part) {
            Ok(named) if (named.dev(), named.ino()) == (is.dev(), is.ino()) => {
                return Ok((file, is));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(error)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_a_server_stay_where_they_belong() {
        let dir = Path::new("/here");
        assert_eq!(beneath(dir, b"a/b").unwrap(), Path::new("/here/a/b"));
        for bad in [&b".."[..], b"a/../b", b"/etc", b"a//b", b"", b"a\0", b"./a"] {
            assert_eq!(beneath(dir, bad).unwrap_err().kind, Kind::OutsideRoot, "{bad:?}");
        }
    }

    #[test]
    fn a_file_is_there_once_it_is_whole_and_goes_on_where_it_broke_off() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("file");
        let mut incoming = Incoming::begin(&target, 7, false).unwrap();
        incoming.write(b"half").unwrap();
        drop(incoming);
        assert!(!target.exists());
        let mut incoming = Incoming::begin(&target, 7, false).unwrap();
        assert_eq!(incoming.have, 4);
        incoming.write(b" whole").unwrap();
        incoming.finish(0o4777, 5).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"half whole");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o777, "and no set-id");
        assert_eq!(Incoming::begin(&target, 7, false).unwrap_err().kind, Kind::FileExists);
        assert_eq!(Incoming::begin(&target, 8, true).unwrap().have, 0, "another state begins anew");
        // Somebody was faster, and keeps what is theirs.
        let late = place.path().join("late");
        let incoming = Incoming::begin(&late, 7, false).unwrap();
        fs::write(&late, "theirs").unwrap();
        assert_eq!(incoming.finish(0o644, 5).unwrap_err().kind, Kind::FileExists);
        assert_eq!(fs::read(&late).unwrap(), b"theirs");
    }

    #[test]
    fn what_does_not_fit_on_the_disk_is_not_kept() {
        let place = tempfile::tempdir().unwrap();
        let incoming = Incoming::begin(&place.path().join("file"), 7, false).unwrap();
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let failure = incoming.write_failure(&full);
        assert_eq!(failure.kind, Kind::DiskFull);
        assert!(failure.message.contains("was removed"), "{failure}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn two_at_once_do_not_write_to_one_part() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("file");
        let mut first = Incoming::begin(&target, 7, true).unwrap();
        first.write(b"first").unwrap();
        assert_eq!(Incoming::begin(&target, 7, true).unwrap_err().kind, Kind::Busy);
        first.finish(0o600, 5).unwrap();
        // What is finished is not opened as a part again.
        let mut second = Incoming::begin(&target, 7, true).unwrap();
        assert_eq!(second.have, 0);
        second.write(b"2").unwrap();
        drop(second);
        assert_eq!(fs::read(&target).unwrap(), b"first");
    }

    #[test]
    fn a_link_is_not_followed_and_not_written_through() {
        let place = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), place.path().join("dir")).unwrap();
        assert_eq!(
            make_directory(&place.path().join("dir")).unwrap_err().kind,
            Kind::NotADirectory
        );
        let part = place.path().join(format!(".f.{:012x}.{PART}", 7));
        std::os::unix::fs::symlink(outside.path().join("x"), part).unwrap();
        assert!(Incoming::begin(&place.path().join("f"), 7, true).is_err());
        assert!(!outside.path().join("x").exists());
        let walked = walk(place.path()).unwrap();
        assert_eq!((walked.found.len(), walked.left_out.len()), (0, 2));
    }
}
