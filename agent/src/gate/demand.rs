//! What somebody wants to do, and to what.

use std::time::Duration;

use super::principal::Principal;

/// What a stream or a request on it asks for, before it is carried out.
#[derive(Debug)]
pub(crate) enum Demand<'a> {
    /// To be here.
    Stay,
    /// To learn about the machine: its name, its load, its roots.
    Facts,
    /// To start a program without a terminal.
    Run,
    /// To open a session.
    OpenSession,
    /// To enter a root. What may be done beneath it is in its rules, which its worker has.
    EnterRoot,
    /// To know of a job and use it: read its output, attach to it, and type and steer where nobody
    /// else does.
    Use(JobFacts<'a>),
    /// To end or signal a job by its id, as any client of a surface. Somebody else may hold the
    /// right to type into it, and has for that long.
    Stop(JobFacts<'a>, Option<&'a (Principal, Duration)>),
    /// To change whether anybody may type into a session.
    SetReadOnly(JobFacts<'a>),
}

/// What a decision needs to know of a job.
#[derive(Clone, Debug)]
pub(crate) struct JobFacts<'a> {
    /// Who started it.
    pub(crate) opener: &'a Principal,
    /// Its owner label, if it is a session.
    pub(crate) filed_for: Option<String>,
}
