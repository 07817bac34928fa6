//! Turns: how many runs run at once, shared fairly between devices.
//!
//! Each device has [`OWN`] turns that nobody else can take. The others are shared; while none are
//! free, the devices that wait get one in rotation, and each device's runs get theirs in order of
//! arrival. So one device with hundreds of runs, or with long ones, keeps no other device from
//! running. A device that has disconnected keeps its place in the rotation: its runs were
//! requested, and somebody may have their ids.
//!
//! A queue has [`WAITING`] places for each device. When it is full, further runs are refused as
//! `busy`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Id;
use tokio::sync::oneshot;

/// How many runs of one device may run, whatever other devices do.
const OWN: usize = 4;

/// At most this many runs of one device wait for their turn.
const WAITING: usize = 1_024;

/// All turns.
#[derive(Debug)]
pub(crate) struct Turns {
    inner: Mutex<TurnTable>,
    /// Turns that any device can have.
    shared: usize,
}

#[derive(Debug, Default)]
struct TurnTable {
    /// How many of the shared turns are taken. Runs of an earlier agent may make this more than
    /// there are.
    taken: usize,
    devices: HashMap<Id, Device>,
    /// Devices with runs that wait, the next one first.
    rotation: VecDeque<Id>,
}

#[derive(Debug, Default)]
struct Device {
    /// How many of its own turns are taken.
    own: usize,
    waiting: VecDeque<oneshot::Sender<Which>>,
}

/// Which kind of turn it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Which {
    Own,
    Shared,
}

/// The right to run, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct RunTurn {
    turns: Arc<Turns>,
    device: Id,
    which: Which,
}

/// A place in the queue, or a turn that has come. Either is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct QueuePlace {
    turns: Arc<Turns>,
    device: Id,
    comes: oneshot::Receiver<Which>,
}

impl Turns {
    /// Turns, of which a single device can have at most `all`.
    pub(crate) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), shared: all.saturating_sub(OWN) })
    }

    fn lock(&self) -> MutexGuard<'_, TurnTable> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// A place in the queue of a device.
    ///
    /// # Errors
    ///
    /// [`Kind::Busy`] if too many of its runs wait.
    pub(crate) fn queue(self: &Arc<Self>, device: Id) -> Result<QueuePlace, Failure> {
        let (gives, comes) = oneshot::channel();
        let mut guard = self.lock();
        let inner = &mut *guard;
        let one = inner.devices.entry(device).or_default();
        if one.waiting.len() >= WAITING {
            one.waiting.retain(|gives| !gives.is_closed());
        }
        if one.waiting.len() >= WAITING {
            let text =
                format!("{WAITING} runs of this device already wait for a slot, the maximum");
            return Err(Failure::new(Kind::Busy, text));
        }
        one.waiting.push_back(gives);
        if !inner.rotation.contains(&device) {
            inner.rotation.push_back(device);
        }
        inner.give(self.shared);
        drop(guard);
        Ok(QueuePlace { turns: self.clone(), device, comes })
    }

    /// The turn of a run that runs already.
    pub(crate) fn occupy(self: &Arc<Self>, device: Id) -> RunTurn {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let one = inner.devices.entry(device).or_default();
        let which = if one.own < OWN { Which::Own } else { Which::Shared };
        match which {
            Which::Own => one.own += 1,
            Which::Shared => inner.taken += 1,
        }
        drop(guard);
        RunTurn { turns: self.clone(), device, which }
    }

    fn give_back(&self, device: Id, which: Which) {
        let mut inner = self.lock();
        match which {
            Which::Own => {
                if let Some(one) = inner.devices.get_mut(&device) {
                    one.own = one.own.saturating_sub(1);
                }
            }
            Which::Shared => inner.taken = inner.taken.saturating_sub(1),
        }
        inner.give(self.shared);
    }
}

impl TurnTable {
    /// Gives turns to those who wait, as far as there are any.
    fn give(&mut self, shared: usize) {
        // A device's own turns first: nobody else can use them.
        for one in self.devices.values_mut() {
            while one.own < OWN
                && let Some(gives) = one.waiting.pop_front()
            {
                one.own += usize::from(gives.send(Which::Own).is_ok());
            }
        }
        while self.taken < shared
            && let Some(device) = self.rotation.pop_front()
        {
            let Some(one) = self.devices.get_mut(&device) else { continue };
            // A run that has left the queue is skipped.
            let given =
                one.waiting.pop_front().is_some_and(|gives| gives.send(Which::Shared).is_ok());
            self.taken += usize::from(given);
            if !one.waiting.is_empty() {
                self.rotation.push_back(device);
            }
        }
        let devices = &self.devices;
        self.rotation
            .retain(|device| devices.get(device).is_some_and(|one| !one.waiting.is_empty()));
        self.devices.retain(|_, one| one.own > 0 || !one.waiting.is_empty());
    }
}

impl QueuePlace {
    /// Waits for the turn.
    pub(crate) async fn turn(mut self) -> RunTurn {
        match (&mut self.comes).await {
            Ok(which) => RunTurn { turns: self.turns.clone(), device: self.device, which },
            // Senders are dropped only after they have been used.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.comes.close();
        // A turn that came, and was not taken.
        if let Ok(which) = self.comes.try_recv() {
            self.turns.give_back(self.device, which);
        }
    }
}

impl Drop for RunTurn {
    fn drop(&mut self) {
        self.turns.give_back(self.device, self.which);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn device(number: u8) -> Id {
        Id([number; 32])
    }

    /// Its turn, if it has come.
    fn come(place: &mut std::pin::Pin<Box<impl Future<Output = RunTurn>>>) -> Option<RunTurn> {
        match place.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn wait(turns: &Arc<Turns>, number: u8) -> std::pin::Pin<Box<impl Future<Output = RunTurn>>> {
        Box::pin(turns.queue(device(number)).unwrap().turn())
    }

    #[test]
    fn one_device_alone_has_all_turns_and_another_has_its_own_all_the_same() {
        let turns = Turns::new(10);
        let mut first: Vec<_> = (0..20).map(|_| wait(&turns, 1)).collect();
        let gone: Vec<_> = first.iter_mut().map_while(come).collect();
        assert_eq!(gone.len(), 10);
        let mut second: Vec<_> = (0..6).map(|_| wait(&turns, 2)).collect();
        let own: Vec<_> = second.iter_mut().map_while(come).collect();
        assert_eq!(own.len(), OWN);
        drop((gone, own, first, second));
        assert!(turns.lock().devices.is_empty() && turns.lock().taken == 0, "{turns:?}");
    }

    #[test]
    fn turns_that_come_free_go_round() {
        let turns = Turns::new(OWN + 1);
        let held: Vec<_> = (1..=3).flat_map(|n| (0..OWN).map(move |_| n)).collect();
        let _held: Vec<_> = held.into_iter().map(|n| turns.occupy(device(n))).collect();
        let mut shared = Some(turns.occupy(device(1)));
        let mut waiting: Vec<_> =
            [1, 1, 1, 1, 2, 3, 2].into_iter().map(|n| (n, wait(&turns, n))).collect();
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(shared.take());
            let at = waiting.iter_mut().position(|(_, place)| {
                shared = come(place);
                shared.is_some()
            });
            order.push(waiting.remove(at.expect("somebody's turn has come")).0);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1, 1]);
    }

    #[test]
    fn a_place_that_is_given_up_costs_no_turn() {
        let turns = Turns::new(OWN);
        let held: Vec<_> = (0..OWN).map(|_| turns.occupy(device(1))).collect();
        let (gone, mut stays) = (turns.queue(device(1)).unwrap(), wait(&turns, 1));
        drop(gone);
        drop(held);
        assert!(come(&mut stays).is_some());
        // Also one whose turn has come and that does not look.
        let _held: Vec<_> = (0..OWN - 1).map(|_| turns.occupy(device(1))).collect();
        drop(turns.queue(device(1)).unwrap());
        assert!(come(&mut wait(&turns, 1)).is_some());
    }

    #[test]
    fn a_queue_is_bounded_for_each_device() {
        let turns = Turns::new(OWN);
        let _held: Vec<_> = (0..OWN).map(|_| turns.occupy(device(1))).collect();
        let waiting: Vec<_> = (0..WAITING).map(|_| turns.queue(device(1)).unwrap()).collect();
        assert_eq!(turns.queue(device(1)).unwrap_err().kind, Kind::Busy);
        assert!(turns.queue(device(2)).is_ok());
        drop(waiting);
        assert!(turns.queue(device(1)).is_ok());
    }
}
