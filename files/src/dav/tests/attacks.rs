//! Attempts to reach a file outside of the root, or to lock others out.

use super::*;

const EVERY: &[&str] =
    &["GET", "HEAD", "PUT", "PROPFIND", "PROPPATCH", "LOCK", "MKCOL", "DELETE", "COPY", "MOVE"];

const SET: &[u8] = b"<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop><x xmlns=\"u:\">1</x>\
    </D:prop></D:set></D:propertyupdate>";

const LOCK: &[u8] = b"<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:exclusive/></D:lockscope>\
    <D:locktype><D:write/></D:locktype></D:lockinfo>";

fn body(method: &str) -> &'static [u8] {
    match method {
        "PUT" => b"x",
        "PROPPATCH" => SET,
        "LOCK" => LOCK,
        _ => b"",
    }
}

#[test]
fn no_spelling_of_a_path_leads_out() {
    let world = World::new();
    world.write("a/b", "x");
    let long = format!("/dav/{}", "a/".repeat(10_000));
    let name = format!("/dav/{}", "a".repeat(10_000));
    for target in [
        "/dav/../secret",
        "/dav/%2e%2e/secret",
        "/dav/%2E%2e%2fsecret",
        "/dav/%252e%252e/secret",
        "/dav/..%5csecret",
        "/dav/..\\secret",
        "/dav/....//secret",
        "/dav/.../secret",
        "/dav/a/../../secret",
        "/dav/%c0%ae%c0%ae/secret",
        "/dav/..;/secret",
        "/dav/..%00/secret",
        "//secret",
        "http://h//secret",
        "http://h/dav/../secret",
        "/davO",
        "/dav.bak/x",
        "/dav/a%00.txt",
        "/dav/%0d%0aX:%20y",
        "/dav/.farwire-tmp-1",
        &long,
        &name,
    ] {
        for method in EVERY {
            if matches!(*method, "PUT" | "MKCOL" | "LOCK") && target.contains("%c0") {
                continue;
            }
            let headers = [("Depth", "0"), ("Destination", "/dav/z"), ("Host", "h")];
            let got = world.ask(method, target, &headers, body(method));
            assert!(
                matches!(got.status, 400 | 404 | 409 | 414),
                "{method} {target}: {}",
                got.status
            );
            let got = world.copy("COPY", "/dav/a/b", target, &[("Host", "h")]);
            assert!(matches!(got, 400 | 403 | 409 | 414 | 431), "to {target}: {got}");
        }
    }
    assert_eq!(world.names(), ["a", "a/b"]);
}

#[test]
fn a_link_that_leads_out_leads_nowhere() {
    let world = World::new();
    let inside = world.root().join("in");
    world.write("in", "inside");
    world.write("dir/a", "x");
    world.link("../secret", "relative");
    world.link(world.above.path().join("secret").to_str().unwrap(), "absolute");
    world.link(inside.to_str().unwrap(), "absolute-inside");
    world.link("..", "above");
    world.link("/proc/self/root/etc/passwd", "proc");
    world.link("/dev/fd/0", "fd");
    world.link("loop", "loop");
    let mut last = "in".to_owned();
    for number in 0..41 {
        let name = format!("chain{number}");
        world.link(&last, &name);
        last = name;
    }
    let before = world.names();
    for path in
        ["relative", "absolute", "absolute-inside", "above/secret", "proc", "fd", "loop", "chain40"]
    {
        for method in EVERY.iter().filter(|method| !matches!(**method, "DELETE" | "MOVE" | "MKCOL"))
        {
            let headers = [("Depth", "0"), ("Destination", "/dav/z"), ("Range", "bytes=0-1")];
            let got = world.ask(method, &format!("/dav/{path}"), &headers, body(method));
            assert!(matches!(got.status, 403 | 404), "{method} {path}: {}", got.status);
        }
        let got = world.copy("COPY", "/dav/in", &format!("/dav/{path}"), &[]);
        assert!(matches!(got, 403 | 409), "to {path}: {got}");
    }
    for (method, path) in [("PUT", "above/new"), ("MKCOL", "above/d"), ("LOCK", "above/l")] {
        let got = world.ask(method, &format!("/dav/{path}"), &[], body(method));
        assert_eq!(got.status, 403, "{method} {path}");
    }
    assert_eq!(world.names(), before);
    let listed = world.ask("PROPFIND", "/dav/", &[("Depth", "1")], b"");
    for hidden in ["relative", "absolute", "above", "proc", "fd", "loop", "chain40"] {
        assert!(!listed.text().contains(&format!("/dav/{hidden}<")), "{hidden}");
    }
    assert!(listed.text().contains("/dav/chain0<") && listed.text().contains("/dav/in<"));
    // The link itself may be moved and removed.
    assert_eq!(world.copy("MOVE", "/dav/relative", "/dav/moved", &[]), 201);
    assert_eq!(world.status("DELETE", "/dav/moved", &[]), 204);
    assert_eq!(world.status("DELETE", "/dav/above", &[]), 204);
    assert_eq!(world.status("DELETE", "/dav/loop", &[]), 204);
    assert_eq!(world.copy("MOVE", "/dav/in", "/dav/absolute", &[]), 204);
    assert_eq!(world.read("absolute").as_deref(), Some("inside"));
}

#[test]
fn a_link_that_stays_inside_is_followed() {
    let world = World::new();
    world.write("d/a", "text");
    world.link("d/a", "file");
    world.link("d", "dir");
    assert_eq!(world.ask("GET", "/dav/file", &[], b"").text(), "text");
    assert_eq!(world.ask("GET", "/dav/dir/a", &[], b"").text(), "text");
    let listed = world.ask("PROPFIND", "/dav/", &[("Depth", "1")], b"");
    assert!(listed.text().contains("/dav/dir/<") && listed.text().contains("/dav/file<"));
    assert_eq!(world.ask("PUT", "/dav/file", &[], b"new").status, 204);
    assert_eq!(world.read("d/a").as_deref(), Some("new"));
    assert!(world.root().join("file").is_symlink());
    assert_eq!(world.status("DELETE", "/dav/file/", &[]), 404);
    assert_eq!(world.copy("MOVE", "/dav/dir/", "/dav/moved/", &[]), 201);
    assert_eq!(world.status("DELETE", "/dav/moved/", &[]), 204);
    assert_eq!(world.names(), ["d", "d/a", "file"]);
}

#[test]
fn what_is_no_file_is_seen_and_never_opened() {
    let world = World::new();
    let fifo = world.root().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.root().join("socket")).unwrap();
    let listed = world.ask("PROPFIND", "/dav/", &[("Depth", "1")], b"");
    assert!(listed.text().contains("/dav/fifo<") && listed.text().contains("/dav/socket<"));
    for path in ["/dav/fifo", "/dav/socket"] {
        for method in ["GET", "HEAD", "PUT", "PROPPATCH", "LOCK", "COPY"] {
            let got = world.ask(method, path, &[("Destination", "/dav/z")], body(method));
            assert_eq!(got.status, 403, "{method} {path}");
        }
        assert_eq!(world.status("PROPFIND", path, &[("Depth", "0")]), 207);
        assert_eq!(world.copy("MOVE", path, "/dav/z", &[]), 201);
        assert_eq!(world.status("DELETE", "/dav/z", &[]), 204);
    }
}

#[test]
fn a_file_with_several_names_is_read_and_not_written() {
    let world = World::new();
    std::fs::hard_link(world.above.path().join("secret"), world.root().join("hard")).unwrap();
    for method in ["PUT", "PROPPATCH"] {
        let got = world.ask(method, "/dav/hard", &[], body(method));
        let refused = got.status == 403 || got.text().contains("403 Forbidden");
        assert!(refused, "{method} {got:?}");
    }
    assert_eq!(world.status("HEAD", "/dav/hard", &[]), 200);
    assert_eq!(world.status("DELETE", "/dav/hard", &[]), 204);
}

#[test]
fn a_read_only_root_stays_as_it_is() {
    let world = World::with(Rules::default());
    world.write("a", "x");
    for method in EVERY.iter().filter(|method| !matches!(**method, "GET" | "HEAD" | "PROPFIND")) {
        let headers = [("Destination", "/dav/z")];
        let got = world.ask(method, "/dav/a", &headers, body(method));
        assert_eq!(got.status, 403, "{method}");
    }
    assert_eq!(world.status("UNLOCK", "/dav/a", &[("Lock-Token", "<urn:a>")]), 403);
    let options = world.ask("OPTIONS", "/dav/a", &[], b"");
    assert_eq!(options.header("allow"), Some("OPTIONS, GET, HEAD, PROPFIND"));
    assert_eq!(options.header("dav"), Some("1, 3"));
    assert_eq!(world.ask("GET", "/dav/a", &[], b"").text(), "x");
    let listed = world.ask("PROPFIND", "/dav/a", &[("Depth", "0")], b"");
    assert!(!listed.text().contains("lockentry"));
}

#[test]
fn a_tree_below_ends_where_it_begins() {
    let world = World::new();
    world.write("a/x", "mine");
    world.write("ab/x", "theirs");
    world.write("b/x", "theirs");
    let below = world.dav.tree.below(&crate::path::Rel::parse(b"a").unwrap()).unwrap();
    let dav = Dav::new(Arc::new(below), world.dav.locks.clone(), "/dav", false).unwrap();
    let world = World { dav, ..world };
    assert_eq!(world.ask("GET", "/dav/x", &[], b"").text(), "mine");
    for target in ["/dav/../b/x", "/dav/a/x", "/davb/x", "/dav/b/x"] {
        assert!(matches!(world.status("GET", target, &[]), 400 | 404), "{target}");
    }
    assert_eq!(world.copy("COPY", "/dav/x", "/b/x", &[]), 403);
    // A lock made here is seen in the root above, at its place there.
    assert_eq!(world.ask("LOCK", "/dav/x", &[("Depth", "0")], LOCK).status, 200);
    let key = crate::path::Rel::parse(b"a/x").unwrap();
    assert_eq!(world.dav.locks.covering(&key).len(), 1);
}

#[test]
fn what_the_owner_hides_is_not_there() {
    let hidden = crate::rules::Patterns::new(&[".env".to_owned()]).unwrap();
    let world = World::with(Rules { writable: true, hidden, ..Rules::default() });
    world.write(".env", "SECRET");
    world.write("d/.env", "SECRET");
    world.write("a", "x");
    world.link(".env", "link");
    for path in ["/dav/.env", "/dav/d/.env", "/dav/link"] {
        for method in ["GET", "PUT", "PROPPATCH", "DELETE", "MOVE", "COPY"] {
            if path == "/dav/link" && matches!(method, "DELETE" | "MOVE") {
                continue;
            }
            let got = world.ask(method, path, &[("Destination", "/dav/z")], body(method));
            assert!(matches!(got.status, 404 | 409), "{method} {path}: {}", got.status);
        }
    }
    let listed = world.ask("PROPFIND", "/dav/", &[("Depth", "1")], b"");
    assert!(!listed.text().contains(".env") && !listed.text().contains("link"));
    assert_eq!(std::fs::read(world.root().join("d/.env")).unwrap(), b"SECRET");
}

#[test]
fn odd_names_do_not_split_an_answer() {
    let world = World::new();
    world.write("a\r\nx: y", "x");
    world.write("<b>&\"'", "x");
    world.write("back\\slash", "x");
    std::fs::write(
        world
            .root()
            .join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff\xfe")),
        "x",
    )
    .unwrap();
    let listed = world.ask("PROPFIND", "/dav/", &[("Depth", "1")], b"");
    let text = listed.text();
    assert!(text.contains("/dav/%3Cb%3E%26%22%27<") && text.contains("/dav/%FF%FE<"));
    assert!(text.contains("/dav/back%5Cslash<") && text.contains("/dav/a%0D%0Ax%3A%20y<"));
    assert!(!text.contains('\r') && !text.contains('\\'));
    for name in ["back%5Cslash", "a%0D%0Ax%3A%20y"] {
        let got = world.ask("GET", &format!("/dav/{name}"), &[], b"");
        assert_eq!((got.status, got.text()), (200, "x"), "{name}");
        let other = format!("/dav/other-{name}");
        for method in ["PUT", "MKCOL", "LOCK"] {
            assert_eq!(
                world.ask(method, &other, &[], body(method)).status,
                400,
                "{method} {other}"
            );
        }
        assert_eq!(world.copy("COPY", "/dav/%FF%FE", &other, &[]), 400, "{other}");
        assert_eq!(world.copy("MOVE", &format!("/dav/{name}"), "/dav/plain", &[]), 201);
        assert_eq!(world.status("DELETE", "/dav/plain", &[]), 204);
    }
    assert_eq!(world.status("GET", "/dav/%FF%FE", &[]), 200);
    assert_eq!(world.status("GET", "/dav/%3Cb%3E%26%22%27", &[]), 200);
}
