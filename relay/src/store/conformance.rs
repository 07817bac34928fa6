//! The contract of a [`Store`], as tests that any implementation must pass.
//!
//! An implementation runs each of them on a store of its own that is empty: `sqlite/tests.rs` lists
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::Kind;
use farwire_protocol::genesis::trust_domain;
use farwire_protocol::id::{Kind as IdKind, TrustDomain};
use farwire_protocol::outer::{MAIL_LIMIT, ServerState};
use tokio::task::JoinSet;

use super::*;
use crate::clock::now;
use crate::testing::{agent, bundle, device, genesis};

/// A workspace with its first device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Founded {
    pub(crate) workspace: WorkspaceId,
    pub(crate) domain: TrustDomain,
}

/// Makes a workspace for `device(seed)`.
pub(crate) async fn new_workspace(store: &dyn Store, seed: u8) -> Founded {
    let (device, genesis) = (device(seed), genesis(seed));
    let invite = store.make_invite().await.unwrap();
    let founding = Founding { device: &device, invite: &invite.0, genesis: &genesis };
    let workspace = store.found_workspace(founding).await.unwrap();
    Founded { workspace, domain: trust_domain(&genesis) }
}

/// A founding whose genesis no test looks at.
pub(crate) fn founding<'a>(device: &'a SignedBundle, invite: &'a [u8]) -> Founding<'a> {
    Founding { device, invite, genesis: &[1] }
}

/// Makes a server whose token has the number `enrollment`.
pub(crate) async fn create(
    store: &dyn Store,
    workspace: WorkspaceId,
    name: &str,
    enrollment: u8,
) -> Result<Server, Failure> {
    let (name, labels) = (name.to_owned(), BTreeMap::new());
    let create = ServerCreate { name, labels, enrollment: Nonce([enrollment; 16]), lifetime: 3600 };
    store.create_server(workspace, &create).await
}

/// Accepts an agent for the server of an enrollment.
pub(crate) async fn accept(
    store: &dyn Store,
    workspace: WorkspaceId,
    enrollment: u8,
    agent: &SignedBundle,
) -> Result<Acceptance, Failure> {
    let (enrollment, blob) = (Nonce([enrollment; 16]), Blob(vec![enrollment; 64]));
    let answer = MailAnswer { enrollment, agent: Blob(agent.encode()), blob };
    store.accept_agent(workspace, &answer, agent).await
}

fn rename(from: &str, to: &str) -> ServerUpdate {
    ServerUpdate { name: from.to_owned(), rename: Some(to.to_owned()), ..ServerUpdate::default() }
}

pub(crate) async fn a_refused_peer_gets_its_reason(store: Arc<dyn Store>) {
    let stranger = device(1);
    assert_eq!(store.admit_device(&stranger).await.unwrap(), None);
    let founding = founding(&stranger, &[7; 32]);
    assert_eq!(store.found_workspace(founding).await.unwrap_err().kind, Kind::InviteUsed);
    let (unknown, blob) = (Nonce([9; 16]), [1]);
    let refused = store.put_request(unknown, &blob).await.unwrap_err();
    assert_eq!(refused.kind, Kind::TokenUnknown);
    assert_eq!(store.enrollment_workspace(unknown).await.unwrap(), None);
    assert_eq!(store.enrollment_state(unknown).await.unwrap(), MailState::Unknown);
    assert_eq!(store.enrollment_answer(unknown).await.unwrap_err().kind, Kind::TokenUnknown);
    assert_eq!(store.server_of_agent(stranger.id).await.unwrap_err().kind, Kind::RelayDenied);
    assert!(!store.has_workspace().await.unwrap());
}

pub(crate) async fn a_key_that_another_claims_keeps_nobody_out(store: Arc<dyn Store>) {
    let owner = new_workspace(&*store, 1).await;
    let victim = device(2);
    // A workspace accepts an agent that claims both keys of a device that comes later.
    create(&*store, owner.workspace, "web-1", 1).await.unwrap();
    let claims = bundle(3, IdKind::Agent, |bundle| {
        bundle.trust_domain = owner.domain;
        (bundle.kn, bundle.kt) = (victim.kn, victim.kt);
    });
    accept(&*store, owner.workspace, 1, &claims).await.unwrap();
    let invite = store.make_invite().await.unwrap();
    let mine = store.found_workspace(founding(&victim, &invite.0)).await.unwrap();
    assert_eq!(store.admit_device(&victim).await.unwrap(), Some(mine));
    // The claim cannot be proven any more: the key's owner has connected with it.
    let refused = store.admit_agent(&claims, owner.workspace).await.unwrap_err();
    assert_eq!(refused.kind, Kind::RelayDenied);
    assert_eq!(store.admit_device(&victim).await.unwrap(), Some(mine));
    // A relay cannot check `KN`, so that an equal one is no reason to refuse.
    let equal = bundle(4, IdKind::Device, |bundle| bundle.kn = victim.kn);
    let invite = store.make_invite().await.unwrap();
    store.found_workspace(founding(&equal, &invite.0)).await.unwrap();
}

pub(crate) async fn an_older_or_forked_bundle_is_refused_and_a_newer_one_kept(
    store: Arc<dyn Store>,
) {
    let workspace = new_workspace(&*store, 1).await.workspace;
    let at = |seq| bundle(1, IdKind::Device, move |bundle| bundle.seq = seq);
    assert_eq!(store.admit_device(&at(5)).await.unwrap(), Some(workspace));
    assert_eq!(store.admit_device(&at(4)).await.unwrap_err().kind, Kind::RelayDenied);
    let forked = bundle(1, IdKind::Device, |bundle| (bundle.seq, bundle.not_before) = (5, 9));
    assert_eq!(store.admit_device(&forked).await.unwrap_err().kind, Kind::RelayDenied);
    assert_eq!(store.admit_device(&at(5)).await.unwrap(), Some(workspace));
}

pub(crate) async fn an_invite_makes_one_workspace_and_names_it_again_to_the_same_device(
    store: Arc<dyn Store>,
) {
    let (first, second) = (device(1), device(2));
    let invite = store.make_invite().await.unwrap();
    let made = store.found_workspace(founding(&first, &invite.0)).await.unwrap();
    assert!(store.has_workspace().await.unwrap());
    assert_eq!(store.found_workspace(founding(&first, &invite.0)).await.unwrap(), made);
    let refused = store.found_workspace(founding(&second, &invite.0)).await.unwrap_err();
    assert_eq!(refused.kind, Kind::InviteUsed);
    let another = store.make_invite().await.unwrap();
    let refused = store.found_workspace(founding(&first, &another.0)).await.unwrap_err();
    assert_eq!(refused.kind, Kind::RelayDenied);
    assert_eq!(store.admit_device(&second).await.unwrap(), None);
}

pub(crate) async fn concurrent_calls_wait_for_each_other_and_none_fails(store: Arc<dyn Store>) {
    let mut all = JoinSet::new();
    for seed in 1..=64 {
        let store = store.clone();
        all.spawn(async move {
            let Founded { workspace, domain } = new_workspace(&*store, seed).await;
            create(&*store, workspace, "web-1", seed).await.unwrap();
            store.put_request(Nonce([seed; 16]), &[seed]).await.unwrap();
            accept(&*store, workspace, seed, &agent(seed ^ 0x80, domain)).await.unwrap();
            assert_eq!(store.admit_device(&device(seed)).await.unwrap(), Some(workspace));
            store.update_server(workspace, &rename("web-1", "web-2")).await.unwrap();
            store.remove_server(workspace, "web-2").await.unwrap();
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

pub(crate) async fn nobody_takes_or_reserves_the_agent_of_another_workspace(store: Arc<dyn Store>) {
    let (thief, owner) = (new_workspace(&*store, 1).await, new_workspace(&*store, 2).await);
    create(&*store, thief.workspace, "web-1", 1).await.unwrap();
    create(&*store, owner.workspace, "web-1", 2).await.unwrap();
    let agent = agent(3, owner.domain);
    let reserving = accept(&*store, thief.workspace, 1, &agent).await.unwrap_err();
    assert_eq!(reserving.kind, Kind::InvalidArgument);
    accept(&*store, owner.workspace, 2, &agent).await.unwrap();
    let taking = accept(&*store, thief.workspace, 1, &agent).await.unwrap_err();
    assert_eq!(taking.kind, Kind::AlreadyEnrolled);
    assert_eq!(store.server_of_agent(agent.id).await.unwrap().workspace, owner.workspace);
    let foreign = accept(&*store, thief.workspace, 2, &agent).await.unwrap_err();
    assert_eq!(foreign.kind, Kind::TokenUnknown, "the enrollment is of another workspace");
}

pub(crate) async fn an_agent_has_one_record_and_a_record_one_agent(store: Arc<dyn Store>) {
    let Founded { workspace, domain } = new_workspace(&*store, 1).await;
    create(&*store, workspace, "web-1", 1).await.unwrap();
    create(&*store, workspace, "web-2", 2).await.unwrap();
    let (first, second) = (agent(3, domain), agent(4, domain));
    let replaced = async |enrollment, agent| {
        accept(&*store, workspace, enrollment, agent).await.unwrap().replaced
    };
    assert_eq!(replaced(1, &first).await, None);
    assert_eq!(replaced(1, &first).await, None, "the answer may be repeated");
    assert_eq!(replaced(2, &first).await, None);
    let servers = store.list_servers(workspace, 0).await.unwrap().servers;
    let states: Vec<_> = servers.iter().map(|server| server.record.state).collect();
    assert_eq!(states, [ServerState::Pending, ServerState::Offline]);
    assert_eq!(store.server_of_agent(first.id).await.unwrap().record.name, "web-2");
    let enrolled = store.enrolled_servers().await.unwrap();
    assert_eq!(enrolled.len(), 1, "a server without an agent is not enrolled");
    let enrollment = Some(Nonce([3; 16]));
    let update = ServerUpdate { name: "web-2".to_owned(), enrollment, ..ServerUpdate::default() };
    store.update_server(workspace, &update).await.unwrap();
    assert_eq!(replaced(3, &second).await, Some(first.id), "whose streams must end");
}

pub(crate) async fn a_token_that_is_used_after_the_answer_comes_to_its_inviter(
    store: Arc<dyn Store>,
) {
    let Founded { workspace, domain } = new_workspace(&*store, 1).await;
    create(&*store, workspace, "web-1", 1).await.unwrap();
    let enrollment = Nonce([1; 16]);
    let in_time = StoredRequest { workspace, late: false };
    let late = StoredRequest { workspace, late: true };
    assert_eq!(store.enrollment_state(enrollment).await.unwrap(), MailState::Open);
    assert_eq!(store.put_request(enrollment, &[1]).await.unwrap(), in_time);
    assert_eq!(store.enrollment_state(enrollment).await.unwrap(), MailState::Waiting);
    assert_eq!(store.enrollment_answer(enrollment).await.unwrap().pieces, []);
    accept(&*store, workspace, 1, &agent(3, domain)).await.unwrap();
    let answer = store.enrollment_answer(enrollment).await.unwrap().pieces;
    assert_eq!(answer.first().map(|piece| piece.blob.0.len()), Some(64));
    assert!(!store.has_requests(workspace).await.unwrap(), "the request is answered");
    assert_eq!(store.put_request(enrollment, &[1]).await.unwrap(), in_time);
    for blob in [2, 3, 4, 2] {
        assert_eq!(store.put_request(enrollment, &[blob]).await.unwrap(), late);
    }
    let refused = store.put_request(enrollment, &[5]).await.unwrap_err();
    assert_eq!(refused.kind, Kind::TokenUsed);
    assert!(store.has_requests(workspace).await.unwrap());
    let mail = store.list_requests(workspace, None, 0).await.unwrap();
    let late: Vec<_> = mail.pieces.iter().map(|piece| (piece.blob.0[0], piece.late)).collect();
    assert_eq!(late, [(2, Some(true)), (3, Some(true)), (4, Some(true))]);
    assert_eq!(store.enrollment_state(enrollment).await.unwrap(), MailState::Answered);
}

pub(crate) async fn mail_comes_in_pages_that_fit_and_each_piece_once(store: Arc<dyn Store>) {
    let workspace = new_workspace(&*store, 1).await.workspace;
    for seed in 1..=20 {
        create(&*store, workspace, &format!("web-{seed}"), seed).await.unwrap();
        for blob in 0..4 {
            let blob = vec![blob; if seed % 2 == 0 { MAIL_LIMIT } else { 100 }];
            store.put_request(Nonce([seed; 16]), &blob).await.unwrap();
        }
    }
    let (mut all, mut after, mut pages) = (Vec::new(), 0, 0);
    loop {
        let mail = store.list_requests(workspace, None, after).await.unwrap();
        assert!(cbor::encode(&mail).len() < 256 * 1024 - 100);
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
    let only = Some(Nonce([2; 16]));
    assert_eq!(store.list_requests(workspace, only, 0).await.unwrap().next, None);
    assert!(store.list_requests(workspace, None, u64::MAX).await.unwrap().pieces.is_empty());
}

pub(crate) async fn servers_come_in_pages_by_name_and_one_workspace_sees_only_its_own(
    store: Arc<dyn Store>,
) {
    let (mine, other) =
        (new_workspace(&*store, 1).await.workspace, new_workspace(&*store, 2).await.workspace);
    for number in (0..=200).rev() {
        create(&*store, mine, &format!("web-{number:03}"), number).await.unwrap();
    }
    create(&*store, other, "web-0", 255).await.unwrap();
    let first = store.list_servers(mine, 0).await.unwrap();
    assert!(first.servers.len() == 200 && first.more);
    assert!(first.servers.is_sorted_by_key(|server| server.record.name.clone()));
    let second = store.list_servers(mine, 200).await.unwrap();
    let names: Vec<_> = second.servers.iter().map(|server| server.record.name.as_str()).collect();
    assert_eq!((names, second.more), (vec!["web-200"], false));
    assert!(store.list_servers(mine, u32::MAX).await.unwrap().servers.is_empty());
    for failure in [
        store.update_server(other, &rename("web-001", "stolen")).await.unwrap_err(),
        store.remove_server(other, "web-001").await.unwrap_err(),
    ] {
        assert_eq!(failure.kind, Kind::UnknownServer);
    }
}

pub(crate) async fn an_update_changes_what_it_names_and_nothing_else(store: Arc<dyn Store>) {
    let workspace = new_workspace(&*store, 1).await.workspace;
    let label = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let create_labelled = ServerCreate {
        name: "web-1".to_owned(),
        labels: label("env", "test"),
        enrollment: Nonce([1; 16]),
        lifetime: 3600,
    };
    store.create_server(workspace, &create_labelled).await.unwrap();
    create(&*store, workspace, "web-2", 2).await.unwrap();
    let taken = store.update_server(workspace, &rename("web-1", "web-2")).await.unwrap_err();
    assert_eq!(taken.kind, Kind::NameTaken);
    let suspend = ServerUpdate {
        name: "web-1".to_owned(),
        set: Some(label("tier", "1")),
        suspended: Some(true),
        ..ServerUpdate::default()
    };
    let server = store.update_server(workspace, &suspend).await.unwrap();
    assert!(server.suspended && server.record.state == ServerState::Suspended);
    assert_eq!(server.record.labels.len(), 2);
    let unset = ServerUpdate {
        name: "web-1".to_owned(),
        unset: Some(vec!["env".to_owned()]),
        ..ServerUpdate::default()
    };
    let server = store.update_server(workspace, &unset).await.unwrap();
    assert!(server.suspended, "it was not named");
    assert_eq!(server.record.labels, label("tier", "1"));
}

pub(crate) async fn sightings_are_kept_together_and_a_duplicate_is_forgotten_in_time(
    store: Arc<dyn Store>,
) {
    let Founded { workspace, domain } = new_workspace(&*store, 1).await;
    create(&*store, workspace, "web-1", 1).await.unwrap();
    let agent = agent(3, domain).id;
    accept(&*store, workspace, 1, &crate::testing::agent(3, domain)).await.unwrap();
    let note = async |duplicate| {
        let left = Some(Departure { at: 77, build: "agent 9".to_owned() });
        let known = Sighting { agent, left, duplicate };
        let unknown = Sighting { agent: device(9).id, left: None, duplicate: None };
        store.note_sightings(&[known, unknown]).await.unwrap();
        store.server_of_agent(agent).await.unwrap().record
    };
    let record = note(Some(now())).await;
    assert_eq!((record.seen, record.build.as_deref()), (Some(77), Some("agent 9")));
    assert!(record.duplicate.is_some());
    assert!(note(None).await.duplicate.is_some(), "no news changes nothing");
    let past = now() - rules::DUPLICATE_SHOWN - 60;
    assert_eq!(note(Some(past)).await.duplicate, None);
}

pub(crate) async fn a_name_as_long_as_a_message_is_answered_in_short(store: Arc<dyn Store>) {
    let workspace = new_workspace(&*store, 1).await.workspace;
    let long = "é".repeat(100_000);
    let update = ServerUpdate { name: long.clone(), ..ServerUpdate::default() };
    let failures = [
        create(&*store, workspace, &long, 1).await.unwrap_err(),
        store.remove_server(workspace, &long).await.unwrap_err(),
        store.update_server(workspace, &update).await.unwrap_err(),
    ];
    for failure in failures {
        assert!(failure.message.len() < 1_000, "{} bytes", failure.message.len());
    }
}

pub(crate) async fn a_removed_server_takes_its_tokens_with_it(store: Arc<dyn Store>) {
    let Founded { workspace, domain } = new_workspace(&*store, 1).await;
    create(&*store, workspace, "web-1", 1).await.unwrap();
    store.put_request(Nonce([1; 16]), &[1]).await.unwrap();
    let agent = agent(3, domain);
    accept(&*store, workspace, 1, &agent).await.unwrap();
    let removed = store.remove_server(workspace, "web-1").await.unwrap();
    assert_eq!(removed.record.agent, Some(agent.id));
    assert_eq!(store.enrollment_state(Nonce([1; 16])).await.unwrap(), MailState::Unknown);
    assert_eq!(store.server_of_agent(agent.id).await.unwrap_err().kind, Kind::RelayDenied);
    create(&*store, workspace, "web-1", 1).await.expect("name and token are free again");
}

pub(crate) async fn an_answer_accepts_one_bundle(store: Arc<dyn Store>) {
    let Founded { workspace, domain } = new_workspace(&*store, 1).await;
    create(&*store, workspace, "web-1", 1).await.unwrap();
    accept(&*store, workspace, 1, &agent(3, domain)).await.unwrap();
    let newer = bundle(3, IdKind::Agent, |bundle| (bundle.trust_domain, bundle.seq) = (domain, 2));
    for another in [agent(4, domain), newer] {
        let refused = accept(&*store, workspace, 1, &another).await.unwrap_err();
        assert_eq!(refused.kind, Kind::TokenUsed);
    }
    accept(&*store, workspace, 1, &agent(3, domain)).await.expect("it may be repeated");
    assert_eq!(store.server_of_agent(agent(3, domain).id).await.unwrap().record.name, "web-1");
}

pub(crate) async fn an_agent_that_never_connected_is_forgotten_with_its_record(
    store: Arc<dyn Store>,
) {
    let Founded { workspace, domain } = new_workspace(&*store, 1).await;
    let at = |seq| {
        bundle(3, IdKind::Agent, move |bundle| (bundle.trust_domain, bundle.seq) = (domain, seq))
    };
    create(&*store, workspace, "web-1", 1).await.unwrap();
    accept(&*store, workspace, 1, &at(5)).await.unwrap();
    store.remove_server(workspace, "web-1").await.unwrap();
    create(&*store, workspace, "web-1", 1).await.unwrap();
    accept(&*store, workspace, 1, &at(4)).await.expect("nothing is known of it any more");
    // Another agent takes its record.
    let enrollment = Some(Nonce([2; 16]));
    let update = ServerUpdate { name: "web-1".to_owned(), enrollment, ..ServerUpdate::default() };
    store.update_server(workspace, &update).await.unwrap();
    accept(&*store, workspace, 2, &agent(4, domain)).await.unwrap();
    create(&*store, workspace, "web-2", 3).await.unwrap();
    accept(&*store, workspace, 3, &at(3)).await.expect("nothing is known of it any more");
    // Of one that has connected the newest bundle is kept.
    store.admit_agent(&at(3), workspace).await.unwrap();
    store.remove_server(workspace, "web-2").await.unwrap();
    create(&*store, workspace, "web-2", 3).await.unwrap();
    let older = accept(&*store, workspace, 3, &at(2)).await.unwrap_err();
    assert_eq!(older.kind, Kind::RelayDenied);
}

pub(crate) async fn an_enrollment_id_is_used_once(store: Arc<dyn Store>) {
    let workspace = new_workspace(&*store, 1).await.workspace;
    let other = new_workspace(&*store, 2).await.workspace;
    create(&*store, workspace, "web-1", 1).await.unwrap();
    for workspace in [workspace, other] {
        let taken = create(&*store, workspace, "web-2", 1).await.unwrap_err();
        assert_eq!(taken.kind, Kind::InvalidArgument);
    }
    let enrollment = Some(Nonce([1; 16]));
    let update = ServerUpdate { name: "web-1".to_owned(), enrollment, ..ServerUpdate::default() };
    let taken = store.update_server(workspace, &update).await.unwrap_err();
    assert_eq!(taken.kind, Kind::InvalidArgument);
    let servers = store.list_servers(workspace, 0).await.unwrap().servers;
    assert_eq!(servers.len(), 1, "all of it or nothing");
}

pub(crate) async fn sweeping_leaves_what_somebody_may_still_ask_for(store: Arc<dyn Store>) {
    let Founded { workspace, domain } = new_workspace(&*store, 1).await;
    create(&*store, workspace, "web-1", 1).await.unwrap();
    create(&*store, workspace, "web-2", 2).await.unwrap();
    store.put_request(Nonce([1; 16]), &[1]).await.unwrap();
    accept(&*store, workspace, 2, &agent(3, domain)).await.unwrap();
    store.sweep_mail().await.unwrap();
    assert_eq!(store.enrollment_state(Nonce([1; 16])).await.unwrap(), MailState::Waiting);
    assert_eq!(store.enrollment_state(Nonce([2; 16])).await.unwrap(), MailState::Answered);
    store.check().await.unwrap();
}
