//! The two ends of a transfer: a path here, and a path on a server.

use std::path::PathBuf;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::streams::files::{Ask, Entry};

use super::meter::Meter;
use super::patience::Patience;
use crate::client::{Client, Server};
use crate::conversation::Remote;
use crate::files::Files;
use crate::files::place::Place;

/// What to do about a directory. How that is said, each face knows.
pub(crate) const WITH_ALL: &str = "say that it is meant with all that is in it";

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
    pub(in crate::files) async fn enter(&self) -> Result<Files, Failure> {
        let request = self.remote.request("transfer");
        Files::enter(self.client, self.server, &request, Class::Bulk).await
    }

    /// The same, as the next stream of something that is done over several.
    pub(in crate::files) async fn enter_on(
        &self,
        patience: &mut Patience<'_>,
    ) -> Result<Files, Failure> {
        let request = self.remote.request("transfer");
        let remote = Remote::new(self.client, self.server);
        let files = Files::enter_on(remote, &request, Class::Bulk, patience.line.clone()).await?;
        patience.entered();
        Ok(files)
    }

    /// Whether there is anything at the path on the server.
    pub(super) async fn is_there(&self) -> Result<bool, Failure> {
        match self.stat(&Blob(self.remote.path.clone())).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind == Kind::NoSuchFile => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// What a path leads to on the server.
    pub(super) async fn stat(&self, path: &Blob) -> Result<Entry, Failure> {
        let mut patience = Patience::new(self.meter);
        loop {
            let asked = async {
                let mut files = self.enter().await?;
                patience.entered();
                let answer = files.ask(Ask::Stat(path.clone()), None).await?;
                let nothing = || Failure::new(Kind::ProtocolViolation, "the answer has no entry");
                answer.done.entry.ok_or_else(nothing)
            };
            match asked.await {
                Ok(entry) => return Ok(entry),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }
}
