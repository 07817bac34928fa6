//! Whose a job is.

use farwire_protocol::id::Id;
use farwire_protocol::surface::Surface;
use minicbor::{Decode, Encode};

/// A device and the surface through which it acts.
#[derive(Clone, Debug, Decode, Encode, Eq, Hash, PartialEq)]
#[cbor(map)]
pub(crate) struct Owner {
    #[n(0)]
    pub(crate) device: Id,
    #[n(1)]
    pub(crate) surface: Surface,
    /// What the agent calls the device.
    #[n(2)]
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
