//! A file here that others may write to while it is read: what was read of it is of one state, or
//! it is not sent.
//!
//! The kernel says when a file was changed. Where it was, what was read is compared with what is
//! there now: of a file that only grows, the beginning stays what it was.

use std::fs::{File, Metadata};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::OFlags;

use super::io_failure;
use crate::files::transfer::reading::{LARGE, READINGS, change_failure};
use crate::text::neutral::neutral;

/// Two changes within this time may have the same time, on kernels before 6.13.
const TICK: Duration = Duration::from_millis(20);

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::files::transfer) struct Stamp {
    inode: (u64, u64),
    /// The size in bytes.
    pub(in crate::files::transfer) size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(in crate::files::transfer) fn new(is: &Metadata) -> Self {
        Self {
            inode: (is.dev(), is.ino()),
            size: is.len(),
            modified: (is.mtime(), is.mtime_nsec()),
            changed: (is.ctime(), is.ctime_nsec()),
        }
    }

    /// Whether it is the same file, and has not become shorter.
    pub(in crate::files::transfer) fn continues(&self, before: &Self) -> bool {
        self.inode == before.inode && self.size >= before.size
    }

    /// Whether another change could have the same time.
    fn is_fresh(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let at =
            Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        SystemTime::now().duration_since(UNIX_EPOCH + at).is_ok_and(|age| age < TICK)
    }

    /// Numbers that are others for another state.
    pub(in crate::files::transfer) fn numbers(&self) -> [u64; 7] {
        let plain = |number: i64| number.cast_unsigned();
        [
            self.inode.0,
            self.inode.1,
            self.size,
            plain(self.modified.0),
            plain(self.modified.1),
            plain(self.changed.0),
            plain(self.changed.1),
        ]
    }
}

/// Opens a regular file, without waiting for what only looked like one.
pub(in crate::files::transfer) fn open(path: &Path) -> Result<(File, Metadata), Failure> {
    let wrong = |error: std::io::Error| io_failure(path, &error);
    let mut options = File::options();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).map_err(wrong)?;
    let is = file.metadata().map_err(wrong)?;
    match is.is_file() {
        true => Ok((file, is)),
        false => {
            Err(Failure::new(Kind::NotAFile, format!("{} is not a regular file", path.display())))
        }
    }
}

/// All of a small file.
#[derive(Debug)]
pub(in crate::files::transfer) struct Small {
    pub(in crate::files::transfer) content: Vec<u8>,
    pub(in crate::files::transfer) is: Metadata,
    /// It has become longer since it was opened.
    pub(in crate::files::transfer) grown: bool,
}

/// Reads a small file in one of its states.
///
/// # Errors
///
/// `changed_meanwhile` if it changes each time, or is not small.
pub(in crate::files::transfer) fn read_small(path: &Path) -> Result<Small, Failure> {
    let wrong = |error: std::io::Error| io_failure(path, &error);
    for _ in 0..READINGS {
        let (mut file, is) = open(path)?;
        let before = Stamp::new(&is);
        if before.size > LARGE {
            let shown = neutral(&path.display().to_string());
            let text = format!("{shown} grew while it was sent");
            return Err(Failure::new(Kind::ChangedMeanwhile, text).with_hint("send it again"));
        }
        if before.size == 0
            && let Some(content) = read_generated(&file, path)?
        {
            return Ok(Small { content, is, grown: false });
        }
        let mut content = Vec::new();
        (&file).take(before.size).read_to_end(&mut content).map_err(wrong)?;
        let whole = content.len() as u64 == before.size;
        let after = Stamp::new(&file.metadata().map_err(wrong)?);
        if whole && after == before && !before.is_fresh() {
            return Ok(Small { content, is, grown: false });
        }
        // A file in /sys has less than its size says: it is read to the same end twice.
        if after.continues(&before) && (whole || after == before) {
            let mut again = Vec::new();
            file.rewind().map_err(wrong)?;
            (&file).take(before.size).read_to_end(&mut again).map_err(wrong)?;
            if again == content {
                return Ok(Small { content, is, grown: after.size > before.size });
            }
        }
    }
    Err(change_failure(&neutral(&path.display().to_string())))
}

/// What the kernel generates when a file is read, as in /proc, where every file has the size 0.
/// `None` for a file that really is empty, or was.
///
/// # Errors
///
/// `too_large` for more than a small file has.
fn read_generated(file: &File, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let wrong = |error: std::io::Error| io_failure(path, &error);
    let mut content = Vec::new();
    file.take(LARGE + 1).read_to_end(&mut content).map_err(wrong)?;
    let mut rest = file;
    if content.is_empty() || file.metadata().map_err(wrong)?.len() > 0 {
        // Somebody writes to it: it is read as it was when it was opened.
        rest.rewind().map_err(wrong)?;
        return Ok(None);
    }
    if content.len() as u64 > LARGE {
        let shown = neutral(&path.display().to_string());
        let text = format!("{shown} says that it is empty, and has more than {LARGE} bytes");
        return Err(Failure::new(Kind::TooLarge, text).with_hint("copy it to a file first"));
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_file_that_is_written_to_all_the_time_is_read_in_one_state_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let file = File::options().write(true).open(&path).unwrap();
                for number in (0..=u8::MAX).cycle() {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    // The beginning last: whoever reads in between has two numbers.
                    for at in (0..16).rev() {
                        file.write_all_at(&vec![number; 1 << 16], at << 16).unwrap();
                    }
                }
            });
            for _ in 0..40 {
                match read_small(&path) {
                    // What was read is what was there at a moment: two numbers, the newer one
                    // behind, and both in the block that was being written.
                    Ok(small) => {
                        let turns =
                            small.content.windows(2).filter(|pair| pair[0] != pair[1]).count();
                        assert!(turns <= 3, "{turns} turns");
                    }
                    Err(failure) => assert_eq!(failure.kind, Kind::ChangedMeanwhile),
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_file_of_the_kernel_is_read_whatever_size_it_has() {
        let path = Path::new("/proc/version");
        assert_eq!(path.metadata().unwrap().len(), 0);
        let small = read_small(path).unwrap();
        assert!(!small.content.is_empty());
        assert_eq!(small.content, std::fs::read(path).unwrap());
        // A file that has less than its size says, where this machine has one.
        let path = Path::new("/sys/kernel/uevent_seqnum");
        if let Ok(content) = std::fs::read(path) {
            assert!((content.len() as u64) < path.metadata().unwrap().len());
            assert!(read_small(path).is_ok());
        }
        let place = tempfile::tempdir().unwrap();
        let empty = place.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert!(read_small(&empty).unwrap().content.is_empty());
    }

    #[test]
    fn what_only_grows_is_read_as_it_was_when_it_was_opened() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        std::fs::write(&path, "a line\n").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut file = File::options().append(true).open(&path).unwrap();
                for _ in 0..100_000 {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    std::io::Write::write_all(&mut file, b"a line\n").unwrap();
                }
            });
            for _ in 0..50 {
                let small = read_small(&path).unwrap();
                assert_eq!(small.content.len() as u64, small.is.len());
                // A line across two pages may have come in part.
                let written = b"a line\n".iter().cycle().take(small.content.len());
                assert!(small.content.iter().eq(written));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
