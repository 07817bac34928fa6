//! What is written stays within the limits, and what does not fit leaves nothing behind.

use super::*;

/// A root of 32 MiB, of which 16 MiB are to stay free.
fn keeps_free(place: &Place) -> Tree {
    mounts::small(&place.at(""), 32 << 20);
    place.tree(Rules { writable: true, spare: 16 << 20, ..Rules::default() })
}

/// Checks that at least half is free, apart from what the file system takes for names.
fn free(tree: &Tree) -> u64 {
    tree.space().unwrap().1
}

#[test]
fn what_is_kept_free_stays_free_however_long_is_written() {
    if !mounts::alone("space::what_is_kept_free_stays_free_however_long_is_written") {
        return;
    }
    let place = Place::new();
    let tree = keeps_free(&place);
    let mut draft = tree.draft(&rel("file"), WriteOptions::default()).unwrap();
    let piece = [1; 64 << 10];
    let written = (0..1 << 10).find_map(|_| draft.write(&piece).err());
    assert_eq!(written.map(|failure| failure.kind), Some(Kind::DiskFull));
    assert!(free(&tree) >= 16 << 20 && draft.length() > 15 << 20);
    drop(draft);
    assert_eq!(leftovers(&place.at("")), [""; 0]);
}

#[test]
fn a_copy_has_the_limits_of_what_is_written() {
    let place = Place::new();
    fs::create_dir(place.at("dir")).unwrap();
    fs::create_dir(place.at("other")).unwrap();
    fs::write(place.at("dir/file"), [0; 11]).unwrap();
    let largest = Rules { writable: true, largest: 10, ..Rules::default() };
    let full = Rules { writable: true, spare: u64::MAX / 2, ..Rules::default() };
    for (rules, expected) in [(largest, Kind::TooLarge), (full, Kind::DiskFull)] {
        let tree = place.tree(rules);
        for from in ["dir", "dir/file"] {
            let (from_path, to) = (&rel(from), &rel("copy"));
            assert_eq!(kind(tree.copy(from_path, to, false, true)), expected, "{from}");
            assert_eq!(kind(tree.copy_over(from_path, &rel("other"), true)), expected, "{from}");
        }
    }
    assert_eq!(leftovers(&place.at("")), [""; 0]);
    assert!(place.at("other").is_dir() && !place.at("copy").exists());
}

#[test]
fn what_is_added_has_the_limits_of_what_is_written() {
    let place = Place::new();
    let largest = Rules { writable: true, largest: 10, ..Rules::default() };
    let full = Rules { writable: true, spare: u64::MAX / 2, ..Rules::default() };
    let add = |tree: &Tree, path: &str, content: &[u8]| {
        tree.append(
            &rel(path),
            WriteOptions { how: How::Append, ..WriteOptions::default() },
            content,
        )
    };
    fs::write(place.at("full"), "x").unwrap();
    assert_eq!(kind(add(&place.tree(full), "full", b"x")), Kind::DiskFull);
    let tree = place.tree(largest);
    assert_eq!(kind(add(&tree, "file", &[0; 11])), Kind::TooLarge);
    add(&tree, "file", b"12345").unwrap();
    add(&tree, "file", b"67890").unwrap();
    assert_eq!(kind(add(&tree, "file", b"1")), Kind::TooLarge);
    assert_eq!(read(&tree, "file").unwrap(), b"1234567890");
}

#[test]
fn a_copy_of_much_leaves_free_what_is_kept_free() {
    if !mounts::alone("space::a_copy_of_much_leaves_free_what_is_kept_free") {
        return;
    }
    let place = Place::new();
    let tree = keeps_free(&place);
    fs::create_dir(place.at("dir")).unwrap();
    for name in 0..3 {
        fs::write(place.at(&format!("dir/{name}")), vec![1; 3 << 20]).unwrap();
    }
    assert_eq!(kind(tree.copy(&rel("dir"), &rel("copy"), false, true)), Kind::DiskFull);
    assert_eq!(leftovers(&place.at("")), [""; 0]);
    fs::remove_file(place.at("dir/2")).unwrap();
    tree.copy(&rel("dir"), &rel("copy"), false, true).unwrap();
    assert!(free(&tree) >= 16 << 20);
}

#[test]
fn a_disk_that_is_full_leaves_the_old_content_and_nothing_else() {
    if !mounts::alone("space::a_disk_that_is_full_leaves_the_old_content_and_nothing_else") {
        return;
    }
    let place = Place::new();
    mounts::small(&place.at(""), 1 << 20);
    let tree = place.writable();
    put(&tree, "file", b"old", WriteOptions::default()).unwrap();
    let large = vec![1; 2 << 20];
    assert_eq!(kind(put(&tree, "file", &large, WriteOptions::default())), Kind::DiskFull);
    let transfer = Nonce([3; 16]);
    let mut draft = tree.resume(&rel("file"), WriteOptions::default(), transfer).unwrap();
    assert_eq!(kind(draft.write(&large)), Kind::DiskFull);
    drop(draft);
    fs::write(place.at("half"), vec![1; 600 << 10]).unwrap();
    assert_eq!(kind(tree.copy(&rel("half"), &rel("file"), true, true)), Kind::DiskFull);
    assert_eq!(read(&tree, "file").unwrap(), b"old");
    assert_eq!(leftovers(&place.at("")), [""; 0]);
}

#[test]
fn what_becomes_shorter_while_it_is_copied_is_no_copy() {
    let place = Place::new();
    fs::write(place.at("log"), vec![1; 100_000]).unwrap();
    let tree = place.writable();
    let (file, stat) = tree.open(&rel("log")).unwrap();
    let copy = || {
        let mut draft = tree.draft(&rel("copy"), WriteOptions::default()).unwrap();
        draft.copy(&file, &stat)
    };
    let writer = fs::OpenOptions::new().write(true).open(place.at("log")).unwrap();
    // As it was, with more at its end, and with less.
    assert_eq!(copy().unwrap(), 100_000);
    writer.set_len(200_000).unwrap();
    assert_eq!(copy().unwrap(), 100_000);
    writer.set_len(50_000).unwrap();
    assert_eq!(kind(copy()), Kind::ChangedMeanwhile);
}

#[test]
fn limits_of_size_are_kept_while_it_is_written() {
    let place = Place::new();
    let tree = place.tree(Rules { writable: true, largest: 10, ..Rules::default() });
    assert_eq!(kind(put(&tree, "file", &[0; 11], WriteOptions::default())), Kind::TooLarge);
    put(&tree, "file", &[0; 10], WriteOptions::default()).unwrap();
    let tree = place.tree(Rules { writable: true, spare: u64::MAX / 2, ..Rules::default() });
    assert_eq!(kind(put(&tree, "file", b"x", WriteOptions::default())), Kind::DiskFull);
}

#[test]
fn holes_stay_holes_in_a_copy() {
    use std::os::unix::fs::FileExt as _;
    let place = Place::new();
    let sparse = File::create(place.at("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    sparse.write_all_at(b"data", 600 << 20).unwrap();
    let tree = place.writable();
    let copied = tree.copy(&rel("sparse"), &rel("copy"), false, false).unwrap();
    let is = fs::metadata(place.at("copy")).unwrap();
    assert_eq!((copied.bytes, is.len()), (1 << 30, 1 << 30));
    assert!(is.blocks() < 1 << 16, "{} blocks: the holes were filled", is.blocks());
    let mut bytes = [0; 6];
    File::open(place.at("copy")).unwrap().read_exact_at(&mut bytes, (600 << 20) - 1).unwrap();
    assert_eq!(&bytes, b"\0data\0");
}
