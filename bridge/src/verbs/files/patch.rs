//! `patch`: a unified diff is applied, to all of its files or to none.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Patch as Question};

use super::{Changed, ChangedText};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;

/// A diff, and where it belongs.
#[derive(Debug)]
pub struct Patch<'a> {
    /// The directory that the paths of the diff begin at.
    pub dir: &'a ServerPath,
    /// The diff.
    pub diff: &'a [u8],
    /// How many leading components of its paths are left out; `a/` and `b/` without a number.
    pub strip: Option<u32>,
    /// Only find out what would be changed.
    pub dry_run: bool,
}

impl Patch<'_> {
    /// Applies it. The text of the answer has a line for each file.
    ///
    /// # Errors
    ///
    /// Those of the server; then nothing was changed.
    pub async fn carry_out(&self, client: &Client, face: Face) -> Result<ChangedText, Failure> {
        let mut site = self.dir.site(client, face).await?;
        let patched = site.ask_with(Some(self.diff), |place| {
            Ask::Patch(Question {
                path: Blob(place.path.clone()),
                strip: self.strip,
                dry: Some(self.dry_run),
                undo: Some(true),
                prefix: Some(place.prefix()),
            })
        });
        let answer = patched.await?;
        let files = answer.done.files.unwrap_or(0);
        let changed = Changed::new(site.place.clone(), answer.done);
        Ok(ChangedText { changed, files, text: answer.content })
    }
}
