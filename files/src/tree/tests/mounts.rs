//! Mounts of our own, in a process that alone sees them: nothing is left of them when it ends.

use std::io::Write as _;
use std::process::Command;

use super::*;

/// Tells a process that it has a mount namespace of its own.
const INSIDE: &str = "FARWIRE_TEST_MOUNTS";

/// Whether this process may mount file systems. Otherwise runs the named test in a process that
/// may, if that is possible here.
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
        // The printing macros are captured in a test that passes.
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

/// Mounts an empty file system of this size.
pub(super) fn small(at: &Path, bytes: u64) {
    let size = format!("size={bytes}");
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "small"]).arg(at).status();
    assert!(done.unwrap().success());
}

fn bind(from: &Path, to: &Path) {
    assert!(Command::new("mount").arg("--bind").args([from, to]).status().unwrap().success());
}

/// A root in which a directory and a file of the same device are mounted a second time.
fn mounted() -> Place {
    let place = Place::new();
    let outside = place.scratch.path().join("outside");
    fs::create_dir_all(outside.join("deep")).unwrap();
    fs::write(outside.join("deep/file"), "mounted").unwrap();
    fs::create_dir_all(place.at("dir/mounted")).unwrap();
    fs::write(place.at("dir/file"), "x").unwrap();
    bind(&outside, &place.at("dir/mounted"));
    bind(&outside.join("deep/file"), &place.at("dir/file"));
    place
}

#[test]
fn what_is_mounted_is_left_out_though_it_has_the_same_device() {
    if !alone("mounts::what_is_mounted_is_left_out_though_it_has_the_same_device") {
        return;
    }
    let place = mounted();
    let seen = |tree: &Tree| {
        let mut files = Vec::new();
        tree.walk(&Rel::ROOT, 9, &mut |visited| {
            if visited.listing.open(&visited.listed.name).is_ok() {
                files.push(visited.at.clone());
            }
            Ok(true)
        })
        .unwrap();
        files.sort();
        files
    };
    assert_eq!(seen(&place.writable()), [rel("dir/file"), rel("dir/mounted/deep/file")]);
    let tree = place.tree(Rules { writable: true, mounts: false, ..Rules::default() });
    assert_eq!(seen(&tree), []);
    tree.copy(&rel("dir"), &rel("copy"), false, true).unwrap();
    assert_eq!(fs::read_dir(place.at("copy")).unwrap().count(), 0);
}

/// Mounts a file system whose server is gone. Returns whether that is possible here.
fn broken(at: &Path) -> bool {
    let Ok(device) = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") else {
        return false;
    };
    let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
    let mut mount = Command::new("mount");
    mount.args(["-i", "-t", "fuse", "-o", options, "broken"]).arg(at).stdin(device);
    mount.status().unwrap().success()
}

#[test]
fn what_is_mounted_and_broken_is_named_where_it_is_left_out() {
    if !alone("mounts::what_is_mounted_and_broken_is_named_where_it_is_left_out") {
        return;
    }
    let place = Place::new();
    fs::create_dir_all(place.at("dir/broken")).unwrap();
    fs::write(place.at("dir/file"), "x").unwrap();
    if !broken(&place.at("dir/broken")) {
        let _ = writeln!(std::io::stderr(), "SKIPPED: there is no /dev/fuse");
        return;
    }
    let tree = place.tree(Rules { writable: true, mounts: false, ..Rules::default() });
    for (tree, copy) in [(&tree, "copy"), (&place.writable(), "again")] {
        let copied = tree.copy(&rel("dir"), &rel(copy), false, true).unwrap();
        assert_eq!((copied.files, copied.unread.names), (1, vec![b"broken".to_vec()]));
    }
    let mut seen = Vec::new();
    tree.walk(&rel("dir"), 9, &mut |visited| {
        seen.push((visited.at.clone(), visited.stat().unwrap().is_some()));
        Ok(true)
    })
    .unwrap();
    seen.sort();
    assert_eq!(seen, [(rel("broken"), false), (rel("file"), true)]);
    let failure = tree.remove(&rel("dir"), true, None).unwrap_err();
    assert_eq!(failure.kind, Kind::OutsideRoot);
    assert!(failure.message.starts_with("`dir/broken` is in use or is a mount point"), "{failure}");
}

#[test]
fn what_is_mounted_is_not_removed_with_what_is_around_it() {
    if !alone("mounts::what_is_mounted_is_not_removed_with_what_is_around_it") {
        return;
    }
    let place = mounted();
    let tree = place.writable();
    for path in ["dir", "dir/mounted"] {
        assert_eq!(kind(tree.remove(&rel(path), true, None)), Kind::OutsideRoot, "{path}");
    }
    assert_eq!(fs::read(place.at("dir/mounted/deep/file")).unwrap(), b"mounted");
}

#[test]
fn what_moves_to_another_file_system_is_there_or_here() {
    if !alone("mounts::what_moves_to_another_file_system_is_there_or_here") {
        return;
    }
    let place = Place::new();
    let tree = place.writable();
    fs::create_dir_all(place.at("dir/deep")).unwrap();
    fs::write(place.at("dir/deep/file"), "x").unwrap();
    fs::create_dir(place.at("other")).unwrap();
    small(&place.at("other"), 1 << 20);
    fs::create_dir(place.at("other/old")).unwrap();
    let (dir, moved) = (rel("dir"), rel("other/old"));
    tree.rename(&dir, &moved, true).unwrap();
    assert!(!place.at("dir").exists());
    assert_eq!(fs::read(place.at("other/old/deep/file")).unwrap(), b"x");
    // A file takes the place of a directory.
    fs::write(place.at("file"), "y").unwrap();
    tree.rename(&rel("file"), &moved, true).unwrap();
    assert_eq!(
        (read(&tree, "other/old").unwrap(), place.at("file").exists()),
        (b"y".into(), false)
    );
    // What a copy leaves out stays, with everything around it.
    fs::create_dir(place.at("dir")).unwrap();
    fs::write(place.at("dir/file"), "z").unwrap();
    fs::write(place.at("dir/mounted"), "").unwrap();
    bind(&place.at("other/old"), &place.at("dir/mounted"));
    let tree = place.tree(Rules { writable: true, mounts: false, ..Rules::default() });
    assert_eq!(kind(tree.rename(&dir, &moved, true)), Kind::OutsideRoot);
    assert_eq!(fs::read(place.at("dir/file")).unwrap(), b"z");
    for dir in ["", "other"] {
        assert_eq!(leftovers(&place.at(dir)), [""; 0]);
    }
}
