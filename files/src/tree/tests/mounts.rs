//! File systems of our own, in a process that alone sees them: nothing is left of them when it ends.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Says to a process that it is the one that sees its own mounts.
const INSIDE: &str = "FARWIRE_TEST_MOUNTS";

/// Whether this process may mount what it likes. Otherwise the test named so is run in one that may, if one
/// can be had here.
pub(super) fn alone(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(program);
        command
    };
    if !unshare(Path::new("true")).output().is_ok_and(|tried| tried.status.success()) {
        // The printing macros are silenced in a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no mounts of our own (be root)");
        return false;
    }
    let (_, module) = module_path!().split_once("::").expect("we are in a crate");
    let module = module.strip_suffix("::mounts").expect("that is our name");
    let mut inside = unshare(&std::env::current_exe().unwrap());
    let inside = inside.args(["--exact", &format!("{module}::{test}")]).env(INSIDE, "1");
    let done = inside.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Mounts an empty file system of so many bytes.
pub(super) fn small(at: &Path, bytes: u64) {
    let size = format!("size={bytes}");
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "small"]).arg(at).status();
    assert!(done.unwrap().success());
}
