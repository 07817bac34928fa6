//! `file_copy`: files between this machine and servers, and on a server.

use std::time::{Duration, Instant};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::Client;
use crate::files::destination::Onto;
use crate::files::place::Endpoint;
use crate::files::site::Face;
use crate::files::transfer::{Meter, WITH_ALL};
use crate::text::header::{Header, Key};
use crate::text::neutral::neutral_within;
use crate::text::{Word, human};
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::files::copy::Copy;
use crate::verbs::files::transfer::{Fetch, Send};

/// At most this many skipped entries are named.
const NAMED: usize = 20;

/// How often progress is reported.
const TOLD: Duration = Duration::from_secs(1);

/// The arguments of `file_copy`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileCopy {
    /// SERVER:PATH, or an absolute local path.
    pub from: String,
    /// As `from`.
    pub to: String,
    /// Directories with their contents.
    pub recursive: Option<bool>,
    /// Replace what exists.
    pub overwrite: Option<bool>,
}

impl Tool for FileCopy {
    const NAME: &'static str = "file_copy";
    const TITLE: &'static str = "Copy files";
    const ABOUT: &'static str = "Copy, upload or download files and directories: on a server, between two \
        servers, or between a server and this computer.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: true, open_world: false };

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let begun = Instant::now();
        let meter = Meter::default();
        let copied = watch_progress(caller, &meter, Box::pin(self.carry_out(client, &meter))).await;
        let (files, bytes) = copied.map_err(for_models)?;
        meter.outcome().map_err(for_models)?;
        let header =
            Header::new(Word::Copy).words(format_args!("{files} files {}", human::size(bytes)));
        let mut header = header.time(begun.elapsed());
        if meter.skipped() > 0 {
            header = header.field(Key::Skipped, meter.skipped());
        }
        Ok(format!("{}\n{}", header.end(), notes(&meter)))
    }
}

/// Notes about single files: what was left out, and what grew.
pub(super) fn notes(meter: &Meter) -> String {
    let left_out = meter.left_out();
    let names = left_out.iter().take(NAMED).map(|path| format!("left out: {}\n", quote(path)));
    let more = left_out.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("left out: {more} more\n"));
    let remarks = meter.remarks().into_iter().take(NAMED);
    let remarks = remarks.map(|text| format!("{}\n", neutral_within(&text, 1_000)));
    names.chain(more).chain(remarks).collect()
}

/// Waits for a transfer, reports its progress, and stops when the caller cancels.
pub(super) async fn watch_progress<T>(
    caller: &Caller,
    meter: &Meter,
    moved: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::pin!(moved);
    loop {
        tokio::select! {
            moved = &mut moved => return moved,
            () = caller.cancelled.cancelled() => {
                return Err(Failure::new(Kind::Cancelled, "it was cancelled")
                    .with_hint("the same call resumes where it stopped"));
            }
            () = tokio::time::sleep(TOLD) => {
                let (bytes, all, files) = meter.read();
                if let Some(progress) = &caller.progress {
                    let text = format!("{files} files, {} of {}", human::size(bytes), human::size(all));
                    // A client that misses this one gets the next.
                    let _ = progress.try_send((files, text));
                }
            }
        }
    }
}

impl FileCopy {
    /// Returns how many files and bytes were copied.
    async fn carry_out(&self, client: &Client, meter: &Meter) -> Result<(u64, u64), Failure> {
        let overwrite = self.overwrite.unwrap_or(false);
        let recursive = self.recursive.unwrap_or(false);
        match (Endpoint::parse(&self.from), Endpoint::parse(&self.to)) {
            (Endpoint::There(from), Endpoint::There(to)) => {
                let copy = Copy {
                    from: &from,
                    to: &to,
                    moved: false,
                    overwrite,
                    recursive,
                    onto: Onto::FilesInside,
                    within_root: false,
                };
                return between(client, copy, meter).await;
            }
            (Endpoint::Here(_), Endpoint::Here(_)) => {
                return Err(Failure::new(
                    Kind::InvalidArgument,
                    "file_copy: neither from nor to is on a server",
                )
                .with_hint("name a server's file as SERVER:PATH"));
            }
            (Endpoint::Here(from), Endpoint::There(to)) => {
                let send = Send { from, to: &to, overwrite, recursive };
                send.carry_out(client, Face::Mcp, meter).await?;
            }
            (Endpoint::There(from), Endpoint::Here(to)) => {
                let fetch = Fetch { from: &from, to: Some(to), overwrite, recursive };
                fetch.carry_out(client, Face::Mcp, meter).await?;
            }
        }
        let (bytes, _, files) = meter.read();
        Ok((files, bytes))
    }
}

/// Copies between servers, or on one.
async fn between(client: &Client, copy: Copy<'_>, meter: &Meter) -> Result<(u64, u64), Failure> {
    let prepared = copy.prepare(client, Face::Mcp).await?;
    if !prepared.is_within_root() {
        prepared.carry_through(meter).await?;
        let (bytes, _, files) = meter.read();
        return Ok((files, bytes));
    }
    let answer = prepared.carry_out(meter).await?;
    Ok((answer.files.unwrap_or(0), answer.bytes.unwrap_or(0)))
}

/// The same failure, with the model's argument in the hint instead of the command line's option.
fn for_models(failure: Failure) -> Failure {
    match failure.kind {
        Kind::FileExists => failure.with_hint("overwrite=true replaces it, or choose another name"),
        Kind::NotAFile if failure.hint.as_deref() == Some(WITH_ALL) => {
            failure.with_hint("recursive=true copies a directory with everything in it")
        }
        _ => failure,
    }
}
