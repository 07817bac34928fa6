//! The `files` stream: questions about what is beneath one root, answered one after another.
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
//! Content counts only once [`ToAgent::Whole`] has come, with its length: what breaks off before changes
//! nothing. Paths are bytes relative to the root, components divided by `/`; none is `.`, `..` or empty.
//! The empty path is the root. What each question does is in `docs/spec/files.md`.

mod ask;

use minicbor::{Decode, Encode};

pub use self::ask::{
    Archive, Arrived, Ask, Attributes, Changes, Copy, Edit, Edits, How, Http, List, MakeDirectory,
    Part, Patch, Read, Remove, Replacement, Revert, Search, Sort, Watch, Write,
};

use crate::cbor::Blob;
use crate::failure::Failure;

/// The channel of content, both ways.
pub const CONTENT: u8 = 0;

/// A path has at most so many bytes.
pub const PATH_LIMIT: usize = 4_096;

/// One component of a path has at most so many bytes.
pub const NAME_LIMIT: usize = 255;

/// A path has at most so many components.
pub const DEPTH_LIMIT: usize = PATH_LIMIT / 2;

/// The name of a root has at most so many bytes: lower-case letters, digits, `-`, `_` and `.`.
pub const ROOT_NAME_LIMIT: usize = 32;

/// Whether a root may be called so. It becomes a directory and a part of a URL on other machines, so that whoever
/// hears a name asks.
pub fn is_root_name(name: &str) -> bool {
    let may = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    (1..=ROOT_NAME_LIMIT).contains(&name.len()) && name.bytes().all(may) && !name.starts_with('.')
}

/// So many paths at most say what was left out.
pub const NAMED: usize = 20;

/// Replacements and patches have at most so many bytes of content.
pub const TEXT_LIMIT: usize = 8 << 20;

/// What a files conversation is created for.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Enter {
    /// The root; may be absent where the server has one.
    #[n(0)]
    pub root: Option<String>,
    /// Only what is beneath this directory of the root, which is then called the root.
    #[n(1)]
    pub below: Option<Blob>,
    /// Change nothing, whatever is asked.
    #[n(2)]
    pub read_only: Option<bool>,
    /// What stands before paths in [`Ask::Http`]: `/` and a word.
    #[n(3)]
    pub prefix: Option<String>,
    /// Which client of its surface it is, for the history.
    #[n(4)]
    pub client: Option<String>,
    /// The agent is to say [`ToBridge::Beat`] while it works on a question and has nothing else to say.
    #[n(5)]
    pub beats: Option<bool>,
}

/// A directory that the owner of a server has opened.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Root {
    /// What it is called.
    #[n(0)]
    pub name: String,
    /// Where it is on the server.
    #[n(1)]
    pub path: Blob,
    /// Whether anything in it may be changed.
    #[n(2)]
    pub writable: bool,
    /// What of it is hidden.
    #[n(3)]
    pub excludes: Option<Vec<String>>,
    /// What the kernel enforces besides, such as `landlock 7`.
    #[n(4)]
    pub confined: Option<String>,
    /// The highest number of a question that the agent knows; absent from agents that know none after
    /// [`ASK_BEFORE`]. One with a higher number ends the stream.
    #[n(5)]
    pub asks: Option<u16>,
    /// The agent says [`ToBridge::Beat`], as it was asked to.
    #[n(6)]
    pub beats: Option<bool>,
}

/// The highest number of an [`Ask`].
pub const ASK_LATEST: u16 = 27;

/// The highest number of an [`Ask`] that agents know which do not say.
pub const ASK_BEFORE: u16 = 25;

impl Root {
    /// The highest number of a question that the agent knows.
    pub fn latest_ask(&self) -> u16 {
        self.asks.unwrap_or(ASK_BEFORE)
    }

    /// Whether the agent knows [`Ask::Attributes`].
    pub fn sets_attributes(&self) -> bool {
        self.latest_ask() >= 26
    }
}

/// What the bridge says.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToAgent {
    /// A question.
    #[n(0)]
    Ask(#[n(0)] Box<Ask>),
    /// The content is whole, and has so many bytes.
    #[n(1)]
    Whole(#[cbor(n(0), decode_with = "crate::peer::count")] u64),
    /// The content will not be whole: the question is given up.
    #[n(2)]
    GivenUp,
}

/// What something is.
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
    /// A FIFO, a socket or a device: it is seen, and never opened.
    #[n(3)]
    Other,
}

/// Something that has a name.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Entry {
    /// Its path: from the directory that was listed, or from the root.
    #[n(0)]
    pub path: Blob,
    /// What it is.
    #[n(1)]
    pub what: What,
    /// Its size in bytes, of a file.
    // A sparse file may be larger than the limit: it is lowered, so that its neighbours are listed all the same.
    #[cbor(n(2), decode_with = "crate::peer::clamped")]
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    #[n(3)]
    pub modified: i64,
    /// Which state of it this is: another after every change of content, name or rights.
    #[n(4)]
    pub revision: u64,
    /// Its rights, as the lower 12 bits of `st_mode`.
    #[n(5)]
    pub mode: u32,
    /// SHA-256 of its content, where that was asked for.
    #[n(6)]
    pub hash: Option<Blob>,
    /// What is behind the link, if it is one that may be followed.
    #[n(7)]
    pub target: Option<What>,
}

/// A line that matches, or one beside it.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Match {
    /// The file, from the root.
    #[n(0)]
    pub path: Blob,
    /// The number of the line, from 1; 0 where only files are named.
    #[cbor(n(1), decode_with = "crate::peer::count")]
    pub line: u64,
    /// What it says, cut where it is long.
    #[n(2)]
    pub text: Blob,
    /// It only stands beside one that matches.
    #[n(3)]
    pub beside: Option<bool>,
    /// Where in `text` the match begins, where that is told.
    #[n(4)]
    pub at: Option<u32>,
    /// The line begins before `text`.
    #[n(5)]
    pub cut_before: Option<bool>,
    /// The line goes on after `text`.
    #[n(6)]
    pub cut_after: Option<bool>,
    /// There is a NUL in the file, and this stands for what is at it or behind it.
    #[n(7)]
    pub binary: Option<bool>,
}

/// One header.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Header {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its value.
    #[n(1)]
    pub value: Blob,
}

/// What the agent says.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToBridge {
    /// The root that was entered. The first message.
    #[n(0)]
    Entered(#[n(0)] Root),
    /// Entries that were found: as many as fit. Of a file that was read: what it was when it was opened, and once more
    /// behind its content if it is another by then.
    #[n(1)]
    Entries(#[n(0)] Vec<Entry>),
    /// Lines that were found: as many as fit.
    #[n(2)]
    Matches(#[n(0)] Vec<Match>),
    /// How the answer to a WebDAV client begins. DATA is its body.
    #[n(3)]
    Head(#[n(0)] Head),
    /// The question has been answered.
    #[n(4)]
    Done(#[n(0)] Box<Done>),
    /// Changes that can be undone, or could.
    #[n(5)]
    Changed(#[n(0)] Vec<Change>),
    /// It works on the question: said after [`BEAT`](super::run::BEAT) of silence.
    #[n(6)]
    Beat,
}

impl ToAgent {
    /// Whether an encoded message is a question.
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

/// How the answer to a WebDAV client begins.
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

/// One change.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Change {
    /// Its number: never reused in a root.
    #[cbor(n(0), decode_with = "crate::peer::count")]
    pub change: u64,
    /// What was done: `write`, `edit`, `patch`, `remove`, `move`, `copy`.
    #[n(1)]
    pub verb: String,
    /// To what.
    #[n(2)]
    pub paths: Vec<Blob>,
    /// How long ago, in milliseconds.
    #[cbor(n(3), decode_with = "crate::peer::count")]
    pub age_ms: u64,
    /// By whom: device, surface and client.
    #[n(4)]
    pub who: String,
    /// It is undone.
    #[n(5)]
    pub undone: Option<bool>,
    /// Bytes that are kept for it.
    #[cbor(n(6), decode_with = "crate::peer::count")]
    pub kept: u64,
}

/// The end of an answer. Without a failure, all that was asked for has been done.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Done {
    /// Why not.
    #[n(0)]
    pub failure: Option<Failure>,
    /// What it is now about.
    #[n(1)]
    pub entry: Option<Entry>,
    /// How many: entries, matches, replacements, files.
    #[cbor(n(2), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub count: Option<u64>,
    /// There is more than was told.
    #[n(3)]
    pub more: Option<bool>,
    /// So many bytes: of content, or of a transfer that have arrived.
    #[cbor(n(4), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub bytes: Option<u64>,
    /// SHA-256 of the whole content.
    #[n(5)]
    pub hash: Option<Blob>,
    /// The number of the first line of the content, from 1.
    #[cbor(n(6), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub first: Option<u64>,
    /// How many lines the file has, where they were counted to its end.
    #[cbor(n(7), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub lines: Option<u64>,
    /// The number under which it can be undone.
    #[cbor(n(8), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub change: Option<u64>,
    /// Something was left out: links out of the root, or what may not be read.
    #[cbor(n(9), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub skipped: Option<u64>,
    /// So many files were looked at.
    #[cbor(n(10), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub files: Option<u64>,
    /// So many files and directories should have been read, and could not be.
    #[cbor(n(11), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub unread: Option<u64>,
    /// Some of what was left out or could not be read, from the root: never more than [`NAMED`].
    #[n(12)]
    pub names: Option<Vec<Blob>>,
    /// So many files have a NUL in them.
    #[cbor(n(13), decode_with = "crate::peer::some_count", nil = "crate::peer::absent")]
    pub binary: Option<u64>,
}

impl Done {
    /// An end because of a failure.
    pub fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
