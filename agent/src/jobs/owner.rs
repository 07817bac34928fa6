//! Whose a job is.

use farwire_protocol::id::Id;
use farwire_protocol::surface::Surface;

/// A device and the surface through which it acts.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Owner {
    pub(crate) device: Id,
    pub(crate) surface: Surface,
    /// What the agent calls the device.
    pub(crate) name: String,
}

impl Owner {
    /// Whether this owner may see, read and stop a job of `other`: its device's own jobs, and every
    /// job when a person asks. Until there are grants, whoever is authorised here at all is trusted
    /// with the machine; this keeps a model on one device from the jobs of another.
    pub(crate) fn may_see(&self, other: &Self) -> bool {
        self.device == other.device || self.surface == Surface::Human
    }
}
