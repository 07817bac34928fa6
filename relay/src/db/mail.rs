//! The mailbox of enrollments: blobs that the relay cannot open.
//!
//! Up to four different requests are kept for one enrollment, so that the inviter sees a second one.
//! Equal bytes are one request. Requests wait for seven days after the token's time, answers as long.

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::outer::{MAIL_BLOBS, MAIL_LIMIT, MailAnswer, MailPiece, MailState};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::db::identities::{Workspace, keep};
use crate::db::servers::Server;
use crate::db::{Db, broken, now, seconds};

/// How long mail is kept after its time, in seconds.
const KEEP: i64 = 7 * 24 * 3600;

/// Mail of one workspace that is handed out at once.
const BATCH: i64 = 64;

fn unknown() -> Failure {
    Failure::new(Kind::TokenUnknown, "the relay knows no such enrollment")
}

impl Db {
    async fn enrollment(&self, id: Nonce) -> Result<Option<SqliteRow>, Failure> {
        sqlx::query("SELECT * FROM enrollments WHERE id = ?")
            .bind(id.0.to_vec())
            .fetch_optional(&self.pool)
            .await
            .map_err(|error| broken(&error))
    }

    async fn requests(&self, id: Nonce) -> Result<i64, Failure> {
        sqlx::query_scalar("SELECT count(*) FROM mail WHERE enrollment = ?")
            .bind(id.0.to_vec())
            .fetch_one(&self.pool)
            .await
            .map_err(|error| broken(&error))
    }

    pub(crate) async fn mail_state(&self, id: Nonce) -> Result<MailState, Failure> {
        let Some(row) = self.enrollment(id).await? else { return Ok(MailState::Unknown) };
        if row.get::<Option<i64>, _>("answered").is_some() {
            return Ok(MailState::Answered);
        }
        if self.requests(id).await? > 0 {
            return Ok(MailState::Waiting);
        }
        let expired = row.get::<i64, _>("expires") < now();
        Ok(if expired { MailState::Expired } else { MailState::Open })
    }

    /// Keeps a request. Gives the workspace that it is for.
    pub(crate) async fn put_mail(&self, id: Nonce, blob: &[u8]) -> Result<Workspace, Failure> {
        if blob.len() > MAIL_LIMIT {
            return Err(Failure::new(Kind::TooLarge, "an enrollment request is at most 16 KiB"));
        }
        let row = self.enrollment(id).await?.ok_or_else(unknown)?;
        let workspace = row.get("workspace");
        let hash = Sha256::digest(blob).to_vec();
        let known: i64 = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM mail WHERE enrollment = ? AND hash = ?)",
        )
        .bind(id.0.to_vec())
        .bind(&hash)
        .fetch_one(&self.pool)
        .await
        .map_err(|error| broken(&error))?;
        if known != 0 {
            return Ok(workspace);
        }
        match self.mail_state(id).await? {
            MailState::Answered => {
                return Err(Failure::new(Kind::TokenUsed, "the token has been used"));
            }
            MailState::Expired => {
                return Err(Failure::new(Kind::TokenExpired, "the token has expired"));
            }
            MailState::Unknown => return Err(unknown()),
            MailState::Open | MailState::Waiting => {}
        }
        if self.requests(id).await? >= i64::try_from(MAIL_BLOBS).unwrap_or(i64::MAX) {
            return Err(Failure::new(Kind::TokenUsed, "several others have used the token"));
        }
        sqlx::query("INSERT INTO mail (enrollment, hash, blob, came) VALUES (?, ?, ?, ?)")
            .bind(id.0.to_vec())
            .bind(hash)
            .bind(blob)
            .bind(now())
            .execute(&self.pool)
            .await
            .map_err(|error| broken(&error))?;
        Ok(workspace)
    }

    /// Requests of a workspace that nobody has answered.
    pub(crate) async fn requests_of(
        &self,
        workspace: Workspace,
        only: Option<Nonce>,
    ) -> Result<Vec<MailPiece>, Failure> {
        let statement = "SELECT mail.enrollment, mail.blob, mail.came FROM mail \
                         JOIN enrollments ON enrollments.id = mail.enrollment \
                         WHERE enrollments.workspace = ? AND enrollments.answered IS NULL \
                         AND (? IS NULL OR enrollments.id = ?) ORDER BY mail.came LIMIT ?";
        let only = only.map(|id| id.0.to_vec());
        let rows = sqlx::query(statement)
            .bind(workspace)
            .bind(only.clone())
            .bind(only)
            .bind(BATCH)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| broken(&error))?;
        rows.iter().map(piece).collect()
    }

    /// The answer to an enrollment, if there is one.
    pub(crate) async fn answer_to(&self, id: Nonce) -> Result<Vec<MailPiece>, Failure> {
        let Some(row) = self.enrollment(id).await? else { return Err(unknown()) };
        let answer: Option<Vec<u8>> = row.get("answer");
        let age = row.get::<Option<i64>, _>("answered").map_or(0, |then| seconds(now() - then));
        Ok(answer
            .map(|blob| MailPiece { enrollment: id, blob: blob.into(), age })
            .into_iter()
            .collect())
    }

    /// Keeps the answer and binds the accepted agent to the record: both or neither.
    pub(crate) async fn answer_mail(
        &self,
        workspace: Workspace,
        answer: &MailAnswer,
        agent: &SignedBundle,
    ) -> Result<Server, Failure> {
        if answer.blob.len() > MAIL_LIMIT {
            return Err(Failure::new(Kind::TooLarge, "an enrollment answer is at most 16 KiB"));
        }
        let row = self.enrollment(answer.enrollment).await?.ok_or_else(unknown)?;
        if row.get::<i64, _>("workspace") != workspace {
            return Err(unknown());
        }
        let before: Option<Vec<u8>> = row.get("answer");
        if before.as_ref().is_some_and(|before| *before != answer.blob.0) {
            return Err(Failure::new(Kind::TokenUsed, "the enrollment has been answered"));
        }
        let record: Vec<u8> = row.get("record");
        let mut tx = self.pool.begin().await.map_err(|error| broken(&error))?;
        keep(&mut tx, agent).await?;
        sqlx::query("UPDATE enrollments SET answer = ?, answered = ? WHERE id = ?")
            .bind(&answer.blob.0)
            .bind(now())
            .bind(answer.enrollment.0.to_vec())
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        sqlx::query("UPDATE servers SET agent = ?, seen = NULL, duplicate = NULL WHERE record = ?")
            .bind(agent.id.0.to_vec())
            .bind(record)
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        tx.commit().await.map_err(|error| broken(&error))?;
        self.server_of(agent.id).await
    }

    /// Throws away what nobody will ask for any more.
    pub(crate) async fn sweep_mail(&self) -> Result<(), Failure> {
        sqlx::query("DELETE FROM enrollments WHERE expires < ? AND coalesce(answered, 0) < ?")
            .bind(now() - KEEP)
            .bind(now() - KEEP)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(|error| broken(&error))
    }
}

fn piece(row: &SqliteRow) -> Result<MailPiece, Failure> {
    let enrollment: Vec<u8> = row.get("enrollment");
    let enrollment = enrollment.try_into().map(Nonce).map_err(|_| unknown())?;
    let blob: Vec<u8> = row.get("blob");
    let age = seconds(now() - row.get::<i64, _>("came"));
    Ok(MailPiece { enrollment, blob: blob.into(), age })
}
