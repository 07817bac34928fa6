//! `rm`, `mkdir`, `edit` and `patch`: changing files and directories.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Replacement, TEXT_LIMIT};
use serde_json::json;

use super::arguments::parse_revision;
use super::editor;
use super::look::{entry_json, put_text};
use crate::cli::output::{Json, print_json};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::verbs::files::Changed;
use crate::verbs::files::edit::Edit as Replace;
use crate::verbs::files::make_directory::MakeDirectory;
use crate::verbs::files::patch::Patch as Apply;
use crate::verbs::files::remove::Remove;

/// Remove a file or a directory on a server
///
/// `farwire files undo` restores it, unless it was too large to keep.
#[derive(Args, Debug)]
pub(crate) struct Rm {
    /// The file or directory: SERVER:PATH
    file: ServerPath,
    /// Remove a directory with everything in it
    #[arg(short, long)]
    recursive: bool,
    /// Only if the file's revision is still REV, as `farwire files stat` prints it
    #[arg(long, value_name = "REV", value_parser = parse_revision)]
    rev: Option<u64>,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Rm {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let (recursive, revision) = (self.recursive, self.rev);
        let remove = Remove { path: &self.file, recursive, revision };
        let changed = remove.carry_out(client, Face::Cli).await?;
        if changed.change.is_none() && !self.json.json {
            note!("farwire: no copy was kept, so it cannot be restored");
        }
        print_change(&changed, self.json)
    }
}

/// Prints the result of a change, as JSON if that is wanted.
pub(super) fn print_change(changed: &Changed, json: Json) -> Result<(), Failure> {
    if !json.json {
        return Ok(());
    }
    let path = changed.place.to_text();
    let entry = changed.entry.as_ref().map(|entry| entry_json(entry, &path));
    print_json(
        &json!({"path": path, "entry": entry, "change": changed.change, "count": changed.count}),
    )
}

/// Make a directory on a server
#[derive(Args, Debug)]
pub(crate) struct Mkdir {
    /// The new directory: SERVER:PATH
    dir: ServerPath,
    /// Create its parents, too; succeed if it exists
    #[arg(short, long)]
    parents: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Mkdir {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let make = MakeDirectory { dir: &self.dir, parents: self.parents };
        print_change(&make.carry_out(client, Face::Cli).await?, self.json)
    }
}

/// Replace exact texts in a file on a server, all of them or none; or open it in an editor
///
/// Prints the change as a diff. Without --old and --new, opens $VISUAL or $EDITOR, and writes the
/// file back if nobody has changed it meanwhile.
#[derive(Args, Debug)]
pub(crate) struct Edit {
    /// The file: SERVER:PATH
    file: ServerPath,
    /// Text to replace; must occur exactly once; may be given several times, each with a --new
    #[arg(long, value_name = "TEXT", requires = "new")]
    old: Vec<String>,
    /// The replacement
    #[arg(long, value_name = "TEXT", requires = "old")]
    new: Vec<String>,
    /// Replace every occurrence
    #[arg(long, requires = "old")]
    all: bool,
    /// Only if the file's revision is still REV, as `farwire files stat` prints it
    #[arg(long, value_name = "REV", value_parser = parse_revision)]
    rev: Option<u64>,
    /// Only show what would change
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
        let replace = Replace {
            file: &self.file,
            edits: pairs.map(one).collect(),
            revision: self.rev,
            dry_run: self.dry_run,
        };
        let answer = replace.carry_out(client, Face::Cli).await?;
        if !self.json.json {
            put_text(&answer.text)?;
        }
        print_change(&answer.changed, self.json)
    }
}

/// Apply a unified diff to files on a server, to all of them or to none
#[derive(Args, Debug)]
pub(crate) struct Patch {
    /// The directory that the paths in the diff are relative to: SERVER or SERVER:PATH
    dir: ServerPath,
    /// The diff [default: standard input]
    diff: Option<PathBuf>,
    /// Strip this many leading path components, as `patch -p` does [default: only prefixes such as
    /// `a/` and `b/`]
    #[arg(short = 'p', long, value_name = "COUNT")]
    strip: Option<u32>,
    /// Only show what would change
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
        let (dir, strip, dry_run) = (&self.dir, self.strip, self.dry_run);
        let apply = Apply { dir, diff: &diff, strip, dry_run };
        let answer = apply.carry_out(client, Face::Cli).await?;
        if !self.json.json {
            put_text(&answer.text)?;
        }
        print_change(&answer.changed, self.json)
    }
}
