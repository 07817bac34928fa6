//! Whoever asked: where content comes from, and where answers go.

use std::fs::File;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use farwire_protocol::streams::files::ToBridge;

use crate::path::Rel;
use crate::tree::Stat;

/// Nobody is there any more, or the question was given up: nothing that it began may be finished.
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
    /// The next piece of content: `None` once it is whole, of the length that was said.
    fn content(&mut self) -> Result<Option<Bytes>, Broken>;

    /// What has to be shut for us to notice that a newer stream is there, if anything.
    fn socket(&self) -> Option<OwnedFd> {
        None
    }

    /// A path is about to be changed that does not stand in the question.
    fn changes(&mut self, _: &Rel) {}

    /// Says something.
    fn say(&mut self, message: &ToBridge) -> Result<(), Broken>;

    /// Sends content.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Broken>;

    /// Sends a part of a file as content. If the file has become shorter meanwhile, the stream breaks off:
    /// what was promised cannot be kept.
    fn file(&mut self, file: &File, offset: u64, length: u64) -> Result<(), Broken>;

    /// The same of a file that was so when it was opened. If it is another once its content was read, its entry is
    /// said behind the content: what was sent may be a mixture.
    fn file_of(&mut self, opened: OpenedFile<'_>, offset: u64, length: u64) -> Result<(), Broken> {
        self.file(opened.file, offset, length)
    }
}
