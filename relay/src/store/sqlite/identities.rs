//! Identities that were let in: the newest bundle of each, and the workspace of a device.
//!
//! An identity is its `ID`. The other keys of a bundle are claims of its owner: the relay knows
//! that somebody holds `KT` once they have connected with it, and never learns whether they hold
//! `KN`. Nobody is refused because of another identity's claim.

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::Failure;
use farwire_protocol::id::{Id, Kind as IdKind};
use sqlx::{Row as _, SqliteConnection};

use super::connections::{Sqlite, database_failure};
use super::invites;
use crate::clock::now;
use crate::store::records::Founding;
use crate::store::rules::{self, BundleSource, KnownIdentity};
use crate::workspace::WorkspaceId;

pub(super) async fn admit_device(
    store: &Sqlite,
    bundle: &SignedBundle,
) -> Result<Option<WorkspaceId>, Failure> {
    let known = find(&mut *store.read().await?, bundle.id).await?;
    let Some(workspace) = known.as_ref().and_then(|known| known.workspace) else {
        return Ok(None);
    };
    keep_from_owner(store, bundle, known, workspace).await?;
    Ok(Some(workspace))
}

pub(super) async fn admit_agent(
    store: &Sqlite,
    bundle: &SignedBundle,
    workspace: WorkspaceId,
) -> Result<(), Failure> {
    let known = find(&mut *store.read().await?, bundle.id).await?;
    keep_from_owner(store, bundle, known, workspace).await
}

/// Keeps a bundle whose owner has connected. A known one takes no turn of those who write.
async fn keep_from_owner(
    store: &Sqlite,
    bundle: &SignedBundle,
    known: Option<KnownIdentity>,
    workspace: WorkspaceId,
) -> Result<(), Failure> {
    if known.is_some_and(|known| known.proven && known.bundle == bundle.encode()) {
        return Ok(());
    }
    let mut writer = store.write(Some(workspace)).await?;
    keep(&mut writer, bundle, BundleSource::Owner).await?;
    writer.commit().await
}

pub(super) async fn found_workspace(
    store: &Sqlite,
    founding: Founding<'_>,
) -> Result<WorkspaceId, Failure> {
    // An invite that is not good takes no turn of those who write.
    redeem(&mut *store.read().await?, founding).await?;
    let mut writer = store.write(None).await?;
    if let Some(workspace) = redeem(&mut writer, founding).await? {
        return Ok(workspace);
    }
    let Founding { device, invite, genesis } = founding;
    keep(&mut writer, device, BundleSource::Owner).await?;
    let workspace =
        sqlx::query("INSERT INTO workspaces (genesis, founder, created) VALUES (?, ?, ?)")
            .bind(genesis)
            .bind(device.kt.0.to_vec())
            .bind(now())
            .execute(&mut *writer)
            .await
            .map_err(|error| match error.as_database_error() {
                Some(inner) if inner.is_unique_violation() => rules::has_workspace(),
                _ => database_failure(error),
            })?
            .last_insert_rowid();
    sqlx::query("UPDATE identities SET workspace = ? WHERE id = ?")
        .bind(workspace)
        .bind(device.id.0.to_vec())
        .execute(&mut *writer)
        .await
        .map_err(database_failure)?;
    invites::mark_used(&mut writer, invite, device.kt).await?;
    writer.commit().await?;
    Ok(WorkspaceId(workspace))
}

async fn redeem(
    connection: &mut SqliteConnection,
    founding: Founding<'_>,
) -> Result<Option<WorkspaceId>, Failure> {
    let invite = invites::find(&mut *connection, founding.invite).await?;
    let known = find(connection, founding.device.id).await?;
    let workspace = known.and_then(|known| known.workspace);
    rules::redeem(invite, founding.device.kt, workspace, now())
}

pub(super) async fn has_workspace(store: &Sqlite) -> Result<bool, Failure> {
    sqlx::query_scalar::<_, i64>("SELECT EXISTS (SELECT 1 FROM workspaces)")
        .fetch_one(&store.readers)
        .await
        .map(|found| found != 0)
        .map_err(database_failure)
}

async fn find(connection: &mut SqliteConnection, id: Id) -> Result<Option<KnownIdentity>, Failure> {
    let row = sqlx::query("SELECT bundle, proven, workspace FROM identities WHERE id = ?")
        .bind(id.0.to_vec())
        .fetch_optional(connection)
        .await
        .map_err(database_failure)?;
    Ok(row.map(|row| KnownIdentity {
        bundle: row.get("bundle"),
        proven: row.get::<i64, _>("proven") != 0,
        workspace: row.get::<Option<i64>, _>("workspace").map(WorkspaceId),
    }))
}

/// Inserts or replaces the bundle of an identity. Refuses an older or forked one, and from its
/// owner also a `KT` with which another identity has connected.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    bundle: &SignedBundle,
    source: BundleSource,
) -> Result<(), Failure> {
    let known = find(connection, bundle.id).await?;
    let proven = rules::succeed(known.as_ref(), bundle, source)?;
    if source == BundleSource::Owner && has_proven_key(connection, bundle).await? {
        return Err(rules::key_of_another());
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
    .bind(bundle.encode())
    .bind(i64::from(proven))
    .execute(connection)
    .await
    .map(drop)
    .map_err(database_failure)
}

/// Deletes an agent that no record names any more, unless it has connected: of a bundle that was
/// only accepted nothing is known but the word of the workspace that accepted it.
pub(super) async fn forget_unproven(
    connection: &mut SqliteConnection,
    agent: Id,
) -> Result<(), Failure> {
    sqlx::query("DELETE FROM identities WHERE id = ? AND proven = 0 AND workspace IS NULL")
        .bind(agent.0.to_vec())
        .execute(connection)
        .await
        .map(drop)
        .map_err(database_failure)
}

/// Returns whether another identity has connected with the `KT` of this bundle.
async fn has_proven_key(
    connection: &mut SqliteConnection,
    bundle: &SignedBundle,
) -> Result<bool, Failure> {
    sqlx::query_scalar::<_, i64>(
        "SELECT EXISTS (SELECT 1 FROM identities WHERE kt = ? AND id <> ? AND proven = 1)",
    )
    .bind(bundle.kt.0.to_vec())
    .bind(bundle.id.0.to_vec())
    .fetch_one(connection)
    .await
    .map(|found| found != 0)
    .map_err(database_failure)
}
