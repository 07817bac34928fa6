//! What can be done about sessions: terminals that stay.
//!
//! Leases, sizes, signals, labels and the end of a session are single actions, each a call of
//! [`crate::sessions::control`]; here are the verbs that are more than that.

pub mod commands;
pub mod history;
pub mod list;
pub mod open;
pub mod send;
pub mod watch;
