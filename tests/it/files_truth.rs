//! Answers about files are true: what was not done is reported, and what is named can be passed
//! back.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use farwire_tests::World;
use farwire_tests::dav::Dav;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

#[tokio::test]
async fn a_patch_of_git_is_done_as_a_whole_and_each_thing_is_named() {
    let world = World::with_root("web-1", &[]).await;
    for (name, text) in [("f", "a\n"), ("old", "one\ntwo\n"), ("gone", "")] {
        fs::write(world.in_root(name), text).unwrap();
    }
    let diff = "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n\
        diff --git a/gone b/gone\ndeleted file mode 100644\nindex e69de29..0000000\n\
        diff --git a/old \"b/\\303\\266\"\nsimilarity index 50%\nrename from old\nrename to \"\\303\\266\"\n\
        --- a/old\n+++ \"b/\\303\\266\"\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n\
        diff --git a/e b/e\nnew file mode 100644\nindex 0000000..e69de29\n";
    let dry = world.farwire_with(&["files", "patch", "-n", "web-1"], diff.as_bytes()).await;
    let told = "mode f 100644 -> 100755\nD gone\nR old -> ö +1 -1\nA e\n";
    assert_eq!((dry.code, dry.text().as_str()), (0, told), "{dry:?}");
    assert!(world.in_root("gone").exists());
    let done = world.farwire_with(&["files", "patch", "web-1"], diff.as_bytes()).await;
    assert_eq!((done.code, done.text().as_str()), (0, told), "{done:?}");
    assert_eq!(fs::read(world.in_root("ö")).unwrap(), b"one\nthree\n");
    let preview = world.farwire(&["files", "undo", "web-1", "--preview"]).await;
    assert!(
        preview.text().contains("-three\n+two\n") || preview.text().contains("+two\n"),
        "{preview:?}"
    );
    world.farwire(&["files", "undo", "web-1"]).await;
    assert!(world.in_root("old").exists() && world.in_root("gone").exists());
    let link =
        b"diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+f\n";
    let refused = world.farwire_with(&["files", "patch", "web-1"], link).await;
    assert!(refused.stderr.contains("`l` is a symbolic link"), "{refused:?}");
}

#[tokio::test]
async fn a_path_that_is_shown_can_be_given_back_where_there_are_several_roots() {
    let mut world = World::new().await;
    let mut options = Vec::new();
    for name in ["cf", "other"] {
        let dir = world.path(name);
        fs::create_dir_all(dir.join("se")).unwrap();
        options.extend(["--fs-root".to_owned(), format!("{name}={}:rw", dir.display())]);
    }
    fs::write(world.path("cf/se/a.txt"), "token\n").unwrap();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    world.set_options("web-1", &options);
    world.enroll("web-1").await;
    world.start_agent("web-1").await;
    let found = world.farwire(&["files", "search", "token", "web-1:cf"]).await;
    assert_eq!(found.text(), "cf/se/a.txt:1:token\n", "{found:?}");
    let read = world.farwire(&["files", "cat", "web-1:cf/se/a.txt"]).await;
    assert_eq!(read.text(), "token\n");
    let diff = b"--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-token\n+other\n";
    let patched = world.farwire_with(&["files", "patch", "web-1:cf/se"], diff).await;
    assert_eq!(patched.text(), "M cf/se/a.txt +1 -1\n", "{patched:?}");
}

#[tokio::test]
async fn what_could_not_be_read_is_named_and_the_exit_code_says_so() {
    let world = World::with_root("web-1", &[]).await;
    // No searcher holds a line of that length.
    fs::write(world.in_root("long"), "x".repeat(5 << 20)).unwrap();
    fs::write(world.in_root("short"), "x\n").unwrap();
    fs::write(world.in_root("nul"), "x\nb\0c\n").unwrap();
    let found = world.farwire(&["files", "search", "x$", "web-1"]).await;
    assert_eq!(found.code, 2, "{found:?}");
    assert_eq!(
        found.text(),
        "nul:1:x\nnul: binary file, searched up to its first NUL\nshort:1:x\n",
        "{found:?}"
    );
    assert!(found.stderr.contains("could not be read: long"), "{found:?}");
    let size = world.farwire(&["files", "du", "web-1"]).await;
    assert!(size.text().contains("3 files  0 directories"), "{size:?}");
    let pattern = world.farwire(&["files", "search", "(", "web-1"]).await;
    assert!(pattern.stderr.contains("; `fixed` takes it literally"), "{pattern:?}");
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root reads everything");
        return;
    }
    let shut = world.in_root("shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, Permissions::from_mode(0o000)).unwrap();
    for command in [&["ls", "-R"][..], &["ls", "-R", "--json"], &["du"], &["checksum", "-r"]] {
        let done = world.farwire(&[&["files"], command, &["web-1"]].concat()).await;
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains("shut"), "{done:?}");
    }
    fs::set_permissions(&shut, Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_head_that_could_be_read_in_two_ways_does_nothing() {
    let world = World::with_root("web-1", &[]).await;
    fs::create_dir(world.in_root("fr")).unwrap();
    fs::write(world.in_root("fr/file"), "x").unwrap();
    let dav = Dav::start(&world, "web-1", &[]).await;
    for target in ["/fr/#ment", "/fr#", "/fr/file#x"] {
        assert_eq!(dav.ask("DELETE", target, &[], b"").await.status, 400, "{target}");
    }
    assert!(world.in_root("fr/file").exists());
    let target = format!("{}/new", dav.prefix);
    let both = "content-length: 3\r\ntransfer-encoding: chunked\r\n";
    let head = dav.head("PUT", &target, &[], both);
    let reply = dav.send(format!("{head}3\r\nabc\r\n0\r\n\r\n").as_bytes()).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    // A body shorter than announced is the client's fault, and changes nothing.
    let mut stream = TcpStream::connect(dav.address).await.unwrap();
    let head = dav.head("PUT", &target, &[], "content-length: 10\r\n");
    stream.write_all(format!("{head}abc").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let reply = Dav::reply(&mut stream).await;
    assert!(matches!(reply.status, 0 | 400), "{reply:?}");
    assert!(!world.in_root("new").exists());
    let url = format!("http://farwire:{}@{}{}/moved", dav.token, dav.address, dav.prefix);
    let moved = dav.ask("MOVE", "/fr/file", &[&format!("destination: {url}")], b"").await;
    assert_eq!(moved.status, 201, "{moved:?}");
    assert!(world.in_root("moved").exists());
}
