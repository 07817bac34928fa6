//! What may be asked about files.

use minicbor::{Decode, Encode};

use super::Header;
use crate::cbor::Blob;
use crate::id::Nonce;

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
    /// Have these rights and this time. Answered with the entry.
    #[n(26)]
    Attributes(#[n(0)] Attributes),
    /// How much is in this, with all beneath it?
    #[n(27)]
    Usage(#[n(0)] Blob),
}

impl Ask {
    /// Its number; [`ASK_BEFORE`] for all that every agent knows.
    ///
    /// [`ASK_BEFORE`]: super::ASK_BEFORE
    pub const fn number(&self) -> u16 {
        match self {
            Self::Attributes(_) => 26,
            // Agents before that skip what says so: they would answer another question.
            Self::Watch(Watch { deep: Some(true), .. })
            | Self::Changes(Changes { next: Some(_), .. }) => 26,
            Self::Usage(_) => 27,
            _ => super::ASK_BEFORE,
        }
    }

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
    /// No more than so many; 100,000 when absent. More are listed only without an order.
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
    /// The hash covers only the bytes before the part, which is one of bytes.
    #[n(4)]
    pub before: Option<bool>,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Part {
    /// So many bytes from here on; all when `length` is absent.
    #[n(0)]
    Bytes {
        /// Where it begins.
        #[cbor(n(0), decode_with = "crate::peer::clamped")]
        offset: u64,
        /// How many.
        #[cbor(n(1), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
        length: Option<u64>,
    },
    /// Whole lines from this one on, counted from 1.
    #[n(1)]
    Lines {
        /// The first.
        #[cbor(n(0), decode_with = "crate::peer::clamped")]
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
    #[cbor(n(8), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub offset: Option<u64>,
    /// Keep what was there before, so that it can be undone.
    #[n(9)]
    pub undo: Option<bool>,
    /// Do not wait until the disk has it.
    #[n(10)]
    pub lazy: Option<bool>,
}

impl Write {
    /// This file, with nothing said but what may be there before.
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
    /// What stands before the paths in the answer.
    #[n(4)]
    pub prefix: Option<String>,
}

/// What was changed here?
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Changes {
    /// Only this one, with a diff as content.
    #[cbor(n(0), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
    pub change: Option<u64>,
    /// No more than so many, the latest first.
    #[n(1)]
    pub limit: Option<u32>,
    /// Only the one that would be undone next, or done again next if this is true; with a diff as content.
    #[n(2)]
    pub next: Option<bool>,
}

/// Undo a change, or do it again.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Revert {
    /// Which; the latest that fits when absent.
    #[cbor(n(0), decode_with = "crate::peer::some_clamped", nil = "crate::peer::absent")]
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
    #[cbor(n(1), decode_with = "crate::peer::clamped")]
    pub wait_ms: u64,
    /// Return at once if it is not in this state any more.
    #[n(2)]
    pub revision: Option<u64>,
    /// All directories beneath it, too.
    #[n(3)]
    pub deep: Option<bool>,
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

/// Have these rights and this time of the last change. Of a file or a directory, and never through a link.
#[derive(Clone, Debug, Decode, Default, Encode, Eq, PartialEq)]
#[cbor(map)]
pub struct Attributes {
    /// Of what.
    #[n(0)]
    pub path: Blob,
    /// Its rights, `rwx` for three; unchanged when absent.
    #[n(1)]
    pub mode: Option<u32>,
    /// When its content was changed, in nanoseconds since 1970; unchanged when absent.
    #[n(2)]
    pub modified: Option<i64>,
}
