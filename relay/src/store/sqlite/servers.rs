//! Servers: the names and labels that an operator gave, and the agent that a record is bound to.

use std::collections::BTreeMap;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::outer::{Record, ServerCreate, ServerUpdate};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::connections::{Sqlite, damaged_record, database_failure};
use super::identities;
use crate::clock::{now, seconds};
use crate::store::records::{Server, ServerPage, Sighting};
use crate::store::rules::{self, SERVERS_READ, is_duplicate};
use crate::workspace::WorkspaceId;

/// A token that is to be kept for a record.
struct NewEnrollment {
    id: Nonce,
    record: Nonce,
    workspace: WorkspaceId,
    /// In seconds.
    lifetime: u32,
}

pub(super) async fn list_enrolled(store: &Sqlite) -> Result<Vec<Server>, Failure> {
    let rows = sqlx::query("SELECT * FROM servers WHERE agent IS NOT NULL")
        .fetch_all(&store.readers)
        .await
        .map_err(database_failure)?;
    rows.iter().map(server_from).collect()
}

pub(super) async fn list(
    store: &Sqlite,
    workspace: WorkspaceId,
    skip: u32,
) -> Result<ServerPage, Failure> {
    let statement = "SELECT * FROM servers WHERE workspace = ? ORDER BY name LIMIT ? OFFSET ?";
    let one_more = i64::try_from(SERVERS_READ + 1).expect("a small number");
    let rows = sqlx::query(statement)
        .bind(workspace.0)
        .bind(one_more)
        .bind(i64::from(skip))
        .fetch_all(&store.readers)
        .await
        .map_err(database_failure)?;
    let servers = rows.iter().take(SERVERS_READ).map(server_from).collect::<Result<_, _>>()?;
    Ok(ServerPage { servers, more: rows.len() > SERVERS_READ })
}

pub(super) async fn of_agent(store: &Sqlite, agent: Id) -> Result<Server, Failure> {
    find_agent(&mut *store.read().await?, agent).await
}

pub(super) async fn create(
    store: &Sqlite,
    workspace: WorkspaceId,
    create: &ServerCreate,
) -> Result<Server, Failure> {
    rules::check_name(&create.name)?;
    rules::check_labels(&create.labels)?;
    let mut writer = store.write(Some(workspace)).await?;
    let servers = sqlx::query_scalar("SELECT count(*) FROM servers WHERE workspace = ?")
        .bind(workspace.0)
        .fetch_one(&mut *writer)
        .await
        .map_err(database_failure)?;
    rules::check_server_count(servers)?;
    let mut record = Nonce([0; 16]);
    getrandom::fill(&mut record.0)
        .map_err(|error| Failure::new(Kind::Io, format!("no random numbers: {error}")))?;
    sqlx::query(
        "INSERT INTO servers (record, workspace, name, labels, created) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(record.0.to_vec())
    .bind(workspace.0)
    .bind(&create.name)
    .bind(to_json(&create.labels)?)
    .bind(now())
    .execute(&mut *writer)
    .await
    .map_err(|error| unique_violation(error, || rules::name_taken(&create.name)))?;
    let (id, lifetime) = (create.enrollment, create.lifetime);
    add_enrollment(&mut writer, NewEnrollment { id, record, workspace, lifetime }).await?;
    // Read before the commit: if reading fails, the caller is rightly told that nothing was done.
    let server = find(&mut writer, workspace, &create.name).await?;
    writer.commit().await?;
    Ok(server)
}

pub(super) async fn update(
    store: &Sqlite,
    workspace: WorkspaceId,
    update: &ServerUpdate,
) -> Result<Server, Failure> {
    rules::check_name(update.rename.as_ref().unwrap_or(&update.name))?;
    // An unknown name takes no turn of those who write.
    find(&mut *store.read().await?, workspace, &update.name).await?;
    let mut writer = store.write(Some(workspace)).await?;
    let old = find(&mut writer, workspace, &update.name).await?;
    let record = old.record.id;
    let fields = rules::apply_update(old.record, old.suspended, update)?;
    sqlx::query("UPDATE servers SET name = ?, labels = ?, suspended = ? WHERE record = ?")
        .bind(fields.name)
        .bind(to_json(&fields.labels)?)
        .bind(i64::from(fields.suspended))
        .bind(record.0.to_vec())
        .execute(&mut *writer)
        .await
        .map_err(|error| unique_violation(error, || rules::name_taken(fields.name)))?;
    if let Some(id) = update.enrollment {
        let lifetime = update.lifetime.unwrap_or(rules::TOKEN_LIFETIME);
        add_enrollment(&mut writer, NewEnrollment { id, record, workspace, lifetime }).await?;
    }
    let server = find(&mut writer, workspace, fields.name).await?;
    writer.commit().await?;
    Ok(server)
}

pub(super) async fn remove(
    store: &Sqlite,
    workspace: WorkspaceId,
    name: &str,
) -> Result<Server, Failure> {
    // An unknown name takes no turn of those who write.
    find(&mut *store.read().await?, workspace, name).await?;
    let mut writer = store.write(Some(workspace)).await?;
    let server = find(&mut writer, workspace, name).await?;
    sqlx::query("DELETE FROM servers WHERE record = ?")
        .bind(server.record.id.0.to_vec())
        .execute(&mut *writer)
        .await
        .map_err(database_failure)?;
    if let Some(agent) = server.record.agent {
        identities::forget_unproven(&mut writer, agent).await?;
    }
    writer.commit().await?;
    Ok(server)
}

pub(super) async fn note_sightings(store: &Sqlite, sightings: &[Sighting]) -> Result<(), Failure> {
    let mut writer = store.write(None).await?;
    for Sighting { agent, left, duplicate } in sightings {
        sqlx::query(
            "UPDATE servers SET seen = coalesce(?, seen), build = coalesce(?, build), \
             duplicate = coalesce(?, duplicate) WHERE agent = ?",
        )
        .bind(left.as_ref().map(|left| left.at))
        .bind(left.as_ref().map(|left| &left.build))
        .bind(*duplicate)
        .bind(agent.0.to_vec())
        .execute(&mut *writer)
        .await
        .map_err(database_failure)?;
    }
    writer.commit().await
}

async fn find(
    connection: &mut SqliteConnection,
    workspace: WorkspaceId,
    name: &str,
) -> Result<Server, Failure> {
    let row = sqlx::query("SELECT * FROM servers WHERE workspace = ? AND name = ?")
        .bind(workspace.0)
        .bind(name)
        .fetch_optional(connection)
        .await
        .map_err(database_failure)?;
    server_from(&row.ok_or_else(|| rules::unknown_server(name))?)
}

pub(super) async fn find_agent(
    connection: &mut SqliteConnection,
    agent: Id,
) -> Result<Server, Failure> {
    let row = sqlx::query("SELECT * FROM servers WHERE agent = ?")
        .bind(agent.0.to_vec())
        .fetch_optional(connection)
        .await
        .map_err(database_failure)?;
    server_from(&row.ok_or_else(rules::unknown_agent)?)
}

fn server_from(row: &SqliteRow) -> Result<Server, Failure> {
    let id: Vec<u8> = row.get("record");
    let agent: Option<Vec<u8>> = row.get("agent");
    let agent = agent.map(|id| id.try_into().map(Id).map_err(|_| damaged_record())).transpose()?;
    let suspended = row.get::<i64, _>("suspended") != 0;
    let duplicate: Option<i64> = row.get("duplicate");
    let record = Record {
        id: Nonce(id.try_into().map_err(|_| damaged_record())?),
        name: row.get("name"),
        labels: serde_json::from_str(row.get("labels")).map_err(|_| damaged_record())?,
        state: rules::server_state(agent.is_some(), suspended),
        agent,
        created: seconds(row.get("created")),
        seen: row.get::<Option<i64>, _>("seen").map(seconds),
        build: row.get("build"),
        duplicate: duplicate.filter(|seen| is_duplicate(*seen, now())).map(seconds),
    };
    Ok(Server { workspace: WorkspaceId(row.get("workspace")), record, suspended })
}

async fn add_enrollment(
    connection: &mut SqliteConnection,
    new: NewEnrollment,
) -> Result<(), Failure> {
    let enrollments = sqlx::query_scalar("SELECT count(*) FROM enrollments WHERE workspace = ?")
        .bind(new.workspace.0)
        .fetch_one(&mut *connection)
        .await
        .map_err(database_failure)?;
    rules::check_token(new.lifetime, enrollments)?;
    sqlx::query("INSERT INTO enrollments (id, record, workspace, expires) VALUES (?, ?, ?, ?)")
        .bind(new.id.0.to_vec())
        .bind(new.record.0.to_vec())
        .bind(new.workspace.0)
        .bind(now() + i64::from(new.lifetime))
        .execute(connection)
        .await
        .map(drop)
        .map_err(|error| unique_violation(error, rules::enrollment_taken))
}

fn to_json(labels: &BTreeMap<String, String>) -> Result<String, Failure> {
    serde_json::to_string(labels)
        .map_err(|_| Failure::new(Kind::InvalidArgument, "the labels cannot be stored"))
}

/// Returns what a peer is told when a row with the same key exists.
fn unique_violation(error: sqlx::Error, taken: impl FnOnce() -> Failure) -> Failure {
    match error.as_database_error() {
        Some(inner) if inner.is_unique_violation() => taken(),
        _ => database_failure(error),
    }
}
