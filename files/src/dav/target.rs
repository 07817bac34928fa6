//! The path in a request target or a `Destination`, parsed once and strictly.
//!
//! Nothing is normalized. What could be parsed in two ways is refused, so that nobody behind us can
//! read it the other way.

use farwire_protocol::failure::Kind;
use farwire_protocol::streams::files::{DEPTH_LIMIT, NAME_LIMIT, PATH_LIMIT};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::reply::Refusal;
use crate::path::Rel;

/// The characters that are not escaped in our URLs.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The longest host name, with a port.
const AUTHORITY: usize = 255 + 6;

/// A path beneath the root, and how it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct RequestTarget {
    /// The path.
    pub path: Rel,
    /// Whether a slash followed it.
    pub slash: bool,
    /// Whether a name in it has characters that no client should use: such a file can be accessed,
    /// and not created.
    pub odd: bool,
}

impl RequestTarget {
    /// Parses a target: a path that begins with the prefix, or a whole URL with such a path.
    /// Returns the authority too, if there was one.
    pub(super) fn parse<'a>(
        text: &'a [u8],
        prefix: &str,
    ) -> Result<(Self, Option<&'a [u8]>), Refusal> {
        let (authority, path) = match text.first() {
            Some(b'/') => (None, text),
            _ => {
                let (authority, path) = absolute(text).ok_or(Refusal::MALFORMED)?;
                (Some(authority), path)
            }
        };
        Ok((Self::parse_path(path, prefix)?, authority))
    }

    fn parse_path(path: &[u8], prefix: &str) -> Result<Self, Refusal> {
        // Escapes take three bytes for each byte of a path.
        if path.len() > 3 * PATH_LIMIT + prefix.len() + 2 {
            return Err(Refusal::status(414));
        }
        let plain = path.iter().all(|&byte| byte.is_ascii_graphic() && !b"?#\\".contains(&byte));
        if !plain {
            return Err(Refusal::MALFORMED);
        }
        // A malformed path is refused wherever it leads.
        let mut names = Vec::new();
        let (body, slash) = match path.strip_suffix(b"/") {
            Some(body) => (body, true),
            None => (path, false),
        };
        for name in body.split(|&byte| byte == b'/').skip(1) {
            names.push(decode(name)?);
        }
        let prefix = prefix.strip_prefix('/').unwrap_or(prefix).as_bytes();
        // The prefix must not be escaped: in front of the root, a path has one spelling.
        let first = body.split(|&byte| byte == b'/').nth(1).unwrap_or_default();
        if first != prefix {
            return Err(Refusal::status(404));
        }
        let odd = !names.iter().all(|name| is_plain(name));
        let path = names.get(1..).unwrap_or_default().join(&b'/');
        if path.len() > PATH_LIMIT {
            return Err(Refusal::status(414));
        }
        if names.len() > DEPTH_LIMIT + 1 || names.iter().any(|name| name.len() > NAME_LIMIT) {
            return Err(Refusal::MALFORMED);
        }
        let path = Rel::parse(&path).map_err(|failure| match failure.kind {
            Kind::NoSuchFile => Refusal::status(404),
            _ => Refusal::MALFORMED,
        })?;
        Ok(Self { path, slash, odd })
    }

    /// The URL as we write it.
    pub(super) fn url(&self, prefix: &str) -> String {
        url(prefix, &self.path, self.slash || self.path.is_root())
    }
}

/// The URL of a path, with a slash at the end for a directory.
pub(super) fn url(prefix: &str, path: &Rel, directory: bool) -> String {
    let mut url = format!("{prefix}/{}", percent_encode(path.as_bytes(), PLAIN));
    if directory && !url.ends_with('/') {
        url.push('/');
    }
    url
}

/// Whether a name has neither control characters, including those of Latin-1, nor a backslash,
/// which some clients take for a slash.
fn is_plain(name: &[u8]) -> bool {
    let second = |pair: &[u8]| matches!(pair, [0xc2, 0x80..=0x9f]);
    !name.iter().any(|&byte| byte.is_ascii_control() || byte == b'\\')
        && !name.windows(2).any(second)
}

/// Whether this can be a prefix: `/` and a word.
pub(super) fn is_prefix(text: &str) -> bool {
    let Some(word) = text.strip_prefix('/') else { return false };
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
    };
    !word.is_empty()
        && word.len() <= NAME_LIMIT
        && word.bytes().all(plain)
        && word.bytes().any(|byte| byte != b'.')
}

/// Splits a whole URL into authority and path.
fn absolute(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let scheme = text.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = text.split_at(scheme);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let slash = rest.iter().position(|&byte| byte == b'/')?;
    let (authority, path) = rest.split_at(slash);
    is_authority(authority).then_some((authority, path))
}

/// Whether this is a host name or an address, with or without a port.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
    (1..=AUTHORITY).contains(&text.len()) && text.iter().all(plain)
}

/// Unescapes one name, once.
fn decode(name: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut rest = name;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let digits = rest.get(at + 1..at + 3).ok_or(Refusal::MALFORMED)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Refusal::MALFORMED);
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    let decoded: Vec<u8> = percent_decode(name).collect();
    let bad = |&byte: &u8| matches!(byte, b'/' | 0);
    match decoded.is_empty() || decoded == b"." || decoded == b".." || decoded.iter().any(bad) {
        true => Err(Refusal::MALFORMED),
        false => Ok(decoded),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(text: &str) -> u16 {
        match RequestTarget::parse(text.as_bytes(), "/dav") {
            Err(refusal) => refusal.status,
            // So it is answered unless such a thing is there.
            Ok((target, _)) if target.odd => 400,
            Ok(_) => 200,
        }
    }

    #[test]
    fn what_tries_to_lead_out_is_refused() {
        for (text, expected) in [
            ("/dav/../O", 400),
            ("/dav/%2e%2e/O", 400),
            ("/dav/%2E%2e%2fO", 400),
            ("/dav/%252e%252e/O", 200),
            ("/dav/..%5cO", 400),
            ("/dav/..\\O", 400),
            ("/dav/....//O", 400),
            ("/dav/.../O", 200),
            ("/dav/a/../../O", 400),
            ("/dav/%c0%ae%c0%ae/O", 200),
            ("/dav/..;/O", 200),
            ("/dav/..%00/O", 400),
            ("//O", 400),
            ("http://h//O", 400),
            ("http://h/dav/../O", 400),
            ("http://h/dav/a", 200),
            ("HTTPS://[::1]:80/dav", 200),
            ("http:///dav/a", 400),
            ("http://u@h/dav/a", 400),
            ("ftp://h/dav/a", 400),
            ("davO", 400),
            ("*", 400),
            ("", 400),
            ("/", 404),
            ("/davO", 404),
            ("/dav.bak/x", 404),
            ("/DAV/x", 404),
            ("/%64av/x", 404),
            ("/dav", 200),
            ("/dav/", 200),
            ("/dav//", 400),
            ("/dav/a//b", 400),
            ("/dav/./a", 400),
            ("/dav/a%00.txt", 400),
            ("/dav/a%0d%0aX:%20y", 400),
            ("/dav/%1b]52;c;x%07", 400),
            ("/dav/a%7f", 400),
            ("/dav/a%c2%9b", 400),
            ("/dav/a%c2%a0", 200),
            ("/dav/a%", 400),
            ("/dav/a%4", 400),
            ("/dav/a%zz", 400),
            ("/dav/a%2Fb", 400),
            ("/dav/a?b", 400),
            ("/dav/a#b", 400),
            ("/dav/a b", 400),
            ("/dav/ä", 400),
            ("/dav/.farwire-tmp-1", 404),
            ("/dav/%2efarwire-x/a", 404),
            ("/dav/%e4", 200),
        ] {
            assert_eq!(status(text), expected, "{text}");
        }
    }

    #[test]
    fn lengths_and_depths_have_limits() {
        let deep = |count: usize| format!("/dav{}", "/a".repeat(count));
        assert_eq!((status(&deep(64)), status(&deep(1_000))), (200, 200));
        assert_eq!(status(&deep(10_000)), 414);
        let long = |count: usize| format!("/dav/{}", "a".repeat(count));
        assert_eq!((status(&long(255)), status(&long(256))), (200, 400));
        assert_eq!(status(&long(10_000)), 414);
        assert_eq!(status(&format!("/dav/{}", "%41".repeat(255))), 200);
    }

    #[test]
    fn a_prefix_is_one_word() {
        for good in ["/work", "/a.b-c_1"] {
            assert!(is_prefix(good), "{good}");
        }
        for bad in ["", "/", "work", "/a/b", "/A", "/..", "/.", "/%41", "/a/", "/ä", "/a b"] {
            assert!(!is_prefix(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_stays_beneath_the_root_and_reads_the_same_again(text in "(/dav|/|http://h)?[/a%.2eE5cfF0\\\\;~ -]{0,40}") {
            if let Ok((target, _)) = RequestTarget::parse(text.as_bytes(), "/dav") {
                prop_assert!(target.path.names().all(|name| name != b".." && name != b"."));
                let url = target.url("/dav");
                let (again, authority) = RequestTarget::parse(url.as_bytes(), "/dav").unwrap();
                prop_assert_eq!(&again.path, &target.path);
                prop_assert!(authority.is_none());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok((target, _)) = RequestTarget::parse(bytes, "/dav") {
                let url = target.url("/dav");
                let (again, _) = RequestTarget::parse(url.as_bytes(), "/dav").unwrap();
                assert_eq!(again.path, target.path);
                assert_eq!(target.odd, !target.path.names().all(is_plain));
            }
        });
    }
}
