//! What the kernel says of something that has a name.

use farwire_protocol::cbor::Blob;
use farwire_protocol::streams::files::{Entry, What};
use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

/// What something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stat {
    /// What it is.
    pub what: What,
    /// Its size in bytes, of a file; 0 of all else.
    pub size: u64,
    /// When its content was changed, in nanoseconds since 1970.
    pub modified: i64,
    /// Which state of it this is: 48 bits of a hash over inode, size and both times.
    pub revision: u64,
    /// The lower 12 bits of its mode.
    pub mode: u32,
    /// How many names it has.
    pub links: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Stat {
    pub(crate) fn new(stat: &rustix::fs::Stat) -> Self {
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => What::File,
            FileType::Directory => What::Directory,
            FileType::Symlink => What::Link,
            _ => What::Other,
        };
        let nanos = |seconds: i64, nanos: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(nanos).unwrap_or(0))
        };
        let size = if what == What::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        let modified = nanos(stat.st_mtime, stat.st_mtime_nsec);
        let mut hash = Sha256::new();
        hash.update(stat.st_ino.to_le_bytes());
        hash.update(stat.st_size.to_le_bytes());
        hash.update(modified.to_le_bytes());
        hash.update(nanos(stat.st_ctime, stat.st_ctime_nsec).to_le_bytes());
        let mut first = [0; 8];
        first[2..].copy_from_slice(&hash.finalize()[..6]);
        Self {
            what,
            size,
            modified,
            revision: u64::from_be_bytes(first),
            mode: stat.st_mode & 0o7777,
            links: stat.st_nlink,
            device: stat.st_dev,
            inode: stat.st_ino,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }

    /// The entry of a path.
    pub fn entry(&self, path: &[u8]) -> Entry {
        Entry {
            path: Blob(path.to_vec()),
            what: self.what,
            size: self.size,
            modified: self.modified,
            revision: self.revision,
            mode: self.mode,
            hash: None,
            target: None,
        }
    }
}
