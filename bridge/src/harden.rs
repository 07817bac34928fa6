//! What the bridge does to its own process before anything else.
//!
//! It holds the keys of the device. Nobody but root reads its memory or its environment: not by a
//! debugger, not by a core dump. None of this reaches the programs that it starts: the kernel makes
//! a process dumpable again when it executes one.

use farwire_protocol::failure::{Failure, Kind};
use rustix::io::Errno;

/// Hardens this process. To be called once, at the start.
pub(crate) fn harden() -> Result<(), Failure> {
    undumpable().map_err(|error| {
        Failure::caused(Kind::Unsupported, "the memory of this process cannot be protected", &error)
    })
}

#[cfg(target_os = "linux")]
fn undumpable() -> Result<(), Errno> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Elsewhere a core dump is what can be forbidden.
#[cfg(not(target_os = "linux"))]
fn undumpable() -> Result<(), Errno> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Core);
    limit.current = Some(0);
    setrlimit(Resource::Core, limit)
}
