//! `undo`: what was changed through Farwire, undone and done again.

use std::time::Duration;

use clap::Args;
use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::Change;
use serde_json::json;

use super::look::put_text;
use crate::cli::output::{Json, print, print_json};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::text::human;
use crate::text::table::Table;
use crate::verbs::files::undo::{ListChanges, Preview, Revert};

/// Undo or redo what AI clients or `farwire files` changed in a root
///
/// Without a number, undoes the latest change. What was changed since then is not overwritten
/// unless --force is given.
#[derive(Args, Debug)]
pub(crate) struct Undo {
    /// The root: SERVER or SERVER:ROOT
    root: ServerPath,
    /// The change, by its number
    change: Option<u64>,
    /// List the changes instead
    #[arg(short, long, conflicts_with_all = ["change", "redo"])]
    list: bool,
    /// Only show what would be undone, as a diff
    #[arg(short, long)]
    preview: bool,
    /// Redo the change that was undone last, or the one with the given number
    #[arg(long)]
    redo: bool,
    /// Undo even if the files have been changed since
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Undo {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let (root, change, redo) = (&self.root, self.change, self.redo);
        if self.list || self.preview {
            let answer = if self.preview {
                let preview = Preview { root, change, redo, limit: None };
                preview.carry_out(client, Face::Cli).await?
            } else {
                ListChanges { root, change, limit: None }.carry_out(client, Face::Cli).await?
            };
            if self.json.json {
                let all: Vec<_> = answer.changes.iter().map(change_json).collect();
                return print_json(&all);
            }
            return match self.preview {
                true => put_text(&answer.diff),
                false => print(&table(&answer.changes)),
            };
        }
        let revert = Revert { root, change, redo, force: self.force };
        let answer = revert.carry_out(client, Face::Cli).await?;
        if self.json.json {
            return print_json(&json!({"change": answer.change, "paths": answer.paths}));
        }
        let word = if redo { "redone" } else { "undone" };
        print(&format!("change {} is {word}\n", answer.change.unwrap_or(0)))
    }
}

fn paths(change: &Change) -> Vec<String> {
    change.paths.iter().map(|path| quote(path).into_owned()).collect()
}

fn change_json(change: &Change) -> serde_json::Value {
    json!({
        "change": change.change, "verb": change.verb, "paths": paths(change), "age_ms": change.age_ms,
        "who": change.who, "undone": change.undone.unwrap_or(false), "bytes": change.kept,
    })
}

fn table(changes: &[Change]) -> String {
    let mut table = Table::new().limit(5, 200);
    for change in changes {
        let age = human::duration(Duration::from_millis(change.age_ms));
        let state = if change.undone == Some(true) { "undone" } else { "done" };
        let number = change.change.to_string();
        table.row([&number, &change.verb, state, &age, &change.who, &paths(change).join(" ")]);
    }
    table.text()
}
