//! Replies that we make ourselves: a status, a few headers, a short body or none.

use std::borrow::Cow;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Head, Header, ToBridge};

use super::target::url;
use crate::path::Rel;
use crate::peer::{Broken, Peer};

/// The methods that are allowed.
pub(super) const ALLOW: &str = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, COPY, MOVE, PROPFIND, \
                                PROPPATCH, LOCK, UNLOCK";

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    /// The status.
    pub status: u16,
    /// The name of the precondition that failed, if RFC 4918 has one.
    pub condition: Option<&'static str>,
}

impl Refusal {
    /// For a request that cannot be parsed, or can be parsed in two ways.
    pub(super) const MALFORMED: Self = Self::status(400);
    /// For a request that is not allowed.
    pub(super) const FORBIDDEN: Self = Self::status(403);
    /// For a resource that is not as expected.
    pub(super) const PRECONDITION: Self = Self::status(412);
    /// For a lock whose token was not submitted.
    pub(super) const LOCKED: Self = Self { status: 423, condition: Some("lock-token-submitted") };

    /// A status without a body.
    pub(super) const fn status(status: u16) -> Self {
        Self { status, condition: None }
    }

    /// The status for a failure of the tree.
    pub(super) fn from_failure(failure: &Failure) -> Self {
        Self::status(match failure.kind {
            Kind::NoSuchFile | Kind::NotADirectory => 404,
            Kind::FileExists | Kind::ChangedMeanwhile => 412,
            Kind::ReadOnly
            | Kind::OutsideRoot
            | Kind::PermissionDenied
            | Kind::NotAFile
            | Kind::DirectoryNotEmpty
            | Kind::Unsupported => 403,
            Kind::DiskFull => 507,
            Kind::TooLarge => 413,
            Kind::InvalidArgument => 400,
            Kind::Busy | Kind::ResourceExhausted | Kind::Overloaded => 503,
            _ => 500,
        })
    }
}

/// A reply that is not streamed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Reply {
    /// The status.
    pub status: u16,
    /// The headers except the length.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// Its body.
    pub body: String,
}

impl Reply {
    /// A reply with only a status.
    pub(super) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// A reply with a status for each of several paths.
    pub(super) fn several(prefix: &str, parts: &[(Rel, u16)]) -> Self {
        let mut body = String::from(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:multistatus xmlns:D=\"DAV:\">",
        );
        for (path, status) in parts {
            // Our URLs contain nothing that would have to be escaped in XML.
            body.push_str("<D:response><D:href>");
            body.push_str(&url(prefix, path, false));
            body.push_str("</D:href><D:status>HTTP/1.1 ");
            body.push_str(&status.to_string());
            body.push(' ');
            body.push_str(reason(*status));
            body.push_str("</D:status></D:response>");
        }
        body.push_str("</D:multistatus>");
        Self { status: 207, headers: vec![XML], body }
    }

    /// Sends the reply.
    pub(super) fn say(self, peer: &mut dyn Peer) -> Result<(), Broken> {
        let mut headers: Vec<Header> =
            self.headers.iter().map(|(name, value)| header(name, value.as_bytes())).collect();
        if self.status != 204 {
            headers.push(header("content-length", self.body.len().to_string().as_bytes()));
        }
        peer.say(&ToBridge::Head(Head { status: self.status, headers }))?;
        match self.body.is_empty() {
            true => Ok(()),
            false => peer.data(self.body.as_bytes()),
        }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let mut answer = Self::status(refusal.status);
        if refusal.status == 405 {
            answer.headers.push(("allow", ALLOW.into()));
        }
        if let Some(condition) = refusal.condition {
            answer.headers.push(XML);
            answer.body = format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
                 <D:error xmlns:D=\"DAV:\"><D:{condition}/></D:error>"
            );
        }
        answer
    }
}

/// The content type of our bodies.
pub(super) const XML: (&str, Cow<'static, str>) =
    ("content-type", Cow::Borrowed("application/xml; charset=utf-8"));

/// A header.
pub(super) fn header(name: &str, value: &[u8]) -> Header {
    Header { name: name.to_owned(), value: Blob(value.to_vec()) }
}

fn reason(status: u16) -> &'static str {
    match status {
        403 => "Forbidden",
        423 => "Locked",
        424 => "Failed Dependency",
        _ => "Error",
    }
}
