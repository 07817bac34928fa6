//! Errors about our files, and their texts.
//!
//! Every text names the path. Control characters in a path are escaped, and a command that people
//! are meant to copy quotes the path for the shell.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use farwire_protocol::bundle::BundleError;
use farwire_protocol::cbor;
use farwire_protocol::failure::{Failure, Kind};

/// Why a file or directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// Others can access the path, or it is of the wrong kind.
    #[error("`{}` {what}", escape_path(.path))]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        what: String,
        /// How to fix it, with the command to run.
        fix: String,
    },
    /// The operating system refused the operation.
    #[error("cannot {verb} `{}`", escape_path(.path))]
    Io {
        /// The operation.
        verb: &'static str,
        /// Its file or directory.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The content of the file is not what we wrote.
    #[error("`{}` is damaged", escape_path(.path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What shows the damage.
        #[source]
        damage: Damage,
    },
    /// The content to be written could not be read back.
    #[error("`{}` cannot store this value", escape_path(.path))]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The error that reading it would yield.
        #[source]
        damage: Damage,
    },
    /// A newer program wrote the file.
    #[error("`{}` has version {version}, but this program knows older ones only", escape_path(.path))]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        version: u32,
    },
    /// Another process holds a lock.
    #[error("{} holds `{}`", holder(*.pid), escape_path(.path))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder's process id, if the file names it.
        pid: Option<u32>,
    },
}

/// What shows that a file is damaged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    /// The file should exist and does not.
    #[error("it is missing")]
    Missing,
    /// The file has no bytes.
    #[error("it is empty")]
    Empty,
    /// The file exceeds the limit of its format.
    #[error("it exceeds the size limit of its format")]
    TooLong,
    /// The file was truncated or altered.
    #[error("its checksum does not match: it was truncated or altered")]
    Checksum,
    /// The file is intact, but of another kind.
    #[error("it contains data of another kind")]
    Kind,
    /// The file is intact, but a field is invalid or contradicts another file.
    #[error("{0}")]
    Content(&'static str),
    /// The file is intact, but its body does not decode.
    #[error(transparent)]
    Cbor(#[from] cbor::Error),
    /// The file is intact, but the bundle in it is invalid.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The file is intact, but a newer program wrote it.
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

/// A file that is skipped, so that the others beside it can be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// The file.
    pub path: PathBuf,
    /// Why it is skipped.
    pub failure: Failure,
}

impl core::fmt::Display for Warning {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "skipped: {}", self.failure.message)
    }
}

/// The usable entries of a directory, by name, and warnings about the others.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// The entries, sorted by name.
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

/// Formats a path on one line, with control characters escaped.
pub(crate) fn escape_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// Formats untrusted text on one line, with control characters escaped, cut after 128 characters.
pub(crate) fn clip(text: &str) -> String {
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

/// Quotes a path for the shell.
pub(crate) fn shell_quote(path: &Path) -> String {
    let text = escape_path(path);
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
        assert_eq!(escape_path(Path::new("/a\n\u{1b}[31m")), "/a\\n\\u{1b}[31m");
        assert_eq!(shell_quote(Path::new("/a/b-1.pin")), "/a/b-1.pin");
        assert_eq!(shell_quote(Path::new("/it's a")), r"'/it'\''s a'");
        assert_eq!(clip(&"x".repeat(500)).chars().count(), 129);
    }

    #[test]
    fn every_error_has_its_kind_and_names_its_path() {
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
