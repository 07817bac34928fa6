//! What files on a server hold, in 32 bytes each. The server reads them; no content comes over.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, List, Part, Read, What};

use super::Files;
use super::place::Place;
use crate::client::Client;

/// One file.
#[derive(Debug)]
pub struct Sum {
    /// Its path: as it was named, or from the directory that was.
    pub path: Vec<u8>,
    /// Its SHA-256.
    pub hash: Blob,
    /// How long it is, in bytes.
    pub size: u64,
}

/// The sum of a file, or of all files in a directory, in the order of their paths. `named` is how the place was
/// named: paths begin with it.
///
/// # Errors
///
/// `too_large` for a directory with more entries than are listed; `permission_denied` for a file that cannot be
/// read; those of the server.
pub async fn sums(
    client: &Client,
    files: &mut Files,
    (place, named): (&Place, &str),
    recursive: bool,
) -> Result<Vec<Sum>, Failure> {
    let path = || Blob(place.path.clone());
    let entry = files.answer(client, Ask::Stat(path()), None).await?.done.entry;
    let is = entry.map(|entry| entry.target.unwrap_or(entry.what));
    if !recursive || is != Some(What::Directory) {
        let known = sum_of(client, files, path()).await?;
        return Ok(vec![sum(named.as_bytes().to_vec(), Some(known))?]);
    }
    let list = List { path: path(), depth: Some(64), hashes: Some(true), ..List::default() };
    let answer = files.answer(client, Ask::List(list), None).await?;
    if answer.done.more == Some(true) {
        let text = format!("{} has too many entries", place.shown());
        return Err(Failure::new(Kind::TooLarge, text).with_hint("name its directories one by one"));
    }
    let above = match named.trim_end_matches('/') {
        "" => Vec::new(),
        above => format!("{above}/").into_bytes(),
    };
    let mut entries: Vec<_> =
        answer.entries.into_iter().filter(|entry| entry.what == What::File).collect();
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let one = |entry: Entry| {
        let path = [&above[..], &entry.path].concat();
        let hash = entry.hash.clone();
        sum(path, Some(entry).zip(hash))
    };
    entries.into_iter().map(one).collect()
}

/// The state of a file, and the hash of what it holds in it.
///
/// # Errors
///
/// Those of the server; `protocol_violation` if it says less.
pub async fn sum_of(
    client: &Client,
    files: &mut Files,
    path: Blob,
) -> Result<(Entry, Blob), Failure> {
    let part = Part::Bytes { offset: 0, length: Some(0) };
    let read = Read { path, part, revision: None, hash: Some(true), before: None };
    let answer = files.answer(client, Ask::Read(read), None).await?;
    let known = answer.entries.into_iter().next().zip(answer.done.hash);
    known.ok_or_else(|| Failure::new(Kind::ProtocolViolation, "an answer without a hash"))
}

fn sum(path: Vec<u8>, known: Option<(Entry, Blob)>) -> Result<Sum, Failure> {
    let (entry, hash) = known.ok_or_else(|| {
        let text = format!("{} cannot be read", String::from_utf8_lossy(&path));
        Failure::new(Kind::PermissionDenied, text)
    })?;
    Ok(Sum { path, hash, size: entry.size })
}
