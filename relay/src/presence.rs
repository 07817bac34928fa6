//! Who is connected now, and who may open streams to whom: all that a stream needs, in memory.
//!
//! [`directory`] knows which servers there are and where their agents are: what the nodes of a
//! cluster would share. [`local`] has the connections of this process. [`Presence`] changes both
//! under one lock, so that no stream is opened under the old state and then missed by the cut of a
//! change.
//!
//! The store is the truth about records; the directory copies the part that streams need and
//! changes together with it. An agent itself names the devices of other workspaces that it admits.
//! The relay lets their streams through; the agent still decides about each.

mod directory;
mod local;

use std::sync::{Arc, Mutex, MutexGuard};

use farwire_link::outer::listen::Guest;
use farwire_protocol::failure::Failure;
use farwire_protocol::header::{Reset, Route};
use farwire_protocol::id::{Id, Nonce, Target};
use farwire_protocol::outer::{Notice, Record};
use tokio::sync::mpsc;

use crate::clock::now;
use crate::memory::Windows;
use crate::node::NodeId;
use crate::store::{Server, Sighting};
use crate::workspace::{Enrolling, Member, WorkspaceId};
use directory::{Directory, Displacement, PresentAgent};
use local::{AgentConnection, Local};
pub(crate) use local::{ConnectedDevice, Passage};

/// The notices for one connection. A connection that does not read them misses some.
pub(crate) type Notices = mpsc::Sender<Notice>;

/// Most notices that wait for one connection.
pub(crate) const NOTICES: usize = 8;

/// A connection: the node that has it, and its number there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Location {
    node: NodeId,
    connection: u64,
}

/// An agent's connection that is to be registered.
#[derive(Debug)]
pub(crate) struct AgentArrival {
    pub(crate) agent: Id,
    /// Which process of the agent it is.
    pub(crate) instance: Nonce,
    pub(crate) build: String,
    pub(crate) guest: Guest,
    pub(crate) windows: Arc<Windows>,
    pub(crate) notices: Notices,
}

/// A registered connection. [`Presence::leave`] takes it back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ticket {
    at: Location,
    registration: Registration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Registration {
    Device(Member),
    Agent(Id),
    Enrolling(Enrolling),
}

impl Ticket {
    /// Returns the role in which the connection is registered.
    pub(crate) fn role(&self) -> &'static str {
        match self.registration {
            Registration::Device(_) => "device",
            Registration::Agent(_) => "agent",
            Registration::Enrolling(_) => "enrolling",
        }
    }
}

/// Everybody who is connected.
#[derive(Debug)]
pub(crate) struct Presence {
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    directory: Directory,
    local: Local,
}

impl Presence {
    pub(crate) fn new(node: NodeId) -> Self {
        let parts = Parts { directory: Directory::default(), local: Local::new(node) };
        Self { parts: Mutex::new(parts) }
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().expect("nothing panics while it is held")
    }

    /// Takes over a record as the store has it now. Suspension ends the streams to the server.
    pub(crate) fn record(&self, server: &Server) {
        let Some(agent) = server.record.agent else { return };
        let mut parts = self.lock();
        if parts.directory.record(agent, server) {
            parts.local.cut_server(agent.target(), Reset::Suspended);
        }
        if let Some(at) = parts.directory.location(agent.target()) {
            parts.local.notify_agent(at, &Notice::Changed);
        }
    }

    /// Takes over the record of an agent that was just accepted. Forgets what was seen of it
    /// before.
    pub(crate) fn record_accepted(&self, server: &Server) {
        if let Some(agent) = server.record.agent {
            self.lock().directory.forget_sightings(agent);
        }
        self.record(server);
    }

    /// Forgets a record, ends the streams to the server, and closes its agent's connection.
    pub(crate) fn forget(&self, agent: Id) {
        let mut parts = self.lock();
        let at = parts.directory.forget(agent);
        parts.local.forget_server(agent.target());
        if let Some(at) = at {
            parts.local.close_agent(at, Reset::UnknownServer);
        }
    }

    /// Registers an agent, or returns it if it has no record: the record may have been removed
    /// since its HELLO was checked, and then nothing would close the connection any more.
    ///
    /// A new connection of the same process replaces the old one. Another process displaces it: the
    /// old connection gets a last notice, and if it acknowledges that, two processes hold one
    /// identity.
    pub(crate) fn agent_arrived(&self, arrival: AgentArrival) -> Result<Ticket, AgentArrival> {
        let AgentArrival { agent, instance, .. } = arrival;
        let mut parts = self.lock();
        let at = parts.local.new_location();
        let present = PresentAgent::new(at, instance, arrival.build.clone());
        let Ok(displaced) = parts.directory.agent_arrived(agent, present) else {
            return Err(arrival);
        };
        match displaced {
            Some(Displacement { at, same_process: true }) => {
                parts.local.close_agent(at, Reset::Moved);
            }
            Some(Displacement { at, same_process: false }) => parts.local.supersede_agent(at),
            None => {}
        }
        let AgentArrival { guest, windows, notices, .. } = arrival;
        parts.local.add_agent(at, AgentConnection::new(guest, windows, notices));
        Ok(Ticket { at, registration: Registration::Agent(agent) })
    }

    /// Registers a connection of a device, unless it has too many.
    pub(crate) fn device_arrived(
        &self,
        device: Member,
        notices: Notices,
    ) -> Result<(Ticket, Arc<ConnectedDevice>), Failure> {
        let mut parts = self.lock();
        let at = parts.local.new_location();
        let shared = parts.local.devices.add(at.connection, device, notices)?;
        Ok((Ticket { at, registration: Registration::Device(device) }, shared))
    }

    /// Registers a connection that waits for the answer to its enrollment. If too many wait, the
    /// oldest one ends.
    pub(crate) fn enrolling_arrived(&self, enrolling: Enrolling, notices: Notices) -> Ticket {
        let mut parts = self.lock();
        let at = parts.local.new_location();
        parts.local.mailboxes.add(at.connection, enrolling, notices);
        Ticket { at, registration: Registration::Enrolling(enrolling) }
    }

    /// Takes a registration back.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let Ticket { at, registration } = ticket;
        let mut parts = self.lock();
        match registration {
            Registration::Device(device) => parts.local.devices.remove(at.connection, device),
            Registration::Agent(agent) => {
                parts.local.remove_agent(at);
                parts.directory.agent_left(agent, at, now());
            }
            Registration::Enrolling(enrolling) => {
                parts.local.mailboxes.remove(at.connection, enrolling);
            }
        }
    }

    /// Returns whether another connection has taken the place of this agent's.
    pub(crate) fn is_displaced(&self, ticket: Ticket) -> bool {
        let Registration::Agent(agent) = ticket.registration else { return false };
        self.lock().directory.location(agent.target()).is_some_and(|at| at != ticket.at)
    }

    /// Notes that two living processes hold the identity of this agent.
    pub(crate) fn note_duplicate(&self, agent: Id) {
        self.lock().directory.note_duplicate(agent, now());
    }

    /// Replaces the list of devices of other workspaces that an agent admits. Ends the streams of
    /// those that it admitted before and does not any more.
    pub(crate) fn admit_devices(&self, ticket: Ticket, devices: Vec<Id>) {
        let Registration::Agent(agent) = ticket.registration else { return };
        let mut parts = self.lock();
        for device in parts.directory.admit_devices(agent, ticket.at, devices) {
            parts.local.cut_device(ticket.at, device, Reset::UnknownServer);
        }
    }

    /// Returns where a stream of this device to this target goes, or why it is refused.
    pub(crate) fn passage(&self, device: Member, target: Target) -> Result<Passage, Reset> {
        let mut parts = self.lock();
        let reach = parts.directory.reach(device, target)?;
        parts.local.passage(target, reach.at, reach.by_admission.then_some(device.id))
    }

    /// Returns whether this device may look at the record of this agent.
    pub(crate) fn may_see(&self, device: Member, agent: Id) -> bool {
        self.lock().directory.may_see(device, agent)
    }

    /// Adds to a record what only the directory knows, or what the store does not have yet.
    pub(crate) fn complete(&self, record: Record) -> Record {
        self.lock().directory.complete(record, now())
    }

    /// Returns what the store must still write down. It counts as written from now on.
    pub(crate) fn take_sightings(&self) -> Vec<Sighting> {
        self.lock().directory.take_sightings()
    }

    /// Takes sightings back that the store could not write down.
    pub(crate) fn return_sightings(&self, sightings: &[Sighting]) {
        self.lock().directory.return_sightings(sightings);
    }

    /// Returns the number that agents see in place of this device's id.
    pub(crate) fn route(&self, device: Id) -> Route {
        self.lock().local.route(device)
    }

    /// Sends a notice to every device of a workspace.
    pub(crate) fn notify_devices(&self, workspace: WorkspaceId, notice: &Notice) {
        self.lock().local.devices.notify(workspace, notice);
    }

    /// Sends a notice to every connection that waits for the answer to this enrollment.
    pub(crate) fn notify_enrolling(&self, enrollment: Nonce, notice: &Notice) {
        self.lock().local.mailboxes.notify(enrollment, notice);
    }

    /// Sends a notice to every agent and device.
    pub(crate) fn notify_all(&self, notice: &Notice) {
        let parts = self.lock();
        parts.local.notify_agents(notice);
        parts.local.devices.notify_all(notice);
    }

    /// Returns how many agents are connected.
    pub(crate) fn count_agents(&self) -> usize {
        self.lock().local.count_agents()
    }

    /// Returns how many connections devices have.
    pub(crate) fn count_devices(&self) -> usize {
        self.lock().local.devices.count_connections()
    }
}

#[cfg(test)]
mod tests;
