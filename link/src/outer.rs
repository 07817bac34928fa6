//! The hop between a program and the relay.
//!
//! A program [`dial`]s, says HELLO on its first stream without waiting for the answer, and may open
//! streams at once; the relay [`listen`]s. Both see streams as [`halves`]: bytes in, bytes out, a
//! reset with a reason. The relay proves its pinned key; what it says otherwise is not trusted.

pub mod congestion;
pub mod control;
pub mod dial;
pub mod halves;
pub mod listen;
pub mod opening;
mod room;
mod socket;
mod tls;
mod transport;

use std::io;

use farwire_protocol::header::Reset;
use quinn::ConnectionError;

pub use dial::{Connection, DialError, Identity};
pub use halves::{RecvHalf, SendHalf};

/// The reset that an I/O error of a stream stands for, if the peer sent one.
pub fn reset_of(error: &io::Error) -> Option<Reset> {
    error.get_ref()?.downcast_ref::<halves::WasReset>().map(|reset| reset.0)
}

/// Why a connection has ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Closed {
    /// Nothing was heard for too long.
    #[error("the other side went silent")]
    Silent,
    /// The other side lost its state: it was restarted.
    #[error("the other side was restarted")]
    Restarted,
    /// The other side closed it, for this reason.
    #[error("the other side closed the connection ({0:?})")]
    ByPeer(Reset),
    /// We closed it.
    #[error("the connection was closed here")]
    ByUs,
    /// Something in the transport.
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
