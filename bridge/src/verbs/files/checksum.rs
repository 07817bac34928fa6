//! `checksum`: SHA-256 of files, which the server reads.

use farwire_protocol::failure::Failure;

use crate::client::Client;
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;
use crate::files::sums::{Sum, sums};
use crate::files::transfer::Missed;

/// Which files.
#[derive(Debug)]
pub struct Checksum<'a> {
    /// A file or a directory. The paths of the sums begin with its path, as it was given.
    pub path: &'a ServerPath,
    /// All files in a directory.
    pub recursive: bool,
}

/// The sums of files.
#[derive(Debug)]
pub struct ChecksumAnswer {
    /// The file or the directory.
    pub place: Place,
    /// The sums, in the order of the paths.
    pub sums: Vec<Sum>,
    /// What in a directory could not be read.
    pub missed: Vec<Missed>,
}

impl Checksum<'_> {
    /// Has the server read the files.
    ///
    /// # Errors
    ///
    /// `too_large` for a directory with more entries than can be listed; those of the server.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<ChecksumAnswer, Failure> {
        let mut site = self.path.site(client, face).await?;
        let (sums, missed) = sums(&mut site, &self.path.path, self.recursive).await?;
        Ok(ChecksumAnswer { place: site.place.clone(), sums, missed })
    }
}
