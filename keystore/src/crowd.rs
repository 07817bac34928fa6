//! Several processes at once on one directory, for tests.
//!
//! A test that calls [`member`] first is run again in each process of a [`gather`]ed crowd.

use std::path::{Path, PathBuf};
use std::process::Command;

/// So many processes.
pub(crate) const SIZE: usize = 8;

const HOME: &str = "FARWIRE_KEYSTORE_CROWD_HOME";
const MEMBER: &str = "FARWIRE_KEYSTORE_CROWD_MEMBER";

/// In a process of a crowd: where it works, and which of the processes this is.
pub(crate) fn member() -> Option<(PathBuf, usize)> {
    let home = std::env::var_os(HOME)?;
    Some((home.into(), std::env::var(MEMBER).ok()?.parse().ok()?))
}

/// Runs the test with this full name in [`SIZE`] processes at once, and waits for them.
pub(crate) fn gather(test: &str, home: &Path) {
    let children: Vec<_> = (0..SIZE)
        .map(|member| {
            Command::new(std::env::current_exe().unwrap())
                .args([test, "--exact", "--nocapture"])
                .env(HOME, home)
                .env(MEMBER, member.to_string())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    // All of them end before anything is said: the directory is removed after that.
    let outputs: Vec<_> =
        children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in outputs {
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}

/// A directory where a sync costs nothing: thousands of edits are about losing none to another
/// process, not to a power cut.
pub(crate) fn fast_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
