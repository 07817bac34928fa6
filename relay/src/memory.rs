//! How much memory the relay spends on data in transit, for all connections and for each workspace.
//!
//! What a reader does not take waits in the relay, within the flow control windows of its
//! connection. So a connection has small windows until it has streams, and then windows for the
//! most streams that it has had at once. All windows come out of one sum. A workspace gets more as
//! long as it does not hold more than what is left: however many workspaces take all that they can,
//! as much as each of them holds stays free. A connection that gets no more keeps what it has: its
//! streams wait for each other and delay nobody else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_link::outer::listen::Guest;

use crate::workspace::WorkspaceId;

/// The sum is half of the machine's memory, within these bounds.
const LEAST: u64 = 256 << 20;
const MOST: u64 = 8 << 30;

/// The memory for all connections.
#[derive(Debug)]
pub(crate) struct Memory {
    ledger: Mutex<Ledger>,
}

/// How many bytes are free, and how many each workspace holds.
#[derive(Debug)]
struct Ledger {
    free: u64,
    held: HashMap<WorkspaceId, u64>,
}

impl Ledger {
    fn new(free: u64) -> Self {
        Self { free, held: HashMap::new() }
    }

    /// Takes `bytes` for a workspace. Returns whether it may have them.
    fn take(&mut self, workspace: WorkspaceId, bytes: u64) -> bool {
        let held = self.held.get(&workspace).copied().unwrap_or(0).saturating_add(bytes);
        let Some(free) = self.free.checked_sub(bytes).filter(|free| held <= *free) else {
            return false;
        };
        self.free = free;
        self.held.insert(workspace, held);
        true
    }

    fn give_back(&mut self, workspace: WorkspaceId, bytes: u64) {
        self.free = self.free.saturating_add(bytes);
        if let Some(held) = self.held.get_mut(&workspace) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.held.remove(&workspace);
            }
        }
    }
}

impl Memory {
    /// Returns what this machine can spare.
    pub(crate) fn of_this_machine() -> Self {
        let system = rustix::system::sysinfo();
        let all = system.totalram.saturating_mul(u64::from(system.mem_unit));
        Self::new((all / 2).clamp(LEAST, MOST))
    }

    pub(crate) fn new(bytes: u64) -> Self {
        Self { ledger: Mutex::new(Ledger::new(bytes)) }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nothing panics while it is held")
    }
}

/// The windows of one connection. Dropping it gives their memory back.
#[derive(Debug)]
pub(crate) struct Windows {
    memory: Arc<Memory>,
    guest: Guest,
    workspace: WorkspaceId,
    streams: Mutex<StreamCounts>,
}

#[derive(Debug, Default)]
struct StreamCounts {
    open: u32,
    /// For how many streams the windows are large enough.
    paid: u32,
}

/// One open stream of a connection. Dropping it counts it off.
#[derive(Debug)]
pub(crate) struct WindowedStream(Arc<Windows>);

impl Windows {
    pub(crate) fn new(memory: Arc<Memory>, guest: Guest, workspace: WorkspaceId) -> Arc<Self> {
        Arc::new(Self { memory, guest, workspace, streams: Mutex::default() })
    }

    fn streams(&self) -> MutexGuard<'_, StreamCounts> {
        self.streams.lock().expect("nothing panics while it is held")
    }

    /// Counts one more open stream, and widens the windows for it if there is memory.
    pub(crate) fn open_stream(self: &Arc<Self>) -> WindowedStream {
        let mut streams = self.streams();
        streams.open += 1;
        if streams.open > streams.paid {
            let more = streams.paid + 1;
            let bytes = Guest::room(more) - Guest::room(streams.paid);
            if self.memory.lock().take(self.workspace, bytes) {
                streams.paid = more;
                // Under the lock, so that a smaller window never follows a larger one.
                self.guest.make_room(more);
            } else {
                metrics::counter!("farwire_relay_without_room_total").increment(1);
            }
        }
        drop(streams);
        WindowedStream(self.clone())
    }
}

impl Drop for WindowedStream {
    fn drop(&mut self) {
        let mut streams = self.0.streams();
        streams.open = streams.open.saturating_sub(1);
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        let bytes = Guest::room(self.streams().paid) - Guest::room(0);
        self.memory.lock().give_back(self.workspace, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::connect;

    fn take_all(ledger: &mut Ledger, workspace: i64) -> u64 {
        let mut taken = 0;
        while ledger.take(WorkspaceId(workspace), 4) {
            taken += 4;
        }
        taken
    }

    #[test]
    fn no_workspace_takes_what_others_need_and_each_that_comes_gets_some() {
        let mut ledger = Ledger::new(4_096);
        assert_eq!(take_all(&mut ledger, 1), 2_048, "half of all");
        assert_eq!(take_all(&mut ledger, 2), 1_024, "half of what is left");
        for late in 3..9 {
            assert!(take_all(&mut ledger, late) > 0, "workspace {late}");
        }
        assert!(!ledger.take(WorkspaceId(1), 4));
        for (workspace, bytes) in ledger.held.clone() {
            ledger.give_back(workspace, bytes);
        }
        assert!(ledger.held.is_empty() && ledger.free == 4_096);
    }

    #[test]
    fn the_sum_stays_whatever_is_taken_and_given_back() {
        bolero::check!().with_type::<Vec<(i64, u16, bool)>>().for_each(
            |steps: &Vec<(i64, u16, bool)>| {
                let mut ledger = Ledger::new(1 << 16);
                for (workspace, bytes, back) in steps {
                    let workspace = WorkspaceId(*workspace);
                    let held = ledger.held.get(&workspace).copied().unwrap_or(0);
                    let bytes = u64::from(*bytes);
                    match back {
                        true => ledger.give_back(workspace, bytes.min(held)),
                        false => _ = ledger.take(workspace, bytes),
                    }
                    assert_eq!(ledger.free + ledger.held.values().sum::<u64>(), 1 << 16);
                }
            },
        );
    }

    #[tokio::test]
    async fn windows_are_paid_for_the_most_streams_at_once_until_the_connection_ends() {
        let (arrival, _peer) = connect().await;
        let memory = Arc::new(Memory::new(1 << 30));
        let windows = Windows::new(memory.clone(), arrival.link, WorkspaceId(1));
        let spent = || (1 << 30) - memory.lock().free;
        let both = (windows.open_stream(), windows.open_stream());
        let two = spent();
        assert_eq!(two, Guest::room(2) - Guest::room(0));
        drop(both);
        let third = (windows.open_stream(), windows.open_stream());
        assert_eq!(spent(), two, "they are paid for already");
        drop(third);
        drop(windows);
        assert_eq!(spent(), 0);
    }

    #[tokio::test]
    async fn a_connection_without_memory_opens_streams_within_the_windows_that_it_has() {
        let (arrival, _peer) = connect().await;
        let memory = Arc::new(Memory::new(0));
        let windows = Windows::new(memory.clone(), arrival.link, WorkspaceId(1));
        drop(windows.open_stream());
        assert_eq!(windows.streams().paid, 0);
        drop(windows);
        assert_eq!(memory.lock().free, 0);
    }
}
