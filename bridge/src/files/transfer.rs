//! Files on their way between this machine and a server.
//!
//! Nothing stands under its final name before it is whole, on either side. What broke off goes on where it
//! broke off: a part is known by what it is a part of, so that also another process goes on with it. Many
//! small files go over one stream, each asked for before the answer to the one before has come.

mod down;
mod local;
mod up;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::streams::files::{Ask, Enter, Entry};
use tokio::time::sleep;

use super::Files;
use super::asked::may_come_back;
use super::place::Place;
use crate::client::{Client, Server, backoff};

pub use self::down::{download, fetch_all};
pub use self::local::Found;
pub(crate) use self::local::{beneath, failed, there_already};
pub(super) use self::local::{file_hash, walk};
pub use self::up::{send_all, upload};

/// How often in a row a transfer that makes no progress is taken up again.
const ATTEMPTS: u32 = 8;

/// Files that are larger go one by one, so that each can be gone on with.
pub(super) const LARGE: u64 = 8 << 20;

/// What to do about a directory. How that is said, each face knows.
pub(super) const WITH_ALL: &str = "say that it is meant with all that is in it";

/// How far a transfer is.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    files: AtomicU64,
    /// How many bytes there are, as far as that is known.
    all: AtomicU64,
    skipped: AtomicU64,
    /// So many of the bytes had come before.
    had: AtomicU64,
}

impl Meter {
    /// Bytes that are there, bytes that are known of, and files that are whole.
    pub fn read(&self) -> (u64, u64, u64) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (read(&self.bytes), read(&self.all), read(&self.files))
    }

    /// So many bytes were there before: they have not been moved now.
    pub fn had(&self) -> u64 {
        self.had.load(Ordering::Relaxed)
    }

    /// Links and special files that were left out.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(super) fn came(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn came_before(&self, bytes: u64) {
        self.came(bytes);
        self.had.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn whole(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn skip(&self, count: u64) {
        self.skipped.fetch_add(count, Ordering::Relaxed);
    }
}

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

    /// What a path leads to on the server.
    async fn stat(&self, path: &Blob) -> Result<Entry, Failure> {
        let mut patience = Patience::new(self.meter);
        loop {
            let asked = async {
                let mut files = self.enter().await?;
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

/// What decides whether a transfer that broke off is taken up again: as long as it gets on.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    meter: &'a Meter,
    attempt: u32,
    reached: u64,
    begun: bool,
}

impl<'a> Patience<'a> {
    pub(super) fn new(meter: &'a Meter) -> Self {
        Self { meter, attempt: 0, reached: meter.read().0, begun: false }
    }

    /// A stream was there.
    pub(super) fn entered(&mut self) {
        self.begun = true;
    }

    /// Waits until it may be tried again.
    ///
    /// # Errors
    ///
    /// The failure, if trying again would not help.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        let now = self.meter.read().0;
        self.attempt = if now > self.reached { 1 } else { self.attempt + 1 };
        self.reached = self.reached.max(now);
        let hopeless = !self.begun && now == 0;
        if hopeless || !may_come_back(failure.kind) || self.attempt > ATTEMPTS {
            return Err(failure);
        }
        tracing::info!(why = failure.message, "the transfer broke off and is taken up again");
        sleep(backoff(self.attempt)).await;
        Ok(())
    }
}
