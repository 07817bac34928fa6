//! Who may be here now: one decision, which a handshake asks for and a live link asks for again and again.
//!
//! The devices are files that other processes change: `farwire-agent device rm`, `leave`, an editor, a
//! damaged disk. They are read again every [`LOOK`] while somebody is connected, and not only when a
//! handshake comes. What cannot be read lets nobody in, and nobody stay. A link that may not stay ends
//! with every stream on it; what its device has asked for and what has not begun is given up; programs
//! that run go on.

use std::collections::HashMap;
use std::time::Duration;

use farwire_keystore::{Device, Enrolled, Enrollment};
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, Kind as IdKind};
use tokio::time::sleep;

use crate::agent::Agent;

/// How often the files are read while a device is connected or has something waiting.
const LOOK: Duration = Duration::from_millis(500);

/// How often whether this agent has left is looked at otherwise.
const IDLE_LOOK: Duration = Duration::from_secs(5);

/// So many looks in a row must fail before what cannot be read ends a link: one may fail because the
/// process is out of descriptors for a moment. A handshake is refused at the first.
const FAILED_LOOKS: u32 = 2;

/// Whether who holds `bundle` may be here, given what the agent's files say of that device.
pub(crate) fn admit(
    known: Result<Option<Device>, Failure>,
    bundle: &SignedBundle,
) -> Result<Device, Failure> {
    let device = known?.ok_or_else(|| {
        let device = bundle.id.fingerprint(IdKind::Device);
        Failure::new(Kind::NotAuthorized, format!("device {device} is not authorised here"))
    })?;
    if !bundle.succeeds(&device.bundle) {
        return Err(Failure::new(Kind::NotAuthorized, "a newer bundle of this device is known"));
    }
    Ok(device)
}

/// What a stream is told that ends because its device may not stay.
fn locked_out(why: &Failure) -> Failure {
    let message = match why.kind {
        Kind::NotAuthorized => "this device was locked out of the server".to_owned(),
        _ => format!("the server cannot tell whether this device may stay: {}", why.message),
    };
    Failure::new(Kind::NotAuthorized, message).with_hint(
        "what it started there goes on; `farwire-agent device add` on the server lets it in again",
    )
}

/// Ends links whose devices may not stay, and those that are over. Returns once the agent has left its
/// workspace.
pub(crate) async fn watch(agent: &Agent) -> Failure {
    let mut failed = HashMap::new();
    let mut absent = 0;
    let begun = match agent.state.enrollments().load() {
        Ok(Enrollment::Enrolled(begun)) => Some(begun),
        _ => None,
    };
    loop {
        let idle = agent.links.is_empty() && agent.jobs.waiting().is_empty();
        tokio::select! {
            () = sleep(if idle { IDLE_LOOK } else { LOOK }) => {}
            () = agent.links.came(), if idle => continue,
        }
        agent.links.end_over();
        look(agent, &mut failed);
        // What is damaged is no leaving: the next start says so.
        absent = match (&begun, agent.state.enrollments().load()) {
            (_, Ok(Enrollment::Absent)) => absent + 1,
            // It has left, and asks to come in again or has done so.
            (Some(begun), Ok(now)) if !is_same(begun, &now) => absent + 1,
            _ => 0,
        };
        if absent >= FAILED_LOOKS {
            agent.links.lock_out(|_| true, &locked_out(&left()));
            return left();
        }
    }
}

/// Whether an agent's enrollment is the one that its process began with.
fn is_same(begun: &Enrolled, now: &Enrollment) -> bool {
    let Enrollment::Enrolled(now) = now else { return false };
    (begun.at, begun.inviter, begun.trust_domain) == (now.at, now.inviter, now.trust_domain)
}

fn left() -> Failure {
    Failure::new(Kind::NotEnrolled, "this agent has left its workspace")
}

/// Reads what the files say of each device that is connected or waits, and ends what may not stay.
fn look(agent: &Agent, failed: &mut HashMap<Id, u32>) {
    let connected = agent.links.bundles();
    let waiting = agent.jobs.waiting();
    let ids: Vec<Id> = connected.iter().map(|bundle| bundle.id).chain(waiting).collect();
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
                    tracing::error!(%failure, "devices cannot be read; nobody may stay");
                }
            }
        }
        let gone = !matches!(known, Ok(Some(_)));
        for bundle in connected.iter().filter(|bundle| bundle.id == id) {
            if let Err(why) = admit(known.clone(), bundle) {
                let device = id.fingerprint(IdKind::Device);
                tracing::info!(device, why = why.message, "a link ends");
                agent.links.lock_out(|held| held == bundle, &locked_out(&why));
            }
        }
        if gone {
            agent.jobs.withdraw(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use farwire_keystore::AddedBy;
    use farwire_protocol::bundle::Bundle;
    use farwire_protocol::id::{Kn, Kt, TrustDomain};

    use super::*;

    fn bundle(seq: u64) -> SignedBundle {
        let key = SigningKey::from_bytes(&[1; 32]);
        let bundle = Bundle {
            version: farwire_protocol::bundle::VERSION,
            kind: IdKind::Device,
            id: Id(key.verifying_key().to_bytes()),
            kn: Kn([9; 32]),
            kt: Kt(SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes()),
            kd: None,
            seq,
            not_before: 0,
            handshake: 1,
            trust_domain: TrustDomain::NONE,
        };
        bundle.sign(&key)
    }

    fn device(name: &str, seq: u64) -> Device {
        Device { name: name.to_owned(), bundle: bundle(seq), added: 0, how: AddedBy::ByHand }
    }

    #[test]
    fn only_a_device_whose_file_is_there_and_not_newer_may_be_here() {
        let kind = |known, seq| admit(known, &bundle(seq)).map_err(|failure| failure.kind);
        assert!(kind(Ok(Some(device("laptop", 2))), 2).is_ok());
        assert!(kind(Ok(Some(device("renamed", 2))), 2).is_ok(), "a name decides nothing");
        assert!(kind(Ok(Some(device("laptop", 2))), 3).is_ok(), "a newer bundle");
        assert_eq!(kind(Ok(Some(device("laptop", 3))), 2).unwrap_err(), Kind::NotAuthorized);
        assert_eq!(kind(Ok(None), 2).unwrap_err(), Kind::NotAuthorized);
        let damaged = Failure::new(Kind::KeystoreCorrupt, "damaged");
        assert_eq!(kind(Err(damaged), 2).unwrap_err(), Kind::KeystoreCorrupt, "fails closed");
    }

    #[test]
    fn who_is_locked_out_is_told_so_and_that_programs_go_on() {
        for kind in [Kind::NotAuthorized, Kind::KeystoreCorrupt, Kind::Io] {
            let told = locked_out(&Failure::new(kind, "some reason"));
            assert_eq!(told.kind, Kind::NotAuthorized);
            assert!(told.hint().contains("goes on"), "{told}");
        }
    }
}
