//! `archive`: a directory of a server as one tar archive, as the server writes it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Archive as Question, Ask, Done, Entry, ToBridge};
use serde_json::json;
use tempfile::NamedTempFile;

use super::{ServerPath, incomplete, missed_json};
use crate::cli::{Json, print_bytes, print_json};
use crate::client::Client;
use crate::files::Said;
use crate::files::transfer::{Missed, failed, there_already};
use crate::text::human;

/// At most this many files that changed are named.
const CHANGED: usize = 10_000;

/// Write a directory of a server as a tar archive, with all that is in it
///
/// To standard output, or to a file that gets its name once it is whole. Files and directories are in it, with
/// their rights and times; links and special files are left out, and counted. Nothing is packed: a pipe to
/// `zstd` or `gzip` does that.
#[derive(Args, Debug)]
pub(crate) struct Archive {
    /// Which directory: SERVER or SERVER:PATH
    dir: ServerPath,
    /// To this file, and not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(short, long, requires = "output")]
    force: bool,
    /// Leave out what begins with a dot, and what .gitignore names
    #[arg(long)]
    tidy: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Archive {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let begun = Instant::now();
        let (done, changed) = match &self.output {
            Some(path) => {
                let mut target = Target::begin(path, self.force)?;
                let fetched = self.fetch(client, &mut |bytes| target.write(bytes)).await?;
                target.finish()?;
                fetched
            }
            None if self.json.json || io::stdout().is_terminal() => {
                return Err(Failure::new(
                    Kind::InvalidArgument,
                    "an archive is nothing to look at",
                )
                .with_hint("-o FILE, or a pipe: `farwire files archive SERVER:DIR | tar -t`"));
            }
            None => self.fetch(client, &mut print_bytes).await?,
        };
        let unread = done.unread.unwrap_or(0);
        let links = done.skipped.unwrap_or(0).saturating_sub(unread);
        if links > 0 {
            note!("farwire: {links} links and special files were left out");
        }
        let (bytes, files) = (done.bytes.unwrap_or(0), done.files.unwrap_or(0));
        if self.json.json {
            print_json(&json!({
                "files": files, "bytes": bytes, "skipped": done.skipped.unwrap_or(0),
                "failed": missed_json(&changed), "seconds": begun.elapsed().as_secs_f64(),
            }))?;
        } else if io::stderr().is_terminal() {
            let (bytes, time) = (human::size(bytes), human::duration(begun.elapsed()));
            note!("{files} files, {bytes} in {time}");
        }
        if unread > 0 {
            let text = format!("{unread} files or directories could not be read");
            return Ok(incomplete(&changed, &Failure::new(Kind::PermissionDenied, text)));
        }
        if changed.is_empty() {
            return Ok(0);
        }
        let text = format!("{} files changed while they were read", changed.len());
        let failure = Failure::new(Kind::ChangedMeanwhile, text)
            .with_hint("what the archive has of them may be a mixture: write it again");
        Ok(incomplete(&changed, &failure))
    }

    /// Has the archive written; returns what the server says of it, and the files that changed while they were read or
    /// could not be read.
    async fn fetch(
        &self,
        client: &Client,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(Done, Vec<Missed>), Failure> {
        let mut at = self.dir.site(client).await?;
        at.enter().await?;
        let path = Blob(at.place.path.clone());
        let question = Question { path, tidy: self.tidy.then_some(true) };
        let files = at.files().await?;
        files.up.ask(Ask::Archive(question))?;
        files.up.flush().await?;
        let (mut came, mut changed): (u64, _) = (0, Vec::new());
        loop {
            match files.down.next().await? {
                Said::Content(bytes) => {
                    came += bytes.len() as u64;
                    take(&bytes)?;
                }
                Said::Message(ToBridge::Done(done)) => {
                    if let Some(failure) = done.failure {
                        return Err(failure);
                    }
                    if done.bytes != Some(came) {
                        let text = "not all of the archive came";
                        return Err(Failure::new(Kind::StreamTruncated, text));
                    }
                    let one = |path: &Blob| Missed {
                        path: path.0.clone(),
                        why: Failure::new(Kind::PermissionDenied, "it could not be read"),
                    };
                    changed.extend(done.names.iter().flatten().map(one));
                    return Ok((*done, changed));
                }
                Said::Message(ToBridge::Entries(entries)) => {
                    let one = |entry: Entry| Missed {
                        path: entry.path.0,
                        why: Failure::new(Kind::ChangedMeanwhile, "it changed while it was read"),
                    };
                    changed.extend(entries.into_iter().take(CHANGED - changed.len()).map(one));
                }
                Said::Message(_) => {}
            }
        }
    }
}

/// A file that gets its name once it is whole.
struct Target<'a> {
    path: &'a Path,
    force: bool,
    file: NamedTempFile,
}

impl<'a> Target<'a> {
    fn begin(path: &'a Path, force: bool) -> Result<Self, Failure> {
        // It is looked at again at the end: this one spares whoever forgot `--force` the wait.
        if !force && path.symlink_metadata().is_ok() {
            return Err(there_already(path));
        }
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new().prefix(".farwire-").make_in(above, |path| {
            // With the rights that any new file has.
            File::options().write(true).create_new(true).open(path)
        });
        let file = file.map_err(|error| failed(path, &error))?;
        Ok(Self { path, force, file })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| failed(self.path, &error))
    }

    fn finish(self) -> Result<(), Failure> {
        let named = match self.force {
            true => self.file.persist(self.path),
            false => self.file.persist_noclobber(self.path),
        };
        named.map(drop).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => there_already(self.path),
            _ => failed(self.path, &error.error),
        })
    }
}
