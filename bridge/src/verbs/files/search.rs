//! `search`: lines that match, found on the server.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::{Ask, Match, Search as Question};

use super::Unread;
use crate::client::Client;
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;

/// A search ends after this many matches: servers look for no more.
pub const MOST: u32 = 100_000;

/// What is searched for, and where.
#[derive(Debug)]
pub struct SearchRequest<'a> {
    /// A file or a directory.
    pub path: &'a ServerPath,
    /// The expression.
    pub pattern: String,
    /// The pattern is plain text.
    pub fixed: bool,
    /// Ignore case.
    pub ignore_case: bool,
    /// Only in files that fit these patterns; in all if there are none.
    pub globs: Vec<String>,
    /// How many lines before and after each match.
    pub context: Option<u32>,
    /// At most this many matches.
    pub limit: Option<u32>,
    /// Also in what begins with a dot and what .gitignore names.
    pub all: bool,
    /// Print only the names of the files.
    pub names: bool,
}

/// What matched.
#[derive(Debug)]
pub struct SearchAnswer {
    /// The file or the directory.
    pub place: Place,
    /// The lines, in the order of the files' paths.
    pub matches: Vec<Match>,
    /// How many matches there are.
    pub count: u64,
    /// How many files were searched.
    pub files: Option<u64>,
    /// How many of them have a NUL.
    pub binary: u64,
    /// Whether there are more matches, where the server said so.
    pub more: Option<bool>,
    /// What could not be read.
    pub unread: Unread,
}

impl SearchRequest<'_> {
    /// Searches.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub async fn carry_out(self, client: &Client, face: Face) -> Result<SearchAnswer, Failure> {
        let mut site = self.path.site(client, face).await?;
        let searched = site.ask(|place| {
            Ask::Search(Question {
                path: Blob(place.path.clone()),
                pattern: self.pattern.clone(),
                fixed: Some(self.fixed),
                ignore_case: Some(self.ignore_case),
                globs: Some(self.globs.clone()).filter(|globs| !globs.is_empty()),
                context: self.context,
                limit: self.limit,
                all: Some(self.all),
                names: Some(self.names),
            })
        });
        let answer = searched.await?;
        Ok(SearchAnswer {
            place: site.place.clone(),
            matches: answer.matches,
            count: answer.done.count.unwrap_or(0),
            files: answer.done.files,
            binary: answer.done.binary.unwrap_or(0),
            more: answer.done.more,
            unread: Unread::of(&answer.done),
        })
    }
}
