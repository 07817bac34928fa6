//! What can be wrong with a file of ours, and how it is said.
//!
//! Every text names the path. Control characters in a path are escaped, and a command that is meant
//! to be copied quotes it for the shell.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use farwire_protocol::bundle::BundleError;
use farwire_protocol::cbor;
use farwire_protocol::failure::{Failure, Kind};

/// Why a file or directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// Others can reach it, or it is not what it should be.
    #[error("`{}` {what}", shown(.path))]
    Exposed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        what: String,
        /// What to do about it, with the command that does it.
        fix: String,
    },
    /// The operating system said no.
    #[error("cannot {verb} `{}`", shown(.path))]
    Io {
        /// What we wanted to do.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Its content is not what we wrote.
    #[error("`{}` is damaged", shown(.path))]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How that shows.
        #[source]
        damage: Damage,
    },
    /// What we were asked to write could not be read again.
    #[error("`{}` cannot hold this", shown(.path))]
    Unfit {
        /// Which.
        path: PathBuf,
        /// What reading it would say.
        #[source]
        damage: Damage,
    },
    /// A newer program wrote it.
    #[error("`{}` has version {version}, this program knows older ones only", shown(.path))]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Another process holds a lock.
    #[error("{} holds `{}`", holder(*.pid), shown(.path))]
    Locked {
        /// The lock's file.
        path: PathBuf,
        /// Who, where the file says so.
        pid: Option<u32>,
    },
}

/// What shows that a file is not as it was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    /// It is there no longer, or never was, and should be.
    #[error("it is missing")]
    Missing,
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It is longer than it can be.
    #[error("it is longer than any such file")]
    TooLong,
    /// Cut, or altered.
    #[error("its checksum does not fit: it is cut or altered")]
    Checksum,
    /// Whole, and of another kind.
    #[error("it holds another kind of thing")]
    Kind,
    /// Whole, and a field makes no sense or contradicts another file.
    #[error("{0}")]
    Content(&'static str),
    /// Whole, and not the message that it should hold.
    #[error(transparent)]
    Cbor(#[from] cbor::Error),
    /// Whole, and the bundle in it is not in order.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Whole, and written by a newer program.
    #[error("it has version {0}")]
    Newer(u32),
}

impl FileError {
    pub(crate) fn io(verb: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { verb, path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn damaged(path: PathBuf, damage: Damage) -> Self {
        match damage {
            Damage::Newer(version) => Self::Newer { path, version },
            damage => Self::Damaged { path, damage },
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match &error {
            FileError::Exposed { fix, .. } => {
                Self::new(Kind::KeystorePermissions, error.to_string()).with_hint(fix.clone())
            }
            FileError::Io { source, .. } => Self::caused(Kind::Io, &error, source),
            FileError::Damaged { damage, .. } => {
                Self::caused(Kind::KeystoreCorrupt, &error, damage)
            }
            FileError::Unfit { damage, .. } => Self::caused(Kind::InvalidArgument, &error, damage),
            FileError::Newer { .. } => Self::new(Kind::StateVersion, error.to_string()),
            FileError::Locked { .. } => Self::new(Kind::KeystoreLocked, error.to_string()),
        }
    }
}

/// A file that is left out, so that the others beside it can be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub failure: Failure,
}

impl core::fmt::Display for Warning {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "left out: {}", self.failure.message)
    }
}

/// What a directory holds, by name, and what had to be left out.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// In the order of their names.
    pub entries: Vec<(String, T)>,
    /// One for each file that could not be used.
    pub warnings: Vec<Warning>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), warnings: Vec::new() }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// A path on one line and without control characters.
pub(crate) fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// Foreign text on one line and without control characters, cut after 128 characters.
pub(crate) fn clipped(text: &str) -> String {
    let mut out = printable(&text.chars().take(128).collect::<String>());
    if text.chars().nth(128).is_some() {
        out.push('…');
    }
    out
}

fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            // Writing to a string does not fail.
            let _ = write!(out, "{}", char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// A path as a shell reads it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = shown(path);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:=@".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_on_one_line_and_quoted_for_the_shell() {
        assert_eq!(shown(Path::new("/a\n\u{1b}[31m")), "/a\\n\\u{1b}[31m");
        assert_eq!(quoted(Path::new("/a/b-1.pin")), "/a/b-1.pin");
        assert_eq!(quoted(Path::new("/it's a")), r"'/it'\''s a'");
        assert_eq!(clipped(&"x".repeat(500)).chars().count(), 129);
    }

    #[test]
    fn every_trouble_has_its_kind_and_names_its_path() {
        let path = PathBuf::from("/home/p/keys/id");
        for (error, kind) in [
            (FileError::io("write", &path, io::Error::other("disk full")), Kind::Io),
            (FileError::damaged(path.clone(), Damage::Empty), Kind::KeystoreCorrupt),
            (FileError::damaged(path.clone(), Damage::Newer(9)), Kind::StateVersion),
            (FileError::Locked { path: path.clone(), pid: Some(7) }, Kind::KeystoreLocked),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.kind, kind);
            assert!(failure.message.contains("/home/p/keys/id"), "{failure}");
        }
    }
}
