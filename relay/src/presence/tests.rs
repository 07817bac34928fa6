//! Directory and connections together, with real connections for agents.

use std::time::Duration;

use farwire_protocol::outer::ServerState;
use tokio::time::timeout;

use super::*;
use crate::memory::Memory;
use crate::testing::{connect, poll_once, server};

const AGENT: Id = Id([9; 32]);
const OWNER: Member = Member { id: Id([1; 32]), workspace: WorkspaceId(1) };
const OTHER: Member = Member { id: Id([2; 32]), workspace: WorkspaceId(2) };

/// What no test must wait longer for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that knows one server, which is not suspended.
fn presence() -> Presence {
    let presence = Presence::new(NodeId::TEST);
    presence.record(&record(false));
    presence
}

fn record(suspended: bool) -> Server {
    server(OWNER.workspace, AGENT, suspended)
}

/// An agent's process as it arrives, and its notices.
fn arrival(guest: &Guest, instance: u8) -> (AgentArrival, mpsc::Receiver<Notice>) {
    let (notices, inbox) = mpsc::channel(NOTICES);
    let memory = Arc::new(Memory::new(1 << 30));
    let windows = Windows::new(memory, guest.clone(), OWNER.workspace);
    let (guest, build) = (guest.clone(), format!("agent {instance}"));
    let instance = Nonce([instance; 16]);
    (AgentArrival { agent: AGENT, instance, build, guest, windows, notices }, inbox)
}

fn passage(presence: &Presence, device: Member) -> Result<Passage, Reset> {
    presence.passage(device, AGENT.target())
}

fn is_open(passage: &Passage) -> bool {
    poll_once(passage.until_cut()).is_none()
}

fn shown_record(presence: &Presence) -> Record {
    presence.complete(record(false).record)
}

#[tokio::test]
async fn suspending_and_removing_a_server_cut_its_streams_and_say_so() {
    let (arrived, peer) = connect().await;
    let presence = presence();
    let (agent, mut inbox) = arrival(&arrived.link, 1);
    presence.agent_arrived(agent).unwrap();
    let open = passage(&presence, OWNER).unwrap();
    presence.record(&record(false));
    assert!(is_open(&open), "a change of its name cuts nothing");
    assert_eq!(inbox.try_recv().ok(), Some(Notice::Changed));
    presence.record(&record(true));
    assert_eq!(poll_once(open.until_cut()), Some(Reset::Suspended));
    assert_eq!(passage(&presence, OWNER).unwrap_err(), Reset::Suspended);
    presence.record(&record(false));
    let open = passage(&presence, OWNER).unwrap();
    assert!(is_open(&open));
    presence.forget(AGENT);
    assert_eq!(poll_once(open.until_cut()), Some(Reset::UnknownServer));
    assert_eq!(passage(&presence, OWNER).unwrap_err(), Reset::UnknownServer);
    assert!(presence.agent_arrived(arrival(&arrived.link, 1).0).is_err());
    timeout(PATIENCE, peer.connection.closed()).await.expect("its agent's connection ends");
}

#[tokio::test]
async fn a_device_that_an_agent_admits_no_more_is_cut_and_others_are_not() {
    let (arrived, _peer) = connect().await;
    let presence = presence();
    let ticket = presence.agent_arrived(arrival(&arrived.link, 1).0).unwrap();
    assert_eq!(passage(&presence, OTHER).unwrap_err(), Reset::UnknownServer);
    presence.admit_devices(ticket, vec![OTHER.id]);
    let (theirs, ours) = (passage(&presence, OTHER).unwrap(), passage(&presence, OWNER).unwrap());
    let third = Id([3; 32]);
    presence.admit_devices(ticket, vec![third, OTHER.id]);
    assert!(is_open(&theirs), "it is admitted as before");
    presence.admit_devices(ticket, vec![third]);
    assert_eq!(poll_once(theirs.until_cut()), Some(Reset::UnknownServer));
    assert!(is_open(&ours) && passage(&presence, OTHER).is_err());
    // One that is admitted again has a way that is not cut.
    presence.admit_devices(ticket, vec![OTHER.id]);
    assert!(is_open(&passage(&presence, OTHER).unwrap()) && !is_open(&theirs));
}

#[tokio::test]
async fn another_process_displaces_an_agent_and_the_same_one_returns() {
    let (arrived, peer) = connect().await;
    let presence = presence();
    let (first, mut inbox) = arrival(&arrived.link, 1);
    let first = presence.agent_arrived(first).unwrap();
    let (second, mut second_inbox) = arrival(&arrived.link, 2);
    let second = presence.agent_arrived(second).unwrap();
    assert_eq!(inbox.recv().await, Some(Notice::Superseded));
    assert_eq!(inbox.recv().await, None, "that was the last notice");
    assert!(presence.is_displaced(first) && !presence.is_displaced(second));
    assert_eq!(shown_record(&presence).duplicate, None, "the first process may be dead");
    presence.note_duplicate(AGENT);
    assert!(shown_record(&presence).duplicate.is_some());
    presence.leave(first);
    assert_eq!(shown_record(&presence).state, ServerState::Online, "the second one is here");
    presence.admit_devices(first, vec![OTHER.id]);
    assert!(!presence.may_see(OTHER, AGENT), "the first one's word counts no more");
    presence.agent_arrived(arrival(&arrived.link, 2).0).unwrap();
    assert_eq!(second_inbox.recv().await, None, "the same process is not told that it returned");
    timeout(PATIENCE, peer.connection.closed()).await.expect("its old connection ends");
    presence.leave(second);
    assert_eq!(shown_record(&presence).state, ServerState::Online);
    assert_eq!(presence.count_agents(), 1);
}

#[tokio::test]
async fn what_was_seen_of_an_agent_is_shown_at_once_and_taken_once() {
    let (arrived, _peer) = connect().await;
    let presence = presence();
    let ticket = presence.agent_arrived(arrival(&arrived.link, 1).0).unwrap();
    assert_eq!(presence.take_sightings(), []);
    presence.leave(ticket);
    let shown = shown_record(&presence);
    assert_eq!((shown.state, shown.build.as_deref()), (ServerState::Offline, Some("agent 1")));
    assert!(shown.seen.is_some());
    let sightings = presence.take_sightings();
    assert_eq!((sightings.len(), presence.take_sightings().len()), (1, 0));
    presence.return_sightings(&sightings);
    assert_eq!(presence.take_sightings(), sightings, "what could not be written comes again");
    presence.record_accepted(&record(false));
    assert_eq!(shown_record(&presence).seen, None, "it was enrolled anew");
}

#[tokio::test]
async fn everybody_leaves_nothing_behind() {
    let presence = presence();
    let enrolling = Enrolling { enrollment: Nonce([3; 16]), workspace: OWNER.workspace };
    let (notices, mut inbox) = mpsc::channel(NOTICES);
    let (device, _shared) = presence.device_arrived(OWNER, notices.clone()).unwrap();
    let waiting = presence.enrolling_arrived(enrolling, notices);
    assert_eq!((device.role(), waiting.role()), ("device", "enrolling"));
    assert_eq!((presence.count_agents(), presence.count_devices()), (0, 1));
    presence.notify_devices(OWNER.workspace, &Notice::Mail);
    presence.notify_enrolling(enrolling.enrollment, &Notice::Changed);
    presence.notify_all(&Notice::GoAway(1));
    for notice in [Notice::Mail, Notice::Changed, Notice::GoAway(1)] {
        assert_eq!(inbox.recv().await, Some(notice));
    }
    presence.leave(device);
    presence.leave(waiting);
    assert_eq!(inbox.recv().await, None);
    assert_eq!(presence.count_devices(), 0);
}
