//! The tools of category `files`, which are not needed every day.

use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::Change;
use schemars::JsonSchema;
use serde::Deserialize;

use super::checksum::FileChecksum;
use super::edit::render_diff;
use super::size::FileSize;
use super::sync::FileSync;
use super::{describe, parse_revision};
use crate::client::Client;
use crate::files::destination::Onto;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::files::transfer::Meter;
use crate::text::header::{Header, Key};
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::arguments::budget;
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Entry, Tool};
use crate::verbs::files::copy::Copy;
use crate::verbs::files::make_directory::MakeDirectory;
use crate::verbs::files::patch::Patch;
use crate::verbs::files::remove::Remove;
use crate::verbs::files::undo::{ListChanges, Preview, Revert};
use crate::verbs::files::watch::AwaitChange;

/// The tools of category `files`, in the order in which clients list them.
pub const ALL: &[Entry] = &[
    Entry::of::<FileUndo>(),
    Entry::of::<FilePatch>(),
    Entry::of::<FileRemove>(),
    Entry::of::<FileMove>(),
    Entry::of::<FileMkdir>(),
    Entry::of::<FileWatch>(),
    Entry::of::<FileChecksum>(),
    Entry::of::<FileSize>(),
    Entry::of::<FileSync>(),
];

/// Changes something that can be undone.
const CHANGES: Effect =
    Effect { read_only: false, destructive: true, idempotent: false, open_world: false };

/// The arguments of `file_undo`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileUndo {
    /// Server name.
    pub server: String,
    /// Root, by name or path (default: the only one).
    pub path: Option<String>,
    /// undo (default), redo, list or preview.
    pub action: Option<Action>,
    /// Which change, from list (default: the latest).
    pub change: Option<u64>,
    /// Undo even if it was changed since.
    pub force: Option<bool>,
}

/// What to do with a change.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "doc comments would go into the schema that models pay for")]
pub enum Action {
    List,
    // What undoing it would change.
    Preview,
    Undo,
    Redo,
}

impl Tool for FileUndo {
    const NAME: &'static str = "file_undo";
    const TITLE: &'static str = "Undo file change";
    const ABOUT: &'static str = "List, preview, undo or redo what file tools changed on a server: writes, edits, \
        patches, moves, removals.";
    const EFFECT: Effect = CHANGES;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let root = ServerPath::new(&self.server, self.path.as_deref().unwrap_or(""));
        let (root, change, limit) = (&root, self.change, Some(50));
        match self.action.unwrap_or(Action::Undo) {
            Action::Preview => {
                let preview = Preview { root, change, redo: false, limit };
                let answer = preview.carry_out(client, Face::Mcp).await?;
                let (text, hidden) = render_diff(&answer.diff, Budget::default());
                let header = Header::new(Word::File).value(&answer.root);
                let header = header.words("preview").hidden(hidden);
                Ok(format!("{}\n{text}", header.end()))
            }
            Action::List => {
                let list = ListChanges { root, change: None, limit };
                let answer = list.carry_out(client, Face::Mcp).await?;
                let (text, shown) = table(&answer.changes).within(budget(None));
                let header = Header::new(Word::File).value(&answer.root);
                Ok(format!("{}\n{text}", header.field(Key::Entries, shown).end()))
            }
            Action::Undo => self.revert(client, root, false).await,
            Action::Redo => self.revert(client, root, true).await,
        }
    }
}

impl FileUndo {
    async fn revert(
        &self,
        client: &Client,
        root: &ServerPath,
        redo: bool,
    ) -> Result<String, Failure> {
        let (change, force) = (self.change, self.force.unwrap_or(false));
        let answer = Revert { root, change, redo, force }.carry_out(client, Face::Mcp).await?;
        let header = Header::new(Word::File).value(&answer.root);
        let header = header.field(Key::Change, answer.change.unwrap_or(0));
        Ok(format!("{}\n", header.words(if redo { "redone" } else { "undone" }).end()))
    }
}

fn table(changes: &[Change]) -> Table {
    let mut table = Table::new().limit(4, 200);
    for change in changes {
        let paths: Vec<_> = change.paths.iter().map(|path| quote(path).into_owned()).collect();
        let age = human::duration(Duration::from_millis(change.age_ms));
        let state = if change.undone == Some(true) { "undone" } else { "done" };
        table.row([&change.change.to_string(), &change.verb, state, &age, &paths.join(" ")]);
    }
    table
}

/// The arguments of `file_patch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePatch {
    /// Server name.
    pub server: String,
    /// Directory that the diff's paths are relative to (default: the root).
    pub path: Option<String>,
    /// A unified diff, of one file or several.
    pub diff: String,
    /// Leading path components to strip (default: prefixes such as a/ and b/).
    pub strip: Option<u32>,
    /// Only show what would change.
    pub dry_run: Option<bool>,
}

impl Tool for FilePatch {
    const NAME: &'static str = "file_patch";
    const TITLE: &'static str = "Apply patch";
    const ABOUT: &'static str = "Apply a unified diff to files on a server: all of them or none. Can be undone \
        with file_undo.";
    const EFFECT: Effect = CHANGES;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let dir = ServerPath::new(&self.server, self.path.as_deref().unwrap_or(""));
        let (strip, dry_run) = (self.strip, self.dry_run.unwrap_or(false));
        let patch = Patch { dir: &dir, diff: self.diff.as_bytes(), strip, dry_run };
        let answer = patch.carry_out(client, Face::Mcp).await?;
        let word = if dry_run { "would-patch" } else { "patched" };
        let mut header = Header::new(Word::File).value(&answer.changed.place.to_text());
        header = header.words(format_args!("{word} {} files", answer.files));
        if let Some(change) = answer.changed.change {
            header = header.field(Key::Change, change);
        }
        let (text, hidden) = render_diff(&answer.text, Budget::default());
        Ok(format!("{}\n{text}", header.hidden(hidden).end()))
    }
}

/// The arguments of `file_remove`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRemove {
    /// Server name.
    pub server: String,
    /// Path on the server.
    pub path: String,
    /// A directory with its contents.
    pub recursive: Option<bool>,
    /// From file_read; fails if the file has changed since.
    pub rev: Option<String>,
}

impl Tool for FileRemove {
    const NAME: &'static str = "file_remove";
    const TITLE: &'static str = "Remove file";
    const ABOUT: &'static str = "Remove a file or a directory on a server. file_undo restores it, \
        unless it was too large to keep: then the result has no change number.";
    const EFFECT: Effect = CHANGES;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let revision = self.rev.as_deref().map(parse_revision).transpose()?;
        let path = ServerPath::new(&self.server, &self.path);
        let recursive = self.recursive.unwrap_or(false);
        let remove = Remove { path: &path, recursive, revision };
        let changed = remove.carry_out(client, Face::Mcp).await?;
        let mut header = Header::new(Word::File).value(&changed.place.to_text()).words("removed");
        if let Some(change) = changed.change {
            header = header.field(Key::Change, change);
        }
        Ok(format!("{}\n", header.end()))
    }
}

/// The arguments of `file_move`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileMove {
    /// Server name.
    pub server: String,
    /// Path on the server.
    pub from: String,
    /// New path on the same server, or a directory there.
    pub to: String,
    /// Replace an existing file or an empty directory.
    pub overwrite: Option<bool>,
}

impl Tool for FileMove {
    const NAME: &'static str = "file_move";
    const TITLE: &'static str = "Move file";
    const ABOUT: &'static str =
        "Move or rename a file or directory on a server. Can be undone with file_undo.";
    const EFFECT: Effect = CHANGES;

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let from = ServerPath::new(&self.server, &self.from);
        let to = ServerPath::new(&self.server, &self.to);
        let copy = Copy {
            from: &from,
            to: &to,
            moved: true,
            overwrite: self.overwrite.unwrap_or(false),
            recursive: true,
            onto: Onto::Inside,
            within_root: true,
        };
        let answer = copy.prepare(client, Face::Mcp).await?.carry_out(&Meter::default()).await?;
        let mut header = Header::new(Word::File).value(&answer.place.to_text()).words("moved");
        if let Some(entry) = &answer.entry {
            header = describe(header, entry);
        }
        if let Some(change) = answer.change {
            header = header.field(Key::Change, change);
        }
        Ok(format!("{}\n", header.end()))
    }
}

/// The arguments of `file_mkdir`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileMkdir {
    /// Server name.
    pub server: String,
    /// Path on the server; missing parents are made, too.
    pub path: String,
}

impl Tool for FileMkdir {
    const NAME: &'static str = "file_mkdir";
    const TITLE: &'static str = "Make directory";
    const ABOUT: &'static str = "Make a directory on a server, with missing parents.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: true, open_world: false };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let dir = ServerPath::new(&self.server, &self.path);
        let make = MakeDirectory { dir: &dir, parents: true };
        let place = make.carry_out(client, Face::Mcp).await?.place;
        let header = Header::new(Word::File).value(&place.to_text()).words("made");
        Ok(format!("{}\n", header.end()))
    }
}

/// The arguments of `file_watch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileWatch {
    /// Server name.
    pub server: String,
    /// File or directory on the server.
    pub path: String,
    /// Seconds (default 25; 0 = now).
    pub wait: Option<f64>,
    /// From file_read: return at once if it differs.
    pub rev: Option<String>,
    /// Also all directories under it.
    pub recursive: Option<bool>,
}

impl Tool for FileWatch {
    const NAME: &'static str = "file_watch";
    const TITLE: &'static str = "Watch file";
    const ABOUT: &'static str = "Wait until a file on a server, or something in a directory, changes: returns on \
        the change, or when wait is over.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, seat: &Seat, caller: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let (wait, limited) = seat.wait(self.wait)?;
        let revision = self.rev.as_deref().map(parse_revision).transpose()?;
        let path = ServerPath::new(&self.server, &self.path);
        let mut site = path.site(client, Face::Mcp).await?;
        let watch = AwaitChange { wait, revision, recursive: self.recursive.unwrap_or(false) };
        let answer = tokio::select! {
            answer = watch.carry_out(&mut site) => answer?,
            () = caller.cancelled.cancelled() => {
                return Err(Failure::new(Kind::Cancelled, "the wait was cancelled"));
            }
        };
        let mut header = Header::new(Word::File).value(&answer.place.to_text());
        header = header.words(if answer.changed { "changed" } else { "unchanged" });
        if let Some(entry) = answer.entry.as_ref().filter(|entry| entry.revision != 0) {
            header = describe(header, entry);
        }
        if limited {
            header = header.field(Key::WaitLimit, human::duration(wait));
        }
        let mut table = Table::new().limit(1, 5_000);
        for entry in &answer.entries {
            let word = if entry.revision == 0 { "gone" } else { "changed" };
            table.row([word, &quote(&entry.path)]);
        }
        let (text, _) = table.within(budget(None));
        Ok(format!("{}\n{text}", header.end()))
    }
}
