//! What the store takes and returns: servers, sightings of agents, and what came of a call.

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::id::Id;
use farwire_protocol::outer::Record;

use crate::workspace::WorkspaceId;

/// A server as the store has it. Whether its agent is connected is not known here.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) workspace: WorkspaceId,
    pub(crate) record: Record,
    pub(crate) suspended: bool,
}

/// One page of a workspace's servers, in the order of their names.
#[derive(Clone, Debug)]
pub(crate) struct ServerPage {
    pub(crate) servers: Vec<Server>,
    /// Whether there are more servers after these.
    pub(crate) more: bool,
}

/// News about an agent, seen since the store was last told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sighting {
    pub(crate) agent: Id,
    /// Its last connection, if one has ended since.
    pub(crate) left: Option<Departure>,
    /// When two processes were last found to hold its identity.
    pub(crate) duplicate: Option<i64>,
}

/// The end of an agent's connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Departure {
    pub(crate) at: i64,
    /// Program and version, as the agent named itself.
    pub(crate) build: String,
}

/// What a device presents to make a workspace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Founding<'a> {
    pub(crate) device: &'a SignedBundle,
    pub(crate) invite: &'a [u8],
    pub(crate) genesis: &'a [u8],
}

/// An enrollment request that the mailbox has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StoredRequest {
    /// The workspace of the enrollment.
    pub(crate) workspace: WorkspaceId,
    /// Whether it came after the answer: a second use of the token, kept for the inviter to see.
    pub(crate) late: bool,
}

/// The result of binding an agent to a record.
#[derive(Clone, Debug)]
pub(crate) struct Acceptance {
    pub(crate) server: Server,
    /// The other agent that the record was bound to before.
    pub(crate) replaced: Option<Id>,
}
