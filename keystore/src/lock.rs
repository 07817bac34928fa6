//! Locks between processes, which protect a read-modify-write of one from the writes of another.
//!
//! A lock is an advisory lock of the operating system on a file that is never renamed or removed:
//! it ends with the process that holds it, however that ends. The file holds the process id of the
//! holder, for people. Reading needs no lock: every file is replaced atomically.

use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dir::Dir;
use crate::fault::FileError;

/// The lock of everything in a directory except its ids.
pub(crate) const STATE: &str = "lock";

/// How long to wait for a lock. Each is held for a few writes; a process that holds one longer is
/// stuck.
const WAIT: Duration = Duration::from_secs(5);

/// The first pause before another attempt. A busy process releases the lock only for short moments,
/// so we try often.
const FIRST_PAUSE: Duration = Duration::from_micros(50);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// A held lock, and thereby the right to change what it guards. Dropping it releases the lock.
#[derive(Debug)]
pub struct Guard {
    _file: File,
    dir: Arc<Path>,
}

impl Guard {
    /// Whether this guard's lock lies in `dir` or above it.
    pub(crate) fn covers(&self, dir: &Path) -> bool {
        dir.starts_with(&self.dir)
    }
}

/// Takes a lock, waiting for at most [`WAIT`].
pub(crate) fn acquire(dir: &Dir, name: &str) -> Result<Guard, FileError> {
    acquire_within(dir, name, WAIT)
}

fn acquire_within(dir: &Dir, name: &str, wait: Duration) -> Result<Guard, FileError> {
    let deadline = Instant::now() + wait;
    let mut pause = FIRST_PAUSE;
    loop {
        match try_acquire(dir, name) {
            Err(FileError::Locked { .. }) if Instant::now() < deadline => {}
            result => return result,
        }
        #[expect(clippy::disallowed_methods, reason = "file locks have no wait with a timeout")]
        std::thread::sleep(pause);
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Takes a lock if it is free; otherwise the error names the holder.
pub(crate) fn try_acquire(dir: &Dir, name: &str) -> Result<Guard, FileError> {
    let file = dir.open_lock(name)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(FileError::Locked { path: dir.file_path(name), pid: pid_in(&file) });
        }
        Err(TryLockError::Error(error)) => {
            return Err(FileError::io("lock", &dir.file_path(name), error));
        }
    }
    // This fails on a full disk. The process id is for people only; the lock works without it.
    let _ = file.write_all_at(format!("{:<10}\n", std::process::id()).as_bytes(), 0);
    Ok(Guard { _file: file, dir: dir.shared_path() })
}

fn pid_in(file: &File) -> Option<u32> {
    let mut text = String::new();
    // If reading fails, only the process id is missing from the error.
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::create(&temp.path().join("home")).unwrap();
        (temp, dir)
    }

    #[test]
    fn a_lock_that_is_held_is_refused_after_the_wait_with_the_holders_pid() {
        let (_temp, dir) = dir();
        let held = acquire(&dir, STATE).unwrap();
        let again = acquire_within(&dir, STATE, Duration::from_millis(20));
        let Err(FileError::Locked { path, pid }) = again else { panic!("{again:?}") };
        assert_eq!((path, pid), (dir.file_path(STATE), Some(std::process::id())));
        drop(held);
        acquire(&dir, STATE).unwrap();
    }

    #[test]
    fn whoever_waits_gets_the_lock_when_it_is_let_go() {
        let (_temp, dir) = dir();
        let held = acquire(&dir, STATE).unwrap();
        let (asked, has_asked) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn({
            let dir = dir.clone();
            move || {
                assert!(matches!(try_acquire(&dir, STATE), Err(FileError::Locked { .. })));
                asked.send(()).unwrap();
                acquire(&dir, STATE).map(drop)
            }
        });
        has_asked.recv().unwrap();
        drop(held);
        waiter.join().unwrap().unwrap();
    }

    #[test]
    fn a_lock_file_with_nonsense_in_it_still_locks() {
        let (_temp, dir) = dir();
        let _held = acquire(&dir, STATE).unwrap();
        std::fs::write(dir.file_path(STATE), [0xff; 4000]).unwrap();
        assert!(matches!(try_acquire(&dir, STATE), Err(FileError::Locked { pid: None, .. })));
    }
}
