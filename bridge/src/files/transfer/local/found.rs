//! What is here: what a directory holds, and what files hold.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use farwire_protocol::failure::{Failure, Kind};
use sha2::{Digest as _, Sha256};

use super::failed;

/// A file or directory here.
#[derive(Debug)]
pub struct Found {
    /// Its path from where the walk began.
    pub below: Vec<u8>,
    /// Its path.
    pub path: PathBuf,
    /// It is a directory.
    pub directory: bool,
    /// Its size in bytes.
    pub size: u64,
}

/// All files and directories beneath one, each directory before what is in it. Gives also the paths of the
/// links and special files that were left out.
pub(in crate::files) fn walk(top: &Path) -> Result<(Vec<Found>, Vec<Vec<u8>>), Failure> {
    let (mut all, mut skipped) = (Vec::new(), Vec::new());
    let mut waiting = vec![(top.to_path_buf(), Vec::new())];
    while let Some((dir, below)) = waiting.pop() {
        let entries = fs::read_dir(&dir).map_err(|error| failed(&dir, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed(&dir, &error))?;
            let path = entry.path();
            let is = entry.metadata().map_err(|error| failed(&path, &error))?;
            let mut name = below.clone();
            if !name.is_empty() {
                name.push(b'/');
            }
            name.extend_from_slice(entry.file_name().as_bytes());
            if is.is_dir() {
                waiting.push((path.clone(), name.clone()));
            } else if !is.is_file() {
                skipped.push(name);
                continue;
            }
            all.push(Found { below: name, path, directory: is.is_dir(), size: is.len() });
        }
    }
    Ok((all, skipped))
}

/// SHA-256 of a file here.
///
/// # Errors
///
/// `io`.
pub(in crate::files) async fn file_hash(path: &Path) -> Result<Vec<u8>, Failure> {
    digest(File::open(path).map_err(|error| failed(path, &error))?, path).await
}

/// SHA-256 of a file that is open. On a thread of its own: a large one takes longer than a connection lives
/// without us.
pub(in crate::files) async fn digest(mut file: File, path: &Path) -> Result<Vec<u8>, Failure> {
    let hashed = tokio::task::spawn_blocking(move || {
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 20];
        file.rewind()?;
        loop {
            let length = file.read(&mut piece)?;
            if length == 0 {
                return Ok(hash.finalize().to_vec());
            }
            hash.update(piece.get(..length).unwrap_or_default());
        }
    });
    let hashed = hashed.await.map_err(|_| Failure::new(Kind::Internal, "a file was not read"))?;
    hashed.map_err(|error| failed(path, &error))
}
