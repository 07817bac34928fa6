//! What machine this is, for people.

use std::fs;

/// The host's name.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The operating system by its pretty name, or the kernel's.
pub(crate) fn os() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    match pretty {
        Some(name) => name.trim_matches('"').to_owned(),
        None => rustix::system::uname().sysname().to_string_lossy().into_owned(),
    }
}

/// The architecture.
pub(crate) fn arch() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}
