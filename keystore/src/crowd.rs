//! Several processes at once on one directory, for tests.
//!
//! A test that calls [`member`] first is run again in each process of a [`gather`]ed crowd.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of processes.
pub(crate) const SIZE: usize = 8;

const HOME: &str = "FARWIRE_KEYSTORE_CROWD_HOME";
const MEMBER: &str = "FARWIRE_KEYSTORE_CROWD_MEMBER";

/// Inside a process of a crowd, returns the directory to work in and the number of this process.
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
    // Wait for all before asserting: a failed assertion removes the directory.
    let outputs: Vec<_> =
        children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in outputs {
        let output_text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output_text.contains("1 passed"), "{output_text}");
    }
}

/// A directory on tmpfs, where a sync is free. Tests with thousands of edits check that no process
/// loses the edit of another, not what survives a power cut.
pub(crate) fn fast_directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
