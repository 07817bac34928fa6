//! The requests that dav-server answers: reading, PROPPATCH, MKCOL and locks.
//!
//! It gets a request that was rewritten from what the filter has parsed. Everything that it awaits
//! is ready at once, so nothing blocks.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use dav_server::DavHandler;
use dav_server::body::Body;
use farwire_protocol::streams::files::{Head, ToBridge};
use futures_util::Stream as _;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode};

use super::body::body;
use super::filter::{DavRequest, Method};
use super::fs::DavFiles;
use super::locks::Touch;
use super::locks_of::LocksOf;
use super::reply::{Refusal, Reply, header};
use super::serving::{Now, Serving};
use super::xml::{self, Shape};
use crate::peer::{Broken, Peer};

/// The largest body of a LOCK, whose owner element is kept in memory.
const LOCK: usize = 4 << 10;

/// The most elements in it.
const LOCK_ELEMENTS: usize = 16;

/// Pieces of an answer are collected up to this size before they are sent.
const GATHERED: usize = 32 << 10;

/// A complete body.
struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

impl Serving<'_> {
    /// Answers through dav-server.
    pub(super) fn delegate(
        &self,
        request: &DavRequest,
        now: &Now,
        peer: &mut dyn Peer,
    ) -> Result<(), Broken> {
        let limit = match request.method {
            Method::Lock => LOCK,
            _ if request.has_xml() => xml::BODY,
            _ => 0,
        };
        let body = match body(peer, limit)? {
            Ok(body) => body,
            Err(_) if limit == 0 => return Reply::status(415).say(peer),
            Err(refusal) => return Reply::from(refusal).say(peer),
        };
        let shape = match &body[..] {
            [] => Ok(None),
            body => xml::check(body).map(Some),
        };
        if let (Method::PropPatch, Ok(Some(shape))) = (request.method, &shape)
            && let Some(answer) = self.set_time(request, now, shape, &body)
        {
            return answer.unwrap_or_else(Reply::from).say(peer);
        }
        let prepared = shape.and_then(|shape| {
            self.may(request, now, shape.as_ref())?;
            let files = DavFiles::new(self.tree, self.locks);
            let asked = self.write_anew(request, body).ok_or(Refusal::MALFORMED)?;
            Ok((files, asked))
        });
        let (files, asked) = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => return Reply::from(refusal).say(peer),
        };
        let Some(response) = at_once(self.handler(request, &files).handle(asked)) else {
            return Reply::status(500).say(peer);
        };
        pass_on(request.method, response, &files, peer)
    }

    /// Checks whether the request is allowed.
    fn may(&self, request: &DavRequest, now: &Now, shape: Option<&Shape>) -> Result<(), Refusal> {
        let path = &request.target.path;
        match request.method {
            Method::PropPatch => {
                let shape = shape.ok_or(Refusal::MALFORMED)?;
                if !shape.root.is("propertyupdate") {
                    return Err(Refusal::MALFORMED);
                }
                now.stat.ok_or(Refusal::status(404))?;
                self.check_unlocked(path, Touch::default())
            }
            Method::MkCol => {
                if now.stat.is_some() {
                    return Err(Refusal::status(405));
                }
                self.check_parent(path)?;
                self.check_unlocked(path, Touch { name: true, deep: false })
            }
            Method::Lock => self.may_lock(request, now, shape),
            _ => Ok(()),
        }
    }

    fn may_lock(
        &self,
        request: &DavRequest,
        now: &Now,
        shape: Option<&Shape>,
    ) -> Result<(), Refusal> {
        let path = &request.target.path;
        let Some(shape) = shape else {
            // A refresh names its lock by the only submitted token.
            let own = |token: &String| self.locks.has_token(&self.key(path), token);
            return match &self.tokens[..] {
                [] => Err(Refusal::MALFORMED),
                tokens if tokens.iter().filter(|token| own(token)).count() == 1 => Ok(()),
                _ => Err(Refusal::PRECONDITION),
            };
        };
        if !shape.root.is("lockinfo") || shape.elements > LOCK_ELEMENTS {
            return Err(Refusal::MALFORMED);
        }
        if self.locks.are_full() {
            return Err(Refusal::status(503));
        }
        if now.stat.is_none() {
            if request.target.slash {
                return Err(Refusal::status(409));
            }
            self.check_parent(path)?;
            self.check_unlocked(path, Touch { name: true, deep: false })?;
        }
        Ok(())
    }

    fn handler(&self, request: &DavRequest, files: &DavFiles) -> DavHandler {
        let locks = LocksOf {
            locks: self.locks.clone(),
            base: self.tree.base().clone(),
            prefix: self.prefix.into(),
            tokens: self.tokens.clone(),
            lasts: request.timeout,
        };
        let config = DavHandler::builder()
            .strip_prefix(self.prefix)
            .filesystem(Box::new(files.clone()))
            .hide_symlinks(false)
            .autoindex(false);
        // A read-only root has no locks.
        if self.read_only { config } else { config.locksystem(Box::new(locks)) }.build_handler()
    }

    /// Rewrites the request for dav-server.
    fn write_anew(&self, request: &DavRequest, body: Vec<u8>) -> Option<http::Request<Whole>> {
        let mut anew = http::Request::builder()
            .method(request.method.name())
            .uri(request.target.url(self.prefix));
        for (name, value) in &request.kept {
            anew = anew.header(*name, &value[..]);
        }
        if let Some(depth) = request.depth {
            use super::fields::Depth;
            let depth = match depth {
                Depth::Zero => "0",
                Depth::One => "1",
                Depth::Infinity => "infinity",
            };
            anew = anew.header("depth", depth);
        }
        if let Some(token) = &request.lock_token {
            anew = anew.header("lock-token", format!("<{token}>"));
        }
        if request.method == Method::Lock && body.is_empty() {
            let own =
                |token: &&String| self.locks.has_token(&self.key(&request.target.path), token);
            let token = self.tokens.iter().find(own)?;
            anew = anew.header("if", format!("(<{token}>)"));
        }
        let body = (!body.is_empty()).then(|| Bytes::from(body));
        anew.body(Whole(body)).ok()
    }
}

/// The result of a future that is ready. `None` if it would block.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Sends a response of dav-server's. File content is sent from the file itself.
fn pass_on(
    method: Method,
    response: Response<Body>,
    files: &DavFiles,
    peer: &mut dyn Peer,
) -> Result<(), Broken> {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONNECTION);
    if parts.status == StatusCode::NOT_MODIFIED {
        parts.headers.remove(CONTENT_LENGTH);
    }
    let mut headers: Vec<_> =
        parts.headers.iter().map(|(name, value)| header(name.as_str(), value.as_bytes())).collect();
    if matches!(method, Method::Get | Method::Head) {
        headers.push(header("x-content-type-options", b"nosniff"));
    }
    peer.say(&ToBridge::Head(Head { status: parts.status.as_u16(), headers }))?;
    if method == Method::Head {
        return Ok(());
    }
    let part = (method == Method::Get).then(|| part(parts.status, &parts.headers)).flatten();
    match (part, files.last_opened()) {
        (Some((offset, length)), Some(file)) => peer.file(&file, offset, length),
        _ => stream(body, peer),
    }
}

/// The part of the file in a response, if it is a single one.
fn part(status: StatusCode, headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let length = text(CONTENT_LENGTH)?.parse().ok()?;
    match status {
        StatusCode::OK => Some((0, length)),
        StatusCode::PARTIAL_CONTENT => {
            if text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("multipart/byteranges")) {
                return None;
            }
            let first = text(CONTENT_RANGE)?.strip_prefix("bytes ")?.split('-').next()?;
            Some((first.parse().ok()?, length))
        }
        _ => None,
    }
}

fn stream(mut body: Body, peer: &mut dyn Peer) -> Result<(), Broken> {
    let mut gathered = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut body).poll_next(&mut context) {
            Poll::Ready(Some(Ok(piece))) => {
                gathered.extend_from_slice(&piece);
                if gathered.len() >= GATHERED {
                    peer.data(&gathered)?;
                    gathered.clear();
                }
            }
            Poll::Ready(None) if gathered.is_empty() => return Ok(()),
            Poll::Ready(None) => return peer.data(&gathered),
            // The head has been sent already, so the answer can only break off.
            Poll::Ready(Some(Err(_))) | Poll::Pending => return Err(Broken),
        }
    }
}
