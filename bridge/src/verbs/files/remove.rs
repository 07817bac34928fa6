//! `remove`: a file or a directory goes.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Remove as Question};

use super::Changed;
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;

/// What is removed.
#[derive(Debug)]
pub struct Remove<'a> {
    /// The file or the directory.
    pub path: &'a ServerPath,
    /// A directory with all that is in it.
    pub recursive: bool,
    /// Only in this state.
    pub revision: Option<u64>,
}

impl Remove<'_> {
    /// Removes it. Without the number of a change it cannot be brought back.
    ///
    /// # Errors
    ///
    /// `directory_not_empty` unless `recursive`; `changed_meanwhile` for another state; others of
    /// the server.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<Changed, Failure> {
        let mut site = self.path.site(client, face).await?;
        let removed = site.ask(|place| {
            Ask::Remove(Question {
                path: Blob(place.path.clone()),
                recursive: Some(self.recursive),
                revision: self.revision,
                undo: Some(true),
            })
        });
        let done = removed.await?.done;
        Ok(Changed::new(site.place.clone(), done))
    }
}
