//! Private directories and files, and exposed ones.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use farwire_protocol::failure::{Failure, Kind};
use tempfile::TempDir;

use super::*;
use crate::lock::{self, STATE};
use crate::steps::power;

fn home() -> (TempDir, Dir, Guard) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::create(&temp.path().join("home")).unwrap();
    let guard = lock::acquire(&dir, STATE).unwrap();
    (temp, dir, guard)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn refused<T: core::fmt::Debug>(result: Result<T, FileError>) -> Failure {
    let failure = Failure::from(result.unwrap_err());
    assert_eq!(failure.kind, Kind::KeystorePermissions, "{failure}");
    failure
}

#[test]
fn what_we_make_is_private_and_what_is_above_it_too() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b/home");
    let dir = Dir::create(&path).unwrap();
    let guard = lock::acquire(&dir, STATE).unwrap();
    let sub = dir.create_sub("keys").unwrap();
    sub.write(&guard, "id", b"secret").unwrap();
    for (path, mode) in [("a", 0o700), ("a/b", 0o700), ("a/b/home", 0o700)].into_iter().chain([
        ("a/b/home/keys", 0o700),
        ("a/b/home/keys/id", 0o600),
        ("a/b/home/lock", 0o600),
    ]) {
        let is = fs::metadata(temp.path().join(path)).unwrap().permissions().mode();
        assert_eq!(is & 0o7777, mode, "{path}");
    }
    Dir::create(&path).unwrap();
    assert!(Dir::open(&temp.path().join("none")).unwrap().is_none());
    assert!(dir.sub("none").unwrap().is_none());
}

#[test]
fn every_mode_that_lets_others_in_is_refused_with_the_command_that_fixes_it() {
    let (_temp, dir, guard) = home();
    dir.write(&guard, "id", b"secret").unwrap();
    dir.create_sub("keys").unwrap();
    let file = dir.file_path("id");
    for bits in 1..0o100 {
        mode(&file, 0o600 | bits);
        let failure = refused(dir.read("id", 100));
        assert_eq!(failure.hint(), format!("chmod 600 {}", file.display()));
        mode(&dir.file_path("keys"), 0o700 | bits);
        let failure = refused(dir.sub("keys"));
        assert_eq!(failure.hint(), format!("chmod 700 {}", dir.file_path("keys").display()));
        mode(dir.path(), 0o700 | bits);
        let failure = refused(Dir::open(dir.path()));
        assert_eq!(failure.hint(), format!("chmod 700 {}", dir.path().display()));
        refused(Dir::create(dir.path()));
    }
    for fine in [0o600, 0o400, 0o700] {
        mode(&file, fine);
        assert_eq!(**dir.read("id", 100).unwrap().unwrap(), *b"secret");
    }
}

#[test]
fn links_pipes_and_directories_are_no_files() {
    let (temp, dir, guard) = home();
    dir.write(&guard, "real", b"secret").unwrap();
    symlink(dir.file_path("real"), dir.file_path("link")).unwrap();
    symlink(temp.path().join("nowhere"), dir.file_path("dangling")).unwrap();
    dir.create_sub("directory").unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(dir.file_path("pipe")).status().unwrap();
    assert!(pipe.success());
    for name in ["link", "dangling", "directory", "pipe"] {
        refused(dir.read(name, 100));
    }
    symlink(dir.file_path("directory"), dir.file_path("linked")).unwrap();
    refused(dir.sub("linked"));
    refused(dir.sub("real"));
    fs::hard_link(dir.file_path("real"), temp.path().join("other")).unwrap();
    let failure = refused(dir.read("real", 100));
    assert!(failure.hint().starts_with("cp -p "), "{}", failure.hint());
}

#[test]
fn a_link_in_a_files_place_is_replaced_and_not_followed() {
    let (temp, dir, guard) = home();
    let outside = temp.path().join("outside");
    fs::write(&outside, b"untouched").unwrap();
    symlink(&outside, dir.file_path("id")).unwrap();
    dir.write(&guard, "id", b"ours").unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"untouched");
    assert_eq!(**dir.read("id", 100).unwrap().unwrap(), *b"ours");
}

#[test]
fn what_belongs_to_another_user_is_refused() {
    let (_temp, dir, guard) = home();
    dir.write(&guard, "id", b"secret").unwrap();
    if chown(dir.file_path("id"), Some(12_345), None).is_err() {
        return; // only root can give files away
    }
    let failure = refused(dir.read("id", 100));
    assert!(failure.message.contains("12345") && failure.hint().contains("chown"), "{failure}");
    chown(dir.path(), Some(12_345), None).unwrap();
    refused(Dir::open(dir.path()));
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let (_temp, dir, guard) = home();
    dir.write(&guard, "id", &[7; 101]).unwrap();
    let failure = Failure::from(dir.read("id", 100).unwrap_err());
    assert_eq!(failure.kind, Kind::KeystoreCorrupt);
    assert_eq!(dir.read("id", 101).unwrap().unwrap().len(), 101);
}

#[test]
fn leftovers_of_crashed_writes_are_no_names_and_go_away() {
    let (_temp, dir, guard) = home();
    dir.write(&guard, "web.pin", b"x").unwrap();
    dir.write(&guard, "a.pin", b"x").unwrap();
    fs::write(dir.file_path("README"), b"by hand").unwrap();
    let leave = || fs::write(dir.file_path(".web.pin.tmp"), b"half a secret").unwrap();
    let is_left = || dir.holds(".web.pin.tmp").unwrap();
    leave();
    assert_eq!(dir.names(".pin").unwrap(), ["a", "web"]);
    dir.sweep(&guard).unwrap();
    assert!(!is_left() && dir.holds("README").unwrap());
    leave();
    dir.write(&guard, "web.pin", b"y").unwrap();
    assert!(!is_left());
    leave();
    dir.remove(&guard, "web.pin").unwrap();
    assert!(!is_left());
    assert!(!dir.remove(&guard, "web.pin").unwrap());
}

fn old_home(path: &Path) {
    let dir = Dir::create(path).unwrap();
    let guard = lock::acquire(&dir, STATE).unwrap();
    dir.write(&guard, "id", b"old").unwrap();
}

fn write_new(path: &Path) -> Result<(), Failure> {
    let dir = Dir::open(path)?.unwrap();
    let guard = lock::acquire(&dir, STATE)?;
    Ok(dir.write(&guard, "id", b"new")?)
}

fn content(path: &Path) -> Vec<u8> {
    Dir::open(path).unwrap().unwrap().read("id", 9).unwrap().unwrap().to_vec()
}

#[test]
fn after_a_power_cut_there_is_the_old_content_or_the_new() {
    power::cut_everywhere(old_home, write_new, |path, done| {
        let content = content(path);
        assert!(content == b"new" || (content == b"old" && !done), "{content:?}");
    });
}

#[test]
fn a_full_broken_or_read_only_disk_leaves_the_content_and_no_litter() {
    power::fail_everywhere(old_home, write_new, |path| {
        let content = content(path);
        assert!(content == b"new" || content == b"old", "{content:?}");
        let names: Vec<_> =
            fs::read_dir(path).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    });
}
