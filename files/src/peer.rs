//! The other end of a question: where content comes from, and where answers go.

use std::fs::File;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use farwire_protocol::streams::files::ToBridge;

use crate::path::Rel;
use crate::tree::Stat;

/// The other end is gone, or gave the question up. Nothing that the question began may be
/// completed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Broken;

/// A file as it was when it was opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenedFile<'a> {
    /// The file.
    pub file: &'a File,
    /// The path that it was opened by.
    pub path: &'a Rel,
    /// Its state then.
    pub stat: &'a Stat,
}

/// The other end of one question.
pub trait Peer {
    /// The next piece of content. `None` after the last one: the content then has the announced
    /// length.
    fn content(&mut self) -> Result<Option<Bytes>, Broken>;

    /// The socket that a newer stream shuts down to interrupt us, if there is one.
    fn socket(&self) -> Option<OwnedFd> {
        None
    }

    /// Notes a path that is about to be changed and that the question does not name.
    fn changes(&mut self, _: &Rel) {}

    /// Sends a message.
    fn say(&mut self, message: &ToBridge) -> Result<(), Broken>;

    /// Sends content.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Broken>;

    /// Sends a part of a file as content. If the file turns out to be shorter, the stream breaks
    /// off, since the announced length cannot be kept.
    fn file(&mut self, file: &File, offset: u64, length: u64) -> Result<(), Broken>;

    /// Sends a part of an opened file as content. If the file has changed by then, its new entry
    /// follows the content, which may be a mixture.
    fn file_of(&mut self, opened: OpenedFile<'_>, offset: u64, length: u64) -> Result<(), Broken> {
        self.file(opened.file, offset, length)
    }
}
