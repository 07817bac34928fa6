//! Verbs for files of servers, one file for each: typed arguments, and `carry_out`, which returns
//! the answer as data.
//!
//! The MCP tools in `tools/file/` and the commands in `cli/files/` parse arguments and render
//! answers. What is asked of a server, with which defaults, and what is refused here, is decided in
//! these verbs. How a question travels is in [`crate::files`].

pub mod archive;
pub mod cat;
pub mod checksum;
pub mod copy;
pub mod edit;
pub mod list;
pub mod make_directory;
pub mod patch;
pub mod read;
pub mod remove;
pub mod search;
pub mod size;
pub mod stat;
pub mod sync;
pub mod transfer;
pub mod undo;
pub mod watch;
pub mod write;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, Entry};

use crate::files::place::Place;

/// What a change came to.
#[derive(Debug)]
pub struct Changed {
    /// What was changed.
    pub place: Place,
    /// What it is now, if it is still there.
    pub entry: Option<Entry>,
    /// The number under which it can be undone; absent for what was too large to be kept.
    pub change: Option<u64>,
    /// How many replacements, files or entries it was.
    pub count: Option<u64>,
}

impl Changed {
    pub(crate) fn new(place: Place, done: Done) -> Self {
        Self { place, entry: done.entry, change: done.change, count: done.count }
    }
}

/// A change, and what it changed as a diff or as lines.
#[derive(Debug)]
pub struct ChangedText {
    /// What it came to.
    pub changed: Changed,
    /// How many files it was.
    pub files: u64,
    /// The diff, or a line for each file.
    pub text: Vec<u8>,
}

/// Files and directories that a server could not read.
#[derive(Debug, Default)]
pub struct Unread {
    /// How many.
    pub count: u64,
    /// The paths of some of them, in the root.
    pub paths: Vec<Blob>,
}

impl Unread {
    fn of(done: &Done) -> Self {
        Self { count: done.unread.unwrap_or(0), paths: done.names.clone().unwrap_or_default() }
    }

    /// Their paths as text, with an ellipsis where there are more; empty if none is known.
    pub fn path_list(&self, place: &Place) -> String {
        let paths: Vec<_> = self.paths.iter().map(|path| place.argument_for(path)).collect();
        let more = if self.count > paths.len() as u64 { ", …" } else { "" };
        if paths.is_empty() { String::new() } else { format!("{}{more}", paths.join(", ")) }
    }
}

/// Reads the 12 digits of a revision.
pub fn revision(text: &str) -> Option<u64> {
    let digits = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

fn without_entry() -> Failure {
    Failure::new(Kind::ProtocolViolation, "the answer has no entry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_has_twelve_digits() {
        assert_eq!(revision("00000000000a"), Some(10));
        for bad in ["", "a", "+0000000000a", "00000000000g", "0000000000000a"] {
            assert_eq!(revision(bad), None, "{bad}");
        }
    }
}
