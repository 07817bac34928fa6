//! The mailbox of each enrollment: blobs that the relay cannot open.
//!
//! An enrollment holds up to four different requests, so that the inviter sees a second one, even
//! one that comes after the answer. Requests are kept for seven days after their token expired,
//! answers for seven days.

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::Failure;
use farwire_protocol::id::{Id, Nonce};
use farwire_protocol::outer::{Mail, MailAnswer, MailPiece, MailState, page};
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::connections::{Sqlite, damaged_record, database_failure, probe_failure};
use super::{identities, servers};
use crate::clock::{now, seconds};
use crate::store::records::{Acceptance, StoredRequest};
use crate::store::rules::{
    self, BundleSource, Filing, KeptAnswer, KeptEnrollment, MAIL_KEPT, REQUESTS_READ,
    unknown_enrollment,
};
use crate::workspace::WorkspaceId;

pub(super) async fn workspace(
    store: &Sqlite,
    enrollment: Nonce,
) -> Result<Option<WorkspaceId>, Failure> {
    let row = find(&mut *store.read().await?, enrollment).await?;
    Ok(row.map(|row| enrollment_from(&row).workspace))
}

pub(super) async fn state(store: &Sqlite, enrollment: Nonce) -> Result<MailState, Failure> {
    let mut reader = store.read().await?;
    let Some(row) = find(&mut reader, enrollment).await? else {
        return Ok(MailState::Unknown);
    };
    let requests = count_requests(&mut reader, enrollment).await?;
    Ok(rules::mail_state(&enrollment_from(&row), requests, now()))
}

pub(super) async fn put_request(
    store: &Sqlite,
    enrollment: Nonce,
    blob: &[u8],
) -> Result<StoredRequest, Failure> {
    rules::check_mail_size("request", blob)?;
    let hash = Sha256::digest(blob).to_vec();
    let filing = file(&mut *store.read().await?, enrollment, &hash).await?;
    // A request that changes nothing takes no turn of those who write.
    let Filing::New(StoredRequest { workspace, .. }) = filing else {
        return Ok(filing.request());
    };
    let mut writer = store.write(Some(workspace)).await?;
    let filing = file(&mut writer, enrollment, &hash).await?;
    let Filing::New(request) = filing else { return Ok(filing.request()) };
    sqlx::query("INSERT INTO mail (enrollment, hash, blob, came, late) VALUES (?, ?, ?, ?, ?)")
        .bind(enrollment.0.to_vec())
        .bind(hash)
        .bind(blob)
        .bind(now())
        .bind(i64::from(request.late))
        .execute(&mut *writer)
        .await
        .map_err(database_failure)?;
    writer.commit().await?;
    Ok(request)
}

async fn file(
    connection: &mut SqliteConnection,
    enrollment: Nonce,
    hash: &[u8],
) -> Result<Filing, Failure> {
    let row = find(connection, enrollment).await?.ok_or_else(unknown_enrollment)?;
    let late: Option<i64> =
        sqlx::query_scalar("SELECT late FROM mail WHERE enrollment = ? AND hash = ?")
            .bind(enrollment.0.to_vec())
            .bind(hash)
            .fetch_optional(&mut *connection)
            .await
            .map_err(database_failure)?;
    let requests = count_requests(connection, enrollment).await?;
    rules::file_request(&enrollment_from(&row), late.map(|late| late != 0), requests, now())
}

pub(super) async fn list_requests(
    store: &Sqlite,
    workspace: WorkspaceId,
    only: Option<Nonce>,
    after: u64,
) -> Result<Mail, Failure> {
    let only = only.map(|enrollment| enrollment.0.to_vec());
    let one_more = i64::try_from(REQUESTS_READ + 1).expect("a small number");
    let rows = sqlx::query(
        "SELECT mail.rowid AS place, mail.enrollment, mail.blob, mail.came, mail.late \
         FROM mail JOIN enrollments ON enrollments.id = mail.enrollment \
         WHERE enrollments.workspace = ? \
         AND (enrollments.answered IS NULL OR mail.late = 1) \
         AND (? IS NULL OR enrollments.id = ?) AND mail.rowid > ? \
         ORDER BY mail.rowid LIMIT ?",
    )
    .bind(workspace.0)
    .bind(only.clone())
    .bind(only)
    .bind(i64::try_from(after).unwrap_or(i64::MAX))
    .bind(one_more)
    .fetch_all(&store.readers)
    .await
    .map_err(database_failure)?;
    let all = rows.iter().take(REQUESTS_READ).map(piece_from).collect::<Result<Vec<_>, _>>()?;
    let pieces = page(all);
    let more = pieces.len() < rows.len();
    let last = pieces.len().checked_sub(1).and_then(|at| rows.get(at));
    let next = last.filter(|_| more).map(|row| seconds(row.get("place")));
    Ok(Mail { pieces, next })
}

pub(super) async fn has_requests(store: &Sqlite, workspace: WorkspaceId) -> Result<bool, Failure> {
    sqlx::query_scalar::<_, i64>(
        "SELECT EXISTS (SELECT 1 FROM mail \
         JOIN enrollments ON enrollments.id = mail.enrollment \
         WHERE enrollments.workspace = ? \
         AND (enrollments.answered IS NULL OR mail.late = 1))",
    )
    .bind(workspace.0)
    .fetch_one(&store.readers)
    .await
    .map(|found| found != 0)
    .map_err(|_| probe_failure())
}

pub(super) async fn answer(store: &Sqlite, enrollment: Nonce) -> Result<Mail, Failure> {
    let row = find(&mut *store.read().await?, enrollment).await?.ok_or_else(unknown_enrollment)?;
    let blob: Option<Vec<u8>> = row.get("answer");
    let age = enrollment_from(&row).answered.map_or(0, |answered| seconds(now() - answered));
    let piece = blob.map(|blob| MailPiece { enrollment, blob: blob.into(), age, late: None });
    Ok(Mail { pieces: piece.into_iter().collect(), next: None })
}

pub(super) async fn accept_agent(
    store: &Sqlite,
    workspace: WorkspaceId,
    answer: &MailAnswer,
    agent: &SignedBundle,
) -> Result<Acceptance, Failure> {
    rules::check_mail_size("answer", &answer.blob)?;
    let mut writer = store.write(Some(workspace)).await?;
    let row = find(&mut writer, answer.enrollment)
        .await?
        .filter(|row| enrollment_from(row).workspace == workspace)
        .ok_or_else(unknown_enrollment)?;
    let bundle = Sha256::digest(agent.encode()).to_vec();
    let previous: Option<Vec<u8>> = row.get("answer");
    let previous = previous.map(|blob| KeptAnswer { blob, bundle: row.get("bundle") });
    rules::check_answer(previous.as_ref(), &answer.blob, &bundle)?;
    check_binding(&mut writer, workspace, agent).await?;
    let record: Vec<u8> = row.get("record");
    let before = bound_agent(&mut writer, &record).await?;
    identities::keep(&mut writer, agent, BundleSource::Acceptance).await?;
    sqlx::query(
        "UPDATE enrollments SET answer = ?, bundle = ?, answered = coalesce(answered, ?) \
         WHERE id = ?",
    )
    .bind(&answer.blob.0)
    .bind(bundle)
    .bind(now())
    .bind(answer.enrollment.0.to_vec())
    .execute(&mut *writer)
    .await
    .map_err(database_failure)?;
    bind_agent(&mut writer, &record, agent.id).await?;
    let replaced = before.filter(|before| *before != agent.id);
    if let Some(replaced) = replaced {
        identities::forget_unproven(&mut writer, replaced).await?;
    }
    let server = servers::find_agent(&mut writer, agent.id).await?;
    writer.commit().await?;
    Ok(Acceptance { server, replaced })
}

async fn check_binding(
    connection: &mut SqliteConnection,
    workspace: WorkspaceId,
    agent: &SignedBundle,
) -> Result<(), Failure> {
    let genesis: Vec<u8> = sqlx::query_scalar("SELECT genesis FROM workspaces WHERE id = ?")
        .bind(workspace.0)
        .fetch_one(&mut *connection)
        .await
        .map_err(database_failure)?;
    let elsewhere: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM servers WHERE agent = ? AND workspace <> ?)",
    )
    .bind(agent.id.0.to_vec())
    .bind(workspace.0)
    .fetch_one(&mut *connection)
    .await
    .map_err(database_failure)?;
    rules::check_binding(&genesis, agent, elsewhere != 0)
}

/// Returns the agent that a record is bound to.
async fn bound_agent(
    connection: &mut SqliteConnection,
    record: &[u8],
) -> Result<Option<Id>, Failure> {
    let agent: Option<Vec<u8>> = sqlx::query_scalar("SELECT agent FROM servers WHERE record = ?")
        .bind(record)
        .fetch_one(connection)
        .await
        .map_err(database_failure)?;
    agent.map(|id| id.try_into().map(Id).map_err(|_| damaged_record())).transpose()
}

/// Binds an agent to a record, and to no other: the last record for which it was accepted has it.
async fn bind_agent(
    connection: &mut SqliteConnection,
    record: &[u8],
    agent: Id,
) -> Result<(), Failure> {
    sqlx::query("UPDATE servers SET agent = NULL WHERE agent = ? AND record <> ?")
        .bind(agent.0.to_vec())
        .bind(record)
        .execute(&mut *connection)
        .await
        .map_err(database_failure)?;
    sqlx::query("UPDATE servers SET agent = ?, seen = NULL, duplicate = NULL WHERE record = ?")
        .bind(agent.0.to_vec())
        .bind(record)
        .execute(connection)
        .await
        .map(drop)
        .map_err(database_failure)
}

pub(super) async fn sweep(store: &Sqlite) -> Result<(), Failure> {
    let mut writer = store.write(None).await?;
    sqlx::query("DELETE FROM enrollments WHERE expires < ? AND coalesce(answered, 0) < ?")
        .bind(now() - MAIL_KEPT)
        .bind(now() - MAIL_KEPT)
        .execute(&mut *writer)
        .await
        .map_err(database_failure)?;
    writer.commit().await
}

async fn find(
    connection: &mut SqliteConnection,
    enrollment: Nonce,
) -> Result<Option<SqliteRow>, Failure> {
    sqlx::query("SELECT * FROM enrollments WHERE id = ?")
        .bind(enrollment.0.to_vec())
        .fetch_optional(connection)
        .await
        .map_err(database_failure)
}

fn enrollment_from(row: &SqliteRow) -> KeptEnrollment {
    let workspace = WorkspaceId(row.get("workspace"));
    KeptEnrollment { workspace, expires: row.get("expires"), answered: row.get("answered") }
}

async fn count_requests(
    connection: &mut SqliteConnection,
    enrollment: Nonce,
) -> Result<i64, Failure> {
    sqlx::query_scalar("SELECT count(*) FROM mail WHERE enrollment = ?")
        .bind(enrollment.0.to_vec())
        .fetch_one(connection)
        .await
        .map_err(database_failure)
}

fn piece_from(row: &SqliteRow) -> Result<MailPiece, Failure> {
    let enrollment: Vec<u8> = row.get("enrollment");
    let enrollment = enrollment.try_into().map(Nonce).map_err(|_| damaged_record())?;
    let blob: Vec<u8> = row.get("blob");
    let age = seconds(now() - row.get::<i64, _>("came"));
    let late = (row.get::<i64, _>("late") != 0).then_some(true);
    Ok(MailPiece { enrollment, blob: blob.into(), age, late })
}
