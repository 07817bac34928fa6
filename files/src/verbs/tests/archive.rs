//! Archives, unpacked by the tar of the system.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;

/// Unpacks an archive beside a place. Returns where.
fn unpack(place: &Place, archive: &[u8]) -> std::path::PathBuf {
    let (file, to) = (place.scratch.path().join("a.tar"), place.scratch.path().join("unpacked"));
    fs::write(&file, archive).unwrap();
    fs::create_dir(&to).unwrap();
    let tar = Command::new("tar").arg("-xpf").arg(&file).arg("-C").arg(&to).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    to
}

#[test]
fn an_archive_has_all_files_and_directories_whatever_they_are_called() {
    let hidden = Patterns::new(&["*.key".to_owned()]).unwrap();
    let place = Place::with(Rules { writable: true, hidden, ..Rules::default() });
    let long = "long-name-".repeat(20);
    let names: [&[u8]; 6] =
        [b"plain", b"with\na line", b"\xff\xfe", "gr\u{fc}n".as_bytes(), long.as_bytes(), b"-C"];
    fs::create_dir_all(place.at("d/empty")).unwrap();
    for (size, name) in names.iter().enumerate() {
        let path = place.at("d").join(OsStr::from_bytes(name));
        fs::write(path, "x".repeat(size * 20_000)).unwrap();
    }
    fs::set_permissions(place.at("d/plain"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::write(place.at("d/secret.key"), "secret").unwrap();
    symlink("/etc", place.at("d/link")).unwrap();
    let ask = Ask::Archive(Archive { path: blob("d"), tidy: None });
    let (done, asker) = place.ask(&ask, b"").unwrap();
    assert_eq!(
        (done.bytes, done.files, done.skipped),
        (Some(asker.data.len() as u64), Some(6), Some(1))
    );
    let to = unpack(&place, &asker.data);
    for name in names {
        let read = |at: &std::path::Path| fs::read(at.join(OsStr::from_bytes(name))).unwrap();
        assert!(read(&to) == read(&place.at("d")), "{}", String::from_utf8_lossy(name));
    }
    assert!(to.join("empty").is_dir());
    assert_eq!(fs::read_dir(&to).unwrap().count(), 7, "neither the link nor what is hidden");
    let mode = fs::metadata(to.join("plain")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o751);
}

#[test]
fn an_archive_is_of_a_directory_and_tidy_if_that_is_asked_for() {
    let place = Place::new();
    fs::create_dir_all(place.at(".git")).unwrap();
    fs::write(place.at(".gitignore"), "*.log\n").unwrap();
    fs::write(place.at("a.log"), "log").unwrap();
    fs::write(place.at("a.rs"), "rs").unwrap();
    let ask = |path, tidy| Ask::Archive(Archive { path: blob(path), tidy });
    let (done, asker) = place.ask(&ask("", Some(true)), b"").unwrap();
    assert_eq!(done.files, Some(1));
    let to = unpack(&place, &asker.data);
    assert_eq!(fs::read_to_string(to.join("a.rs")).unwrap(), "rs");
    assert_eq!(place.ask(&ask("", None), b"").unwrap().0.files, Some(3));
    assert_eq!(place.ask(&ask("a.rs", None), b"").unwrap_err().kind, Kind::NotADirectory);
}
