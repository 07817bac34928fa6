//! What files on a server hold, in 32 bytes each. The server reads them; no content comes over.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::{Ask, Entry, Part, Read, What};

use super::Files;
use super::everything::everything;
use super::site::Site;
use super::transfer::Missed;
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

/// Sums of many files, and what could not be read.
pub type Sums = (Vec<Sum>, Vec<Missed>);

/// The sum of a file, or of all files in a directory, in the order of their paths. `named` is how
/// the path was given: paths begin with it. Of a directory, what cannot be read is returned beside
/// the sums of the rest.
///
/// # Errors
///
/// `too_large` for a directory with more entries than can be listed; those of the server.
pub async fn sums(site: &mut Site, named: &[u8], recursive: bool) -> Result<Sums, Failure> {
    let stat = site.ask(|place| Ask::Stat(Blob(place.path.clone()))).await?;
    let is = stat.done.entry.map(|entry| entry.target.unwrap_or(entry.what));
    let (client, place) = (site.client().clone(), site.place.clone());
    let files = site.files().await?;
    if !recursive || is != Some(What::Directory) {
        let known = sum_of(&client, files, Blob(place.path)).await?;
        return Ok((vec![sum(named.to_vec(), Some(known))?], Vec::new()));
    }
    let listed = everything(&client, files, &place, true).await?;
    let above = match named.strip_suffix(b"/").unwrap_or(named) {
        b"" => Vec::new(),
        above => [above, b"/"].concat(),
    };
    let full = |path: &[u8]| [&above[..], path].concat();
    let unread = listed.unread.into_iter();
    let mut missed: Vec<_> = unread.map(|(path, why)| Missed { path: full(&path), why }).collect();
    let mut entries: Vec<_> =
        listed.entries.into_iter().filter(|entry| entry.what == What::File).collect();
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let mut sums = Vec::new();
    for entry in entries {
        let (path, hash) = (full(&entry.path), entry.hash.clone());
        match sum(path.clone(), Some(entry).zip(hash)) {
            Ok(sum) => sums.push(sum),
            Err(why) => missed.push(Missed { path, why }),
        }
    }
    Ok((sums, missed))
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
        let text = format!("{} cannot be read", quote(&path));
        Failure::new(Kind::PermissionDenied, text)
    })?;
    Ok(Sum { path, hash, size: entry.size })
}
