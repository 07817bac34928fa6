//! Files on their way between this machine and a server.
//!
//! Nothing stands under its final name before it is whole, on either side. What broke off goes on
//! where it broke off: a part is known by what it is a part of, so that also another process goes
//! on with it. Many small files go over one stream, each asked for before the answer to the one
//! before has come.

mod down;
mod local;
mod meter;
mod rights;
mod up;

use std::path::PathBuf;
use std::sync::Arc;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::streams::files::{Ask, Enter, Entry};
use tokio::time::sleep;

use super::place::Place;
use super::{Files, Line};
use crate::client::{Client, Server};
use crate::conversation::{Persistence, Remote};

pub(super) use self::down::is_beneath;
pub use self::down::{download, fetch_all};
pub use self::local::Found;
pub(super) use self::local::{Walked, file_hash, walk};
pub(crate) use self::local::{beneath, failed, there_already};
pub(super) use self::meter::is_of_one;
pub use self::meter::{Meter, Missed};
pub(super) use self::rights::{Rights, set_here, set_there};
pub use self::up::{send_all, upload};

/// So often a file that changes while it is read is read again.
pub(super) const READINGS: u32 = 3;

/// Files that are larger go one by one, so that each can be gone on with.
pub(super) const LARGE: u64 = 8 << 20;

/// What to do about a directory. How that is said, each face knows.
pub(super) const WITH_ALL: &str = "say that it is meant with all that is in it";

/// What is transferred, and how.
#[derive(Debug)]
pub struct Transfer<'a> {
    /// The way to the server.
    pub client: &'a Client,
    /// The server.
    pub server: &'a Server,
    /// What is there.
    pub remote: Place,
    /// What is here.
    pub local: PathBuf,
    /// What is there before is replaced.
    pub overwrite: bool,
    /// Directories, with all that is in them.
    pub recursive: bool,
    /// From here to the server, and not the other way.
    pub upward: bool,
    /// How far it is.
    pub meter: &'a Meter,
}

impl Transfer<'_> {
    pub(super) async fn enter(&self) -> Result<Files, Failure> {
        let root = Some(self.remote.root.clone());
        let enter = Enter { root, client: Some("transfer".to_owned()), ..Enter::default() };
        Files::enter(self.client, self.server, &enter, Class::Bulk).await
    }

    /// The same, as the next stream of something that is done over several.
    pub(super) async fn enter_on(&self, patience: &mut Patience<'_>) -> Result<Files, Failure> {
        let root = Some(self.remote.root.clone());
        let enter = Enter { root, client: Some("transfer".to_owned()), ..Enter::default() };
        let remote = Remote::new(self.client, self.server);
        let files = Files::enter_on(remote, &enter, Class::Bulk, patience.line.clone()).await?;
        patience.entered();
        Ok(files)
    }

    /// Whether there is anything at the path on the server.
    async fn is_there(&self) -> Result<bool, Failure> {
        match self.stat(&Blob(self.remote.path.clone())).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind == Kind::NoSuchFile => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// What a path leads to on the server.
    async fn stat(&self, path: &Blob) -> Result<Entry, Failure> {
        let mut patience = Patience::new(self.meter);
        loop {
            let asked = async {
                let mut files = self.enter().await?;
                patience.entered();
                let answer = files.ask(Ask::Stat(path.clone()), None).await?;
                let nothing =
                    || Failure::new(Kind::ProtocolViolation, "an answer without an entry");
                answer.done.entry.ok_or_else(nothing)
            };
            match asked.await {
                Ok(entry) => return Ok(entry),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }
}

/// How far many files are.
#[derive(Debug, Default)]
pub(super) struct SoFar {
    /// So many were answered: they are not sent again.
    pub(super) done: usize,
    /// So many may have been sent, over all streams.
    pub(super) sent: usize,
    /// Those that were there when they were sent again: we may have put them there.
    pub(super) doubtful: Vec<usize>,
}

/// That a file was not the same while it was read.
pub(super) fn changed(shown: &str) -> Failure {
    let text = format!("{shown} changed each time while it was read");
    Failure::new(Kind::ChangedMeanwhile, text)
        .with_hint("try again when nobody writes to it, or copy it aside first")
}

/// A transfer over several streams, which goes on as long as it makes progress.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    meter: &'a Meter,
    persistence: Persistence,
    /// The streams over which something is asked for that acts.
    pub(super) line: Arc<Line>,
}

impl<'a> Patience<'a> {
    pub(super) fn new(meter: &'a Meter) -> Self {
        Self { meter, persistence: Persistence::new(meter.read().0), line: Arc::default() }
    }

    /// A stream was there.
    pub(super) fn entered(&mut self) {
        self.persistence.begun();
    }

    /// Waits until it may be tried again.
    ///
    /// # Errors
    ///
    /// The failure, if trying again would not help.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        let Some(wait) = self.persistence.after(failure.kind, self.meter.read().0) else {
            return Err(failure);
        };
        tracing::info!(why = failure.message, "the transfer broke off and is taken up again");
        sleep(wait).await;
        Ok(())
    }
}
