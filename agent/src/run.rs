//! The life of `farwire-agent run`: start in order, serve, end in the reverse order.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use farwire_keystore::{Enrollment, StateDir};
use farwire_protocol::address::Relay;
use farwire_protocol::failure::{Failure, Kind};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::config::Config;
use crate::dial::{self, Standing};
use crate::enroll::{self, Outcome};
use crate::files::spec::Spec;
use crate::{lockout, status};

/// How long one wait for the answer to a pending enrollment lasts.
const PENDING: Duration = Duration::from_secs(3600);

/// How long to notify those whose runs are queued when the agent ends.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs until a signal comes. `config` may have other addresses of the relay than the enrollment;
/// `roots` are open for files.
pub(crate) async fn run(state: StateDir, config: Config, roots: Vec<Spec>) -> Result<(), Failure> {
    let _lock = state.run_lock()?;
    let no_signal = |error| Failure::new(Kind::Io, format!("no signals: {error}"));
    let mut term = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut int = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let stop = CancellationToken::new();
    let mut serving = pin!(serve(state, config, &roots, &stop));
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = int.recv() => {}
        ended = &mut serving => return ended,
    }
    // Not being under systemd is no error.
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    stop.cancel();
    // Whatever does not learn of it in time is cut when the process ends.
    timeout(GOODBYE, serving).await.unwrap_or(Ok(()))
}

async fn serve(
    state: StateDir,
    config: Config,
    roots: &[Spec],
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let (addresses, sessions) = (config.relay, config.sessions);
    let mut relay = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        relay = enrolled(&state, addresses.as_ref()) => relay?,
    };
    relay.addresses = addresses.unwrap_or(relay.addresses);
    let identity = state.identity()?.ok_or_else(not_enrolled)?;
    let path = state.path().to_path_buf();
    let agent = Arc::new(Agent::new(state, identity.open_transport()?, sessions, roots).await?);
    let (standing, mut stands) = watch::channel(Standing::Dialling);
    // Ready to be enrolled, used and stopped; the relay may take longer, or be down.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let written = async {
        loop {
            status::write(&path, &stands.borrow_and_update().clone());
            if stands.changed().await.is_err() {
                return;
            }
        }
    };
    let left = CancellationToken::new();
    let mut dialled = pin!(dial::keep(agent.clone(), relay, standing, &left));
    let left_for = tokio::select! {
        () = stop.cancelled() => None,
        why = lockout::watch(&agent) => Some(why),
        () = &mut dialled => None,
        () = written => None,
    };
    if agent.services.jobs.retire() {
        // Notify those who wait for a turn, while there still are streams.
        tokio::select! {
            () = &mut dialled => return left_for.map_or(Ok(()), Err),
            () = sleep(LAST_WORDS) => {}
        }
    }
    left.cancel();
    dialled.await;
    left_for.map_or(Ok(()), Err)
}

fn not_enrolled() -> Failure {
    Failure::new(Kind::NotEnrolled, "this agent is not enrolled")
}

/// The relay of this agent; waits for the answer while its enrollment is pending.
async fn enrolled(state: &StateDir, addresses: Option<&Vec<String>>) -> Result<Relay, Failure> {
    loop {
        match state.enrollments().load()? {
            Enrollment::Enrolled(enrolled) => return Ok(enrolled.relay),
            Enrollment::Absent => return Err(not_enrolled()),
            Enrollment::Pending(mut pending) => {
                tracing::info!("enrolled but not accepted yet; waiting for the answer");
                let _ = sd_notify::notify(&[NotifyState::Ready]);
                if let Some(addresses) = addresses {
                    pending.relay.addresses.clone_from(addresses);
                }
                match enroll::answer(state, &pending, PENDING).await {
                    Ok(Outcome::Enrolled(enrolled)) => {
                        tracing::info!(name = enrolled.name, "accepted");
                    }
                    Ok(Outcome::Pending) => {}
                    Err(failure) if failure.kind == Kind::RelayUnreachable => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
}
