//! What goes wrong: programs that do not end as they should, files that are damaged, keys that are
//! not what they should be, a disk that is full. Each is named, and nothing else is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use farwire_tests::{World, is_root_or_skips, until};

#[tokio::test]
async fn a_program_that_ignores_signals_is_killed_and_what_got_away_is_counted() {
    let world = World::with_server("web-1").await;
    // One leaves the group and stays a child, one is a daemon that forked twice.
    let script = "trap '' INT TERM HUP; setsid sleep 23 & \
                  (setsid sh -c 'sleep 23 & exit' &) ; echo on; while :; do sleep 0.1; done";
    let done = world.farwire(&["run", "web-1", "--timeout", "1s", "-c", script]).await;
    assert_eq!((done.code, done.text().as_str()), (128 + 9, "on\n"), "{done:?}");
    assert!(done.stderr.contains("2 processes left the process group"), "{}", done.stderr);

    let done = world.farwire(&["run", "web-1", "--detach", "-c", script]).await;
    let id = done.text().trim().to_owned();
    assert_eq!(world.farwire(&["stop", &id]).await.code, 0);
    until("KILL after INT and TERM", async || {
        let output = world.farwire(&["output", &id, "--json"]).await.json();
        (output["signal"] == "KILL").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_program_that_closes_its_pipes_early_is_waited_for() {
    let world = World::with_server("web-1").await;
    let done =
        world.farwire(&["run", "web-1", "-c", "echo a; exec >&- 2>&-; sleep 1; exit 3"]).await;
    assert_eq!((done.code, done.text().as_str()), (3, "a\n"), "{done:?}");
    // Input that nobody wants is no error either.
    let input = vec![b'x'; 1 << 20];
    let done = world.farwire_with(&["run", "web-1", "-c", "exec <&-; exit 4"], &input).await;
    assert_eq!(done.code, 4, "{done:?}");
}

/// A file system of one MiB, as long as this lives.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(at).status();
        done.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_under_the_spool_costs_the_oldest_output_and_not_the_run() {
    if !is_root_or_skips("a file system of its own") {
        return;
    }
    let mut world = World::with_server("web-1").await;
    world.kill_agent("web-1").await;
    let spool = world.path("web-1/spool");
    // The agent empties the directory when it starts; so it is started first.
    world.start_agent("web-1").await;
    let Some(small) = Mount::new(&spool) else {
        eprintln!("skipped: nothing may be mounted here");
        return;
    };
    let done = world.farwire(&["run", "web-1", "-c", "seq 1 2000000; exit 6"]).await;
    let rest = world.farwire(&["run", "web-1", "-c", "echo still here"]).await;
    drop(small);
    assert_eq!(done.code, 6, "{}", done.stderr);
    assert!(done.text().ends_with("1999999\n2000000\n"));
    assert_eq!(rest.text(), "still here\n");
}

#[tokio::test]
async fn a_relay_that_does_not_hold_its_key_is_not_talked_to() {
    let mut world = World::new().await;
    world.kill_relay().await;
    // Another relay now answers where the pinned one was.
    fs::remove_dir_all(world.path("relay")).unwrap();
    world.start_relay(&[]).await;
    let done = world.farwire(&["server", "create", "web-1"]).await;
    assert!(done.code != 0 && done.stderr.contains("error[relay_key_mismatch]"), "{done:?}");
}

#[tokio::test]
async fn damaged_and_open_files_are_named_and_never_replaced() {
    let world = World::with_server("web-1").await;
    let bundle = world.path("bridge/bundle");
    let good = fs::read(&bundle).unwrap();
    for (bad, kind) in
        [(good[..good.len() - 1].to_vec(), "keystore_corrupt"), (Vec::new(), "keystore_corrupt")]
    {
        fs::write(&bundle, &bad).unwrap();
        let done = world.farwire(&["run", "web-1", "--", "true"]).await;
        assert!(done.code == 255 && done.stderr.contains(&format!("error[{kind}]")), "{done:?}");
        assert_eq!(fs::read(&bundle).unwrap(), bad, "it was touched");
    }
    fs::write(&bundle, &good).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(world.path("bridge/keys/kt"), open).unwrap();
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert!(done.code == 255 && done.stderr.contains("error[keystore_permissions]"), "{done:?}");
}

#[tokio::test]
async fn one_agent_for_one_state_and_a_bundle_only_where_it_fits() {
    let world = World::with_server("web-1").await;
    let second = world.agent_with("web-1", &["run"], b"").await;
    assert!(second.stderr.contains("error[already_running]"), "{second:?}");
    let agents = world.agent_with("web-1", &["fingerprint", "--bundle"], b"").await.stdout;
    let added = world.agent_with("web-1", &["device", "add", "x", "--bundle", "-"], &agents).await;
    assert!(added.stderr.contains("error[wrong_key_kind]"), "{added:?}");
    let nothing = world.agent_with("web-1", &["device", "add", "x", "--bundle", "-"], b"?").await;
    assert!(nothing.code != 0 && nothing.stderr.contains("error["), "{nothing:?}");
}

/// Copies what is in a directory into another one.
fn copy(from: &Path, to: &Path) {
    let from = format!("{}/.", from.display());
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("it ended").success());
}

#[tokio::test]
async fn a_relay_starts_on_a_full_disk_and_serves_what_needs_no_writing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not checked: a file system of its own can only be mounted by root");
        return;
    }
    let mut world = World::with_server("web-1").await;
    for orderly in [true, false] {
        if orderly {
            world.end_relay().await;
        } else {
            world.kill_relay().await;
        }
        let (data, kept) = (world.path("relay"), world.path("relay-kept"));
        fs::rename(&data, &kept).unwrap();
        fs::create_dir(&data).unwrap();
        let Some(small) = Mount::new(&data) else {
            eprintln!("not checked: nothing may be mounted here");
            return;
        };
        copy(&kept, &data);
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        // Until nothing goes any more.
        let filled = fs::write(data.join("filler"), vec![1; 2 << 20]);
        assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        world.start_relay(&[]).await;
        world.wait_for("web-1", "online").await;
        let done = world.farwire(&["run", "web-1", "--", "echo", "here"]).await;
        assert_eq!((done.code, done.text().as_str()), (0, "here\n"), "{done:?}");
        let refused = world.farwire(&["server", "create", "web-2"]).await;
        assert_ne!(refused.code, 0, "there is no room for it: {refused:?}");
        // With room it goes on by itself.
        fs::remove_file(data.join("filler")).unwrap();
        let made =
            world.farwire(&["server", "create", if orderly { "web-2" } else { "web-3" }]).await;
        assert_eq!(made.code, 0, "{made:?}");
        world.end_relay().await;
        copy(&data, &kept);
        drop(small);
        fs::remove_dir(&data).unwrap();
        fs::rename(&kept, &data).unwrap();
        world.start_relay(&[]).await;
    }
}
