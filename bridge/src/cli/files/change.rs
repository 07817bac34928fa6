//! `rm`, `mkdir`, `edit` and `patch`: changing what is there.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{
    Ask, Done, Edit as Question, Edits, MakeDirectory, Patch as Diff, Remove, Replacement,
    TEXT_LIMIT,
};
use serde_json::json;

use super::look::{entry_json, put_text};
use super::{ServerPath, editor, parse_revision};
use crate::cli::{Json, print_json};
use crate::client::Client;
use crate::files::place::Place;
use crate::files::site::Site;

/// Remove a file of a server, or a directory
///
/// `farwire files undo` brings it back, unless it was too much to be kept.
#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// Which: SERVER:PATH
    file: ServerPath,
    /// A directory with all that is in it
    #[arg(short, long)]
    recursive: bool,
    /// Only in this state of it
    #[arg(long, value_name = "REV", value_parser = parse_revision)]
    rev: Option<u64>,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Rm {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let mut at = self.file.site(client).await?;
        let remove = |place: &Place| Remove {
            path: Blob(place.path.clone()),
            recursive: Some(self.recursive),
            revision: self.rev,
            undo: Some(true),
        };
        let done = at.ask(|place| Ask::Remove(remove(place))).await?.done;
        if done.change.is_none() && !self.json.json {
            note!("farwire: it was not kept, and cannot be brought back");
        }
        told(&at, &done, self.json)
    }
}

/// Prints what a change came to, where JSON is wanted.
pub(super) fn told(at: &Site, done: &Done, json: Json) -> Result<(), Failure> {
    if !json.json {
        return Ok(());
    }
    let path = at.place.shown();
    let entry = done.entry.as_ref().map(|entry| entry_json(entry, &path));
    print_json(&json!({"path": path, "entry": entry, "change": done.change, "count": done.count}))
}

/// Make a directory on a server
#[derive(Args, Debug)]
pub(crate) struct Mkdir {
    /// Which: SERVER:PATH
    dir: ServerPath,
    /// Make those above it, and be content if it is there
    #[arg(short, long)]
    parents: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Mkdir {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let mut at = self.dir.site(client).await?;
        let make = |place: &Place| MakeDirectory {
            path: Blob(place.path.clone()),
            parents: Some(self.parents),
        };
        let done = at.ask(|place| Ask::MakeDirectory(make(place))).await?.done;
        told(&at, &done, self.json)
    }
}

/// Replace exact texts in a file of a server, all of them or none; or edit it in an editor
///
/// Prints what was changed as a diff. Without --old and --new it opens $VISUAL or $EDITOR, and writes the file back
/// if nobody has changed it meanwhile.
#[derive(Args, Debug)]
pub(crate) struct Edit {
    /// Which: SERVER:PATH
    file: ServerPath,
    /// A text that is there once; may be given several times, each with a --new
    #[arg(long, value_name = "TEXT", requires = "new")]
    old: Vec<String>,
    /// What replaces it
    #[arg(long, value_name = "TEXT", requires = "old")]
    new: Vec<String>,
    /// Replace each wherever it is
    #[arg(long, requires = "old")]
    all: bool,
    /// Only in this state of it
    #[arg(long, value_name = "REV", value_parser = parse_revision)]
    rev: Option<u64>,
    /// Only show what would be changed
    #[arg(short = 'n', long, requires = "old")]
    dry_run: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Edit {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        if self.old.len() != self.new.len() {
            return Err(Failure::new(Kind::InvalidArgument, "each --old needs a --new"));
        }
        if self.old.is_empty() {
            return editor::edit(client, &self.file, self.rev, self.json).await;
        }
        let pairs = self.old.iter().zip(&self.new);
        let one = |(old, new): (&String, &String)| Replacement {
            old: Blob(old.clone().into_bytes()),
            new: Blob(new.clone().into_bytes()),
            all: Some(self.all),
        };
        let edits = cbor::encode(&Edits { edits: pairs.map(one).collect() });
        let mut at = self.file.site(client).await?;
        let edit = |place: &Place| Question {
            path: Blob(place.path.clone()),
            revision: self.rev,
            dry: Some(self.dry_run),
            undo: Some(true),
        };
        let answer = at.ask_with(Some(&edits), |place| Ask::Edit(edit(place))).await?;
        if !self.json.json {
            put_text(&answer.content)?;
        }
        told(&at, &answer.done, self.json)
    }
}

/// Apply a unified diff to files of a server, to all of them or to none
#[derive(Args, Debug)]
pub(crate) struct Patch {
    /// The directory that the paths of the diff begin at: SERVER or SERVER:PATH
    dir: ServerPath,
    /// The diff [default: standard input]
    diff: Option<PathBuf>,
    /// Leave out so many leading components of its paths [default: `a/` and `b/`]
    #[arg(short = 'p', long, value_name = "COUNT")]
    strip: Option<u32>,
    /// Only show what would be changed
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Patch {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let limit = TEXT_LIMIT as u64 + 1;
        let mut diff = Vec::new();
        let read = match &self.diff {
            Some(path) => {
                std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut diff))
            }
            None => std::io::stdin().take(limit).read_to_end(&mut diff),
        };
        read.map_err(|error| Failure::new(Kind::Io, format!("the diff cannot be read: {error}")))?;
        let mut at = self.dir.site(client).await?;
        let patch = |place: &Place| Diff {
            path: Blob(place.path.clone()),
            strip: self.strip,
            dry: Some(self.dry_run),
            undo: Some(true),
            prefix: Some(place.prefix()),
        };
        let answer = at.ask_with(Some(&diff), |place| Ask::Patch(patch(place))).await?;
        if !self.json.json {
            put_text(&answer.content)?;
        }
        told(&at, &answer.done, self.json)
    }
}
