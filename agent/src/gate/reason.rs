//! Why somebody may not.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};

use super::principal::Principal;

/// Why a demand was denied: by which rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Denied {
    /// The device was locked out.
    LockedOut(Failure),
    /// It belongs to others, and the asker must not learn that it exists.
    Unseen,
    /// Somebody who acts through another surface has had the right to type for this long.
    Held(Principal, Duration),
    /// Only users and whoever opened the session may do that.
    NotOpener,
}

impl Denied {
    /// The failure that the asker gets.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::LockedOut(failure) => failure,
            Self::Unseen => Failure::new(Kind::UnknownId, "the server has no such run or session"),
            Self::Held(typist, age) => {
                let text = format!("{typist} has held the keyboard for {} s", age.as_secs());
                Failure::new(Kind::InputLocked, text)
            }
            Self::NotOpener => {
                let text = "only users and the surface that opened a session may change whether it is read-only";
                Failure::new(Kind::NotGranted, text)
            }
        }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        denied.failure()
    }
}
