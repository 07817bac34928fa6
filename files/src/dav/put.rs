//! PUT: a file counts once it is complete.
//!
//! dav-server would complete a file before it checks how much of it came.

use farwire_protocol::failure::Kind;
use farwire_protocol::streams::files::{How, What};

use super::filter::DavRequest;
use super::locks::Touch;
use super::reply::{Refusal, Reply};
use super::serving::{Now, Serving};
use crate::peer::{Broken, Peer};
use crate::tree::{Stat, WriteOptions};

/// Why a file was not written.
enum PutFailure {
    Refused(Refusal),
    Broken,
}

impl From<Refusal> for PutFailure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Serving<'_> {
    /// Writes a file.
    pub(super) fn put(
        &self,
        request: &DavRequest,
        now: &Now,
        peer: &mut dyn Peer,
    ) -> Result<Reply, Broken> {
        match self.write(request, now, peer) {
            Ok(stat) => {
                let mut answer = Reply::status(if now.stat.is_some() { 204 } else { 201 });
                answer.headers.push(("etag", format!("\"{:012x}\"", stat.revision).into()));
                if request.modified.is_some() {
                    // Tells clients that know this header that they need not set the time
                    // themselves.
                    answer.headers.push(("x-oc-mtime", "accepted".into()));
                }
                Ok(answer)
            }
            Err(PutFailure::Refused(refusal)) => Ok(refusal.into()),
            Err(PutFailure::Broken) => Err(Broken),
        }
    }

    fn write(
        &self,
        request: &DavRequest,
        now: &Now,
        peer: &mut dyn Peer,
    ) -> Result<Stat, PutFailure> {
        let path = &request.target.path;
        if path.is_root() || request.target.slash || now.is_a(What::Directory) {
            return Err(Refusal::status(405).into());
        }
        self.check_parent(path)?;
        let touch = Touch { name: now.stat.is_none(), deep: false };
        self.check_unlocked(path, touch)?;
        if request.length.is_some_and(|length| length > self.tree.rules().largest) {
            return Err(Refusal::status(413).into());
        }
        // The revision that met the conditions must still be there when it is replaced.
        let wanted = WriteOptions { modified: request.modified, ..WriteOptions::default() };
        let wanted = match (now.conditional, now.stat) {
            (true, Some(stat)) => {
                WriteOptions { how: How::Replace, revision: Some(stat.revision), ..wanted }
            }
            (true, None) => WriteOptions { how: How::Create, ..wanted },
            (false, _) => wanted,
        };
        let failed = |failure: farwire_protocol::failure::Failure| match failure.kind {
            Kind::NoSuchFile if now.conditional => PutFailure::Refused(Refusal::PRECONDITION),
            Kind::NoSuchFile => PutFailure::Refused(Refusal::status(409)),
            _ => PutFailure::Refused(Refusal::from_failure(&failure)),
        };
        let mut draft = self.tree.draft(path, wanted).map_err(failed)?;
        while let Some(piece) = peer.content().map_err(|Broken| PutFailure::Broken)? {
            let more = draft.length().saturating_add(piece.len() as u64);
            if request.length.is_some_and(|length| more > length) {
                return Err(Refusal::MALFORMED.into());
            }
            draft.write(&piece).map_err(failed)?;
        }
        if request.length.is_some_and(|length| draft.length() != length) {
            return Err(Refusal::MALFORMED.into());
        }
        // Somebody may have locked it meanwhile.
        self.check_unlocked(path, touch)?;
        draft.commit().map_err(failed)
    }
}
