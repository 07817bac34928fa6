//! Power cuts and full disks, for tests.
//!
//! A cut before step `n` lets every step before it happen and no step from it on. Then everything
//! that had not been synced is discarded, in two variants: only the content of files (names often
//! reach the disk first), or the content and the changes of names.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};

use super::Step;

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// The simulated disk: when the power fails, and what would be lost.
#[derive(Default)]
struct Disk {
    left: usize,
    /// The error of one step; `None` is a power cut, after which nothing works.
    error: Option<io::ErrorKind>,
    struck: bool,
    unsynced: BTreeSet<PathBuf>,
    names: Vec<(PathBuf, Option<Vec<u8>>)>,
}

pub(super) fn before(dir: &Path, step: Step<'_>) -> io::Result<()> {
    DISK.with_borrow_mut(|disk| match disk {
        Some(disk) => disk.before(dir, step),
        None => Ok(()),
    })
}

impl Disk {
    fn before(&mut self, dir: &Path, step: Step<'_>) -> io::Result<()> {
        if self.struck && self.error.is_none() {
            return Err(io::Error::other("the power is off"));
        }
        if !self.struck && self.left == 0 {
            self.struck = true;
            return Err(self.error.unwrap_or(io::ErrorKind::Other).into());
        }
        self.left = self.left.saturating_sub(1);
        match step {
            Step::Create(name) => {
                self.unsynced.insert(dir.join(name));
            }
            Step::Write(_) => {}
            Step::SyncFile(name) => {
                self.unsynced.remove(&dir.join(name));
            }
            Step::Rename(from, to) => {
                let (from, to) = (dir.join(from), dir.join(to));
                self.names.push((from.clone(), fs::read(&from).ok()));
                self.names.push((to.clone(), fs::read(&to).ok()));
                if self.unsynced.remove(&from) {
                    self.unsynced.insert(to);
                }
            }
            Step::Remove(name) => {
                let path = dir.join(name);
                self.names.push((path.clone(), fs::read(&path).ok()));
            }
            Step::SyncDir => self.names.retain(|(path, _)| path.parent() != Some(dir)),
        }
        Ok(())
    }

    /// Discards what was not synced.
    fn lose(self, names_too: bool) {
        for path in &self.unsynced {
            if path.exists() {
                fs::write(path, b"").unwrap();
            }
        }
        if !names_too {
            return;
        }
        for (path, old) in self.names.into_iter().rev() {
            match old {
                Some(bytes) => {
                    fs::write(&path, bytes).unwrap();
                    private(&path);
                }
                None => drop(fs::remove_file(&path)),
            }
        }
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Cuts the power before every step of `operation`, in a home that `prepare` has created, and lets
/// `check` inspect the result; its second argument is whether the operation had reported success.
pub(crate) fn cut_everywhere(
    prepare: impl Fn(&Path),
    operation: impl Fn(&Path) -> Result<(), Failure>,
    check: impl Fn(&Path, bool),
) {
    for names_too in [false, true] {
        for left in 0.. {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("home");
            prepare(&path);
            DISK.set(Some(Disk { left, ..Disk::default() }));
            let done = operation(&path).is_ok();
            let disk = DISK.take().unwrap();
            let struck = disk.struck;
            disk.lose(names_too);
            check(&path, done);
            if !struck {
                assert!(left > 2 && done, "the operation has steps and finishes");
                break;
            }
        }
    }
}

/// Lets every step of `operation` fail once with each of the usual errors. The operation must
/// report [`Kind::Io`] with a path; `check` inspects the result.
pub(crate) fn fail_everywhere(
    prepare: impl Fn(&Path),
    operation: impl Fn(&Path) -> Result<(), Failure>,
    check: impl Fn(&Path),
) {
    use io::ErrorKind::{Other, ReadOnlyFilesystem, StorageFull};
    for error in [StorageFull, ReadOnlyFilesystem, Other] {
        for left in 0.. {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("home");
            prepare(&path);
            DISK.set(Some(Disk { left, error: Some(error), ..Disk::default() }));
            let result = operation(&path);
            let struck = DISK.take().unwrap().struck;
            check(&path);
            if !struck {
                assert!(left > 2, "the operation has steps");
                result.unwrap();
                break;
            }
            if let Err(failure) = result {
                assert_eq!(failure.kind, Kind::Io, "{failure}");
                assert!(failure.message.contains(path.to_str().unwrap()), "{failure}");
            }
        }
    }
}
