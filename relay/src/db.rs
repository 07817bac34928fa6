//! The relay's books, in SQLite through sqlx: the same queries will do for PostgreSQL.
//!
//! Each file below is one book. Times are seconds since 1970 by the relay's clock.

pub(crate) mod identities;
pub(crate) mod invites;
pub(crate) mod mail;
pub(crate) mod servers;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farwire_protocol::failure::{Failure, Kind};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// The books.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    pool: SqlitePool,
}

/// What no caller can do anything about but say so.
pub(crate) fn broken(error: &sqlx::Error) -> Failure {
    tracing::error!(%error, "the database failed");
    Failure::new(Kind::RelayDenied, "the relay's database failed")
        .with_hint("ask whoever runs the relay to look at its log")
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
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(Kind::Io, format!("{}: {error}", path.display()))
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .map_err(|error| failed(&error))?;
        sqlx::migrate!().run(&pool).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::VersionMissing(_) => Failure::new(
                Kind::StateVersion,
                format!("{} was written by a newer version", path.display()),
            ),
            other => failed(&other),
        })?;
        Ok(Self { pool })
    }

    /// Whether the books can be read.
    pub(crate) async fn ready(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.pool).await.is_ok()
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}
