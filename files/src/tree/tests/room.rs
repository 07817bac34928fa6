//! What is written stays within the limits, and what does not fit leaves nothing behind.

use super::*;

/// A root of 32 MiB of which 16 are to be kept free.
fn keeps_free(place: &Place) -> Tree {
    mounts::small(&place.at(""), 32 << 20);
    place.tree(Rules { writable: true, spare: 16 << 20, ..Rules::default() })
}

/// At least the half is free, but for what the file system takes for names.
fn free(tree: &Tree) -> u64 {
    tree.space().unwrap().1
}

#[test]
fn what_is_kept_free_stays_free_however_long_is_written() {
    if !mounts::alone("room::what_is_kept_free_stays_free_however_long_is_written") {
        return;
    }
    let place = Place::new();
    let tree = keeps_free(&place);
    let mut draft = tree.draft(&rel("file"), Wanted::default()).unwrap();
    let piece = [1; 64 << 10];
    let written = (0..1 << 10).find_map(|_| draft.write(&piece).err());
    assert_eq!(written.map(|failure| failure.kind), Some(Kind::DiskFull));
    assert!(free(&tree) >= 16 << 20 && draft.written() > 15 << 20);
    drop(draft);
    assert_eq!(leftovers(&place.at("")), [""; 0]);
}
