//! The leases that this process holds for its clients, renewed for as long as it lives.
//!
//! A lease ends [`TTL`] after its last renewal: a killed process releases it by its silence, and
//! one that ends normally releases it explicitly.

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

/// [`TTL`] in milliseconds, as it is sent to the agent.
pub const TTL_MS: u32 = 30_000;

/// How often it is renewed: two renewals may be lost.
const RENEWAL: Duration = Duration::from_secs(10);

/// The most leases of a process: its clients choose their names.
const MOST: usize = 1_000;

/// The client that holds it, and the session.
type Holders = HashMap<(Nonce, Option<String>), (Server, Caller)>;

/// All leases of one process.
#[derive(Debug, Default)]
pub struct Leases {
    held: Arc<Mutex<Holders>>,
    renewing: OnceLock<AbortOnDropHandle<()>>,
}

impl Leases {
    /// Records that a client holds one.
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

    /// Records that a client no longer holds it.
    pub fn forget(&self, session: Nonce, holder: Option<&str>) {
        locked(&self.held).remove(&(session, holder.map(str::to_owned)));
    }

    /// Releases all of them.
    pub async fn release(&self, client: &Client) {
        let all: Vec<_> = locked(&self.held).drain().collect();
        let detach = all.into_iter().map(|((session, _), (server, caller))| async move {
            // What cannot be released now expires by itself.
            let _ = act(client, &server, session, &caller, Action::Release).await;
        });
        join_all(detach).await;
    }
}

async fn renew(client: Arc<Client>, held: Arc<Mutex<Holders>>) {
    let mut ticks = interval(RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, when the lease is still new.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let all: Vec<_> = locked(&held).iter().map(|(key, at)| (key.clone(), at.clone())).collect();
        // A server that is stuck must not cost the leases on others.
        let renewing = all.into_iter().map(|(key, (server, caller))| {
            let (client, held) = (&client, &held);
            async move {
                let action = Action::Acquire(TTL_MS);
                let renewed = act(client, &server, key.0, &caller, action).await;
                // Somebody else holds it, or the session is gone.
                if let Err(failure) = renewed
                    && !is_passing(&failure)
                {
                    tracing::info!(kind = %failure.kind, "a lease is no longer ours");
                    locked(held).remove(&key);
                }
            }
        });
        // A server that has not answered by the next tick is asked again then.
        let _ = timeout(RENEWAL, join_all(renewing)).await;
    }
}

/// Whether a later attempt may succeed.
fn is_passing(failure: &Failure) -> bool {
    may_come_back(failure.kind)
        || matches!(failure.kind, Kind::OutcomeUnknown | Kind::TimedOut | Kind::Busy)
}

fn locked(held: &Mutex<Holders>) -> MutexGuard<'_, Holders> {
    held.lock().expect("nothing panics while it is held")
}
