//! The hop between a program and the relay.
//!
//! A program [`dial`]s, sends HELLO on its first stream without waiting for the answer, and may
//! open streams immediately; the relay [`listen`]s. Both see streams as [`halves`]: bytes in, bytes
//! out, and a reset with a reason. The relay proves its pinned key; nothing else that it says is
//! trusted.

pub mod congestion;
pub mod control;
pub mod dial;
pub mod halves;
pub mod listen;
pub mod opening;

mod socket;
mod tls;
mod transport;
mod window;

use std::io;

use farwire_protocol::header::Reset;
use quinn::ConnectionError;

pub use dial::{Connection, DialError, Identity};
pub use halves::{RecvHalf, SendHalf};

/// Returns the reset behind an I/O error of a stream, if the peer sent one.
pub fn reset_of(error: &io::Error) -> Option<Reset> {
    error.get_ref()?.downcast_ref::<halves::ResetByPeer>().map(|reset| reset.0)
}

/// Why a connection has ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Closed {
    /// The idle timeout ran out.
    #[error("the other side stopped answering")]
    Silent,
    /// The other side lost its state, as it was restarted.
    #[error("the other side was restarted")]
    Restarted,
    /// The other side closed the connection, for this reason.
    #[error("the other side closed the connection ({0:?})")]
    ByPeer(Reset),
    /// We closed the connection.
    #[error("the connection was closed here")]
    ByUs,
    /// Another error of the transport.
    #[error("{0}")]
    Transport(String),
}

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::LocallyClosed => Self::ByUs,
            ConnectionError::ApplicationClosed(close) => {
                let code = u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX);
                Self::ByPeer(Reset::from_code(code))
            }
            other => Self::Transport(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
