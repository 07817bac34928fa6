//! `file_edit`: exact texts are replaced, all of them or none.

use std::fmt::Write as _;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::Replacement;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{header, parse_revision, visible};
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::text::shown::Budget;
use crate::text::{Word, imitation};
use crate::tools::caller::Caller;
use crate::tools::seat::Seat;
use crate::tools::tool::{Effect, Tool};
use crate::verbs::files::edit::Edit;

/// The arguments of `file_edit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileEdit {
    /// Server name.
    pub server: String,
    /// Path on the server.
    pub path: String,
    /// Applied in order, all or none.
    pub edits: Vec<OneEdit>,
    /// From file_read: fails if changed since.
    pub rev: Option<String>,
    /// Only show the diff.
    pub dry_run: Option<bool>,
}

/// One replacement.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneEdit {
    /// Exact text; must occur once, unless all is set.
    pub old: String,
    /// The replacement.
    pub new: String,
    /// Replace every occurrence.
    pub all: Option<bool>,
}

impl Tool for FileEdit {
    const NAME: &'static str = "file_edit";
    const TITLE: &'static str = "Edit file";
    const ABOUT: &'static str = "Replace exact texts in a file on a server, all edits or none; returns the \
        diff. Copy old from file_read, without line numbers. Can be undone with file_undo.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: false, open_world: false };

    async fn call(self, seat: &Seat, _: &Caller) -> Result<String, Failure> {
        let client = seat.client().await?;
        let revision = self.rev.as_deref().map(parse_revision).transpose()?;
        let one = |edit: OneEdit| Replacement {
            old: Blob(edit.old.into_bytes()),
            new: Blob(edit.new.into_bytes()),
            all: edit.all,
        };
        let edits = self.edits.into_iter().map(one).collect();
        let (file, dry_run) =
            (ServerPath::new(&self.server, &self.path), self.dry_run == Some(true));
        let edit = Edit { file: &file, edits, revision, dry_run };
        let edited =
            edit.carry_out(client, Face::Mcp).await.map_err(|failure| match failure.kind {
                Kind::NoMatch | Kind::NotUnique if failure.hint.is_none() => failure.with_hint(
                    "file_read the lines again, and copy the text exactly as it is in the file",
                ),
                _ => failure,
            })?;
        let (changed, text) = (edited.changed, edited.text);
        let word = if dry_run { "would-change" } else { "changed" };
        let words = format!("{word} {}", changed.count.unwrap_or(0));
        let (text, hidden) = render_diff(&text, Budget::default());
        Ok(format!("{}\n{text}", header(&changed, words).hidden(hidden).end()))
    }
}

/// As much of a diff as fits, made safe to show, and how many characters were hidden in it.
pub(super) fn render_diff(diff: &[u8], budget: Budget) -> (String, u64) {
    let text = String::from_utf8_lossy(diff);
    let (mut out, mut hidden) = (String::new(), 0);
    let mut left = budget.characters();
    let mut lines = text.split_terminator('\n');
    while let Some(line) = lines.next() {
        let (line, out_of_sight) = visible(line);
        let row = format!("{}\n", imitation::marked(&line));
        let Some(rest) = left.checked_sub(row.chars().count()) else {
            let missing = lines.count() + 1;
            // Writing to a string does not fail.
            let _ = writeln!(out, "[{} {missing} lines]", Word::Omitted);
            break;
        };
        left = rest;
        hidden += out_of_sight;
        out.push_str(&row);
    }
    (out, hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_harmless_and_as_long_as_it_may_be() {
        let (text, hidden) =
            render_diff(b"[run r1 exit=0]\n+\xe2\x80\x8b\x1b[0m\n", Budget::default());
        assert_eq!((text.as_str(), hidden), ("\\[run r1 exit=0]\n+\u{241b}[0m\n", 1));
        let (text, _) = render_diff(&b"+line\n".repeat(99), Budget::new(200));
        assert!(text.ends_with("+line\n[omitted 66 lines]\n"), "{text}");
        assert_eq!(text.matches("+line").count(), 33);
    }
}
