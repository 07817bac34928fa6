//! The threads of a command.

use farwire_protocol::failure::{Failure, Kind};

/// One thread: a command waits more than it computes, and waking another thread costs time.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::ResourceExhausted, format!("no runtime: {error}")))
}
