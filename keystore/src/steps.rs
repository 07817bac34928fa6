//! Fault injection points: the steps between which the power or the disk can fail.
//!
//! All code that changes a file announces each step first. In a release build that costs
//! nothing. Tests let a step fail, or cut the power before it and then discard what had not been
//! synced.

use std::io;
use std::path::Path;

/// A step that is about to change a directory; the names are those of its files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step<'a> {
    /// Create a file.
    Create(&'a str),
    /// Write to it.
    Write(&'a str),
    /// Make its content durable.
    SyncFile(&'a str),
    /// Rename the first to the second, replacing it.
    Rename(&'a str, &'a str),
    /// Remove it.
    Remove(&'a str),
    /// Make the names in the directory durable.
    SyncDir,
}

/// Announces a step. The caller treats an error as one of the operating system.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "tests let it fail")]
#[inline]
pub(crate) const fn before(_dir: &Path, _step: Step<'_>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) fn before(dir: &Path, step: Step<'_>) -> io::Result<()> {
    power::before(dir, step)
}

#[cfg(test)]
pub(crate) mod power;
