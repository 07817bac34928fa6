//! Locks.

use super::*;

fn info(scope: &str) -> Vec<u8> {
    format!(
        "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:{scope}/></D:lockscope>\
         <D:locktype><D:write/></D:locktype><D:owner><D:href>me</D:href></D:owner></D:lockinfo>"
    )
    .into_bytes()
}

impl World {
    fn lock(&self, path: &str, headers: &[(&str, &str)]) -> String {
        let got = self.ask("LOCK", path, headers, &info("exclusive"));
        assert!(matches!(got.status, 200 | 201), "{path}: {}", got.status);
        got.header("lock-token").unwrap().to_owned()
    }
}

#[test]
fn what_is_locked_is_changed_with_its_token_only() {
    let world = World::new();
    world.write("a", "x");
    world.write("b", "x");
    let token = world.lock("/dav/a", &[("Depth", "0")]);
    let (own, other) = (format!("({token})"), "(<urn:uuid:0>) (Not <DAV:no-lock>)");
    let set = b"<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop><x xmlns=\"u:\">1</x></D:prop>\
        </D:set></D:propertyupdate>";
    for headers in [&[][..], &[("If", other)]] {
        assert_eq!(world.ask("PUT", "/dav/a", headers, b"y").status, 423);
        assert_eq!(world.ask("PROPPATCH", "/dav/a", headers, set).status, 423);
        assert_eq!(world.status("DELETE", "/dav/a", headers), 423);
        assert_eq!(world.copy("MOVE", "/dav/a", "/dav/c", headers), 423);
        assert_eq!(world.copy("COPY", "/dav/b", "/dav/a", headers), 423);
        assert_eq!(world.copy("MOVE", "/dav/b", "/dav/a", headers), 423);
    }
    assert_eq!(world.ask("LOCK", "/dav/a", &[], &info("shared")).status, 423);
    assert_eq!(world.ask("PUT", "/dav/a", &[("If", "(<urn:uuid:0>)")], b"y").status, 412);
    assert_eq!(world.read("a").as_deref(), Some("x"));
    assert_eq!(world.copy("COPY", "/dav/a", "/dav/c", &[]), 201);
    assert_eq!(world.ask("PUT", "/dav/a", &[("If", &own)], b"y").status, 204);
    let tagged = format!("</dav/a> {own}");
    assert_eq!(world.copy("COPY", "/dav/b", "/dav/a", &[("If", &tagged)]), 204);
    assert_eq!(world.ask("PUT", "/dav/c", &[], b"not locked").status, 204);
    assert_eq!(world.status("UNLOCK", "/dav/b", &[("Lock-Token", &token)]), 409);
    assert_eq!(world.status("UNLOCK", "/dav/a", &[("Lock-Token", "<urn:uuid:0>")]), 409);
    assert_eq!(world.status("UNLOCK", "/dav/a", &[]), 400);
    assert_eq!(world.status("UNLOCK", "/dav/a", &[("Lock-Token", &token)]), 204);
    assert_eq!(world.ask("PUT", "/dav/a", &[], b"z").status, 204);
}

#[test]
fn a_lock_is_gone_when_its_time_is_over() {
    let world = World::new();
    world.write("a", "x");
    let token = world.lock("/dav/a", &[("Timeout", "Second-1")]);
    let own = format!("({token})");
    assert_eq!(world.ask("PUT", "/dav/a", &[], b"y").status, 423);
    world.time.store(900, Ordering::Relaxed);
    let refreshed = world.ask("LOCK", "/dav/a", &[("If", &own), ("Timeout", "Second-2")], b"");
    assert_eq!(refreshed.status, 200);
    assert!(refreshed.text().contains("Second-2"), "{}", refreshed.text());
    world.time.store(2_800, Ordering::Relaxed);
    assert_eq!(world.ask("PUT", "/dav/a", &[], b"y").status, 423);
    world.time.store(2_900, Ordering::Relaxed);
    assert_eq!(world.ask("PUT", "/dav/a", &[("If", &own)], b"y").status, 412);
    assert_eq!(world.ask("LOCK", "/dav/a", &[("If", &own)], b"").status, 412);
    assert_eq!(world.ask("PUT", "/dav/a", &[], b"y").status, 204);
    let long = world.ask("LOCK", "/dav/a", &[("Timeout", "Infinite")], &info("exclusive"));
    assert!(long.text().contains("Second-3600"), "{}", long.text());
    assert_eq!(world.ask("LOCK", "/dav/a", &[], b"").status, 400);
}

#[test]
fn a_lock_on_what_is_not_there_makes_it() {
    let world = World::new();
    let got = world.ask("LOCK", "/dav/new", &[], &info("exclusive"));
    assert_eq!((got.status, world.read("new").as_deref()), (201, Some("")));
    let own = format!("({})", got.header("lock-token").unwrap());
    assert_eq!(world.ask("PUT", "/dav/new", &[("If", &own)], b"x").status, 204);
    assert_eq!(world.ask("LOCK", "/dav/no/new", &[], &info("shared")).status, 409);
    assert_eq!(world.ask("LOCK", "/dav/x", &[("If-Match", "*")], &info("shared")).status, 412);
    let listed = world.ask("PROPFIND", "/dav/new", &[("Depth", "0")], b"");
    assert!(listed.text().contains("<D:lockroot><D:href>/dav/new</D:href></D:lockroot>"));
    assert!(listed.text().contains("me</D:href>"));
}

#[test]
fn a_locked_directory_keeps_its_names() {
    let world = World::new();
    world.write("d/a", "x");
    world.write("d/e/b", "x");
    world.write("x", "x");
    let token = world.lock("/dav/d/", &[("Depth", "0")]);
    let own = format!("</dav/d/> ({token})");
    assert_eq!(world.ask("PUT", "/dav/d/a", &[], b"y").status, 204);
    assert_eq!(world.ask("PUT", "/dav/d/new", &[], b"y").status, 423);
    assert_eq!(world.status("MKCOL", "/dav/d/new", &[]), 423);
    assert_eq!(world.ask("LOCK", "/dav/d/new", &[], &info("shared")).status, 423);
    assert_eq!(world.status("DELETE", "/dav/d/a", &[]), 423);
    assert_eq!(world.copy("MOVE", "/dav/x", "/dav/d/x", &[]), 423);
    assert_eq!(world.ask("PUT", "/dav/d/new", &[("If", &own)], b"y").status, 201);
    assert_eq!(world.ask("PUT", "/dav/d/e/new", &[], b"y").status, 201);
    assert_eq!(world.status("UNLOCK", "/dav/d", &[("Lock-Token", &token)]), 204);
    let token = world.lock("/dav/d", &[("Depth", "infinity")]);
    assert_eq!(world.ask("PUT", "/dav/d/e/b", &[], b"y").status, 423);
    let own = format!("({token})");
    assert_eq!(world.ask("PUT", "/dav/d/e/b", &[("If", &own)], b"y").status, 204);
}

#[test]
fn what_is_locked_beneath_a_directory_is_named() {
    let world = World::new();
    world.write("d/e/f", "x");
    world.write("x/y", "x");
    let token = world.lock("/dav/d/e/f", &[]);
    for (method, from, to) in
        [("DELETE", "/dav/d", ""), ("MOVE", "/dav/d", "/dav/n"), ("COPY", "/dav/x", "/dav/d")]
    {
        let got =
            world.ask(method, from, &[("Destination", to)][..usize::from(!to.is_empty())], b"");
        assert_eq!(got.status, 207, "{method}");
        assert!(got.text().contains("<D:href>/dav/d/e/f</D:href><D:status>HTTP/1.1 423 Locked"));
    }
    assert_eq!(world.read("d/e/f").as_deref(), Some("x"));
    let own = format!("</dav/d/e/f> ({token})");
    assert_eq!(world.copy("MOVE", "/dav/d", "/dav/n", &[("If", &own)]), 201);
    // The lock did not move, and what is there now is not locked.
    assert_eq!(world.ask("PUT", "/dav/n/e/f", &[], b"y").status, 204);
    world.write("d/e/f", "x");
    assert_eq!(world.ask("PUT", "/dav/d/e/f", &[], b"y").status, 204);
}

#[test]
fn an_owner_says_little_of_itself() {
    let world = World::new();
    world.write("a", "x");
    let text = String::from_utf8(info("exclusive")).unwrap();
    let long = text.replace("me", &"<x/>".repeat(20));
    assert_eq!(world.ask("LOCK", "/dav/a", &[], long.as_bytes()).status, 400);
    assert_eq!(world.ask("LOCK", "/dav/a", &[], text.as_bytes()).status, 200);
}

#[test]
fn a_shared_lock_is_several() {
    let world = World::new();
    world.write("a", "x");
    let tokens = [0, 1].map(|_| {
        let got = world.ask("LOCK", "/dav/a", &[], &info("shared"));
        assert_eq!(got.status, 200);
        got.header("lock-token").unwrap().to_owned()
    });
    assert_eq!(world.ask("LOCK", "/dav/a", &[], &info("exclusive")).status, 423);
    assert_eq!(world.ask("PUT", "/dav/a", &[], b"y").status, 423);
    for token in tokens {
        assert_eq!(world.ask("PUT", "/dav/a", &[("If", &format!("({token})"))], b"y").status, 204);
    }
    for body in [&b"<a/>"[..], b"<", b"<D:lockinfo xmlns:D=\"DAV:\"/>", &vec![b' '; 5_000]] {
        let got = world.ask("LOCK", "/dav/a", &[], body);
        assert!(matches!(got.status, 400 | 413), "{}", got.status);
    }
}
