//! Errors of operations on pins.

use farwire_protocol::failure::{Failure, Kind as FailureKind};

use crate::claim::BundleRefused;
use crate::fault::FileError;

/// Why an operation on a pin failed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No server has this name.
    #[error("no server is called `{name}`")]
    Unknown {
        /// The query.
        name: String,
        /// Similar names.
        near: Vec<String>,
    },
    /// The ids of several servers match.
    #[error("the id `{name}` matches {}", .fits.join(", "))]
    Ambiguous {
        /// The query.
        name: String,
        /// The names of the servers that match.
        fits: Vec<String>,
    },
    /// The name is not valid for a server.
    #[error("`{0}` cannot be a server's name")]
    BadName(String),
    /// A server or a damaged file has this name already.
    #[error("a server called `{0}` already exists")]
    NameTaken(String),
    /// The agent is pinned under another name.
    #[error("this agent is already pinned, as `{0}`")]
    Pinned(String),
    /// The bundle is refused.
    #[error(transparent)]
    Refused(#[from] BundleRefused),
    /// The pinned key is not the one that the caller has seen.
    #[error("the pin of `{name}` changed during the command: it is now {pinned}")]
    Changed {
        /// The server.
        name: String,
        /// The fingerprint of the pinned agent.
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
            PinError::Changed { name, .. } => Self::new(FailureKind::ChangedMeanwhile, text)
                .with_hint(format!("compare again with `farwire server show {name}`, then repeat")),
        }
    }
}
