//! Which servers there are, where their agents are, and whom they let in.
//!
//! Pure: no sockets, no lock, and the time as an argument. The nodes of a cluster would share it,
//! so it names connections by [`Location`] and holds none.

use std::collections::{HashMap, HashSet};

use farwire_protocol::header::Reset;
use farwire_protocol::id::{Id, Nonce, Target};
use farwire_protocol::outer::{Record, ServerState};

use super::Location;
use crate::clock::seconds;
use crate::store::{Departure, Server, Sighting, is_duplicate};
use crate::workspace::{Member, WorkspaceId};

/// The servers that have an agent, by the target that streams name.
#[derive(Debug, Default)]
pub(super) struct Directory {
    servers: HashMap<Target, ServerEntry>,
}

#[derive(Debug)]
struct ServerEntry {
    workspace: WorkspaceId,
    suspended: bool,
    /// The agent, while it is connected.
    present: Option<PresentAgent>,
    /// What the store may not have yet.
    sighting: Sighting,
    /// Whether the store must still write `sighting` down.
    unsaved: bool,
}

/// An agent that is connected.
#[derive(Debug)]
pub(super) struct PresentAgent {
    at: Location,
    instance: Nonce,
    build: String,
    /// The devices of other workspaces that it lets in.
    admits: HashSet<Id>,
}

/// The connection that another one has replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Displacement {
    pub(super) at: Location,
    /// Whether both are of one process.
    pub(super) same_process: bool,
}

/// No record names this agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NoRecord;

/// Where a device reaches an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reach {
    pub(super) at: Location,
    /// Whether only the agent lets the device in: it is of another workspace.
    pub(super) by_admission: bool,
}

impl PresentAgent {
    pub(super) fn new(at: Location, instance: Nonce, build: String) -> Self {
        Self { at, instance, build, admits: HashSet::new() }
    }
}

impl Directory {
    /// Takes over the record of an agent's server. Returns whether the server was suspended by it.
    pub(super) fn record(&mut self, agent: Id, server: &Server) -> bool {
        let entry = self.servers.entry(agent.target()).or_insert_with(|| ServerEntry {
            workspace: server.workspace,
            suspended: false,
            present: None,
            sighting: Sighting { agent, left: None, duplicate: None },
            unsaved: false,
        });
        entry.workspace = server.workspace;
        let before = std::mem::replace(&mut entry.suspended, server.suspended);
        server.suspended && !before
    }

    /// Forgets the record of an agent's server. Returns where the agent is.
    pub(super) fn forget(&mut self, agent: Id) -> Option<Location> {
        self.servers.remove(&agent.target())?.present.map(|present| present.at)
    }

    /// Forgets what was seen of an agent.
    pub(super) fn forget_sightings(&mut self, agent: Id) {
        if let Some(entry) = self.servers.get_mut(&agent.target()) {
            entry.sighting = Sighting { agent, left: None, duplicate: None };
            entry.unsaved = false;
        }
    }

    /// Enters an agent that has connected. Returns the connection that it replaces.
    pub(super) fn agent_arrived(
        &mut self,
        agent: Id,
        arrived: PresentAgent,
    ) -> Result<Option<Displacement>, NoRecord> {
        let entry = self.servers.get_mut(&agent.target()).ok_or(NoRecord)?;
        let instance = arrived.instance;
        let replaced = entry.present.replace(arrived);
        Ok(replaced.map(|old| Displacement { at: old.at, same_process: old.instance == instance }))
    }

    /// Notes that an agent's connection has ended, unless another one has replaced it.
    pub(super) fn agent_left(&mut self, agent: Id, at: Location, now: i64) {
        if let Some(entry) = self.servers.get_mut(&agent.target())
            && let Some(present) = entry.present.take_if(|present| present.at == at)
        {
            entry.sighting.left = Some(Departure { at: now, build: present.build });
            entry.unsaved = true;
        }
    }

    /// Returns where the agent with this target is.
    pub(super) fn location(&self, target: Target) -> Option<Location> {
        self.present(target).map(|present| present.at)
    }

    /// Replaces the list of devices that an agent admits, if `at` is its connection. Returns the
    /// devices that dropped out of the list.
    pub(super) fn admit_devices(&mut self, agent: Id, at: Location, devices: Vec<Id>) -> Vec<Id> {
        let present =
            self.servers.get_mut(&agent.target()).and_then(|entry| entry.present.as_mut());
        let Some(present) = present.filter(|present| present.at == at) else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut present.admits, devices.into_iter().collect());
        before.difference(&present.admits).copied().collect()
    }

    /// Notes that two living processes hold the identity of this agent.
    pub(super) fn note_duplicate(&mut self, agent: Id, now: i64) {
        if let Some(entry) = self.servers.get_mut(&agent.target()) {
            entry.sighting.duplicate = Some(now);
            entry.unsaved = true;
        }
    }

    /// Returns where a stream of this device to this target goes, or why it is refused. A device
    /// that is not let in does not learn whether the server exists.
    pub(super) fn reach(&self, device: Member, target: Target) -> Result<Reach, Reset> {
        let entry = self.servers.get(&target).ok_or(Reset::UnknownServer)?;
        let by_admission = entry.workspace != device.workspace;
        if by_admission && !self.admits(target, device.id) {
            return Err(Reset::UnknownServer);
        }
        if entry.suspended {
            return Err(Reset::Suspended);
        }
        let at = self.location(target).ok_or(Reset::Offline)?;
        Ok(Reach { at, by_admission })
    }

    /// Returns whether this device may look at the record of this agent.
    pub(super) fn may_see(&self, device: Member, agent: Id) -> bool {
        let entry = self.servers.get(&agent.target());
        entry.is_some_and(|entry| entry.workspace == device.workspace)
            || self.admits(agent.target(), device.id)
    }

    fn admits(&self, target: Target, device: Id) -> bool {
        self.present(target).is_some_and(|present| present.admits.contains(&device))
    }

    fn present(&self, target: Target) -> Option<&PresentAgent> {
        self.servers.get(&target)?.present.as_ref()
    }

    /// Adds to a record whether its agent is connected, and what the store does not have yet.
    pub(super) fn complete(&self, mut record: Record, now: i64) -> Record {
        let entry = record.agent.and_then(|agent| self.servers.get(&agent.target()));
        let Some(entry) = entry else { return record };
        if let Some(Departure { at, build }) = &entry.sighting.left {
            record.seen = Some(seconds(*at));
            record.build = Some(build.clone());
        }
        let duplicate = entry.sighting.duplicate.filter(|seen| is_duplicate(*seen, now));
        record.duplicate = record.duplicate.max(duplicate.map(seconds));
        if record.state == ServerState::Offline
            && let Some(present) = &entry.present
        {
            record.state = ServerState::Online;
            record.build = Some(present.build.clone());
        }
        record
    }

    /// Returns the sightings that the store must still write down. They count as written from now
    /// on.
    pub(super) fn take_sightings(&mut self) -> Vec<Sighting> {
        let unsaved = self.servers.values_mut().filter(|entry| entry.unsaved);
        unsaved
            .map(|entry| {
                entry.unsaved = false;
                entry.sighting.clone()
            })
            .collect()
    }

    /// Takes sightings back that the store could not write down. What was seen since then is kept.
    pub(super) fn return_sightings(&mut self, sightings: &[Sighting]) {
        for Sighting { agent, .. } in sightings {
            if let Some(entry) = self.servers.get_mut(&agent.target()) {
                entry.unsaved = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeId;
    use crate::testing::server;

    const NOW: i64 = 1_000_000;
    const AGENT: Id = Id([9; 32]);
    const OWNER: Member = Member { id: Id([1; 32]), workspace: WorkspaceId(1) };
    const OTHER: Member = Member { id: Id([2; 32]), workspace: WorkspaceId(2) };

    fn at(connection: u64) -> Location {
        Location { node: NodeId::TEST, connection }
    }

    fn present_agent(connection: u64, instance: u8) -> PresentAgent {
        let build = format!("agent {instance}");
        PresentAgent::new(at(connection), Nonce([instance; 16]), build)
    }

    /// A directory with one server, which is not suspended.
    fn directory() -> Directory {
        let mut directory = Directory::default();
        assert!(!directory.record(AGENT, &server(OWNER.workspace, AGENT, false)));
        directory
    }

    fn suspend(directory: &mut Directory, suspended: bool) -> bool {
        directory.record(AGENT, &server(OWNER.workspace, AGENT, suspended))
    }

    fn shown_record(directory: &Directory) -> Record {
        directory.complete(server(OWNER.workspace, AGENT, false).record, NOW)
    }

    #[test]
    fn a_stream_reaches_an_agent_that_is_known_and_here_and_not_suspended() {
        let mut directory = directory();
        let reach = |directory: &Directory| directory.reach(OWNER, AGENT.target());
        assert_eq!(directory.reach(OWNER, Target([0; 16])), Err(Reset::UnknownServer));
        assert_eq!(reach(&directory), Err(Reset::Offline));
        directory.agent_arrived(AGENT, present_agent(1, 1)).unwrap();
        assert_eq!(reach(&directory), Ok(Reach { at: at(1), by_admission: false }));
        assert!(suspend(&mut directory, true), "it must be cut");
        assert!(!suspend(&mut directory, true), "and is cut once");
        assert_eq!(reach(&directory), Err(Reset::Suspended));
        assert!(!suspend(&mut directory, false));
        assert!(reach(&directory).is_ok());
        assert_eq!(directory.forget(AGENT), Some(at(1)));
        assert_eq!(reach(&directory), Err(Reset::UnknownServer));
        assert_eq!(directory.agent_arrived(AGENT, present_agent(2, 1)), Err(NoRecord));
    }

    #[test]
    fn another_workspace_sees_an_agent_only_while_that_admits_the_device() {
        let mut directory = directory();
        directory.agent_arrived(AGENT, present_agent(1, 1)).unwrap();
        suspend(&mut directory, true);
        let reach = |directory: &Directory| directory.reach(OTHER, AGENT.target());
        assert_eq!(reach(&directory), Err(Reset::UnknownServer), "suspension is no news for it");
        assert!(directory.may_see(OWNER, AGENT) && !directory.may_see(OTHER, AGENT));
        suspend(&mut directory, false);
        let third = Id([3; 32]);
        assert_eq!(directory.admit_devices(AGENT, at(1), vec![OTHER.id, third]), []);
        assert_eq!(reach(&directory), Ok(Reach { at: at(1), by_admission: true }));
        assert!(directory.may_see(OTHER, AGENT));
        // Of a connection that was replaced nothing counts.
        assert_eq!(directory.admit_devices(AGENT, at(9), vec![]), []);
        assert_eq!(directory.admit_devices(AGENT, at(1), vec![third]), [OTHER.id]);
        assert_eq!(reach(&directory), Err(Reset::UnknownServer));
        directory.admit_devices(AGENT, at(1), vec![OTHER.id]);
        directory.agent_arrived(AGENT, present_agent(2, 1)).unwrap();
        assert!(!directory.may_see(OTHER, AGENT), "a new connection says again whom it admits");
    }

    #[test]
    fn a_record_that_another_workspace_has_now_is_for_that_workspace_alone() {
        let mut directory = directory();
        directory.agent_arrived(AGENT, present_agent(1, 1)).unwrap();
        directory.record(AGENT, &server(OTHER.workspace, AGENT, false));
        let reach = Reach { at: at(1), by_admission: false };
        assert_eq!(directory.reach(OTHER, AGENT.target()), Ok(reach));
        assert_eq!(directory.reach(OWNER, AGENT.target()), Err(Reset::UnknownServer));
    }

    #[test]
    fn the_last_connection_counts_and_tells_whether_the_process_is_another() {
        let mut directory = directory();
        let mut arrive = |connection, instance| {
            directory.agent_arrived(AGENT, present_agent(connection, instance)).unwrap()
        };
        assert_eq!(arrive(1, 1), None);
        assert_eq!(arrive(2, 1), Some(Displacement { at: at(1), same_process: true }));
        assert_eq!(arrive(3, 2), Some(Displacement { at: at(2), same_process: false }));
        directory.agent_left(AGENT, at(2), NOW);
        assert_eq!(directory.location(AGENT.target()), Some(at(3)), "an older one has left");
        assert_eq!(directory.take_sightings(), []);
        directory.agent_left(AGENT, at(3), NOW);
        assert_eq!(directory.location(AGENT.target()), None);
    }

    #[test]
    fn the_same_connection_number_on_another_node_is_another_connection() {
        let mut directory = directory();
        directory.agent_arrived(AGENT, present_agent(1, 1)).unwrap();
        let elsewhere = Location { node: "8".parse().unwrap(), connection: 1 };
        directory.agent_left(AGENT, elsewhere, NOW);
        assert_eq!(directory.location(AGENT.target()), Some(at(1)));
    }

    #[test]
    fn a_record_shows_the_agent_that_is_here_and_the_last_that_was() {
        let mut directory = directory();
        directory.agent_arrived(AGENT, present_agent(1, 4)).unwrap();
        let record = shown_record(&directory);
        assert_eq!((record.state, record.build.as_deref()), (ServerState::Online, Some("agent 4")));
        directory.agent_left(AGENT, at(1), NOW);
        let record = shown_record(&directory);
        assert_eq!((record.state, record.seen), (ServerState::Offline, Some(seconds(NOW))));
        assert_eq!(record.build.as_deref(), Some("agent 4"));
        let suspended = server(OWNER.workspace, AGENT, true).record;
        directory.agent_arrived(AGENT, present_agent(2, 5)).unwrap();
        assert_eq!(directory.complete(suspended, NOW).state, ServerState::Suspended);
    }

    #[test]
    fn the_later_duplicate_is_shown_and_none_after_its_time() {
        let mut directory = directory();
        directory.note_duplicate(AGENT, NOW);
        assert_eq!(shown_record(&directory).duplicate, Some(seconds(NOW)));
        let mut record = server(OWNER.workspace, AGENT, false).record;
        record.duplicate = Some(seconds(NOW) + 5);
        assert_eq!(directory.complete(record.clone(), NOW).duplicate, Some(seconds(NOW) + 5));
        record.duplicate = None;
        assert_eq!(directory.complete(record, NOW + 7_201).duplicate, None);
    }

    #[test]
    fn a_sighting_is_taken_once_unless_it_comes_back() {
        let mut directory = directory();
        directory.agent_arrived(AGENT, present_agent(1, 1)).unwrap();
        directory.agent_left(AGENT, at(1), NOW);
        let sightings = directory.take_sightings();
        assert_eq!((sightings.len(), directory.take_sightings().len()), (1, 0));
        directory.note_duplicate(AGENT, NOW + 1);
        directory.return_sightings(&sightings);
        let again = directory.take_sightings();
        assert_eq!(again[0].left, sightings[0].left);
        assert_eq!(again[0].duplicate, Some(NOW + 1), "what was seen since is kept");
        directory.return_sightings(&again);
        directory.forget_sightings(AGENT);
        assert_eq!(directory.take_sightings(), [], "they were of the enrollment before");
        assert_eq!(shown_record(&directory).seen, None);
    }
}
