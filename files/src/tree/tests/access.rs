//! POSIX ACLs, and what remains of them.

use std::io::Write as _;

use rustix::fs::XattrFlags;

use super::*;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// An ACL that lets one user read, and not the group.
pub(crate) fn one_user() -> Vec<u8> {
    let entry = |who: u16, may: u16, id: u32| {
        [&who.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let nobody = u32::MAX;
    let entries = [
        entry(0x01, 6, nobody),
        entry(0x02, 4, 54_321),
        entry(0x04, 0, nobody),
        entry(0x10, 4, nobody),
        entry(0x20, 0, nobody),
    ];
    [&[2, 0, 0, 0][..], &entries.concat()].concat()
}

/// Sets an ACL on a file or directory. Returns whether the file system supports it.
fn give(path: &Path, list: &str) -> bool {
    let mut entries = one_user();
    // The owner has to be able to list a directory.
    entries[6] = if path.is_dir() { 7 } else { 6 };
    let given = rustix::fs::setxattr(path, list, &entries, XattrFlags::empty());
    if given.is_err() {
        // The printing macros are captured in a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED access: {} has no lists", path.display());
    }
    given.is_ok()
}

fn list(path: &Path) -> Option<Vec<u8>> {
    let mut list = vec![0; 1 << 10];
    let length = rustix::fs::getxattr(path, ACCESS, &mut list[..]).ok()?;
    list.truncate(length);
    Some(list)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn what_replaces_a_file_has_its_list() {
    let place = Place::new();
    fs::write(place.at("file"), "old").unwrap();
    if !give(&place.at("file"), ACCESS) {
        return;
    }
    let tree = place.writable();
    put(&tree, "file", b"new", WriteOptions::default()).unwrap();
    assert_eq!((list(&place.at("file")), mode(&place.at("file"))), (Some(one_user()), 0o640));
    // A copy from elsewhere gives nobody on the list more.
    fs::write(place.at("other"), "other").unwrap();
    fs::set_permissions(place.at("other"), fs::Permissions::from_mode(0o660)).unwrap();
    tree.copy(&rel("other"), &rel("file"), true, false).unwrap();
    assert_eq!((list(&place.at("file")), mode(&place.at("file"))), (Some(one_user()), 0o640));
    // An explicit mode is applied.
    let narrow = WriteOptions { mode: Some(0o600), ..WriteOptions::default() };
    assert_eq!(put(&tree, "file", b"new", narrow).unwrap().mode, 0o600);
}

#[test]
fn what_replaces_a_file_without_a_list_gets_none_from_its_directory() {
    let place = Place::new();
    fs::write(place.at("file"), "old").unwrap();
    fs::set_permissions(place.at("file"), fs::Permissions::from_mode(0o640)).unwrap();
    if !give(&place.at(""), DEFAULT) {
        return;
    }
    let tree = place.writable();
    put(&tree, "file", b"new", WriteOptions::default()).unwrap();
    assert_eq!((list(&place.at("file")), mode(&place.at("file"))), (None, 0o640));
    // A new file gets the default ACL of its directory.
    let new = WriteOptions { mode: Some(0o640), ..WriteOptions::default() };
    put(&tree, "new", b"new", new).unwrap();
    assert_eq!(list(&place.at("new")), Some(one_user()));
}

#[test]
fn the_group_gets_nothing_of_what_was_for_a_list() {
    let place = Place::new();
    fs::create_dir(place.at("dir")).unwrap();
    fs::write(place.at("dir/file"), "x").unwrap();
    if !give(&place.at("dir/file"), ACCESS) || !give(&place.at("dir"), ACCESS) {
        return;
    }
    let tree = place.writable();
    tree.copy(&rel("dir/file"), &rel("file"), false, false).unwrap();
    tree.copy(&rel("dir"), &rel("copy"), false, true).unwrap();
    for (path, expected) in [("file", 0o600), ("copy/file", 0o600), ("copy", 0o700)] {
        assert_eq!((list(&place.at(path)), mode(&place.at(path))), (None, expected), "{path}");
    }
}
