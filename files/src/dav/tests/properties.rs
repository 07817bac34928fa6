//! PROPFIND, PROPPATCH and OPTIONS.

use super::super::xml::{BODY, check};
use super::*;

fn update(what: &str) -> Vec<u8> {
    format!("<D:propertyupdate xmlns:D=\"DAV:\" xmlns:u=\"u:\">{what}</D:propertyupdate>")
        .into_bytes()
}

fn set(prop: &str) -> Vec<u8> {
    update(&format!("<D:set><D:prop>{prop}</D:prop></D:set>"))
}

impl World {
    /// Whether the file system of the test stores attributes.
    fn keeps(&self) -> bool {
        let root = File::open(self.root()).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&root, "user.test", b"", flags) != Err(rustix::io::Errno::OPNOTSUPP)
    }

    fn find(&self, path: &str, what: &str) -> String {
        let body = format!("<D:propfind xmlns:D=\"DAV:\" xmlns:u=\"u:\">{what}</D:propfind>");
        let got = self.ask("PROPFIND", path, &[("Depth", "0")], body.as_bytes());
        assert_eq!(got.status, 207, "{}", got.text());
        assert!(check(&got.body).unwrap().root.is("multistatus"));
        got.text().to_owned()
    }
}

#[test]
fn what_a_client_said_of_a_file_goes_with_it() {
    let world = World::new();
    if !world.keeps() {
        return;
    }
    world.write("d/a", "x");
    for path in ["/dav/d/a", "/dav/d", "/dav/"] {
        let got = world.ask("PROPPATCH", path, &[], &set("<u:p>one &lt; two</u:p>"));
        assert_eq!(got.status, 207);
        assert!(got.text().contains("200 OK"), "{}", got.text());
    }
    assert!(world.find("/dav/d/a", "<D:prop><u:p/></D:prop>").contains("one &lt; two"));
    assert_eq!(world.find("/dav/d/a", "<D:prop><u:p/></D:prop>").matches("one").count(), 1);
    assert_eq!(world.find("/dav/d/a", "<D:allprop/>").matches("one").count(), 1);
    let names = world.find("/dav/d/a", "<D:propname/>");
    assert!(names.contains("p xmlns") || names.contains(":p "), "{names}");
    assert!(!names.contains("one"), "{names}");
    assert!(!world.find("/dav/d/a", "<D:prop><D:getetag/></D:prop>").contains("one"));
    assert_eq!(world.copy("COPY", "/dav/d", "/dav/c", &[]), 201);
    assert_eq!(world.copy("COPY", "/dav/d", "/dav/flat", &[("Depth", "0")]), 201);
    assert_eq!(world.copy("MOVE", "/dav/c/a", "/dav/b", &[]), 201);
    assert_eq!(world.ask("PUT", "/dav/b", &[], b"new").status, 204);
    for path in ["/dav/c", "/dav/flat", "/dav/b"] {
        assert!(world.find(path, "<D:allprop/>").contains("one"), "{path}");
    }
    let remove = update("<D:remove><D:prop><u:p/></D:prop></D:remove>");
    assert_eq!(world.ask("PROPPATCH", "/dav/b", &[], &remove).status, 207);
    assert!(!world.find("/dav/b", "<D:allprop/>").contains("one"));
}

#[test]
fn changes_of_properties_are_all_done_or_none() {
    let world = World::new();
    world.write("a", "x");
    let both = update("<D:set><D:prop><u:p>1</u:p><D:getetag>x</D:getetag></D:prop></D:set>");
    let got = world.ask("PROPPATCH", "/dav/a", &[], &both);
    assert!(got.text().contains("403 Forbidden") && got.text().contains("424 "), "{}", got.text());
    assert!(!world.find("/dav/a", "<D:allprop/>").contains("u:"));
    let large = set(&format!("<u:p>{}</u:p>", "x".repeat(62_000)));
    let got = world.ask("PROPPATCH", "/dav/a", &[], &large);
    assert!(got.text().contains("507 "), "{}", got.text());
    assert!(!world.find("/dav/a", "<D:allprop/>").contains("xxx"));
    assert_eq!(world.ask("PROPPATCH", "/dav/none", &[], &set("<u:p/>")).status, 404);
    assert_eq!(world.ask("PROPPATCH", "/dav/a", &[], b"").status, 400);
    assert_eq!(world.ask("PROPPATCH", "/dav/a", &[], b"<a/>").status, 400);
    assert_eq!(world.ask("PROPPATCH", "/dav/a", &[], &vec![b' '; BODY + 1]).status, 413);
    let deep = set(&"<u:p>".repeat(5_000));
    assert_eq!(world.ask("PROPPATCH", "/dav/a", &[], &deep).status, 400);
    let typed =
        [b"<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]>", &set("&b;")[..]].concat();
    assert_eq!(world.ask("PROPPATCH", "/dav/a", &[], &typed).status, 400);
}

#[test]
fn a_listing_tells_what_is_there() {
    let world = World::new();
    world.write("d/a b", "12345");
    world.write("d/e/f", "x");
    let got = world.ask("PROPFIND", "/dav/d", &[("Depth", "1")], b"");
    assert_eq!(got.status, 207);
    assert!(check(&got.body).is_ok());
    for href in ["/dav/d/", "/dav/d/a%20b", "/dav/d/e/"] {
        assert!(got.text().contains(&format!("<D:href>{href}</D:href>")), "{href}");
    }
    assert_eq!(got.text().matches("<D:response>").count(), 3);
    let one = world.find("/dav/d/a%20b", "<D:prop><D:getetag/><D:getcontentlength/></D:prop>");
    let etag = world.ask("HEAD", "/dav/d/a%20b", &[], b"").header("etag").unwrap().to_owned();
    assert!(one.contains(">5</D:getcontentlength>"));
    assert!(one.contains(&etag) || one.contains(&etag.replace('"', "&quot;")), "{one}");
    assert!(world.find("/dav/d", "<D:prop><D:resourcetype/></D:prop>").contains("collection"));
    let quota = world.find("/dav/d", "<D:prop><D:quota-available-bytes/></D:prop>");
    assert!(quota.contains("quota-available-bytes>"), "{quota}");
    assert_eq!(world.status("PROPFIND", "/dav/none", &[("Depth", "1")]), 404);
    for (depth, expected) in [("infinity", 403), ("2", 400)] {
        let got = world.ask("PROPFIND", "/dav/", &[("Depth", depth)], b"");
        assert_eq!(got.status, expected);
        assert_eq!(got.text().contains("propfind-finite-depth"), expected == 403);
    }
    assert_eq!(world.status("PROPFIND", "/dav/", &[]), 403);
    for depth in [&[][..], &[("Depth", "infinity")]] {
        assert_eq!(world.status("PROPFIND", "/dav/d/a%20b", depth), 207);
        assert_eq!(world.status("PROPFIND", "/dav/none", depth), 404);
    }
    let many = format!(
        "<D:propfind xmlns:D=\"DAV:\"><D:prop>{}</D:prop></D:propfind>",
        "<D:x/>".repeat(129)
    );
    let got = world.ask("PROPFIND", "/dav/", &[("Depth", "1")], many.as_bytes());
    assert_eq!(got.status, 400);
    for body in [&b"<a/>"[..], b"<D:propfind xmlns:D=\"DAV:\"/>", b"nonsense"] {
        assert_eq!(world.ask("PROPFIND", "/dav/", &[("Depth", "1")], body).status, 400);
    }
}

#[test]
fn what_is_missing_is_told() {
    let world = World::new();
    if !world.keeps() {
        return;
    }
    world.write("d/a", "x");
    world.ask("PROPPATCH", "/dav/d/a", &[], &set("<u:p>one</u:p>"));
    let body = b"<D:propfind xmlns:D=\"DAV:\" xmlns:u=\"u:\" xmlns:q=\"q:&lt;&quot;&amp;\"><D:prop>\
        <D:getetag/><D:getcontentlength/><D:nonsense/><u:p/><q:r/><none xmlns=\"\"/></D:prop></D:propfind>";
    let got = world.ask("PROPFIND", "/dav/d", &[("Depth", "1")], body);
    assert_eq!(check(&got.body).unwrap().parts.len(), 2);
    let (directory, file) = got.text().split_once("<D:href>/dav/d/a</D:href>").unwrap();
    for (text, length, own) in [(directory, 1, 1), (file, 0, 0)] {
        assert!(text.contains("HTTP/1.1 404 Not Found"));
        let (_, missing) = text.rsplit_once("<D:propstat>").unwrap();
        assert_eq!(missing.matches("<D:getcontentlength/>").count(), length, "{text}");
        assert_eq!(missing.matches("<x:p xmlns:x=\"u:\"/>").count(), own, "{text}");
        assert!(missing.contains("<D:nonsense/>") && missing.contains("<none xmlns=\"\"/>"));
        assert!(missing.contains("<x:r xmlns:x=\"q:&lt;&quot;&amp;\"/>"), "{missing}");
    }
    let whole = world.find("/dav/d/a", "<D:prop><D:getetag/></D:prop>");
    assert!(!whole.contains("404 Not"));
}

#[test]
fn a_name_to_show_is_not_kept() {
    let world = World::new();
    world.write("a", "x");
    let got = world.ask("PROPPATCH", "/dav/a", &[], &set("<D:displayname>n</D:displayname>"));
    assert!(got.text().contains("403 Forbidden"), "{}", got.text());
    let remove = update("<D:remove><D:prop><D:displayname/></D:prop></D:remove>");
    let got = world.ask("PROPPATCH", "/dav/a", &[], &remove);
    assert!(got.text().contains("403 Forbidden"), "{}", got.text());
}

#[test]
fn a_large_directory_is_listed() {
    let world = World::new();
    for number in 0..3_000 {
        world.write(&format!("d/file-{number}"), "");
    }
    let begin = std::time::Instant::now();
    let got = world.ask("PROPFIND", "/dav/d/", &[("Depth", "1")], b"");
    assert_eq!(got.text().matches("<D:response>").count(), 3_001);
    assert!(got.text().ends_with("</D:multistatus>"));
    // It takes a fraction of a second. Even a slow machine needs less than this.
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_can_be_asked_for_is_told() {
    let world = World::new();
    for target in ["/dav/", "/dav/none"] {
        let got = world.ask("OPTIONS", target, &[], b"");
        assert_eq!((got.status, got.header("dav")), (200, Some("1, 2, 3")));
        assert!(got.header("allow").unwrap().contains("PROPPATCH"));
    }
    let got = world.ask("PATCH", "/dav/a", &[], b"");
    assert_eq!(got.status, 405);
    assert!(got.header("allow").unwrap().contains("LOCK"));
}

#[test]
fn what_is_there_is_not_said_to_be_missing() {
    let world = World::new();
    world.write("d/a", "x");
    // With a prefix chosen by the client, or none.
    for (prefix, of) in [("", "xmlns"), ("q:", "xmlns:q")] {
        let body = format!(
            "<{prefix}propfind {of}=\"DAV:\"><{prefix}prop><{prefix}resourcetype/><{prefix}displayname/>\
             </{prefix}prop></{prefix}propfind>"
        );
        let got = world.ask("PROPFIND", "/dav/d/", &[("Depth", "1")], body.as_bytes());
        let text = got.text();
        assert_eq!(text.matches("resourcetype>").count(), 4, "{text}");
        assert_eq!(text.matches("<D:resourcetype/>").count(), 0, "{text}");
        assert_eq!(text.matches("<D:displayname/>").count(), 2, "{text}");
        assert_eq!(text.matches("<D:collection/>").count(), 1, "{text}");
    }
    let none = world.find("/dav/d/a", "<D:prop><D:displayname/></D:prop>");
    assert!(!none.contains("200 OK") && none.contains("404 Not Found"), "{none}");
    let empty = world.find("/dav/d/a", "<D:prop/>");
    assert!(empty.contains("200 OK"), "{empty}");
}

#[test]
fn all_are_told_and_what_is_asked_for_besides() {
    let world = World::new();
    world.write("a.html", "12345");
    let all = world.find(
        "/dav/a.html",
        "<D:allprop/><D:include><D:quota-used-bytes/><D:getetag/><u:none/></D:include>",
    );
    let tag = world.ask("HEAD", "/dav/a.html", &[], b"").header("etag").unwrap().to_owned();
    let modified = world.ask("HEAD", "/dav/a.html", &[], b"");
    let modified = modified.header("last-modified").unwrap();
    for element in [
        "<D:getcontentlength>5</D:getcontentlength>",
        "<D:getcontenttype>text/html</D:getcontenttype>",
        &format!("<D:getetag>{tag}</D:getetag>"),
        &format!("<D:getlastmodified>{modified}</D:getlastmodified>"),
        "<D:lockdiscovery></D:lockdiscovery>",
        "<D:resourcetype></D:resourcetype>",
        "<D:lockscope><D:shared/></D:lockscope>",
        "</D:quota-used-bytes>",
        "<x:none xmlns:x=\"u:\"/></D:prop><D:status>HTTP/1.1 404 Not Found",
    ] {
        assert_eq!(all.matches(element).count(), 1, "{element} in {all}");
    }
    let names = world.find("/dav/", "<D:propname/>");
    assert!(names.contains("<D:resourcetype/>") && !names.contains("getcontentlength"), "{names}");
    assert!(!names.contains("404 Not"), "{names}");
    let both = b"<D:propfind xmlns:D=\"DAV:\"><D:allprop/><D:propname/></D:propfind>";
    assert_eq!(world.ask("PROPFIND", "/dav/", &[("Depth", "0")], both).status, 400);
}

#[test]
fn what_other_systems_ask_for_is_told() {
    let world = World::new();
    world.write(".a", "");
    let found = world.find(
        "/dav/.a",
        "<D:prop xmlns:Z=\"urn:schemas-microsoft-com:\" xmlns:A=\"http://apache.org/dav/props/\">\
         <Z:Win32FileAttributes/><Z:Win32LastModifiedTime/><A:executable/></D:prop>",
    );
    assert!(found.contains(">00000022</x:Win32FileAttributes>"), "{found}");
    assert!(found.contains(" GMT</x:Win32LastModifiedTime>"), "{found}");
    assert!(found.contains(">F</x:executable>") && !found.contains("404 Not"), "{found}");
}

#[test]
fn a_listing_says_where_there_is_more() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.write(&format!("d/{name}"), "");
    }
    let depth = [("Depth", "1")];
    world.dav.listed = 3;
    assert!(!world.ask("PROPFIND", "/dav/d", &depth, b"").text().contains(" 507 "));
    world.dav.listed = 2;
    let got = world.ask("PROPFIND", "/dav/d", &depth, b"");
    assert!(check(&got.body).is_ok());
    assert_eq!(got.text().matches("<D:propstat>").count(), 3);
    let more = "<D:href>/dav/d/</D:href><D:status>HTTP/1.1 507 Insufficient Storage</D:status>";
    assert_eq!(got.text().matches(more).count(), 1, "{}", got.text());
}

#[test]
fn a_copy_has_what_was_said_of_what_was_copied_and_no_more() {
    let world = World::new();
    if !world.keeps() {
        return;
    }
    world.write("a", "x");
    world.write("b", "y");
    for (path, prop) in [("/dav/a", "<u:p>of a</u:p>"), ("/dav/b", "<u:p>of b</u:p><u:q>old</u:q>")]
    {
        assert_eq!(world.ask("PROPPATCH", path, &[], &set(prop)).status, 207);
    }
    assert_eq!(world.copy("COPY", "/dav/a", "/dav/b", &[("Overwrite", "T")]), 204);
    let found = world.find("/dav/b", "<D:allprop/>");
    assert!(found.contains("of a") && !found.contains("of b") && !found.contains("old"), "{found}");
}

#[test]
fn clients_that_compare_by_times_and_checksums_have_them() {
    let world = World::new();
    let put = world.ask("PUT", "/dav/f", &[("X-OC-Mtime", "1700000000")], b"abc");
    assert_eq!((put.status, put.header("x-oc-mtime")), (201, Some("accepted")));
    let asked =
        "<D:prop><D:getlastmodified/><x:checksums xmlns:x=\"http://owncloud.org/ns\"/></D:prop>";
    let one = world.find("/dav/f", asked);
    assert!(one.contains("Tue, 14 Nov 2023 22:13:20 GMT"), "{one}");
    let sums = "SHA1:a9993e364706816aba3e25717850c26c9cd0d89d MD5:900150983cd24fb0d6963f7d28e17f72";
    assert!(one.contains(&format!("checksum>{sums}</x:checksum>")), "{one}");
    // Other content with the same size and time is another file to such clients.
    world.ask("PUT", "/dav/f", &[("X-OC-Mtime", "1700000000")], b"xyz");
    let other = world.find("/dav/f", asked);
    assert!(other.contains("22:13:20") && !other.contains(sums), "{other}");
    world.write("large", &"x".repeat((256 << 10) + 1));
    assert!(!world.find("/dav/large", asked).contains("SHA1"));
    let body = "<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop><lastmodified xmlns=\"DAV:\">\
                1600000000</lastmodified></D:prop></D:set></D:propertyupdate>";
    let set = world.ask("PROPPATCH", "/dav/f", &[], body.as_bytes());
    assert!(set.status == 207 && set.text().contains("200 OK"), "{}", set.text());
    assert!(world.find("/dav/f", asked).contains("Sun, 13 Sep 2020 12:26:40 GMT"));
    assert_eq!(world.ask("PROPPATCH", "/dav/none", &[], body.as_bytes()).status, 404);
}
