//! `cat`: the whole content of a file, as it comes.

use std::ops::ControlFlow;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, Part, Read, ToBridge};
use tokio::time::sleep;

use crate::client::Client;
use crate::conversation::{Persistence, may_come_back};
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;
use crate::files::{Files, Said};

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
    /// Passes the content to `take`, piece by piece, until that breaks off. When the way to the
    /// server breaks, it goes on where it broke off, in the same state of the file.
    ///
    /// # Errors
    ///
    /// Those of the server and of `take`; `changed_meanwhile` if the file is in another state when
    /// the way is back.
    pub async fn carry_out(
        &self,
        client: &Client,
        face: Face,
        take: &mut Take<'_>,
    ) -> Result<CatAnswer, Failure> {
        let mut site = self.file.site(client, face).await?;
        site.enter().await?;
        let place = site.place.clone();
        let mut answer = CatAnswer { place, bytes: 0, opened: None, changed: None };
        let mut persistence = Persistence::new(0);
        persistence.mark_begun();
        let mut reading = answer.read_on(site.files().await?, take).await;
        while let Err(failure) = reading {
            let Some(wait) = persistence.after(failure.kind, answer.bytes) else {
                return Err(answer.broken_off(failure));
            };
            tracing::info!(why = failure.message, "reading broke off and is taken up again");
            sleep(wait).await;
            reading = match site.enter_again().await {
                Ok(()) => answer.read_on(site.files().await?, take).await,
                Err(failure) => Err(failure),
            };
        }
        Ok(answer)
    }
}

impl CatAnswer {
    /// Reads what has not come yet, over one stream.
    async fn read_on(&mut self, files: &mut Files, take: &mut Take<'_>) -> Result<(), Failure> {
        if self.bytes == 0 {
            (self.opened, self.changed) = (None, None);
        }
        let part = Part::Bytes { offset: self.bytes, length: None };
        let revision = self.opened.as_ref().map(|entry| entry.revision);
        let path = Blob(self.place.path.clone());
        files.up.ask(Ask::Read(Read { path, part, revision, hash: None, before: None }))?;
        files.up.flush().await?;
        let mut states = 0;
        loop {
            match files.down.next().await? {
                Said::Content(bytes) => {
                    self.bytes = self.bytes.saturating_add(bytes.len() as u64);
                    if take(&bytes)?.is_break() {
                        return Ok(());
                    }
                }
                Said::Message(ToBridge::Entries(entries)) => {
                    // The first is what is read, and a later one what it has become.
                    let state = match states {
                        0 => &mut self.opened,
                        _ => &mut self.changed,
                    };
                    *state = state.take().or_else(|| entries.into_iter().next());
                    states += 1;
                }
                Said::Message(ToBridge::Done(done)) => return done.failure.map_or(Ok(()), Err),
                Said::Message(_) => {}
            }
        }
    }

    /// Why the rest did not come, where some has.
    fn broken_off(&self, failure: Failure) -> Failure {
        let lost = may_come_back(failure.kind) || failure.kind == Kind::ChangedMeanwhile;
        if self.bytes == 0 || !lost {
            return failure;
        }
        let bytes = self.bytes;
        let message = format!("{}; only the first {bytes} bytes have come", failure.message);
        Failure { message, ..failure }.with_hint("read it again from its beginning")
    }
}
