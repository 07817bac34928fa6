//! A server as this installation knows it: by a local name and a pin.

use farwire_keystore::Pin;
use farwire_protocol::failure::Failure;

/// A server by its local name.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it is called here.
    pub name: String,
    /// What we know of it.
    pub pin: Pin,
}

/// The failure with the server's name in front.
pub(crate) fn with_server_name(failure: Failure, server: &str) -> Failure {
    let message = format!("`{server}`: {}", failure.message);
    let hint = failure.hint.or_else(|| {
        let hint = failure.kind.hint();
        hint.contains("NAME").then(|| hint.replace("NAME", server))
    });
    Failure { kind: failure.kind, message, hint }
}
