//! `list`: what is in a directory.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Entry, List as Question, Sort};

use super::Unread;
use crate::client::Client;
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;

/// A list in order ends after this many entries: servers sort no more.
pub const MOST: u32 = 100_000;

/// What is listed.
#[derive(Debug)]
pub struct ListRequest<'a> {
    /// The directory.
    pub dir: &'a ServerPath,
    /// How many levels.
    pub depth: u32,
    /// Only what fits these patterns; all if there are none.
    pub globs: Vec<String>,
    /// At most this many entries.
    pub limit: Option<u32>,
    /// In which order.
    pub sort: Sort,
    /// Leave out names that begin with a dot, and what .gitignore excludes.
    pub tidy: bool,
}

/// What is in a directory.
#[derive(Debug)]
pub struct ListAnswer {
    /// The directory.
    pub place: Place,
    /// What is in it, by paths from there.
    pub entries: Vec<Entry>,
    /// There is more.
    pub more: bool,
    /// What could not be read.
    pub unread: Unread,
}

impl ListRequest<'_> {
    /// Lists it.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub async fn carry_out(self, client: &Client, face: Face) -> Result<ListAnswer, Failure> {
        let mut site = self.dir.site(client, face).await?;
        let listed = site.ask(|place| {
            Ask::List(Question {
                path: Blob(place.path.clone()),
                depth: Some(self.depth),
                globs: Some(self.globs.clone()).filter(|globs| !globs.is_empty()),
                limit: self.limit,
                sort: Some(self.sort),
                tidy: self.tidy.then_some(true),
                hashes: None,
            })
        });
        let answer = listed.await?;
        Ok(ListAnswer {
            place: site.place.clone(),
            entries: answer.entries,
            more: answer.done.more == Some(true),
            unread: Unread::of(&answer.done),
        })
    }
}
