//! The form that a request must have before anything looks at files because of it.
//!
//! Everything that matters is parsed here, once. What is passed on is rewritten from the parsed
//! values. Unknown headers are dropped.

use std::borrow::Cow;
use std::time::Duration;

use farwire_protocol::streams::files::Http;

use super::condition::{Conditions, If};
use super::fields::{self, Depth};
use super::reply::Refusal;
use super::target::{RequestTarget, is_authority};

/// The most bytes of all headers together.
const HEADERS: usize = 16 << 10;

/// The most headers.
const COUNT: usize = 128;

/// The methods that are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Options,
    Get,
    Head,
    Put,
    Delete,
    MkCol,
    Copy,
    Move,
    PropFind,
    PropPatch,
    Lock,
    Unlock,
}

/// A request whose form has been checked.
#[derive(Clone, Debug)]
pub(super) struct DavRequest {
    /// The method.
    pub method: Method,
    /// The resource.
    pub target: RequestTarget,
    /// The destination of a copy or a move.
    pub destination: Option<RequestTarget>,
    /// How far down it reaches.
    pub depth: Option<Depth>,
    /// Whether an existing destination may be replaced.
    pub overwrite: bool,
    /// The `If` header, which must hold.
    pub only_if: Option<If>,
    /// The other conditions, which must hold too.
    pub conditions: Conditions,
    /// The lock to remove.
    pub lock_token: Option<String>,
    /// How long a lock is to last.
    pub timeout: Option<Duration>,
    /// The length of the body.
    pub length: Option<u64>,
    /// The modification time of a PUT, in nanoseconds since 1970.
    pub modified: Option<i64>,
    /// Headers that are passed on.
    pub kept: Vec<(&'static str, Vec<u8>)>,
}

/// Headers that are passed on once they are known to be well-formed. Entity tags are rewritten.
const KEPT: &[&str] = &[
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "range",
    "user-agent",
];

/// Headers that are parsed here.
const READ: &[&str] = &[
    "host",
    "content-length",
    "content-range",
    "x-oc-mtime",
    "depth",
    "destination",
    "if",
    "lock-token",
    "overwrite",
    "timeout",
];

impl Method {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "OPTIONS" => Self::Options,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "MKCOL" => Self::MkCol,
            "COPY" => Self::Copy,
            "MOVE" => Self::Move,
            "PROPFIND" => Self::PropFind,
            "PROPPATCH" => Self::PropPatch,
            "LOCK" => Self::Lock,
            "UNLOCK" => Self::Unlock,
            _ => return None,
        })
    }

    /// The name of the method.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::MkCol => "MKCOL",
            Self::Copy => "COPY",
            Self::Move => "MOVE",
            Self::PropFind => "PROPFIND",
            Self::PropPatch => "PROPPATCH",
            Self::Lock => "LOCK",
            Self::Unlock => "UNLOCK",
        }
    }

    /// Whether the method changes anything, including locks.
    pub(super) fn changes(self) -> bool {
        !matches!(self, Self::Options | Self::Get | Self::Head | Self::PropFind)
    }
}

/// The headers that matter, each of which occurs once.
#[derive(Default)]
struct Headers<'a>(Vec<(&'static str, &'a [u8])>);

impl<'a> Headers<'a> {
    fn read(http: &'a Http) -> Result<Self, Refusal> {
        let bytes = http.headers.iter().map(|header| header.name.len() + header.value.len());
        if http.headers.len() > COUNT || bytes.sum::<usize>() > HEADERS {
            return Err(Refusal::status(431));
        }
        let mut headers = Self::default();
        for header in &http.headers {
            let known = KEPT.iter().chain(READ).find(|name| header.name.eq_ignore_ascii_case(name));
            let Some(&name) = known else { continue };
            let value = header.value.trim_ascii();
            let printable = value.iter().all(|&byte| (b' '..=b'~').contains(&byte));
            if name == "user-agent" && (!printable || headers.get(name).is_some()) {
                continue;
            }
            if !printable || headers.get(name).is_some() {
                return Err(Refusal::MALFORMED);
            }
            headers.0.push((name, value));
        }
        Ok(headers)
    }

    fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    fn read_with<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a [u8]) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        self.get(name).map(read).transpose()
    }
}

/// Parses a request.
pub(super) fn filter(http: &Http, prefix: &str, read_only: bool) -> Result<DavRequest, Refusal> {
    let method = Method::parse(&http.method).ok_or(Refusal::status(405))?;
    let headers = Headers::read(http)?;
    let host = headers.get("host").unwrap_or_default();
    if !host.is_empty() && !is_authority(host) {
        return Err(Refusal::MALFORMED);
    }
    let (target, authority) = RequestTarget::parse(http.target.as_bytes(), prefix)?;
    let host = authority.unwrap_or(host);
    if read_only && method.changes() {
        return Err(Refusal::FORBIDDEN);
    }
    // Partial writes are refused: a file is replaced as a whole.
    if headers.get("content-range").is_some() {
        return Err(Refusal::MALFORMED);
    }
    let destination = match method {
        Method::Copy | Method::Move => {
            headers.read_with("destination", |value| read_destination(value, prefix, host))?
        }
        _ => None,
    };
    let only_if = headers.read_with("if", |value| If::parse(value, prefix, host))?;
    let conditions = Conditions {
        matches: headers.read_with("if-match", fields::tags)?,
        none_matches: headers.read_with("if-none-match", fields::tags)?,
        unmodified_since: headers.read_with("if-unmodified-since", fields::date)?,
    };
    headers.read_with("if-modified-since", fields::date)?;
    // An invalid range is ignored (RFC 9110, section 14.2).
    let has_range = headers.get("range").is_some_and(|range| fields::ranges(range).is_ok());
    headers.read_with("if-range", fields::state_or_date)?;
    let mut request = DavRequest {
        method,
        target,
        destination,
        depth: headers.read_with("depth", fields::depth)?,
        overwrite: headers.read_with("overwrite", fields::overwrite)?.unwrap_or(true),
        only_if,
        conditions,
        lock_token: headers.read_with("lock-token", fields::lock_token)?,
        timeout: headers.read_with("timeout", fields::timeout)?,
        length: headers.read_with("content-length", |value| fields::number(value, 18))?,
        modified: headers.read_with("x-oc-mtime", fields::moment)?,
        kept: Vec::new(),
    };
    request.kept = KEPT
        .iter()
        .filter(|name| **name != "range" || has_range)
        .filter_map(|name| {
            headers.get(name).map(|value| (*name, request.conditions.anew(name, value)))
        })
        .collect();
    request.suits_its_method()?;
    Ok(request)
}

fn read_destination(value: &[u8], prefix: &str, host: &[u8]) -> Result<RequestTarget, Refusal> {
    match RequestTarget::parse(&without_user(value), prefix) {
        Ok((_, Some(authority))) if !authority.eq_ignore_ascii_case(host) => {
            Err(Refusal::status(502))
        }
        Ok((target, _)) => Ok(target),
        // It is in another root, or one of our hidden names.
        Err(refusal) if refusal.status == 404 => Err(Refusal::FORBIDDEN),
        Err(refusal) => Err(refusal),
    }
}

/// A URL without user name and password, which some clients repeat from the URL that they were
/// given.
fn without_user(url: &[u8]) -> Cow<'_, [u8]> {
    let parts = || {
        let at = memchr::memmem::find(url, b"://")? + 3;
        let rest = url.get(at..)?;
        let authority = rest.get(..memchr::memchr(b'/', rest)?)?;
        let user = memchr::memrchr(b'@', authority)?;
        Some([url.get(..at)?, rest.get(user + 1..)?].concat())
    };
    let rooted = url.starts_with(b"/");
    parts().filter(|_| !rooted).map_or(Cow::Borrowed(url), Cow::Owned)
}

impl DavRequest {
    /// Refuses a combination that the method does not allow.
    fn suits_its_method(&self) -> Result<(), Refusal> {
        match self.method {
            Method::Lock if self.depth == Some(Depth::One) => Err(Refusal::MALFORMED),
            Method::Unlock if self.lock_token.is_none() => Err(Refusal::MALFORMED),
            Method::Delete if self.depth == Some(Depth::One) => Err(Refusal::MALFORMED),
            Method::Delete if self.target.path.is_root() => Err(Refusal::FORBIDDEN),
            Method::Copy | Method::Move => {
                let destination = self.destination.as_ref().ok_or(Refusal::MALFORMED)?;
                if self.depth == Some(Depth::One) {
                    return Err(Refusal::MALFORMED);
                }
                let (from, to) = (&self.target.path, &destination.path);
                let apart = !from.is_root()
                    && !to.is_root()
                    && from.beneath(to).is_none()
                    && to.beneath(from).is_none();
                if apart { Ok(()) } else { Err(Refusal::FORBIDDEN) }
            }
            _ => Ok(()),
        }
    }

    /// Whether it has a body that is read before anything is done.
    pub(super) fn has_xml(&self) -> bool {
        matches!(self.method, Method::PropFind | Method::PropPatch | Method::Lock)
    }
}

#[cfg(test)]
mod tests;
