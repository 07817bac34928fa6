//! Whose a job is.
//!
//! Two owners are the same if their device and their surface are. The device's name is for people: it
//! changes when the device is added anew under another name, and decides nothing.

use std::hash::{Hash, Hasher};

use farwire_protocol::id::Id;
use farwire_protocol::surface::Surface;
use minicbor::{Decode, Encode};

/// A device and the surface through which it acts.
#[derive(Clone, Debug, Decode, Encode)]
#[cbor(map)]
pub(crate) struct Owner {
    #[n(0)]
    pub(crate) device: Id,
    #[n(1)]
    pub(crate) surface: Surface,
    /// What the agent calls the device. Not part of who it is.
    #[n(2)]
    pub(crate) name: String,
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.device == other.device && self.surface == other.surface
    }
}

impl Eq for Owner {}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.device.hash(state);
        self.surface.hash(state);
    }
}

impl Owner {
    /// Whether this owner may see, read and stop a job of `other`: its device's own jobs, and every
    /// job when a person asks. Until there are grants, whoever is authorised here at all is trusted
    /// with the machine; this keeps a model on one device from the jobs of another.
    pub(crate) fn may_see(&self, other: &Self) -> bool {
        self.device == other.device || self.surface == Surface::Human
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_device_with_a_new_name_is_the_same_owner() {
        let named = |name: &str| Owner {
            device: Id([1; 32]),
            surface: Surface::Human,
            name: name.to_owned(),
        };
        let (old, new) = (named("laptop"), named("desk/2"));
        assert_eq!(old, new);
        assert!(HashSet::from([old.clone()]).contains(&new), "also as a key");
        assert_ne!(old, Owner { device: Id([2; 32]), ..new.clone() });
        assert_ne!(old, Owner { surface: Surface::AiLocal, ..new });
    }
}
