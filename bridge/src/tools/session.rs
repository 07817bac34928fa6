//! The category `session`, and the two tools for sessions of category `core`.
//!
//! What they do is in [`crate::verbs::session`], and what their answers share is in
//! `tools/answer/session.rs`.

pub mod commands;
pub mod connect;
pub mod control;
pub mod diagnostics;
mod events;
pub mod history;
pub mod job_wait;
pub mod open;
pub mod retry;
pub mod send;
pub mod watch;

use crate::tools::tool::Entry;

/// The tools of category `session`, in the order in which clients list them.
pub const ALL: &[Entry] = &[
    Entry::of::<connect::SessionConnect>(),
    Entry::of::<connect::SessionSetActive>(),
    Entry::of::<connect::SessionList>(),
    Entry::of::<watch::SessionWatch>(),
    Entry::of::<history::SessionHistory>(),
    Entry::of::<control::SessionControl>(),
    Entry::of::<control::SessionResize>(),
    Entry::of::<diagnostics::SessionDiagnostics>(),
    Entry::of::<commands::SessionCommands>(),
    Entry::of::<commands::SessionCommandStatus>(),
    Entry::of::<retry::SessionRetry>(),
    Entry::of::<job_wait::JobWait>(),
    Entry::of::<connect::SessionClose>(),
];
