//! The directory, with real connections for those who need one.

use std::collections::BTreeMap;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use farwire_link::outer::congestion::Attended;
use farwire_link::outer::dial::{Connection, Identity, dial};
use farwire_link::outer::listen::{Listener, Options};
use farwire_protocol::address::Relay;
use farwire_protocol::bundle::{self, Bundle};
use farwire_protocol::id::{Kind as IdKind, Kn, Kt, TrustDomain};
use farwire_protocol::outer::Role;
use tokio::time::timeout;

use super::*;
use crate::rooms::Rooms;

const OWNER: (Id, WorkspaceId) = (Id([1; 32]), WorkspaceId(1));
const GUEST: (Id, WorkspaceId) = (Id([2; 32]), WorkspaceId(2));
const AGENT: Id = Id([9; 32]);

/// A connection, as the relay and as the program sees it.
async fn connection() -> (Guest, Connection, Listener) {
    let (id, kt) = (SigningKey::from_bytes(&[4; 32]), SigningKey::from_bytes(&[5; 32]));
    let key = SigningKey::from_bytes(&[1; 32]);
    let listener = Listener::bind(&Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        key: key.clone(),
        node: 1,
        reset_key: [2; 32],
        cid_key: [3; 32],
        keylog: None,
    })
    .unwrap();
    let addresses = vec![listener.address().unwrap().to_string()];
    let relay = Relay { addresses, key: Kt(key.verifying_key().to_bytes()) };
    let bundle = Bundle {
        version: bundle::VERSION,
        kind: IdKind::Agent,
        id: Id(id.verifying_key().to_bytes()),
        kn: Kn([9; 32]),
        kt: Kt(kt.verifying_key().to_bytes()),
        kd: None,
        seq: 1,
        not_before: 0,
        handshake: 1,
        trust_domain: TrustDomain::NONE,
    };
    let identity = Identity {
        role: Role::Agent,
        bundle: bundle.sign(&id),
        kt,
        instance: Nonce([6; 16]),
        build: "test".to_owned(),
        found: None,
        enrollment: None,
        attended: Attended::default(),
    };
    let (connection, arrival) = tokio::join!(dial(&relay, &identity), async {
        listener.accept().await.unwrap().enter().await
    });
    (arrival.unwrap().link, connection.unwrap(), listener)
}

fn record(suspended: bool) -> Server {
    let state = if suspended { ServerState::Suspended } else { ServerState::Offline };
    let record = Record {
        id: Nonce([7; 16]),
        name: "web-1".to_owned(),
        labels: BTreeMap::new(),
        state,
        agent: Some(AGENT),
        created: 1,
        seen: None,
        build: None,
        duplicate: None,
    };
    Server { workspace: OWNER.1, record, suspended }
}

fn arriving(guest: &Guest, instance: u8) -> (Arriving, mpsc::Receiver<Notice>) {
    let (notices, told) = mpsc::channel(NOTICES);
    let (guest, build) = (guest.clone(), format!("agent {instance}"));
    let room = Room::new(Arc::new(Rooms::new(1 << 30)), guest.clone(), OWNER.1);
    (Arriving { id: AGENT, instance: Nonce([instance; 16]), guest, room, notices, build }, told)
}

async fn reason(passage: &Passage) -> Reset {
    timeout(Duration::from_secs(20), passage.cut()).await.expect("it is cut")
}

fn is_open(passage: &Passage) -> bool {
    !passage.cut.0.0.is_cancelled()
        && passage.admission.as_ref().is_none_or(|cut| !cut.0.0.is_cancelled())
}

#[tokio::test]
async fn suspending_and_removing_cut_what_is_open_and_say_so() {
    let (guest, program, _listener) = connection().await;
    let presence = Presence::default();
    presence.put(&record(false));
    let passage = |presence: &Presence| presence.passage(OWNER.0, OWNER.1, AGENT.target());
    assert_eq!(passage(&presence).unwrap_err(), Reset::Offline);
    presence.agent_came(arriving(&guest, 1).0).unwrap();
    let open = passage(&presence).unwrap();
    presence.put(&record(false));
    assert!(is_open(&open), "a change of its name cuts nothing");
    presence.put(&record(true));
    assert_eq!(reason(&open).await, Reset::Suspended);
    assert_eq!(passage(&presence).unwrap_err(), Reset::Suspended);
    presence.put(&record(false));
    let open = passage(&presence).unwrap();
    assert!(is_open(&open));
    presence.remove(AGENT);
    assert_eq!(reason(&open).await, Reset::UnknownServer);
    assert_eq!(passage(&presence).unwrap_err(), Reset::UnknownServer);
    assert!(presence.agent_came(arriving(&guest, 1).0).is_err(), "nobody would show it out");
    timeout(Duration::from_secs(20), program.closed()).await.expect("its agent is shown out");
}

#[tokio::test]
async fn a_device_that_an_agent_lets_in_no_more_is_cut_and_others_are_not() {
    let (guest, _program, _listener) = connection().await;
    let presence = Presence::default();
    presence.put(&record(false));
    let ticket = presence.agent_came(arriving(&guest, 1).0).unwrap();
    let foreign = |presence: &Presence| presence.passage(GUEST.0, GUEST.1, AGENT.target());
    assert_eq!(foreign(&presence).unwrap_err(), Reset::UnknownServer);
    assert!(!presence.may_see(GUEST.0, GUEST.1, AGENT));
    presence.admits(AGENT, ticket, vec![GUEST.0]);
    assert!(presence.may_see(GUEST.0, GUEST.1, AGENT));
    let (theirs, ours) =
        (foreign(&presence).unwrap(), presence.passage(OWNER.0, OWNER.1, AGENT.target()).unwrap());
    presence.admits(AGENT, ticket, vec![Id([3; 32]), GUEST.0]);
    assert!(is_open(&theirs), "it is let in as before");
    presence.admits(AGENT, ticket, vec![Id([3; 32])]);
    assert_eq!(reason(&theirs).await, Reset::UnknownServer);
    assert!(is_open(&ours) && foreign(&presence).is_err());
}

#[tokio::test]
async fn another_process_displaces_and_the_same_one_returns() {
    let (guest, program, _listener) = connection().await;
    let presence = Presence::default();
    presence.put(&record(false));
    let (first, mut told) = arriving(&guest, 1);
    let first = presence.agent_came(first).unwrap();
    let (second, mut heard) = arriving(&guest, 2);
    let second = presence.agent_came(second).unwrap();
    assert_eq!(told.recv().await, Some(Notice::Superseded));
    assert_eq!(told.recv().await, None, "and that was the last");
    assert!(presence.is_displaced(first) && !presence.is_displaced(second));
    // Only who takes note of it lives; before that nobody says that there are two.
    assert_eq!(presence.fill(record(false).record).duplicate, None);
    presence.duplicate(AGENT);
    assert!(presence.fill(record(false).record).duplicate.is_some());
    // The one that was displaced leaves, and the other one stays.
    presence.leave(first);
    assert_eq!(presence.fill(record(false).record).state, ServerState::Online);
    // What it says of itself counts for nothing any more.
    presence.admits(AGENT, first, vec![GUEST.0]);
    assert!(!presence.may_see(GUEST.0, GUEST.1, AGENT));
    presence.agent_came(arriving(&guest, 2).0).unwrap();
    assert_eq!(heard.recv().await, None, "the same process is not told that it was displaced");
    timeout(Duration::from_secs(20), program.closed()).await.expect("its old connection ends");
    presence.leave(second);
    assert_eq!(presence.fill(record(false).record).state, ServerState::Online);
}

#[tokio::test]
async fn what_was_seen_is_shown_at_once_and_told_once() {
    let (guest, _program, _listener) = connection().await;
    let presence = Presence::default();
    presence.put(&record(false));
    let ticket = presence.agent_came(arriving(&guest, 1).0).unwrap();
    assert_eq!(presence.news(), []);
    presence.leave(ticket);
    let shown = presence.fill(record(false).record);
    assert_eq!((shown.state, shown.build.as_deref()), (ServerState::Offline, Some("agent 1")));
    assert!(shown.seen.is_some());
    let news = presence.news();
    assert_eq!((news.len(), presence.news().len()), (1, 0));
    presence.untold(&news);
    assert_eq!(presence.news(), news, "what could not be written is tried again");
    presence.accepted(&record(false));
    assert_eq!(presence.fill(record(false).record).seen, None, "it was enrolled anew");
}

#[tokio::test]
async fn a_device_has_so_many_connections_and_leaves_nothing() {
    let presence = Presence::default();
    let come = |who| presence.device_came(who, mpsc::channel(1).0);
    let all: Vec<_> = (0..CONNECTIONS).map(|_| come(OWNER).unwrap().0).collect();
    assert_eq!(come(OWNER).unwrap_err().kind, Kind::Overloaded);
    let (other, _) = come(GUEST).expect("another device is another matter");
    assert_eq!(presence.counts(), (0, CONNECTIONS + 1));
    all.into_iter().chain([other]).for_each(|ticket| presence.leave(ticket));
    let inner = presence.lock();
    assert!(inner.devices.is_empty() && inner.workspaces.is_empty());
}

#[tokio::test]
async fn notices_go_to_their_workspace_and_enrollment() {
    let presence = Presence::default();
    let (notices, mut owner) = mpsc::channel(NOTICES);
    let (ours, device) = presence.device_came(OWNER, notices).unwrap();
    let (notices, mut guest) = mpsc::channel(NOTICES);
    presence.device_came(GUEST, notices).unwrap();
    let enrollment = Nonce([3; 16]);
    let mut waiting: Vec<_> = (0..=ENROLLING)
        .map(|_| {
            let (notices, told) = mpsc::channel(NOTICES);
            (presence.enrolling_came((enrollment, OWNER.1), notices), told)
        })
        .collect();
    let (oldest, mut pushed_out) = waiting.remove(0);
    assert_eq!(pushed_out.recv().await, None, "there are too many, and it was the first");
    presence.leave(oldest);
    presence.tell_devices(OWNER.1, &Notice::Mail);
    presence.tell_enrolling(enrollment, &Notice::Mail);
    assert_eq!(owner.try_recv().ok(), Some(Notice::Mail));
    assert!(guest.try_recv().is_err());
    for (ticket, mut told) in waiting {
        assert_eq!(told.try_recv().ok(), Some(Notice::Mail));
        presence.leave(ticket);
    }
    let is_empty = || presence.lock().enrolling.is_empty() && presence.lock().mailboxes.is_empty();
    assert!(is_empty());
    // Those of a workspace are counted together, and those of others apart.
    let mut told = Vec::new();
    for number in 0..=ALL_ENROLLING {
        let mut enrollment = Nonce([0; 16]);
        enrollment.0[..8].copy_from_slice(&number.to_be_bytes());
        let (notices, heard) = mpsc::channel(NOTICES);
        let workspace = if number == 1 { GUEST.1 } else { OWNER.1 };
        told.push((presence.enrolling_came((enrollment, workspace), notices), heard));
    }
    let is_out = |heard: &mut mpsc::Receiver<Notice>| {
        heard.try_recv() == Err(mpsc::error::TryRecvError::Disconnected)
    };
    assert!(!told.iter_mut().any(|(_, heard)| is_out(heard)), "as many as there may be");
    let (notices, last) = mpsc::channel(NOTICES);
    told.push((presence.enrolling_came((enrollment, OWNER.1), notices), last));
    let out = told.iter_mut().map(|(_, heard)| is_out(heard)).collect::<Vec<_>>();
    assert!(out[0] && out[1..].iter().all(|out| !out), "the one of theirs that came first");
    told.iter().for_each(|(ticket, _)| presence.leave(*ticket));
    assert!(is_empty());
    // A device's streams are counted over all of its connections.
    let open: Vec<_> = (0..STREAMS).map(|_| device.opened().unwrap()).collect();
    assert!(device.opened().is_none());
    drop(open);
    assert!(device.opened().is_some());
    presence.leave(ours);
}
