//! The store in SQLite, through sqlx.
//!
//! One connection writes, and every writer waits for it: SQLite allows one writer at a time, and a
//! transaction that has read and then meets another writer fails at once. At most one call of each
//! workspace waits for the connection; further calls of that workspace wait behind it ([`Turns`]).
//! The connections that read cannot write. A peer that is refused never reaches the writing
//! connection.

mod identities;
mod invites;
mod mail;
mod servers;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use farwire_protocol::address::Invite;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::outer::{Mail, MailAnswer, MailState, ServerCreate, ServerUpdate};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection, SqlitePool, Transaction};
use tokio::time::timeout;

use super::{Acceptance, Founding, Server, ServerPage, Sighting, Store, Stored, StoredRequest};
use crate::turns::{LONGEST_WAIT, Turn, Turns, overload};
use crate::workspace::WorkspaceId;

/// How many connections read.
const READERS: u32 = 4;

/// How long a statement waits for another process that writes: `farwire-relay invite`.
const OTHER_PROCESS: Duration = Duration::from_secs(5);

/// Keeps a closed store's connections open until the process ends: see [`Sqlite::close`].
static CLOSED: OnceLock<Sqlite> = OnceLock::new();

/// A SQLite database. Clones share its connections.
#[derive(Clone, Debug)]
pub(crate) struct Sqlite {
    readers: SqlitePool,
    /// The only connection that writes.
    writer: SqlitePool,
    /// Who waits for it.
    turns: Arc<Turns>,
}

/// A transaction that writes, with the turn of its workspace.
struct WriteTransaction {
    transaction: Transaction<'static, sqlx::Sqlite>,
    _turn: Turn,
}

impl WriteTransaction {
    async fn commit(self) -> Result<(), Failure> {
        self.transaction.commit().await.map_err(database_failure)
    }
}

impl Deref for WriteTransaction {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.transaction
    }
}

impl DerefMut for WriteTransaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

impl Sqlite {
    /// Opens the database, as [`super::open`] says.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        let store = Self::connect(path).await?;
        sqlx::migrate!().run(&store.writer).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::VersionMissing(_) => Failure::new(
                Kind::StateVersion,
                format!("{} was written by a newer version", path.display()),
            ),
            other => unusable(path, &other),
        })?;
        Ok(store)
    }

    /// Opens the database of a running relay, as [`super::join`] says.
    pub(crate) async fn join(path: &Path) -> Result<Self, Failure> {
        let store = Self::connect(path).await?;
        let version = sqlx::query_scalar::<_, i64>("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&store.readers)
            .await
            .map_err(|error| unusable(path, &error))?;
        let ours = sqlx::migrate!().iter().map(|migration| migration.version).max();
        if ours == Some(version) {
            return Ok(store);
        }
        let message = "the relay that runs with this data has another version";
        Err(Failure::new(Kind::StateVersion, message)
            .with_hint("restart it with this version of farwire-relay first"))
    }

    async fn connect(path: &Path) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(OTHER_PROCESS);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(LONGEST_WAIT)
            // With a full disk SQLite rolls back by itself. sqlx then rolls back in vain, counts
            // the transaction as open, and begins no other on that connection: replace such a
            // connection.
            .before_acquire(|writer, _| Box::pin(async { Ok(!writer.is_in_transaction()) }))
            .connect_with(options.clone())
            .await
            .map_err(|error| unusable(path, &error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(LONGEST_WAIT)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(|error| unusable(path, &error))?;
        Ok(Self { readers, writer, turns: Turns::new(1) })
    }

    async fn read(&self) -> Result<PoolConnection<sqlx::Sqlite>, Failure> {
        self.readers.acquire().await.map_err(database_failure)
    }

    /// Begins a transaction for a workspace; `None` is the relay itself, and peers that have no
    /// workspace yet.
    async fn write(&self, workspace: Option<WorkspaceId>) -> Result<WriteTransaction, Failure> {
        let begin = async {
            let turn = self.turns.take(workspace).await;
            let transaction =
                self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(database_failure)?;
            Ok(WriteTransaction { transaction, _turn: turn })
        };
        timeout(LONGEST_WAIT, begin).await.unwrap_or_else(|_| Err(overload()))
    }

    async fn check(&self) -> Result<(), Failure> {
        sqlx::query("SELECT 1").execute(&self.readers).await.map(drop).map_err(database_failure)
    }

    /// Writes the log back to the database and leaves the log file beside it, as a kill does: with
    /// a full disk the next start would have no room to create it again.
    async fn close(&self) -> Result<(), Failure> {
        // What is not written back now is written back by the next start.
        let _ = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&self.writer).await;
        // SQLite deletes the log when the last connection closes. A second call finds the first
        // one's value.
        let _ = CLOSED.set(self.clone());
        Ok(())
    }
}

/// Each method is a function of the module that has its table.
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
        Box::pin(servers::enrolled(self))
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

/// Logs a failure of the database, and returns what a peer is told about it.
fn database_failure(error: sqlx::Error) -> Failure {
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return overload();
    }
    tracing::error!(%error, "the database failed");
    Failure::new(Kind::RelayDenied, "the relay's database failed")
        .with_hint("ask whoever runs the relay to look at its log")
}

fn damaged_record() -> Failure {
    Failure::new(Kind::RelayDenied, "a damaged record in the relay's database")
}

fn unusable(path: &Path, error: &dyn Display) -> Failure {
    Failure::new(Kind::Io, format!("{}: {error}", path.display()))
}
