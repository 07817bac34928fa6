//! What only SQLite can show: that readers cannot write, what older versions left, and who waits
//! for the one writer.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use farwire_protocol::failure::Kind;
use farwire_protocol::id::Kind as IdKind;
use metrics_exporter_prometheus::PrometheusBuilder;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connections::{READERS, database_failure};
use super::migrations::migrator;
use super::*;
use crate::store::conformance::{self, accept, create, founding, new_workspace};
use crate::store::rules;
use crate::testing::{agent, bundle, device};
use crate::turns::LONGEST_WAIT;

struct TestStore {
    _temp: tempfile::TempDir,
    path: PathBuf,
    sqlite: Sqlite,
}

async fn open() -> TestStore {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("relay.db");
    let sqlite = Sqlite::open(&path).await.unwrap();
    TestStore { _temp: temp, path, sqlite }
}

/// Declares each test of the contract for SQLite.
macro_rules! conformance {
    ($($test:ident)*) => {
        mod contract {
            $(
                #[tokio::test]
                async fn $test() {
                    let store = super::open().await;
                    super::conformance::$test(std::sync::Arc::new(store.sqlite.clone())).await;
                }
            )*
        }
    };
}

conformance! {
    a_refused_peer_gets_its_reason
    a_key_that_another_claims_keeps_nobody_out
    an_older_or_forked_bundle_is_refused_and_a_newer_one_kept
    an_invite_makes_one_workspace_and_names_it_again_to_the_same_device
    concurrent_calls_wait_for_each_other_and_none_fails
    nobody_takes_or_reserves_the_agent_of_another_workspace
    an_agent_has_one_record_and_a_record_one_agent
    a_token_that_is_used_after_the_answer_comes_to_its_inviter
    mail_comes_in_pages_that_fit_and_each_piece_once
    servers_come_in_pages_by_name_and_one_workspace_sees_only_its_own
    an_update_changes_what_it_names_and_nothing_else
    sightings_are_kept_together_and_a_duplicate_is_forgotten_in_time
    a_name_as_long_as_a_message_is_answered_in_short
    a_removed_server_takes_its_tokens_with_it
    an_answer_accepts_one_bundle
    an_agent_that_never_connected_is_forgotten_with_its_record
    an_enrollment_id_is_used_once
    sweeping_leaves_what_somebody_may_still_ask_for
}

async fn count(store: &Sqlite, table: &'static str) -> i64 {
    let statement = match table {
        "identities" => "SELECT count(*) FROM identities",
        "mail" => "SELECT count(*) FROM mail",
        "workspaces" => "SELECT count(*) FROM workspaces",
        other => panic!("no test counts {other}"),
    };
    sqlx::query_scalar(statement).fetch_one(&store.readers).await.unwrap()
}

#[tokio::test]
async fn a_refused_peer_leaves_nothing_and_readers_cannot_write() {
    let TestStore { _temp, sqlite, .. } = open().await;
    // SQLite counts, for each connection, what others have written.
    let mut watching = sqlite.readers.acquire().await.unwrap();
    let version = "PRAGMA data_version";
    let before: i64 = sqlx::query_scalar(version).fetch_one(&mut *watching).await.unwrap();
    conformance::a_refused_peer_gets_its_reason(Arc::new(sqlite.clone())).await;
    assert_eq!(count(&sqlite, "identities").await, 0);
    let after: i64 = sqlx::query_scalar(version).fetch_one(&mut *watching).await.unwrap();
    assert_eq!(before, after, "nothing was written at all");
    let deleting = sqlx::query("DELETE FROM invites").execute(&sqlite.readers).await;
    assert!(deleting.unwrap_err().to_string().contains("readonly"));
}

#[tokio::test]
async fn refused_foundings_leave_no_rows() {
    let TestStore { _temp, sqlite, .. } = open().await;
    let store: Arc<dyn Store> = Arc::new(sqlite.clone());
    conformance::an_invite_makes_one_workspace_and_names_it_again_to_the_same_device(store).await;
    let counts = (count(&sqlite, "workspaces").await, count(&sqlite, "identities").await);
    assert_eq!(counts, (1, 1));
}

/// The first version kept everybody who had sent a HELLO, let in or not, and its keys were unique.
#[tokio::test]
async fn an_old_database_keeps_those_who_were_let_in_and_nobody_else() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("relay.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    migrator().run_to(1, &pool).await.unwrap();
    let (owner, agent, stranger) = (device(1), bundle(2, IdKind::Agent, |_| {}), device(3));
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

    // Joining an older relay changes nothing and is refused.
    assert_eq!(Sqlite::join(&path).await.unwrap_err().kind, Kind::StateVersion);
    let sqlite = Sqlite::open(&path).await.unwrap();
    Sqlite::join(&path).await.expect("it has this version");
    assert_eq!(count(&sqlite, "identities").await, 2);
    let store: &dyn Store = &sqlite;
    assert_eq!(store.admit_device(&owner).await.unwrap(), Some(WorkspaceId(7)));
    assert_eq!(store.admit_device(&stranger).await.unwrap(), None);
    store.admit_agent(&agent, WorkspaceId(7)).await.unwrap();
    assert_eq!(store.server_of_agent(agent.id).await.unwrap().record.name, "web-1");
    // The stranger's claim of a key kept its owner out before.
    let victim = bundle(4, IdKind::Device, |bundle| bundle.kn = stranger.kn);
    let invite = store.make_invite().await.unwrap();
    store.found_workspace(founding(&victim, &invite.0)).await.unwrap();
    drop(sqlite);
    Sqlite::open(&path).await.expect("a migrated database is opened again");
}

#[tokio::test]
async fn the_log_beside_the_database_is_there_for_the_next_start() {
    let TestStore { _temp, path, sqlite } = open().await;
    let owner = new_workspace(&sqlite, 1).await;
    Store::close(&sqlite).await.unwrap();
    drop(sqlite);
    for beside in ["relay.db-wal", "relay.db-shm"] {
        assert!(path.with_file_name(beside).exists(), "{beside}");
    }
    let again = Sqlite::open(&path).await.unwrap();
    assert_eq!(again.admit_device(&device(1)).await.unwrap(), Some(owner.workspace));
}

#[tokio::test]
async fn a_workspace_that_floods_the_writer_waits_for_itself() {
    let TestStore { _temp, sqlite, .. } = open().await;
    let (flooding, other) = (new_workspace(&sqlite, 1).await, new_workspace(&sqlite, 2).await);
    let writing = sqlite.write(None).await.unwrap();
    let mut flood = JoinSet::new();
    for number in 0..100 {
        let (sqlite, workspace) = (sqlite.clone(), flooding.workspace);
        flood.spawn(
            async move { create(&sqlite, workspace, &format!("web-{number}"), number).await },
        );
    }
    // Every call of the flood gets as far as it can before the other workspace calls.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let asked = tokio::spawn({
        let sqlite = sqlite.clone();
        async move { create(&sqlite, other.workspace, "web-1", 200).await }
    });
    drop(writing);
    asked.await.unwrap().unwrap();
    let mut done = 0;
    while flood.try_join_next().is_some() {
        done += 1;
    }
    assert!(done < 50, "{done} calls of the flood came before the other workspace's first");
    while let Some(created) = flood.join_next().await {
        created.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_call_that_waited_too_long_for_a_connection_may_be_repeated() {
    let failure = database_failure(sqlx::Error::PoolTimedOut);
    assert_eq!(failure.kind, Kind::Overloaded);
    assert!(!failure.message.contains("failed") && !failure.hint().is_empty());
}

#[tokio::test]
async fn the_tokens_of_a_workspace_are_counted() {
    let TestStore { _temp, sqlite, .. } = open().await;
    let workspace = new_workspace(&sqlite, 1).await.workspace;
    create(&sqlite, workspace, "web-1", 1).await.unwrap();
    let statement = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?) \
                     INSERT INTO enrollments (id, record, workspace, expires) \
                     SELECT randomblob(16), record, workspace, 1 FROM number, servers";
    let many = sqlx::query(statement).bind(rules::MAX_ENROLLMENTS - 2);
    many.execute(&sqlite.writer).await.unwrap();
    let store: &dyn Store = &sqlite;
    let with_token = |enrollment: u8| ServerUpdate {
        name: "web-1".to_owned(),
        enrollment: Some(Nonce([enrollment; 16])),
        ..ServerUpdate::default()
    };
    store.update_server(workspace, &with_token(2)).await.unwrap();
    let failure = store.update_server(workspace, &with_token(3)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::TooLarge);
    assert_eq!(create(store, workspace, "web-2", 4).await.unwrap_err().kind, Kind::TooLarge);
    let names = store.list_servers(workspace, 0).await.unwrap().servers;
    assert_eq!(names.len(), 1, "all of it or nothing");
    // Tokens go with their server, and another workspace's do not count here.
    let other = new_workspace(store, 2).await.workspace;
    create(store, other, "web-1", 5).await.unwrap();
    store.remove_server(workspace, "web-1").await.unwrap();
    create(store, workspace, "web-2", 6).await.unwrap();
}

#[tokio::test]
async fn a_write_does_not_wait_for_busy_readers() {
    let TestStore { _temp, sqlite, .. } = open().await;
    let owner = new_workspace(&sqlite, 1).await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(sqlite.readers.acquire().await.unwrap());
    }
    let done = timeout(LONGEST_WAIT / 2, async {
        create(&sqlite, owner.workspace, "web-1", 1).await.unwrap();
        accept(&sqlite, owner.workspace, 1, &agent(2, owner.domain)).await.unwrap();
    });
    done.await.expect("it needs no reader");
}

#[tokio::test]
async fn a_failed_probe_is_neither_logged_nor_counted() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _subscriber = tracing::subscriber::set_default(subscriber);
    let metrics = PrometheusBuilder::new().build_recorder();
    let _recorder = metrics::set_default_local_recorder(&metrics);
    let refusals = || metrics.handle().render().contains("farwire_relay_busy_total");
    let logged = || String::from_utf8_lossy(&log.0.lock().unwrap()).contains("the database failed");

    let TestStore { _temp, sqlite, .. } = open().await;
    let workspace = new_workspace(&sqlite, 1).await.workspace;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(sqlite.readers.acquire().await.unwrap());
    }
    tokio::time::pause();
    assert!(sqlite.check().await.is_err() && sqlite.has_requests(workspace).await.is_err());
    assert!(!refusals(), "no peer was refused");
    assert!(sqlite.read().await.is_err() && refusals(), "a peer was");
    tokio::time::resume();

    drop(readers);
    sqlite.readers.close().await;
    assert!(sqlite.check().await.is_err() && sqlite.has_requests(workspace).await.is_err());
    assert!(!logged());
    assert!(sqlite.read().await.is_err() && logged(), "a failure that a peer meets is");
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
