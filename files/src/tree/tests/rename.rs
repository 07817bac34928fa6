//! Moves without the resources that they need.

use std::process::Command;

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
