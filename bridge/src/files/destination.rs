//! Where something goes that is copied or moved, as with cp(1) and mv(1): into a directory that is
//! there, and in the place of another one only if that is empty.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, Remove, What};

use super::Files;
use super::between::CopyEnd;
use super::place::Place;
use super::transfer::WITH_ALL;
use crate::client::Client;

/// What a directory means that is there where something goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Onto {
    /// It is put into it.
    Inside,
    /// Files are; of a directory it is the place, so that the same goes on when it is said again.
    FilesInside,
    /// It is the place, whatever comes.
    Itself,
}

/// Where something goes.
#[derive(Debug)]
pub struct Destination {
    /// Where.
    pub place: Place,
    /// What is there.
    there: Option<Entry>,
    source: Entry,
}

/// Finds out where something goes.
///
/// # Errors
///
/// `not_a_file` for a directory, unless `recursive`.
pub async fn find_destination(
    client: &Client,
    (from, to): (&CopyEnd, &CopyEnd),
    onto: Onto,
    recursive: bool,
) -> Result<Destination, Failure> {
    let source = from.stat(client).await?;
    if leads_to(&source) == What::Directory && !recursive {
        let text = format!("{} is a directory", from.place.to_text());
        return Err(Failure::new(Kind::NotAFile, text).with_hint(WITH_ALL));
    }
    let inside = match onto {
        Onto::Inside => true,
        Onto::FilesInside => leads_to(&source) != What::Directory,
        Onto::Itself => false,
    };
    let mut end = to.clone();
    let mut there = end.look(client).await?;
    if inside && there.as_ref().map(leads_to) == Some(What::Directory) {
        end.place.path = end.place.join(from.place.name());
        there = end.look(client).await?;
    }
    Ok(Destination { place: end.place, there, source })
}

impl Destination {
    /// Takes an empty directory out of the way of another one, in the root that both are in.
    ///
    /// # Errors
    ///
    /// `directory_not_empty`; `not_a_file` and `not_a_directory` where one is a directory and the
    /// other is not. Nothing that could not be brought back is replaced.
    pub async fn make_room(
        &self,
        client: &Client,
        files: &mut Files,
        from: &Place,
        moved: bool,
    ) -> Result<(), Failure> {
        let Some(there) = &self.there else { return Ok(()) };
        if self.place.path == from.path || self.place.is_in(from) {
            // Refused by the server, with nothing taken away.
            return Ok(());
        }
        if there.revision == self.source.revision {
            let text = format!("{} and {} are the same", from.to_text(), self.place.to_text());
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        // A link is moved itself, and a copy is of what it leads to.
        let comes = self.source.what == What::Directory && !(moved && self.source.target.is_some());
        let stands = there.what == What::Directory && there.target.is_none();
        let shown = self.place.to_text();
        match (comes, stands) {
            (false, false) => Ok(()),
            (false, true) => Err(Failure::new(Kind::NotAFile, format!("{shown} is a directory"))
                .with_hint("remove it first, if that is what you want")),
            (true, false) => Err(Failure::new(
                Kind::NotADirectory,
                format!("{shown} exists, and is not a directory"),
            )
            .with_hint("remove it first, if that is what you want")),
            (true, true) => {
                let remove = Remove {
                    path: Blob(self.place.path.clone()),
                    recursive: None,
                    revision: Some(there.revision),
                    undo: Some(true),
                };
                files.answer(client, Ask::Remove(remove), None).await.map(drop)
            }
        }
    }
}

/// What something is, or is a link to.
fn leads_to(entry: &Entry) -> What {
    entry.target.unwrap_or(entry.what)
}
