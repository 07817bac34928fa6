//! The points between which power can fail or a disk can refuse.
//!
//! Everything that changes a file says first what it is about to do. In a release build that costs
//! nothing. Tests let a step fail, or cut the power before it and then take away what had not been
//! synced.

use std::io;
use std::path::Path;

/// A change that is about to be made in a directory; names are those of its files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step<'a> {
    /// Make a file.
    Create(&'a str),
    /// Write to it.
    Write(&'a str),
    /// Make its content durable.
    SyncFile(&'a str),
    /// Put the first in the place of the second.
    Rename(&'a str, &'a str),
    /// Remove it.
    Remove(&'a str),
    /// Make the names in the directory durable.
    SyncDir,
}

/// Called before the step is done. An error is taken for the operating system's.
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
