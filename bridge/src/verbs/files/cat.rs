//! `cat`: the whole content of a file, as it comes.

use std::ops::ControlFlow;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Entry, Part, Read, ToBridge};

use crate::client::Client;
use crate::files::Said;
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;

/// Takes a piece of content, and says whether more is wanted.
pub type Take<'a> = dyn FnMut(&[u8]) -> Result<ControlFlow<()>, Failure> + 'a;

/// Which file.
#[derive(Debug)]
pub struct Cat<'a> {
    /// The file.
    pub file: &'a ServerPath,
}

/// How a file was while its content came.
#[derive(Debug)]
pub struct CatAnswer {
    /// Where it is.
    pub place: Place,
    /// How many bytes came.
    pub bytes: u64,
    /// The file when it was opened.
    pub opened: Option<Entry>,
    /// The file after it was read, if it had changed by then.
    pub changed: Option<Entry>,
}

impl Cat<'_> {
    /// Passes the content to `take`, piece by piece, until that breaks off.
    ///
    /// # Errors
    ///
    /// Those of the server and of `take`.
    pub async fn carry_out(
        &self,
        client: &Client,
        face: Face,
        take: &mut Take<'_>,
    ) -> Result<CatAnswer, Failure> {
        let mut site = self.file.site(client, face).await?;
        site.enter().await?;
        let place = site.place.clone();
        let (path, part) = (Blob(place.path.clone()), Part::Bytes { offset: 0, length: None });
        let files = site.files().await?;
        let read = Read { path, part, revision: None, hash: None, before: None };
        files.up.ask(Ask::Read(read))?;
        files.up.flush().await?;
        let mut answer = CatAnswer { place, bytes: 0, opened: None, changed: None };
        loop {
            match files.down.next().await? {
                Said::Content(bytes) => {
                    answer.bytes = answer.bytes.saturating_add(bytes.len() as u64);
                    if take(&bytes)?.is_break() {
                        return Ok(answer);
                    }
                }
                Said::Message(ToBridge::Entries(entries)) => {
                    let entry = entries.into_iter().next();
                    match answer.opened {
                        None => answer.opened = entry,
                        Some(_) => answer.changed = answer.changed.or(entry),
                    }
                }
                Said::Message(ToBridge::Done(done)) => {
                    return done.failure.map_or(Ok(answer), Err);
                }
                Said::Message(_) => {}
            }
        }
    }
}
