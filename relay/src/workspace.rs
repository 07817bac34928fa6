//! Workspaces and who belongs to them, as the relay numbers and names them.

use farwire_protocol::id::{Id, Nonce};

/// The number of a workspace in this relay's store. It never leaves the relay.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct WorkspaceId(pub(crate) i64);

/// A device and its workspace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Member {
    pub(crate) id: Id,
    pub(crate) workspace: WorkspaceId,
}

/// An enrollment and the workspace that it is for: all that is known of an agent with a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Enrolling {
    pub(crate) enrollment: Nonce,
    pub(crate) workspace: WorkspaceId,
}
