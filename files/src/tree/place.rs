//! A name in a directory that was resolved, for what changes it.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::stat::Stat;
use crate::path::Rel;

/// One name in a directory that was resolved beneath the root. The name may be free.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub(crate) dir: OwnedFd,
    /// The name in it.
    pub(crate) name: Vec<u8>,
    /// The path that was asked for.
    pub(crate) path: Rel,
}

impl Place {
    /// The state of what stands here. `None` if the name is free.
    pub(crate) fn stat(&self) -> Result<Option<Stat>, Errno> {
        match rustix::fs::statat(self.dir.as_fd(), &self.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::new(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until the name is on disk.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.dir, c".", flags, Mode::empty());
        match dir.and_then(rustix::fs::fsync) {
            // We may write to the directory and not read it, or its file system has no `fsync`.
            Err(Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOENT) => Ok(()),
            other => other,
        }
    }
}
