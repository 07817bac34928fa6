//! What the agent does for itself at its start: keys stay out of core dumps and debuggers, and
//! enough files may be open. Children get the limits back that we were started with.
#![expect(unsafe_code, reason = "prctl(PR_SET_DUMPABLE) has no safe interface that we have")]

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits that we were started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) files: Rlimit,
    pub(crate) core: Rlimit,
}

static INHERITED: OnceLock<Limits> = OnceLock::new();

/// The limits that we were started with.
pub(crate) fn inherited() -> Limits {
    *INHERITED.get_or_init(|| Limits {
        files: getrlimit(Resource::Nofile),
        core: getrlimit(Resource::Core),
    })
}

/// CLOSE_RANGE_CLOEXEC, in the type that the call takes.
const CLOEXEC: libc::c_int = 4;

/// Keeps descriptors that somebody left open for us from going on to our children.
pub(crate) fn descriptors() {
    // SAFETY: close_range with CLOEXEC changes flags of descriptors and touches no memory.
    let done = unsafe { libc::close_range(3, libc::c_uint::MAX, CLOEXEC) };
    if done != 0 {
        tracing::warn!("descriptors that were inherited stay open in children");
    }
}

/// Hardens this process. What the system does not allow is done without, and said in the log.
pub(crate) fn process() {
    descriptors();
    let before = inherited();
    let files = Rlimit { current: before.files.maximum, maximum: before.files.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::warn!(%error, "the number of open files could not be raised");
    }
    let none = Rlimit { current: Some(0), maximum: before.core.maximum };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
    // SAFETY: prctl with these arguments reads and writes no memory of ours.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        tracing::warn!("debuggers could not be kept out");
    }
}
