//! Servers in words.

use std::time::Duration;

use crate::text::human;
use crate::verbs::servers::KnownServer;

/// The state of a server, how long it has been away, and what is wrong with it: `offline 5m03s
/// (…)`.
pub fn state(server: &KnownServer) -> String {
    let mut state = server.state.to_owned();
    if let Some(ago) = server.seen_ago.filter(|_| server.state == "offline") {
        state = format!("{state} {}", human::duration(Duration::from_secs(ago)));
    }
    if let Some(warning) = &server.warning {
        state = format!("{state} ({warning})");
    }
    state
}

/// The labels of a server: `env=prod,role=web`.
pub fn labels(server: &KnownServer) -> String {
    let labels = server.labels.iter().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}
