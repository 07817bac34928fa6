//! The connections to the database, and what a failure of theirs means to a peer.
//!
//! One connection writes, and every writer waits for it: SQLite allows one writer at a time, and a
//! transaction that has read and then meets another writer fails at once. At most one call of each
//! workspace waits for the connection; further calls of that workspace wait behind it ([`Turns`]).
//! The connections that read cannot write. A peer that is refused never reaches the writing
//! connection.

use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection, SqlitePool, Transaction};
use tokio::time::timeout;

use super::migrations::{migrator, newest};
use crate::turns::{LONGEST_WAIT, Turn, Turns, overload};
use crate::workspace::WorkspaceId;

/// How many connections read.
pub(super) const READERS: u32 = 4;

/// How long a statement waits for another process that writes: `farwire-relay invite`.
const OTHER_PROCESS: Duration = Duration::from_secs(5);

/// Keeps a closed store's connections open until the process ends: see [`Sqlite::close`].
static CLOSED: OnceLock<Sqlite> = OnceLock::new();

/// A SQLite database. Clones share its connections.
#[derive(Clone, Debug)]
pub(crate) struct Sqlite {
    pub(super) readers: SqlitePool,
    /// The only connection that writes.
    pub(super) writer: SqlitePool,
    /// Who waits for it.
    turns: Arc<Turns>,
}

/// A transaction that writes, with the turn of its workspace.
pub(super) struct WriteTransaction {
    transaction: Transaction<'static, sqlx::Sqlite>,
    _turn: Turn,
}

impl WriteTransaction {
    pub(super) async fn commit(self) -> Result<(), Failure> {
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
    /// Opens the database, as [`crate::store::open`] says.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        let store = Self::connect(path).await?;
        migrator().run(&store.writer).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::VersionMissing(_) => Failure::new(
                Kind::StateVersion,
                format!("{} was written by a newer version", path.display()),
            ),
            other => unusable(path, &other),
        })?;
        Ok(store)
    }

    /// Opens the database of a running relay, as [`crate::store::join`] says.
    pub(crate) async fn join(path: &Path) -> Result<Self, Failure> {
        let store = Self::connect(path).await?;
        let version = sqlx::query_scalar::<_, i64>("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&store.readers)
            .await
            .map_err(|error| unusable(path, &error))?;
        if newest() == Some(version) {
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

    pub(super) async fn read(&self) -> Result<PoolConnection<sqlx::Sqlite>, Failure> {
        self.readers.acquire().await.map_err(database_failure)
    }

    /// Begins a transaction for a workspace; `None` is the relay itself, and peers that have no
    /// workspace yet.
    pub(super) async fn write(
        &self,
        workspace: Option<WorkspaceId>,
    ) -> Result<WriteTransaction, Failure> {
        let begin = async {
            let turn = self.turns.take(workspace).await;
            let transaction =
                self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(database_failure)?;
            Ok(WriteTransaction { transaction, _turn: turn })
        };
        timeout(LONGEST_WAIT, begin).await.unwrap_or_else(|_| Err(overload()))
    }

    pub(super) async fn check(&self) -> Result<(), Failure> {
        let checked = sqlx::query("SELECT 1").execute(&self.readers).await;
        checked.map(drop).map_err(|_| probe_failure())
    }

    /// Writes the log back to the database and leaves the log file beside it, as a kill does: with
    /// a full disk the next start would have no room to create it again.
    pub(super) async fn close(&self) -> Result<(), Failure> {
        // What is not written back now is written back by the next start.
        let _ = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&self.writer).await;
        // SQLite deletes the log when the last connection closes. A second call finds the first
        // one's value.
        let _ = CLOSED.set(self.clone());
        Ok(())
    }
}

/// Logs a failure of the database, and returns what a peer is told about it.
pub(super) fn database_failure(error: sqlx::Error) -> Failure {
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return overload();
    }
    tracing::error!(%error, "the database failed");
    Failure::new(Kind::RelayDenied, "the relay's database failed")
        .with_hint("ask the operator of the relay to look at its log")
}

/// Returns the failure of a lookup that no peer waits for. Such a lookup comes every few seconds,
/// so its failure is not logged, and it does not count as a peer that was refused.
pub(super) fn probe_failure() -> Failure {
    Failure::new(Kind::RelayDenied, "the relay's database does not answer")
}

pub(super) fn damaged_record() -> Failure {
    Failure::new(Kind::RelayDenied, "a record in the relay's database is damaged")
}

fn unusable(path: &Path, error: &dyn Display) -> Failure {
    Failure::new(Kind::Io, format!("{}: {error}", path.display()))
}
