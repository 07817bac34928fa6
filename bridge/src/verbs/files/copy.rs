//! `copy` and `move`: on a server, or from one to another.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Copy as Question, Done, Entry};

use super::Unread;
use crate::client::Client;
use crate::files::between::{Between, CopyEnd, copy_between, move_between};
use crate::files::destination::{Destination, Onto, find_destination};
use crate::files::place::{Place, ServerPath};
use crate::files::site::Face;
use crate::files::transfer::{Meter, Missed};

/// What is copied or moved, and how.
#[derive(Debug)]
pub struct Copy<'a> {
    /// From where.
    pub from: &'a ServerPath,
    /// Where to.
    pub to: &'a ServerPath,
    /// The original goes.
    pub moved: bool,
    /// Replace a file, or an empty directory.
    pub overwrite: bool,
    /// A directory with all that is in it.
    pub recursive: bool,
    /// What a directory at the destination means.
    pub onto: Onto,
    /// Only within one root.
    pub within_root: bool,
}

/// A copy of which the destination is known.
#[derive(Debug)]
pub struct PreparedCopy<'a> {
    client: &'a Client,
    face: Face,
    copy: Copy<'a>,
    from: CopyEnd,
    to: CopyEnd,
    destination: Destination,
}

/// What a copy within one root came to.
#[derive(Debug)]
pub struct CopyAnswer {
    /// The destination.
    pub place: Place,
    /// The source.
    pub source: Place,
    /// What is at the destination now.
    pub entry: Option<Entry>,
    /// The number under which it can be undone.
    pub change: Option<u64>,
    /// How many files were copied.
    pub files: Option<u64>,
    /// How many bytes they have.
    pub bytes: Option<u64>,
    /// How many links, special files and files that could not be read were left out.
    pub skipped: Option<u64>,
    /// What could not be read.
    pub unread: Unread,
    /// What could not be copied.
    pub missed: Vec<Missed>,
}

impl<'a> Copy<'a> {
    /// Finds out where it goes.
    ///
    /// # Errors
    ///
    /// `not_a_file` for a directory, unless `recursive`; `unsupported` from one root to another
    /// with `within_root`.
    pub async fn prepare(
        self,
        client: &'a Client,
        face: Face,
    ) -> Result<PreparedCopy<'a>, Failure> {
        let (source, from) = self.from.place(client).await?;
        let (target, to) = self.to.place(client).await?;
        let from = CopyEnd { server: source, place: from };
        let to = CopyEnd { server: target, place: to };
        if self.within_root && !from.is_beside(&to) {
            let text = face.refusal("move", "not from one root to another");
            return Err(Failure::new(Kind::Unsupported, text)
                .with_hint("file_copy it, then file_remove it"));
        }
        let destination =
            Box::pin(find_destination(client, (&from, &to), self.onto, self.recursive)).await?;
        let to = CopyEnd { place: destination.place.clone(), ..to };
        Ok(PreparedCopy { client, face, copy: self, from, to, destination })
    }
}

impl PreparedCopy<'_> {
    /// Whether it stays in one root: the server copies by itself, and there is nothing to show
    /// meanwhile.
    pub fn is_within_root(&self) -> bool {
        self.from.is_beside(&self.to)
    }

    /// Copies from one root to another, through this machine.
    ///
    /// # Errors
    ///
    /// Those of both servers. What was copied before stays.
    pub async fn carry_through(self, meter: &Meter) -> Result<(), Failure> {
        let Self { client, from, to, .. } = self;
        let Copy { moved: moves, overwrite, recursive, .. } = self.copy;
        let copy = Between { client, from, to, overwrite, recursive, moved: moves, meter };
        match moves {
            true => Box::pin(move_between(&copy)).await,
            false => Box::pin(copy_between(&copy)).await,
        }
    }

    /// Has the server copy within one root. `meter` takes note of what it says of that.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub async fn carry_out(self, meter: &Meter) -> Result<CopyAnswer, Failure> {
        let Copy { moved, overwrite, recursive, .. } = self.copy;
        let mut files = self.from.enter_as(self.client, self.face.client()).await?;
        if overwrite {
            let source = &self.from.place;
            self.destination.make_room(self.client, &mut files, source, moved).await?;
        }
        let question = Question {
            from: Blob(self.from.place.path.clone()),
            to: Blob(self.to.place.path.clone()),
            moved: moved.then_some(true),
            overwrite: Some(overwrite),
            recursive: Some(recursive),
            undo: Some(true),
        };
        let done = files.answer(self.client, Ask::Copy(question), None).await?.done;
        meter.copied(&done);
        Ok(CopyAnswer::new(self.from.place, self.to.place, done))
    }
}

impl CopyAnswer {
    fn new(source: Place, place: Place, done: Done) -> Self {
        let (unread, missed) = (Unread::of(&done), Missed::from_copy(&done));
        let Done { entry, change, count, bytes, skipped, .. } = done;
        Self { place, source, entry, change, files: count, bytes, skipped, unread, missed }
    }

    /// How many links and special files were left out.
    pub fn links(&self) -> u64 {
        self.skipped.unwrap_or(0).saturating_sub(self.unread.count)
    }
}
