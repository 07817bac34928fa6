//! Confines a worker before it looks at anything from outside.
//!
//! - It gains no privileges by executing programs. If it is root, it keeps only the capabilities
//!   for files.
//! - Landlock, where the kernel has it: only what is beneath the root can be opened, no TCP port
//!   can be reached, and no process outside can be signalled.
//! - System calls that it never makes are refused: see [`syscalls`].
//! - Memory and descriptors are limited.

use std::os::fd::{AsFd as _, OwnedFd};

use farwire_protocol::failure::{Failure, Kind};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::syscalls::{self, Unfiltered};
use crate::rules::Rules;

/// The newest Landlock ABI that is requested. Older kernels enforce what they know.
const NEWEST: ABI = ABI::V6;

/// The limit on memory for data.
const MEMORY: u64 = 512 << 20;

/// The limit on descriptors: one for each open stream, and those of walks.
const FILES: u64 = 8_192;

/// Confines this process to a root. Returns what the kernel enforces, for display.
///
/// # Errors
///
/// If the kernel supports a mechanism, and enabling it fails.
pub(super) fn confine(
    root: &OwnedFd,
    store: Option<&OwnedFd>,
    rules: &Rules,
) -> Result<String, Failure> {
    let refused = |what: &str, why: &dyn std::fmt::Display| {
        Failure::new(
            Kind::Unsupported,
            format!("the file worker cannot be confined: {what}: {why}"),
        )
    };
    bound(Resource::Data, MEMORY).map_err(|error| refused("memory", &error))?;
    bound(Resource::Nofile, FILES).map_err(|error| refused("descriptors", &error))?;
    bound(Resource::Core, 0).map_err(|error| refused("core dumps", &error))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| refused("privileges", &error))?;
    drop_capabilities().map_err(|error| refused("capabilities", &error))?;
    let mut enforced = landlock(root, store, rules).map_err(|error| refused("landlock", &error))?;
    match syscalls::refuse() {
        Ok(()) => enforced.push("seccomp"),
        Err(Unfiltered::Unknown) => {}
        Err(Unfiltered::Failed(error)) => return Err(refused("seccomp", &error)),
    }
    Ok(enforced.join(", "))
}

/// Lowers a limit, unless it is lower already.
fn bound(resource: Resource, most: u64) -> rustix::io::Result<()> {
    let now = rustix::process::getrlimit(resource);
    let lower = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    setrlimit(resource, Rlimit { current: lower(now.current), maximum: lower(now.maximum) })
}

/// Keeps the capabilities to read and write all files and to set their owners.
fn drop_capabilities() -> rustix::io::Result<()> {
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::FOWNER;
    let now = rustix::thread::capabilities(None)?;
    let sets = CapabilitySets {
        effective: now.effective & kept,
        permitted: now.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)
}

fn landlock(
    root: &OwnedFd,
    store: Option<&OwnedFd>,
    rules: &Rules,
) -> Result<Vec<&'static str>, landlock::RulesetError> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let writing = reading
        | AccessFs::WriteFile
        | AccessFs::RemoveDir
        | AccessFs::RemoveFile
        | AccessFs::MakeDir
        | AccessFs::MakeReg
        | AccessFs::Refer
        | AccessFs::Truncate;
    // Moving a link creates it in the new place.
    let writing = writing | AccessFs::MakeSym;
    let access = if rules.writable { writing } else { reading };
    let stores = store
        .map(|store| Ok::<_, landlock::RulesetError>(PathBeneath::new(store.as_fd(), writing)));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rule(PathBeneath::new(root.as_fd(), access))?
        .add_rules(stores)?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::NotEnforced => Vec::new(),
        RulesetStatus::PartiallyEnforced => vec!["landlock (part)"],
        RulesetStatus::FullyEnforced => vec!["landlock"],
    })
}
