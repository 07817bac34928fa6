//! What a transfer preserves, what it names, and what it never does by half.

#![expect(clippy::unwrap_used, reason = "its helpers are part of its tests")]

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use farwire_tests::{Era, World};
use serde_json::json;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Mode and modification time.
fn kept(path: &Path) -> (u32, i64, i64) {
    let is = fs::metadata(path).unwrap();
    (is.mode() & 0o7777, is.mtime(), is.mtime_nsec())
}

/// A directory with files of various modes, and old times.
fn with_rights(top: &Path) {
    fs::create_dir_all(top.join("private/closed")).unwrap();
    for (file, mode) in
        [("read", 0o444), ("all", 0o666), ("private/run", 0o777), ("private/closed/k", 0o600)]
    {
        fs::write(top.join(file), file).unwrap();
        set_mode(&top.join(file), mode);
    }
    set_mode(&top.join("private/closed"), 0o555);
    set_mode(&top.join("private"), 0o700);
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 7);
    for path in ["private/closed/k", "read", "private/closed", "private"] {
        fs::File::open(top.join(path)).unwrap().set_modified(old).unwrap();
    }
}

const ALL: [&str; 6] =
    ["read", "all", "private", "private/run", "private/closed", "private/closed/k"];

fn assert_alike(one: &Path, other: &Path) {
    for path in ALL {
        let (one, other) = (kept(&one.join(path)), kept(&other.join(path)));
        assert_eq!(one, other, "{path}: {:o} and {:o}", one.0, other.0);
    }
}

#[tokio::test]
async fn rights_and_times_of_files_and_directories_are_kept_whichever_way_they_go() {
    let mut world = World::with_root("web-1", &[]).await;
    let other = world.path("second");
    fs::create_dir(&other).unwrap();
    let root = format!("other={}:rw", other.display());
    world.set_options("web-2", &["--fs-root", &root]);
    world.enroll("web-2").await;
    world.start_agent("web-2").await;
    let here = world.path("here");
    fs::create_dir(&here).unwrap();
    with_rights(&here);
    let local = here.display().to_string();
    let files = async |arguments: &[&str]| {
        let done = world.farwire(&[&["files"], arguments].concat()).await;
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done
    };
    files(&["put", "-r", &local, "web-1:put"]).await;
    assert_alike(&here, &world.in_root("put"));
    files(&["sync", &local, "web-1:sync"]).await;
    assert_alike(&here, &world.in_root("sync"));
    let back = |name: &str| world.path(name).display().to_string();
    files(&["get", "-r", "web-1:put", &back("got")]).await;
    assert_alike(&here, &world.path("got"));
    files(&["sync", "web-1:put", &back("synced")]).await;
    assert_alike(&here, &world.path("synced"));
    files(&["cp", "-r", "web-1:put", "web-2:copy"]).await;
    assert_alike(&here, &other.join("copy"));
    files(&["get", "web-1:put/read", &back("alone")]).await;
    assert_eq!(kept(&world.path("alone")), kept(&here.join("read")));
    // Into a directory that is not writable, and with modes as the only change.
    set_mode(&here.join("read"), 0o640);
    set_mode(&here.join("private/closed"), 0o755);
    fs::write(here.join("private/closed/new"), "new").unwrap();
    set_mode(&here.join("private/closed"), 0o555);
    for way in [&["sync", &local, "web-1:sync"][..], &["sync", "-c", &local, "web-1:put"]] {
        let done = files(way).await;
        assert!(done.text().contains("set    read\n"), "{done:?}");
    }
    for copy in ["sync", "put"] {
        assert_alike(&here, &world.in_root(copy));
        assert_eq!(fs::read(world.in_root(copy).join("private/closed/new")).unwrap(), b"new");
    }
    files(&["sync", "-c", "web-1:put", &back("synced")]).await;
    assert_alike(&here, &world.path("synced"));
    let again = files(&["sync", "web-1:put", &back("synced"), "--json"]).await.json();
    assert_eq!((&again["fetch"], &again["set"]), (&json!([]), &json!([])), "{again}");
}

#[tokio::test]
async fn what_cannot_be_transferred_is_named_and_the_rest_arrives() {
    let world = World::with_root("web-1", &[]).await;
    let here = world.path("here");
    fs::create_dir_all(here.join("sub")).unwrap();
    for file in ["a", "sub/b", "z"] {
        fs::write(here.join(file), file).unwrap();
    }
    symlink("a", here.join("link")).unwrap();
    fs::create_dir_all(world.in_root("copy/a")).unwrap();
    let local = here.display().to_string();
    let files = async |arguments: &[&str]| world.farwire(&[&["files"], arguments].concat()).await;
    // A directory stands where a file belongs.
    let done = files(&["put", "-rf", &local, "web-1:copy"]).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("farwire: a: "), "{done:?}");
    assert!(done.stderr.contains("error[not_a_file]: 1 not transferred, 2 files were"), "{done:?}");
    assert!(done.stderr.contains("left out: link"), "{done:?}");
    assert_eq!(fs::read(world.in_root("copy/sub/b")).unwrap(), b"sub/b");
    assert_eq!(fs::read(world.in_root("copy/z")).unwrap(), b"z");
    let json = files(&["sync", &local, "web-1:copy", "--json"]).await;
    assert_eq!(json.code, 2, "{json:?}");
    assert_eq!(json.json()["failed"][0]["path"], "a", "{json:?}");
    // A local directory that cannot be created: a file is in its place.
    fs::remove_dir(world.in_root("copy/a")).unwrap();
    fs::create_dir(world.path("back")).unwrap();
    fs::write(world.path("back/sub"), "a file").unwrap();
    let back = world.path("back").display().to_string();
    let done = files(&["get", "-r", "web-1:copy", &back]).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("error[not_a_directory]"), "{done:?}");
    assert_eq!(fs::read(world.path("back/z")).unwrap(), b"z");
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root reads everything");
        return;
    }
    set_mode(&here.join("a"), 0);
    set_mode(&here.join("sub"), 0);
    let done = files(&["put", "-r", &local, "web-1:some"]).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("error[permission_denied]: 2 not transferred"), "{done:?}");
    assert_eq!(fs::read(world.in_root("some/z")).unwrap(), b"z");
    set_mode(&here.join("sub"), 0o755);
    for closed in ["copy/sub", "copy/z"] {
        set_mode(&world.in_root(closed), 0);
    }
    let to = world.path("partly").display().to_string();
    for command in [
        &["get", "-r", "web-1:copy", &to][..],
        &["checksum", "-r", "web-1:copy"],
        &["sync", "web-1:copy", &to],
    ] {
        let done = files(command).await;
        assert_eq!(done.code, 2, "{command:?}: {done:?}");
        assert!(
            done.stderr.contains("sub: ") && done.stderr.contains("z: "),
            "{command:?}: {done:?}"
        );
    }
    let refused = files(&["sync", "web-1:copy", &back, "--delete"]).await;
    assert!(refused.stderr.contains("what exists only here may exist there, too"), "{refused:?}");
    // So that it can be removed.
    for closed in [world.in_root("copy/sub"), world.in_root("some/sub"), world.path("partly/sub")] {
        set_mode(&closed, 0o755);
    }
}

#[tokio::test]
async fn with_delete_a_directory_gives_way_to_a_file_and_a_file_to_a_directory() {
    let world = World::with_root("web-1", &[]).await;
    let here = world.path("here");
    fs::create_dir_all(here.join("dir")).unwrap();
    fs::write(here.join("dir/in"), "in").unwrap();
    fs::write(here.join("file"), "file").unwrap();
    symlink("file", here.join("left")).unwrap();
    let other = |top: &Path| {
        fs::create_dir_all(top.join("file/deep")).unwrap();
        fs::write(top.join("file/deep/x"), "x").unwrap();
        fs::write(top.join("dir"), "a file").unwrap();
        fs::write(top.join("left"), "stays").unwrap();
    };
    let alike = |top: &Path| {
        assert_eq!(fs::read(top.join("dir/in")).unwrap(), b"in");
        assert_eq!(fs::read(top.join("file")).unwrap(), b"file");
    };
    other(&world.in_root("copy"));
    let local = here.display().to_string();
    let sync =
        async |arguments: &[&str]| world.farwire(&[&["files", "sync"], arguments].concat()).await;
    let done = sync(&[&local, "web-1:copy"]).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("dir: ") && done.stderr.contains("file: "), "{done:?}");
    assert!(world.in_root("copy/file/deep/x").is_file(), "nothing is removed unasked");
    let done = sync(&[&local, "web-1:copy", "--delete"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    alike(&world.in_root("copy"));
    assert_eq!(fs::read(world.in_root("copy/left")).unwrap(), b"stays", "the source has one, too");
    let back = world.path("back");
    other(&back);
    fs::remove_file(back.join("left")).unwrap();
    let to = back.display().to_string();
    assert_eq!(sync(&["web-1:copy", &to]).await.code, 2);
    let done = sync(&["web-1:copy", &to, "--delete"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    alike(&back);
}

/// Writes to a file from its end to its beginning, one number after the other, until it is dropped.
struct Rewritten(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Rewritten {
    fn begin(path: &Path, blocks: u64) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let file = fs::File::options().write(true).create(true).truncate(false).open(path).unwrap();
        let write = move |number: u8, at: u64| {
            file.write_all_at(&vec![number; 1 << 16], at << 16).unwrap();
        };
        (0..blocks).for_each(|at| write(0, at));
        let stop = done.clone();
        let writer = std::thread::spawn(move || {
            for number in (0..=u8::MAX).cycle() {
                for at in (0..blocks).rev() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    write(number, at);
                }
            }
        });
        Self(done, Some(writer))
    }
}

impl Drop for Rewritten {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.take().unwrap().join();
    }
}

/// Checks that a copy shows the file at one moment: the older number, then the newer one, and a
/// mixture of both only in the block that was being written.
fn of_one_moment(path: &Path) {
    let content = fs::read(path).unwrap();
    let turns = content.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(turns <= 3, "{}: {turns} turns", path.display());
}

#[tokio::test]
async fn a_file_that_is_rewritten_meanwhile_arrives_in_one_state_or_not_at_all() {
    let world = World::with_root("web-1", &[]).await;
    let here = world.path("here");
    fs::create_dir(&here).unwrap();
    let local = here.display().to_string();
    for (blocks, name) in [(16, "small"), (200, "large")] {
        let file = here.join(name);
        let rewritten = Rewritten::begin(&file, blocks);
        for round in 0..3 {
            let to = format!("web-1:{name}{round}");
            let shown = file.display().to_string();
            for (command, target) in [
                (vec!["files", "put", &shown, &to], world.in_root(&format!("{name}{round}"))),
                (vec!["files", "put", "-rf", &local, "web-1:all"], world.in_root("all").join(name)),
            ] {
                let done = world.farwire(&command).await;
                let refused = done.stderr.contains("error[changed_meanwhile]");
                assert!(done.code == 0 || refused, "{done:?}");
                if target.exists() {
                    of_one_moment(&target);
                }
            }
        }
        drop(rewritten);
        fs::remove_file(&file).unwrap();
        // The other direction.
        fs::create_dir(world.in_root("there")).unwrap();
        let rewritten = Rewritten::begin(&world.in_root("there").join(name), blocks);
        for round in 0..3 {
            let to = world.path(&format!("got-{name}-{round}"));
            let shown = to.display().to_string();
            let done = world.farwire(&["files", "get", "-rf", "web-1:there", &shown]).await;
            let refused = done.stderr.contains("error[changed_meanwhile]");
            assert!(done.code == 0 || refused, "{done:?}");
            if to.join(name).exists() {
                of_one_moment(&to.join(name));
            }
        }
        drop(rewritten);
        fs::remove_dir_all(world.in_root("there")).unwrap();
    }
}

/// Appends lines to a file until it is dropped.
struct Growing(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Growing {
    fn begin(path: &Path) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let mut file = fs::File::options().append(true).open(path).unwrap();
        let stop = done.clone();
        let writer = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) && file.metadata().unwrap().len() < 64 << 20 {
                file.write_all(b"a line\n").unwrap();
            }
        });
        Self(done, Some(writer))
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.take().unwrap().join();
    }
}

#[tokio::test]
async fn a_log_that_grows_meanwhile_is_transferred_as_it_was_at_the_beginning() {
    let world = World::with_root("web-1", &[]).await;
    for (lines, name) in [(1_000, "small.log"), (2_000_000, "large.log")] {
        let log = world.in_root(name);
        fs::write(&log, "a line\n".repeat(lines)).unwrap();
        let growing = Growing::begin(&log);
        let to = world.path(name);
        let (shown, path) = (to.display().to_string(), log.display().to_string());
        for command in [
            ["files", "get", &format!("web-1:{name}"), &shown],
            ["files", "put", &path, &format!("web-1:put-{name}")],
        ] {
            let done = world.farwire(&command).await;
            assert_eq!(done.code, 0, "{command:?}: {done:?}");
        }
        drop(growing);
        for copy in [to, world.in_root(&format!("put-{name}"))] {
            let content = fs::read(copy).unwrap();
            assert!(content.len() >= lines * 7);
            assert!(content.chunks_exact(7).all(|line| line == b"a line\n"));
        }
    }
}

#[tokio::test]
async fn every_name_can_be_given_and_what_is_shown_of_it_can_be_given_back() {
    let world = World::with_root("web-1", &[]).await;
    let name = std::ffi::OsStr::from_bytes(b" caf\xe9\t\n");
    fs::write(world.in_root("").join(name), "coffee").unwrap();
    let listed = world.farwire(&["files", "ls", "web-1"]).await.text();
    assert_eq!(listed, "$' caf\\xe9\\t\\n'\n");
    let mut command = world.farwire_command(&["files", "get"]);
    let remote = std::ffi::OsStr::from_bytes(b"web-1:work/ caf\xe9\t\n");
    let done = command.arg(remote).arg(world.path("")).output().await.unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(fs::read(world.path("").join(name)).unwrap(), b"coffee");
    let mut model = world.model(Era::Discover).await;
    let (text, _) = model.call("file_list", json!({"server": "web-1", "path": "work"})).await;
    assert!(text.contains("$' caf\\xe9\\t\\n'"), "{text}");
    for path in ["$' caf\\xe9\\t\\n'", "work/$' caf\\xe9\\t\\n'"] {
        let (text, error) = model.call("file_read", json!({"server": "web-1", "path": path})).await;
        assert!(!error && text.contains("coffee"), "{path}: {text}");
    }
    // What is left out is counted in both directions.
    fs::create_dir(world.in_root("d")).unwrap();
    symlink("x", world.in_root("d/link")).unwrap();
    let copy = json!({"from": "web-1:d", "to": "web-1:e", "recursive": true});
    let (text, error) = model.call("file_copy", copy).await;
    assert!(!error && text.contains("skipped=1"), "{text}");
}
