//! Locks between processes, so that what one reads, changes and writes back is not lost to another.
//!
//! A lock is an advisory lock of the operating system on a file that is never renamed or removed: it
//! ends with the process that holds it, however that ends. The holder's process id stands in the
//! file, for people. Reading needs no lock: every file is replaced as a whole.

use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::dir::Dir;
use crate::fault::FileError;

/// The lock of everything in a directory but its ids.
pub(crate) const STATE: &str = "lock";

/// How long we wait for a lock. Each is held for a few writes; whoever holds one longer is stuck.
const WAIT: Duration = Duration::from_secs(5);

/// How long we pause before we ask again, at first and at most. The gap in which a busy process lets
/// go is short, so we ask often.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(1));

/// The right to change what a lock guards. It ends when dropped.
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

/// Waits for a lock, at most [`WAIT`].
pub(crate) fn acquire(dir: &Dir, name: &str) -> Result<Guard, FileError> {
    acquire_within(dir, name, WAIT)
}

fn acquire_within(dir: &Dir, name: &str, wait: Duration) -> Result<Guard, FileError> {
    let deadline = Instant::now() + wait;
    let (mut pause, longest) = PAUSES;
    loop {
        match try_acquire(dir, name) {
            Err(FileError::Locked { .. }) if Instant::now() < deadline => {}
            result => return result,
        }
        #[expect(clippy::disallowed_methods, reason = "the system's locks have no wait that ends")]
        std::thread::sleep(pause);
        pause = longest.min(pause * 2);
    }
}

/// Takes a lock if it is free; says who has it if it is not.
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
    // On a full disk this fails. The number is for people only; the lock holds without it.
    let _ = file.write_all_at(format!("{:<10}\n", std::process::id()).as_bytes(), 0);
    Ok(Guard { _file: file, dir: dir.shared_path() })
}

fn pid_in(file: &File) -> Option<u32> {
    let mut text = String::new();
    // Whatever goes wrong here, we only lack the number.
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
