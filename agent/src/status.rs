//! What `farwire-agent status` reports: the state directory, and what the running process recorded.

use std::fs;
use std::path::Path;

use farwire_keystore::{Enrollment, StateDir};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kind as IdKind;
use serde::{Deserialize, Serialize};

use crate::dial::Standing;
use crate::os::clock::unix_time;

/// The file with the state of the running process's connection.
const FILE: &str = "standing.json";

/// What the running process records. It is not secret, and must not be relied upon.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct StatusFile {
    pid: u32,
    connected: bool,
    relay: Option<String>,
    error: Option<String>,
    hint: Option<String>,
    since: u64,
}

/// Records the state of the connection.
pub(crate) fn write(state: &Path, standing: &Standing) {
    let mut written = StatusFile {
        pid: std::process::id(),
        connected: false,
        relay: None,
        error: None,
        hint: None,
        since: unix_time(),
    };
    match standing {
        Standing::Dialling => {}
        Standing::Connected { relay } => {
            written.connected = true;
            written.relay = Some(relay.clone());
        }
        Standing::Down { why } => {
            written.error = Some(format!("{}: {}", why.kind, why.message));
            written.hint.clone_from(&why.hint);
        }
    }
    let beside = state.join(".standing.new");
    let text = serde_json::to_vec(&written).unwrap_or_default();
    // It is for people who ask; work goes on without it.
    if fs::write(&beside, text).and_then(|()| fs::rename(&beside, state.join(FILE))).is_err() {
        tracing::debug!("the state of the connection could not be stored");
    }
}

/// What is known of an agent.
#[derive(Debug, Serialize)]
pub(crate) struct AgentStatus {
    enrolled: &'static str,
    name: Option<String>,
    fingerprint: Option<String>,
    relay: Option<Vec<String>>,
    devices: usize,
    running: bool,
    pid: Option<u32>,
    connected: bool,
    error: Option<String>,
    hint: Option<String>,
}

impl AgentStatus {
    pub(crate) fn read(state: &StateDir) -> Result<Self, Failure> {
        let running = match state.run_lock() {
            Ok(_) => false,
            Err(failure) if failure.kind == Kind::AlreadyRunning => true,
            Err(failure) => return Err(failure),
        };
        let written = fs::read(state.path().join(FILE)).ok();
        let written = written.and_then(|text| serde_json::from_slice::<StatusFile>(&text).ok());
        let written = written.filter(|_| running);
        let (enrolled, name, relay) = match state.enrollments().load()? {
            Enrollment::Absent => ("no", None, None),
            Enrollment::Pending(pending) => {
                ("pending", None, Some(pending.token.relay.addresses.clone()))
            }
            Enrollment::Enrolled(it) => ("yes", Some(it.name), Some(it.relay.addresses)),
        };
        let fingerprint = match state.identity()? {
            Some(identity) => Some(identity.open_public()?.id.fingerprint(IdKind::Agent)),
            None => None,
        };
        Ok(Self {
            enrolled,
            name,
            fingerprint,
            relay,
            devices: state.devices().list()?.entries.len(),
            running,
            pid: written.as_ref().map(|written| written.pid),
            connected: written.as_ref().is_some_and(|written| written.connected),
            error: written.as_ref().and_then(|written| written.error.clone()),
            hint: written.and_then(|written| written.hint),
        })
    }

    /// The same for people.
    pub(crate) fn text(&self) -> String {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let yes = |is| if is { "yes" } else { "no" }.to_owned();
        let relay = self.relay.as_ref().map(|all| all.join(", "));
        let running = self.pid.map(|pid| format!("yes, pid {pid}"));
        let mut lines = vec![
            ("enrolled", self.enrolled.to_owned()),
            ("name", or_none(&self.name)),
            ("fingerprint", or_none(&self.fingerprint)),
            ("relay", or_none(&relay)),
            ("devices", self.devices.to_string()),
            ("running", running.unwrap_or_else(|| yes(self.running))),
            ("connected", yes(self.connected)),
        ];
        lines.extend(self.error.clone().map(|error| ("error", error)));
        lines.extend(self.hint.clone().map(|hint| ("", hint)));
        lines.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect()
    }
}
