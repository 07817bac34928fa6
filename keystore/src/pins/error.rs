//! What can go wrong with a pin.

use farwire_protocol::failure::{Failure, Kind as FailureKind};

use crate::claim::Refused;
use crate::fault::FileError;

/// Why something could not be done with a pin.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No server is called so.
    #[error("no server is called `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names that look like it.
        near: Vec<String>,
    },
    /// Several servers have ids that begin so.
    #[error("the id `{name}` fits {}", .fits.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Their names.
        fits: Vec<String>,
    },
    /// A server cannot be called so.
    #[error("`{0}` cannot be a server's name")]
    BadName(String),
    /// A server is called so already, or a damaged file has the name.
    #[error("a server is called `{0}` already")]
    NameTaken(String),
    /// The agent is pinned under another name.
    #[error("this agent is pinned already, as `{0}`")]
    Pinned(String),
    /// Its bundle is not one to keep.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Another key is pinned than whoever asked has seen.
    #[error("another key than expected is pinned for `{name}`: {pinned}")]
    Changed {
        /// Which server.
        name: String,
        /// The fingerprint of what is pinned.
        pinned: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] Failure),
}

impl From<FileError> for PinError {
    fn from(error: FileError) -> Self {
        Self::File(error.into())
    }
}

impl From<PinError> for Failure {
    fn from(error: PinError) -> Self {
        let text = error.to_string();
        match error {
            PinError::Refused(refused) => refused.into(),
            PinError::File(failure) => failure,
            PinError::Unknown { near, .. } => {
                let failure = Self::new(FailureKind::UnknownServer, text);
                if near.is_empty() {
                    return failure;
                }
                failure.with_hint(format!("did you mean `{}`?", near.join("` or `")))
            }
            PinError::Ambiguous { .. } => Self::new(FailureKind::AmbiguousServer, text),
            PinError::BadName(_) => Self::new(FailureKind::InvalidArgument, text).with_hint(
                "1 to 64 letters, digits, `-`, `_` or `.`, beginning with a letter or a digit",
            ),
            PinError::NameTaken(_) => Self::new(FailureKind::NameTaken, text),
            PinError::Pinned(name) => Self::new(FailureKind::AlreadyEnrolled, text)
                .with_hint(format!("use `{name}`, or remove it first")),
            PinError::Changed { .. } => Self::new(FailureKind::ChangedMeanwhile, text),
        }
    }
}
