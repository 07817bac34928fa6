//! Identities that have been let in: the highest bundle of each, and the workspace of a device.
//!
//! An identity is its `ID`. The other keys of a bundle are what its owner claims: that it holds `KT` is
//! known once it has connected with it, and whether it holds `KN` is never known here. Nobody is refused
//! because of what somebody else claims.

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Kind as IdKind};
use sqlx::{Row as _, SqliteConnection};

use crate::db::{Db, broken, commit, invites, now};

/// A workspace's number in these books.
pub(crate) type Workspace = i64;

/// What the books have of an identity.
struct Known {
    bundle: Vec<u8>,
    proven: bool,
    workspace: Option<Workspace>,
}

/// How the `KT` of a bundle came to be known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// Its owner has connected with it.
    Proven,
    /// Somebody who was let in says so.
    Claimed,
}

fn denied(message: &str) -> Failure {
    Failure::new(Kind::RelayDenied, message)
}

impl Db {
    /// The workspace of a device that has connected, if it has one. Its bundle is kept where it is new.
    pub(crate) async fn device(&self, bundle: &SignedBundle) -> Result<Option<Workspace>, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| broken(&error))?;
        let known = known(&mut connection, bundle.id).await?;
        drop(connection);
        let Some(workspace) = known.as_ref().and_then(|known| known.workspace) else {
            return Ok(None);
        };
        self.keep_proven(bundle, known, workspace).await?;
        Ok(Some(workspace))
    }

    /// Keeps the bundle of an agent that has connected and has a record in this workspace.
    pub(crate) async fn agent(
        &self,
        bundle: &SignedBundle,
        workspace: Workspace,
    ) -> Result<(), Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| broken(&error))?;
        let known = known(&mut connection, bundle.id).await?;
        drop(connection);
        self.keep_proven(bundle, known, workspace).await
    }

    /// Writes only what is news.
    async fn keep_proven(
        &self,
        bundle: &SignedBundle,
        known: Option<Known>,
        workspace: Workspace,
    ) -> Result<(), Failure> {
        if known.is_some_and(|known| known.proven && known.bundle == bundle.encode()) {
            return Ok(());
        }
        let mut tx = self.write(Some(workspace)).await?;
        keep(&mut tx, bundle, Source::Proven).await?;
        commit(tx).await
    }

    /// Whether an invite makes a workspace for this device.
    async fn check_invite(
        tx: &mut SqliteConnection,
        invite: &[u8],
        bundle: &SignedBundle,
    ) -> Result<Option<Workspace>, Failure> {
        let used = |message| Failure::new(Kind::InviteUsed, message);
        let row = sqlx::query("SELECT expires, used_by FROM invites WHERE hash = ?")
            .bind(invites::hash(invite))
            .fetch_optional(&mut *tx)
            .await
            .map_err(|error| broken(&error))?
            .ok_or_else(|| used("the relay knows no such invite"))?;
        let used_by: Option<Vec<u8>> = row.get("used_by");
        let workspace = known(tx, bundle.id).await?.and_then(|known| known.workspace);
        match used_by {
            Some(kt) if kt == bundle.kt.0 && workspace.is_some() => Ok(workspace),
            Some(_) => Err(used("the invite has been used")),
            None if row.get::<i64, _>("expires") < now() => Err(used("the invite has expired")),
            None if workspace.is_some() => Err(denied("this device has a workspace here already")),
            None => Ok(None),
        }
    }

    /// Makes a workspace with its first device, if the invite is good: all of it or nothing. The
    /// same device may say it again.
    pub(crate) async fn found(
        &self,
        bundle: &SignedBundle,
        invite: &[u8],
        genesis: &[u8],
    ) -> Result<Workspace, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| broken(&error))?;
        // Nothing is written for an invite that is none.
        Self::check_invite(&mut connection, invite, bundle).await?;
        drop(connection);
        let kt = bundle.kt.0.to_vec();
        let mut tx = self.write(None).await?;
        if let Some(workspace) = Self::check_invite(&mut tx, invite, bundle).await? {
            return Ok(workspace);
        }
        keep(&mut tx, bundle, Source::Proven).await?;
        let statement = "INSERT INTO workspaces (genesis, founder, created) VALUES (?, ?, ?)";
        let workspace = sqlx::query(statement)
            .bind(genesis)
            .bind(&kt)
            .bind(now())
            .execute(&mut *tx)
            .await
            .map_err(|error| match error.as_database_error() {
                Some(inner) if inner.is_unique_violation() => {
                    denied("this device has a workspace here already")
                }
                _ => broken(&error),
            })?
            .last_insert_rowid();
        sqlx::query("UPDATE identities SET workspace = ? WHERE id = ?")
            .bind(workspace)
            .bind(bundle.id.0.to_vec())
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        sqlx::query("UPDATE invites SET used_by = ? WHERE hash = ?")
            .bind(&kt)
            .bind(invites::hash(invite))
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        commit(tx).await?;
        Ok(workspace)
    }
}

async fn known(connection: &mut SqliteConnection, id: Id) -> Result<Option<Known>, Failure> {
    let row = sqlx::query("SELECT bundle, proven, workspace FROM identities WHERE id = ?")
        .bind(id.0.to_vec())
        .fetch_optional(connection)
        .await
        .map_err(|error| broken(&error))?;
    Ok(row.map(|row| Known {
        bundle: row.get("bundle"),
        proven: row.get::<i64, _>("proven") != 0,
        workspace: row.get("workspace"),
    }))
}

/// Inserts or updates a bundle. Refuses one that is older or forked, and a `KT` that another identity
/// has proven as well.
pub(super) async fn keep(
    tx: &mut SqliteConnection,
    bundle: &SignedBundle,
    source: Source,
) -> Result<(), Failure> {
    let known = known(tx, bundle.id).await?;
    let bytes = bundle.encode();
    let mut proven = source == Source::Proven;
    if let Some(known) = &known {
        let old = SignedBundle::decode(&known.bundle).map_err(|_| denied("a damaged record"))?;
        if known.bundle != bytes && !bundle.succeeds(&old) {
            return Err(denied("a newer bundle of this identity is known"));
        }
        proven |= known.proven && old.kt == bundle.kt;
    }
    if source == Source::Proven {
        let held: i64 = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM identities WHERE kt = ? AND id <> ? AND proven = 1)",
        )
        .bind(bundle.kt.0.to_vec())
        .bind(bundle.id.0.to_vec())
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| broken(&error))?;
        if held != 0 {
            return Err(denied("another identity has connected with this TLS key"));
        }
    }
    let kind = match bundle.kind {
        IdKind::Device => 1_i64,
        IdKind::Agent => 2,
    };
    sqlx::query(
        "INSERT INTO identities (id, kind, kt, bundle, proven) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (id) DO UPDATE SET kind = ?2, kt = ?3, bundle = ?4, proven = ?5",
    )
    .bind(bundle.id.0.to_vec())
    .bind(kind)
    .bind(bundle.kt.0.to_vec())
    .bind(bytes)
    .bind(i64::from(proven))
    .execute(&mut *tx)
    .await
    .map(drop)
    .map_err(|error| broken(&error))
}
