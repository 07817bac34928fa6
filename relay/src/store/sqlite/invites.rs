//! Invites: one-time secrets, each good for making one workspace. Only their hashes are kept.

use farwire_protocol::address::Invite;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kt;
use sha2::{Digest as _, Sha256};
use sqlx::{Row as _, SqliteConnection};

use super::connections::{Sqlite, damaged_record, database_failure};
use crate::clock::now;
use crate::store::rules::{INVITE_LIFETIME, KeptInvite};

pub(super) async fn make(store: &Sqlite) -> Result<Invite, Failure> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::new(Kind::Io, format!("no random numbers: {error}")))?;
    let mut writer = store.write(None).await?;
    sqlx::query("DELETE FROM invites WHERE expires < ?")
        .bind(now() - INVITE_LIFETIME)
        .execute(&mut *writer)
        .await
        .map_err(database_failure)?;
    sqlx::query("INSERT INTO invites (hash, expires) VALUES (?, ?)")
        .bind(hash(&secret))
        .bind(now() + INVITE_LIFETIME)
        .execute(&mut *writer)
        .await
        .map_err(database_failure)?;
    writer.commit().await?;
    Ok(Invite(secret))
}

pub(super) async fn find(
    connection: &mut SqliteConnection,
    secret: &[u8],
) -> Result<Option<KeptInvite>, Failure> {
    let row = sqlx::query("SELECT expires, used_by FROM invites WHERE hash = ?")
        .bind(hash(secret))
        .fetch_optional(connection)
        .await
        .map_err(database_failure)?;
    let Some(row) = row else { return Ok(None) };
    let used_by: Option<Vec<u8>> = row.get("used_by");
    let used_by =
        used_by.map(|kt| kt.try_into().map(Kt).map_err(|_| damaged_record())).transpose()?;
    Ok(Some(KeptInvite { expires: row.get("expires"), used_by }))
}

pub(super) async fn mark_used(
    connection: &mut SqliteConnection,
    secret: &[u8],
    by: Kt,
) -> Result<(), Failure> {
    sqlx::query("UPDATE invites SET used_by = ? WHERE hash = ?")
        .bind(by.0.to_vec())
        .bind(hash(secret))
        .execute(connection)
        .await
        .map(drop)
        .map_err(database_failure)
}

fn hash(secret: &[u8]) -> Vec<u8> {
    Sha256::digest(secret).to_vec()
}
