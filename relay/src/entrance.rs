//! The door ([`crate::door`]) for real connections: each has a place, which it gives up by dropping
//! it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_link::outer::listen::Knock;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::door::{Admission, Door, DoorLimits};

/// How long a stranger that is not let in keeps its turn. With the number of turns of a network
/// this bounds how many handshakes with its strangers the relay makes in a second.
const TURN: Duration = Duration::from_millis(100);

/// The strangers that have a place.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    state: Mutex<EntranceState>,
}

#[derive(Debug, Default)]
struct EntranceState {
    door: Door,
    /// How to reach the task of each place.
    waiters: HashMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// Used once, when the stranger has a turn.
    turn: Option<oneshot::Sender<()>>,
    /// Cancelled when it must leave.
    out: CancellationToken,
}

impl EntranceState {
    /// Gives a turn to a stranger.
    fn call(&mut self, next: Option<u64>) {
        let waiter = next.and_then(|next| self.waiters.get_mut(&next));
        if let Some(turn) = waiter.and_then(|waiter| waiter.turn.take()) {
            // A stranger that has just left gives its turn back when its place is dropped.
            let _ = turn.send(());
        }
    }
}

/// The place of one stranger. Dropping it gives it up.
#[derive(Debug)]
pub(crate) struct EntrancePlace {
    entrance: Arc<Entrance>,
    number: u64,
    turn: Option<oneshot::Receiver<()>>,
    out: CancellationToken,
}

impl Entrance {
    pub(crate) fn new(limits: DoorLimits) -> Self {
        let state = EntranceState { door: Door::new(limits), waiters: HashMap::new() };
        Self { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, EntranceState> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// Gives a place to a stranger that knocks, or asks it to prove its address and returns `None`.
    pub(crate) fn admit(self: &Arc<Self>, knock: Knock) -> Option<(Knock, EntrancePlace)> {
        let remote: SocketAddr = knock.remote();
        let mut state = self.lock();
        match state.door.knock(remote.ip(), knock.is_validated()) {
            Admission::Prove => {
                drop(state);
                drop(knock.validated());
                None
            }
            Admission::Enter { place, turn, leaves, next } => {
                if let Some(waiter) = leaves.and_then(|leaves| state.waiters.remove(&leaves)) {
                    waiter.out.cancel();
                    metrics::counter!("farwire_relay_pushed_out_total").increment(1);
                }
                let (sender, receiver) = oneshot::channel();
                let out = CancellationToken::new();
                state.waiters.insert(place, Waiter { turn: Some(sender), out: out.clone() });
                state.call(next);
                if turn {
                    state.call(Some(place));
                }
                drop(state);
                let turn = Some(receiver);
                Some((knock, EntrancePlace { entrance: self.clone(), number: place, turn, out }))
            }
        }
    }

    /// Returns how many places are taken.
    pub(crate) fn len(&self) -> usize {
        self.lock().door.len()
    }
}

impl EntrancePlace {
    /// Waits for a turn and carries `entering` out. Returns `None` if the stranger is not let in or
    /// must leave. One that is not let in keeps its turn for a moment.
    pub(crate) async fn enter<T>(mut self, entering: impl Future<Output = Option<T>>) -> Option<T> {
        let out = self.out.clone();
        let turn = self.turn.take()?;
        let entered = async {
            turn.await.ok()?;
            let over = Instant::now() + TURN;
            let hold = async {
                sleep_until(over).await;
                self.end_turn();
                std::future::pending::<()>().await;
            };
            let entered = tokio::select! {
                biased;
                entered = entering => entered,
                () = hold => None,
            };
            if entered.is_none() {
                sleep_until(over).await;
            }
            entered
        };
        tokio::select! {
            biased;
            () = out.cancelled() => None,
            entered = entered => entered,
        }
    }

    fn end_turn(&self) {
        let mut state = self.entrance.lock();
        let next = state.door.end_turn(self.number);
        state.call(next);
    }
}

impl Drop for EntrancePlace {
    fn drop(&mut self) {
        let mut state = self.entrance.lock();
        state.waiters.remove(&self.number);
        let next = state.door.leave(self.number);
        state.call(next);
    }
}
