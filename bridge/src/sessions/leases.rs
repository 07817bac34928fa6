//! The leases that this process holds for its clients, renewed for as long as it lives.
//!
//! A lease ends [`TTL`] after it was last renewed: a process that is killed lets go by being
//! silent, and one that ends in peace says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::{Action, Caller};
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::control::act;
use crate::client::{Client, Server};
use crate::conversation::may_come_back;

/// How long a lease lasts without being renewed.
pub const TTL: Duration = Duration::from_secs(30);

/// [`TTL`] as the agent is told it.
pub const TTL_MS: u32 = 30_000;

/// How often it is renewed: two may be lost.
const RENEWAL: Duration = Duration::from_secs(10);

/// A process holds no more: its clients name them.
const MOST: usize = 1_000;

/// Who holds it, where.
type Holders = HashMap<(Nonce, Option<String>), (Server, Caller)>;

/// All leases of one process.
#[derive(Debug, Default)]
pub struct Leases {
    held: Arc<Mutex<Holders>>,
    renewing: OnceLock<AbortOnDropHandle<()>>,
}

impl Leases {
    /// A client has one now.
    pub fn hold(
        &self,
        client: &Arc<Client>,
        server: &Server,
        session: Nonce,
        caller: &Caller,
    ) -> Result<(), Failure> {
        let mut held = locked(&self.held);
        let key = (session, caller.client.clone());
        if held.len() >= MOST && !held.contains_key(&key) {
            return Err(Failure::new(Kind::Busy, "this process holds too many leases"));
        }
        held.insert(key, (server.clone(), caller.clone()));
        drop(held);
        self.renewing.get_or_init(|| {
            AbortOnDropHandle::new(tokio::spawn(renew(client.clone(), self.held.clone())))
        });
        Ok(())
    }

    /// A client does not have it any more.
    pub fn forget(&self, session: Nonce, holder: Option<&str>) {
        locked(&self.held).remove(&(session, holder.map(str::to_owned)));
    }

    /// Lets go of all of them.
    pub async fn release(&self, client: &Client) {
        let all: Vec<_> = locked(&self.held).drain().collect();
        let detach = all.into_iter().map(|((session, _), (server, caller))| async move {
            // What cannot be said now is understood when the time is up.
            let _ = act(client, &server, session, &caller, Action::Detach).await;
        });
        join_all(detach).await;
    }
}

async fn renew(client: Arc<Client>, held: Arc<Mutex<Holders>>) {
    let mut ticks = interval(RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and the lease is new.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let all: Vec<_> = locked(&held).iter().map(|(key, at)| (key.clone(), at.clone())).collect();
        // A server that is stuck must not cost the leases on others.
        let renewing = all.into_iter().map(|(key, (server, caller))| {
            let (client, held) = (&client, &held);
            async move {
                let action = Action::Attach(TTL_MS);
                let renewed = act(client, &server, key.0, &caller, action).await;
                // Somebody else has it, or there is nothing to have.
                if let Err(failure) = renewed
                    && !is_passing(&failure)
                {
                    tracing::info!(kind = %failure.kind, "a lease is not ours any more");
                    locked(held).remove(&key);
                }
            }
        });
        // Who has not answered by the next time is asked again then.
        let _ = timeout(RENEWAL, join_all(renewing)).await;
    }
}

/// Whether it may be better at the next time.
fn is_passing(failure: &Failure) -> bool {
    may_come_back(failure.kind)
        || matches!(failure.kind, Kind::OutcomeUnknown | Kind::TimedOut | Kind::Busy)
}

fn locked(held: &Mutex<Holders>) -> MutexGuard<'_, Holders> {
    held.lock().expect("nothing panics while it is held")
}
