//! The tools of category `files`: what is not needed every day.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quoted;
use farwire_protocol::streams::files::{
    Ask, Changes, Copy, MakeDirectory, Patch, Remove, Revert, Watch,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

use super::checksum::FileChecksum;
use super::edit::shown;
use super::size::FileSize;
use super::sync::FileSync;
use super::{FACE, described, parse_revision, site};
use crate::files::across::End;
use crate::files::landing::{Onto, landing};
use crate::files::place::{Place, find, path_of};
use crate::files::site::Site;
use crate::text::header::{Header, Key};
use crate::text::shown::Budget;
use crate::text::table::Table;
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Entry, Tool, budget};

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

/// Changes something that can be brought back.
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
    /// Default: undo.
    pub action: Option<Action>,
    /// Which change, from list (default: the latest).
    pub change: Option<u64>,
    /// Also if it was changed since.
    pub force: Option<bool>,
}

/// What is done about a change.
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

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let server = client.find(&self.server).await?;
        let path = path_of(self.path.as_deref().unwrap_or(""));
        let mut at = Site::find_root(client, server, &path, FACE).await?;
        let action = self.action.unwrap_or(Action::Undo);
        match action {
            Action::List | Action::Preview => {
                let change = self.change.filter(|_| action == Action::Preview);
                let next = (action == Action::Preview && change.is_none()).then_some(false);
                let asked = Changes { change, limit: Some(50), next };
                let answer = at.ask(|_| Ask::Changes(asked.clone())).await?;
                let header = Header::new(Word::File).value(&at.place.root);
                if action == Action::Preview {
                    let (text, hidden) = shown(&answer.content, Budget::default());
                    let header = header.words("preview").hidden(hidden);
                    return Ok(format!("{}\n{text}", header.end()));
                }
                let mut table = Table::new().limit(4, 200);
                for change in &answer.changes {
                    let paths: Vec<_> =
                        change.paths.iter().map(|path| quoted(path).into_owned()).collect();
                    let age = human::duration(Duration::from_millis(change.age_ms));
                    let state = if change.undone == Some(true) { "undone" } else { "done" };
                    table.row([
                        &change.change.to_string(),
                        &change.verb,
                        state,
                        &age,
                        &paths.join(" "),
                    ]);
                }
                let (text, shown) = table.within(budget(None));
                Ok(format!("{}\n{text}", header.field(Key::Entries, shown).end()))
            }
            Action::Undo | Action::Redo => {
                let redo = Some(action == Action::Redo);
                let revert = Revert { change: self.change, redo, force: self.force };
                let done = at.ask(|_| Ask::Revert(revert.clone())).await?.done;
                let header = Header::new(Word::File).value(&at.place.root);
                let word = if action == Action::Redo { "redone" } else { "undone" };
                let header = header.field(Key::Change, done.change.unwrap_or(0)).words(word);
                Ok(format!("{}\n", header.end()))
            }
        }
    }
}

/// The arguments of `file_patch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePatch {
    /// Server name.
    pub server: String,
    /// Directory of the diff's paths (default: the root).
    pub path: Option<String>,
    /// A unified diff, of one file or several.
    pub diff: String,
    /// Leading components to leave out (default: a/ b/).
    pub strip: Option<u32>,
    /// Only say what would change.
    pub dry_run: Option<bool>,
}

impl Tool for FilePatch {
    const NAME: &'static str = "file_patch";
    const TITLE: &'static str = "Apply patch";
    const ABOUT: &'static str = "Apply a unified diff to files on a server: all of them or none. Can be undone \
        with file_undo.";
    const EFFECT: Effect = CHANGES;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let mut at = site(client, &self.server, self.path.as_deref().unwrap_or("")).await?;
        let patch = |place: &Place| {
            let (path, prefix) = (Blob(place.path.clone()), Some(place.prefix()));
            let (strip, dry) = (self.strip, self.dry_run);
            Ask::Patch(Patch { path, strip, dry, undo: Some(true), prefix })
        };
        let answer = at.ask_with(Some(self.diff.as_bytes()), patch).await?;
        let word = if self.dry_run.unwrap_or(false) { "would-patch" } else { "patched" };
        let files = answer.done.files.unwrap_or(0);
        let mut header = Header::new(Word::File).value(&at.place.shown());
        header = header.words(format_args!("{word} {files} files"));
        if let Some(change) = answer.done.change {
            header = header.field(Key::Change, change);
        }
        let (text, hidden) = shown(&answer.content, Budget::default());
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
    /// A directory with all in it.
    pub recursive: Option<bool>,
    /// Only if the file is still this one.
    pub rev: Option<String>,
}

impl Tool for FileRemove {
    const NAME: &'static str = "file_remove";
    const TITLE: &'static str = "Remove file";
    const ABOUT: &'static str = "Remove a file or a directory on a server. file_undo brings it back, unless it was \
        too large to be kept: then the header has no change.";
    const EFFECT: Effect = CHANGES;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let revision = self.rev.as_deref().map(parse_revision).transpose()?;
        let mut at = site(client, &self.server, &self.path).await?;
        let remove = |place: &Place| {
            let path = Blob(place.path.clone());
            Ask::Remove(Remove { path, recursive: self.recursive, revision, undo: Some(true) })
        };
        let done = at.ask(remove).await?.done;
        let mut header = Header::new(Word::File).value(&at.place.shown()).words("removed");
        if let Some(change) = done.change {
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
    /// Replace a file that is there, or an empty directory.
    pub overwrite: Option<bool>,
}

impl Tool for FileMove {
    const NAME: &'static str = "file_move";
    const TITLE: &'static str = "Move file";
    const ABOUT: &'static str =
        "Move or rename a file or directory on a server. Can be undone with file_undo.";
    const EFFECT: Effect = CHANGES;

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let server = client.find(&self.server).await?;
        let from = find(client, &server, &path_of(&self.from)).await?;
        let to = find(client, &server, &path_of(&self.to)).await?;
        let (from, to) = (End { server: server.clone(), place: from }, End { server, place: to });
        let mut files = from.enter_as(client, FACE).await?;
        if !from.is_beside(&to) {
            return Err(Failure::new(Kind::Unsupported, "file_move: not from one root to another")
                .with_hint("file_copy it, then file_remove it"));
        }
        let landing = Box::pin(landing(client, (&from, &to), Onto::Inside, true)).await?;
        if self.overwrite.unwrap_or(false) {
            landing.make_room(client, &mut files, (&from.place, true)).await?;
        }
        let target = &landing.place;
        let copy = Copy {
            from: Blob(from.place.path.clone()),
            to: Blob(target.path.clone()),
            moved: Some(true),
            overwrite: self.overwrite,
            recursive: Some(true),
            undo: Some(true),
        };
        let done = files.answer(client, Ask::Copy(copy), None).await?.done;
        let mut header = Header::new(Word::File).value(&target.shown()).words("moved");
        if let Some(entry) = &done.entry {
            header = described(header, entry);
        }
        if let Some(change) = done.change {
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
    /// Path on the server; those above it are made, too.
    pub path: String,
}

impl Tool for FileMkdir {
    const NAME: &'static str = "file_mkdir";
    const TITLE: &'static str = "Make directory";
    const ABOUT: &'static str = "Make a directory on a server, and those above it.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: false, idempotent: true, open_world: false };

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let mut at = site(client, &self.server, &self.path).await?;
        let make = |place: &Place| {
            let path = Blob(place.path.clone());
            Ask::MakeDirectory(MakeDirectory { path, parents: Some(true) })
        };
        at.ask(make).await?;
        let header = Header::new(Word::File).value(&at.place.shown()).words("made");
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
    /// From file_read: return at once if it is another.
    pub rev: Option<String>,
    /// All directories beneath it, too.
    pub recursive: Option<bool>,
}

impl Tool for FileWatch {
    const NAME: &'static str = "file_watch";
    const TITLE: &'static str = "Watch file";
    const ABOUT: &'static str = "Wait until a file on a server, or something in a directory, changes: returns on \
        the change, or when wait is over.";
    const EFFECT: Effect = Effect::READS;

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let (wait, limited) = desk.wait(self.wait)?;
        let revision = self.rev.as_deref().map(parse_revision).transpose()?;
        let mut at = site(client, &self.server, &self.path).await?;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let watch = |place: &Place| {
            let path = Blob(place.path.clone());
            Ask::Watch(Watch { path, wait_ms, revision, deep: self.recursive })
        };
        let answer = tokio::select! {
            answer = at.ask(watch) => answer?,
            () = caller.cancelled.cancelled() => {
                return Err(Failure::new(Kind::Cancelled, "the wait was cancelled"));
            }
        };
        let mut header = Header::new(Word::File).value(&at.place.shown());
        header = header.words(if answer.done.count == Some(0) { "unchanged" } else { "changed" });
        if let Some(entry) = answer.done.entry.as_ref().filter(|entry| entry.revision != 0) {
            header = described(header, entry);
        }
        if limited {
            header = header.field(Key::WaitLimit, human::duration(wait));
        }
        let mut table = Table::new().limit(1, 5_000);
        for entry in &answer.entries {
            let word = if entry.revision == 0 { "gone" } else { "changed" };
            table.row([word, &quoted(&entry.path)]);
        }
        let (text, _) = table.within(budget(None));
        Ok(format!("{}\n{text}", header.end()))
    }
}
