//! DELETE, COPY and MOVE.
//!
//! dav-server removes what is in the way before it begins, and walks by itself. Here what is replaced stays
//! until what replaces it is whole.

use farwire_protocol::failure::Kind;
use farwire_protocol::streams::files::What;

use super::fields::Depth;
use super::filter::{DavRequest, Method};
use super::locks::Touch;
use super::reply::{Refusal, Reply};
use super::{Now, Serving};
use crate::path::Rel;
use crate::tree::{EVERYTHING, Stat};

/// So many of those that were left out of a copy are named.
const NAMED: usize = 100;

/// A name and all beneath it comes or goes.
const WHOLE: Touch = Touch { name: true, deep: true };

impl Serving<'_> {
    /// Carries out DELETE, COPY or MOVE.
    pub(super) fn change(&self, request: &DavRequest, now: &Now) -> Result<Reply, Refusal> {
        match (request.method, &request.destination) {
            (Method::Delete, _) => self.delete(request, now),
            (Method::Copy, Some(to)) => self.copy(request, &to.path),
            (Method::Move, Some(to)) => self.rename(request, now, &to.path),
            _ => Err(Refusal::MALFORMED),
        }
    }

    fn delete(&self, request: &DavRequest, now: &Now) -> Result<Reply, Refusal> {
        let path = &request.target.path;
        let stat = self.whole(request, now)?;
        if let Some(answer) = self.locked_beneath(path)? {
            return Ok(answer);
        }
        // A link is removed itself, and has another revision than what it leads to.
        let revision = now.stat.filter(|_| now.conditional && stat.what != What::Link);
        let recursive = stat.what == What::Directory;
        let removed = self.tree.remove(path, recursive, revision.map(|stat| stat.revision));
        removed.map_err(|failure| Refusal::from_failure(&failure))?;
        self.locks.forget(&self.key(path));
        Ok(Reply::status(204))
    }

    fn copy(&self, request: &DavRequest, to: &Rel) -> Result<Reply, Refusal> {
        let from = &request.target.path;
        let stat = self.tree.stat(from).map_err(|failure| Refusal::from_failure(&failure))?;
        let before = self.check_destination(request, to)?;
        if let Some(answer) = self.locked_beneath(to)? {
            return Ok(answer);
        }
        let copied = if stat.what == What::Directory && request.depth == Some(Depth::Zero) {
            self.tree.copy_shallow(from, to, request.overwrite).map(|()| false)
        } else {
            self.tree.copy_over(from, to, request.overwrite).map(|copied| copied.is_in_part())
        };
        match copied.map_err(|failure| Refusal::from_failure(&failure))? {
            false => Ok(created_or_replaced(before)),
            true => Ok(Reply::several(self.prefix, &self.left_out(from))),
        }
    }

    fn rename(&self, request: &DavRequest, now: &Now, to: &Rel) -> Result<Reply, Refusal> {
        let from = &request.target.path;
        let stat = self.whole(request, now)?;
        let before = self.check_destination(request, to)?;
        for path in [from, to] {
            if let Some(answer) = self.locked_beneath(path)? {
                return Ok(answer);
            }
        }
        self.check_unchanged(request, now)?;
        // As in `delete`.
        let revision = now.stat.filter(|_| now.conditional && stat.what != What::Link);
        let revision = revision.map(|stat| stat.revision);
        let moved = self.tree.rename_if(from, to, request.overwrite, revision);
        moved.map_err(|failure| Refusal::from_failure(&failure))?;
        // A lock does not go along, and what it was about is gone.
        self.locks.forget(&self.key(from));
        self.locks.forget(&self.key(to));
        Ok(created_or_replaced(before))
    }

    /// What stands at the path itself, which is removed or moved as a whole.
    fn whole(&self, request: &DavRequest, now: &Now) -> Result<Stat, Refusal> {
        let stat = self.tree.stat_link(&request.target.path);
        let stat = stat.map_err(|failure| Refusal::from_failure(&failure))?;
        // A link to a directory is listed as one.
        if request.target.slash && stat.what != What::Directory && !now.is_a(What::Directory) {
            return Err(Refusal::status(404));
        }
        match (stat.what, request.depth) {
            (What::Directory, Some(Depth::Zero)) => Err(Refusal::MALFORMED),
            _ => Ok(stat),
        }
    }

    /// Refuses if it is no longer as it was when the conditions were looked at.
    fn check_unchanged(&self, request: &DavRequest, now: &Now) -> Result<(), Refusal> {
        let revision = |stat: Stat| stat.revision;
        let same =
            self.tree.stat(&request.target.path).ok().map(revision) == now.stat.map(revision);
        if now.conditional && !same { Err(Refusal::PRECONDITION) } else { Ok(()) }
    }

    /// What stands where something is to arrive, in a directory that is there.
    fn check_destination(&self, request: &DavRequest, to: &Rel) -> Result<Option<Stat>, Refusal> {
        self.check_parent(to)?;
        let before = match self.tree.stat_link(to) {
            Ok(stat) => Some(stat),
            Err(failure) if failure.kind == Kind::NoSuchFile => None,
            Err(failure) => return Err(Refusal::from_failure(&failure)),
        };
        match &before {
            Some(_) if !request.overwrite => Err(Refusal::PRECONDITION),
            None if request.destination.as_ref().is_some_and(|to| to.odd) => {
                Err(Refusal::MALFORMED)
            }
            _ => Ok(before),
        }
    }

    /// Refuses what is locked. What is locked beneath the path is named.
    fn locked_beneath(&self, path: &Rel) -> Result<Option<Reply>, Refusal> {
        let Some(locked) = self.locks.hinder(&self.key(path), WHOLE, &self.tokens) else {
            return Ok(None);
        };
        match locked.beneath(&self.key(path)) {
            Some(below) if !below.is_empty() => {
                Ok(Some(Reply::several(self.prefix, &[(path.join(below), 423)])))
            }
            _ => Err(Refusal::LOCKED),
        }
    }

    /// What a copy leaves out: links, and what is neither file nor directory.
    fn left_out(&self, from: &Rel) -> Vec<(Rel, u16)> {
        let mut parts = Vec::new();
        // What cannot be read was left out, too, and has no name here.
        let _ = self.tree.walk(from, EVERYTHING, &mut |visited| {
            let what = visited.what().ok().flatten();
            if matches!(what, Some(What::Link | What::Other)) && parts.len() < NAMED {
                parts.push((from.join(visited.at.as_bytes()), 403));
            }
            Ok(what == Some(What::Directory) && parts.len() < NAMED)
        });
        if parts.is_empty() {
            parts.push((from.clone(), 403));
        }
        parts
    }
}

fn created_or_replaced(before: Option<Stat>) -> Reply {
    Reply::status(if before.is_some() { 204 } else { 201 })
}
