//! The door with its sockets and tasks: places that are given up when they are dropped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farwire_link::outer::listen::Knock;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::door::{Answer, Door, Limits};

/// How long somebody keeps their turn who is not let in. With the turns of a network this bounds how many
/// handshakes with strangers a network costs us in a second.
const TURN: Duration = Duration::from_millis(100);

/// The entrance.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    door: Door,
    /// How those who have a place hear of it.
    waiters: HashMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    /// Used when it is their turn.
    turn: Option<oneshot::Sender<()>>,
    /// Cancelled when they must leave.
    out: CancellationToken,
}

impl Inner {
    fn call(&mut self, next: Option<u64>) {
        let waiter = next.and_then(|next| self.waiters.get_mut(&next));
        if let Some(turn) = waiter.and_then(|waiter| waiter.turn.take()) {
            // Whoever has just left gives the turn back when their place is dropped.
            let _ = turn.send(());
        }
    }
}

/// A place at the entrance.
#[derive(Debug)]
pub(crate) struct Place {
    entrance: Arc<Entrance>,
    number: u64,
    turn: Option<oneshot::Receiver<()>>,
    out: CancellationToken,
}

impl Entrance {
    /// An entrance with these limits.
    pub(crate) fn new(limits: Limits) -> Self {
        let inner = Inner { door: Door::new(limits), waiters: HashMap::new() };
        Self { inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it is held")
    }

    /// Somebody knocks: they have a place, or have been asked to prove their address.
    pub(crate) fn admit(self: &Arc<Self>, knock: Knock) -> Option<(Knock, Place)> {
        let remote: SocketAddr = knock.remote();
        let mut inner = self.lock();
        match inner.door.knock(remote.ip(), knock.is_validated()) {
            Answer::Prove => {
                drop(inner);
                drop(knock.validated());
                None
            }
            Answer::Enter { place, turn, leaves, next } => {
                if let Some(waiter) = leaves.and_then(|leaves| inner.waiters.remove(&leaves)) {
                    waiter.out.cancel();
                    metrics::counter!("farwire_relay_pushed_out_total").increment(1);
                }
                let (sender, receiver) = oneshot::channel();
                let out = CancellationToken::new();
                inner.waiters.insert(place, Waiter { turn: Some(sender), out: out.clone() });
                inner.call(next);
                if turn {
                    inner.call(Some(place));
                }
                drop(inner);
                let turn = Some(receiver);
                Some((knock, Place { entrance: self.clone(), number: place, turn, out }))
            }
        }
    }

    /// How many have a place.
    pub(crate) fn len(&self) -> usize {
        self.lock().door.len()
    }
}

impl Place {
    /// Waits for their turn, takes it, and carries `entering` out unless they must leave. `None` then.
    /// Where it comes to nothing, they keep the turn for a moment.
    pub(crate) async fn enter<T>(mut self, entering: impl Future<Output = Option<T>>) -> Option<T> {
        let out = self.out.clone();
        let turn = self.turn.take()?;
        let entered = async {
            turn.await.ok()?;
            let over = Instant::now() + TURN;
            let hold = async {
                sleep_until(over).await;
                self.done();
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

    /// The turn is over.
    fn done(&self) {
        let mut inner = self.entrance.lock();
        let next = inner.door.done(self.number);
        inner.call(next);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.entrance.lock();
        inner.waiters.remove(&self.number);
        let next = inner.door.gone(self.number);
        inner.call(next);
    }
}
