//! Devices, each with all of its connections: how many it has, and how fast it opens streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Id;
use farwire_protocol::outer::Notice;

use super::super::Notices;
use super::send;
use crate::shares::OpenRate;
use crate::workspace::{Member, WorkspaceId};

/// Most connections of one device: each process of a bridge has one.
const MAX_CONNECTIONS: usize = 512;

/// Most streams of one device at the relay, including those that wait.
const MAX_STREAMS: usize = 8_192;

/// The devices that are connected.
#[derive(Debug, Default)]
pub(in super::super) struct Devices {
    /// The connections of each workspace's devices, by their numbers.
    workspaces: HashMap<WorkspaceId, HashMap<u64, Notices>>,
    devices: HashMap<Id, Arc<ConnectedDevice>>,
}

/// One device, shared by its connections.
#[derive(Debug)]
pub(crate) struct ConnectedDevice {
    rate: Mutex<OpenRate>,
    counts: Mutex<DeviceCounts>,
}

#[derive(Debug, Default)]
struct DeviceCounts {
    connections: usize,
    streams: usize,
}

/// One stream of a device. Dropping it counts it off.
#[derive(Debug)]
pub(crate) struct CountedStream(Arc<ConnectedDevice>);

impl ConnectedDevice {
    fn new() -> Self {
        Self { rate: Mutex::new(OpenRate::new(Instant::now())), counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, DeviceCounts> {
        self.counts.lock().expect("nothing panics while it is held")
    }

    /// Counts the opening of a stream. Returns how long it must wait.
    pub(crate) fn delay(&self, now: Instant) -> Duration {
        self.rate.lock().expect("nothing panics while it is held").open(now)
    }

    /// Counts one more stream, unless there are too many.
    pub(crate) fn count_stream(self: &Arc<Self>) -> Option<CountedStream> {
        let mut counts = self.counts();
        if counts.streams >= MAX_STREAMS {
            return None;
        }
        counts.streams += 1;
        drop(counts);
        Some(CountedStream(self.clone()))
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.0.counts().streams -= 1;
    }
}

impl Devices {
    pub(in super::super) fn add(
        &mut self,
        connection: u64,
        device: Member,
        notices: Notices,
    ) -> Result<Arc<ConnectedDevice>, Failure> {
        let shared =
            self.devices.entry(device.id).or_insert_with(|| Arc::new(ConnectedDevice::new()));
        let mut counts = shared.counts();
        if counts.connections >= MAX_CONNECTIONS {
            let message =
                format!("this device already has {MAX_CONNECTIONS} connections to the relay");
            return Err(Failure::new(Kind::Overloaded, message));
        }
        counts.connections += 1;
        drop(counts);
        self.workspaces.entry(device.workspace).or_default().insert(connection, notices);
        Ok(shared.clone())
    }

    pub(in super::super) fn remove(&mut self, connection: u64, device: Member) {
        if let Some(connections) = self.workspaces.get_mut(&device.workspace) {
            connections.remove(&connection);
            if connections.is_empty() {
                self.workspaces.remove(&device.workspace);
            }
        }
        let Some(shared) = self.devices.get(&device.id) else { return };
        let mut counts = shared.counts();
        counts.connections = counts.connections.saturating_sub(1);
        let last = counts.connections == 0;
        drop(counts);
        if last {
            self.devices.remove(&device.id);
        }
    }

    /// Sends a notice to every connection of a workspace's devices.
    pub(in super::super) fn notify(&self, workspace: WorkspaceId, notice: &Notice) {
        let connections = self.workspaces.get(&workspace).into_iter().flat_map(HashMap::values);
        connections.for_each(|notices| send(notices, notice));
    }

    pub(in super::super) fn notify_all(&self, notice: &Notice) {
        let connections = self.workspaces.values().flat_map(HashMap::values);
        connections.for_each(|notices| send(notices, notice));
    }

    pub(in super::super) fn count_connections(&self) -> usize {
        self.workspaces.values().map(HashMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const OWNER: Member = Member { id: Id([1; 32]), workspace: WorkspaceId(1) };
    const OTHER: Member = Member { id: Id([2; 32]), workspace: WorkspaceId(2) };

    fn add(devices: &mut Devices, connection: u64, device: Member) -> mpsc::Receiver<Notice> {
        let (notices, inbox) = mpsc::channel(1);
        devices.add(connection, device, notices).unwrap();
        inbox
    }

    #[test]
    fn a_device_has_a_limited_number_of_connections_and_leaves_nothing() {
        let mut devices = Devices::default();
        for number in 0..MAX_CONNECTIONS {
            add(&mut devices, number as u64, OWNER);
        }
        let refused = devices.add(9_999, OWNER, mpsc::channel(1).0).unwrap_err();
        assert_eq!(refused.kind, Kind::Overloaded);
        add(&mut devices, 9_999, OTHER);
        assert_eq!(devices.count_connections(), MAX_CONNECTIONS + 1);
        devices.remove(9_999, OTHER);
        for number in 0..MAX_CONNECTIONS {
            devices.remove(number as u64, OWNER);
        }
        assert!(devices.devices.is_empty() && devices.workspaces.is_empty());
    }

    #[test]
    fn a_devices_streams_are_counted_over_all_of_its_connections() {
        let mut devices = Devices::default();
        let first = devices.add(1, OWNER, mpsc::channel(1).0).unwrap();
        let second = devices.add(2, OWNER, mpsc::channel(1).0).unwrap();
        let open: Vec<_> = (0..MAX_STREAMS).map(|_| first.count_stream().unwrap()).collect();
        assert!(second.count_stream().is_none());
        drop(open);
        assert!(second.count_stream().is_some());
    }

    #[test]
    fn a_notice_goes_to_the_devices_of_its_workspace() {
        let mut devices = Devices::default();
        let mut owner = add(&mut devices, 1, OWNER);
        let mut other = add(&mut devices, 2, OTHER);
        devices.notify(OWNER.workspace, &Notice::Mail);
        assert_eq!(owner.try_recv().ok(), Some(Notice::Mail));
        assert!(other.try_recv().is_err());
        devices.notify_all(&Notice::Changed);
        devices.notify_all(&Notice::Mail);
        for inbox in [&mut owner, &mut other] {
            assert_eq!(inbox.try_recv().ok(), Some(Notice::Changed));
            assert!(inbox.try_recv().is_err(), "a full queue loses notices and delays nobody");
        }
    }
}
