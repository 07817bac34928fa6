//! Who is here now, and who may open streams to whom: all that a stream needs, in memory.
//!
//! The books are the truth about records; this is a copy of the part that the hot path asks for,
//! changed together with them. What an agent's presence says of devices it admits comes from the
//! agent: it widens whom the relay lets through, and the agent decides all the same.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use farwire_link::outer::listen::Guest;
use farwire_protocol::header::{Reset, Route};
use farwire_protocol::id::{Id, Nonce, Target};
use farwire_protocol::outer::{Notice, Record, ServerState};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::db::identities::Workspace;
use crate::db::servers::Server;

/// Where notices for one connection go. A connection that does not read them misses some.
pub(crate) type Notices = mpsc::Sender<Notice>;

/// How many notices wait for one connection.
pub(crate) const NOTICES: usize = 8;

/// The directory of one relay process.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    servers: HashMap<Target, Entry>,
    agents: HashMap<Target, Agent>,
    devices: HashMap<u64, Device>,
    enrolling: HashMap<Nonce, Vec<(u64, Notices)>>,
    routes: HashMap<Id, Route>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    workspace: Workspace,
    suspended: bool,
    /// Cancelled when streams to this server must end at once.
    streams: CancellationToken,
}

/// An agent as it arrives.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub(crate) id: Id,
    pub(crate) instance: Nonce,
    pub(crate) guest: Guest,
    pub(crate) notices: Notices,
    pub(crate) build: String,
}

#[derive(Debug)]
struct Agent {
    ticket: u64,
    who: Arriving,
    admits: Vec<Id>,
}

#[derive(Debug)]
struct Device {
    workspace: Workspace,
    notices: Notices,
}

/// A place in the directory, given up by [`Presence::leave`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ticket(u64);

/// Where a stream may go.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) guest: Guest,
    pub(crate) streams: CancellationToken,
}

impl Presence {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Takes over a record as the books have it now.
    pub(crate) fn put(&self, server: &Server) {
        let Some(agent) = server.record.agent else { return };
        let mut inner = self.lock();
        let target = agent.target();
        let entry = inner.servers.entry(target).or_insert_with(|| Entry {
            workspace: server.workspace,
            suspended: false,
            streams: CancellationToken::new(),
        });
        if server.suspended && !entry.suspended {
            entry.streams.cancel();
            entry.streams = CancellationToken::new();
        }
        entry.suspended = server.suspended;
        notify_agent(&inner, target, &Notice::Changed);
    }

    /// Forgets a record, ends its streams and shows its agent out.
    pub(crate) fn remove(&self, agent: Id) {
        let mut inner = self.lock();
        if let Some(entry) = inner.servers.remove(&agent.target()) {
            entry.streams.cancel();
        }
        if let Some(agent) = inner.agents.remove(&agent.target()) {
            agent.who.guest.close(Reset::UnknownServer);
        }
    }

    /// An agent is here. The one that was here before is told that it was displaced, unless it is
    /// the same process; then `true` is given.
    pub(crate) fn agent_came(&self, who: Arriving) -> (Ticket, bool) {
        let mut inner = self.lock();
        inner.next += 1;
        let ticket = inner.next;
        let instance = who.instance;
        let agent = Agent { ticket, admits: Vec::new(), who };
        let displaced = inner.agents.insert(agent.who.id.target(), agent);
        let duplicate = displaced.is_some_and(|old| {
            let other = old.who.instance != instance;
            if other {
                // Whoever does not read it learns it from the close.
                let _ = old.who.notices.try_send(Notice::Superseded);
            } else {
                old.who.guest.close(Reset::Moved);
            }
            other
        });
        (Ticket(ticket), duplicate)
    }

    /// What the agent says of itself.
    pub(crate) fn admits(&self, id: Id, ticket: Ticket, admits: Vec<Id>) {
        if let Some(agent) = self.lock().agents.get_mut(&id.target())
            && agent.ticket == ticket.0
        {
            agent.admits = admits;
        }
    }

    /// A device is here.
    pub(crate) fn device_came(&self, workspace: Workspace, notices: Notices) -> Ticket {
        let mut inner = self.lock();
        inner.next += 1;
        let ticket = inner.next;
        inner.devices.insert(ticket, Device { workspace, notices });
        Ticket(ticket)
    }

    /// An agent waits for the answer to its enrollment.
    pub(crate) fn enrolling_came(&self, enrollment: Nonce, notices: Notices) -> Ticket {
        let mut inner = self.lock();
        inner.next += 1;
        let ticket = inner.next;
        inner.enrolling.entry(enrollment).or_default().push((ticket, notices));
        Ticket(ticket)
    }

    /// Somebody has left. Gives the build of an agent that was still the current one.
    pub(crate) fn leave(&self, ticket: Ticket, agent: Option<Id>) -> Option<String> {
        let mut inner = self.lock();
        inner.devices.remove(&ticket.0);
        inner.enrolling.retain(|_, waiting| {
            waiting.retain(|(other, _)| *other != ticket.0);
            !waiting.is_empty()
        });
        let target = agent?.target();
        if inner.agents.get(&target).is_some_and(|agent| agent.ticket == ticket.0) {
            return inner.agents.remove(&target).map(|agent| agent.who.build);
        }
        None
    }

    /// Where a stream of this device to this target goes, or why it does not.
    pub(crate) fn passage(
        &self,
        device: Id,
        workspace: Workspace,
        target: Target,
    ) -> Result<Passage, Reset> {
        let inner = self.lock();
        let entry = inner.servers.get(&target).ok_or(Reset::UnknownServer)?;
        let agent = inner.agents.get(&target);
        let admitted = entry.workspace == workspace
            || agent.is_some_and(|agent| agent.admits.contains(&device));
        if !admitted {
            return Err(Reset::UnknownServer);
        }
        if entry.suspended {
            return Err(Reset::Suspended);
        }
        let agent = agent.ok_or(Reset::Offline)?;
        Ok(Passage { guest: agent.who.guest.clone(), streams: entry.streams.clone() })
    }

    /// Whether this device may look at the record of this agent.
    pub(crate) fn may_see(&self, device: Id, workspace: Workspace, agent: Id) -> bool {
        let inner = self.lock();
        let target = agent.target();
        inner.servers.get(&target).is_some_and(|entry| entry.workspace == workspace)
            || inner.agents.get(&target).is_some_and(|agent| agent.admits.contains(&device))
    }

    /// The record with what is known only here.
    pub(crate) fn fill(&self, mut record: Record) -> Record {
        if let Some(agent) = record.agent
            && record.state == ServerState::Offline
            && let Some(here) = self.lock().agents.get(&agent.target())
        {
            record.state = ServerState::Online;
            record.build = Some(here.who.build.clone());
        }
        record
    }

    /// The number that agents see in place of a device.
    pub(crate) fn route(&self, device: Id) -> Route {
        let mut inner = self.lock();
        let next = Route::try_from(inner.routes.len() + 1).unwrap_or(Route::MAX);
        *inner.routes.entry(device).or_insert(next)
    }

    /// Tells every device of a workspace.
    pub(crate) fn tell_devices(&self, workspace: Workspace, notice: &Notice) {
        for device in self.lock().devices.values().filter(|d| d.workspace == workspace) {
            // A device that does not read its notices asks when it needs to know.
            let _ = device.notices.try_send(notice.clone());
        }
    }

    /// Tells whoever waits for the answer to this enrollment.
    pub(crate) fn tell_enrolling(&self, enrollment: Nonce, notice: &Notice) {
        for (_, waiting) in self.lock().enrolling.get(&enrollment).into_iter().flatten() {
            // It asks again by itself after a while.
            let _ = waiting.try_send(notice.clone());
        }
    }

    /// Tells everybody, before the relay ends.
    pub(crate) fn tell_all(&self, notice: &Notice) {
        let inner = self.lock();
        let agents = inner.agents.values().map(|agent| &agent.who.notices);
        for notices in agents.chain(inner.devices.values().map(|device| &device.notices)) {
            // They will notice the close.
            let _ = notices.try_send(notice.clone());
        }
    }

    /// How many agents and devices are here.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.agents.len(), inner.devices.len())
    }
}

fn notify_agent(inner: &Inner, target: Target, notice: &Notice) {
    if let Some(agent) = inner.agents.get(&target) {
        // It learns of it at its next stream otherwise.
        let _ = agent.who.notices.try_send(notice.clone());
    }
}
