//! The head of an answer: what of it is the server's to say.
//!
//! What a server says is shown here at an address of this machine, where a page could act for
//! whoever opened it: read what else is served here, send requests with their password, set cookies
//! for other ports. So headers that a WebDAV client has a use for are carried, and no others, and
//! ours forbid a browser everything.

use farwire_protocol::streams::files::Head;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, LAST_MODIFIED, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};

use super::Body;

/// What is carried. Redirections are not: none is ours, and one could lead to another machine.
const CARRIED: [HeaderName; 13] = [
    ACCEPT_RANGES,
    ALLOW,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    ETAG,
    LAST_MODIFIED,
    RETRY_AFTER,
    HeaderName::from_static("dav"),
];

/// The same, of which the library has no names.
const CARRIED_DAV: [&str; 4] = ["lock-token", "ms-author-via", "timeout", "x-oc-mtime"];

/// Nothing of what is shown runs, is sent, or is part of another page.
const POLICY: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";

/// The answer with this body, which is `whole` or comes bit by bit.
pub(super) fn respond(head: Head, method: &Method, body: Body, whole: bool) -> Response<Body> {
    let mut response = Response::new(body);
    // 1xx would be no answer yet, and the next thing on the connection would be one.
    let status = StatusCode::from_u16(head.status).ok().filter(|status| status.as_u16() >= 200);
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    for header in head.headers {
        let Ok(name) = HeaderName::from_bytes(header.name.as_bytes()) else { continue };
        // What is there is counted here: after a shorter length the rest would be taken for an
        // answer of its own.
        let ours = name == CONTENT_LENGTH && whole && method != Method::HEAD;
        if let Ok(value) = HeaderValue::from_bytes(&header.value)
            && is_carried(&name, &value)
            && !ours
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn is_carried(name: &HeaderName, value: &HeaderValue) -> bool {
    let here = |value: &[u8]| value.starts_with(b"/") && !value.starts_with(b"//");
    if name == CONTENT_LOCATION && !here(value.as_bytes()) {
        return false;
    }
    CARRIED.contains(name) || CARRIED_DAV.contains(&name.as_str())
}

/// Says to browsers that they may do nothing with an answer but show it.
pub(super) fn forbid(headers: &mut HeaderMap) {
    let resources = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(resources, HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use farwire_protocol::streams::files::Header;
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    fn carried(method: &Method, status: u16, headers: &[(&str, &str)]) -> (u16, Vec<String>) {
        let header = |&(name, value): &(&str, &str)| Header {
            name: name.to_owned(),
            value: value.as_bytes().to_vec().into(),
        };
        let head = Head { status, headers: headers.iter().map(header).collect() };
        let body = Full::new(Bytes::from_static(b"<script>"));
        let body = body.map_err(|never| match never {}).boxed();
        let response = respond(head, method, body, true);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        (response.status().as_u16(), response.headers().iter().map(line).collect())
    }

    #[test]
    fn a_server_says_what_clients_have_a_use_for_and_nothing_that_commands_a_browser() {
        let says = [("Content-Type", "text/html"), ("ETag", "\"1\""), ("lock-token", "<a>")];
        let kept = ["content-type: text/html", "etag: \"1\"", "lock-token: <a>"];
        assert_eq!(carried(&Method::GET, 200, &says).1, kept);
        for (name, value) in [
            ("set-cookie", "a=b"),
            ("location", "http://evil.example/"),
            ("content-location", "//evil.example/"),
            ("refresh", "0;url=http://evil.example"),
            ("access-control-allow-origin", "*"),
            ("content-security-policy", "default-src *"),
            ("service-worker-allowed", "/"),
            ("www-authenticate", "Basic"),
            ("transfer-encoding", "chunked"),
            ("connection", "upgrade"),
            ("link", "<http://evil.example>; rel=preload"),
            ("no name", "a"),
        ] {
            let (_, headers) = carried(&Method::GET, 200, &[(name, value)]);
            assert!(headers.is_empty(), "{name}: {headers:?}");
        }
    }

    #[test]
    fn an_answer_is_one_answer() {
        let short = [("content-length", "0")];
        assert!(carried(&Method::GET, 200, &short).1.is_empty());
        assert_eq!(carried(&Method::HEAD, 200, &[("content-length", "9")]).1.len(), 1);
        assert_eq!(carried(&Method::GET, 101, &[]).0, 502);
        assert_eq!(carried(&Method::GET, 99, &[]).0, 502);
        assert_eq!(carried(&Method::GET, 207, &[]).0, 207);
    }
}
