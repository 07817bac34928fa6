//! The category `pty`: terminals by the names and with the rules of a PTY server.
//!
//! # Rules
//!
//! - Every call says for whom it acts, its `owner`, unless the process was told not to ask. A
//!   session with an owner is not there for anybody who names another.
//! - Where a client has attached, whatever takes output, types, resizes or closes needs its
//!   `client_id`; looking does not.
//! - Being attached grants nothing: the owner comes first.
//! - Each client reads with a cursor of its own, from the first byte that is kept.
//!
//! Terminals live with the agent; sessions with separate streams live with the agent, too, but
//! their two streams are told apart in this process alone (see `sessions/pipes.rs`).

pub mod admin;
pub mod danger;
pub mod lease;
pub mod look;
pub mod notes;
pub mod part;
pub mod place;
pub mod read;
pub mod spawn;
pub mod until;
pub mod write;

use crate::tools::tool::{Entry, Group};

/// The tools, in the order in which clients list them.
pub const ALL: &[Entry] = &[
    Entry::of::<spawn::PtySpawn>(),
    Entry::of::<look::PtyResume>(),
    Entry::of::<look::PtyRecover>(),
    Entry::of::<lease::PtyAttach>(),
    Entry::of::<lease::PtyDetach>(),
    Entry::of::<lease::PtyHandoff>(),
    Entry::of::<lease::PtyTakeover>(),
    Entry::of::<read::PtyRead>(),
    Entry::of::<read::PtyReadStdout>(),
    Entry::of::<read::PtyReadStderr>(),
    Entry::of::<read::PtyReadAt>(),
    Entry::of::<until::PtyReadUntil>(),
    Entry::of::<until::PtyReadUntilAny>(),
    Entry::of::<until::PtyReadQuiescent>(),
    Entry::of::<until::PtyPrompt>(),
    Entry::of::<danger::ConfirmDangerousCommand>(),
    Entry::of::<write::PtyWrite>(),
    Entry::of::<write::PtyResize>(),
    Entry::of::<write::PtyClose>(),
    Entry::of::<look::PtyStatus>(),
    Entry::of::<look::PtyWait>(),
    Entry::of::<look::PtyList>(),
    Entry::of::<write::PtySignal>().of_group(Group::Control),
    Entry::of::<admin::PtyCloseAll>().of_group(Group::Admin),
    Entry::of::<admin::SetDefaultCwd>().of_group(Group::Admin),
    Entry::of::<admin::GetDefaultCwd>().of_group(Group::Admin),
    Entry::of::<admin::SetLimits>().of_group(Group::Admin),
    Entry::of::<admin::GetLimits>().of_group(Group::Admin),
    Entry::of::<admin::PtyMetrics>().of_group(Group::Admin),
    Entry::of::<admin::PtyHealth>().of_group(Group::Admin),
];
