//! The state of a file, from the kernel.

use farwire_protocol::cbor::Blob;
use farwire_protocol::streams::files::{Entry, What};
use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

/// The state of a file, directory or link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stat {
    /// The kind of file.
    pub what: What,
    /// The size of a file in bytes; 0 for everything else.
    pub size: u64,
    /// The modification time, in nanoseconds since 1970.
    pub modified: i64,
    /// Identifies this state of the file: 48 bits of a hash of inode, size and both times.
    pub revision: u64,
    /// The lower 12 bits of the mode.
    pub mode: u32,
    /// The number of hard links.
    pub links: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The fields that `stat` and `statx` have in common.
struct Parts {
    mode: u32,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
    inode: u64,
    device: u64,
    links: u64,
    owner: (u32, u32),
}

impl Stat {
    pub(crate) fn new(stat: &rustix::fs::Stat) -> Self {
        Self::from_parts(&Parts {
            mode: stat.st_mode,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            device: stat.st_dev,
            links: stat.st_nlink,
            owner: (stat.st_uid, stat.st_gid),
        })
    }

    fn from_parts(parts: &Parts) -> Self {
        let what = match FileType::from_raw_mode(parts.mode) {
            FileType::RegularFile => What::File,
            FileType::Directory => What::Directory,
            FileType::Symlink => What::Link,
            _ => What::Other,
        };
        let nanos = |(seconds, nanos): (i64, u64)| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(nanos).unwrap_or(0))
        };
        let size = if what == What::File { u64::try_from(parts.size).unwrap_or(0) } else { 0 };
        let modified = nanos(parts.modified);
        let mut hash = Sha256::new();
        hash.update(parts.inode.to_le_bytes());
        hash.update(parts.size.to_le_bytes());
        hash.update(modified.to_le_bytes());
        hash.update(nanos(parts.changed).to_le_bytes());
        let mut first = [0; 8];
        first[2..].copy_from_slice(&hash.finalize()[..6]);
        Self {
            what,
            size,
            modified,
            revision: u64::from_be_bytes(first),
            mode: parts.mode & 0o7777,
            links: parts.links,
            device: parts.device,
            inode: parts.inode,
            uid: parts.owner.0,
            gid: parts.owner.1,
        }
    }

    /// From `statx`, which does not have to reach the disk.
    pub fn of(stat: &rustix::fs::Statx) -> Self {
        let seconds = |time: &rustix::fs::StatxTimestamp| (time.tv_sec, u64::from(time.tv_nsec));
        Self::from_parts(&Parts {
            mode: stat.stx_mode.into(),
            size: i64::try_from(stat.stx_size).unwrap_or(i64::MAX),
            modified: seconds(&stat.stx_mtime),
            changed: seconds(&stat.stx_ctime),
            inode: stat.stx_ino,
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            links: stat.stx_nlink.into(),
            owner: (stat.stx_uid, stat.stx_gid),
        })
    }

    /// The wire form, with this path.
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

#[cfg(test)]
mod tests {
    use rustix::fs::{AtFlags, StatxFlags};

    use super::*;

    #[test]
    fn both_answers_of_the_kernel_say_the_same() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        std::fs::write(&path, "content").unwrap();
        for path in [place.path(), &path] {
            let file = std::fs::File::open(path).unwrap();
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
            let other = rustix::fs::statx(&file, c"", flags, StatxFlags::BASIC_STATS).unwrap();
            assert_eq!(Stat::new(&rustix::fs::fstat(&file).unwrap()), Stat::of(&other));
        }
    }
}
