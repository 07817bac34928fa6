//! Files beneath an opened root, through the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use farwire_tests::trials::files::bytes;
use farwire_tests::{Era, World, system, until};
use serde_json::json;

#[tokio::test]
async fn files_go_there_and_back_by_every_name_that_they_have() {
    let world = World::with_root("web-1", &[]).await;
    let here = world.path("here");
    fs::create_dir_all(here.join("deep/er")).unwrap();
    let content = bytes(9 << 20);
    fs::write(here.join("big"), &content).unwrap();
    fs::write(here.join("deep/er/small"), "small").unwrap();
    fs::set_permissions(here.join("deep/er/small"), fs::Permissions::from_mode(0o750)).unwrap();
    let here = here.display().to_string();
    let ok = async |arguments: &[&str]| {
        let done = world.farwire(&[&["files"], arguments].concat()).await;
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done
    };
    let roots = ok(&["roots", "web-1", "--json"]).await.json();
    assert_eq!((&roots[0]["name"], &roots[0]["mode"]), (&json!("work"), &json!("rw")));
    ok(&["put", "-r", &here, "web-1:work/copy"]).await;
    assert_eq!(fs::read(world.in_root("copy/big")).unwrap(), content);
    let mode = fs::metadata(world.in_root("copy/deep/er/small")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
    let absolute = format!("web-1:{}", world.in_root("copy/deep/er/small").display());
    assert_eq!(ok(&["cat", &absolute, "web-1:copy/deep/er/small"]).await.text(), "smallsmall");
    let back = world.path("back").display().to_string();
    ok(&["get", "-r", "web-1:copy", &back]).await;
    assert_eq!(fs::read(world.path("back/big")).unwrap(), content);
    assert_eq!(fs::read(world.path("back/deep/er/small")).unwrap(), b"small");
    // A local file is replaced only on request.
    let refused = world.farwire(&["files", "get", "web-1:copy/big", &format!("{back}/big")]).await;
    assert!(refused.code != 0 && refused.stderr.contains("error[file_exists]"), "{refused:?}");
    let list = ok(&["ls", "-R", "web-1:copy", "--json"]).await.json();
    let names: Vec<_> =
        list.as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(names, ["deep", "deep/er", "big", "deep/er/small"]);
    let found = ok(&["search", "^sm.ll$", "web-1:"]).await;
    assert_eq!(found.text(), "copy/deep/er/small:1:small\n");
    assert_eq!(world.farwire(&["files", "search", "nowhere", "web-1:"]).await.code, 1);
    ok(&["mv", "web-1:copy/big", "web-1:moved"]).await;
    ok(&["cp", "web-1:moved", "web-1:again"]).await;
    ok(&["rm", "-r", "web-1:copy"]).await;
    let left = ok(&["ls", "web-1"]).await.text();
    assert_eq!(left, "again\nmoved\n");
    ok(&["undo", "web-1"]).await;
    assert_eq!(fs::read(world.in_root("copy/deep/er/small")).unwrap(), b"small");
    let write = world.farwire_with(&["files", "write", "web-1:new"], b"one\n").await;
    assert_eq!(write.code, 0, "{write:?}");
    let write = world.farwire_with(&["files", "write", "web-1:new"], b"two\n").await;
    assert!(write.stderr.contains("error[file_exists]"), "{write:?}");
    ok(&["edit", "web-1:new", "--old", "one", "--new", "two"]).await;
    let diff = "--- a/new\n+++ b/new\n@@ -1 +1,2 @@\n two\n+three\n";
    let patched = world.farwire_with(&["files", "patch", "web-1"], diff.as_bytes()).await;
    assert_eq!(patched.text(), "M new +1 -0\n", "{patched:?}");
    assert_eq!(fs::read(world.in_root("new")).unwrap(), b"two\nthree\n");
}

#[tokio::test]
async fn refusals_name_what_is_wrong_and_change_nothing() {
    let world = World::with_root("web-1", &[]).await;
    fs::write(world.in_root("file"), "x\nx\n").unwrap();
    fs::create_dir(world.in_root("dir")).unwrap();
    fs::write(world.in_root("dir/inner"), "x").unwrap();
    for (arguments, kind) in [
        (&["cat", "web-1:../secret"][..], "outside_root"),
        (&["cat", "web-1:/etc/passwd"], "no_root"),
        (&["cat", "web-1:nothing"], "no_such_file"),
        (&["cat", "web-1:dir"], "not_a_file"),
        (&["ls", "web-1:file"], "not_a_directory"),
        (&["rm", "web-1:dir"], "directory_not_empty"),
        (&["rm", "web-1:"], "invalid_argument"),
        (&["mkdir", "web-1:dir"], "file_exists"),
        (&["cp", "web-1:dir", "web-1:dir/in", "-r"], "invalid_argument"),
        (&["cp", "web-1:dir", "web-1:other"], "not_a_file"),
        (&["edit", "web-1:file", "--old", "y", "--new", "z"], "no_match"),
        (&["edit", "web-1:file", "--old", "x", "--new", "z"], "not_unique"),
        (&["rm", "web-1:file", "--rev", "000000000000"], "changed_meanwhile"),
        (&["undo", "web-1"], "nothing_to_undo"),
        (&["search", "(", "web-1"], "invalid_argument"),
        (&["serve", "web-1", "--root", "other"], "no_root"),
        (&["serve", "web-1", "--listen", "0.0.0.0:0"], "invalid_argument"),
    ] {
        let done = world.farwire(&[&["files"], arguments].concat()).await;
        assert!(done.code != 0, "{arguments:?}");
        assert!(done.stderr.contains(&format!("error[{kind}]")), "{arguments:?}: {done:?}");
        assert!(!done.stderr.contains("secret\n") && !done.text().contains("secret"), "{done:?}");
    }
    let diff = b"--- a/file\n+++ b/file\n@@ -1 +1 @@\n-q\n+r\n";
    let patched = world.farwire_with(&["files", "patch", "web-1"], diff).await;
    assert!(patched.stderr.contains("error[patch_failed]"), "{patched:?}");
    assert_eq!(fs::read(world.in_root("file")).unwrap(), b"x\nx\n");
    assert_eq!(fs::read(world.path("outside/secret")).unwrap(), b"secret");
}

#[tokio::test]
async fn a_server_without_roots_and_one_that_may_only_be_read_say_so() {
    let mut world = World::with_root("web-1", &[]).await;
    let root = format!("work={}", world.in_root("").display());
    world.end_agent("web-1").await;
    world.set_options("web-1", &["--fs-root", &root]);
    world.start_agent("web-1").await;
    let done = world.farwire_with(&["files", "write", "web-1:new"], b"x").await;
    assert!(done.stderr.contains("error[read_only]"), "{done:?}");
    assert!(!world.in_root("new").exists());
    world.end_agent("web-1").await;
    world.set_options("web-1", &[]);
    world.start_agent("web-1").await;
    let done = world.farwire(&["files", "ls", "web-1"]).await;
    assert!(done.stderr.contains("error[no_root]"), "{done:?}");
    // Directories that much depends on are not opened by mistake.
    for root in ["/", "/etc", "/proc", &world.path("web-1").display().to_string()] {
        let refused = world
            .agent_with("web-1", &["root", "add", "--fs-root", &format!("x={root}")], b"")
            .await;
        assert!(refused.stderr.contains("error[configuration]"), "{root}: {refused:?}");
    }
}

#[tokio::test]
async fn a_directory_is_made_like_another_and_only_what_differs_is_sent() {
    let world = World::with_root("web-1", &[]).await;
    let here = world.path("here");
    fs::create_dir_all(here.join("sub")).unwrap();
    for n in 0..20 {
        fs::write(here.join(format!("sub/f{n}")), format!("file {n}")).unwrap();
    }
    let local = here.display().to_string();
    let sync = async |arguments: &[&str]| {
        let done = world.farwire(&[&["files", "sync", "--json"], arguments].concat()).await;
        assert_eq!(done.code, 0, "{done:?}");
        done.json()
    };
    let dry = sync(&[&local, "web-1:copy", "-n"]).await;
    assert_eq!(
        (dry["send"].as_array().unwrap().len(), world.in_root("copy").exists()),
        (21, false)
    );
    sync(&[&local, "web-1:copy"]).await;
    assert_eq!(fs::read(world.in_root("copy/sub/f7")).unwrap(), b"file 7");
    fs::write(here.join("sub/f7"), "changed").unwrap();
    fs::remove_file(here.join("sub/f8")).unwrap();
    let second = sync(&[&local, "web-1:copy", "--delete"]).await;
    assert_eq!(second["send"], json!([{"path": "sub/f7", "size": 7}]), "{second}");
    assert_eq!((&second["remove"], &second["same"]), (&json!(["sub/f8"]), &json!(18)));
    assert_eq!(fs::read(world.in_root("copy/sub/f7")).unwrap(), b"changed");
    assert!(!world.in_root("copy/sub/f8").exists());
    let nothing = sync(&[&local, "web-1:copy", "-c", "--delete"]).await;
    assert_eq!((&nothing["send"], &nothing["remove"]), (&json!([]), &json!([])), "{nothing}");
    // And back.
    fs::write(world.in_root("copy/new"), "new").unwrap();
    fs::remove_file(world.in_root("copy/sub/f1")).unwrap();
    let back = sync(&["web-1:copy", &local, "--delete"]).await;
    assert_eq!(back["fetch"], json!([{"path": "new", "size": 3}]), "{back}");
    assert_eq!(fs::read(here.join("new")).unwrap(), b"new");
    assert!(!here.join("sub/f1").exists());
}

#[tokio::test]
async fn a_change_is_told_to_who_waits_for_it() {
    let world = World::with_root("web-1", &[]).await;
    fs::write(world.in_root("file"), "x").unwrap();
    let idle = world.farwire(&["files", "watch", "web-1:", "--wait", "1"]).await;
    assert_eq!((idle.code, idle.text().as_str()), (124, ""));
    let mut watching =
        world.farwire_command(&["files", "watch", "web-1:", "--json"]).spawn().unwrap();
    until("it is told", async || {
        fs::write(world.in_root("file"), "changed").unwrap();
        watching.try_wait().unwrap().map(drop)
    })
    .await;
    let told = watching.wait_with_output().await.unwrap();
    assert!(told.status.success() && told.stdout.starts_with(b"{\"mode\""), "{told:?}");
}

#[tokio::test]
async fn files_go_from_one_server_to_another() {
    let mut world = World::with_root("web-1", &[]).await;
    let other = world.path("second");
    fs::create_dir(&other).unwrap();
    let root = format!("other={}:rw", other.display());
    world.set_options("web-2", &["--fs-root", &root]);
    world.enroll("web-2").await;
    world.start_agent("web-2").await;
    let content = bytes(3 << 20);
    fs::create_dir_all(world.in_root("d/e")).unwrap();
    fs::write(world.in_root("d/big"), &content).unwrap();
    fs::write(world.in_root("d/e/small"), "small").unwrap();
    let copy =
        async |arguments: &[&str]| world.farwire(&[&["files", "cp"], arguments].concat()).await;
    let refused = copy(&["web-1:d", "web-2:copy"]).await;
    assert!(refused.stderr.contains("error[not_a_file]"), "{refused:?}");
    let done = copy(&["web-1:d", "web-2:copy", "-r"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read(other.join("copy/big")).unwrap(), content);
    assert_eq!(fs::read(other.join("copy/e/small")).unwrap(), b"small");
    let again = copy(&["web-1:d/big", "web-2:copy"]).await;
    assert!(again.stderr.contains("error[file_exists]"), "{again:?}");
    let mut model = world.model(Era::Discover).await;
    let (text, error) =
        model.call("file_copy", json!({"from": "web-2:copy/e/small", "to": "web-1:back"})).await;
    assert!(!error && text.starts_with("[copy 1 files 5 "), "{text}");
    assert_eq!(fs::read(world.in_root("back")).unwrap(), b"small");
}

#[tokio::test]
async fn a_directory_is_fetched_as_an_archive_that_tar_reads() {
    let world = World::with_root("web-1", &["--fs-exclude", ".env"]).await;
    let long = "n".repeat(200);
    fs::create_dir_all(world.in_root("d/deep")).unwrap();
    let content = bytes(300_001);
    fs::write(world.in_root(&format!("d/deep/{long}")), &content).unwrap();
    fs::write(world.in_root("d/ä\nb"), "x").unwrap();
    fs::write(world.in_root("d/.env"), "SECRET").unwrap();
    std::os::unix::fs::symlink("deep", world.in_root("d/link")).unwrap();
    let file = world.path("d.tar").display().to_string();
    let archive = ["files", "archive", "web-1:d", "-o", &file, "--json"];
    let done = world.farwire(&archive).await;
    assert_eq!(done.code, 0, "{done:?}");
    let json = done.json();
    assert_eq!((&json["files"], &json["skipped"]), (&json!(2), &json!(1)), "{json}");
    assert_eq!(json["bytes"], json!(fs::metadata(&file).unwrap().len()));
    fs::create_dir(world.path("unpacked")).unwrap();
    let unpacked = world.path("unpacked").display().to_string();
    system("tar", &["-xf", &file, "-C", &unpacked]).expect("tar reads it");
    assert!(fs::read(world.path("unpacked/deep").join(&long)).unwrap() == content);
    assert_eq!(fs::read(world.path("unpacked/ä\nb")).unwrap(), b"x");
    assert!(!world.path("unpacked/.env").exists() && !world.path("unpacked/link").exists());
    // It is not overwritten, and the attempt leaves nothing else behind.
    let again = world.farwire(&archive).await;
    assert_eq!(again.json()["error"]["kind"], "file_exists", "{again:?}");
    let piped = world.farwire(&["files", "archive", "web-1:d"]).await;
    assert!(piped.stdout == fs::read(&file).unwrap());
    let none = world.farwire(&["files", "archive", "web-1:none", "-o", &unpacked, "-f"]).await;
    assert_ne!(none.code, 0);
    let left = fs::read_dir(world.path("")).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".farwire-"));
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_file_that_was_sent_over_another_can_be_taken_back() {
    let world = World::with_root("web-1", &[]).await;
    let local = world.path("new").display().to_string();
    // One that is sent at once, and one that is sent in parts.
    for (name, size) in [("small", 10), ("large", 9 << 20)] {
        let (old, new) = (bytes(size), bytes(size + 1));
        fs::write(world.in_root(name), &old).unwrap();
        fs::write(&local, &new).unwrap();
        let to = format!("web-1:{name}");
        assert_eq!(world.farwire(&["files", "put", "-f", &local, &to]).await.code, 0);
        assert!(fs::read(world.in_root(name)).unwrap() == new);
        let undone = world.farwire(&["files", "undo", "web-1"]).await;
        assert_eq!(undone.code, 0, "{undone:?}");
        assert!(fs::read(world.in_root(name)).unwrap() == old, "{name}");
    }
}
