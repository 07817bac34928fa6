//! Moves without the resources that they need.

use std::os::fd::AsFd as _;
use std::process::Command;

use super::super::rename::make_sweepable;
use super::*;

/// Tells a process that it has few descriptors.
const INSIDE: &str = "FARWIRE_TEST_FEW_DESCRIPTORS";

#[test]
fn a_move_that_runs_out_of_descriptors_has_changed_nothing() {
    let name = "tree::tests::rename::a_move_that_runs_out_of_descriptors_has_changed_nothing";
    if std::env::var_os(INSIDE).is_none() {
        // The limit is that of a process, and other tests run in ours.
        let inside = Command::new("sh")
            .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads", "1"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inside.stdout);
        assert!(inside.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let place = Place::new();
    let tree = place.writable();
    let (mut failed, mut moved) = (0, 0);
    for free in 0..12 {
        fs::create_dir_all(place.at("from")).unwrap();
        fs::create_dir_all(place.at("to")).unwrap();
        fs::write(place.at("from/new"), "new").unwrap();
        fs::write(place.at("to/old"), "old").unwrap();
        let mut taken: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        taken.truncate(taken.len() - free);
        let done = tree.rename(&rel("from"), &rel("to"), true);
        drop(taken);
        match done {
            Ok(()) => {
                moved += 1;
                assert!(place.at("to/new").exists() && !place.at("from").exists(), "{free} free");
                fs::remove_dir_all(place.at("to")).unwrap();
            }
            Err(failure) => {
                failed += 1;
                assert_eq!(failure.kind, Kind::ResourceExhausted, "{free} free");
                assert!(place.at("from/new").exists(), "the source is gone with {free} free");
                assert!(place.at("to/old").exists(), "the destination changed with {free} free");
            }
        }
    }
    assert!(failed > 0 && moved > 0, "{failed} failed, {moved} moved");
}

#[test]
fn what_stepped_aside_gets_another_name_that_is_swept_if_the_first_is_taken() {
    let place = Place::new();
    let dir = File::open(place.at("")).unwrap();
    let hidden = || b".farwire-tmp-taken".to_vec();
    let is_gone = || !place.at(".farwire-was-1").exists();

    fs::create_dir(place.at(".farwire-was-1")).unwrap();
    let name = make_sweepable(dir.as_fd(), b".farwire-was-1".to_vec(), hidden());
    assert!(name == hidden() && place.at(".farwire-tmp-taken").is_dir() && is_gone());

    fs::create_dir(place.at(".farwire-was-1")).unwrap();
    let name = make_sweepable(dir.as_fd(), b".farwire-was-1".to_vec(), hidden());
    let name = String::from_utf8(name).unwrap();
    assert!(name.starts_with(".farwire-tmp-") && name.as_bytes() != hidden(), "{name}");
    assert!(place.at(&name).is_dir() && is_gone());

    let none = make_sweepable(dir.as_fd(), b".farwire-was-2".to_vec(), hidden());
    assert_eq!(none, b".farwire-was-2", "it keeps its name");
}
