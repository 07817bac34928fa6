//! DELETE, COPY and MOVE.
//!
//! dav-server would remove the destination first, and walk by itself. Here the destination stays
//! until its replacement is complete.

use farwire_protocol::failure::Kind;
use farwire_protocol::streams::files::What;

use super::fields::Depth;
use super::filter::{DavRequest, Method};
use super::locks::Touch;
use super::reply::{Refusal, Reply};
use super::serving::{Now, Serving};
use crate::path::Rel;
use crate::tree::{EVERYTHING, Stat};

/// How many files that a copy left out are named.
const NAMED: usize = 100;

/// A name and everything beneath it is created or removed.
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
        // A link is removed itself, and its revision differs from that of its target.
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
        // A lock does not move, and its resource is gone.
        self.locks.forget(&self.key(from));
        self.locks.forget(&self.key(to));
        Ok(created_or_replaced(before))
    }

    /// The state of the path itself, which is removed or moved as a whole.
    fn whole(&self, request: &DavRequest, now: &Now) -> Result<Stat, Refusal> {
        let stat = self.tree.stat_link(&request.target.path);
        let stat = stat.map_err(|failure| Refusal::from_failure(&failure))?;
        // A link to a directory is listed as a directory.
        if request.target.slash && stat.what != What::Directory && !now.is_a(What::Directory) {
            return Err(Refusal::status(404));
        }
        match (stat.what, request.depth) {
            (What::Directory, Some(Depth::Zero)) => Err(Refusal::MALFORMED),
            _ => Ok(stat),
        }
    }

    /// Refuses a path that has changed since the conditions were checked.
    fn check_unchanged(&self, request: &DavRequest, now: &Now) -> Result<(), Refusal> {
        let revision = |stat: Stat| stat.revision;
        let same =
            self.tree.stat(&request.target.path).ok().map(revision) == now.stat.map(revision);
        if now.conditional && !same { Err(Refusal::PRECONDITION) } else { Ok(()) }
    }

    /// Checks a destination and its parent. Returns the state of what stands there.
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

    /// Refuses a locked path. Locked paths beneath it are named.
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

    /// What a copy leaves out: links and special files.
    fn left_out(&self, from: &Rel) -> Vec<(Rel, u16)> {
        let mut parts = Vec::new();
        // Unreadable files were left out too, and cannot be named here.
        let _ = self.tree.walk(from, EVERYTHING, &mut |visited| {
            self.tree.listener().check_after_name()?;
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
