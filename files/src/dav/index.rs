//! GET and HEAD of a directory: a list of names, for people. Programs use PROPFIND.

use std::fmt::Write as _;

use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::{Head, ToBridge, What};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::body::body;
use super::filter::{DavRequest, Method};
use super::live::tag;
use super::reply::{Refusal, Reply, header};
use super::serving::{Now, Serving};
use super::target::url;
use crate::path::Rel;
use crate::peer::{Broken, Peer};

impl Serving<'_> {
    /// Answers GET or HEAD of a directory.
    pub(super) fn index(
        &self,
        request: &DavRequest,
        now: &Now,
        peer: &mut dyn Peer,
    ) -> Result<(), Broken> {
        let path = &request.target.path;
        if body(peer, 0)?.is_err() {
            return Reply::status(415).say(peer);
        }
        let body = match self.names(path) {
            Ok(body) => body,
            Err(refusal) => return Reply::from(refusal).say(peer),
        };
        let mut headers = vec![
            header("content-type", b"text/plain; charset=utf-8"),
            header("content-length", body.len().to_string().as_bytes()),
            header("x-content-type-options", b"nosniff"),
            header("cache-control", b"no-cache"),
        ];
        if let Some(stat) = now.stat {
            headers.push(header("etag", format!("\"{}\"", tag(&stat)).as_bytes()));
            let seconds = stat.modified.max(0).div_euclid(1_000_000_000);
            let printed = Timestamp::from_second(seconds).ok().and_then(|at| {
                rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
            });
            headers.extend(printed.map(|at| header("last-modified", at.as_bytes())));
        }
        if !request.target.slash && !path.is_root() {
            headers.push(header("content-location", url(self.prefix, path, true).as_bytes()));
        }
        peer.say(&ToBridge::Head(Head { status: 200, headers }))?;
        match request.method == Method::Head || body.is_empty() {
            true => Ok(()),
            false => peer.data(body.as_bytes()),
        }
    }

    /// The sorted names in a directory, one per line. Says so if the list was cut off.
    fn names(&self, path: &Rel) -> Result<String, Refusal> {
        let failed = |failure| Refusal::from_failure(&failure);
        let mut listing = self.tree.list(path).map_err(failed)?;
        let (mut names, mut more) = (Vec::new(), false);
        while let Some(listed) = listing.next() {
            let listed = listed.map_err(failed)?;
            self.tree.listener().check_after_name().map_err(failed)?;
            if names.len() == self.listed {
                more = true;
                break;
            }
            let stat = self.tree.stat(&path.join(&listed.name)).ok();
            let Some(stat) = stat else { continue };
            let slash = if stat.what == What::Directory { "/" } else { "" };
            names.push(format!("{}{slash}", quote(&listed.name)));
        }
        names.sort_unstable();
        let mut body = String::new();
        for name in &names {
            // Writing to a string does not fail.
            let _ = writeln!(body, "{name}");
        }
        if more {
            let _ = writeln!(body, "(and more than these {} names)", names.len());
        }
        Ok(body)
    }
}
