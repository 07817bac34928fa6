//! `size`: how much is beneath a path, counted on the server.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::Ask;

use super::Unread;
use crate::client::Client;
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;

/// What is counted.
#[derive(Debug)]
pub struct MeasureSize<'a> {
    /// A file or a directory.
    pub path: &'a ServerPath,
}

/// How much it is.
#[derive(Debug)]
pub struct SizeAnswer {
    /// The file or the directory.
    pub place: Place,
    /// The sum of the sizes of all files, by each of their names.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// How many directories.
    pub directories: u64,
    /// What could not be read.
    pub unread: Unread,
}

impl MeasureSize<'_> {
    /// Has the server count.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<SizeAnswer, Failure> {
        let mut site = self.path.site(client, face).await?;
        let done = site.ask(|place| Ask::Usage(Blob(place.path.clone()))).await?.done;
        Ok(SizeAnswer {
            place: site.place.clone(),
            bytes: done.bytes.unwrap_or(0),
            files: done.files.unwrap_or(0),
            directories: done.count.unwrap_or(0),
            unread: Unread::of(&done),
        })
    }
}
