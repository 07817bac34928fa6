//! A file that is being written. It becomes visible at once, when it is complete.
//!
//! A draft stands beside the file that it will replace, under a hidden name. If the process dies, a
//! later listing of the directory removes the draft once it is old enough.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::{How, What};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::access::{Rights, inherit_access};
use super::content::{Destination, Source, copy_content};
use super::place::Place;
use super::root::Tree;
use super::space::Space;
use super::stat::Stat;
use crate::fault::fault;
use crate::path::{HIDDEN, Rel};

/// No attribute that is copied is larger than this.
const ATTRIBUTE: usize = 64 << 10;

/// How a file is to be written.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// Whether the file may or must exist already.
    pub how: How,
    /// Write only if the existing file has this revision.
    pub revision: Option<u64>,
    /// The permission bits. Absent: those of the old file, or what the umask leaves. Never more
    /// than `rwx` for user, group and others.
    pub mode: Option<u32>,
    /// The modification time to set, in nanoseconds since 1970.
    pub modified: Option<i64>,
    /// Whether to wait until the file is on disk.
    pub durable: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { how: How::Put, revision: None, mode: None, modified: None, durable: true }
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct Draft<'a> {
    tree: &'a Tree,
    place: Place,
    wanted: WriteOptions,
    file: File,
    /// The temporary name, until the draft gets its own.
    name: Option<Vec<u8>>,
    /// Whether an incomplete draft is kept, so that the transfer can be resumed.
    resumable: bool,
    /// Whether content and mode were copied from another file.
    copied: bool,
    space: Space<'a>,
}

impl Tree {
    /// Begins a file. Fails before any content is sent if the file may not be written.
    pub fn draft(&self, path: &Rel, wanted: WriteOptions) -> Result<Draft<'_>, Failure> {
        let place = self.place_to_write(path)?;
        self.admits(&place, &wanted)?;
        let name = temporary()?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(&place.dir, &name[..], flags, mode);
        let file = file.map_err(|error| fault(path, error))?.into();
        let (name, space) = (Some(name), Space::new(&self.rules, 0));
        let mut draft =
            Draft { tree: self, place, wanted, file, name, resumable: false, copied: false, space };
        draft.take(0)?;
        Ok(draft)
    }

    /// Resumes the transfer with this id, or begins it.
    pub fn resume(
        &self,
        path: &Rel,
        wanted: WriteOptions,
        transfer: Nonce,
    ) -> Result<Draft<'_>, Failure> {
        let place = self.place_to_write(path)?;
        self.admits(&place, &wanted)?;
        let name = partial(transfer);
        let flags =
            OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.dir, &name[..], flags, Mode::from_raw_mode(0o600));
        let file = file.map_err(|error| fault(path, error))?;
        let stat = Stat::new(&rustix::fs::fstat(&file).map_err(|error| fault(path, error))?);
        if stat.what != What::File || stat.links != 1 {
            return Err(fault(path, Errno::NXIO));
        }
        let (name, space) = (Some(name), Space::new(&self.rules, stat.size));
        let file = file.into();
        let mut draft =
            Draft { tree: self, place, wanted, file, name, resumable: true, copied: false, space };
        draft.take(0)?;
        Ok(draft)
    }

    /// How many bytes of a transfer have been received.
    pub fn received_bytes(&self, path: &Rel, transfer: Nonce) -> Result<u64, Failure> {
        let place = self.place_to_write(path)?;
        let partial = Place { name: partial(transfer), ..place };
        let stat = partial.stat().map_err(|error| fault(path, error))?;
        Ok(stat.map_or(0, |stat| stat.size))
    }

    /// Checks that the file may be written now. Returns the state of the existing file.
    pub(super) fn admits(
        &self,
        place: &Place,
        wanted: &WriteOptions,
    ) -> Result<Option<Stat>, Failure> {
        let path = &place.path;
        let before = place.stat().map_err(|error| fault(path, error))?;
        match (&before, wanted.how) {
            (Some(stat), _) if stat.what == What::Directory => {
                return Err(fault(path, Errno::ISDIR));
            }
            (Some(stat), _) if stat.what != What::File => return Err(fault(path, Errno::NXIO)),
            (Some(_), How::Create) => return Err(fault(path, Errno::EXIST)),
            (None, How::Replace) => return Err(fault(path, Errno::NOENT)),
            (Some(stat), _) if stat.links > 1 && !self.rules.hard_links => {
                let text = format!(
                    "{path} has {} hard links, some of which may be outside the root",
                    stat.links
                );
                return Err(Failure::new(Kind::OutsideRoot, text).with_hint(
                    "the owner of the server can allow it with --fs-allow-hardlinked-writes",
                ));
            }
            _ => {}
        }
        if let Some(expected) = wanted.revision
            && before.is_none_or(|stat| stat.revision != expected)
        {
            return Err(changed_meanwhile(path));
        }
        Ok(before)
    }
}

/// The failure for a file that no longer has the expected revision.
pub(crate) fn changed_meanwhile(path: &Rel) -> Failure {
    Failure::new(Kind::ChangedMeanwhile, format!("{path} has changed since it was read"))
}

impl Draft<'_> {
    /// Appends content.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.take(bytes.len() as u64)?;
        if let Err(error) = self.file.write_all(bytes) {
            // An incomplete file must not keep the disk full.
            self.resumable = false;
            return Err(self.fault(&error));
        }
        Ok(())
    }

    /// Copies the content of another file, in the state that it had when it was opened.
    pub(super) fn copy(&mut self, from: &File, stat: &Stat) -> Result<u64, Failure> {
        self.copied = true;
        let copied = copy_content(
            Source { file: from, stat },
            &self.file,
            &mut Destination {
                path: &self.place.path,
                space: &mut self.space,
                listener: &self.tree.listener,
            },
        );
        copied.map_err(|not| not.failure(&self.place.path))
    }

    fn fault(&self, error: &std::io::Error) -> Failure {
        fault(&self.place.path, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// Reserves space for `more` bytes.
    fn take(&mut self, more: u64) -> Result<(), Failure> {
        self.space.take(&self.place.path, &self.file, more)
    }

    /// How many bytes have been written.
    pub fn length(&self) -> u64 {
        self.space.size()
    }

    /// The file of the draft, for reading it again.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Truncates the draft to `bytes`, and continues there.
    pub fn truncate(&mut self, bytes: u64) -> Result<(), Failure> {
        use std::io::Seek as _;
        let cut =
            self.file.set_len(bytes).and_then(|()| self.file.seek(std::io::SeekFrom::Start(bytes)));
        cut.map_err(|error| self.fault(&error))?;
        self.space.begin(bytes);
        Ok(())
    }

    /// The state of the file that the draft will replace.
    pub fn before(&self) -> Result<Option<Stat>, Failure> {
        self.place.stat().map_err(|error| fault(&self.place.path, error))
    }

    /// Moves the draft to its place, if the conditions of the write still hold.
    pub fn commit(self) -> Result<Stat, Failure> {
        self.commit_with(|_, _| Ok(()))
    }

    /// Like [`Self::commit`]. Calls `keep` before the old file is replaced, while its name is
    /// locked, with the mode that the new file will have.
    pub fn commit_with(
        mut self,
        keep: impl FnOnce(Option<&Stat>, u32) -> Result<(), Failure>,
    ) -> Result<Stat, Failure> {
        let path = self.place.path.clone();
        let failed = |error| fault(&path, error);
        let Some(name) = self.name.clone() else { return Err(failed(Errno::BADF)) };
        let tree = self.tree;
        let name_lock = tree.lock_name(&self.place);
        let before = tree.admits(&self.place, &self.wanted)?;
        let mode = self.set_metadata(before.as_ref()).map_err(failed)?;
        if self.wanted.durable
            && let Err(error) = rustix::fs::fdatasync(&self.file)
        {
            // After a failed sync the kernel drops the dirty pages, and the next sync reports
            // success. The received bytes cannot be trusted any more.
            self.resumable = false;
            return Err(failed(error));
        }
        keep(before.as_ref(), mode)?;
        let flags = match self.wanted.how {
            How::Create => RenameFlags::NOREPLACE,
            How::Put | How::Replace | How::Append => RenameFlags::empty(),
        };
        let (dir, to) = (&self.place.dir, &self.place.name[..]);
        let in_place = tree.hold_in_place(&[&self.place])?;
        // Another program may have written to the file since the first check, which can be long
        // ago: the draft was synced, and the old content kept.
        tree.admits(&self.place, &self.wanted)?;
        rename(dir.as_fd(), &name, to, flags).map_err(failed)?;
        self.name = None;
        drop((in_place, name_lock));
        // The new file is in place, so a plain failure, which means that nothing was done, would be
        // wrong.
        let unsure = |error| {
            let cause = std::io::Error::from(error);
            let text = format!(
                "the new content of {path} is in place, but may not survive a crash: {cause}"
            );
            Failure::new(Kind::OutcomeUnknown, text)
        };
        if self.wanted.durable {
            self.place.sync().map_err(unsure)?;
        }
        let stat = rustix::fs::fstat(&self.file).map_err(unsure)?;
        Ok(Stat::new(&stat))
    }

    /// Sets the mode, the owner, the time and the attributes. Returns the mode.
    fn set_metadata(&self, before: Option<&Stat>) -> Result<u32, Errno> {
        let rights = match self.wanted.mode {
            None => Rights::Kept,
            Some(mode) if self.copied => Rights::Copied(mode),
            Some(mode) => Rights::Asked(mode),
        };
        let mode = match before {
            Some(before) => inherit_access(&self.file, &self.place, before, rights)?,
            None => self.wanted.mode.unwrap_or_else(|| 0o666 & !umask()) & 0o777,
        };
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?;
        if let Some(modified) = self.wanted.modified {
            let time = Timespec {
                tv_sec: modified.div_euclid(1_000_000_000),
                tv_nsec: modified.rem_euclid(1_000_000_000),
            };
            let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            rustix::fs::futimens(
                &self.file,
                &Timestamps { last_access: now, last_modification: time },
            )?;
        }
        Ok(mode)
    }
}

/// Copies the attributes that users set. Attributes that the system interprets are not copied.
pub(super) fn copy_attributes(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let mut names = vec![0; ATTRIBUTE];
    let length = rustix::fs::flistxattr(&from, &mut names[..])?;
    let names = names.get(..length).unwrap_or_default();
    let mut value = vec![0; ATTRIBUTE];
    for name in names.split(|&byte| byte == 0).filter(|name| name.starts_with(b"user.")) {
        let length = rustix::fs::fgetxattr(&from, name, &mut value[..])?;
        let value = value.get(..length).unwrap_or_default();
        rustix::fs::fsetxattr(&to, name, value, XattrFlags::empty())?;
    }
    Ok(())
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take().filter(|_| !self.resumable) {
            // If this fails, a sweep removes it later.
            let _ = rustix::fs::unlinkat(&self.place.dir, &name[..], AtFlags::empty());
        }
    }
}

/// Renames within a directory. If the file system does not support `RENAME_NOREPLACE`, the new name
/// is checked before.
pub(super) fn rename(
    dir: std::os::fd::BorrowedFd<'_>,
    from: &[u8],
    to: &[u8],
    flags: RenameFlags,
) -> Result<(), Errno> {
    if flags.is_empty() {
        return rustix::fs::renameat(dir, from, dir, to);
    }
    match rustix::fs::renameat_with(dir, from, dir, to, flags) {
        Err(Errno::INVAL | Errno::NOSYS) if flags == RenameFlags::NOREPLACE => {
            match rustix::fs::statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => rustix::fs::renameat(dir, from, dir, to),
                Ok(_) => Err(Errno::EXIST),
                Err(error) => Err(error),
            }
        }
        other => other,
    }
}

/// A hidden name that no file has.
pub(super) fn temporary() -> Result<Vec<u8>, Failure> {
    random(b"tmp-")
}

/// A hidden name for a file that comes back unless its replacement gets into place.
pub(super) fn set_aside() -> Result<Vec<u8>, Failure> {
    random(b"was-")
}

fn random(kind: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| {
        Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
    })?;
    let mut name = HIDDEN.to_vec();
    name.extend_from_slice(kind);
    name.extend_from_slice(data_encoding::HEXLOWER.encode(&random).as_bytes());
    Ok(name)
}

/// The hidden name of a partial transfer.
fn partial(transfer: Nonce) -> Vec<u8> {
    let mut name = HIDDEN.to_vec();
    name.extend_from_slice(b"part-");
    name.extend_from_slice(data_encoding::HEXLOWER.encode(&transfer.0).as_bytes());
    name
}

/// The umask of this process. It can be read only by setting it.
static UMASK: OnceLock<u32> = OnceLock::new();

fn umask() -> u32 {
    *UMASK.get_or_init(|| {
        let now = rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::umask(now);
        now.bits()
    })
}

/// The mode of a new file, as the umask leaves it.
pub(crate) fn mode_of_new(executable: bool) -> u32 {
    (if executable { 0o777 } else { 0o666 }) & !umask()
}

/// Reads the umask while the process has one thread.
pub fn remember_umask() {
    umask();
}
