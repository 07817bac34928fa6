//! `edit`: exact texts in a file are replaced, all of them or none.

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Edit as Question, Edits, Replacement};

use super::{Changed, ChangedText};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;

/// What is replaced.
#[derive(Debug)]
pub struct Edit<'a> {
    /// The file.
    pub file: &'a ServerPath,
    /// The replacements, in order.
    pub edits: Vec<Replacement>,
    /// Only in this state of the file.
    pub revision: Option<u64>,
    /// Only find out what would be changed.
    pub dry_run: bool,
}

impl Edit<'_> {
    /// Edits the file. The text of the answer is a diff.
    ///
    /// # Errors
    ///
    /// `no_match` and `not_unique` for a text that does not occur exactly once; `changed_meanwhile`
    /// for another state.
    pub async fn carry_out(self, client: &Client, face: Face) -> Result<ChangedText, Failure> {
        let Self { file, edits, revision, dry_run } = self;
        let content = cbor::encode(&Edits { edits });
        let mut site = file.site(client, face).await?;
        let edited = site.ask_with(Some(&content), |place| {
            let path = Blob(place.path.clone());
            Ask::Edit(Question { path, revision, dry: Some(dry_run), undo: Some(true) })
        });
        let answer = edited.await?;
        let changed = Changed::new(site.place.clone(), answer.done);
        Ok(ChangedText { changed, files: 1, text: answer.content })
    }
}
