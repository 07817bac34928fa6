//! Everything that the relay keeps: identities, invites, servers, and mail for enrollment.
//!
//! [`Store`] is the whole of what other modules know about the database. Its signatures name types
//! of the protocol and of this file only, so that another database is one more file beside
//! [`sqlite`] and one more line in [`open`]. Queries are not shared: placeholders, column types and
//! upserts differ between databases. What every implementation must decide alike is in [`rules`],
//! and `conformance` tests any of them.
//!
//! Each method is one transaction: it does all of its work or nothing. A method that fails with
//! [`Kind::Overloaded`](farwire_protocol::failure::Kind::Overloaded) has done nothing. Times are
//! seconds since 1970 by the relay's clock ([`crate::clock`]).

#[cfg(test)]
pub(crate) mod conformance;
mod records;
mod rules;
mod sqlite;

use std::fmt::Debug;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use farwire_protocol::address::Invite;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::Failure;
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::outer::{Mail, MailAnswer, MailState, ServerCreate, ServerUpdate};

use crate::workspace::WorkspaceId;
pub(crate) use records::{
    Acceptance, Departure, Founding, Server, ServerPage, Sighting, StoredRequest,
};
pub(crate) use rules::is_duplicate;

/// The future of a [`Store`] method, boxed because the trait is used as `dyn`.
pub(crate) type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A database of the relay.
pub(crate) trait Store: Debug + Send + Sync {
    /// Returns the workspace of a device that has proven its keys, `None` if the device is unknown.
    /// Keeps a bundle that is newer than the known one and refuses an older or forked one.
    fn admit_device<'a>(&'a self, bundle: &'a SignedBundle) -> Stored<'a, Option<WorkspaceId>>;

    /// Keeps the bundle of an agent that has proven its keys and has a record in this workspace.
    fn admit_agent<'a>(
        &'a self,
        bundle: &'a SignedBundle,
        workspace: WorkspaceId,
    ) -> Stored<'a, ()>;

    /// Makes a workspace with its first device if the invite is good. The same device may repeat
    /// it, and gets the same workspace.
    fn found_workspace<'a>(&'a self, founding: Founding<'a>) -> Stored<'a, WorkspaceId>;

    /// Returns whether anybody has made a workspace.
    fn has_workspace(&self) -> Stored<'_, bool>;

    /// Makes an invite, good for one workspace and for an hour. Only a hash of it is kept.
    fn make_invite(&self) -> Stored<'_, Invite>;

    /// Returns all servers that have an agent.
    fn enrolled_servers(&self) -> Stored<'_, Vec<Server>>;

    /// Returns servers of a workspace in the order of their names, without the first `skip`.
    fn list_servers(&self, workspace: WorkspaceId, skip: u32) -> Stored<'_, ServerPage>;

    /// Returns the server that this agent is bound to, or fails.
    fn server_of_agent(&self, agent: Id) -> Stored<'_, Server>;

    /// Makes a server without an agent, and its first enrollment.
    fn create_server<'a>(
        &'a self,
        workspace: WorkspaceId,
        create: &'a ServerCreate,
    ) -> Stored<'a, Server>;

    /// Changes a server's name, labels or suspension, and adds an enrollment if one is named.
    fn update_server<'a>(
        &'a self,
        workspace: WorkspaceId,
        update: &'a ServerUpdate,
    ) -> Stored<'a, Server>;

    /// Removes a server with its enrollments and mail, and returns what it was. Forgets its agent
    /// if that has never connected.
    fn remove_server<'a>(&'a self, workspace: WorkspaceId, name: &'a str) -> Stored<'a, Server>;

    /// Writes down sightings, in one transaction. Agents without a record are skipped.
    fn note_sightings<'a>(&'a self, sightings: &'a [Sighting]) -> Stored<'a, ()>;

    /// Returns the workspace of an enrollment, `None` if there is no such enrollment.
    fn enrollment_workspace(&self, enrollment: Nonce) -> Stored<'_, Option<WorkspaceId>>;

    /// Returns how far an enrollment has come.
    fn enrollment_state(&self, enrollment: Nonce) -> Stored<'_, MailState>;

    /// Keeps an enrollment request. Equal bytes are one request.
    fn put_request<'a>(&'a self, enrollment: Nonce, blob: &'a [u8]) -> Stored<'a, StoredRequest>;

    /// Returns requests of a workspace that are unanswered or came after the answer, of one
    /// enrollment if `only` is given, from behind `after` on, as many as fit into one message.
    fn list_requests(
        &self,
        workspace: WorkspaceId,
        only: Option<Nonce>,
        after: u64,
    ) -> Stored<'_, Mail>;

    /// Returns whether [`Self::list_requests`] would return any.
    fn has_requests(&self, workspace: WorkspaceId) -> Stored<'_, bool>;

    /// Returns the answer to an enrollment: one piece of mail, or none before it is answered.
    fn enrollment_answer(&self, enrollment: Nonce) -> Stored<'_, Mail>;

    /// Keeps the answer to an enrollment and binds the accepted agent to the record. Only the same
    /// answer with the same bundle may be repeated. Forgets the agent that the record had before if
    /// that has never connected.
    fn accept_agent<'a>(
        &'a self,
        workspace: WorkspaceId,
        answer: &'a MailAnswer,
        agent: &'a SignedBundle,
    ) -> Stored<'a, Acceptance>;

    /// Deletes enrollments and mail that nobody can use any more.
    fn sweep_mail(&self) -> Stored<'_, ()>;

    /// Fails when the store does not answer.
    fn check(&self) -> Stored<'_, ()>;

    /// Brings what has been written to its final place. The process must end after it.
    fn close(&self) -> Stored<'_, ()>;
}

/// Opens the store, creates it if it is missing, and migrates it to this version. Only the process
/// that holds the lock of the data directory may call this: a running relay relies on the tables
/// that it knows.
pub(crate) async fn open(database: &Path) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(sqlite::Sqlite::open(database).await?))
}

/// Opens the store of a running relay, which must have this version.
pub(crate) async fn join(database: &Path) -> Result<Arc<dyn Store>, Failure> {
    Ok(Arc::new(sqlite::Sqlite::join(database).await?))
}
