//! `undo`: what was changed through Farwire, undone and done again.

use std::time::Duration;

use clap::Args;
use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quoted;
use farwire_protocol::streams::files::{Ask, Change, Changes, Revert};
use serde_json::json;

use super::ServerPath;
use super::look::put_text;
use crate::cli::{Json, print, print_json};
use crate::client::Client;
use crate::text::human;
use crate::text::table::Table;

/// Undo what was changed in a root, by models or by `farwire files`; or do it again
///
/// Without a number: the latest change. What was changed since is not overwritten, unless --force is given.
#[derive(Args, Debug)]
pub(crate) struct Undo {
    /// Which root: SERVER or SERVER:ROOT
    root: ServerPath,
    /// Which change, by its number
    change: Option<u64>,
    /// List the changes instead
    #[arg(short, long, conflicts_with_all = ["change", "redo"])]
    list: bool,
    /// Show what it would do instead, as a diff
    #[arg(short, long)]
    preview: bool,
    /// Do it again
    #[arg(long)]
    redo: bool,
    /// Also if what it left has been changed since
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Undo {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let mut at = self.root.site_root(client).await?;
        if self.list || self.preview {
            let next = (self.preview && self.change.is_none()).then_some(self.redo);
            let changes = Changes { change: self.change, limit: None, next };
            let answer = at.ask(|_| Ask::Changes(changes.clone())).await?;
            if self.json.json {
                let all: Vec<_> = answer.changes.iter().map(change_json).collect();
                return print_json(&all);
            }
            return match self.preview {
                true => put_text(&answer.content),
                false => print(&table(&answer.changes)),
            };
        }
        let revert = Revert { change: self.change, redo: Some(self.redo), force: Some(self.force) };
        let done = at.ask(|_| Ask::Revert(revert.clone())).await?.done;
        if self.json.json {
            return print_json(&json!({"change": done.change, "paths": done.count}));
        }
        let word = if self.redo { "done again" } else { "undone" };
        print(&format!("change {} is {word}\n", done.change.unwrap_or(0)))
    }
}

fn paths(change: &Change) -> Vec<String> {
    change.paths.iter().map(|path| quoted(path).into_owned()).collect()
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
