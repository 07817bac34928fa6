//! What is here: what a directory holds, and what files hold.

use std::fs::{self, File, Metadata};
use std::io::{Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};
use sha2::{Digest as _, Sha256};

use super::io_failure;

/// A file or directory here.
#[derive(Debug)]
pub struct LocalEntry {
    /// Its path from where the walk began.
    pub below: Vec<u8>,
    /// Its path.
    pub path: PathBuf,
    /// It is a directory.
    pub directory: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Its rights: `rwx` for three.
    pub mode: u32,
    /// When its content was changed, in nanoseconds since 1970.
    pub modified: i64,
}

impl LocalEntry {
    /// What is at this path, as the kernel describes it.
    pub(in crate::files::transfer) fn new(below: Vec<u8>, path: PathBuf, is: &Metadata) -> Self {
        let modified = is.mtime().saturating_mul(1_000_000_000).saturating_add(is.mtime_nsec());
        let mode = is.mode() & 0o777;
        Self { below, path, directory: is.is_dir(), size: is.len(), mode, modified }
    }
}

/// All that is beneath a directory here.
#[derive(Debug, Default)]
pub(in crate::files) struct Walked {
    /// Files and directories, each directory before what is in it.
    pub(in crate::files) found: Vec<LocalEntry>,
    /// The paths of links and special files.
    pub(in crate::files) left_out: Vec<Vec<u8>>,
    /// What could not be read, and why: nobody knows what is in it.
    pub(in crate::files) unread: Vec<(Vec<u8>, Failure)>,
}

/// All that is beneath a directory.
///
/// # Errors
///
/// That the directory itself cannot be read.
pub(in crate::files) fn walk(top: &Path) -> Result<Walked, Failure> {
    let mut walked = Walked::default();
    let mut waiting = vec![(top.to_path_buf(), Vec::new())];
    while let Some((dir, below)) = waiting.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if below.is_empty() => return Err(io_failure(&dir, &error)),
            Err(error) => {
                walked.unread.push((below, io_failure(&dir, &error)));
                continue;
            }
            Ok(entries) => entries,
        };
        for entry in entries {
            let (entry, is) = match entry.and_then(|entry| Ok((entry.metadata()?, entry))) {
                Ok((is, entry)) => (entry, is),
                // It was removed between two looks.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    walked.unread.push((below.clone(), io_failure(&dir, &error)));
                    break;
                }
            };
            let path = entry.path();
            let mut name = below.clone();
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(entry.file_name().as_bytes());
            if is.is_dir() {
                waiting.push((path.clone(), name.clone()));
            } else if !is.is_file() {
                walked.left_out.push(name);
                continue;
            }
            walked.found.push(LocalEntry::new(name, path, &is));
        }
    }
    Ok(walked)
}

/// SHA-256 of a file here.
///
/// # Errors
///
/// `io`.
pub(in crate::files) async fn file_hash(path: &Path) -> Result<Vec<u8>, Failure> {
    digest(File::open(path).map_err(|error| io_failure(path, &error))?, path).await
}

/// SHA-256 of a file that is open. On a thread of its own: a large one takes longer than a
/// connection lives without us.
pub(in crate::files) async fn digest(file: File, path: &Path) -> Result<Vec<u8>, Failure> {
    digest_of(file, u64::MAX, path).await
}

/// The same of at most so many of its first bytes.
pub(in crate::files) async fn digest_of(
    mut file: File,
    bytes: u64,
    path: &Path,
) -> Result<Vec<u8>, Failure> {
    let hashed = tokio::task::spawn_blocking(move || {
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 20];
        file.rewind()?;
        let mut file = file.take(bytes);
        loop {
            let length = file.read(&mut piece)?;
            if length == 0 {
                return Ok(hash.finalize().to_vec());
            }
            hash.update(piece.get(..length).unwrap_or_default());
        }
    });
    let hashed = hashed.await.map_err(|_| Failure::new(Kind::Internal, "a file was not read"))?;
    hashed.map_err(|error| io_failure(path, &error))
}
