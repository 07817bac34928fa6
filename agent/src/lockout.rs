//! Ends the links of devices that are no longer allowed here.
//!
//! The devices are files that other processes change: `farwire-agent device rm`, `leave`, an
//! editor, a damaged disk. They are read again every [`LOOK`] while somebody is connected, and not
//! only at handshakes. Files that cannot be read admit nobody, and keep nobody. A link that may not
//! stay ends with every stream on it, and so do the leases of its device; its queued jobs are
//! cancelled, and running programs go on.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use farwire_keystore::{Enrolled, Enrollment};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Kind as IdKind};
use tokio::time::sleep;

use crate::agent::Agent;
use crate::gate::admission::{admit, locked_out};

/// How often the files are read while a device is connected or has queued jobs.
const LOOK: Duration = Duration::from_millis(500);

/// How often to check otherwise whether this agent has left.
const IDLE_LOOK: Duration = Duration::from_secs(5);

/// How many reads in a row must fail before an unreadable file ends a link: one may fail because
/// the process is out of descriptors for a moment. A handshake is refused at the first failure.
const FAILED_LOOKS: u32 = 2;

/// Ends links whose devices may not stay, and those that are over. Returns once the agent has left
/// its workspace.
pub(crate) async fn watch(agent: &Agent) -> Failure {
    let mut failed = HashMap::new();
    let mut absent = 0;
    let begun = match agent.state.enrollments().load() {
        Ok(Enrollment::Enrolled(begun)) => Some(begun),
        _ => None,
    };
    loop {
        let idle = agent.services.links.is_empty() && agent.services.jobs.waiting().is_empty();
        tokio::select! {
            () = sleep(if idle { IDLE_LOOK } else { LOOK }) => {}
            () = agent.services.links.came(), if idle => continue,
        }
        agent.services.links.end_over();
        look(agent, &mut failed);
        // A damaged file does not mean that it has left: the next start reports it.
        absent = match (&begun, agent.state.enrollments().load()) {
            (_, Ok(Enrollment::Absent)) => absent + 1,
            // It has left, and has enrolled again or is about to.
            (Some(begun), Ok(now)) if !is_same(begun, &now) => absent + 1,
            _ => 0,
        };
        if absent >= FAILED_LOOKS {
            agent.services.links.lock_out(|_| true, &locked_out(&not_enrolled()));
            return not_enrolled();
        }
    }
}

/// Whether an agent's enrollment is the one that its process began with.
fn is_same(begun: &Enrolled, now: &Enrollment) -> bool {
    let Enrollment::Enrolled(now) = now else { return false };
    (begun.at, begun.inviter, begun.trust_domain) == (now.at, now.inviter, now.trust_domain)
}

fn not_enrolled() -> Failure {
    Failure::new(Kind::NotEnrolled, "this agent has left its workspace")
}

/// Each device once: a failure to read it counts once in a look, whether it is connected, has
/// something waiting, or both.
fn each_once(ids: impl Iterator<Item = Id>) -> HashSet<Id> {
    ids.collect()
}

/// Reads the file of each device that is connected or has queued jobs, and ends what may not stay.
fn look(agent: &Agent, failed: &mut HashMap<Id, u32>) {
    let connected = agent.services.links.bundles();
    let waiting = agent.services.jobs.waiting();
    let typing = agent.services.sessions.lease_devices();
    let ids = each_once(connected.iter().map(|bundle| bundle.id).chain(waiting).chain(typing));
    failed.retain(|id, _| ids.contains(id));
    for id in ids {
        let known = agent.state.devices().lookup(&id);
        match &known {
            Ok(_) => drop(failed.remove(&id)),
            Err(failure) => {
                let times = failed.entry(id).or_insert(0);
                *times += 1;
                if *times < FAILED_LOOKS {
                    continue;
                }
                if *times == FAILED_LOOKS {
                    tracing::error!(%failure, "the list of devices cannot be read; all links are ended");
                }
            }
        }
        let gone = !matches!(known, Ok(Some(_)));
        for bundle in connected.iter().filter(|bundle| bundle.id == id) {
            if let Err(why) = admit(known.clone(), bundle) {
                let device = id.fingerprint(IdKind::Device);
                tracing::info!(device, why = why.message, "a link ends");
                agent.services.links.lock_out(|held| held == bundle, &locked_out(&why));
            }
        }
        if gone {
            agent.services.jobs.withdraw(&id);
            agent.services.sessions.end_leases(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_connected_and_has_something_waiting_is_looked_at_once() {
        let (one, other) = (Id([1; 32]), Id([2; 32]));
        let ids = each_once([one, other].into_iter().chain([one]));
        assert_eq!(ids, HashSet::from([one, other]));
    }
}
