//! PUT: what comes is whole before it counts.
//!
//! dav-server finishes a file before it looks at how much of it came.

use farwire_protocol::failure::Kind;
use farwire_protocol::streams::files::{How, What};

use super::answer::{Answer, Refusal};
use super::filter::Request;
use super::locks::Touch;
use super::{Now, Serving};
use crate::peer::{Broken, Peer};
use crate::tree::{Stat, Wanted};

/// Why it was not written.
enum Stop {
    Refused(Refusal),
    Broken,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Serving<'_> {
    /// Writes a file.
    pub(super) fn put(
        &self,
        request: &Request,
        now: &Now,
        peer: &mut dyn Peer,
    ) -> Result<Answer, Broken> {
        match self.write(request, now, peer) {
            Ok(stat) => {
                let mut answer = Answer::status(if now.stat.is_some() { 204 } else { 201 });
                answer.headers.push(("etag", format!("\"{:012x}\"", stat.revision).into()));
                if request.modified.is_some() {
                    // So clients that know the header learn that they need not set the time themselves.
                    answer.headers.push(("x-oc-mtime", "accepted".into()));
                }
                Ok(answer)
            }
            Err(Stop::Refused(refusal)) => Ok(refusal.into()),
            Err(Stop::Broken) => Err(Broken),
        }
    }

    fn write(&self, request: &Request, now: &Now, peer: &mut dyn Peer) -> Result<Stat, Stop> {
        let path = &request.target.path;
        if path.is_root() || request.target.slash || now.is(What::Directory) {
            return Err(Refusal::status(405).into());
        }
        self.has_parent(path)?;
        let touch = Touch { name: now.stat.is_none(), deep: false };
        self.unlocked(path, touch)?;
        if request.length.is_some_and(|length| length > self.tree.rules().largest) {
            return Err(Refusal::status(413).into());
        }
        // What the conditions were true of has to be there still when it is replaced.
        let wanted = Wanted { modified: request.modified, ..Wanted::default() };
        let wanted = match (now.conditional, now.stat) {
            (true, Some(stat)) => {
                Wanted { how: How::Replace, revision: Some(stat.revision), ..wanted }
            }
            (true, None) => Wanted { how: How::Create, ..wanted },
            (false, _) => wanted,
        };
        let failed = |failure: farwire_protocol::failure::Failure| match failure.kind {
            Kind::NoSuchFile if now.conditional => Stop::Refused(Refusal::PRECONDITION),
            Kind::NoSuchFile => Stop::Refused(Refusal::status(409)),
            _ => Stop::Refused(Refusal::from_failure(&failure)),
        };
        let mut draft = self.tree.draft(path, wanted).map_err(failed)?;
        while let Some(piece) = peer.content().map_err(|Broken| Stop::Broken)? {
            let more = draft.written().saturating_add(piece.len() as u64);
            if request.length.is_some_and(|length| more > length) {
                return Err(Refusal::MALFORMED.into());
            }
            draft.write(&piece).map_err(failed)?;
        }
        if request.length.is_some_and(|length| draft.written() != length) {
            return Err(Refusal::MALFORMED.into());
        }
        // Somebody may have locked it meanwhile.
        self.unlocked(path, touch)?;
        draft.commit().map_err(failed)
    }
}
