//! The `files` stream: requests about the files beneath one root, answered in order.
//!
//! ```text
//!     bridge                                     agent
//!        | -- Open(Enter) ----------------------> |
//!        | <---------------------------- Entered -- |    which root, and what may be done there
//!        | -- Ask -------------------------------> |    as many as the bridge likes, without waiting
//!        | -- DATA 0*, Whole --------------------> |    after an Ask that has content
//!        | <------- Entries, Matches, Head, DATA 0* |
//!        | <------------------------------- Done -- |    one for each Ask, in the order of the Asks
//!        | -- FINAL End -------------------------> |
//!        | <-------------------------- FINAL End -- |
//! ```
//!
//! Content takes effect only once [`ToAgent::Whole`] has arrived with its length: a stream that
//! breaks off earlier changes nothing. A question may follow [`Enter`] before `Entered` has come:
//! if the agent refuses the stream, nothing that was asked is done. Paths are bytes relative to
//! the root, with components separated by `/`; none is `.`, `..` or empty. The empty path is the
//! root. `docs/spec/files.md` defines each request.

mod ask;

use minicbor::{Decode, Encode};

pub use self::ask::{
    Archive, Arrived, Ask, Attributes, Changes, Copy, Edit, Edits, How, Http, List, MakeDirectory,
    Part, Patch, Read, Remove, Replacement, Revert, Search, Sort, Watch, Write,
};

use crate::cbor::Blob;
use crate::failure::Failure;

/// The channel of content, in both directions.
pub const CONTENT: u8 = 0;

/// The maximum length of a path, in bytes.
pub const PATH_LIMIT: usize = 4_096;

/// The maximum length of a path component, in bytes.
pub const NAME_LIMIT: usize = 255;

/// The maximum number of components of a path.
pub const DEPTH_LIMIT: usize = PATH_LIMIT / 2;

/// The maximum length of a root's name, in bytes: lower-case letters, digits, `-`, `_` and `.`.
pub const ROOT_NAME_LIMIT: usize = 32;

/// Whether `name` is a valid name of a root. Other machines make a directory and a part of a URL of
/// it, so that every receiver of a name checks it.
pub fn is_root_name(name: &str) -> bool {
    let may = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    (1..=ROOT_NAME_LIMIT).contains(&name.len()) && name.bytes().all(may) && !name.starts_with('.')
}

/// The maximum number of paths that are named as left out.
pub const NAMED: usize = 20;

/// The maximum length of the content of replacements and patches, in bytes.
pub const TEXT_LIMIT: usize = 8 << 20;

/// The request that creates a files conversation.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Enter {
    /// The root; optional if the server has only one.
    #[n(0)]
    pub root: Option<String>,
    /// Restricts the stream to this directory of the root, which then acts as the root.
    #[n(1)]
    pub below: Option<Blob>,
    /// Refuse all changes.
    #[n(2)]
    pub read_only: Option<bool>,
    /// The prefix of paths in [`Ask::Http`]: `/` and a word.
    #[n(3)]
    pub prefix: Option<String>,
    /// The client of the surface, for the history.
    #[n(4)]
    pub client: Option<String>,
    /// Whether the agent is to send [`ToBridge::Beat`] while it works silently.
    #[n(5)]
    pub beats: Option<bool>,
}

/// A directory that the owner of a server has opened.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Root {
    /// The name of the root.
    #[n(0)]
    pub name: String,
    /// Its path on the server.
    #[n(1)]
    pub path: Blob,
    /// Whether its content may be changed.
    #[n(2)]
    pub writable: bool,
    /// The patterns of hidden names.
    #[n(3)]
    pub excludes: Option<Vec<String>>,
    /// What the kernel enforces in addition, such as `landlock 7`.
    #[n(4)]
    pub confined: Option<String>,
    /// The highest number of an [`Ask`] that the agent knows; absent from agents that know none
    /// after [`ASK_BEFORE`]. A higher number ends the stream.
    #[n(5)]
    pub asks: Option<u16>,
    /// Whether the agent sends [`ToBridge::Beat`], as requested.
    #[n(6)]
    pub beats: Option<bool>,
}

/// The highest number of an [`Ask`].
pub const ASK_LATEST: u16 = 27;

/// The highest number of an [`Ask`] that agents know which do not announce [`Root::asks`].
pub const ASK_BEFORE: u16 = 25;

impl Root {
    /// The highest number of an [`Ask`] that the agent knows.
    pub fn latest_ask(&self) -> u16 {
        self.asks.unwrap_or(ASK_BEFORE)
    }

    /// Whether the agent knows [`Ask::Attributes`].
    pub fn sets_attributes(&self) -> bool {
        self.latest_ask() >= 26
    }
}

/// The messages of the bridge.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToAgent {
    /// A request.
    #[n(0)]
    Ask(#[n(0)] Box<Ask>),
    /// The content is complete, and has this many bytes.
    #[n(1)]
    Whole(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
    /// The content will not be completed: the request is cancelled.
    #[n(2)]
    GivenUp,
}

/// The type of a directory entry.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum What {
    /// A regular file.
    #[n(0)]
    File,
    /// A directory.
    #[n(1)]
    Directory,
    /// A symbolic link.
    #[n(2)]
    Link,
    /// A FIFO, a socket or a device: it is listed, but never opened.
    #[n(3)]
    Other,
}

/// A directory entry.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Entry {
    /// Its path, relative to the listed directory or to the root.
    #[n(0)]
    pub path: Blob,
    /// Its type.
    #[n(1)]
    pub what: What,
    /// Its size in bytes, of a file.
    // A sparse file may exceed the limit: its size is clamped, so that the rest of the list stays
    // readable.
    #[cbor(n(2), decode_with = "crate::peer::clamped")]
    pub size: u64,
    /// Its modification time, in nanoseconds since 1970.
    #[n(3)]
    pub modified: i64,
    /// Identifies its state: differs after every change of content, name or permissions.
    #[n(4)]
    pub revision: u64,
    /// Its permissions, as the lower 12 bits of `st_mode`.
    #[n(5)]
    pub mode: u32,
    /// SHA-256 of its content, if requested.
    #[n(6)]
    pub hash: Option<Blob>,
    /// The type of what the link points to, if it is a link that may be followed.
    #[n(7)]
    pub target: Option<What>,
}

/// A matching line, or a line of its context.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Match {
    /// The file, relative to the root.
    #[n(0)]
    pub path: Blob,
    /// The number of the line, from 1; 0 where only files are named.
    #[cbor(n(1), decode_with = "crate::peer::count")]
    pub line: u64,
    /// The text of the line, cut if it is long.
    #[n(2)]
    pub text: Blob,
    /// Whether the line is only context of a match.
    #[n(3)]
    pub beside: Option<bool>,
    /// Where the match begins in `text`, if given.
    #[n(4)]
    pub at: Option<u32>,
    /// Whether the line begins before `text`.
    #[n(5)]
    pub cut_before: Option<bool>,
    /// Whether the line continues after `text`.
    #[n(6)]
    pub cut_after: Option<bool>,
    /// Whether this stands for all matches at or behind a NUL in the file.
    #[n(7)]
    pub binary: Option<bool>,
}

/// One HTTP header.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Header {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its value.
    #[n(1)]
    pub value: Blob,
}

/// The messages of the agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToBridge {
    /// The root that was entered. The first message.
    #[n(0)]
    Entered(#[n(0)] Root),
    /// Entries, as many as fit. For a file that was read: its state when it was opened, and after
    /// its content once more if it has changed by then.
    #[n(1)]
    Entries(#[n(0)] Vec<Entry>),
    /// Matching lines, as many as fit.
    #[n(2)]
    Matches(#[n(0)] Vec<Match>),
    /// The head of the answer to a WebDAV client. DATA is its body.
    #[n(3)]
    Head(#[n(0)] Head),
    /// The end of an answer.
    #[n(4)]
    Done(#[n(0)] Box<Done>),
    /// Changes that can be undone, or could before.
    #[n(5)]
    Changed(#[n(0)] Vec<Change>),
    /// The agent is still working on the request: sent after [`BEAT`](super::run::BEAT) of silence.
    #[n(6)]
    Beat,
}

impl ToAgent {
    /// Whether an encoded message is a request.
    pub fn is_ask(message: &[u8]) -> bool {
        message.starts_with(&[0x82, 0])
    }
}

impl ToBridge {
    /// Whether an encoded message is the end of an answer.
    pub fn is_done(message: &[u8]) -> bool {
        message.starts_with(&[0x82, 4])
    }
}

/// The head of the answer to a WebDAV client.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Head {
    /// The status.
    #[n(0)]
    pub status: u16,
    /// Its headers.
    #[n(1)]
    pub headers: Vec<Header>,
}

/// One change in the undo history.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Change {
    /// Its number, which is never reused in a root.
    #[cbor(n(0), decode_with = "crate::peer::count")]
    pub change: u64,
    /// The operation: `write`, `edit`, `patch`, `remove`, `move`, `copy`.
    #[n(1)]
    pub verb: String,
    /// The changed paths.
    #[n(2)]
    pub paths: Vec<Blob>,
    /// The time since the change, in milliseconds.
    #[cbor(n(3), decode_with = "crate::peer::count")]
    pub age_ms: u64,
    /// Who made it: device, surface and client.
    #[n(4)]
    pub who: String,
    /// Whether it is undone.
    #[n(5)]
    pub undone: Option<bool>,
    /// The number of bytes that are kept for it.
    #[cbor(n(6), decode_with = "crate::peer::count")]
    pub kept: u64,
}

/// The end of an answer. Without a failure, everything requested has been done.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Done {
    /// Why the request failed, if it did.
    #[n(0)]
    pub failure: Option<Failure>,
    /// The entry that the request was about, in its new state.
    #[n(1)]
    pub entry: Option<Entry>,
    /// The number of entries, matches, replacements or files.
    #[cbor(n(2), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub count: Option<u64>,
    /// Whether there is more than was reported.
    #[n(3)]
    pub more: Option<bool>,
    /// The number of bytes: of content, or of a transfer that have arrived.
    #[cbor(n(4), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub bytes: Option<u64>,
    /// SHA-256 of the whole content.
    #[n(5)]
    pub hash: Option<Blob>,
    /// The number of the first line of the content, from 1.
    #[cbor(n(6), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub first: Option<u64>,
    /// The number of lines of the file, if they were counted to its end.
    #[cbor(n(7), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub lines: Option<u64>,
    /// The number under which the change can be undone.
    #[cbor(n(8), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub change: Option<u64>,
    /// The number of entries that were left out: links out of the root, or entries that may not be
    /// read.
    #[cbor(n(9), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub skipped: Option<u64>,
    /// The number of files that were examined.
    #[cbor(n(10), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub files: Option<u64>,
    /// The number of files and directories that should have been read, but could not be.
    #[cbor(n(11), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub unread: Option<u64>,
    /// Some of the paths that were left out or could not be read, relative to the root: at most
    /// [`NAMED`].
    #[n(12)]
    pub names: Option<Vec<Blob>>,
    /// The number of files with a NUL in them.
    #[cbor(n(13), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub binary: Option<u64>,
}

impl Done {
    /// Creates an end with a failure.
    pub fn from_failure(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
