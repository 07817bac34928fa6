//! Who is here now, and who may open streams to whom: all that a stream needs, in memory.
//!
//! The books are the truth about records; this is a copy of the part that the hot path asks for,
//! changed together with them. What an agent's presence says of devices it admits comes from the
//! agent: it widens whom the relay lets through, and the agent decides all the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use farwire_link::outer::listen::Guest;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::{Reset, Route};
use farwire_protocol::id::{Id, Nonce, Target};
use farwire_protocol::outer::{Notice, Record, ServerState};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::{now, seconds};
use crate::rooms::Room;
use crate::shares::{Pace, Queue};
use crate::store::{Departure, Server, Sighting, WorkspaceId, is_duplicate};

/// Where notices for one connection go. A connection that does not read them misses some.
pub(crate) type Notices = mpsc::Sender<Notice>;

/// How many notices wait for one connection.
pub(crate) const NOTICES: usize = 8;

/// How many connections one device may have: each process of a bridge has one.
const CONNECTIONS: usize = 512;

/// How many streams one device may have at the relay, those that wait included.
const STREAMS: usize = 8_192;

/// How many connections may wait for the answer to one enrollment. The oldest goes when there are more.
const ENROLLING: usize = 8;

/// The same for all enrollments of a workspace.
const ALL_ENROLLING: usize = 1_024;

/// The directory of one relay process.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    servers: HashMap<Target, Entry>,
    agents: HashMap<Target, Agent>,
    workspaces: HashMap<WorkspaceId, HashMap<u64, Notices>>,
    devices: HashMap<Id, Arc<Device>>,
    enrolling: HashMap<Nonce, Vec<(u64, Notices)>>,
    /// Which enrollment each of a workspace's waits for, the first to come first.
    mailboxes: HashMap<WorkspaceId, BTreeMap<u64, Nonce>>,
    routes: HashMap<Id, Route>,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    workspace: WorkspaceId,
    suspended: bool,
    /// Cuts the streams to this server.
    cut: Cut,
    queue: Arc<Queue>,
    /// What the books do not have yet.
    seen: Sighting,
    /// Whether they are to be told.
    news: bool,
}

/// Ends streams, and says why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut(Arc<(CancellationToken, OnceLock<Reset>)>);

impl Cut {
    fn now(&self, reason: Reset) {
        // The first reason stands.
        let _ = self.0.1.set(reason);
        self.0.0.cancel();
    }

    /// Waits until the streams must end.
    pub(crate) async fn happens(&self) -> Reset {
        self.0.0.cancelled().await;
        self.0.1.get().copied().unwrap_or(Reset::Cancelled)
    }
}

/// An agent as it arrives.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub(crate) id: Id,
    pub(crate) instance: Nonce,
    pub(crate) guest: Guest,
    pub(crate) room: Arc<Room>,
    pub(crate) notices: Notices,
    pub(crate) build: String,
}

#[derive(Debug)]
struct Agent {
    ticket: u64,
    who: Arriving,
    /// Whom it lets in besides its workspace, and what cuts their streams.
    admits: HashMap<Id, Cut>,
}

/// One device, with all of its connections.
#[derive(Debug)]
pub(crate) struct Device {
    pace: Mutex<Pace>,
    counts: Mutex<DeviceCounts>,
}

#[derive(Debug, Default)]
struct DeviceCounts {
    connections: usize,
    streams: usize,
}

/// That a device has a stream here. Dropping it counts it off.
#[derive(Debug)]
pub(crate) struct Opened(Arc<Device>);

impl Device {
    fn counts(&self) -> MutexGuard<'_, DeviceCounts> {
        self.counts.lock().expect("nothing panics while it is held")
    }

    /// How long the next stream of this device must wait.
    pub(crate) fn pace(&self, now: Instant) -> std::time::Duration {
        self.pace.lock().expect("nothing panics while it is held").open(now)
    }

    /// Counts one more stream, unless there are too many.
    pub(crate) fn opened(self: &Arc<Self>) -> Option<Opened> {
        let mut counts = self.counts();
        if counts.streams >= STREAMS {
            return None;
        }
        counts.streams += 1;
        drop(counts);
        Some(Opened(self.clone()))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.counts().streams -= 1;
    }
}

/// A place in the directory, given up by [`Presence::leave`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ticket {
    number: u64,
    seat: Seat,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Seat {
    Device(Id, WorkspaceId),
    Agent(Id),
    Enrolling(Nonce, WorkspaceId),
}

impl Ticket {
    /// As what somebody was here.
    pub(crate) fn name(&self) -> &'static str {
        match self.seat {
            Seat::Device(..) => "device",
            Seat::Agent(_) => "agent",
            Seat::Enrolling(..) => "enrolling",
        }
    }
}

/// Where a stream may go.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) guest: Guest,
    pub(crate) room: Arc<Room>,
    pub(crate) queue: Arc<Queue>,
    cut: Cut,
    /// That the agent still lets in a device of another workspace.
    admission: Option<Cut>,
}

impl Passage {
    /// Waits until streams must not go there any more.
    pub(crate) async fn cut(&self) -> Reset {
        let admission = async {
            match &self.admission {
                Some(cut) => cut.happens().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = self.cut.happens() => reason,
            reason = admission => reason,
        }
    }
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
            cut: Cut::default(),
            queue: Arc::default(),
            seen: Sighting { agent, left: None, duplicate: None },
            news: false,
        });
        if server.suspended && !entry.suspended {
            entry.cut.now(Reset::Suspended);
            entry.cut = Cut::default();
        }
        entry.suspended = server.suspended;
        notify_agent(&inner, target, &Notice::Changed);
    }

    /// Forgets a record, ends its streams and shows its agent out.
    pub(crate) fn remove(&self, agent: Id) {
        let mut inner = self.lock();
        if let Some(entry) = inner.servers.remove(&agent.target()) {
            entry.cut.now(Reset::UnknownServer);
        }
        if let Some(agent) = inner.agents.remove(&agent.target()) {
            agent.who.guest.close(Reset::UnknownServer);
        }
    }

    /// An agent is here, if it has a record: else it is given back. The one that was here before is told that it was
    /// displaced, unless it is the same process. Whether it lives, and two hold one identity, shows when it takes
    /// note of that.
    pub(crate) fn agent_came(&self, who: Arriving) -> Result<Ticket, Arriving> {
        let mut inner = self.lock();
        // Its record may have been removed since its HELLO was checked, and then nobody shows it out any more.
        if !inner.servers.contains_key(&who.id.target()) {
            return Err(who);
        }
        let (number, id, instance) = (inner.number(), who.id, who.instance);
        let agent = Agent { ticket: number, admits: HashMap::new(), who };
        if let Some(old) = inner.agents.insert(id.target(), agent) {
            if old.who.instance == instance {
                old.who.guest.close(Reset::Moved);
            } else {
                // Whoever does not read it learns it from the close.
                let _ = old.who.notices.try_send(Notice::Superseded);
            }
        }
        Ok(Ticket { number, seat: Seat::Agent(id) })
    }

    /// An agent was accepted for a record: what was seen of it before is over.
    pub(crate) fn accepted(&self, server: &Server) {
        if let Some(agent) = server.record.agent
            && let Some(entry) = self.lock().servers.get_mut(&agent.target())
        {
            entry.seen = Sighting { agent, left: None, duplicate: None };
            entry.news = false;
        }
        self.put(server);
    }

    /// Two living processes hold the identity of this agent.
    pub(crate) fn duplicate(&self, id: Id) {
        if let Some(entry) = self.lock().servers.get_mut(&id.target()) {
            entry.seen.duplicate = Some(now());
            entry.news = true;
        }
    }

    /// Whether another connection has taken the place of this one.
    pub(crate) fn is_displaced(&self, ticket: Ticket) -> bool {
        let Seat::Agent(id) = ticket.seat else { return false };
        let inner = self.lock();
        inner.agents.get(&id.target()).is_some_and(|agent| agent.ticket != ticket.number)
    }

    /// What the agent says of itself. Streams of devices that it does not admit any more end.
    pub(crate) fn admits(&self, id: Id, ticket: Ticket, admits: Vec<Id>) {
        if let Some(agent) = self.lock().agents.get_mut(&id.target())
            && agent.ticket == ticket.number
        {
            let mut before = std::mem::take(&mut agent.admits);
            agent.admits = admits
                .into_iter()
                .map(|device| (device, before.remove(&device).unwrap_or_default()))
                .collect();
            before.into_values().for_each(|cut| cut.now(Reset::UnknownServer));
        }
    }

    /// A device is here.
    pub(crate) fn device_came(
        &self,
        (id, workspace): (Id, WorkspaceId),
        notices: Notices,
    ) -> Result<(Ticket, Arc<Device>), Failure> {
        let mut inner = self.lock();
        let pace = || Mutex::new(Pace::new(Instant::now()));
        let device = inner
            .devices
            .entry(id)
            .or_insert_with(|| Arc::new(Device { pace: pace(), counts: Mutex::default() }))
            .clone();
        let mut counts = device.counts();
        if counts.connections >= CONNECTIONS {
            let message = format!("this device has {CONNECTIONS} connections to the relay already");
            return Err(Failure::new(Kind::Overloaded, message));
        }
        counts.connections += 1;
        drop(counts);
        let number = inner.number();
        inner.workspaces.entry(workspace).or_default().insert(number, notices);
        Ok((Ticket { number, seat: Seat::Device(id, workspace) }, device))
    }

    /// An agent waits for the answer to its enrollment.
    pub(crate) fn enrolling_came(
        &self,
        (enrollment, workspace): (Nonce, WorkspaceId),
        notices: Notices,
    ) -> Ticket {
        let mut inner = self.lock();
        let number = inner.number();
        let waiting = inner.enrolling.entry(enrollment).or_default();
        let oldest =
            waiting.first().map(|(number, _)| *number).filter(|_| waiting.len() >= ENROLLING);
        waiting.push((number, notices));
        let mailboxes = inner.mailboxes.entry(workspace).or_default();
        let first = mailboxes.first_key_value().filter(|_| mailboxes.len() >= ALL_ENROLLING);
        let leaves = oldest.map(|oldest| (oldest, enrollment));
        let leaves = leaves.or_else(|| first.map(|(number, enrollment)| (*number, *enrollment)));
        mailboxes.insert(number, enrollment);
        if let Some((number, enrollment)) = leaves {
            // Its connection ends with its notices.
            inner.enrolling_left(number, enrollment, workspace);
        }
        Ticket { number, seat: Seat::Enrolling(enrollment, workspace) }
    }

    /// Somebody has left.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let mut inner = self.lock();
        match ticket.seat {
            Seat::Device(id, workspace) => inner.device_left(ticket.number, id, workspace),
            Seat::Agent(id) => inner.agent_left(ticket.number, id),
            Seat::Enrolling(enrollment, workspace) => {
                inner.enrolling_left(ticket.number, enrollment, workspace);
            }
        }
    }

    /// Where a stream of this device to this target goes, or why it does not.
    pub(crate) fn passage(
        &self,
        device: Id,
        workspace: WorkspaceId,
        target: Target,
    ) -> Result<Passage, Reset> {
        let inner = self.lock();
        let entry = inner.servers.get(&target).ok_or(Reset::UnknownServer)?;
        let agent = inner.agents.get(&target);
        let admission = if entry.workspace == workspace {
            None
        } else {
            let admitted = agent.and_then(|agent| agent.admits.get(&device));
            Some(admitted.ok_or(Reset::UnknownServer)?.clone())
        };
        if entry.suspended {
            return Err(Reset::Suspended);
        }
        let agent = agent.ok_or(Reset::Offline)?;
        let (guest, room) = (agent.who.guest.clone(), agent.who.room.clone());
        Ok(Passage { guest, room, queue: entry.queue.clone(), cut: entry.cut.clone(), admission })
    }

    /// Whether this device may look at the record of this agent.
    pub(crate) fn may_see(&self, device: Id, workspace: WorkspaceId, agent: Id) -> bool {
        let inner = self.lock();
        let target = agent.target();
        inner.servers.get(&target).is_some_and(|entry| entry.workspace == workspace)
            || inner.agents.get(&target).is_some_and(|agent| agent.admits.contains_key(&device))
    }

    /// The record with what is known only here, or not yet in the books.
    pub(crate) fn fill(&self, mut record: Record) -> Record {
        let Some(agent) = record.agent else { return record };
        let inner = self.lock();
        if let Some(entry) = inner.servers.get(&agent.target()) {
            if let Some(Departure { at, build }) = &entry.seen.left {
                record.seen = Some(seconds(*at));
                record.build = Some(build.clone());
            }
            let duplicate = entry.seen.duplicate.filter(|at| is_duplicate(*at, now())).map(seconds);
            record.duplicate = record.duplicate.max(duplicate);
        }
        if record.state == ServerState::Offline
            && let Some(here) = inner.agents.get(&agent.target())
        {
            record.state = ServerState::Online;
            record.build = Some(here.who.build.clone());
        }
        record
    }

    /// What the books are to be told, once.
    pub(crate) fn news(&self) -> Vec<Sighting> {
        let mut inner = self.lock();
        let told = inner.servers.values_mut().filter(|entry| entry.news);
        told.map(|entry| {
            entry.news = false;
            entry.seen.clone()
        })
        .collect()
    }

    /// The books could not be told.
    pub(crate) fn untold(&self, news: &[Sighting]) {
        let mut inner = self.lock();
        for Sighting { agent, .. } in news {
            if let Some(entry) = inner.servers.get_mut(&agent.target()) {
                entry.news = true;
            }
        }
    }

    /// The number that agents see in place of a device.
    pub(crate) fn route(&self, device: Id) -> Route {
        let mut inner = self.lock();
        let next = Route::try_from(inner.routes.len() + 1).unwrap_or(Route::MAX);
        *inner.routes.entry(device).or_insert(next)
    }

    /// Tells every device of a workspace.
    pub(crate) fn tell_devices(&self, workspace: WorkspaceId, notice: &Notice) {
        for notices in self.lock().workspaces.get(&workspace).into_iter().flat_map(HashMap::values)
        {
            // A device that does not read its notices asks when it needs to know.
            let _ = notices.try_send(notice.clone());
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
        for notices in agents.chain(inner.workspaces.values().flat_map(HashMap::values)) {
            // They will notice the close.
            let _ = notices.try_send(notice.clone());
        }
    }

    /// How many agents and devices are here.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.agents.len(), inner.workspaces.values().map(HashMap::len).sum())
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn device_left(&mut self, number: u64, id: Id, workspace: WorkspaceId) {
        if let Some(here) = self.workspaces.get_mut(&workspace) {
            here.remove(&number);
            if here.is_empty() {
                self.workspaces.remove(&workspace);
            }
        }
        let Some(device) = self.devices.get(&id) else { return };
        let mut counts = device.counts();
        counts.connections = counts.connections.saturating_sub(1);
        let gone = counts.connections == 0;
        drop(counts);
        if gone {
            self.devices.remove(&id);
        }
    }

    fn enrolling_left(&mut self, number: u64, enrollment: Nonce, workspace: WorkspaceId) {
        if let Some(waiting) = self.enrolling.get_mut(&enrollment) {
            waiting.retain(|(other, _)| *other != number);
            if waiting.is_empty() {
                self.enrolling.remove(&enrollment);
            }
        }
        if let Some(mailboxes) = self.mailboxes.get_mut(&workspace) {
            mailboxes.remove(&number);
            if mailboxes.is_empty() {
                self.mailboxes.remove(&workspace);
            }
        }
    }

    fn agent_left(&mut self, number: u64, id: Id) {
        let target = id.target();
        if self.agents.get(&target).is_some_and(|agent| agent.ticket != number) {
            // Another has taken its place.
            return;
        }
        if let Some(agent) = self.agents.remove(&target)
            && let Some(entry) = self.servers.get_mut(&target)
        {
            entry.seen.left = Some(Departure { at: now(), build: agent.who.build });
            entry.news = true;
        }
    }
}

fn notify_agent(inner: &Inner, target: Target, notice: &Notice) {
    if let Some(agent) = inner.agents.get(&target) {
        // It learns of it at its next stream otherwise.
        let _ = agent.who.notices.try_send(notice.clone());
    }
}

#[cfg(test)]
mod tests;
