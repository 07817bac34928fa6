//! `archive`: a directory as one tar archive, which the server writes.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Archive, Ask, Done, Entry, ToBridge};

use crate::client::Client;
use crate::files::Said;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::files::transfer::Missed;

/// At most this many files that changed are named.
const CHANGED: usize = 10_000;

/// Which directory, and what of it.
#[derive(Debug)]
pub struct MakeArchive<'a> {
    /// The directory.
    pub dir: &'a ServerPath,
    /// Leave out names that begin with a dot, and what .gitignore excludes.
    pub tidy: bool,
}

/// What is in an archive.
#[derive(Debug)]
pub struct ArchiveAnswer {
    /// Its size.
    pub bytes: u64,
    /// How many files are in it.
    pub files: u64,
    /// How many links, special files and files that could not be read are not.
    pub skipped: u64,
    /// How many of those could not be read.
    pub unread: u64,
    /// The files that changed while they were read, and those that could not be read.
    pub missed: Vec<Missed>,
}

impl MakeArchive<'_> {
    /// Passes the archive to `take`, piece by piece.
    ///
    /// # Errors
    ///
    /// Those of the server and of `take`; `stream_truncated` where not all of it came.
    pub async fn carry_out(
        &self,
        client: &Client,
        face: Face,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<ArchiveAnswer, Failure> {
        let mut site = self.dir.site(client, face).await?;
        site.enter().await?;
        let path = Blob(site.place.path.clone());
        let files = site.files().await?;
        files.up.ask(Ask::Archive(Archive { path, tidy: self.tidy.then_some(true) }))?;
        files.up.flush().await?;
        let (mut came, mut missed): (u64, Vec<Missed>) = (0, Vec::new());
        loop {
            match files.down.next().await? {
                Said::Content(bytes) => {
                    came += bytes.len() as u64;
                    take(&bytes)?;
                }
                Said::Message(ToBridge::Done(done)) => return finish(*done, came, missed),
                Said::Message(ToBridge::Entries(entries)) => {
                    let one = |entry: Entry| Missed {
                        path: entry.path.0,
                        why: Failure::new(Kind::ChangedMeanwhile, "it changed while it was read"),
                    };
                    missed.extend(entries.into_iter().take(CHANGED - missed.len()).map(one));
                }
                Said::Message(_) => {}
            }
        }
    }
}

fn finish(done: Done, came: u64, mut missed: Vec<Missed>) -> Result<ArchiveAnswer, Failure> {
    if let Some(failure) = done.failure {
        return Err(failure);
    }
    if done.bytes != Some(came) {
        return Err(Failure::new(Kind::StreamTruncated, "not all of the archive came"));
    }
    let unread = |path: &Blob| Missed {
        path: path.0.clone(),
        why: Failure::new(Kind::PermissionDenied, "it could not be read"),
    };
    missed.extend(done.names.iter().flatten().map(unread));
    Ok(ArchiveAnswer {
        bytes: came,
        files: done.files.unwrap_or(0),
        skipped: done.skipped.unwrap_or(0),
        unread: done.unread.unwrap_or(0),
        missed,
    })
}
