//! Identities that have connected: the highest bundle of each, and the workspace of a device.

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kind as IdKind;
use sqlx::{Row as _, SqliteConnection};

use crate::db::{Db, broken, invites, now};

/// A workspace's number in these books.
pub(crate) type Workspace = i64;

fn denied(message: &str) -> Failure {
    Failure::new(Kind::RelayDenied, message)
}

impl Db {
    /// Keeps the bundle if it is the highest of its identity, and gives the workspace of a device.
    pub(crate) async fn know(&self, bundle: &SignedBundle) -> Result<Option<Workspace>, Failure> {
        let mut tx = self.pool.begin().await.map_err(|error| broken(&error))?;
        let workspace = keep(&mut tx, bundle).await?;
        tx.commit().await.map_err(|error| broken(&error))?;
        Ok(workspace)
    }

    /// Makes a workspace with its first device, if the invite is good: all of it or nothing. The
    /// same device may say it again.
    pub(crate) async fn found(
        &self,
        bundle: &SignedBundle,
        invite: &[u8],
        genesis: &[u8],
    ) -> Result<Workspace, Failure> {
        let kt = bundle.kt.0.to_vec();
        let mut tx = self.pool.begin().await.map_err(|error| broken(&error))?;
        let row = sqlx::query("SELECT expires, used_by FROM invites WHERE hash = ?")
            .bind(invites::hash(invite))
            .fetch_optional(&mut *tx)
            .await
            .map_err(|error| broken(&error))?
            .ok_or_else(|| Failure::new(Kind::InviteUsed, "the relay knows no such invite"))?;
        let used_by: Option<Vec<u8>> = row.get("used_by");
        let known = keep(&mut tx, bundle).await?;
        if let Some(workspace) = known.filter(|_| used_by.as_ref() == Some(&kt)) {
            return Ok(workspace);
        }
        if used_by.is_some() {
            return Err(Failure::new(Kind::InviteUsed, "the invite has been used"));
        }
        if row.get::<i64, _>("expires") < now() {
            return Err(Failure::new(Kind::InviteUsed, "the invite has expired"));
        }
        if known.is_some() {
            return Err(denied("this device has a workspace here already"));
        }
        let statement = "INSERT INTO workspaces (genesis, founder, created) VALUES (?, ?, ?)";
        let workspace = sqlx::query(statement)
            .bind(genesis)
            .bind(&kt)
            .bind(now())
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?
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
        tx.commit().await.map_err(|error| broken(&error))?;
        Ok(workspace)
    }
}

/// Inserts or updates a bundle; refuses one that is older, forked, or holds another's key.
pub(super) async fn keep(
    tx: &mut SqliteConnection,
    bundle: &SignedBundle,
) -> Result<Option<Workspace>, Failure> {
    let id = bundle.id.0.to_vec();
    let known = sqlx::query("SELECT bundle, workspace FROM identities WHERE id = ?")
        .bind(&id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(|error| broken(&error))?;
    let bytes = bundle.encode();
    let statement = match &known {
        None => "INSERT INTO identities (kind, seq, kn, kt, bundle, id) VALUES (?, ?, ?, ?, ?, ?)",
        Some(row) => {
            let old: Vec<u8> = row.get("bundle");
            if old == bytes {
                return Ok(row.get("workspace"));
            }
            let old = SignedBundle::decode(&old).map_err(|_| denied("a damaged record"))?;
            if !bundle.succeeds(&old) {
                return Err(denied("a newer bundle of this identity is known"));
            }
            "UPDATE identities SET kind = ?, seq = ?, kn = ?, kt = ?, bundle = ? WHERE id = ?"
        }
    };
    let kind = match bundle.kind {
        IdKind::Device => 1_i64,
        IdKind::Agent => 2,
    };
    sqlx::query(statement)
        .bind(kind)
        .bind(i64::try_from(bundle.seq).unwrap_or(i64::MAX))
        .bind(bundle.kn.0.to_vec())
        .bind(bundle.kt.0.to_vec())
        .bind(bytes)
        .bind(id)
        .execute(&mut *tx)
        .await
        .map_err(|error| match error.as_database_error() {
            Some(inner) if inner.is_unique_violation() => {
                denied("another identity holds one of these keys")
            }
            _ => broken(&error),
        })?;
    Ok(known.and_then(|row| row.get("workspace")))
}
