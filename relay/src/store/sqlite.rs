//! The store in SQLite, through sqlx: which function serves each method.
//!
//! [`connections`] has the database itself, [`migrations`] its versions; each other module has the
//! queries of its tables.

mod connections;
mod identities;
mod invites;
mod mail;
mod migrations;
mod servers;
#[cfg(test)]
mod tests;

use farwire_protocol::address::Invite;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::outer::{Mail, MailAnswer, MailState, ServerCreate, ServerUpdate};

use super::records::{Acceptance, Founding, Server, ServerPage, Sighting, StoredRequest};
use super::{Store, Stored};
use crate::workspace::WorkspaceId;
pub(super) use connections::Sqlite;

impl Store for Sqlite {
    fn admit_device<'a>(&'a self, bundle: &'a SignedBundle) -> Stored<'a, Option<WorkspaceId>> {
        Box::pin(identities::admit_device(self, bundle))
    }

    fn admit_agent<'a>(
        &'a self,
        bundle: &'a SignedBundle,
        workspace: WorkspaceId,
    ) -> Stored<'a, ()> {
        Box::pin(identities::admit_agent(self, bundle, workspace))
    }

    fn found_workspace<'a>(&'a self, founding: Founding<'a>) -> Stored<'a, WorkspaceId> {
        Box::pin(identities::found_workspace(self, founding))
    }

    fn has_workspace(&self) -> Stored<'_, bool> {
        Box::pin(identities::has_workspace(self))
    }

    fn make_invite(&self) -> Stored<'_, Invite> {
        Box::pin(invites::make(self))
    }

    fn enrolled_servers(&self) -> Stored<'_, Vec<Server>> {
        Box::pin(servers::list_enrolled(self))
    }

    fn list_servers(&self, workspace: WorkspaceId, skip: u32) -> Stored<'_, ServerPage> {
        Box::pin(servers::list(self, workspace, skip))
    }

    fn server_of_agent(&self, agent: Id) -> Stored<'_, Server> {
        Box::pin(servers::of_agent(self, agent))
    }

    fn create_server<'a>(
        &'a self,
        workspace: WorkspaceId,
        create: &'a ServerCreate,
    ) -> Stored<'a, Server> {
        Box::pin(servers::create(self, workspace, create))
    }

    fn update_server<'a>(
        &'a self,
        workspace: WorkspaceId,
        update: &'a ServerUpdate,
    ) -> Stored<'a, Server> {
        Box::pin(servers::update(self, workspace, update))
    }

    fn remove_server<'a>(&'a self, workspace: WorkspaceId, name: &'a str) -> Stored<'a, Server> {
        Box::pin(servers::remove(self, workspace, name))
    }

    fn note_sightings<'a>(&'a self, sightings: &'a [Sighting]) -> Stored<'a, ()> {
        Box::pin(servers::note_sightings(self, sightings))
    }

    fn enrollment_workspace(&self, enrollment: Nonce) -> Stored<'_, Option<WorkspaceId>> {
        Box::pin(mail::workspace(self, enrollment))
    }

    fn enrollment_state(&self, enrollment: Nonce) -> Stored<'_, MailState> {
        Box::pin(mail::state(self, enrollment))
    }

    fn put_request<'a>(&'a self, enrollment: Nonce, blob: &'a [u8]) -> Stored<'a, StoredRequest> {
        Box::pin(mail::put_request(self, enrollment, blob))
    }

    fn list_requests(
        &self,
        workspace: WorkspaceId,
        only: Option<Nonce>,
        after: u64,
    ) -> Stored<'_, Mail> {
        Box::pin(mail::list_requests(self, workspace, only, after))
    }

    fn has_requests(&self, workspace: WorkspaceId) -> Stored<'_, bool> {
        Box::pin(mail::has_requests(self, workspace))
    }

    fn enrollment_answer(&self, enrollment: Nonce) -> Stored<'_, Mail> {
        Box::pin(mail::answer(self, enrollment))
    }

    fn accept_agent<'a>(
        &'a self,
        workspace: WorkspaceId,
        answer: &'a MailAnswer,
        agent: &'a SignedBundle,
    ) -> Stored<'a, Acceptance> {
        Box::pin(mail::accept_agent(self, workspace, answer, agent))
    }

    fn sweep_mail(&self) -> Stored<'_, ()> {
        Box::pin(mail::sweep(self))
    }

    fn check(&self) -> Stored<'_, ()> {
        Box::pin(Self::check(self))
    }

    fn close(&self) -> Stored<'_, ()> {
        Box::pin(Self::close(self))
    }
}
