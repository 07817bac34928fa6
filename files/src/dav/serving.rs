//! Serves one request, from its parsed form to its reply.

use std::sync::Arc;

use farwire_protocol::failure::Kind;
use farwire_protocol::streams::files::What;

use super::condition::{If, ResourceState};
use super::filter::{DavRequest, Method};
use super::locks::{Locks, Touch};
use super::reply::{ALLOW, Refusal, Reply};
use crate::path::Rel;
use crate::peer::{Broken, Peer};
use crate::tree::{Stat, Tree};

/// What serving a request needs.
#[derive(Debug)]
pub(super) struct Serving<'a> {
    /// The files.
    pub tree: &'a Arc<Tree>,
    /// The locks.
    pub locks: &'a Arc<Locks>,
    /// The prefix of all paths.
    pub prefix: &'a str,
    /// Whether changes are forbidden.
    pub read_only: bool,
    /// The most entries of a listing.
    pub listed: usize,
    /// The submitted lock tokens.
    pub tokens: Arc<[String]>,
}

/// The resource of a request, as it was when the conditions were checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The state of the resource. A link is followed.
    pub stat: Option<Stat>,
    /// Whether there were conditions about its state.
    pub conditional: bool,
}

impl Now {
    /// Whether a resource of this kind exists.
    pub(super) fn is_a(&self, what: What) -> bool {
        self.stat.is_some_and(|stat| stat.what == what)
    }
}

impl ResourceState for Serving<'_> {
    fn has_token(&self, path: &Rel, token: &str) -> bool {
        self.locks.has_token(&self.key(path), token)
    }

    fn revision(&self, path: &Rel) -> Option<u64> {
        self.tree.stat(path).ok().map(|stat| stat.revision)
    }
}

impl Serving<'_> {
    /// Serves a request.
    pub(super) fn serve(&self, request: &DavRequest, peer: &mut dyn Peer) -> Result<(), Broken> {
        if request.method == Method::Options {
            return self.options().say(peer);
        }
        let now = match self.look(request) {
            Ok(now) => now,
            Err(refusal) => return Reply::from(refusal).say(peer),
        };
        let answer = match request.method {
            Method::Put => self.put(request, &now, peer)?,
            Method::Delete | Method::Copy | Method::Move => match super::body::body(peer, 0)? {
                Ok(_) => self.change(request, &now).unwrap_or_else(Reply::from),
                Err(_) => Reply::status(415),
            },
            Method::PropFind => return self.list(request, &now, peer),
            Method::Get | Method::Head if now.is_a(What::Directory) => {
                return self.index(request, &now, peer);
            }
            _ => return self.delegate(request, &now, peer),
        };
        answer.say(peer)
    }

    /// Answers OPTIONS.
    fn options(&self) -> Reply {
        let mut answer = Reply::status(200);
        let (classes, allow) = match self.read_only {
            true => ("1, 3", "OPTIONS, GET, HEAD, PROPFIND"),
            false => ("1, 2, 3", ALLOW),
        };
        answer.headers.push(("dav", classes.into()));
        answer.headers.push(("allow", allow.into()));
        // Some clients write only if they see this.
        answer.headers.push(("ms-author-via", "DAV".into()));
        answer
    }

    /// Looks up the resource and checks the conditions.
    fn look(&self, request: &DavRequest) -> Result<Now, Refusal> {
        let path = &request.target.path;
        let by_name = matches!(request.method, Method::Delete | Method::Move);
        let stat = match self.tree.stat(path) {
            Ok(stat) => Some(stat),
            Err(failure) if matches!(failure.kind, Kind::NoSuchFile | Kind::NotADirectory) => None,
            // Removing or moving a link does not depend on its target.
            Err(_) if by_name && self.tree.stat_link(path).is_ok() => None,
            Err(failure) => return Err(Refusal::from_failure(&failure)),
        };
        if request.target.odd && stat.is_none() && self.tree.stat_link(path).is_err() {
            return Err(Refusal::MALFORMED);
        }
        let seen_only = by_name || request.method == Method::PropFind;
        if stat.is_some_and(|stat| stat.what == What::Other) && !seen_only {
            return Err(Refusal::FORBIDDEN);
        }
        let not_directory = stat.is_some_and(|stat| stat.what != What::Directory);
        if request.target.slash && not_directory && !by_name && request.method != Method::MkCol {
            return Err(Refusal::status(if request.method == Method::Put { 405 } else { 404 }));
        }
        if let Some(only_if) = &request.only_if
            && !only_if.holds(path, self)
        {
            return Err(Refusal::PRECONDITION);
        }
        // For reads, dav-server knows what a failed condition means; PROPFIND has no conditions.
        let reads = matches!(request.method, Method::Get | Method::Head | Method::PropFind);
        let state = stat.map(|stat| (stat.revision, stat.modified));
        if !reads && !request.conditions.hold(state) {
            return Err(Refusal::PRECONDITION);
        }
        let conditional =
            request.conditions.are_given() || request.only_if.as_ref().is_some_and(If::has_states);
        Ok(Now { stat, conditional })
    }

    /// The path as the locks have it.
    pub(super) fn key(&self, path: &Rel) -> Rel {
        self.tree.base().join(path.as_bytes())
    }

    /// Refuses a path that somebody else has locked.
    pub(super) fn check_unlocked(&self, path: &Rel, touch: Touch) -> Result<(), Refusal> {
        match self.locks.hinder(&self.key(path), touch, &self.tokens) {
            Some(_) => Err(Refusal::LOCKED),
            None => Ok(()),
        }
    }

    /// Refuses a path without a parent directory.
    pub(super) fn check_parent(&self, path: &Rel) -> Result<(), Refusal> {
        let Some((above, _)) = path.split() else { return Err(Refusal::FORBIDDEN) };
        match self.tree.stat(&above) {
            Ok(stat) if stat.what == What::Directory => Ok(()),
            Ok(_) => Err(Refusal::status(409)),
            Err(failure) => match failure.kind {
                Kind::NoSuchFile | Kind::NotADirectory => Err(Refusal::status(409)),
                _ => Err(Refusal::from_failure(&failure)),
            },
        }
    }
}
