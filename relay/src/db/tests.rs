//! The books, alone: who is let in, what is written for whom, and what a database of before becomes.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use farwire_protocol::bundle::{self, Bundle, SignedBundle};
use farwire_protocol::cbor::Blob;
use farwire_protocol::genesis::{Genesis, trust_domain};
use farwire_protocol::id::{Id, Kind as IdKind, Kn, Kt, Nonce, TrustDomain};
use farwire_protocol::outer::{MAIL_LIMIT, MailAnswer, MailState, ServerCreate, ServerUpdate};
use tokio::task::JoinSet;

use super::mail::Put;
use super::servers::Seen;
use super::*;

struct Books {
    _temp: tempfile::TempDir,
    path: std::path::PathBuf,
    db: Db,
}

async fn books() -> Books {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("relay.db");
    let db = Db::open(&path).await.unwrap();
    Books { _temp: temp, path, db }
}

/// A bundle of an identity made from `seed`, with anything about it changed before it is signed.
fn changed(seed: u8, kind: IdKind, change: impl Fn(&mut Bundle)) -> SignedBundle {
    let (key, kt) = (SigningKey::from_bytes(&[seed; 32]), SigningKey::from_bytes(&[!seed; 32]));
    let mut bundle = Bundle {
        version: bundle::VERSION,
        kind,
        id: Id(key.verifying_key().to_bytes()),
        kn: Kn([seed ^ 0x55; 32]),
        kt: Kt(kt.verifying_key().to_bytes()),
        kd: None,
        seq: 1,
        not_before: 0,
        handshake: 1,
        trust_domain: TrustDomain::NONE,
    };
    change(&mut bundle);
    bundle.sign(&key)
}

fn device(seed: u8) -> SignedBundle {
    changed(seed, IdKind::Device, |_| {})
}

/// A device with a workspace, and the workspace's trust domain.
async fn founded(db: &Db, seed: u8) -> (SignedBundle, i64, TrustDomain) {
    let bundle = device(seed);
    let key = SigningKey::from_bytes(&[seed; 32]);
    let genesis = Genesis::new("home", &bundle, 5, [seed; 16]).sign(&key);
    let invite = db.make_invite().await.unwrap();
    let workspace = db.found(&bundle, &invite.0, &genesis).await.unwrap();
    (bundle, workspace, trust_domain(&genesis))
}

fn of(domain: TrustDomain, seed: u8) -> SignedBundle {
    changed(seed, IdKind::Agent, |bundle| bundle.trust_domain = domain)
}

async fn create(db: &Db, workspace: i64, name: &str, enrollment: u8) -> Result<(), Failure> {
    let (name, labels) = (name.to_owned(), BTreeMap::new());
    let create = ServerCreate { name, labels, enrollment: Nonce([enrollment; 16]), lifetime: 3600 };
    db.create(workspace, &create).await.map(drop)
}

async fn accept(
    db: &Db,
    workspace: i64,
    enrollment: u8,
    agent: &SignedBundle,
) -> Result<Option<Id>, Failure> {
    let (enrollment, blob) = (Nonce([enrollment; 16]), Blob(vec![enrollment; 64]));
    let answer = MailAnswer { enrollment, agent: Blob(agent.encode()), blob };
    db.answer_mail(workspace, &answer, agent).await.map(|(_, before)| before)
}

async fn count(db: &Db, table: &'static str) -> i64 {
    let statement = match table {
        "identities" => "SELECT count(*) FROM identities",
        "mail" => "SELECT count(*) FROM mail",
        _ => "SELECT count(*) FROM workspaces",
    };
    sqlx::query_scalar(statement).fetch_one(&db.pool).await.unwrap()
}

#[tokio::test]
async fn those_who_are_not_let_in_leave_nothing() {
    let Books { _temp, db, .. } = books().await;
    // SQLite counts, for each connection, what others have written.
    let mut watching = db.pool.acquire().await.unwrap();
    let version = "PRAGMA data_version";
    let before: i64 = sqlx::query_scalar(version).fetch_one(&mut *watching).await.unwrap();
    assert_eq!(db.device(&device(1)).await.unwrap(), None);
    assert_eq!(db.found(&device(1), &[7; 32], &[1]).await.unwrap_err().kind, Kind::InviteUsed);
    let unknown = db.put_mail(Nonce([9; 16]), &[1]).await.unwrap_err();
    assert_eq!(unknown.kind, Kind::TokenUnknown);
    assert!(db.server_of(device(1).id).await.is_err());
    assert_eq!(count(&db, "identities").await, 0);
    let after: i64 = sqlx::query_scalar(version).fetch_one(&mut *watching).await.unwrap();
    assert_eq!(before, after, "nothing was written at all");
    // And those who read could not write if they tried.
    let tried = sqlx::query("DELETE FROM invites").execute(&db.pool).await;
    assert!(tried.unwrap_err().to_string().contains("readonly"));
}

#[tokio::test]
async fn a_key_that_somebody_claims_keeps_nobody_out() {
    let Books { _temp, db, .. } = books().await;
    let (_, workspace, domain) = founded(&db, 1).await;
    let victim = device(2);
    // One who was let in has an agent accepted that claims both keys of somebody who comes later.
    create(&db, workspace, "web-1", 1).await.unwrap();
    let claims = changed(3, IdKind::Agent, |bundle| {
        bundle.trust_domain = domain;
        (bundle.kn, bundle.kt) = (victim.kn, victim.kt);
    });
    accept(&db, workspace, 1, &claims).await.unwrap();
    let invite = db.make_invite().await.unwrap();
    let mine = db.found(&victim, &invite.0, &[2]).await.unwrap();
    assert_eq!(db.device(&victim).await.unwrap(), Some(mine));
    // Whoever claims it cannot prove it, and would be refused if they could: its owner has.
    assert_eq!(db.agent(&claims, workspace).await.unwrap_err().kind, Kind::RelayDenied);
    assert_eq!(db.device(&victim).await.unwrap(), Some(mine));
    // The same KN is nothing to the relay.
    let same = changed(4, IdKind::Device, |bundle| bundle.kn = victim.kn);
    let invite = db.make_invite().await.unwrap();
    db.found(&same, &invite.0, &[4]).await.unwrap();
}

#[tokio::test]
async fn an_older_or_forked_bundle_is_refused_and_a_newer_one_kept() {
    let Books { _temp, db, .. } = books().await;
    let (_, workspace, _) = founded(&db, 1).await;
    let at = |seq| changed(1, IdKind::Device, move |bundle| bundle.seq = seq);
    assert_eq!(db.device(&at(5)).await.unwrap(), Some(workspace));
    assert_eq!(db.device(&at(4)).await.unwrap_err().kind, Kind::RelayDenied);
    let forked = changed(1, IdKind::Device, |bundle| (bundle.seq, bundle.not_before) = (5, 9));
    assert_eq!(db.device(&forked).await.unwrap_err().kind, Kind::RelayDenied);
    assert_eq!(db.device(&at(5)).await.unwrap(), Some(workspace));
}

#[tokio::test]
async fn an_invite_makes_one_workspace_and_says_it_again_to_the_same_device() {
    let Books { _temp, db, .. } = books().await;
    let invite = db.make_invite().await.unwrap();
    let first = db.found(&device(1), &invite.0, &[1]).await.unwrap();
    assert_eq!(db.found(&device(1), &invite.0, &[1]).await.unwrap(), first);
    let other = db.found(&device(2), &invite.0, &[1]).await.unwrap_err();
    assert_eq!(other.kind, Kind::InviteUsed);
    let another = db.make_invite().await.unwrap();
    assert_eq!(db.found(&device(1), &another.0, &[1]).await.unwrap_err().kind, Kind::RelayDenied);
    assert_eq!((count(&db, "workspaces").await, count(&db, "identities").await), (1, 1));
}

#[tokio::test]
async fn many_at_once_wait_for_each_other_and_none_fails() {
    let Books { _temp, db, .. } = books().await;
    let mut all = JoinSet::new();
    for seed in 1..=64 {
        let db = db.clone();
        all.spawn(async move {
            let (bundle, workspace, domain) = founded(&db, seed).await;
            create(&db, workspace, "web-1", seed).await.unwrap();
            db.put_mail(Nonce([seed; 16]), &[seed]).await.unwrap();
            accept(&db, workspace, seed, &of(domain, seed ^ 0x80)).await.unwrap();
            assert_eq!(db.device(&bundle).await.unwrap(), Some(workspace));
            let rename = Some("web-2".to_owned());
            let update = ServerUpdate { name: "web-1".to_owned(), rename, ..Default::default() };
            db.update(workspace, &update).await.unwrap();
            db.remove(workspace, "web-2").await.unwrap();
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn nobody_takes_or_reserves_the_agent_of_another_workspace() {
    let Books { _temp, db, .. } = books().await;
    let (_, thief, _) = founded(&db, 1).await;
    let (_, owner, domain) = founded(&db, 2).await;
    create(&db, thief, "web-1", 1).await.unwrap();
    create(&db, owner, "web-1", 2).await.unwrap();
    let agent = of(domain, 3);
    assert_eq!(accept(&db, thief, 1, &agent).await.unwrap_err().kind, Kind::InvalidArgument);
    accept(&db, owner, 2, &agent).await.unwrap();
    assert_eq!(accept(&db, thief, 1, &agent).await.unwrap_err().kind, Kind::AlreadyEnrolled);
    assert_eq!(db.server_of(agent.id).await.unwrap().workspace, owner);
}

#[tokio::test]
async fn an_agent_has_one_record_and_a_record_one_agent() {
    let Books { _temp, db, .. } = books().await;
    let (_, workspace, domain) = founded(&db, 1).await;
    create(&db, workspace, "web-1", 1).await.unwrap();
    create(&db, workspace, "web-2", 2).await.unwrap();
    let (first, second) = (of(domain, 3), of(domain, 4));
    assert_eq!(accept(&db, workspace, 1, &first).await.unwrap(), None);
    assert_eq!(accept(&db, workspace, 1, &first).await.unwrap(), None, "it may be said again");
    assert_eq!(accept(&db, workspace, 2, &first).await.unwrap(), None);
    assert_eq!(db.server(workspace, "web-1").await.unwrap().record.agent, None);
    assert_eq!(db.server_of(first.id).await.unwrap().record.name, "web-2");
    let enrollment = Some(Nonce([3; 16]));
    let update = ServerUpdate { name: "web-2".to_owned(), enrollment, ..Default::default() };
    db.update(workspace, &update).await.unwrap();
    let before = accept(&db, workspace, 3, &second).await.unwrap();
    assert_eq!(before, Some(first.id), "whose streams and connection are to end");
}

#[tokio::test]
async fn a_token_that_is_used_again_after_the_answer_comes_to_its_inviter() {
    let Books { _temp, db, .. } = books().await;
    let (_, workspace, domain) = founded(&db, 1).await;
    create(&db, workspace, "web-1", 1).await.unwrap();
    let enrollment = Nonce([1; 16]);
    assert_eq!(db.put_mail(enrollment, &[1]).await.unwrap(), Put::Waiting(workspace));
    accept(&db, workspace, 1, &of(domain, 3)).await.unwrap();
    assert!(!db.has_mail(workspace).await, "it has been answered");
    assert_eq!(db.put_mail(enrollment, &[1]).await.unwrap(), Put::Waiting(workspace));
    for blob in [2, 3, 4, 2] {
        assert_eq!(db.put_mail(enrollment, &[blob]).await.unwrap(), Put::Late(workspace));
    }
    assert_eq!(db.put_mail(enrollment, &[5]).await.unwrap_err().kind, Kind::TokenUsed);
    assert!(db.has_mail(workspace).await);
    let mail = db.requests_of(workspace, None, 0).await.unwrap();
    let late: Vec<_> = mail.pieces.iter().map(|piece| (piece.blob.0[0], piece.late)).collect();
    assert_eq!(late, [(2, Some(true)), (3, Some(true)), (4, Some(true))]);
    assert_eq!(db.mail_state(enrollment).await.unwrap(), MailState::Answered);
}

#[tokio::test]
async fn mail_comes_in_pages_that_fit_and_each_piece_once() {
    let Books { _temp, db, .. } = books().await;
    let (_, workspace, _) = founded(&db, 1).await;
    for seed in 1..=20 {
        create(&db, workspace, &format!("web-{seed}"), seed).await.unwrap();
        for blob in 0..4 {
            let blob = vec![blob; if seed % 2 == 0 { MAIL_LIMIT } else { 100 }];
            db.put_mail(Nonce([seed; 16]), &blob).await.unwrap();
        }
    }
    let (mut all, mut after, mut pages) = (Vec::new(), 0, 0);
    loop {
        let mail = db.requests_of(workspace, None, after).await.unwrap();
        assert!(farwire_protocol::cbor::encode(&mail).len() < 256 * 1024 - 100);
        all.extend(mail.pieces.iter().map(|piece| (piece.enrollment, piece.blob.0[0])));
        pages += 1;
        match mail.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!((all.len(), pages), (80, 3));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 80);
    assert_eq!(db.requests_of(workspace, Some(Nonce([2; 16])), 0).await.unwrap().next, None);
    assert!(db.requests_of(workspace, None, u64::MAX).await.unwrap().pieces.is_empty());
}

#[tokio::test]
async fn what_was_seen_is_written_together_and_a_duplicate_is_forgotten_in_time() {
    let Books { _temp, db, .. } = books().await;
    let (_, workspace, domain) = founded(&db, 1).await;
    create(&db, workspace, "web-1", 1).await.unwrap();
    let agent = of(domain, 3);
    accept(&db, workspace, 1, &agent).await.unwrap();
    let note = async |duplicate| {
        let seen = Seen { here: Some((77, "agent 9".to_owned())), duplicate };
        db.note(&[(agent.id, seen), (device(9).id, Seen::default())]).await.unwrap();
        db.server_of(agent.id).await.unwrap().record
    };
    let record = note(Some(now())).await;
    assert_eq!((record.seen, record.build.as_deref()), (Some(77), Some("agent 9")));
    assert!(record.duplicate.is_some());
    assert!(note(None).await.duplicate.is_some(), "nothing new is no news");
    assert_eq!(note(Some(now() - servers::DUPLICATE - 60)).await.duplicate, None);
}

#[tokio::test]
async fn a_name_as_long_as_a_message_is_answered_in_short() {
    let Books { _temp, db, .. } = books().await;
    let (_, workspace, _) = founded(&db, 1).await;
    let long = "é".repeat(100_000);
    let failures = [
        create(&db, workspace, &long, 1).await.unwrap_err(),
        db.remove(workspace, &long).await.unwrap_err(),
        db.update(workspace, &ServerUpdate { name: long.clone(), ..Default::default() })
            .await
            .unwrap_err(),
    ];
    for failure in failures {
        assert!(failure.message.len() < 1_000, "{} bytes", failure.message.len());
    }
}

/// What the first version kept: whoever had said HELLO, let in or not, with keys that were unique.
#[tokio::test]
async fn a_database_of_before_keeps_those_who_were_let_in_and_nobody_else() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("relay.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    sqlx::migrate!().run_to(1, &pool).await.unwrap();
    let (owner, agent, stranger) = (device(1), changed(2, IdKind::Agent, |_| {}), device(3));
    sqlx::query("INSERT INTO workspaces VALUES (7, x'01', x'02', 1)").execute(&pool).await.unwrap();
    for (bundle, workspace) in [(&owner, Some(7)), (&agent, None), (&stranger, None)] {
        sqlx::query("INSERT INTO identities VALUES (?, 1, 1, ?, ?, ?, ?)")
            .bind(bundle.id.0.to_vec())
            .bind(bundle.kn.0.to_vec())
            .bind(bundle.kt.0.to_vec())
            .bind(bundle.encode())
            .bind(workspace)
            .execute(&pool)
            .await
            .unwrap();
    }
    sqlx::query(
        "INSERT INTO servers (record, workspace, name, labels, agent, created) \
         VALUES (?, 7, 'web-1', '{}', ?, 1)",
    )
    .bind(vec![5; 16])
    .bind(agent.id.0.to_vec())
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;

    // Beside a relay of before nothing is changed, and nothing is done.
    assert_eq!(Db::join(&path).await.unwrap_err().kind, Kind::StateVersion);
    let db = Db::open(&path).await.unwrap();
    Db::join(&path).await.expect("it is of this version");
    assert_eq!(count(&db, "identities").await, 2);
    assert_eq!(db.device(&owner).await.unwrap(), Some(7));
    assert_eq!(db.device(&stranger).await.unwrap(), None);
    db.agent(&agent, 7).await.unwrap();
    assert_eq!(db.server_of(agent.id).await.unwrap().record.name, "web-1");
    // Whom the stranger had kept out comes in.
    let victim = changed(4, IdKind::Device, |bundle| bundle.kn = stranger.kn);
    let invite = db.make_invite().await.unwrap();
    db.found(&victim, &invite.0, &[4]).await.unwrap();
    drop(db);
    Db::open(&path).await.expect("it is brought to this version once");
}

#[tokio::test]
async fn what_sqlite_keeps_beside_the_database_is_there_for_the_next_start() {
    let Books { _temp, path, db } = books().await;
    founded(&db, 1).await;
    db.leave().await;
    drop(db);
    for beside in ["relay.db-wal", "relay.db-shm"] {
        assert!(path.with_file_name(beside).exists(), "{beside}");
    }
    let again = Db::open(&path).await.unwrap();
    assert!(again.device(&device(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn whoever_floods_the_books_waits_for_itself() {
    let Books { _temp, db, .. } = books().await;
    let (_, flooding, _) = founded(&db, 1).await;
    let (_, other, _) = founded(&db, 2).await;
    let writes = db.write(None).await.unwrap();
    let mut flood = JoinSet::new();
    for number in 0..100 {
        let db = db.clone();
        flood.spawn(async move { create(&db, flooding, &format!("web-{number}"), number).await });
    }
    // Each comes as far as it can before somebody else does.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let mut asked = JoinSet::new();
    asked.spawn({
        let db = db.clone();
        async move { create(&db, other, "web-1", 200).await }
    });
    drop(writes);
    asked.join_next().await.unwrap().unwrap().unwrap();
    let mut done = 0;
    while flood.try_join_next().is_some() {
        done += 1;
    }
    assert!(done < 50, "{done} of the flood came before somebody else's first call");
    while let Some(created) = flood.join_next().await {
        created.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_has_waited_too_long_may_ask_again() {
    let failure = broken(&sqlx::Error::PoolTimedOut);
    assert_eq!(failure.kind, Kind::Overloaded);
    assert!(!failure.message.contains("failed") && !failure.hint().is_empty());
}

#[tokio::test]
async fn the_tokens_of_a_workspace_are_counted() {
    let Books { _temp, db, .. } = books().await;
    let (_, workspace, _) = founded(&db, 1).await;
    create(&db, workspace, "web-1", 1).await.unwrap();
    let statement = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?) \
                     INSERT INTO enrollments (id, record, workspace, expires) \
                     SELECT randomblob(16), record, workspace, 1 FROM number, servers";
    let many = sqlx::query(statement).bind(servers::ENROLLMENTS - 2);
    many.execute(&db.writer).await.unwrap();
    let again = |enrollment: u8| ServerUpdate {
        name: "web-1".to_owned(),
        enrollment: Some(Nonce([enrollment; 16])),
        ..ServerUpdate::default()
    };
    db.update(workspace, &again(2)).await.unwrap();
    assert_eq!(db.update(workspace, &again(3)).await.unwrap_err().kind, Kind::TooLarge);
    assert_eq!(create(&db, workspace, "web-2", 4).await.unwrap_err().kind, Kind::TooLarge);
    assert!(db.server(workspace, "web-2").await.is_err(), "all of it or nothing");
    // With their server they go, and those of others are others'.
    let (_, other, _) = founded(&db, 2).await;
    create(&db, other, "web-1", 5).await.unwrap();
    db.remove(workspace, "web-1").await.unwrap();
    create(&db, workspace, "web-2", 6).await.unwrap();
}

#[tokio::test]
async fn what_was_done_is_answered_as_done_however_busy_those_who_read_are() {
    let Books { _temp, db, .. } = books().await;
    let (_, workspace, domain) = founded(&db, 1).await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(db.pool.acquire().await.unwrap());
    }
    // Nobody who reads has a turn any more.
    let done = timeout(TURN / 2, async {
        create(&db, workspace, "web-1", 1).await.unwrap();
        accept(&db, workspace, 1, &of(domain, 2)).await.unwrap();
    });
    done.await.expect("it does not wait for those who read");
}
