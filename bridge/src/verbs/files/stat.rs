//! `stat`: what a path leads to.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Entry};

use super::without_entry;
use crate::client::Client;
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;

/// Which path.
#[derive(Debug)]
pub struct LookUp<'a> {
    /// The path.
    pub path: &'a ServerPath,
}

/// What is there.
#[derive(Debug)]
pub struct StatAnswer {
    /// The path.
    pub place: Place,
    /// What is there.
    pub entry: Entry,
}

impl LookUp<'_> {
    /// Looks.
    ///
    /// # Errors
    ///
    /// `no_such_file`; others of the server.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<StatAnswer, Failure> {
        let mut site = self.path.site(client, face).await?;
        let entry = site.ask(|place| Ask::Stat(Blob(place.path.clone()))).await?.done.entry;
        Ok(StatAnswer { place: site.place.clone(), entry: entry.ok_or_else(without_entry)? })
    }
}
