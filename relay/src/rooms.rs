//! How much the relay holds for all connections together, and for each workspace.
//!
//! What a reader does not take lies here, so that a connection has room for little until it has streams: for as many
//! as it has had at once. All of that comes out of one sum. A workspace gets more as long as it does not hold more
//! than what is left: however many workspaces take all that they can get, as much as each of them has stays free.
//! Whoever gets no more keeps what it has: its streams wait for each other, and nobody else's for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_link::outer::listen::Guest;

use crate::store::WorkspaceId;

/// Half of the memory of this machine, within these bounds.
const LEAST: u64 = 256 << 20;
const MOST: u64 = 8 << 30;

/// The room of all.
#[derive(Debug)]
pub(crate) struct Rooms {
    sums: Mutex<Sums>,
}

/// Who holds how many bytes.
#[derive(Debug)]
struct Sums {
    free: u64,
    held: HashMap<WorkspaceId, u64>,
}

impl Sums {
    /// Takes so many bytes more, if this workspace may have them.
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

impl Rooms {
    /// As much as this machine can spare.
    pub(crate) fn of_this_machine() -> Self {
        let system = rustix::system::sysinfo();
        let all = system.totalram.saturating_mul(u64::from(system.mem_unit));
        Self::new((all / 2).clamp(LEAST, MOST))
    }

    /// So many bytes.
    pub(crate) fn new(free: u64) -> Self {
        Self { sums: Mutex::new(Sums { free, held: HashMap::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().expect("nothing panics while it is held")
    }
}

/// The room of one connection. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Room {
    rooms: Arc<Rooms>,
    guest: Guest,
    workspace: WorkspaceId,
    streams: Mutex<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    open: u32,
    /// For how many there is room.
    most: u32,
}

/// That one more stream is open on a connection.
#[derive(Debug)]
pub(crate) struct Share(Arc<Room>);

impl Room {
    pub(crate) fn new(rooms: Arc<Rooms>, guest: Guest, workspace: WorkspaceId) -> Arc<Self> {
        Arc::new(Self { rooms, guest, workspace, streams: Mutex::default() })
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().expect("nothing panics while it is held")
    }

    /// One more stream is open: there is room for it, if there is any left.
    pub(crate) fn open(self: &Arc<Self>) -> Share {
        let mut streams = self.streams();
        streams.open += 1;
        if streams.open > streams.most {
            let more = streams.most + 1;
            let bytes = Guest::room(more) - Guest::room(streams.most);
            if self.rooms.lock().take(self.workspace, bytes) {
                streams.most = more;
                // Within the lock, so that no smaller window comes after a larger one.
                self.guest.make_room(more);
            } else {
                metrics::counter!("farwire_relay_without_room_total").increment(1);
            }
        }
        drop(streams);
        Share(self.clone())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut streams = self.0.streams();
        streams.open = streams.open.saturating_sub(1);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let most = self.streams().most;
        let bytes = Guest::room(most) - Guest::room(0);
        self.rooms.lock().give_back(self.workspace, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(sums: &mut Sums, workspace: WorkspaceId) -> u64 {
        let mut taken = 0;
        while sums.take(workspace, 4) {
            taken += 4;
        }
        taken
    }

    #[test]
    fn no_workspace_takes_what_others_need_and_each_that_comes_gets_some() {
        let mut sums = Sums { free: 4_096, held: HashMap::new() };
        assert_eq!(take_all(&mut sums, WorkspaceId(1)), 2_048, "half of all");
        assert_eq!(take_all(&mut sums, WorkspaceId(2)), 1_024, "half of what is left");
        for late in 3..9 {
            assert!(take_all(&mut sums, WorkspaceId(late)) > 0, "workspace {late}");
        }
        assert!(!sums.take(WorkspaceId(1), 4));
        let held = sums.held.clone();
        for (workspace, bytes) in held {
            sums.give_back(workspace, bytes);
        }
        assert!(sums.held.is_empty() && sums.free == 4_096);
    }

    #[test]
    fn whatever_is_taken_and_given_back_the_sum_stays() {
        bolero::check!().with_type::<Vec<(i64, u16, bool)>>().for_each(
            |steps: &Vec<(i64, u16, bool)>| {
                let mut sums = Sums { free: 1 << 16, held: HashMap::new() };
                for (workspace, bytes, back) in steps {
                    let workspace = &WorkspaceId(*workspace);
                    let held = sums.held.get(workspace).copied().unwrap_or(0);
                    let bytes = u64::from(*bytes);
                    match back {
                        true => sums.give_back(*workspace, bytes.min(held)),
                        false => _ = sums.take(*workspace, bytes),
                    }
                    assert_eq!(sums.free + sums.held.values().sum::<u64>(), 1 << 16);
                }
            },
        );
    }
}
