//! What is done in a root is done in the directory that was meant, also when the root of that name
//! becomes another one.

use std::fs;
use std::path::Path;

use farwire_tests::dav::Dav;
use farwire_tests::trials::files::bytes;
use farwire_tests::{PATIENCE, World, until};
use tokio::process::Child;
use tokio::time::timeout;

/// Kills the agent, and starts it again with this directory as its root `work`.
async fn restart_with(world: &mut World, dir: &Path) {
    let root = format!("work={}:rw", dir.display());
    world.kill_agent("web-1").await;
    world.set_options("web-1", &["--fs-root", &root]);
    world.start_agent("web-1").await;
}

/// Begins to make the root like a directory here with one large file, and waits until some of that
/// has arrived.
async fn syncing(world: &World) -> Child {
    let here = world.path("here");
    fs::create_dir(&here).expect("a directory");
    fs::write(here.join("big"), bytes(64 << 20)).expect("a file");
    let (here, root) = (here.display().to_string(), world.in_root("").display().to_string());
    let there = format!("web-1:{root}");
    let sync = world.farwire_command(&["files", "sync", "--delete", &here, &there]).spawn();
    until("a part", async || {
        let entries = fs::read_dir(&root).into_iter().flatten().flatten();
        let largest = entries.map(|entry| entry.metadata().map_or(0, |is| is.len())).max();
        largest.filter(|size| *size > 4 << 20)
    })
    .await;
    sync.expect("it starts")
}

/// The exit code of a command, and what it has said.
async fn ended(child: Child) -> (Option<i32>, String) {
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends");
    let output = output.expect("it can be waited for");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_sync_changes_no_other_directory_that_gets_the_name_of_its_root() {
    let mut world = World::with_root("web-1", &[]).await;
    let other = world.path("outside/other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("precious"), "precious").unwrap();
    let sync = syncing(&world).await;
    restart_with(&mut world, &other).await;
    let (code, said) = ended(sync).await;
    assert!(code == Some(69) && said.contains("error[no_root]"), "{code:?} {said}");
    let names = fs::read_dir(&other).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["precious"]);
}

#[tokio::test]
async fn a_served_root_stays_the_directory_that_it_was() {
    let mut world = World::with_root("web-1", &[]).await;
    let (first, other) = (world.in_root(""), world.path("outside/other"));
    fs::create_dir(&other).unwrap();
    for dir in [&first, &other] {
        fs::write(dir.join("victim"), "victim").unwrap();
    }
    let dav = Dav::start(&world, "web-1", &[]).await;
    restart_with(&mut world, &other).await;
    for (method, body) in [("DELETE", &b""[..]), ("PUT", b"x"), ("GET", b"")] {
        let reply = dav.ask(method, "/victim", &[], body).await;
        assert_eq!(reply.status, 502, "{method}: {reply:?}");
    }
    assert_eq!(fs::read(other.join("victim")).unwrap(), b"victim");
    restart_with(&mut world, &first).await;
    let reply = dav.ask("DELETE", "/victim", &[], b"").await;
    assert_eq!(reply.status, 204, "{reply:?}");
    assert!(!first.join("victim").exists() && other.join("victim").exists());
}

#[tokio::test]
async fn a_sync_removes_nothing_that_was_changed_since_it_was_listed() {
    let world = World::with_root("web-1", &[]).await;
    for name in ["plain", "linked", "changed"] {
        fs::write(world.in_root(name), "old").unwrap();
    }
    // The removal of one name changes the revision of the other one.
    fs::hard_link(world.in_root("linked"), world.in_root("linked-2")).unwrap();
    let sync = syncing(&world).await;
    fs::write(world.in_root("changed"), "theirs").unwrap();
    let (code, said) = ended(sync).await;
    assert!(code == Some(2) && said.contains("error[changed_meanwhile]"), "{code:?} {said}");
    assert_eq!(fs::read(world.in_root("changed")).unwrap(), b"theirs");
    assert_eq!(fs::metadata(world.in_root("big")).unwrap().len(), 64 << 20);
    for name in ["plain", "linked", "linked-2"] {
        assert!(!world.in_root(name).exists(), "{name}");
    }
}
