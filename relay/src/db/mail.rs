//! The mailbox of enrollments: blobs that the relay cannot open.
//!
//! Up to four different requests are kept for one enrollment, so that the inviter sees a second one, also
//! when it comes after the answer. Equal bytes are one request. Requests wait for seven days after the
//! token's time, answers as long.

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::genesis::trust_domain;
use farwire_protocol::id::{Id, Nonce, TrustDomain};
use farwire_protocol::outer::{
    MAIL_BLOBS, MAIL_LIMIT, Mail, MailAnswer, MailPiece, MailState, page,
};
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::db::identities::{Source, Workspace, keep};
use crate::db::servers::{Server, find_agent};
use crate::db::{Db, broken, commit, now, seconds};

/// How long mail is kept after its time, in seconds.
const KEEP: i64 = 7 * 24 * 3600;

/// How many pieces are read for one answer. Its bytes are enough sooner where they are large.
const BATCH: i64 = 64;

/// What became of a request that was left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Put {
    /// It waits for an answer.
    Waiting(Workspace),
    /// The enrollment has been answered: the token is used a second time. It is kept for the inviter to see.
    Late(Workspace),
}

fn unknown() -> Failure {
    Failure::new(Kind::TokenUnknown, "the relay knows no such enrollment")
}

async fn enrollment(
    connection: &mut SqliteConnection,
    id: Nonce,
) -> Result<Option<SqliteRow>, Failure> {
    sqlx::query("SELECT * FROM enrollments WHERE id = ?")
        .bind(id.0.to_vec())
        .fetch_optional(connection)
        .await
        .map_err(|error| broken(&error))
}

async fn requests(connection: &mut SqliteConnection, id: Nonce) -> Result<i64, Failure> {
    sqlx::query_scalar("SELECT count(*) FROM mail WHERE enrollment = ?")
        .bind(id.0.to_vec())
        .fetch_one(connection)
        .await
        .map_err(|error| broken(&error))
}

async fn state(
    connection: &mut SqliteConnection,
    id: Nonce,
    row: &SqliteRow,
) -> Result<MailState, Failure> {
    if row.get::<Option<i64>, _>("answered").is_some() {
        return Ok(MailState::Answered);
    }
    if requests(connection, id).await? > 0 {
        return Ok(MailState::Waiting);
    }
    let expired = row.get::<i64, _>("expires") < now();
    Ok(if expired { MailState::Expired } else { MailState::Open })
}

/// Whether the same bytes are kept already, and whether they had come late.
async fn kept(
    connection: &mut SqliteConnection,
    id: Nonce,
    hash: &[u8],
) -> Result<Option<bool>, Failure> {
    let late: Option<i64> =
        sqlx::query_scalar("SELECT late FROM mail WHERE enrollment = ? AND hash = ?")
            .bind(id.0.to_vec())
            .bind(hash)
            .fetch_optional(connection)
            .await
            .map_err(|error| broken(&error))?;
    Ok(late.map(|late| late != 0))
}

impl Db {
    /// The workspace that an enrollment is for, if there is such an enrollment.
    pub(crate) async fn enrollment_of(&self, id: Nonce) -> Result<Option<Workspace>, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| broken(&error))?;
        Ok(enrollment(&mut connection, id).await?.map(|row| row.get("workspace")))
    }

    /// How an enrollment stands.
    pub(crate) async fn mail_state(&self, id: Nonce) -> Result<MailState, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| broken(&error))?;
        let Some(row) = enrollment(&mut connection, id).await? else {
            return Ok(MailState::Unknown);
        };
        state(&mut connection, id, &row).await
    }

    /// Keeps a request.
    pub(crate) async fn put_mail(&self, id: Nonce, blob: &[u8]) -> Result<Put, Failure> {
        if blob.len() > MAIL_LIMIT {
            return Err(Failure::new(Kind::TooLarge, "an enrollment request is at most 16 KiB"));
        }
        let hash = Sha256::digest(blob).to_vec();
        let mut connection = self.pool.acquire().await.map_err(|error| broken(&error))?;
        // What changes nothing does not take the turn of those who write.
        if let Some(put) = Self::may_put(&mut connection, id, &hash).await? {
            return Ok(put);
        }
        let row = enrollment(&mut connection, id).await?.ok_or_else(unknown)?;
        drop(connection);
        let mut tx = self.write(Some(row.get("workspace"))).await?;
        if let Some(put) = Self::may_put(&mut tx, id, &hash).await? {
            return Ok(put);
        }
        let row = enrollment(&mut tx, id).await?.ok_or_else(unknown)?;
        let late = row.get::<Option<i64>, _>("answered").is_some();
        sqlx::query("INSERT INTO mail (enrollment, hash, blob, came, late) VALUES (?, ?, ?, ?, ?)")
            .bind(id.0.to_vec())
            .bind(hash)
            .bind(blob)
            .bind(now())
            .bind(i64::from(late))
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        commit(tx).await?;
        let workspace = row.get("workspace");
        Ok(if late { Put::Late(workspace) } else { Put::Waiting(workspace) })
    }

    /// What becomes of a request; `None` when it is to be kept.
    async fn may_put(
        connection: &mut SqliteConnection,
        id: Nonce,
        hash: &[u8],
    ) -> Result<Option<Put>, Failure> {
        let used = |message| Failure::new(Kind::TokenUsed, message);
        let row = enrollment(connection, id).await?.ok_or_else(unknown)?;
        let workspace = row.get("workspace");
        if let Some(late) = kept(connection, id, hash).await? {
            return Ok(Some(if late { Put::Late(workspace) } else { Put::Waiting(workspace) }));
        }
        let state = state(connection, id, &row).await?;
        if state == MailState::Expired {
            return Err(Failure::new(Kind::TokenExpired, "the token has expired"));
        }
        if requests(connection, id).await? >= i64::try_from(MAIL_BLOBS).unwrap_or(i64::MAX) {
            return Err(used("several others have used the token"));
        }
        Ok(None)
    }

    /// Requests of a workspace that nobody has answered, and those that came after an answer; those
    /// after `after`, as many as fit into one message.
    pub(crate) async fn requests_of(
        &self,
        workspace: Workspace,
        only: Option<Nonce>,
        after: u64,
    ) -> Result<Mail, Failure> {
        let statement = "SELECT mail.rowid AS place, mail.enrollment, mail.blob, mail.came, mail.late \
                         FROM mail JOIN enrollments ON enrollments.id = mail.enrollment \
                         WHERE enrollments.workspace = ? \
                         AND (enrollments.answered IS NULL OR mail.late = 1) \
                         AND (? IS NULL OR enrollments.id = ?) AND mail.rowid > ? \
                         ORDER BY mail.rowid LIMIT ?";
        let only = only.map(|id| id.0.to_vec());
        let rows = sqlx::query(statement)
            .bind(workspace)
            .bind(only.clone())
            .bind(only)
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(BATCH + 1)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| broken(&error))?;
        let batch = usize::try_from(BATCH).expect("a small number");
        let all = rows.iter().take(batch).map(piece).collect::<Result<Vec<_>, _>>()?;
        let pieces = page(all);
        let more = pieces.len() < rows.len();
        let last = pieces.len().checked_sub(1).and_then(|at| rows.get(at));
        let next = last.filter(|_| more).map(|row| seconds(row.get("place")));
        Ok(Mail { pieces, next })
    }

    /// Whether there is any.
    pub(crate) async fn has_mail(&self, workspace: Workspace) -> bool {
        let statement = "SELECT EXISTS (SELECT 1 FROM mail \
                         JOIN enrollments ON enrollments.id = mail.enrollment \
                         WHERE enrollments.workspace = ? \
                         AND (enrollments.answered IS NULL OR mail.late = 1))";
        let found = sqlx::query_scalar::<_, i64>(statement).bind(workspace);
        found.fetch_one(&self.pool).await.is_ok_and(|found| found != 0)
    }

    /// The answer to an enrollment, if there is one.
    pub(crate) async fn answer_to(&self, id: Nonce) -> Result<Mail, Failure> {
        let mut connection = self.pool.acquire().await.map_err(|error| broken(&error))?;
        let Some(row) = enrollment(&mut connection, id).await? else { return Err(unknown()) };
        let answer: Option<Vec<u8>> = row.get("answer");
        let age = row.get::<Option<i64>, _>("answered").map_or(0, |then| seconds(now() - then));
        let piece =
            answer.map(|blob| MailPiece { enrollment: id, blob: blob.into(), age, late: None });
        Ok(Mail { pieces: piece.into_iter().collect(), next: None })
    }

    /// Keeps the answer and binds the accepted agent to the record: both or neither. Gives the record,
    /// and the agent that it was bound to before, if that is another.
    pub(crate) async fn answer_mail(
        &self,
        workspace: Workspace,
        answer: &MailAnswer,
        agent: &SignedBundle,
    ) -> Result<(Server, Option<Id>), Failure> {
        if answer.blob.len() > MAIL_LIMIT {
            return Err(Failure::new(Kind::TooLarge, "an enrollment answer is at most 16 KiB"));
        }
        let mut tx = self.write(Some(workspace)).await?;
        let row = enrollment(&mut tx, answer.enrollment).await?.ok_or_else(unknown)?;
        if row.get::<i64, _>("workspace") != workspace {
            return Err(unknown());
        }
        let before: Option<Vec<u8>> = row.get("answer");
        if before.as_ref().is_some_and(|before| *before != answer.blob.0) {
            return Err(Failure::new(Kind::TokenUsed, "the enrollment has been answered"));
        }
        may_bind(&mut tx, workspace, agent).await?;
        let record: Vec<u8> = row.get("record");
        let bound: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT agent FROM servers WHERE record = ?")
                .bind(&record)
                .fetch_one(&mut *tx)
                .await
                .map_err(|error| broken(&error))?;
        let before = bound.and_then(|id| id.try_into().ok()).map(Id);
        keep(&mut tx, agent, Source::Claimed).await?;
        sqlx::query(
            "UPDATE enrollments SET answer = ?, answered = coalesce(answered, ?) WHERE id = ?",
        )
        .bind(&answer.blob.0)
        .bind(now())
        .bind(answer.enrollment.0.to_vec())
        .execute(&mut *tx)
        .await
        .map_err(|error| broken(&error))?;
        // An agent has one record: the last one for which it was accepted.
        sqlx::query("UPDATE servers SET agent = NULL WHERE agent = ? AND record <> ?")
            .bind(agent.id.0.to_vec())
            .bind(&record)
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        sqlx::query("UPDATE servers SET agent = ?, seen = NULL, duplicate = NULL WHERE record = ?")
            .bind(agent.id.0.to_vec())
            .bind(record)
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        let server = find_agent(&mut tx, agent.id).await?;
        commit(tx).await?;
        Ok((server, before.filter(|before| *before != agent.id)))
    }

    /// Throws away what nobody will ask for any more.
    pub(crate) async fn sweep_mail(&self) -> Result<(), Failure> {
        let mut tx = self.write(None).await?;
        sqlx::query("DELETE FROM enrollments WHERE expires < ? AND coalesce(answered, 0) < ?")
            .bind(now() - KEEP)
            .bind(now() - KEEP)
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        commit(tx).await
    }
}

/// Whether a workspace may bind this agent to a record. The agent's own bundle says which workspace it has
/// let in, and no record of another one has it: nobody takes or reserves the agents of others.
async fn may_bind(
    tx: &mut SqliteConnection,
    workspace: Workspace,
    agent: &SignedBundle,
) -> Result<(), Failure> {
    let genesis: Vec<u8> = sqlx::query_scalar("SELECT genesis FROM workspaces WHERE id = ?")
        .bind(workspace)
        .fetch_one(&mut *tx)
        .await
        .map_err(|error| broken(&error))?;
    let elsewhere: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM servers WHERE agent = ? AND workspace <> ?)",
    )
    .bind(agent.id.0.to_vec())
    .bind(workspace)
    .fetch_one(&mut *tx)
    .await
    .map_err(|error| broken(&error))?;
    if elsewhere != 0 {
        let message = "this agent belongs to another workspace";
        return Err(Failure::new(Kind::AlreadyEnrolled, message));
    }
    if agent.trust_domain != TrustDomain::NONE && agent.trust_domain != trust_domain(&genesis) {
        let message = "the agent's bundle names another workspace";
        return Err(Failure::new(Kind::InvalidArgument, message));
    }
    Ok(())
}

fn piece(row: &SqliteRow) -> Result<MailPiece, Failure> {
    let enrollment: Vec<u8> = row.get("enrollment");
    let enrollment = enrollment.try_into().map(Nonce).map_err(|_| unknown())?;
    let blob: Vec<u8> = row.get("blob");
    let age = seconds(now() - row.get::<i64, _>("came"));
    let late = (row.get::<i64, _>("late") != 0).then_some(true);
    Ok(MailPiece { enrollment, blob: blob.into(), age, late })
}
