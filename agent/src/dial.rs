//! Keeps a connection to the relay: dial, serve, wait, dial again.
//!
//! When to dial next is a pure decision in [`Pace`]. Losing the relay loses nothing else: links and
//! jobs stay as they are. Trouble is logged once when it begins and once when it ends.

use std::sync::Arc;
use std::time::Duration;

use farwire_keystore::AddedBy;
use farwire_link::outer::Closed;
use farwire_link::outer::dial::{self, Connection, Identity, blocked};
use farwire_protocol::address::Relay;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Reset;
use farwire_protocol::outer::{Notice, Presence, Role};
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::build::BUILD;

/// How often the list of devices is compared with the list that the relay has.
const LOOK: Duration = Duration::from_secs(5);

/// A connection that lasted this long makes the next wait short again.
const SETTLED: Duration = Duration::from_secs(300);

/// The state of the connection, for `status`.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    Dialling,
    Connected { relay: String },
    Down { why: Failure },
}

/// Decides how long to wait before the next dial.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    failures: u32,
    displaced: u32,
}

impl Pace {
    /// After a dial that failed, or a connection that ended. `chance` is uniform in 0..1.
    fn after(&mut self, lasted: Option<Duration>, superseded: bool, chance: f64) -> Duration {
        if superseded {
            // Somebody else holds our identity. Fighting would take the server from both.
            let wait = Duration::from_secs(60) * 2_u32.saturating_pow(self.displaced.min(6));
            self.displaced += 1;
            return wait.min(Duration::from_secs(3600));
        }
        match lasted {
            Some(lasted) if lasted >= SETTLED => *self = Self::default(),
            Some(_) => self.failures = self.failures.min(1),
            None => {}
        }
        let most = Duration::from_millis(500) * 2_u32.saturating_pow(self.failures.min(6));
        self.failures += 1;
        let (least, most) = (Duration::from_millis(250), most.min(Duration::from_secs(30)));
        least + most.saturating_sub(least).mul_f64(chance)
    }
}

fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without random numbers every agent waits equally long, which is harmless otherwise.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// Serves through the relay until `stop` is cancelled. Then the relay and everybody with a stream
/// learn of it before this returns, so that nobody waits for an agent that is gone.
pub(crate) async fn keep(
    agent: Arc<Agent>,
    relay: Relay,
    standing: watch::Sender<Standing>,
    stop: &CancellationToken,
) {
    let identity = Identity {
        role: Role::Agent,
        bundle: agent.transport.bundle.clone(),
        kt: agent.transport.kt.clone(),
        instance: agent.services.instance,
        build: BUILD.to_owned(),
        found: None,
        enrollment: None,
        attended: agent.services.attended.clone(),
    };
    let mut pace = Pace::default();
    loop {
        let begun = Instant::now();
        let connected = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            connected = connect(&relay, &identity) => connected,
        };
        let (lasted, superseded, why) = match connected {
            Ok(connection) => {
                let relay = connection.remote().to_string();
                tracing::info!(relay, "connected");
                standing.send_replace(Standing::Connected { relay });
                let (closed, superseded) = tokio::select! {
                    biased;
                    () = stop.cancelled() => return connection.shut(Reset::Closing).await,
                    served = serve(&agent, &connection) => served,
                };
                (Some(begun.elapsed()), superseded, connection_failure(&connection, &closed))
            }
            Err(failure) => (None, false, failure),
        };
        if superseded {
            tracing::error!(
                "duplicate_agent: another process with this agent's identity has taken its place"
            );
        }
        if !matches!(*standing.borrow(), Standing::Down { .. }) {
            let hint = why.hint.as_deref();
            tracing::warn!(kind = %why.kind, why = why.message, hint, "not connected; dialing again");
        }
        standing.send_replace(Standing::Down { why });
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(pace.after(lasted, superseded, chance())) => {}
        }
    }
}

async fn connect(relay: &Relay, identity: &Identity) -> Result<Connection, Failure> {
    let connection = dial::dial(relay, identity).await?;
    connection.welcome().await?;
    Ok(connection)
}

fn connection_failure(connection: &Connection, closed: &Closed) -> Failure {
    connection.refusal().unwrap_or_else(|| {
        let failure = Failure::caused(Kind::RelayUnreachable, "the connection ended", closed);
        match closed {
            Closed::Silent => failure.with_hint(blocked(&connection.remote().to_string())),
            _ => failure,
        }
    })
}

/// Accepts streams until the connection ends. Returns why, and whether another process took our
/// place.
async fn serve(agent: &Arc<Agent>, connection: &Connection) -> (Closed, bool) {
    let mut notices = connection.notices();
    let mut look = interval(LOOK);
    let mut told = None;
    let mut superseded = false;
    loop {
        tokio::select! {
            biased;
            Ok(notice) = notices.recv() => match notice {
                Notice::Superseded => {
                    superseded = true;
                    connection.close(Reset::Moved);
                }
                Notice::GoAway(_) => connection.close(Reset::Closing),
                Notice::Mail | Notice::Changed => {}
            },
            _ = look.tick() => told = tell(agent, connection, told).await,
            stream = connection.accept() => match stream {
                Ok((send, recv)) => agent.receive(send, recv),
                Err(closed) => {
                    superseded |= closed == Closed::ByPeer(Reset::Moved);
                    return (closed, superseded);
                }
            },
        }
    }
}

/// Tells the relay which devices were let in by hand, when that has changed.
async fn tell(agent: &Agent, connection: &Connection, told: Option<Presence>) -> Option<Presence> {
    let Ok(devices) = agent.state.devices().list() else { return told };
    let by_hand = devices.entries.iter().filter(|(_, device)| device.how == AddedBy::ByHand);
    let presence = Presence { admits: by_hand.map(|(_, device)| device.bundle.id).collect() };
    if told.as_ref() == Some(&presence) || (told.is_none() && presence.admits.is_empty()) {
        return told;
    }
    match connection.call(&presence).await {
        Ok(_) => Some(presence),
        Err(failure) => {
            tracing::warn!(why = failure.message, "the relay refused the list of devices");
            told
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_begin_anew_after_a_good_time() {
        let mut pace = Pace::default();
        let most: Vec<_> = (0..8).map(|_| pace.after(None, false, 1.0).as_millis()).collect();
        assert_eq!(most, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(pace.after(None, false, 0.0), Duration::from_millis(250));
        assert_eq!(pace.after(Some(SETTLED), false, 1.0), Duration::from_millis(500));
    }

    #[test]
    fn whoever_was_displaced_does_not_fight() {
        let mut pace = Pace::default();
        let waits: Vec<_> = (0..8).map(|_| pace.after(None, true, 0.0).as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }
}
