//! How files are read here that somebody may be writing to, and from which size one by one.

use farwire_protocol::failure::{Failure, Kind};

/// So often a file that changes while it is read is read again.
pub(in crate::files) const READINGS: u32 = 3;

/// Files that are larger go one by one, so that each can be gone on with.
pub(in crate::files) const LARGE: u64 = 8 << 20;

/// That a file was not the same while it was read.
pub(in crate::files) fn change_failure(shown: &str) -> Failure {
    let text = format!("{shown} changed each time while it was read");
    Failure::new(Kind::ChangedMeanwhile, text)
        .with_hint("try again when nobody writes to it, or copy it aside first")
}
