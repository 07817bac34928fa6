//! The connections of this process: agents with the streams to them, devices, and agents that wait
//! for their enrollment.
//!
//! Every number in it counts connections of this process only. Whether somebody may open a stream
//! is decided in [`super::directory`]; here is what the stream is opened on, and what ends it.

mod devices;
mod mailboxes;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;

use farwire_link::outer::listen::Guest;
use farwire_protocol::header::{Reset, Route};
use farwire_protocol::id::{Id, Target};
use farwire_protocol::outer::Notice;
use tokio::sync::watch;

use super::{Location, Notices};
use crate::memory::Windows;
use crate::node::NodeId;
use crate::shares::StreamQueue;
pub(crate) use devices::ConnectedDevice;
use devices::Devices;
use mailboxes::Mailboxes;

/// The connections of this process.
#[derive(Debug)]
pub(super) struct Local {
    node: NodeId,
    /// The number of the last connection.
    last: u64,
    agents: HashMap<u64, AgentConnection>,
    /// What the streams to each server share, whichever connection its agent has.
    servers: HashMap<Target, ServerStreams>,
    pub(super) devices: Devices,
    pub(super) mailboxes: Mailboxes,
    routes: HashMap<Id, Route>,
}

/// A connection of an agent.
#[derive(Debug)]
pub(super) struct AgentConnection {
    guest: Guest,
    windows: Arc<Windows>,
    notices: Notices,
    /// Ends the streams of each device of another workspace.
    admissions: HashMap<Id, Cut>,
}

#[derive(Debug, Default)]
struct ServerStreams {
    /// Ends all of them.
    cut: Cut,
    queue: Arc<StreamQueue>,
}

/// Ends streams, and says why. Clones share it.
#[derive(Clone, Debug, Default)]
struct Cut(Arc<watch::Sender<Option<Reset>>>);

impl Cut {
    /// Ends the streams. The first reason stands.
    fn trigger(&self, reason: Reset) {
        self.0.send_if_modified(|cut| {
            let first = cut.is_none();
            cut.get_or_insert(reason);
            first
        });
    }

    /// Waits until the streams must end.
    async fn wait(&self) -> Reset {
        let mut reasons = self.0.subscribe();
        // It fails when the sender is dropped, and `self` has it.
        let reason = reasons.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
        reason.unwrap_or(Reset::Cancelled)
    }
}

/// The way of one stream to an agent.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) guest: Guest,
    pub(crate) windows: Arc<Windows>,
    pub(crate) queue: Arc<StreamQueue>,
    cut: Cut,
    /// Set for a device of another workspace: triggered when the agent does not admit it any more.
    admission: Option<Cut>,
}

impl Passage {
    /// Waits until streams on this way must end, and returns why.
    pub(crate) async fn until_cut(&self) -> Reset {
        let admission = async {
            match &self.admission {
                Some(cut) => cut.wait().await,
                None => pending().await,
            }
        };
        tokio::select! {
            reason = self.cut.wait() => reason,
            reason = admission => reason,
        }
    }
}

impl AgentConnection {
    pub(super) fn new(guest: Guest, windows: Arc<Windows>, notices: Notices) -> Self {
        Self { guest, windows, notices, admissions: HashMap::new() }
    }
}

impl Local {
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            node,
            last: 0,
            agents: HashMap::new(),
            servers: HashMap::new(),
            devices: Devices::default(),
            mailboxes: Mailboxes::default(),
            routes: HashMap::new(),
        }
    }

    /// Returns the location of a new connection.
    pub(super) fn new_location(&mut self) -> Location {
        self.last += 1;
        Location { node: self.node, connection: self.last }
    }

    pub(super) fn add_agent(&mut self, at: Location, agent: AgentConnection) {
        self.agents.insert(at.connection, agent);
    }

    pub(super) fn remove_agent(&mut self, at: Location) -> Option<AgentConnection> {
        if at.node == self.node { self.agents.remove(&at.connection) } else { None }
    }

    /// Closes an agent's connection.
    pub(super) fn close_agent(&mut self, at: Location, reason: Reset) {
        if let Some(agent) = self.remove_agent(at) {
            agent.guest.close(reason);
        }
    }

    /// Tells an agent that another process has taken its place. That is the last notice of its
    /// connection.
    pub(super) fn supersede_agent(&mut self, at: Location) {
        if let Some(agent) = self.remove_agent(at) {
            send(&agent.notices, &Notice::Superseded);
        }
    }

    pub(super) fn notify_agent(&self, at: Location, notice: &Notice) {
        if let Some(agent) = self.agent(at) {
            send(&agent.notices, notice);
        }
    }

    pub(super) fn notify_agents(&self, notice: &Notice) {
        self.agents.values().for_each(|agent| send(&agent.notices, notice));
    }

    pub(super) fn count_agents(&self) -> usize {
        self.agents.len()
    }

    /// Ends the streams to a server. Later ones are not affected.
    pub(super) fn cut_server(&mut self, target: Target, reason: Reset) {
        if let Some(streams) = self.servers.get_mut(&target) {
            std::mem::take(&mut streams.cut).trigger(reason);
        }
    }

    /// Ends the streams to a server that was removed.
    pub(super) fn forget_server(&mut self, target: Target) {
        self.cut_server(target, Reset::UnknownServer);
        self.servers.remove(&target);
    }

    /// Ends the streams of a device that an agent does not admit any more.
    pub(super) fn cut_device(&mut self, at: Location, device: Id, reason: Reset) {
        if let Some(cut) =
            self.agents.get_mut(&at.connection).and_then(|agent| agent.admissions.remove(&device))
        {
            cut.trigger(reason);
        }
    }

    /// Returns the way to an agent, for a device that only the agent admits if `admitted` names
    /// one. Agents on other nodes cannot be reached.
    pub(super) fn passage(
        &mut self,
        target: Target,
        at: Location,
        admitted: Option<Id>,
    ) -> Result<Passage, Reset> {
        let here = at.node == self.node;
        let agent = self.agents.get_mut(&at.connection).filter(|_| here).ok_or(Reset::Offline)?;
        let admission = admitted.map(|device| agent.admissions.entry(device).or_default().clone());
        let streams = self.servers.entry(target).or_default();
        Ok(Passage {
            guest: agent.guest.clone(),
            windows: agent.windows.clone(),
            queue: streams.queue.clone(),
            cut: streams.cut.clone(),
            admission,
        })
    }

    /// Returns the number that agents see in place of a device's id.
    pub(super) fn route(&mut self, device: Id) -> Route {
        let next = Route::try_from(self.routes.len() + 1).unwrap_or(Route::MAX);
        *self.routes.entry(device).or_insert(next)
    }

    fn agent(&self, at: Location) -> Option<&AgentConnection> {
        self.agents.get(&at.connection).filter(|_| at.node == self.node)
    }
}

/// Sends a notice to a connection. A connection that does not read its notices misses it: it learns
/// of the change by asking, at its next stream, or when it is closed.
fn send(notices: &Notices, notice: &Notice) {
    let _ = notices.try_send(notice.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::poll_once;

    #[test]
    fn the_first_reason_for_a_cut_stands_and_later_streams_learn_it_too() {
        let cut = Cut::default();
        assert_eq!(poll_once(cut.wait()), None);
        cut.trigger(Reset::Suspended);
        cut.trigger(Reset::UnknownServer);
        assert_eq!(poll_once(cut.wait()), Some(Reset::Suspended));
        assert_eq!(poll_once(cut.clone().wait()), Some(Reset::Suspended));
    }

    #[test]
    fn suspending_a_server_leaves_its_queue_and_cuts_no_later_stream() {
        let mut local = Local::new(NodeId::TEST);
        let target = Target([1; 16]);
        local.cut_server(target, Reset::Suspended);
        assert!(local.servers.is_empty(), "there was no stream to cut");
        let streams = local.servers.entry(target).or_default();
        let (cut, queue) = (streams.cut.clone(), streams.queue.clone());
        local.cut_server(target, Reset::Suspended);
        assert_eq!(poll_once(cut.wait()), Some(Reset::Suspended));
        let streams = &local.servers[&target];
        assert_eq!(poll_once(streams.cut.wait()), None);
        assert!(Arc::ptr_eq(&streams.queue, &queue), "the streams that end still count");
        let cut = streams.cut.clone();
        local.forget_server(target);
        assert_eq!(poll_once(cut.wait()), Some(Reset::UnknownServer));
        assert!(local.servers.is_empty());
    }

    #[test]
    fn each_device_keeps_its_number() {
        let mut local = Local::new(NodeId::TEST);
        let (first, second) = (local.route(Id([1; 32])), local.route(Id([2; 32])));
        assert!(first != second && first != 0);
        assert_eq!(local.route(Id([1; 32])), first);
    }

    #[test]
    fn connections_are_numbered_and_those_of_other_nodes_are_not_here() {
        let mut local = Local::new(NodeId::TEST);
        let (first, second) = (local.new_location(), local.new_location());
        assert!(first != second && first.node == NodeId::TEST);
        let elsewhere = Location { node: "8".parse().unwrap(), ..first };
        assert_eq!(local.passage(Target([1; 16]), elsewhere, None).unwrap_err(), Reset::Offline);
    }
}
