//! Resource limits: those that the agent was started with, and its own.
//!
//! The agent holds many descriptors, so it raises its own limit of open files to the maximum.
//! Programs that it starts get the limits that the agent was started with: a high limit breaks old
//! ones that close every possible descriptor, and those that use `select`. The agent leaves no core
//! dump, see `harden.rs`; its programs may.

use std::sync::OnceLock;

use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits that the agent changes for itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ResourceLimits {
    files: Rlimit,
    core: Rlimit,
}

impl ResourceLimits {
    /// The limits that the agent was started with. The first call records them, so it must come
    /// before any change.
    pub(crate) fn inherited() -> &'static Self {
        static INHERITED: OnceLock<ResourceLimits> = OnceLock::new();
        INHERITED.get_or_init(|| Self {
            files: getrlimit(Resource::Nofile),
            core: getrlimit(Resource::Core),
        })
    }

    /// Puts them in force for this process. Takes no memory and no lock.
    pub(crate) fn restore(&self) -> io::Result<()> {
        setrlimit(Resource::Nofile, self.files)?;
        setrlimit(Resource::Core, self.core)
    }
}

/// Raises the limit of open files to the maximum, and returns the new limit.
///
/// `None` is no limit. If the system refuses, the old limit stays: the agent works with that, too,
/// and reports what is exhausted when it comes to that.
pub(crate) fn raise_files() -> Option<u64> {
    let files = &ResourceLimits::inherited().files;
    let most = Rlimit { current: files.maximum, maximum: files.maximum };
    match setrlimit(Resource::Nofile, most) {
        Ok(()) => files.maximum,
        Err(_) => files.current,
    }
}

/// Forbids core dumps of this process. The maximum stays, so that the limit can be restored.
pub(crate) fn forbid_core() -> io::Result<()> {
    let core = &ResourceLimits::inherited().core;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: core.maximum })
}
