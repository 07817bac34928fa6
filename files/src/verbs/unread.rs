//! Files that could not be read: counted, and named as far as the names fit an answer.

use farwire_protocol::cbor::Blob;
use farwire_protocol::streams::files::{Done, NAMED};
use rustix::io::Errno;

use crate::path::Rel;

/// The most bytes of all names together, which have to fit a message.
const BYTES: usize = 8 << 10;

/// Paths beneath a directory, as many as fit an answer.
pub(super) fn paths_that_fit(below: &Rel, at: Vec<Vec<u8>>) -> Vec<Blob> {
    let mut bytes = 0;
    let paths = at.iter().map(|at| Blob(below.join(at).as_bytes().to_vec()));
    let mut fits = |path: &Blob| {
        bytes += path.len();
        bytes <= BYTES
    };
    paths.take(NAMED).take_while(|path| fits(path)).collect()
}

/// The files beneath a directory that could not be read.
#[derive(Debug)]
pub(super) struct Unread {
    below: Rel,
    count: u64,
    bytes: usize,
    names: Vec<Blob>,
}

impl Unread {
    pub(super) fn new(below: Rel) -> Self {
        Self { below, count: 0, bytes: 0, names: Vec::new() }
    }

    /// Adds a file by its path relative to the directory.
    pub(super) fn add(&mut self, at: &Rel) {
        self.count += 1;
        let path = self.below.join(at.as_bytes());
        let bytes = self.bytes + path.as_bytes().len();
        if self.names.len() < NAMED && bytes <= BYTES {
            self.bytes = bytes;
            self.names.push(Blob(path.as_bytes().to_vec()));
        }
    }

    /// Unwraps a result for a file. An error adds the file.
    pub(super) fn found_or_unread<T>(
        &mut self,
        at: &Rel,
        found: Result<Option<T>, Errno>,
    ) -> Option<T> {
        found.unwrap_or_else(|_| {
            self.add(at);
            None
        })
    }

    /// The directory.
    pub(super) fn below(&self) -> &Rel {
        &self.below
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds the files to the end of an answer.
    pub(super) fn report(mut self, done: &mut Done) {
        if self.count > 0 {
            self.names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            done.unread = Some(self.count);
            done.names = Some(self.names);
        }
    }
}
