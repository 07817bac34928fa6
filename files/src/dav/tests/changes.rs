//! MKCOL, DELETE, COPY and MOVE.

use super::*;

#[test]
fn directories_are_made_one_at_a_time() {
    let world = World::new();
    world.write("file", "x");
    assert_eq!(world.status("MKCOL", "/dav/d", &[]), 201);
    assert_eq!(world.status("MKCOL", "/dav/d/e/", &[]), 201);
    assert_eq!(world.status("MKCOL", "/dav/d", &[]), 405);
    assert_eq!(world.status("MKCOL", "/dav/file", &[]), 405);
    assert_eq!(world.status("MKCOL", "/dav/", &[]), 405);
    assert_eq!(world.status("MKCOL", "/dav/no/d", &[]), 409);
    assert_eq!(world.status("MKCOL", "/dav/file/d", &[]), 409);
    assert_eq!(world.ask("MKCOL", "/dav/x", &[], b"<mkcol/>").status, 415);
    assert_eq!(world.names(), ["d", "d/e", "file"]);
}

#[test]
fn removing() {
    let world = World::new();
    world.write("d/e/f", "x");
    world.write("a", "x");
    assert_eq!(world.status("DELETE", "/dav/none", &[]), 404);
    assert_eq!(world.status("DELETE", "/dav/a/b", &[]), 404);
    assert_eq!(world.status("DELETE", "/dav/a/", &[]), 404);
    assert_eq!(world.status("DELETE", "/dav/d", &[("Depth", "0")]), 400);
    assert_eq!(world.status("DELETE", "/dav/a", &[("If-Match", "\"0\"")]), 412);
    assert_eq!(world.ask("DELETE", "/dav/a", &[], b"x").status, 415);
    assert_eq!(world.names(), ["a", "d", "d/e", "d/e/f"]);
    let etag = world.ask("HEAD", "/dav/a", &[], b"").header("etag").unwrap().to_owned();
    assert_eq!(world.status("DELETE", "/dav/a", &[("If-Match", &etag)]), 204);
    assert_eq!(world.status("DELETE", "/dav/d", &[("Depth", "infinity")]), 204);
    assert_eq!(world.names(), [""; 0]);
    assert_eq!(world.status("DELETE", "/dav/", &[]), 403);
}

#[test]
fn copying_and_moving_a_file() {
    let world = World::new();
    world.write("a", "A");
    world.write("b", "B");
    world.write("d/x", "X");
    assert_eq!(world.copy("COPY", "/dav/a", "/dav/c", &[]), 201);
    assert_eq!(world.copy("COPY", "/dav/a", "/dav/b", &[("Overwrite", "F")]), 412);
    assert_eq!(world.read("b").as_deref(), Some("B"));
    assert_eq!(world.copy("COPY", "/dav/a", "/dav/b", &[]), 204);
    assert_eq!(world.copy("COPY", "/dav/none", "/dav/b", &[]), 404);
    assert_eq!(world.copy("COPY", "/dav/a", "/dav/no/b", &[]), 409);
    assert_eq!(world.copy("MOVE", "/dav/a", "/dav/no/b", &[]), 409);
    assert_eq!(world.copy("MOVE", "/dav/none", "/dav/b", &[]), 404);
    assert_eq!(world.copy("MOVE", "/dav/a", "/dav/b", &[("Overwrite", "F")]), 412);
    assert_eq!(world.copy("MOVE", "/dav/a", "/dav/b", &[("If-None-Match", "*")]), 412);
    assert_eq!(world.copy("MOVE", "/dav/a", "/dav/b", &[]), 204);
    assert_eq!(world.copy("MOVE", "/dav/b", "/dav/e", &[]), 201);
    assert_eq!(world.read("e").as_deref(), Some("A"));
    // A directory at the destination is replaced as a whole.
    assert_eq!(world.copy("COPY", "/dav/e", "/dav/d", &[]), 204);
    assert_eq!(world.read("d").as_deref(), Some("A"));
    assert_eq!(world.names(), ["c", "d", "e"]);
}

#[test]
fn copying_and_moving_a_directory() {
    let world = World::new();
    world.write("d/e/f", "x");
    world.write("old/gone", "x");
    world.write("file", "x");
    assert_eq!(world.copy("COPY", "/dav/d/", "/dav/flat", &[("Depth", "0")]), 201);
    assert_eq!(world.copy("COPY", "/dav/d", "/dav/deep/", &[]), 201);
    assert_eq!(world.copy("COPY", "/dav/d", "/dav/old", &[("Overwrite", "F")]), 412);
    assert_eq!(world.read("old/gone").as_deref(), Some("x"));
    assert_eq!(world.copy("COPY", "/dav/d", "/dav/old", &[]), 204);
    assert_eq!(world.copy("COPY", "/dav/d", "/dav/file", &[]), 204);
    assert_eq!(
        world.names(),
        [
            "d", "d/e", "d/e/f", "deep", "deep/e", "deep/e/f", "file", "file/e", "file/e/f",
            "flat", "old", "old/e", "old/e/f"
        ]
    );
    assert_eq!(world.copy("MOVE", "/dav/d", "/dav/m", &[("Depth", "0")]), 400);
    assert_eq!(world.copy("MOVE", "/dav/d", "/dav/flat", &[]), 204);
    assert_eq!(world.copy("COPY", "/dav/deep", "/dav/flat", &[("Depth", "0")]), 204);
    assert_eq!(world.copy("MOVE", "/dav/deep", "/dav/file", &[]), 204);
    assert_eq!(world.copy("MOVE", "/dav/file", "/dav/old", &[("Overwrite", "T")]), 204);
    assert_eq!(world.names(), ["flat", "old", "old/e", "old/e/f"]);
}

#[test]
fn links_are_left_out_of_a_copy_and_named() {
    let world = World::new();
    world.write("d/a", "x");
    world.write("d/e/b", "x");
    world.link("../../secret", "d/out");
    world.link("a", "d/e/in<");
    let got = world.ask("COPY", "/dav/d", &[("Destination", "/dav/c")], b"");
    assert_eq!(got.status, 207);
    assert_eq!(got.text().matches("403 Forbidden").count(), 2);
    assert!(got.text().contains("<D:href>/dav/d/out</D:href>"));
    assert!(got.text().contains("<D:href>/dav/d/e/in%3C</D:href>"));
    assert!(xml::check(&got.body).unwrap().root.is("multistatus"));
    assert_eq!(world.read("c/e/b").as_deref(), Some("x"));
    assert!(!world.names().contains(&"c/out".to_owned()));
}

#[test]
fn what_cannot_be_copied_leaves_the_old_in_place() {
    let world = World::with(Rules { writable: true, largest: 4, ..Rules::default() });
    world.write("large", "too large");
    world.write("keep/a", "x");
    world.write("b", "x");
    for to in ["/dav/keep", "/dav/b"] {
        assert_eq!(world.copy("COPY", "/dav/large", to, &[]), 413, "{to}");
    }
    assert_eq!(world.names(), ["b", "keep", "keep/a", "large"]);
}
