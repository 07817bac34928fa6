//! `checksum`: what files hold, in 32 bytes. The server reads them; no content comes over.

use clap::Args;
use data_encoding::HEXLOWER;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, List, Part, Read, What};
use serde_json::json;

use super::look::put_text;
use super::{At, Remote};
use crate::cli::{Json, print_json};
use crate::client::Client;

/// Print the SHA-256 of files of a server, as sha256sum does; no content comes over
///
/// The server reads the files. A path is printed as it was given, without the server, so that
/// `sha256sum -c` takes it where the same files are here.
#[derive(Args, Debug)]
pub(crate) struct Checksum {
    /// Which files: SERVER:PATH
    #[arg(required = true)]
    files: Vec<Remote>,
    /// All files in a directory
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// One file.
struct Sum {
    path: Vec<u8>,
    hash: Blob,
    size: u64,
}

impl Checksum {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let mut all = Vec::new();
        for file in &self.files {
            let mut at = file.enter(client).await?;
            let sums = match self.recursive && at.is_directory(client).await? {
                true => beneath(client, &mut at, file).await?,
                false => vec![one(client, &mut at, file).await?],
            };
            if !self.json.json {
                put_text(sums.iter().map(line).collect::<String>().as_bytes())?;
            }
            all.extend(sums);
        }
        let shown = |sum: &Sum| {
            json!({
                "path": String::from_utf8_lossy(&sum.path), "sha256": HEXLOWER.encode(&sum.hash), "size": sum.size,
            })
        };
        match self.json.json {
            true => print_json(&all.iter().map(shown).collect::<Vec<_>>()),
            false => Ok(()),
        }
    }
}

impl At {
    async fn is_directory(&mut self, client: &Client) -> Result<bool, Failure> {
        let entry = self.ask(client, Ask::Stat(Blob(self.place.path.clone()))).await?.done.entry;
        Ok(entry.is_some_and(|entry| entry.target.unwrap_or(entry.what) == What::Directory))
    }
}

async fn one(client: &Client, at: &mut At, file: &Remote) -> Result<Sum, Failure> {
    let (path, part) = (Blob(at.place.path.clone()), Part::Bytes { offset: 0, length: Some(0) });
    let read = Read { path, part, revision: None, hash: Some(true) };
    let answer = at.ask(client, Ask::Read(read)).await?;
    let entry = answer.entries.into_iter().next();
    let path = file.path.clone().into_bytes();
    sum(path, entry.zip(answer.done.hash))
}

async fn beneath(client: &Client, at: &mut At, dir: &Remote) -> Result<Vec<Sum>, Failure> {
    let path = Blob(at.place.path.clone());
    let list = List { path, depth: Some(64), hashes: Some(true), ..List::default() };
    let answer = at.ask(client, Ask::List(list)).await?;
    if answer.done.more == Some(true) {
        let text = format!("{} has too many entries", at.place.shown());
        return Err(Failure::new(Kind::TooLarge, text).with_hint("name its directories one by one"));
    }
    let mut files: Vec<_> =
        answer.entries.into_iter().filter(|entry| entry.what == What::File).collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let above = dir.path.trim_end_matches('/');
    let named = |entry: Entry| {
        let above = if above.is_empty() { Vec::new() } else { format!("{above}/").into_bytes() };
        let path = [above, entry.path.0.clone()].concat();
        let hash = entry.hash.clone();
        sum(path, Some(entry).zip(hash))
    };
    files.into_iter().map(named).collect()
}

fn sum(path: Vec<u8>, known: Option<(Entry, Blob)>) -> Result<Sum, Failure> {
    let (entry, hash) = known.ok_or_else(|| {
        let text = format!("{} cannot be read", String::from_utf8_lossy(&path));
        Failure::new(Kind::PermissionDenied, text)
    })?;
    Ok(Sum { path, hash, size: entry.size })
}

/// A line as sha256sum writes it: one that begins with a backslash has some in the name.
fn line(sum: &Sum) -> String {
    let path = String::from_utf8_lossy(&sum.path);
    let escaped = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == path { "" } else { "\\" };
    format!("{mark}{}  {escaped}\n", HEXLOWER.encode(&sum.hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_of_sha256sum() {
        let of = |path: &[u8]| line(&Sum { path: path.to_vec(), hash: Blob(vec![0xab]), size: 1 });
        assert_eq!(of(b"a b"), "ab  a b\n");
        assert_eq!(of(b"a\\b\nc"), "\\ab  a\\\\b\\nc\n");
    }
}
