//! `cp` and `mv`: on a server, or from one to another.

use clap::Args;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Copy};
use serde_json::json;

use super::moved::shown;
use super::{FACE, ServerPath, incomplete, missed_json, named};
use crate::cli::{Json, print_json};
use crate::client::Client;
use crate::files::across::{Across, End, across, moved};
use crate::files::landing::{Onto, landing};
use crate::files::transfer::{Meter, Missed};

/// Copy on a server, or from one to another
///
/// Into a directory that is there it is put under its own name. From one root to another, and from one server to
/// another, it goes through this machine, and never onto its disk.
#[derive(Args, Debug)]
pub(crate) struct Cp {
    /// Which: SERVER:PATH
    from: ServerPath,
    /// Where to: SERVER:PATH
    to: ServerPath,
    /// A directory with all that is in it
    #[arg(short, long)]
    recursive: bool,
    /// Replace a file that is there, or an empty directory
    #[arg(short, long)]
    force: bool,
    /// The new path is the whole of it, also if a directory is there
    #[arg(short = 'T', long = "no-target-directory")]
    exact: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Move or rename on a server, or move from one to another
///
/// Into a directory that is there it is put under its own name. From one root or server to another it is copied,
/// compared by content, and only then removed.
#[derive(Args, Debug)]
pub(crate) struct Mv {
    /// Which: SERVER:PATH
    from: ServerPath,
    /// Where to: SERVER:PATH
    to: ServerPath,
    /// Replace a file that is there, or an empty directory
    #[arg(short, long)]
    force: bool,
    /// The new path is the whole of it, also if a directory is there
    #[arg(short = 'T', long = "no-target-directory")]
    exact: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// What is done, and how.
#[derive(Clone, Copy)]
struct How {
    moved: bool,
    overwrite: bool,
    recursive: bool,
    exact: bool,
}

impl Cp {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let &Self { recursive, force: overwrite, exact, .. } = self;
        let how = How { moved: false, overwrite, recursive, exact };
        copy(client, (&self.from, &self.to), how, self.json).await
    }
}

impl Mv {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let &Self { force: overwrite, exact, .. } = self;
        let how = How { moved: true, overwrite, recursive: true, exact };
        copy(client, (&self.from, &self.to), how, self.json).await
    }
}

async fn copy(
    client: &Client,
    (from, to): (&ServerPath, &ServerPath),
    How { moved: moves, overwrite, recursive, exact }: How,
    json: Json,
) -> Result<u8, Failure> {
    let (source, from) = from.place(client).await?;
    let (server, to) = to.place(client).await?;
    let (from, to) = (End { server: source, place: from }, End { server, place: to });
    let onto = if exact { Onto::Itself } else { Onto::Inside };
    let landing = Box::pin(landing(client, (&from, &to), onto, recursive)).await?;
    let to = End { place: landing.place.clone(), ..to };
    if !from.is_beside(&to) {
        let meter = Meter::default();
        let copy = Across { client, from, to, overwrite, recursive, moved: moves, meter: &meter };
        return match moves {
            true => Box::pin(shown(&meter, json, moved(&copy))).await,
            false => Box::pin(shown(&meter, json, across(&copy))).await,
        };
    }
    let place = from.place.clone();
    let mut files = from.enter_as(client, FACE).await?;
    if overwrite {
        landing.make_room(client, &mut files, (&from.place, moves)).await?;
    }
    let copy = Copy {
        from: Blob(from.place.path.clone()),
        to: Blob(to.place.path.clone()),
        moved: Some(moves),
        overwrite: Some(overwrite),
        recursive: Some(recursive),
        undo: Some(true),
    };
    let done = files.answer(client, Ask::Copy(copy), None).await?.done;
    let unread = done.unread.unwrap_or(0);
    let links = done.skipped.unwrap_or(0).saturating_sub(unread);
    if links > 0 {
        let names = if unread > 0 { String::new() } else { named(&place, &done) };
        note!("farwire: {links} links and special files were left out{names}");
    }
    let missed = Missed::from_copy(&done);
    if json.json {
        print_json(&json!({
            "path": to.place.shown(), "files": done.count, "bytes": done.bytes, "skipped": done.skipped,
            "change": done.change, "failed": missed_json(&missed),
        }))?;
    }
    if unread > 0 {
        let text = format!("{unread} files or directories were not copied");
        return Ok(incomplete(&missed, &Failure::new(Kind::Incomplete, text)));
    }
    Ok(0)
}
