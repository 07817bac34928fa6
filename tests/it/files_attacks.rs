//! Attacks on the raw endpoint of a root: nothing outside is read, changed, listed or named.
//!
//! `secret` stands beside the root. The rows W… are requests and the responses that they must get.

use std::fs;
use std::os::unix::fs::symlink;

use farwire_tests::World;
use farwire_tests::dav::{Dav, Reply};
use rustix::fs::{CWD, FileType, Mode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// A root with some files in it.
async fn place(more: &[&str]) -> (World, Dav) {
    let world = World::with_root("web-1", more).await;
    fs::create_dir_all(world.in_root("a/b")).expect("a directory");
    fs::write(world.in_root("a/file"), "inside").expect("a file");
    let dav = Dav::start(&world, "web-1", &[]).await;
    (world, dav)
}

/// Checks that the secret is unchanged, that nothing was created beside it, and that the response
/// does not contain it.
fn untouched(world: &World, reply: &Reply) {
    assert_eq!(fs::read(world.path("outside/secret")).expect("it is there"), b"secret");
    assert_eq!(
        fs::read_dir(world.path("outside")).expect("it is there").count(),
        2,
        "something was made outside"
    );
    assert!(!reply.text().contains("secret"), "{reply:?}");
}

#[tokio::test]
async fn paths_that_lead_out_are_refused() {
    let (world, dav) = place(&[]).await;
    let long = format!("/work/{}", "a".repeat(10_000));
    let deep = format!("/work{}", "/a".repeat(10_000));
    for (name, target, expected) in [
        ("W01", "/work/../secret", &[400][..]),
        ("W02", "/work/%2e%2e/secret", &[400]),
        ("W03", "/work/%2E%2e%2fsecret", &[400]),
        ("W04", "/work/%252e%252e/secret", &[404]),
        ("W05", "/work/..%5csecret", &[400]),
        ("W05", "/work/..\\secret", &[400]),
        ("W06", "/work/....//secret", &[400, 404]),
        ("W06", "/work/.../secret", &[404]),
        ("W07", "/work/a/../../secret", &[400]),
        ("W07", "/work/a/./file", &[400]),
        ("W08", "/work/%c0%ae%c0%ae/secret", &[400, 404]),
        ("W09", "/work/..;/secret", &[404]),
        ("W09", "/work/..%00/secret", &[400]),
        ("W10", "//secret", &[400, 404]),
        ("W10", "http://h//secret", &[400, 404]),
        ("W10", "http://h/work/../secret", &[400, 404]),
        ("W10", "*", &[400, 404]),
        ("W11", "/worksecret", &[404]),
        ("W11", "/work.bak/x", &[404]),
        ("W11", "/secret", &[404]),
        ("W11", "/WORK/a/file", &[404]),
        ("W12", &long, &[400, 414, 431]),
        ("W12", &deep, &[400, 414, 431]),
        ("W13", "/work/a%00.txt", &[400]),
        ("W13", "/work/%0d%0aX:%20y", &[400]),
        ("W13", "/work/%1b]52;c;x%07", &[400]),
        ("W13", "/work/a%7f", &[400]),
        ("W13", "/work/%zz", &[400]),
        ("W13", "/work/a?x=../secret", &[400]),
        ("W13", "/work/.farwire-tmp-1", &[404]),
    ] {
        for method in ["GET", "HEAD", "PROPFIND", "DELETE", "PUT", "MKCOL", "LOCK"] {
            let reply = dav.ask_for(method, target, &["depth: 0"], b"").await;
            let fits = expected.contains(&reply.status)
                || (expected.contains(&404)
                    && matches!(
                        (method, reply.status),
                        ("PUT" | "MKCOL" | "LOCK", 400 | 403 | 409)
                    ));
            assert!(fits, "{name}: {method} {target}: {reply:?}");
            untouched(&world, &reply);
        }
    }
    assert_eq!(fs::read(world.in_root("a/file")).unwrap(), b"inside");
    assert_eq!(dav.ask("GET", "/a/file", &[], b"").await.body, b"inside");
}

#[tokio::test]
async fn links_that_lead_out_are_refused_by_every_method() {
    let (world, dav) = place(&[]).await;
    let link = |target: &str, name: &str| symlink(target, world.in_root(name)).unwrap();
    link("../secret", "w14");
    link("..", "w16");
    link(&world.in_root("a/file").display().to_string(), "w17");
    link("/proc/self/root/etc/passwd", "w18");
    link("/proc/self/fd/3", "w18-fd");
    link("w19", "w19");
    for n in 0..42 {
        link(&format!("chain{}", n + 1), &format!("chain{n}"));
    }
    for path in ["/w14", "/w16/secret", "/w17", "/w18", "/w18-fd", "/w19", "/chain0", "/w16/new"] {
        for method in
            ["GET", "HEAD", "PROPFIND", "PUT", "PROPPATCH", "LOCK", "MKCOL", "COPY", "MOVE"]
        {
            let destination = format!(
                "destination: {}{}",
                dav.prefix,
                if path == "/w16/new" { "/w16/new2" } else { "/there" }
            );
            let lines: &[&str] = match method {
                "COPY" | "MOVE" => &[&destination],
                "GET" => &["range: bytes=0-1"],
                _ => &["depth: 0"],
            };
            let reply = dav.ask(method, path, lines, b"").await;
            // Moving and creating act on the link itself.
            let itself = method == "MOVE" && !path.starts_with("/w16");
            if !itself {
                assert!(
                    matches!(reply.status, 400 | 403 | 404 | 405 | 409 | 415 | 508),
                    "{method} {path}: {reply:?}"
                );
            }
            untouched(&world, &reply);
            if itself && world.in_root("there").is_symlink() {
                fs::rename(world.in_root("there"), world.in_root(&path[1..])).unwrap();
            }
        }
    }
    // W15: deleting a link deletes the link.
    assert_eq!(dav.ask("DELETE", "/w14", &[], b"").await.status, 204);
    assert!(!world.in_root("w14").is_symlink());
    // W20: a copy leaves links out, and says so.
    fs::create_dir(world.in_root("mixed")).unwrap();
    fs::write(world.in_root("mixed/file"), "x").unwrap();
    link("../../secret", "mixed/out");
    let destination = format!("destination: {}/copy", dav.prefix);
    let reply = dav.ask("COPY", "/mixed", &[&destination], b"").await;
    assert!(matches!(reply.status, 201 | 207), "{reply:?}");
    untouched(&world, &reply);
    assert_eq!(fs::read_dir(world.in_root("copy")).unwrap().count(), 1);
    let list = dav.ask("PROPFIND", "/", &["depth: 1"], b"").await;
    assert_eq!(list.status, 207);
    untouched(&world, &list);
}

#[tokio::test]
async fn special_files_and_hard_links_are_never_opened_for_writing() {
    let (world, dav) = place(&[]).await;
    rustix::fs::mknodat(CWD, world.in_root("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.in_root("socket")).unwrap();
    fs::hard_link(world.path("outside/secret"), world.in_root("hard")).unwrap();
    for path in ["/fifo", "/socket"] {
        for method in ["GET", "PUT"] {
            let reply = dav.ask(method, path, &[], b"").await;
            assert!(matches!(reply.status, 403..=405), "{method} {path}: {reply:?}");
        }
    }
    // W27: a hard link to an outside file is content of the root, and is not written to.
    assert_eq!(dav.ask("GET", "/hard", &[], b"").await.body, b"secret");
    assert_eq!(dav.ask("PUT", "/hard", &[], b"new").await.status, 403);
    assert_eq!(fs::read(world.path("outside/secret")).unwrap(), b"secret");
}

#[tokio::test]
async fn bodies_that_are_cut_change_nothing() {
    let (world, dav) = place(&[]).await;
    for head in ["content-length: 100\r\n", "transfer-encoding: chunked\r\n"] {
        let mut stream = TcpStream::connect(dav.address).await.unwrap();
        let body = if head.starts_with("transfer") { "5\r\nshort\r\n" } else { "short" };
        let request = format!("{}{body}", dav.head("PUT", "/work/a/file", &[], head));
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let reply = Dav::reply(&mut stream).await;
        assert!(matches!(reply.status, 0 | 400 | 502), "{reply:?}");
    }
    assert_eq!(fs::read(world.in_root("a/file")).unwrap(), b"inside");
    farwire_tests::until("no draft is left", async || {
        (fs::read_dir(world.in_root("a")).unwrap().count() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_does_not_know_the_token_learns_nothing() {
    let (_world, dav) = place(&[]).await;
    let ask = |lines: String| {
        let request = format!("GET /work/a/file HTTP/1.1\r\nconnection: close\r\n{lines}\r\n");
        let dav = &dav;
        async move { dav.send(request.as_bytes()).await }
    };
    let host = format!("host: {}\r\n", dav.address);
    let bearer = format!("authorization: Bearer {}\r\n", dav.token);
    assert_eq!(ask(format!("{host}{bearer}")).await.body, b"inside");
    for (lines, status) in [
        (host.clone(), 401),
        (format!("{host}authorization: Bearer {}x\r\n", dav.token), 401),
        (format!("{host}authorization: Basic x\r\n"), 401),
        (format!("host: evil.example\r\n{bearer}"), 421),
        (format!("{host}{bearer}origin: http://evil.example\r\n"), 403),
        (format!("{host}{bearer}origin: null\r\n"), 403),
        ("host: evil.example\r\n".to_owned(), 401),
    ] {
        let reply = ask(lines.clone()).await;
        assert_eq!((reply.status, reply.body.len()), (status, 0), "{lines}");
    }
}

#[tokio::test]
async fn nothing_changes_where_nothing_may_be_changed() {
    let world = World::with_root("web-1", &[]).await;
    fs::write(world.in_root("file"), "inside").unwrap();
    fs::create_dir(world.in_root("dir")).unwrap();
    let dav = Dav::start(&world, "web-1", &["--read-only"]).await;
    let destination = format!("destination: {}/new", dav.prefix);
    for (method, path) in [
        ("PUT", "/file"),
        ("PUT", "/new"),
        ("DELETE", "/file"),
        ("DELETE", "/dir"),
        ("MKCOL", "/new"),
        ("COPY", "/file"),
        ("MOVE", "/file"),
        ("LOCK", "/file"),
        ("UNLOCK", "/file"),
        ("PROPPATCH", "/file"),
    ] {
        let reply = dav.ask(method, path, &[&destination, "lock-token: <urn:uuid:x>"], b"").await;
        assert_eq!(reply.status, 403, "W69: {method} {path}: {reply:?}");
    }
    let mut names: Vec<_> =
        fs::read_dir(world.in_root("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dir", "file"]);
    assert_eq!(dav.ask("GET", "/file", &[], b"").await.body, b"inside");
}

#[tokio::test]
async fn what_is_excluded_is_not_there_for_any_method() {
    let (world, dav) = place(&["--fs-exclude", ".env"]).await;
    fs::write(world.in_root("a/.env"), "secret").unwrap();
    for method in ["GET", "HEAD", "PROPFIND", "DELETE", "PUT"] {
        let reply = dav.ask(method, "/a/.env", &["depth: 0"], b"").await;
        assert!(matches!(reply.status, 403 | 404 | 409), "{method}: {reply:?}");
        assert!(!reply.text().contains("secret"));
    }
    let list = dav.ask("PROPFIND", "/a/", &["depth: 1"], b"").await;
    assert!(list.text().contains("/work/a/file") && !list.text().contains(".env"), "{list:?}");
    assert_eq!(fs::read(world.in_root("a/.env")).unwrap(), b"secret");
}
