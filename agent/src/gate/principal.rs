//! Who asks.
//!
//! The device and the surface are what the link has proven, except for an heir that somebody names.
//! All else is for people, or is the client's own claim: it tells the clients of one surface apart,
//! and gives no rights over another surface.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Id;
use farwire_protocol::streams::session::{self as wire, Caller, LABEL_LIMIT};
use farwire_protocol::surface::Surface;
use minicbor::{Decode, Encode};

/// A device, the surface through which it acts, and which client that is.
///
/// Two are equal if their devices, their surfaces and their clients are. The name, which may change
/// when the device is added again, does not count.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    pub(crate) device: Id,
    pub(crate) surface: Surface,
    /// What the agent calls the device.
    pub(crate) name: Arc<str>,
    /// What the client calls itself.
    pub(crate) client: Option<Arc<str>>,
    /// For whom the client claims to act.
    pub(crate) on_behalf: Option<Arc<str>>,
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.is_on_surface_of(other) && self.client == other.client
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.device, &self.surface, &self.client).hash(state);
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.surface, self.name)?;
        match &self.client {
            Some(client) => write!(f, ", client `{client}`"),
            None => Ok(()),
        }
    }
}

impl Principal {
    /// A device and its surface.
    pub(crate) fn new(device: Id, surface: Surface, name: impl Into<Arc<str>>) -> Self {
        Self { device, surface, name: name.into(), client: None, on_behalf: None }
    }

    /// The same with what the client says of itself.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for names that are too long, or have control characters.
    pub(crate) fn calling_itself(&self, caller: Option<&Caller>) -> Result<Self, Failure> {
        let label = |what, label: Option<&str>| -> Result<Option<Arc<str>>, Failure> {
            let label = label.unwrap_or_default();
            check_label(what, label)?;
            Ok(Some(label).filter(|label| !label.is_empty()).map(Arc::from))
        };
        let (client, owner) = caller.map(|caller| (&caller.client, &caller.owner)).unzip();
        let client = label("the name of a client", client.and_then(Option::as_deref))?;
        let on_behalf = label("the name of an owner", owner.and_then(Option::as_deref))?;
        Ok(Self { client, on_behalf, ..self.clone() })
    }

    /// The same without what the client says of itself.
    pub(crate) fn as_surface(&self) -> Self {
        Self { client: None, on_behalf: None, ..self.clone() }
    }

    /// Whether both act through the same surface of the same device.
    pub(crate) fn is_on_surface_of(&self, other: &Self) -> bool {
        self.device == other.device && self.surface == other.surface
    }

    /// Whether it is a person, not an agent.
    pub(crate) fn is_user(&self) -> bool {
        self.surface == Surface::Human
    }

    /// The wire form, as seen by `viewer`.
    pub(crate) fn show(&self, viewer: Option<&Self>) -> wire::Actor {
        wire::Actor {
            device: self.name.to_string(),
            surface: self.surface.to_string(),
            client: self.client.as_deref().map(str::to_owned),
            mine: viewer.map(|viewer| viewer == self),
        }
    }

    /// One line for audits: `laptop/ai-local/codex`.
    pub(crate) fn line(&self) -> String {
        match &self.client {
            Some(client) => format!("{}/{}/{client}", self.name, self.surface),
            None => format!("{}/{}", self.name, self.surface),
        }
    }
}

/// Checks that a label is valid: a few printable characters.
pub(crate) fn check_label(what: &str, label: &str) -> Result<(), Failure> {
    if label.len() > LABEL_LIMIT || label.chars().any(char::is_control) {
        let text = format!("{what} has at most {LABEL_LIMIT} bytes, and no control characters");
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    Ok(())
}

/// A device and its surface, as recorded.
#[derive(Clone, Debug, Decode, Encode)]
#[cbor(map)]
pub(crate) struct PrincipalNote {
    #[n(0)]
    device: Id,
    #[n(1)]
    surface: Surface,
    #[n(2)]
    name: String,
}

impl From<&Principal> for PrincipalNote {
    fn from(principal: &Principal) -> Self {
        let Principal { device, surface, name, .. } = principal;
        Self { device: *device, surface: surface.clone(), name: name.to_string() }
    }
}

impl From<PrincipalNote> for Principal {
    fn from(written: PrincipalNote) -> Self {
        Self::new(written.device, written.surface, written.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_device_with_a_new_name_is_the_same_one() {
        let named = |name: &str| Principal::new(Id([1; 32]), Surface::Human, name);
        let (old, new) = (named("laptop"), named("desk/2"));
        assert_eq!(old, new);
        assert!(HashSet::from([old.clone()]).contains(&new), "also as a key");
        assert_ne!(old, Principal { device: Id([2; 32]), ..new.clone() });
        assert_ne!(old, Principal { surface: Surface::AiLocal, ..new.clone() });
        let client = Principal { client: Some("c".into()), ..new.clone() };
        assert!(client != new && client.is_on_surface_of(&new) && client.as_surface() == new);
        let behalf = Principal { on_behalf: Some("ann".into()), ..new.clone() };
        assert_eq!(behalf, new, "for whom it acts does not say who it is");
    }

    #[test]
    fn names_of_clients_are_bounded_and_empty_ones_are_none() {
        let device = Principal::new(Id([1; 32]), Surface::AiLocal, "laptop");
        let caller = |client: &str, owner: &str| Caller {
            client: Some(client.to_owned()),
            owner: Some(owner.to_owned()),
        };
        let named = device.calling_itself(Some(&caller("codex", ""))).unwrap();
        assert_eq!((named.client.as_deref(), named.on_behalf.as_deref()), (Some("codex"), None));
        assert_eq!(
            (named.line(), device.line()),
            ("laptop/ai-local/codex".into(), "laptop/ai-local".into())
        );
        for caller in [caller("a\nb", ""), caller("", &"x".repeat(1_000))] {
            assert!(device.calling_itself(Some(&caller)).is_err());
        }
        assert_eq!(named.calling_itself(None).unwrap(), device);
    }
}
