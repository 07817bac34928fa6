//! `write`: the whole content of a file, or what is added to it.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, How, Write as Question};

use super::Changed;
use crate::client::Client;
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;

/// What is written.
#[derive(Debug)]
pub struct Write<'a> {
    /// The file. Its directories are made.
    pub file: &'a ServerPath,
    /// What may be there before.
    pub how: How,
    /// Only in this state of the file.
    pub revision: Option<u64>,
    /// Its rights.
    pub mode: Option<u32>,
}

impl Write<'_> {
    /// The question about a place.
    pub fn question(&self, place: &Place) -> Ask {
        Ask::Write(Question {
            revision: self.revision,
            mode: self.mode,
            parents: Some(true),
            undo: Some(true),
            ..Question::new(Blob(place.path.clone()), self.how)
        })
    }

    /// Writes this content.
    ///
    /// # Errors
    ///
    /// `file_exists` and `changed_meanwhile`, as `how` and `revision` have it; others of the
    /// server.
    pub async fn carry_out(
        &self,
        client: &Client,
        face: Face,
        content: &[u8],
    ) -> Result<Changed, Failure> {
        let mut site = self.file.site(client, face).await?;
        let done = site.ask_with(Some(content), |place| self.question(place)).await?.done;
        Ok(Changed::new(site.place.clone(), done))
    }
}
