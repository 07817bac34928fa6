//! The relay's books, in SQLite through sqlx.
//!
//! Each file below is one book. Times are seconds since 1970 by the relay's clock.
//!
//! One connection writes, and whoever wants to write waits for it: SQLite has one writer at a time, and
//! a transaction that has read and then finds another writing fails at once. One of each workspace waits there at a
//! time, and the others behind it. The connections that read cannot write. Those who are not let in never reach the
//! one that does.

pub(crate) mod identities;
pub(crate) mod invites;
pub(crate) mod mail;
pub(crate) mod servers;

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farwire_protocol::failure::{Failure, Kind};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::time::timeout;

use crate::turns::{Turn, Turns, Whose};

/// How many connections read.
const READERS: u32 = 4;

/// How long a call waits for its turn at the books: less than programs wait for an answer.
pub(crate) const TURN: Duration = Duration::from_secs(10);

/// Connections that are never closed: see [`Db::leave`].
static OPEN: OnceLock<Db> = OnceLock::new();

/// The books.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    /// Connections that read.
    pool: SqlitePool,
    /// The one that writes, for those who have been let in.
    writer: SqlitePool,
    /// Who waits for it.
    turns: Arc<Turns>,
}

/// A transaction that writes, and whose turn it is.
struct Writing {
    tx: Transaction<'static, Sqlite>,
    _turn: Turn,
}

impl Deref for Writing {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.tx
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }
}

/// It was not anybody's turn in time. Nothing has been done.
pub(crate) fn busy() -> Failure {
    metrics::counter!("farwire_relay_busy_total").increment(1);
    Failure::new(Kind::Overloaded, "the relay has too much to write and to look up")
        .with_hint("ask again in a moment")
}

/// What no caller can do anything about but say so.
pub(crate) fn broken(error: &sqlx::Error) -> Failure {
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return busy();
    }
    tracing::error!(%error, "the database failed");
    Failure::new(Kind::RelayDenied, "the relay's database failed")
        .with_hint("ask whoever runs the relay to look at its log")
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Io, format!("{}: {error}", path.display()))
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

pub(crate) fn seconds(time: i64) -> u64 {
    u64::try_from(time).unwrap_or(0)
}

impl Db {
    /// Opens the database, makes it if it is missing, and brings it to this version. Only for the process that has
    /// the lock of the data directory: a relay that runs goes on with the tables that it knows.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        let db = Self::connect(path).await?;
        sqlx::migrate!().run(&db.writer).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::VersionMissing(_) => Failure::new(
                Kind::StateVersion,
                format!("{} was written by a newer version", path.display()),
            ),
            other => failed(path, &other),
        })?;
        Ok(db)
    }

    /// Opens the database of a relay that runs, which must be of this version.
    pub(crate) async fn join(path: &Path) -> Result<Self, Failure> {
        let db = Self::connect(path).await?;
        let version = sqlx::query_scalar::<_, i64>("SELECT max(version) FROM _sqlx_migrations");
        let version = version.fetch_one(&db.pool).await.map_err(|error| failed(path, &error))?;
        let ours = sqlx::migrate!().iter().map(|migration| migration.version).max();
        if ours == Some(version) {
            return Ok(db);
        }
        let text = "the relay that runs with this data is of another version";
        Err(Failure::new(Kind::StateVersion, text)
            .with_hint("restart it with this version of farwire-relay first"))
    }

    async fn connect(path: &Path) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // `farwire-relay invite` is another process.
            .busy_timeout(Duration::from_secs(5));
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(TURN)
            // A full disk makes SQLite roll back by itself. sqlx then rolls back in vain, counts the transaction as
            // open, and begins no other on that connection: such a one is closed, and another is made.
            .before_acquire(|writer, _| Box::pin(async { Ok(!writer.is_in_transaction()) }))
            .connect_with(options.clone())
            .await
            .map_err(|error| failed(path, &error))?;
        let pool = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(TURN)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(|error| failed(path, &error))?;
        Ok(Self { pool, writer, turns: Turns::new(1) })
    }

    /// Begins to write for a workspace, after those of the same one who came before, and one of each other.
    async fn write(&self, whose: Whose) -> Result<Writing, Failure> {
        let begun = async {
            let turn = self.turns.take(whose).await;
            let tx = self.writer.begin_with("BEGIN IMMEDIATE").await;
            Ok(Writing { tx: tx.map_err(|error| broken(&error))?, _turn: turn })
        };
        timeout(TURN, begun).await.unwrap_or_else(|_| Err(busy()))
    }

    /// Whether the books can be read.
    pub(crate) async fn ready(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }

    /// Ends.
    ///
    /// SQLite's log stays beside the database, as after a kill: a start with a full disk would not have
    /// the room to make it anew.
    pub(crate) async fn leave(&self) {
        // What is not brought over now is with the next start.
        let _ = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&self.writer).await;
        // It fails when there is one already, which is the same.
        let _ = OPEN.set(self.clone());
    }
}

/// Ends a transaction that holds all of what was to be done.
async fn commit(writing: Writing) -> Result<(), Failure> {
    writing.tx.commit().await.map_err(|error| broken(&error))
}

/// What a peer has named, for a message to the same peer: as much of it as a name may have.
pub(crate) fn named(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_default).collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
