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

use minicbor::{Decode, Encode};

use crate::cbor::Blob;
use crate::failure::Failure;
use crate::id::Nonce;

/// The channel of content, both ways.
pub const CONTENT: u8 = 0;

/// A path has at most so many bytes.
pub const PATH_LIMIT: usize = 4_096;

/// One component of a path has at most so many bytes.
pub const NAME_LIMIT: usize = 255;

/// A path has at most so many components.
pub const DEPTH_LIMIT: usize = 64;

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
    Whole(#[n(0)] u64),
    /// The content will not be whole: the question is given up.
    #[n(2)]
    GivenUp,
}

/// One question. 10 to 19 are reserved.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ask {
    /// What is in a directory?
    #[n(0)]
    List(#[n(0)] List),
    /// What is this? Answered with its entry.
    #[n(1)]
    Stat(#[n(0)] Blob),
    /// What does a file hold?
    #[n(2)]
    Read(#[n(0)] Read),
    /// Have this content. It follows.
    #[n(3)]
    Write(#[n(0)] Write),
    /// Replace these texts in a file. They follow, as [`Edits`].
    #[n(4)]
    Edit(#[n(0)] Edit),
    /// Which lines match?
    #[n(5)]
    Search(#[n(0)] Search),
    /// Be a directory.
    #[n(6)]
    MakeDirectory(#[n(0)] MakeDirectory),
    /// Be gone.
    #[n(7)]
    Remove(#[n(0)] Remove),
    /// Be there as well, or instead.
    #[n(8)]
    Copy(#[n(0)] Copy),
    /// How much of a transfer has arrived?
    #[n(9)]
    Arrived(#[n(0)] Arrived),
    /// A request of a WebDAV client. Its body follows.
    #[n(20)]
    Http(#[n(0)] Http),
    /// Apply a unified diff to several files. It follows.
    #[n(21)]
    Patch(#[n(0)] Patch),
    /// What was changed here, and can be undone?
    #[n(22)]
    Changes(#[n(0)] Changes),
    /// Undo a change, or do it again.
    #[n(23)]
    Revert(#[n(0)] Revert),
    /// Wait until something changes.
    #[n(24)]
    Watch(#[n(0)] Watch),
    /// What is in a directory, as one tar archive?
    #[n(25)]
    Archive(#[n(0)] Archive),
}

impl Ask {
    /// Whether content follows it.
    pub fn has_content(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Edit(_) | Self::Http(_) | Self::Patch(_))
    }
}

/// What is in a directory?
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct List {
    /// The directory.
    #[n(0)]
    pub path: Blob,
    /// How many levels; 1 when absent.
    #[n(1)]
    pub depth: Option<u32>,
    /// Only what fits one of these patterns, as in `.gitignore`; `!` before one turns it around.
    #[n(2)]
    pub globs: Option<Vec<String>>,
    /// No more than so many; the limit of the server when absent.
    #[n(3)]
    pub limit: Option<u32>,
    /// In which order; as the file system has them when absent, and then nothing is held back.
    #[n(4)]
    pub sort: Option<Sort>,
    /// Leave out what begins with a dot, and what `.gitignore` names.
    #[n(5)]
    pub tidy: Option<bool>,
    /// With a hash of each file's content.
    #[n(6)]
    pub hashes: Option<bool>,
}

/// An order.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Sort {
    /// By name, directories first.
    #[n(0)]
    Name,
    /// The largest first.
    #[n(1)]
    Size,
    /// The latest first.
    #[n(2)]
    Time,
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
    #[n(2)]
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

/// What does a file hold?
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Read {
    /// The file.
    #[n(0)]
    pub path: Blob,
    /// How much of it.
    #[n(1)]
    pub part: Part,
    /// Only in this state of it; `changed_meanwhile` otherwise.
    #[n(2)]
    pub revision: Option<u64>,
    /// With a hash of the whole content.
    #[n(3)]
    pub hash: Option<bool>,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Part {
    /// So many bytes from here on; all when `length` is absent.
    #[n(0)]
    Bytes {
        /// Where it begins.
        #[n(0)]
        offset: u64,
        /// How many.
        #[n(1)]
        length: Option<u64>,
    },
    /// Whole lines from this one on, counted from 1.
    #[n(1)]
    Lines {
        /// The first.
        #[n(0)]
        first: u64,
        /// How many.
        #[n(1)]
        count: u32,
        /// No more bytes than this; the last line may be cut.
        #[n(2)]
        budget: u32,
    },
    /// The last lines.
    #[n(2)]
    Tail {
        /// How many.
        #[n(0)]
        count: u32,
        /// No more bytes than this; the first line may be cut.
        #[n(1)]
        budget: u32,
    },
}

/// Have this content.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Write {
    /// The file.
    #[n(0)]
    pub path: Blob,
    /// What may be there before.
    #[n(1)]
    pub how: How,
    /// Only if this is its state; `changed_meanwhile` otherwise.
    #[n(2)]
    pub revision: Option<u64>,
    /// Its rights; those that it has, or 0644 less the umask, when absent.
    #[n(3)]
    pub mode: Option<u32>,
    /// Make the directories above it.
    #[n(4)]
    pub parents: Option<bool>,
    /// When its content was changed, in nanoseconds since 1970; now when absent.
    #[n(5)]
    pub modified: Option<i64>,
    /// SHA-256 of the whole content, which is compared before anything is replaced.
    #[n(6)]
    pub hash: Option<Blob>,
    /// Keep what comes under this id until it is whole, and go on after `offset` bytes of it.
    #[n(7)]
    pub transfer: Option<Nonce>,
    /// So many bytes of the transfer are there.
    #[n(8)]
    pub offset: Option<u64>,
    /// Keep what was there before, so that it can be undone.
    #[n(9)]
    pub undo: Option<bool>,
    /// Do not wait until the disk has it.
    #[n(10)]
    pub lazy: Option<bool>,
}

/// What may be there before.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum How {
    /// A file or nothing.
    #[n(0)]
    Put,
    /// Nothing.
    #[n(1)]
    Create,
    /// A file.
    #[n(2)]
    Replace,
    /// A file, which the content is added to, or nothing.
    #[n(3)]
    Append,
}

/// Replace texts in a file.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Edit {
    /// The file.
    #[n(0)]
    pub path: Blob,
    /// Only if this is its state.
    #[n(1)]
    pub revision: Option<u64>,
    /// Only say what would be changed.
    #[n(2)]
    pub dry: Option<bool>,
    /// Keep what was there before.
    #[n(3)]
    pub undo: Option<bool>,
}

/// The content of [`Ask::Edit`].
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Edits {
    /// Each is looked for in what those before it have left.
    #[n(0)]
    pub edits: Vec<Replacement>,
}

/// One replacement.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Replacement {
    /// The exact text that is there, once.
    #[n(0)]
    pub old: Blob,
    /// The text that replaces it.
    #[n(1)]
    pub new: Blob,
    /// It may be there more than once, and is replaced wherever it is.
    #[n(2)]
    pub all: Option<bool>,
}

/// Which lines match?
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Search {
    /// A file, or a directory with all that is in it.
    #[n(0)]
    pub path: Blob,
    /// A regular expression.
    #[n(1)]
    pub pattern: String,
    /// It is a text and no expression.
    #[n(2)]
    pub fixed: Option<bool>,
    /// Capitals do not count.
    #[n(3)]
    pub ignore_case: Option<bool>,
    /// Only in files that fit one of these patterns.
    #[n(4)]
    pub globs: Option<Vec<String>>,
    /// So many lines before and after each match.
    #[n(5)]
    pub context: Option<u32>,
    /// No more matches than this.
    #[n(6)]
    pub limit: Option<u32>,
    /// Look into what begins with a dot and what `.gitignore` names, too.
    #[n(7)]
    pub all: Option<bool>,
    /// Only say which files match.
    #[n(8)]
    pub names: Option<bool>,
}

/// A line that matches, or one beside it.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Match {
    /// The file, from the root.
    #[n(0)]
    pub path: Blob,
    /// The number of the line, from 1; 0 where only files are named.
    #[n(1)]
    pub line: u64,
    /// What it says, cut where it is long.
    #[n(2)]
    pub text: Blob,
    /// It only stands beside one that matches.
    #[n(3)]
    pub beside: Option<bool>,
}

/// Be a directory.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct MakeDirectory {
    /// The directory.
    #[n(0)]
    pub path: Blob,
    /// Make those above it, and be content if it is there.
    #[n(1)]
    pub parents: Option<bool>,
}

/// Be gone.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Remove {
    /// What.
    #[n(0)]
    pub path: Blob,
    /// A directory with all that is in it.
    #[n(1)]
    pub recursive: Option<bool>,
    /// Only if this is its state.
    #[n(2)]
    pub revision: Option<u64>,
    /// Keep what was there.
    #[n(3)]
    pub undo: Option<bool>,
}

/// Be there as well, or instead.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Copy {
    /// What.
    #[n(0)]
    pub from: Blob,
    /// Where.
    #[n(1)]
    pub to: Blob,
    /// It is no longer where it was.
    #[n(2)]
    pub moved: Option<bool>,
    /// What is there may be replaced.
    #[n(3)]
    pub overwrite: Option<bool>,
    /// A directory with all that is in it.
    #[n(4)]
    pub recursive: Option<bool>,
    /// Keep what was there.
    #[n(5)]
    pub undo: Option<bool>,
}

/// How much of a transfer has arrived?
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Arrived {
    /// Where it goes.
    #[n(0)]
    pub path: Blob,
    /// Its id.
    #[n(1)]
    pub transfer: Nonce,
}

/// A request of a WebDAV client.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Http {
    /// Its method.
    #[n(0)]
    pub method: String,
    /// What it asks for, as it stands in the request.
    #[n(1)]
    pub target: String,
    /// Its headers.
    #[n(2)]
    pub headers: Vec<Header>,
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

/// Apply a unified diff.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Patch {
    /// The directory that its paths begin at.
    #[n(0)]
    pub path: Blob,
    /// So many leading components of its paths are left out; `a/` and `b/` when absent.
    #[n(1)]
    pub strip: Option<u32>,
    /// Only say what would be changed.
    #[n(2)]
    pub dry: Option<bool>,
    /// Keep what was there before.
    #[n(3)]
    pub undo: Option<bool>,
}

/// What was changed here?
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Changes {
    /// Only this one, with a diff as content.
    #[n(0)]
    pub change: Option<u64>,
    /// No more than so many, the latest first.
    #[n(1)]
    pub limit: Option<u32>,
}

/// Undo a change, or do it again.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Revert {
    /// Which; the latest that fits when absent.
    #[n(0)]
    pub change: Option<u64>,
    /// Do it again.
    #[n(1)]
    pub redo: Option<bool>,
    /// Also if what it left has been changed since.
    #[n(2)]
    pub force: Option<bool>,
}

/// Wait until something changes.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Watch {
    /// A file, or a directory.
    #[n(0)]
    pub path: Blob,
    /// How long, in milliseconds.
    #[n(1)]
    pub wait_ms: u64,
    /// Return at once if it is not in this state any more.
    #[n(2)]
    pub revision: Option<u64>,
}

/// What is in a directory, as one tar archive?
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Archive {
    /// The directory. Paths in the archive begin in it.
    #[n(0)]
    pub path: Blob,
    /// Leave out what begins with a dot, and what `.gitignore` names.
    #[n(1)]
    pub tidy: Option<bool>,
}

/// What the agent says.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum ToBridge {
    /// The root that was entered. The first message.
    #[n(0)]
    Entered(#[n(0)] Root),
    /// Entries that were found: as many as fit.
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
    #[n(0)]
    pub change: u64,
    /// What was done: `write`, `edit`, `patch`, `remove`, `move`, `copy`.
    #[n(1)]
    pub verb: String,
    /// To what.
    #[n(2)]
    pub paths: Vec<Blob>,
    /// How long ago, in milliseconds.
    #[n(3)]
    pub age_ms: u64,
    /// By whom: device, surface and client.
    #[n(4)]
    pub who: String,
    /// It is undone.
    #[n(5)]
    pub undone: Option<bool>,
    /// Bytes that are kept for it.
    #[n(6)]
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
    #[n(2)]
    pub count: Option<u64>,
    /// There is more than was told.
    #[n(3)]
    pub more: Option<bool>,
    /// So many bytes: of content, or of a transfer that have arrived.
    #[n(4)]
    pub bytes: Option<u64>,
    /// SHA-256 of the whole content.
    #[n(5)]
    pub hash: Option<Blob>,
    /// The number of the first line of the content, from 1.
    #[n(6)]
    pub first: Option<u64>,
    /// How many lines the file has, where they were counted to its end.
    #[n(7)]
    pub lines: Option<u64>,
    /// The number under which it can be undone.
    #[n(8)]
    pub change: Option<u64>,
    /// Something was left out: links out of the root, or what may not be read.
    #[n(9)]
    pub skipped: Option<u64>,
    /// So many files were looked at.
    #[n(10)]
    pub files: Option<u64>,
}

impl Done {
    /// An end because of a failure.
    pub fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
