//! WebDAV for one root.
//!
//! ```text
//!     filter      checks the form of a request: target, headers, conditions
//!     serving     serves a request: what it is about, and whether it is allowed
//!     put         PUT: a file counts once it is complete
//!     change      DELETE, COPY, MOVE
//!     listing     PROPFIND: live properties, and dead ones (props)
//!     index       GET of a directory
//!     delegate    everything else: dav-server answers it through fs, open_file, props, locks_of
//!     sums        checksums and times, for clients that compare by them
//!     xml         checks bodies before anything is built from them
//!     locks       who may change what for now
//! ```
//!
//! dav-server implements the other methods and their XML. It never sees a header that we have not
//! parsed, never writes content, and never removes or moves anything. If it panics, only that
//! request fails.

mod body;
mod change;
mod condition;
mod delegate;
mod fields;
mod filter;
mod fs;
mod index;
mod listing;
mod live;
mod locks;
mod locks_of;
mod open_file;
mod props;
mod put;
mod reply;
mod serving;
mod sums;
mod target;
mod xml;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Http, ToBridge};

pub use self::locks::Locks;
use self::reply::Reply;
use self::serving::Serving;
use crate::peer::{Broken, Peer};
use crate::rules::LISTED;
use crate::tree::Tree;

/// WebDAV for one stream.
#[derive(Debug)]
pub struct Dav {
    tree: Arc<Tree>,
    locks: Arc<Locks>,
    prefix: String,
    read_only: bool,
    /// The most entries of a listing.
    listed: usize,
}

impl Dav {
    /// Serves a tree under a prefix: `/` and a word. The locks are those of the root.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if the prefix is malformed.
    pub fn new(
        tree: Arc<Tree>,
        locks: Arc<Locks>,
        prefix: &str,
        read_only: bool,
    ) -> Result<Self, Failure> {
        if !target::is_prefix(prefix) {
            let text = format!("`{}` is not a prefix for WebDAV", prefix.escape_debug());
            return Err(Failure::new(Kind::InvalidArgument, text).with_hint(
                "use a slash and a word of lower-case letters, digits, `-`, `_` and `.`",
            ));
        }
        let read_only = read_only || !tree.rules().writable;
        Ok(Self { tree, locks, prefix: prefix.to_owned(), read_only, listed: LISTED })
    }

    /// Answers one request.
    ///
    /// # Errors
    ///
    /// If the other end is gone or gave the request up, or an answer that has begun cannot be
    /// completed.
    pub fn serve(&self, http: &Http, peer: &mut dyn Peer) -> Result<(), Broken> {
        let mut watched = WatchedPeer { peer, begun: false };
        let served = catch_unwind(AssertUnwindSafe(|| self.answer(http, &mut watched)));
        match served {
            Ok(served) => served,
            Err(_) if watched.begun => Err(Broken),
            Err(_) => Reply::status(500).say(&mut watched),
        }
    }

    fn answer(&self, http: &Http, peer: &mut dyn Peer) -> Result<(), Broken> {
        let request = match filter::filter(http, &self.prefix, self.read_only) {
            Ok(request) => request,
            Err(refusal) => return Reply::from(refusal).say(peer),
        };
        let tokens = request.only_if.as_ref().map(|only_if| only_if.tokens()).unwrap_or_default();
        let serving = Serving {
            tree: &self.tree,
            locks: &self.locks,
            prefix: &self.prefix,
            read_only: self.read_only,
            listed: self.listed,
            tokens: tokens.into(),
        };
        serving.serve(&request, peer)
    }
}

/// The other end, with a note whether anything was sent to it.
struct WatchedPeer<'a> {
    peer: &'a mut dyn Peer,
    begun: bool,
}

impl Peer for WatchedPeer<'_> {
    fn content(&mut self) -> Result<Option<Bytes>, Broken> {
        self.peer.content()
    }

    fn say(&mut self, message: &ToBridge) -> Result<(), Broken> {
        self.begun = true;
        self.peer.say(message)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.begun = true;
        self.peer.data(bytes)
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> Result<(), Broken> {
        self.begun = true;
        self.peer.file(file, offset, length)
    }
}

#[cfg(test)]
mod tests;
