//! The category `session`, and the two tools for sessions of category `core`.
//!
//! What they do is in [`crate::verbs::session`], and what they say alike in
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

/// The tools of category `session`, in the order in which clients list them.
pub const ALL: &[super::Entry] = &[
    super::Entry::of::<connect::SessionConnect>(),
    super::Entry::of::<connect::SessionSetActive>(),
    super::Entry::of::<connect::SessionList>(),
    super::Entry::of::<watch::SessionWatch>(),
    super::Entry::of::<history::SessionHistory>(),
    super::Entry::of::<control::SessionControl>(),
    super::Entry::of::<control::SessionResize>(),
    super::Entry::of::<diagnostics::SessionDiagnostics>(),
    super::Entry::of::<commands::SessionCommands>(),
    super::Entry::of::<commands::SessionCommandStatus>(),
    super::Entry::of::<retry::SessionRetry>(),
    super::Entry::of::<job_wait::JobWait>(),
    super::Entry::of::<connect::SessionClose>(),
];
