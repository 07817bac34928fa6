//! `farwire files mount`, where this machine supports it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use farwire_tests::{PATIENCE, World, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

fn can_mount() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let fuse = fs::File::options().read(true).write(true).open("/dev/fuse").is_ok();
    fuse && is_there("rclone") && is_there("fusermount3")
}

fn is_mounted(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.contains(&format!(" {} ", dir.display()))
}

#[tokio::test]
async fn what_was_just_written_is_sent_before_a_mount_ends() {
    if !can_mount() {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    let world = World::with_root("web-1", &[]).await;
    fs::create_dir(world.in_root("sub")).unwrap();
    fs::write(world.in_root("sub/old"), "old").unwrap();
    let dir = world.path("mounted");
    fs::create_dir(&dir).unwrap();
    let shown = dir.display().to_string();
    let mut command =
        world.farwire_command(&["files", "mount", "--with", "rclone", "web-1:work/sub", &shown]);
    command.env("XDG_CACHE_HOME", world.path("cache"));
    let mut mount = command.stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(mount.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.expect("it gets ready").unwrap();
    assert_eq!(line.as_deref(), Some(format!("ready {shown}").as_str()));
    assert!(is_mounted(&dir), "it is said once it is so");
    assert_eq!(fs::read(dir.join("old")).unwrap(), b"old");
    fs::write(dir.join("new"), "new").unwrap();
    let pid = Pid::from_raw(i32::try_from(mount.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = timeout(PATIENCE, mount.wait()).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(fs::read(world.in_root("sub/new")).unwrap(), b"new");
    until("nothing is mounted", async || (!is_mounted(&dir)).then_some(())).await;
    // The mount would hide what is there.
    fs::write(dir.join("mine"), "mine").unwrap();
    let refused = world.farwire(&["files", "mount", "--with", "rclone", "web-1", &shown]).await;
    assert!(refused.stderr.contains("error[directory_not_empty]"), "{refused:?}");
}
