//! `file_edit`: exact texts are replaced, all of them or none.

use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Edit, Edits, Replacement};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{described, enter, parse_revision, visible};
use crate::text::header::{Header, Key};
use crate::text::{Word, imitation};
use crate::tools::{Caller, Desk, Effect, Tool};

/// The arguments of `file_edit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileEdit {
    /// Server name.
    pub server: String,
    /// Path on the server.
    pub path: String,
    /// Done in order, all or none.
    pub edits: Vec<OneEdit>,
    /// Only if the file is still this one.
    pub rev: Option<String>,
    /// Only show the diff.
    pub dry_run: Option<bool>,
}

/// One replacement.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneEdit {
    /// Exact text, there once.
    pub old: String,
    /// What replaces it.
    pub new: String,
    /// Replace it everywhere.
    pub all: Option<bool>,
}

impl Tool for FileEdit {
    const NAME: &'static str = "file_edit";
    const TITLE: &'static str = "Edit file";
    const ABOUT: &'static str = "Replace exact texts in a file on a server, all edits or none; answers with the \
        diff. Copy old from file_read, without line numbers. Can be undone with file_undo.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: false, open_world: false };

    async fn call(self, desk: &Desk, _: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let revision = self.rev.as_deref().map(parse_revision).transpose()?;
        let one = |edit: OneEdit| Replacement {
            old: Blob(edit.old.into_bytes()),
            new: Blob(edit.new.into_bytes()),
            all: edit.all,
        };
        let edits = cbor::encode(&Edits { edits: self.edits.into_iter().map(one).collect() });
        let mut at = enter(client, &self.server, &self.path).await?;
        let path = Blob(at.place.path.clone());
        let edit = Edit { path, revision, dry: self.dry_run, undo: Some(true) };
        let answer =
            at.files.answer(client, Ask::Edit(edit), Some(&edits)).await.map_err(|failure| {
                match failure.kind {
                    Kind::NoMatch | Kind::NotUnique if failure.hint.is_none() => failure
                        .with_hint("file_read the lines, and copy the text exactly as it is there"),
                    _ => failure,
                }
            })?;
        let count = answer.done.count.unwrap_or(0);
        let word = if self.dry_run.unwrap_or(false) { "would-change" } else { "changed" };
        let mut header =
            Header::new(Word::File).value(&at.place.shown()).words(format_args!("{word} {count}"));
        if let Some(entry) = &answer.done.entry {
            header = described(header, entry);
        }
        if let Some(change) = answer.done.change {
            header = header.field(Key::Change, change);
        }
        Ok(format!("{}\n{}", header.end(), shown(&answer.content)))
    }
}

/// A diff, fit to be shown.
pub(super) fn shown(diff: &[u8]) -> String {
    let text = String::from_utf8_lossy(diff);
    let lines = text.split_terminator('\n').map(|line| {
        let (line, _) = visible(line);
        format!("{}\n", imitation::marked(&line))
    });
    lines.collect()
}
