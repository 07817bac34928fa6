//! The requests about files.

use minicbor::{Decode, Encode};

use super::Header;
use crate::cbor::Blob;
use crate::id::Nonce;

/// A request about files. 10 to 19 are reserved.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ask {
    /// Lists a directory.
    #[n(0)]
    List(#[n(0)] List),
    /// Describes a path. Answered with its entry.
    #[n(1)]
    Stat(#[n(0)] Blob),
    /// Reads a file.
    #[n(2)]
    Read(#[n(0)] Read),
    /// Writes a file. The content follows.
    #[n(3)]
    Write(#[n(0)] Write),
    /// Replaces texts in a file. They follow, as [`Edits`].
    #[n(4)]
    Edit(#[n(0)] Edit),
    /// Searches for matching lines.
    #[n(5)]
    Search(#[n(0)] Search),
    /// Creates a directory.
    #[n(6)]
    MakeDirectory(#[n(0)] MakeDirectory),
    /// Removes a file or directory.
    #[n(7)]
    Remove(#[n(0)] Remove),
    /// Copies or moves a file or directory.
    #[n(8)]
    Copy(#[n(0)] Copy),
    /// Asks how much of a transfer has arrived.
    #[n(9)]
    Arrived(#[n(0)] Arrived),
    /// A request of a WebDAV client. Its body follows.
    #[n(20)]
    Http(#[n(0)] Http),
    /// Applies a unified diff to several files. The diff follows.
    #[n(21)]
    Patch(#[n(0)] Patch),
    /// Lists changes that can be undone.
    #[n(22)]
    Changes(#[n(0)] Changes),
    /// Undoes or redoes a change.
    #[n(23)]
    Revert(#[n(0)] Revert),
    /// Waits for a change.
    #[n(24)]
    Watch(#[n(0)] Watch),
    /// Returns a directory as a tar archive.
    #[n(25)]
    Archive(#[n(0)] Archive),
    /// Sets permissions and modification time. Answered with the entry.
    #[n(26)]
    Attributes(#[n(0)] Attributes),
    /// Sums up the size of a path and everything beneath it.
    #[n(27)]
    Usage(#[n(0)] Blob),
}

impl Ask {
    /// The number of the request; [`ASK_BEFORE`] for all that every agent knows.
    ///
    /// [`ASK_BEFORE`]: super::ASK_BEFORE
    pub const fn number(&self) -> u16 {
        match self {
            Self::Attributes(_) => 26,
            // Earlier agents skip this field, and would carry out a different request.
            Self::Watch(Watch { deep: Some(true), .. })
            | Self::Changes(Changes { next: Some(_), .. }) => 26,
            Self::Usage(_) => 27,
            _ => super::ASK_BEFORE,
        }
    }

    /// Whether content follows the request.
    pub fn has_content(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Edit(_) | Self::Http(_) | Self::Patch(_))
    }
}

/// Lists a directory.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct List {
    /// The directory.
    #[n(0)]
    pub path: Blob,
    /// The number of levels; 1 when absent.
    #[n(1)]
    pub depth: Option<u32>,
    /// Only entries that match one of these patterns, as in `.gitignore`; a leading `!` negates
    /// one.
    #[n(2)]
    pub globs: Option<Vec<String>>,
    /// The maximum number of entries; 100,000 when absent. More are possible only without an order.
    #[n(3)]
    pub limit: Option<u32>,
    /// The order; that of the file system when absent, in which case entries are sent as they are
    /// read.
    #[n(4)]
    pub sort: Option<Sort>,
    /// Leave out names that begin with a dot, and what `.gitignore` excludes.
    #[n(5)]
    pub tidy: Option<bool>,
    /// Include a hash of each file's content.
    #[n(6)]
    pub hashes: Option<bool>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Sort {
    /// By name, directories first.
    #[n(0)]
    Name,
    /// Largest first.
    #[n(1)]
    Size,
    /// Latest first.
    #[n(2)]
    Time,
}

/// Reads a file.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Read {
    /// The file.
    #[n(0)]
    pub path: Blob,
    /// The part to read.
    #[n(1)]
    pub part: Part,
    /// Only in this state; otherwise the answer is `changed_meanwhile`.
    #[n(2)]
    pub revision: Option<u64>,
    /// Include a hash of the whole content.
    #[n(3)]
    pub hash: Option<bool>,
    /// The hash covers only the bytes before the part, which must be a part of bytes.
    #[n(4)]
    pub before: Option<bool>,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Part {
    /// Bytes from `offset` on; all when `length` is absent.
    #[n(0)]
    Bytes {
        /// Where it begins.
        #[cbor(n(0), decode_with = "crate::peer::clamped")]
        offset: u64,
        /// The number of bytes.
        #[cbor(n(1), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
        length: Option<u64>,
    },
    /// Whole lines from this one on, counted from 1.
    #[n(1)]
    Lines {
        /// The first line.
        #[cbor(n(0), decode_with = "crate::peer::clamped")]
        first: u64,
        /// The number of lines.
        #[n(1)]
        count: u32,
        /// The maximum number of bytes; the last line may be cut.
        #[n(2)]
        budget: u32,
    },
    /// The last lines.
    #[n(2)]
    Tail {
        /// The number of lines.
        #[n(0)]
        count: u32,
        /// The maximum number of bytes; the first line may be cut.
        #[n(1)]
        budget: u32,
    },
}

/// Writes a file.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Write {
    /// The file.
    #[n(0)]
    pub path: Blob,
    /// What may exist at the path before.
    #[n(1)]
    pub how: How,
    /// Only if the file is in this state; otherwise the answer is `changed_meanwhile`.
    #[n(2)]
    pub revision: Option<u64>,
    /// The permissions; when absent those of the existing file, or 0644 less the umask.
    #[n(3)]
    pub mode: Option<u32>,
    /// Create missing parent directories.
    #[n(4)]
    pub parents: Option<bool>,
    /// The modification time, in nanoseconds since 1970; now when absent.
    #[n(5)]
    pub modified: Option<i64>,
    /// SHA-256 of the whole content, which is checked before anything is replaced.
    #[n(6)]
    pub hash: Option<Blob>,
    /// Store the received bytes under this id until the content is complete, and resume after
    /// `offset` bytes.
    #[n(7)]
    pub transfer: Option<Nonce>,
    /// The number of bytes of the transfer that have already arrived.
    #[cbor(n(8), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub offset: Option<u64>,
    /// Keep the previous state, so that the change can be undone.
    #[n(9)]
    pub undo: Option<bool>,
    /// Do not wait until the content is on disk.
    #[n(10)]
    pub lazy: Option<bool>,
}

impl Write {
    /// Creates a request to write this file, with all other fields absent.
    pub fn new(path: Blob, how: How) -> Self {
        Self {
            path,
            how,
            revision: None,
            mode: None,
            parents: None,
            modified: None,
            hash: None,
            transfer: None,
            offset: None,
            undo: None,
            lazy: None,
        }
    }
}

/// What may exist at the path before a write.
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
    /// A file, to which the content is appended, or nothing.
    #[n(3)]
    Append,
}

/// Replaces texts in a file.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Edit {
    /// The file.
    #[n(0)]
    pub path: Blob,
    /// Only if the file is in this state.
    #[n(1)]
    pub revision: Option<u64>,
    /// Only report what would be changed.
    #[n(2)]
    pub dry: Option<bool>,
    /// Keep the previous state.
    #[n(3)]
    pub undo: Option<bool>,
}

/// The content of [`Ask::Edit`].
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Edits {
    /// The replacements; each searches the result of those before it.
    #[n(0)]
    pub edits: Vec<Replacement>,
}

/// One replacement.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Replacement {
    /// The exact text to replace, which must occur once.
    #[n(0)]
    pub old: Blob,
    /// The text that replaces it.
    #[n(1)]
    pub new: Blob,
    /// The text may occur several times, and is replaced everywhere.
    #[n(2)]
    pub all: Option<bool>,
}

/// Searches for matching lines.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Search {
    /// A file, or a directory with everything in it.
    #[n(0)]
    pub path: Blob,
    /// A regular expression.
    #[n(1)]
    pub pattern: String,
    /// The pattern is literal text, not an expression.
    #[n(2)]
    pub fixed: Option<bool>,
    /// Ignore case.
    #[n(3)]
    pub ignore_case: Option<bool>,
    /// Only files that match one of these patterns.
    #[n(4)]
    pub globs: Option<Vec<String>>,
    /// The number of lines before and after each match.
    #[n(5)]
    pub context: Option<u32>,
    /// The maximum number of matches.
    #[n(6)]
    pub limit: Option<u32>,
    /// Also search names that begin with a dot and what `.gitignore` excludes.
    #[n(7)]
    pub all: Option<bool>,
    /// Only report which files match.
    #[n(8)]
    pub names: Option<bool>,
}

/// Creates a directory.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct MakeDirectory {
    /// The directory.
    #[n(0)]
    pub path: Blob,
    /// Create missing parents; succeed if the directory exists.
    #[n(1)]
    pub parents: Option<bool>,
}

/// Removes a file or directory.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Remove {
    /// The file or directory.
    #[n(0)]
    pub path: Blob,
    /// Remove a directory with everything in it.
    #[n(1)]
    pub recursive: Option<bool>,
    /// Only if it is in this state.
    #[n(2)]
    pub revision: Option<u64>,
    /// Keep the previous state.
    #[n(3)]
    pub undo: Option<bool>,
}

/// Copies or moves a file or directory.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Copy {
    /// The source.
    #[n(0)]
    pub from: Blob,
    /// The destination.
    #[n(1)]
    pub to: Blob,
    /// Remove the source: a move.
    #[n(2)]
    pub moved: Option<bool>,
    /// The destination may be replaced.
    #[n(3)]
    pub overwrite: Option<bool>,
    /// Copy a directory with everything in it.
    #[n(4)]
    pub recursive: Option<bool>,
    /// Keep the previous state.
    #[n(5)]
    pub undo: Option<bool>,
}

/// Asks how much of a transfer has arrived.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Arrived {
    /// The destination.
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
    /// The request target, unmodified.
    #[n(1)]
    pub target: String,
    /// Its headers.
    #[n(2)]
    pub headers: Vec<Header>,
}

/// Apply a unified diff.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Patch {
    /// The directory to which the diff's paths are relative.
    #[n(0)]
    pub path: Blob,
    /// How many leading components of its paths are stripped; when absent `a/` and `b/`.
    #[n(1)]
    pub strip: Option<u32>,
    /// Only report what would be changed.
    #[n(2)]
    pub dry: Option<bool>,
    /// Keep the previous state.
    #[n(3)]
    pub undo: Option<bool>,
    /// The prefix of the paths in the answer.
    #[n(4)]
    pub prefix: Option<String>,
}

/// Lists changes that can be undone.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Changes {
    /// Only this change, with a diff as content.
    #[cbor(n(0), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub change: Option<u64>,
    /// The maximum number of changes, latest first.
    #[n(1)]
    pub limit: Option<u32>,
    /// Only the change that would be undone next, or redone next if this is true; with a diff as
    /// content.
    #[n(2)]
    pub next: Option<bool>,
}

/// Undoes or redoes a change.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Revert {
    /// The change; when absent the latest one that can be undone or redone.
    #[cbor(n(0), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub change: Option<u64>,
    /// Redo instead of undo.
    #[n(1)]
    pub redo: Option<bool>,
    /// Also if the state that the change left has changed since.
    #[n(2)]
    pub force: Option<bool>,
}

/// Waits for a change.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Watch {
    /// A file, or a directory.
    #[n(0)]
    pub path: Blob,
    /// The maximum wait, in milliseconds.
    #[cbor(n(1), decode_with = "crate::peer::clamped")]
    pub wait_ms: u64,
    /// Return immediately if the path is no longer in this state.
    #[n(2)]
    pub revision: Option<u64>,
    /// Include all directories beneath it.
    #[n(3)]
    pub deep: Option<bool>,
}

/// Returns a directory as a tar archive.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Archive {
    /// The directory, to which the paths in the archive are relative.
    #[n(0)]
    pub path: Blob,
    /// Leave out names that begin with a dot, and what `.gitignore` excludes.
    #[n(1)]
    pub tidy: Option<bool>,
}

/// Sets permissions and modification time of a file or directory, never through a link.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Attributes {
    /// The file or directory.
    #[n(0)]
    pub path: Blob,
    /// The permissions, `rwx` for user, group and others; unchanged when absent.
    #[n(1)]
    pub mode: Option<u32>,
    /// The modification time, in nanoseconds since 1970; unchanged when absent.
    #[n(2)]
    pub modified: Option<i64>,
}
