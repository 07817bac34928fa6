//! What the filter accepts, and what it turns it into.

use farwire_protocol::cbor::Blob;
use farwire_protocol::streams::files::Header;
use proptest::prelude::*;

use super::*;

fn http(method: &str, target: &str, headers: &[(&str, &str)]) -> Http {
    let header = |(name, value): &(&str, &str)| Header {
        name: (*name).to_owned(),
        value: Blob(value.as_bytes().to_vec()),
    };
    Http {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: headers.iter().map(header).collect(),
    }
}

fn status(method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
    filter(&http(method, target, headers), "/dav", false).map_or_else(|no| no.status, |_| 200)
}

#[test]
fn methods_are_those_of_a_list() {
    for method in ["PATCH", "POST", "REPORT", "MKCALENDAR", "TRACE", "CONNECT", "get", "", "SEARCH"]
    {
        assert_eq!(status(method, "/dav/a", &[]), 405, "{method}");
    }
    for method in ["OPTIONS", "GET", "HEAD", "PUT", "DELETE", "MKCOL", "PROPPATCH", "LOCK"] {
        assert_eq!(status(method, "/dav/a", &[]), 200, "{method}");
    }
}

#[test]
fn nothing_is_changed_where_nothing_may_be() {
    let extra = [("destination", "/dav/b"), ("lock-token", "<urn:a>"), ("depth", "0")];
    for method in ["PUT", "DELETE", "MKCOL", "COPY", "MOVE", "PROPPATCH", "LOCK", "UNLOCK"] {
        let refused = filter(&http(method, "/dav/a", &extra), "/dav", true);
        assert_eq!(refused.unwrap_err(), Refusal::FORBIDDEN, "{method}");
    }
    for method in ["OPTIONS", "GET", "HEAD", "PROPFIND"] {
        assert!(filter(&http(method, "/dav/a", &extra), "/dav", true).is_ok(), "{method}");
    }
}

#[test]
fn depth_suits_the_method() {
    for (method, depth, expected) in [
        ("PROPFIND", None, 200),
        ("PROPFIND", Some("infinity"), 200),
        ("PROPFIND", Some("Infinity"), 200),
        ("PROPFIND", Some("0"), 200),
        ("PROPFIND", Some("1"), 200),
        ("PROPFIND", Some("2"), 400),
        ("PROPFIND", Some("1,noroot"), 400),
        ("DELETE", Some("infinity"), 200),
        ("DELETE", Some("1"), 400),
        ("COPY", Some("0"), 200),
        ("COPY", Some("1"), 400),
        ("MOVE", Some("infinity"), 200),
        ("MOVE", Some("1"), 400),
        ("LOCK", Some("1"), 400),
        ("LOCK", None, 200),
        ("GET", Some("x"), 400),
    ] {
        let mut headers = vec![("Destination", "/dav/b")];
        headers.extend(depth.map(|depth| ("Depth", depth)));
        assert_eq!(status(method, "/dav/a", &headers), expected, "{method} {depth:?}");
    }
}

#[test]
fn a_destination_is_elsewhere_beneath_the_same_root() {
    for (from, to, expected) in [
        ("/dav/a", "/dav/b", 200),
        ("/dav/a", "http://h:1/dav/b", 200),
        ("/dav/a", "HTTP://H:1/dav/b/", 200),
        ("/dav/a", "http://other/dav/b", 502),
        ("/dav/a", "http://farwire:secret@h:1/dav/b", 200),
        ("/dav/a", "http://u:p%40@h:1/dav/b", 200),
        ("/dav/a", "http://h:1@other/dav/b", 502),
        ("/dav/a", "/dav/http://u@h/b", 400),
        ("/dav/a", "http://h:1/dav/u@b", 200),
        ("/dav/a", "http://h/dav/b", 502),
        ("http://x/dav/a", "http://x/dav/b", 200),
        ("http://x/dav/a", "http://h:1/dav/b", 502),
        ("/dav/a", "/other/b", 403),
        ("/dav/a", "/dav/.farwire-x", 403),
        ("/dav/a", "/dav/../b", 400),
        ("/dav/a", "/dav/%2e%2e/b", 400),
        ("/dav/a", "b", 400),
        ("/dav/a", "", 400),
        ("/dav/a", "file:///dav/b", 400),
        ("/dav/a", "/dav/b?x", 400),
        ("/dav/a", "/dav", 403),
        ("/dav/", "/dav/b", 403),
        ("/dav/a", "/dav/a", 403),
        ("/dav/a", "/dav/%61", 403),
        ("/dav/a", "/dav/a/", 403),
        ("/dav/a", "/dav/a/b", 403),
        ("/dav/a/b", "/dav/a", 403),
        ("/dav/a", "/dav/ab", 200),
    ] {
        for method in ["COPY", "MOVE"] {
            let headers = [("Host", "h:1"), ("Destination", to)];
            assert_eq!(status(method, from, &headers), expected, "{method} {from} {to}");
        }
    }
    assert_eq!(status("COPY", "/dav/a", &[]), 400);
    assert_eq!(status("DELETE", "/dav/", &[]), 403);
    assert_eq!(status("DELETE", "/dav", &[]), 403);
}

#[test]
fn headers_are_well_formed_and_there_once() {
    for (name, value) in [
        ("depth", "x"),
        ("overwrite", "X"),
        ("if", "("),
        ("if", "<"),
        ("if", "([\"])"),
        ("if-match", "\""),
        ("if-none-match", "\""),
        ("if-modified-since", "yesterday"),
        ("if-unmodified-since", "0"),
        ("if-range", "\""),
        ("if-range", "\"a\", \"b\""),
        ("lock-token", "<"),
        ("timeout", "Second-x"),
        ("x-oc-mtime", "yesterday"),
        ("content-range", "bytes 0-1/2"),
        ("content-length", "-1"),
        ("content-length", "1, 1"),
        ("host", "a b"),
        ("host", "a/b"),
        ("destination", "/dav/\u{1b}"),
    ] {
        assert_eq!(status("PUT", "/dav/a", &[(name, value)]), 400, "{name}: {value}");
    }
    for (name, value) in [
        ("Depth", "0"),
        ("If", "(<urn:a>)"),
        ("Host", "h"),
        ("If-Match", "*"),
        ("Content-Length", "1"),
        ("Range", "bytes=0-1"),
    ] {
        assert_eq!(status("PUT", "/dav/a", &[(name, value)]), 200, "{name}");
        let lower = name.to_ascii_lowercase();
        assert_eq!(status("PUT", "/dav/a", &[(name, value), (&lower, value)]), 400, "{name}");
    }
    let long = "x".repeat(16 << 10);
    assert_eq!(status("GET", "/dav/a", &[("x-long", &long)]), 431);
    assert_eq!(status("GET", "/dav/a", &vec![("a", "b"); 129]), 431);
}

#[test]
fn a_range_that_makes_no_sense_is_as_if_it_were_not_there() {
    for range in ["items=0-5", "bytes=5-2", "bytes=0-18446744073709551615", "bytes=", "x"] {
        let request = filter(&http("GET", "/dav/a", &[("Range", range)]), "/dav", false).unwrap();
        assert_eq!(request.kept, [], "{range}");
    }
    let request = filter(&http("GET", "/dav/a", &[("Range", "bytes=0-5")]), "/dav", false).unwrap();
    assert_eq!(request.kept, [("range", b"bytes=0-5".to_vec())]);
}

#[test]
fn what_is_not_known_is_dropped() {
    let headers = [
        ("X-Expected-Entity-Length", "5"),
        ("X-Litmus", "infinite"),
        ("X-Update-Range", "append"),
        ("OC-Checksum", "SHA1:x"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Type", "application/x-sabredav-partialupdate"),
        ("User-Agent", "test/1"),
    ];
    let request = filter(&http("PUT", "/dav/a", &headers), "/dav", false).unwrap();
    assert_eq!(request.kept, [("user-agent", b"test/1".to_vec())]);
    assert_eq!(request.length, None);
    // A client that cannot write its name properly has none.
    let request = filter(&http("GET", "/dav/a", &[("user-agent", "\u{7f}")]), "/dav", false);
    assert!(request.unwrap().kept.is_empty());
}

proptest! {
    #[test]
    fn what_passes_is_bounded(
        method in "GET|PUT|COPY|MOVE|LOCK|PROPFIND|DELETE",
        target in "/dav(/[a-c.%25e]{0,6}){0,4}",
        destination in "(http://h)?/dav(/[a-c.%25e]{0,6}){0,4}",
        depth in "0|1|2|infinity|",
    ) {
        let headers = [("host", "h"), ("destination", &destination[..]), ("depth", &depth)];
        if let Ok(request) = filter(&http(&method, &target, &headers), "/dav", false)
            && let Some(to) = &request.destination
            && matches!(request.method, Method::Copy | Method::Move)
        {
            let from = &request.target.path;
            prop_assert!(!from.is_root() && !to.path.is_root());
            prop_assert!(from.beneath(&to.path).is_none() && to.path.beneath(from).is_none());
        }
    }
}

#[test]
fn any_request_is_read_or_refused() {
    bolero::check!().with_type::<(String, String, Vec<(u8, Vec<u8>)>)>().for_each(
        |(method, target, headers)| {
            let names: Vec<_> = KEPT.iter().chain(READ).collect();
            let header = |(at, value): &(u8, Vec<u8>)| Header {
                name: (*names[usize::from(*at) % names.len()]).to_owned(),
                value: Blob(value.clone()),
            };
            let mut http = http(method, target, &[]);
            http.headers = headers.iter().map(header).collect();
            let _ = filter(&http, "/dav", false);
            http.method = "MOVE".to_owned();
            http.target = format!("/dav/{target}");
            if let Ok(request) = filter(&http, "/dav", false) {
                assert!(request.destination.is_some() && !request.target.path.is_root());
            }
        },
    );
}
