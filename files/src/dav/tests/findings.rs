//! What dav-server does with requests that it never gets from us, and how we answer them.
//!
//! Each case was found by sending it requests past the filter. If one of these fails after an
//! update of dav-server, the reason for a rule of the filter is gone, and the rule may stay.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use dav_server::DavHandler;
use futures_util::Stream as _;

use super::super::fs::DavFiles;
use super::super::locks_of::LocksOf;
use super::*;
use crate::path::Rel;

/// How dav-server handled a request.
#[derive(Debug, Eq, PartialEq)]
enum Raw {
    Panicked,
    Waited,
    BrokeOff,
    Answered(u16, String),
}

impl Raw {
    fn status(&self) -> Option<u16> {
        match self {
            Self::Answered(status, _) => Some(*status),
            _ => None,
        }
    }
}

/// Nested elements.
fn deep(count: usize) -> String {
    let (open, close) = ("<a>".repeat(count), "</a>".repeat(count));
    format!("<D:propfind xmlns:D=\"DAV:\"><D:prop>{open}{close}</D:prop></D:propfind>")
}

/// A complete body.
struct Body(Option<Bytes>);

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

impl World {
    /// Asks dav-server directly.
    fn raw(&self, http: &Http, body: &[u8]) -> Option<Raw> {
        let mut asked = http::Request::builder().method(&http.method[..]).uri(&http.target[..]);
        for header in &http.headers {
            asked = asked.header(&header.name[..], &header.value[..]);
        }
        let body = (!body.is_empty()).then(|| Bytes::copy_from_slice(body));
        let asked = asked.body(Body(body)).ok()?;
        let files = DavFiles::new(&self.dav.tree, &self.dav.locks);
        let locks = LocksOf {
            locks: self.dav.locks.clone(),
            base: Rel::ROOT,
            prefix: "/dav".into(),
            tokens: Vec::new().into(),
            lasts: None,
        };
        let handler = DavHandler::builder()
            .strip_prefix("/dav")
            .filesystem(Box::new(files))
            .locksystem(Box::new(locks))
            .hide_symlinks(false)
            .build_handler();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(response) = pin!(handler.handle(asked)).poll(&mut context) else {
                return Raw::Waited;
            };
            let (head, mut body) = response.into_parts();
            let mut text = Vec::new();
            loop {
                match Pin::new(&mut body).poll_next(&mut context) {
                    Poll::Ready(Some(Ok(piece))) => text.extend_from_slice(&piece),
                    Poll::Ready(None) => break,
                    Poll::Ready(Some(Err(_))) => return Raw::BrokeOff,
                    Poll::Pending => return Raw::Waited,
                }
            }
            let text = String::from_utf8_lossy(&text).into_owned();
            Raw::Answered(head.status.as_u16(), text)
        }));
        Some(outcome.unwrap_or(Raw::Panicked))
    }

    /// Asks dav-server directly, and us.
    fn both(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (Raw, Got) {
        let header = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned(),
            value: Blob(value.as_bytes().to_vec()),
        };
        let http = Http {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.iter().map(header).collect(),
        };
        let raw = self.raw(&http, body).expect("a request that `http` can write");
        (raw, self.ask_http(&http, body, false).expect("an answer"))
    }
}

#[test]
fn an_if_header_that_does_not_end_makes_it_panic() {
    let world = World::new();
    world.write("a", "x");
    for value in ["<", "(<", "(<urn:x", "(["] {
        for method in ["PUT", "DELETE", "MKCOL", "PROPPATCH", "LOCK", "MOVE"] {
            let headers = [("if", value), ("destination", "/dav/b")];
            let (raw, got) = world.both(method, "/dav/a", &headers, b"");
            if matches!(method, "PROPPATCH" | "DELETE") {
                assert_eq!(raw, Raw::Panicked, "{method} {value}");
            }
            assert_eq!(got.status, 400, "{method} {value}");
        }
    }
}

#[test]
fn an_entity_tag_of_one_quote_makes_it_panic() {
    let world = World::new();
    world.write("a", "x");
    for header in ["if-match", "if-none-match", "if-range"] {
        let (raw, got) = world.both("GET", "/dav/a", &[(header, "\"")], b"");
        assert_eq!((raw, got.status), (Raw::Panicked, 400), "{header}");
    }
    // So is a well-formed one with a comma in it.
    for (header, status) in [("if-match", 412), ("if-none-match", 200)] {
        let (raw, got) = world.both("GET", "/dav/a", &[(header, "\",\"")], b"");
        assert_eq!((raw, got.status), (Raw::Panicked, status), "{header}");
    }
    let (raw, got) = world.both("DELETE", "/dav/a", &[("if", "([\"])")], b"");
    assert_eq!((raw, got.status), (Raw::Panicked, 400));
}

#[test]
fn ranges_that_do_not_add_up_make_it_panic() {
    let world = World::new();
    world.write("a", "0123456789");
    for range in ["bytes=0-18446744073709551615", "bytes=5-18446744073709551615"] {
        let (raw, got) = world.both("GET", "/dav/a", &[("range", range)], b"");
        // An impossible range is ignored.
        assert_eq!((raw, got.status, got.text()), (Raw::Panicked, 200, "0123456789"), "{range}");
    }
    let headers = [("content-range", "bytes 0-18446744073709551615/*"), ("content-length", "1")];
    let (raw, got) = world.both("PUT", "/dav/a", &headers, b"x");
    assert_eq!((raw, got.status), (Raw::Panicked, 400));
}

#[test]
fn paths_are_tidied_up_by_it() {
    let world = World::new();
    world.write("a", "x");
    for target in
        ["/dav/d/../a", "/dav//a", "/dav/./a", "/dav/%2e/a", "/dav/x/%2e%2e/a", "/dav/a?q"]
    {
        let (raw, got) = world.both("GET", target, &[], b"");
        assert_eq!((raw.status(), got.status), (Some(200), 400), "{target}");
    }
    // dav-server compares prefixes as bytes, and not as names.
    let (raw, got) = world.both("GET", "/dava", &[], b"");
    assert_eq!((raw.status(), got.status), (Some(200), 404));
}

#[test]
fn a_destination_on_another_host_is_taken_for_ours_by_it() {
    let world = World::new();
    world.write("a", "x");
    let headers = [("host", "here"), ("destination", "http://elsewhere/dav/a/b")];
    let (raw, got) = world.both("COPY", "/dav/a", &headers, b"");
    assert_eq!((raw.status(), got.status), (Some(409), 502));
}

#[test]
fn a_token_of_nobody_is_taken_for_that_of_a_lock() {
    let world = World::new();
    let (raw, _) = world.both("MKCOL", "/dav/d", &[("if", "(<urn:uuid:0>)")], b"");
    assert_eq!(raw.status(), Some(201));
    assert_eq!(world.status("MKCOL", "/dav/e", &[("If", "(<urn:uuid:0>)")]), 412);
}

/// Sends dav-server a body in a process of its own, which may not survive it.
#[test]
fn in_a_process_of_its_own() {
    if std::env::var_os("FARWIRE_DAV_DEEP").is_some() {
        let world = World::new();
        world.write("a", "x");
        let http = Http {
            method: "PROPPATCH".to_owned(),
            target: "/dav/a".to_owned(),
            headers: Vec::new(),
        };
        world.raw(&http, deep(9_000).as_bytes());
    }
}

#[test]
fn a_deep_body_ends_the_whole_process() {
    use std::os::unix::process::ExitStatusExt as _;
    let world = World::new();
    world.write("a", "x");
    for (method, depth) in [("PROPPATCH", &[][..]), ("PROPFIND", &[("Depth", "0")])] {
        assert_eq!(world.ask(method, "/dav/a", depth, deep(9_000).as_bytes()).status, 400);
    }
    // It recurses once per level, and nothing catches a stack overflow.
    let itself = std::env::current_exe().unwrap();
    let ended = std::process::Command::new(itself)
        .args(["--exact", "dav::tests::findings::in_a_process_of_its_own"])
        .env("FARWIRE_DAV_DEEP", "1")
        .output()
        .unwrap();
    assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
}

#[test]
fn every_element_of_a_body_carries_all_namespaces() {
    let world = World::new();
    world.write("a", "x");
    let body = |spaces: usize, elements: usize| {
        let spaces: String = (0..spaces).map(|n| format!("xmlns:n{n}='u:{n}' ")).collect();
        let elements = "<D:set><D:prop><a/></D:prop></D:set>".repeat(elements);
        format!("<D:propertyupdate xmlns:D=\"DAV:\" {spaces}>{elements}</D:propertyupdate>")
    };
    // A listing with 1,500 namespaces and 6,000 elements, in 53 kB, took 1.4 GB and 13 seconds.
    let large = body(1_500, 900);
    assert!(large.len() < xml::BODY);
    assert_eq!(world.ask("PROPPATCH", "/dav/a", &[], large.as_bytes()).status, 400);
    let (raw, got) = world.both("PROPPATCH", "/dav/a", &[], body(100, 10).as_bytes());
    assert_eq!((raw.status(), got.status), (Some(207), 400));
}

#[test]
fn a_destination_that_is_the_root_makes_it_panic() {
    let world = World::new();
    world.write("a", "x");
    for to in ["/dav", "/dav/"] {
        let (raw, got) = world.both("COPY", "/dav/a", &[("destination", to)], b"");
        assert_eq!((raw, got.status), (Raw::Panicked, 403), "{to}");
    }
}

#[test]
fn any_unfiltered_requests() {
    // To be run by hand: reports what makes dav-server panic, block or break off.
    let Some(rounds) = std::env::var("FARWIRE_DAV_RAW").ok().and_then(|text| text.parse().ok())
    else {
        return;
    };
    let mut state = 88_172_645_463_325_252_u64;
    let mut seen = std::collections::HashMap::<String, u64>::new();
    let mut kept = fuzz::world();
    for round in 0..rounds {
        if round % 50 == 0 {
            kept = fuzz::world();
        }
        let mut bytes = Vec::new();
        while bytes.len() < 64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        let (http, body) = fuzz::request(&mut fuzz::Dice(&bytes), "urn:uuid:0");
        let raw = kept.raw(&http, &body);
        if let Some(raw @ (Raw::Panicked | Raw::Waited | Raw::BrokeOff)) = &raw {
            let headers: Vec<_> = http
                .headers
                .iter()
                .map(|header| (&header.name, String::from_utf8_lossy(&header.value)))
                .collect();
            let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
            let key = format!("{raw:?} {} {names:?}", http.method);
            let count = seen.entry(key).or_default();
            *count += 1;
            if *count == 1 {
                let body = String::from_utf8_lossy(&body);
                eprintln!("{raw:?} {} {} {headers:?} {body}", http.method, http.target);
            }
        }
    }
}
