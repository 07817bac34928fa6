//! GET, HEAD and PUT.

use super::*;

#[test]
fn a_file_is_sent_as_a_file() {
    let world = World::new();
    world.write("a.txt", "0123456789");
    let got = world.ask("GET", "/dav/a.txt", &[], b"");
    assert_eq!((got.status, got.text()), (200, "0123456789"));
    assert_eq!(got.parts, [(0, 10)]);
    assert_eq!(got.header("content-type"), Some("text/plain"));
    assert_eq!(got.header("content-length"), Some("10"));
    assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    let etag = got.header("etag").unwrap().to_owned();
    assert_eq!(etag.len(), 14);
    let head = world.ask("HEAD", "/dav/a.txt", &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("10"), 0));
    let same = world.ask("GET", "/dav/a.txt", &[("If-None-Match", &etag)], b"");
    assert_eq!((same.status, same.body.len(), same.header("content-length")), (304, 0, None));
    let weak = format!("W/{etag}");
    assert_eq!(world.status("GET", "/dav/a.txt", &[("If-None-Match", &weak)]), 304);
    assert_eq!(world.status("GET", "/dav/a.txt", &[("If-Match", &weak)]), 412);
    assert_eq!(world.status("GET", "/dav/a.txt", &[("If-Match", "\"other\"")]), 412);
    assert_eq!(world.status("GET", "/dav/a.txt", &[("If-Match", &etag)]), 200);
    assert_eq!(world.status("GET", "/dav/none", &[]), 404);
    assert_eq!(world.status("GET", "/dav/a.txt/", &[]), 404);
    assert_eq!(world.status("GET", "/dav/a.txt/b", &[]), 404);
    assert_eq!(world.ask("GET", "/dav/a.txt", &[], b"body").status, 415);
}

#[test]
fn ranges() {
    let world = World::new();
    world.write("a", "0123456789");
    for (range, status, body, content_range) in [
        ("bytes=0-0", 206, "0", Some("bytes 0-0/10")),
        ("bytes=3-", 206, "3456789", Some("bytes 3-9/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=5-99", 206, "56789", Some("bytes 5-9/10")),
        ("bytes=5-999999999999999999", 206, "56789", Some("bytes 5-9/10")),
        ("bytes=-99", 200, "0123456789", None),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("bytes=-0", 416, "", Some("bytes */10")),
    ] {
        let got = world.ask("GET", "/dav/a", &[("Range", range)], b"");
        assert_eq!((got.status, got.text()), (status, body), "{range}");
        assert_eq!(got.header("content-range"), content_range, "{range}");
    }
    let got = world.ask("GET", "/dav/a", &[("Range", "bytes=0-1, 5-6")], b"");
    assert_eq!(got.status, 206);
    assert!(got.header("content-type").unwrap().starts_with("multipart/byteranges"));
    assert!(got.text().contains("bytes 5-6/10") && got.parts.is_empty());
    let etag = world.ask("HEAD", "/dav/a", &[], b"").header("etag").unwrap().to_owned();
    let part = [("Range", "bytes=0-0"), ("If-Range", &etag[..])];
    assert_eq!(world.ask("GET", "/dav/a", &part, b"").text(), "0");
    let part = [("Range", "bytes=0-0"), ("If-Range", "\"old\"")];
    assert_eq!(world.ask("GET", "/dav/a", &part, b"").text(), "0123456789");
    world.write("empty", "");
    assert_eq!(world.status("GET", "/dav/empty", &[("Range", "bytes=0-")]), 416);
}

#[test]
fn a_directory_tells_the_names_in_it() {
    let world = World::new();
    world.write("d/a", "");
    let got = world.ask("GET", "/dav/d", &[], b"");
    assert_eq!((got.status, got.header("content-location")), (200, Some("/dav/d/")));
    for path in ["/dav/d/", "/dav/d", "/dav"] {
        let (got, head) = (world.ask("GET", path, &[], b""), world.ask("HEAD", path, &[], b""));
        assert_eq!((got.status, head.status, head.body.len()), (200, 200, 0), "{path}");
        assert_eq!(got.headers, head.headers, "{path}");
        assert!(got.header("etag").is_some() && got.header("last-modified").is_some());
        assert_eq!(got.header("content-length").unwrap(), got.body.len().to_string());
    }
    assert!(world.ask("GET", "/dav", &[], b"").text().lines().any(|name| name == "d/"));
    assert_eq!(world.ask("PUT", "/dav/d", &[], b"x").status, 405);
    assert_eq!(world.ask("PUT", "/dav/d/", &[], b"x").status, 405);
    assert_eq!(world.ask("PUT", "/dav/", &[], b"x").status, 405);
}

#[test]
fn content_is_whole_or_changes_nothing() {
    let world = World::new();
    let got = world.ask("PUT", "/dav/a", &[("Content-Length", "8")], b"new text");
    assert_eq!(got.status, 201);
    let head = world.ask("HEAD", "/dav/a", &[], b"");
    assert_eq!(got.header("etag"), head.header("etag"));
    for (headers, body, broken, expected) in [
        (&[("Content-Length", "100")][..], &b"xy"[..], false, Some(400)),
        (&[("Content-Length", "1")], b"more than one", false, Some(400)),
        (&[], b"xy", true, None),
        (&[("Content-Length", "100")], b"xy", true, None),
        (&[("Content-Range", "bytes 0-1/8")], b"xy", false, Some(400)),
    ] {
        let got = world.ask_broken("PUT", "/dav/a", headers, (body, broken));
        assert_eq!(got.ok().map(|got| got.status), expected, "{headers:?}");
        assert_eq!(world.read("a").as_deref(), Some("new text"));
        assert_eq!(world.names(), ["a"]);
    }
    assert_eq!(world.ask("PUT", "/dav/a", &[], b"").status, 204);
    assert_eq!(world.read("a").as_deref(), Some(""));
    assert_eq!(world.ask("PUT", "/dav/no/b", &[], b"x").status, 409);
    assert_eq!(world.ask("PUT", "/dav/a/b", &[], b"x").status, 409);
    assert_eq!(world.ask("PUT", "/dav/c/", &[], b"x").status, 405);
}

#[test]
fn conditions_hold_until_the_end() {
    let world = World::new();
    world.write("a", "old");
    let etag = world.ask("HEAD", "/dav/a", &[], b"").header("etag").unwrap().to_owned();
    assert_eq!(world.ask("PUT", "/dav/a", &[("If-None-Match", "*")], b"x").status, 412);
    assert_eq!(world.ask("PUT", "/dav/b", &[("If-Match", "*")], b"x").status, 412);
    assert_eq!(world.ask("PUT", "/dav/a", &[("If-Match", "\"0\"")], b"x").status, 412);
    let weak = format!("W/{etag}");
    assert_eq!(world.ask("PUT", "/dav/a", &[("If-Match", &weak)], b"x").status, 412);
    let listed = format!("([{etag}])");
    assert_eq!(world.ask("PUT", "/dav/a", &[("If", "([\"0\"])")], b"x").status, 412);
    let since = [("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:01 GMT")];
    assert_eq!(world.ask("PUT", "/dav/a", &since, b"x").status, 412);
    assert_eq!(world.read("a").as_deref(), Some("old"));
    assert_eq!(world.ask("PUT", "/dav/a", &[("If", &listed)], b"1").status, 204);
    assert_eq!(world.ask("PUT", "/dav/a", &[("If-Match", &etag)], b"x").status, 412);
    assert_eq!(world.ask("PUT", "/dav/b", &[("If-None-Match", "*")], b"2").status, 201);
    assert_eq!((world.read("a").as_deref(), world.read("b").as_deref()), (Some("1"), Some("2")));
    assert_eq!(world.names(), ["a", "b"]);
}

/// Changes the file while its new content arrives.
struct Meddler(std::path::PathBuf, Asker);

impl Peer for Meddler {
    fn content(&mut self) -> Result<Option<Bytes>, Broken> {
        std::fs::write(&self.0, "somebody else").unwrap();
        self.1.content()
    }

    fn say(&mut self, message: &ToBridge) -> Result<(), Broken> {
        self.1.say(message)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.1.data(bytes)
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> Result<(), Broken> {
        self.1.file(file, offset, length)
    }
}

#[test]
fn what_is_changed_meanwhile_is_not_replaced() {
    let world = World::new();
    world.write("a", "old");
    let etag = world.ask("HEAD", "/dav/a", &[], b"").header("etag").unwrap().to_owned();
    for (path, name, value) in [("a", "if-match", &etag[..]), ("b", "if-none-match", "*")] {
        let http = Http {
            method: "PUT".to_owned(),
            target: format!("/dav/{path}"),
            headers: vec![Header {
                name: name.to_owned(),
                value: value.as_bytes().to_vec().into(),
            }],
        };
        let content = VecDeque::from([Bytes::from_static(b"mine")]);
        let mut meddler = Meddler(world.root().join(path), Asker { content, ..Asker::default() });
        world.dav.serve(&http, &mut meddler).unwrap();
        assert_eq!(meddler.1.head.unwrap().status, 412, "{path}");
        assert_eq!(world.read(path).as_deref(), Some("somebody else"));
    }
    assert_eq!(world.names(), ["a", "b"]);
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let world = World::with(Rules { writable: true, largest: 10, ..Rules::default() });
    assert_eq!(world.ask("PUT", "/dav/a", &[("Content-Length", "11")], b"").status, 413);
    assert_eq!(world.ask("PUT", "/dav/a", &[], b"0123456789x").status, 413);
    assert_eq!(world.names(), [""; 0]);
}

#[test]
fn a_time_before_1970_can_be_told() {
    let world = World::new();
    world.write("a", "x");
    let old = std::time::UNIX_EPOCH - Duration::from_secs(86_400);
    File::options().write(true).open(world.root().join("a")).unwrap().set_modified(old).unwrap();
    let got = world.ask("GET", "/dav/a", &[], b"");
    assert_eq!(got.status, 200);
    assert_eq!(got.header("last-modified"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(world.status("PROPFIND", "/dav/a", &[("Depth", "0")]), 207);
}
