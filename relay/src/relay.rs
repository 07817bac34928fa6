//! What every connection of the relay shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farwire_protocol::failure::Failure;
use farwire_protocol::outer::Notice;
use tokio::sync::Mutex;

use crate::door::DoorLimits;
use crate::entrance::Entrance;
use crate::memory::Memory;
use crate::node::NodeId;
use crate::presence::Presence;
use crate::store::Store;
use crate::turns::Turns;

/// Program and version, as others see it.
pub(crate) const BUILD: &str = concat!("farwire-relay ", env!("CARGO_PKG_VERSION"));

/// Calls of one workspace that are carried out at a time.
const CALLS: usize = 4;

/// How long programs spread their return over, in milliseconds, when the relay ends.
const RETURN_WITHIN: u32 = 3_000;

/// The shared state of the relay.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) node: NodeId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) presence: Presence,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) memory: Arc<Memory>,
    /// Who may carry out a call.
    pub(crate) calls: Arc<Turns>,
    /// Held while a record changes, so that the store and [`Presence`] change in the same order.
    pub(crate) changes: Mutex<()>,
    draining: AtomicBool,
}

impl Relay {
    /// Makes the state of a relay that nobody has connected to, and loads the records of enrolled
    /// servers.
    pub(crate) async fn load(node: NodeId, store: Arc<dyn Store>) -> Result<Arc<Self>, Failure> {
        let presence = Presence::new(node);
        for server in store.enrolled_servers().await? {
            presence.record(&server);
        }
        Ok(Arc::new(Self {
            node,
            store,
            presence,
            entrance: Arc::new(Entrance::new(DoorLimits::default())),
            memory: Arc::new(Memory::of_this_machine()),
            calls: Turns::new(CALLS),
            changes: Mutex::default(),
            draining: AtomicBool::new(false),
        }))
    }

    /// Announces the end: `/readyz` fails from now on, and every program is told to come back soon.
    pub(crate) fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.presence.notify_all(&Notice::GoAway(RETURN_WITHIN));
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Writes down what was seen of agents since the last time. No agent is accepted meanwhile:
    /// what was seen of it before would be written onto its new record.
    pub(crate) async fn save_sightings(&self) {
        let _order = self.changes.lock().await;
        let sightings = self.presence.take_sightings();
        if !sightings.is_empty() && self.store.note_sightings(&sightings).await.is_err() {
            // The store has logged why. They are written with the next ones.
            self.presence.return_sightings(&sightings);
        }
    }
}

#[cfg(test)]
mod tests {
    use farwire_protocol::id::Id;

    use crate::testing::{poll_once, relay, server};
    use crate::workspace::WorkspaceId;

    #[tokio::test]
    async fn sightings_are_not_on_their_way_to_the_store_while_a_record_changes() {
        let test = relay().await;
        let (relay, agent) = (&test.relay, Id([9; 32]));
        let changing = relay.changes.lock().await;
        relay.presence.record(&server(WorkspaceId(1), agent, false));
        relay.presence.note_duplicate(agent);
        assert_eq!(poll_once(relay.save_sightings()), None);
        // The change is the acceptance of this agent, of which nothing has been seen since.
        relay.presence.record_accepted(&server(WorkspaceId(1), agent, false));
        drop(changing);
        assert_eq!(relay.presence.take_sightings(), []);
        relay.presence.note_duplicate(agent);
        relay.save_sightings().await;
        assert_eq!(relay.presence.take_sightings(), [], "they have been written");
    }
}
