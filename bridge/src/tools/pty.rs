//! The category `pty`: terminals with the names and rules of a PTY server.
//!
//! # Rules
//!
//! - Every call names the `owner` that it acts for, unless the process was started with
//!   `--no-owner`. A session with an owner does not exist for a caller that names another.
//! - While a client is attached, calls that read on, type, resize or close need its `client_id`;
//!   looking does not.
//! - Being attached grants nothing by itself: the owner is checked first.
//! - Each client reads with its own cursor, from the first byte that is kept.
//!
//! Terminals live with the agent; sessions with separate streams live with the agent, too, but only
//! this process keeps their two streams apart (see `sessions/pipes.rs`).

pub mod admin;
pub mod danger;
pub mod lease;
pub mod look;
pub mod notes;
pub mod part;
pub mod read;
pub mod session;
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
