//! Arbitrary requests, composed of meaningful and meaningless parts.

use std::cell::RefCell;

use super::*;

const METHODS: &[&str] = &[
    "OPTIONS",
    "GET",
    "HEAD",
    "PUT",
    "DELETE",
    "MKCOL",
    "COPY",
    "MOVE",
    "PROPFIND",
    "PROPPATCH",
    "LOCK",
    "UNLOCK",
    "PATCH",
    "REPORT",
];

const TARGETS: &[&str] = &[
    "/dav",
    "/dav/",
    "/dav/a",
    "/dav/d",
    "/dav/d/",
    "/dav/d/b",
    "/dav/d/e/c",
    "/dav/new",
    "/dav/out",
    "/dav/in",
    "/dav/fifo",
    "/dav/up/secret",
    "/dav/../secret",
    "/dav/%2e%2e/secret",
    "/dav/d/new",
    "/dav/new/x",
    "http://h/dav/a",
    "http://other/dav/a",
    "/other/a",
    "*",
    "/dav/%ff",
    "/dav/a%20b",
];

const PLACES: &[&str] = &[
    "",
    "a",
    "d",
    "d/",
    "d/b",
    "d/e",
    "d/e/c",
    "new",
    "out",
    "in",
    "fifo",
    "up/secret",
    "d/new",
    "new/x",
    "d/e/new",
    "up",
    "a%20b",
    "d/e/new/y",
];

const HEADERS: &[(&str, &[&str])] = &[
    ("depth", &["0", "1", "infinity", "2"]),
    ("overwrite", &["T", "F", "x"]),
    ("destination", TARGETS),
    ("host", &["h"]),
    ("timeout", &["Second-1", "Infinite", "Second-4100000000", "Infinite, Second-1", "Second-"]),
    ("lock-token", &["<TOKEN>", "<urn:uuid:0>", "<", "TOKEN"]),
    (
        "if",
        &[
            "(<TOKEN>)",
            "(<urn:uuid:0>)",
            "(Not <DAV:no-lock>)",
            "</dav/a> (<TOKEN>)",
            "<",
            "(<",
            "([\"0\"])",
            "([\"])",
            "(<TOKEN>) (Not <DAV:no-lock>)",
            "(",
            "()",
            "<http://h/dav/d> (<TOKEN>)",
        ],
    ),
    ("if-match", &["*", "\"0\"", "\"", "\",\"", "W/\"a\", \"b\""]),
    ("if-none-match", &["*", "\"0\"", "\""]),
    ("if-modified-since", &["Sun, 06 Nov 1994 08:49:37 GMT", "x"]),
    ("if-unmodified-since", &["Sun, 06 Nov 2094 08:49:37 GMT", "Sat, 06 Nov 2094 08:49:37 GMT"]),
    ("if-range", &["\"0\"", "\"", "Sun, 06 Nov 1994 08:49:37 GMT"]),
    (
        "range",
        &[
            "bytes=0-0",
            "bytes=-1",
            "bytes=1-",
            "bytes=0-0,2-3",
            "bytes=0-18446744073709551615",
            "bytes=5-18446744073709551614",
            "bytes=-18446744073709551615",
            "bytes=3-1",
            "bytes=-",
        ],
    ),
    ("content-length", &["0", "1", "5", "18446744073709551615", "-1"]),
    ("content-range", &["bytes 0-18446744073709551615/*", "bytes 5-6/7"]),
    ("x-expected-entity-length", &["18446744073709551615"]),
    ("x-litmus", &["x"]),
    ("content-type", &["application/xml", "application/x-sabredav-partialupdate"]),
    ("x-update-range", &["bytes=-5", "bytes=0-18446744073709551615", "append"]),
    ("user-agent", &["Microsoft-WebDAV", "WebDAVFS/1"]),
];

const BODIES: &[&str] = &[
    "",
    "hello",
    "<D:propfind xmlns:D=\"DAV:\"><D:allprop/></D:propfind>",
    "<D:propfind xmlns:D=\"DAV:\"><D:propname/></D:propfind>",
    "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:getetag/><D:displayname/><x xmlns=\"u:\"/><D:lockdiscovery/><D:resourcetype><y/></D:resourcetype><D:quota-used-bytes/></D:prop></D:propfind>",
    "<propfind xmlns=\"DAV:\" xmlns:Z=\"urn:schemas-microsoft-com:\" xmlns:A=\"http://apache.org/dav/props/\"><prop><Z:Win32FileAttributes/><A:executable/><b/></prop></propfind>",
    "<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop><x xmlns=\"u:\" y=\"z\">1<w/></x><D:displayname>n</D:displayname></D:prop></D:set></D:propertyupdate>",
    "<D:propertyupdate xmlns:D=\"DAV:\"><D:remove><D:prop><x xmlns=\"u:\"/></D:prop></D:remove></D:propertyupdate>",
    "<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop><x xml:lang=\"en\" xmlns=\"\"><![CDATA[a]]><!-- c --></x></D:prop></D:set></D:propertyupdate>",
    "<D:propertyupdate xmlns:D=\"DAV:\" xmlns:q=\"u:q\"><D:set><D:prop><q:x q:a=\"1\"><q:y/></q:x><q:x>2</q:x></D:prop></D:set></D:propertyupdate>",
    "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner><a><b/></a></D:owner></D:lockinfo>",
    "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>",
    "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope/></D:lockinfo>",
    "<!DOCTYPE a [<!ENTITY b \"c\">]><D:propfind xmlns:D=\"DAV:\"><D:prop>&b;</D:prop></D:propfind>",
    "<D:propfind xmlns:D=\"DAV:\"",
];

/// Draws the parts of requests from bytes.
pub(super) struct Dice<'a>(pub(super) &'a [u8]);

impl Dice<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn one<'b>(&mut self, of: &'b [&'b str]) -> &'b str {
        of[usize::from(self.byte()) % of.len()]
    }

    /// One of these texts, now and then a damaged one, or arbitrary bytes.
    fn text(&mut self, of: &[&str], token: &str) -> Vec<u8> {
        let mut text = self.one(of).replace("TOKEN", token).into_bytes();
        match self.byte() {
            0..=199 => {}
            200..=239 if !text.is_empty() => {
                let at = usize::from(self.byte()) % text.len();
                text[at] = self.byte();
            }
            240..=247 => text.truncate(usize::from(self.byte()) % (text.len() + 1)),
            248..=251 => text.extend_from_slice(self.one(of).as_bytes()),
            _ => text = (0..self.byte() % 16).map(|_| self.byte()).collect(),
        }
        text
    }
}

pub(super) fn request(dice: &mut Dice<'_>, token: &str) -> (Http, Vec<u8>) {
    // Most requests are nearly valid: others do not get far.
    let good = !dice.byte().is_multiple_of(4);
    let method = dice.one(METHODS).to_owned();
    let target = match good {
        true => format!("/dav/{}", dice.one(PLACES)).into_bytes(),
        false => dice.text(TARGETS, token),
    };
    let target = String::from_utf8_lossy(&target).into_owned();
    let mut headers = Vec::new();
    let mut add = |name: &str, value: Vec<u8>| {
        headers.push(Header { name: name.to_owned(), value: Blob(value) });
    };
    if good {
        match &method[..] {
            "COPY" | "MOVE" => {
                add("destination", format!("/dav/{}", dice.one(PLACES)).into_bytes());
            }
            "UNLOCK" => add("lock-token", format!("<{token}>").into_bytes()),
            "PROPFIND" => add("depth", dice.one(&["0", "1"]).as_bytes().to_vec()),
            _ => {}
        }
    }
    let more = if good { dice.byte() % 2 } else { dice.byte() % 5 };
    for _ in 0..more {
        let (name, values) = HEADERS[usize::from(dice.byte()) % HEADERS.len()];
        add(name, dice.text(values, token));
    }
    let body = match (good, &method[..]) {
        (true, "PUT") => dice.one(BODIES).as_bytes().to_vec(),
        (true, "PROPFIND") => dice.one(&BODIES[2..6]).as_bytes().to_vec(),
        (true, "PROPPATCH") => dice.one(&BODIES[6..10]).as_bytes().to_vec(),
        (true, "LOCK") => dice.one(&BODIES[10..12]).as_bytes().to_vec(),
        (true, _) => Vec::new(),
        (false, _) => dice.text(BODIES, token),
    };
    (Http { method, target, headers }, body)
}

pub(super) fn world() -> World {
    let world = World::new();
    fill(&world);
    world
}

fn fill(world: &World) {
    world.write("a", "0123456789");
    world.write("d/b", "b");
    world.write("d/e/c", "c");
    let _ = rustix::fs::mknodat(
        rustix::fs::CWD,
        world.root().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    );
    for (target, link) in [("../secret", "out"), ("a", "in"), ("..", "up")] {
        let _ = std::fs::remove_file(world.root().join(link));
        let _ = std::os::unix::fs::symlink(target, world.root().join(link));
    }
}

/// Sends several requests in a row: none of them may panic, break off, reveal or change what is
/// outside, or leave anything unfinished.
fn play(world: &World, bytes: &[u8]) {
    let mut dice = Dice(bytes);
    let mut token = "urn:uuid:0".to_owned();
    while !dice.0.is_empty() {
        let (http, body) = request(&mut dice, &token);
        let broken = dice.byte() % 16 == 1;
        let before = world.names();
        let answered = world.ask_http(&http, &body, broken);
        let Ok(got) = answered else {
            assert!(broken, "{http:?} {body:?}");
            assert_eq!(world.names(), before, "{http:?}");
            continue;
        };
        assert_ne!(got.status, 500, "{http:?} {:?}", String::from_utf8_lossy(&body));
        assert!(!world.names().iter().any(|name| name.contains(".farwire-")), "{http:?}");
        if got.status == 207 {
            let shape = xml::check(&got.body[..got.body.len().min(64 << 10)]);
            let whole = got.body.len() > 64 << 10 || shape.is_ok();
            assert!(whole, "{http:?} {body:?} {}", String::from_utf8_lossy(&got.body));
        }
        if let Some(lock) = got.header("lock-token") {
            token = lock.trim_matches(['<', '>']).to_owned();
        }
        let now = world.time.load(Ordering::Relaxed);
        world.time.store(now + u64::from(dice.byte()) * 100, Ordering::Relaxed);
    }
}

#[test]
fn any_requests_are_answered() {
    thread_local! {
        static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    }
    bolero::check!().for_each(|bytes: &[u8]| {
        WORLD.with_borrow_mut(|kept| {
            let world = kept.get_or_insert_with(world);
            // The previous requests may have left anything.
            if bytes.len().is_multiple_of(8) || world.names().len() > 100 {
                *world = self::world();
            }
            play(world, bytes);
        });
    });
}

#[test]
fn made_up_requests_are_answered() {
    let rounds: u64 =
        std::env::var("FARWIRE_DAV_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut state = std::env::var("FARWIRE_DAV_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0x9e37_79b9_7f4a_7c15_u64);
    let mut kept = world();
    for round in 0..rounds {
        if round % 20 == 0 {
            kept = world();
        }
        let mut bytes = Vec::new();
        while bytes.len() < 400 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        play(&kept, &bytes);
    }
}
