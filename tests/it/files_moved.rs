//! What `farwire files` copies, moves, serves and shows stays whole, and within what was named.

use std::fs;
use std::os::unix::fs::symlink;

use farwire_tests::dav::Dav;
use farwire_tests::trials::files::bytes;
use farwire_tests::{Era, World, until};
use serde_json::json;

/// A server with the roots `work`, `two`, `same`, which is `work` once more, and `gone`, which does
/// not exist.
async fn several_roots() -> World {
    let mut world = World::with_root("web-1", &[]).await;
    fs::create_dir(world.path("two")).expect("a directory");
    let root = |name: &str, dir: String| ["--fs-root".to_owned(), format!("{name}={dir}:rw")];
    let work = world.in_root("").display().to_string();
    let roots = [
        root("work", work.clone()),
        root("same", work),
        root("two", world.path("two").display().to_string()),
        root("gone", world.path("gone").display().to_string()),
    ]
    .concat();
    world.end_agent("web-1").await;
    world.set_options("web-1", &roots.iter().map(String::as_str).collect::<Vec<_>>());
    world.start_agent("web-1").await;
    world
}

#[tokio::test]
async fn a_directory_that_is_sent_again_after_a_kill_is_not_in_its_own_way() {
    let world = World::with_root("web-1", &[]).await;
    let here = world.path("here");
    fs::create_dir_all(here.join("d")).unwrap();
    for n in 0..400 {
        fs::write(here.join(format!("d/f{n}")), vec![b'x'; 2_000]).unwrap();
    }
    let local = here.display().to_string();
    let arrived = || fs::read_dir(world.in_root("copy/d")).map_or(0, Iterator::count);
    for round in 1..8 {
        let mut put =
            world.farwire_command(&["files", "put", "-r", &local, "web-1:copy"]).spawn().unwrap();
        until("some of them", async || {
            (arrived() >= round * 50 || put.try_wait().unwrap().is_some()).then_some(())
        })
        .await;
        let _ = put.kill().await;
        // The last messages of the killed process may still be on their way.
        let again = world.farwire(&["files", "put", "-r", &local, "web-1:copy"]).await;
        assert_eq!(again.code, 0, "round {round}: {again:?}");
        let is_draft = |name: &String| name.starts_with(".farwire-");
        let names = || {
            let there = fs::read_dir(world.in_root("copy/d")).unwrap();
            let names = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.partition::<Vec<_>, _>(is_draft)
        };
        assert_eq!(names().1.len(), 400, "round {round}");
        // What the killed process had begun may still be taken back.
        until("no draft is left", async || names().0.is_empty().then_some(())).await;
        assert_eq!(names().1.len(), 400, "round {round}");
        fs::remove_dir_all(world.in_root("copy")).unwrap();
    }
    // A different file is in the way.
    fs::create_dir_all(world.in_root("copy/d")).unwrap();
    fs::write(world.in_root("copy/d/f7"), "theirs").unwrap();
    let refused = world.farwire(&["files", "put", "-r", &local, "web-1:copy"]).await;
    assert!(refused.stderr.contains("error[file_exists]"), "{refused:?}");
    assert_eq!(fs::read(world.in_root("copy/d/f7")).unwrap(), b"theirs");
}

#[tokio::test]
async fn what_goes_to_a_directory_is_put_into_it_and_replaces_no_other_one() {
    let world = several_roots().await;
    for dir in ["a/x", "full", "empty"] {
        fs::create_dir_all(world.in_root(dir)).unwrap();
    }
    for (file, content) in [("a/1", "one"), ("a/x/2", "two"), ("full/old", "old"), ("f", "file")] {
        fs::write(world.in_root(file), content).unwrap();
    }
    fs::create_dir(world.path("two/dir")).unwrap();
    let files = async |arguments: &[&str]| world.farwire(&[&["files"], arguments].concat()).await;
    let ok = async |arguments: &[&str]| {
        let done = files(arguments).await;
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
    };
    let held = |path: &str| fs::read_to_string(world.path("outside/root").join(path)).unwrap();
    // Within a root and from one to another alike.
    for to in ["work/full", "two/dir"] {
        ok(&["cp", "web-1:work/f", &format!("web-1:{to}")]).await;
        ok(&["cp", "-r", "web-1:work/a", &format!("web-1:{to}")]).await;
    }
    assert_eq!((held("full/f"), held("full/a/x/2")), ("file".to_owned(), "two".to_owned()));
    assert_eq!(fs::read(world.path("two/dir/f")).unwrap(), b"file");
    assert_eq!(fs::read(world.path("two/dir/a/x/2")).unwrap(), b"two");
    for (arguments, kind) in [
        (&["mv", "-f", "web-1:work/a", "web-1:work/full", "-T"][..], "directory_not_empty"),
        (&["cp", "-rf", "web-1:work/a", "web-1:work/full", "-T"], "directory_not_empty"),
        (&["cp", "-rf", "web-1:work/a", "web-1:work/full"], "directory_not_empty"),
        (&["mv", "web-1:work/a", "web-1:work/full"], "file_exists"),
        (&["mv", "-fT", "web-1:work/a", "web-1:work/f"], "not_a_directory"),
        (&["mv", "-fT", "web-1:work/f", "web-1:work/empty"], "not_a_file"),
        (&["mv", "-fT", "web-1:work/empty", "web-1:work/empty"], "invalid_argument"),
        (&["cp", "-rfT", "web-1:work/a", "web-1:work/a/x"], "invalid_argument"),
    ] {
        let done = files(arguments).await;
        assert!(done.stderr.contains(&format!("error[{kind}]")), "{arguments:?}: {done:?}");
    }
    assert_eq!(
        (held("full/old"), held("a/1"), held("f")),
        ("old".into(), "one".into(), "file".into())
    );
    assert!(world.in_root("empty").is_dir());
    ok(&["mv", "-fT", "web-1:work/a", "web-1:work/empty"]).await;
    assert_eq!(held("empty/x/2"), "two");
    // A model is told the arguments that it can use.
    let mut model = world.model(Era::Discover).await;
    let again = json!({"from": "web-1:work/f", "to": "web-1:work/full"});
    let (text, error) = model.call("file_copy", again).await;
    assert!(error && text.contains("overwrite=true") && !text.contains("--"), "{text}");
    let (text, error) =
        model.call("file_copy", json!({"from": "web-1:work/full", "to": "web-1:two/m"})).await;
    assert!(error && text.contains("recursive=true") && !text.contains("--"), "{text}");
}

#[tokio::test]
async fn what_is_fetched_replaces_only_regular_files() {
    let world = World::with_root("web-1", &[]).await;
    fs::write(world.in_root("f"), "fetched").unwrap();
    let here = |name: &str| world.path(name).display().to_string();
    farwire_tests::system("mkfifo", &[&here("fifo")]).unwrap();
    fs::write(world.path("file"), "old").unwrap();
    symlink("file", world.path("link")).unwrap();
    symlink("nowhere", world.path("dangling")).unwrap();
    for name in ["fifo", "dangling"] {
        let target = here(name);
        for command in [&["get", "web-1:f"][..], &["archive", "web-1", "-o"]] {
            for force in [&[][..], &["-f"]] {
                let arguments = [&["files"], command, &[&target], force].concat();
                let done = world.farwire(&arguments).await;
                assert!(done.stderr.contains("error[not_a_file]"), "{arguments:?}: {done:?}");
                assert!(!done.stderr.contains("--force"), "{done:?}");
            }
        }
        assert!(!fs::symlink_metadata(world.path(name)).unwrap().is_file(), "{name}");
    }
    let done = world.farwire(&["files", "get", "web-1:f", &here("link")]).await;
    assert!(done.stderr.contains("error[file_exists]"), "{done:?}");
    let done = world.farwire(&["files", "get", "-f", "web-1:f", &here("link")]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read(world.path("file")).unwrap(), b"fetched");
    assert!(world.path("link").is_symlink());
    // What the kernel generates has no size.
    let done = world.farwire(&["files", "put", "/proc/version", "web-1:version"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read(world.in_root("version")).unwrap(), fs::read("/proc/version").unwrap());
}

#[tokio::test]
async fn what_is_moved_from_root_to_root_is_removed_once_it_is_there() {
    let world = several_roots().await;
    let content = bytes(9 << 20);
    fs::create_dir_all(world.in_root("d/e/empty")).unwrap();
    fs::write(world.in_root("d/big"), &content).unwrap();
    fs::write(world.in_root("d/e/small"), "small").unwrap();
    symlink("big", world.in_root("d/link")).unwrap();
    let mv =
        async |arguments: &[&str]| world.farwire(&[&["files", "mv"], arguments].concat()).await;
    // What a move would leave behind is reported before anything is copied.
    let refused = mv(&["web-1:work/d", "web-1:two/d"]).await;
    assert!(refused.stderr.contains("error[unsupported]"), "{refused:?}");
    assert!(!world.path("two/d").exists());
    fs::remove_file(world.in_root("d/link")).unwrap();
    // A different file in the way stays, and so does the source.
    fs::create_dir_all(world.path("two/d/e")).unwrap();
    fs::write(world.path("two/d/e/small"), "other").unwrap();
    let refused = mv(&["web-1:work/d", "web-1:two/d", "-T"]).await;
    assert!(refused.stderr.contains("error[file_exists]"), "{refused:?}");
    assert_eq!(fs::read(world.in_root("d/e/small")).unwrap(), b"small");
    fs::remove_dir_all(world.path("two/d")).unwrap();
    let done = mv(&["web-1:work/d", "web-1:two/d"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read(world.path("two/d/big")).unwrap(), content);
    assert_eq!(fs::read(world.path("two/d/e/small")).unwrap(), b"small");
    assert!(world.path("two/d/e/empty").is_dir() && !world.in_root("d").exists());
    let done = mv(&["web-1:two/d/e/small", "web-1:work"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read(world.in_root("small")).unwrap(), b"small");
    assert!(!world.path("two/d/e/small").exists());
    // Two roots that are one directory: a file is not removed because it is already at its
    // destination.
    fs::create_dir_all(world.in_root("dir/sub")).unwrap();
    fs::write(world.in_root("dir/sub/f"), "f").unwrap();
    for name in ["small", "dir"] {
        let arguments = [&format!("web-1:work/{name}"), &format!("web-1:same/{name}")];
        let refused = mv(&["-fT", arguments[0], arguments[1]]).await;
        assert!(refused.stderr.contains("error[invalid_argument]"), "{refused:?}");
    }
    assert_eq!(fs::read(world.in_root("small")).unwrap(), b"small");
    assert_eq!(fs::read(world.in_root("dir/sub/f")).unwrap(), b"f");
}

#[tokio::test]
async fn several_roots_are_listed_and_one_is_meant_by_its_name() {
    let world = several_roots().await;
    let files = async |arguments: &[&str]| world.farwire(&[&["files"], arguments].concat()).await;
    let listed = files(&["ls", "web-1"]).await.text();
    let names: Vec<_> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["work", "same", "two", "gone"]);
    let roots = files(&["roots", "web-1"]).await.text();
    let gone = roots.lines().last().unwrap();
    assert!(gone.contains("not served: ") && gone.contains("does not exist"), "{roots}");
    assert!(!roots.contains("not confined"), "{roots}");
    // With only one root, an unknown root name is not taken for a path in it.
    let world = World::with_root("web-1", &[]).await;
    world.farwire_with(&["files", "write", "web-1:f"], b"x").await;
    let refused = world.farwire(&["files", "undo", "web-1:wrok"]).await;
    assert!(refused.stderr.contains("error[no_root]"), "{refused:?}");
    assert!(refused.stderr.contains("the open directories are work="), "{refused:?}");
    assert!(world.in_root("f").exists());
    assert_eq!(world.farwire(&["files", "undo", "web-1:work"]).await.code, 0);
    assert!(!world.in_root("f").exists());
}

#[tokio::test]
async fn what_a_sync_leaves_out_is_said_and_a_hash_is_that_of_the_content() {
    let world = World::with_root("web-1", &[]).await;
    let here = world.path("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("f"), "abc").unwrap();
    symlink("f", here.join("link")).unwrap();
    let local = here.display().to_string();
    let dry = world.farwire(&["files", "sync", &local, "web-1:copy", "-n"]).await;
    assert_eq!(dry.text(), "send   f 3\nskip   link\n");
    let done = world.farwire(&["files", "sync", &local, "web-1:copy"]).await;
    assert_eq!(done.text(), "send   f 3\n");
    assert!(done.stderr.contains("1 symbolic links and special files are left out"), "{done:?}");
    symlink("f", world.in_root("copy/there")).unwrap();
    let back = world.farwire(&["files", "sync", "web-1:copy", &local, "--json"]).await.json();
    assert_eq!((&back["skipped"], &back["same"]), (&json!(["there"]), &json!(1)), "{back}");
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let sum = world.farwire(&["files", "checksum", "web-1:copy/f"]).await;
    assert_eq!(sum.text(), format!("{hash}  copy/f\n"));
    let sums = world.farwire(&["files", "checksum", "-r", "web-1:copy", "--json"]).await.json();
    assert_eq!(sums, json!([{"path": "copy/f", "sha256": hash, "size": 3}]));
    let refused = world.farwire(&["files", "checksum", "web-1:copy"]).await;
    assert!(refused.stderr.contains("error[not_a_file]"), "{refused:?}");
}

#[tokio::test]
async fn of_a_directory_that_is_served_nothing_beside_it_is_reached() {
    let world = World::with_root("web-1", &[]).await;
    for (dir, content) in [("a", "inside"), ("ab", "secret"), ("A", "secret"), ("b", "secret")] {
        fs::create_dir(world.in_root(dir)).unwrap();
        fs::write(world.in_root(dir).join("file"), content).unwrap();
    }
    fs::write(world.in_root("top"), "secret").unwrap();
    symlink("../b/file", world.in_root("a/link")).unwrap();
    let command = ["web-1:work/a", "--root", "work"];
    let dav = Dav::start(&world, "web-1:work/a", &[]).await;
    assert_eq!(dav.ask("GET", "/file", &[], b"").await.text(), "inside");
    for target in [
        "/work/../ab/file",
        "/work/%2e%2e/ab/file",
        "/work/../A/file",
        "/work/a/../b/file",
        "/work/a/../../b/file",
        "/work/..%2fb/file",
        "/work/ab/file",
        "/work/A/file",
        "/work/b/file",
        "/work/../top",
        "/work/top",
        "/work/link",
        "/workb/file",
        "/b/file",
        "/ab/file",
        "/A/file",
        "/a/../b/file",
        "/a/file",
    ] {
        for method in ["GET", "DELETE", "PROPFIND"] {
            let reply = dav.ask_for(method, target, &["depth: 0"], b"").await;
            let seen = method == "DELETE" && target == "/work/link";
            let looked = method == "PROPFIND" && target == "/work/link";
            assert!(reply.status >= 400 || seen || looked, "{method} {target}: {reply:?}");
            assert!(!reply.text().contains("secret"), "{method} {target}: {reply:?}");
        }
    }
    for to in ["../b/new", "%2e%2e/b/new", "a/../../b/new", "../new", "../ab/file"] {
        for method in ["MOVE", "COPY"] {
            let to = format!("destination: http://{}/work/{to}", dav.address);
            let reply = dav.ask(method, "/file", &[&to, "overwrite: T"], b"").await;
            assert!(reply.status >= 400, "{method} {to}: {reply:?}");
        }
    }
    for to in ["/ab/new", "/A/new", "/b/new", "/new", "/workb/new"] {
        let to = format!("destination: http://{}{to}", dav.address);
        let reply = dav.ask("MOVE", "/file", &[&to], b"").await;
        assert!(reply.status >= 400, "{to}: {reply:?}");
    }
    assert_eq!(fs::read(world.in_root("a/file")).unwrap(), b"inside");
    for dir in ["ab", "A", "b"] {
        assert_eq!(fs::read_dir(world.in_root(dir)).unwrap().count(), 1, "{dir}");
        assert_eq!(fs::read(world.in_root(dir).join("file")).unwrap(), b"secret");
    }
    assert_eq!(fs::read(world.in_root("top")).unwrap(), b"secret");

    let both = world.farwire(&[&["files", "serve"], &command[..]].concat()).await;
    assert!(both.stderr.contains("error[invalid_argument]"), "{both:?}");
}
