//! `mkdir`: a directory.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, MakeDirectory as Question};

use super::Changed;
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;

/// Which directory.
#[derive(Debug)]
pub struct MakeDirectory<'a> {
    /// The directory.
    pub dir: &'a ServerPath,
    /// Create its parents, and succeed if it exists.
    pub parents: bool,
}

impl MakeDirectory<'_> {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<Changed, Failure> {
        let mut site = self.dir.site(client, face).await?;
        let parents = Some(self.parents);
        let make = |path| Ask::MakeDirectory(Question { path, parents });
        let done = site.ask(|place| make(Blob(place.path.clone()))).await?.done;
        Ok(Changed::new(site.place.clone(), done))
    }
}
