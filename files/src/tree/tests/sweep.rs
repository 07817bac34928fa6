//! Leftovers of killed processes, and their removal.

use std::os::fd::AsFd as _;
use std::time::{Duration, SystemTime};

use super::super::sweep::hold;
use super::*;

#[test]
fn a_listing_does_not_sweep_up_what_is_about_to_get_its_name() {
    let place = Place::new();
    let tree = place.writable();
    let wanted = WriteOptions { modified: Some(1), ..WriteOptions::default() };
    let mut draft = tree.draft(&rel("old"), wanted).unwrap();
    draft.write(b"content").unwrap();
    let listed = |_: Option<&Stat>, _| tree.walk(&Rel::ROOT, 1, &mut |_| Ok(true)).map(drop);
    draft.commit_with(listed).unwrap();
    assert_eq!(read(&tree, "old").unwrap(), b"content");
}

#[test]
fn what_is_unfinished_and_old_is_swept_up_with_all_that_is_in_it() {
    let place = Place::new();
    let tree = place.writable();
    for name in ["tmp-1/deep", "tmp-2/deep", "was-3/deep"] {
        fs::create_dir_all(place.at(&format!(".farwire-{name}"))).unwrap();
        fs::write(place.at(&format!(".farwire-{name}/file")), "x").unwrap();
    }
    fs::write(place.at(".farwire-part-4"), "x").unwrap();
    fs::write(place.at("file"), "x").unwrap();
    let root = File::open(place.at("")).unwrap();
    let sweep = |hours: u64| {
        let now = SystemTime::now() + Duration::from_secs(hours * 3600);
        for name in fs::read_dir(place.at("")).unwrap() {
            let name = name.unwrap().file_name();
            tree.sweep(root.as_fd(), &Rel::ROOT, name.as_encoded_bytes(), now);
        }
        let mut left = leftovers(&place.at(""));
        left.sort();
        left
    };
    assert_eq!(sweep(23).len(), 4);
    // Somebody is still working on one of them.
    let busy = File::open(place.at(".farwire-tmp-2")).unwrap();
    hold(busy.as_fd());
    assert_eq!(sweep(25), [".farwire-tmp-2", ".farwire-was-3"]);
    drop(busy);
    assert_eq!(sweep(25), [".farwire-was-3"]);
    assert!(place.at("file").exists() && place.at(".farwire-was-3/deep/file").exists());
}

#[test]
fn a_directory_that_only_looks_empty_says_why_it_stays() {
    let place = Place::new();
    let tree = place.writable();
    fs::create_dir(place.at("dir")).unwrap();
    fs::write(place.at("dir/.farwire-part-4"), "x").unwrap();
    let kept = tree.remove(&rel("dir"), false, None).unwrap_err();
    assert!(kept.hint().contains("interrupted transfers"), "{kept:?}");
    fs::write(place.at("dir/file"), "x").unwrap();
    let kept = tree.remove(&rel("dir"), false, None).unwrap_err();
    assert!(!kept.hint().contains("interrupted transfers"), "{kept:?}");
    tree.remove(&rel("dir"), true, None).unwrap();
}
