//! Invites: one-time secrets that make a workspace. Only their hashes are kept.

use farwire_protocol::address::Invite;
use farwire_protocol::failure::{Failure, Kind};
use sha2::{Digest as _, Sha256};

use crate::db::{Db, broken, commit, now};

/// How long an invite is good, in seconds.
const LIFETIME: i64 = 3600;

pub(super) fn hash(secret: &[u8]) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}

impl Db {
    pub(crate) async fn make_invite(&self) -> Result<Invite, Failure> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| Failure::new(Kind::Io, format!("no random numbers: {error}")))?;
        let mut tx = self.write(None).await?;
        sqlx::query("DELETE FROM invites WHERE expires < ?")
            .bind(now() - LIFETIME)
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        sqlx::query("INSERT INTO invites (hash, expires) VALUES (?, ?)")
            .bind(hash(&secret))
            .bind(now() + LIFETIME)
            .execute(&mut *tx)
            .await
            .map_err(|error| broken(&error))?;
        commit(tx).await?;
        Ok(Invite(secret))
    }

    pub(crate) async fn has_workspace(&self) -> Result<bool, Failure> {
        sqlx::query_scalar::<_, i64>("SELECT EXISTS (SELECT 1 FROM workspaces)")
            .fetch_one(&self.pool)
            .await
            .map(|found| found != 0)
            .map_err(|error| broken(&error))
    }
}
