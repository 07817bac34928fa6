//! `watch`: waits until something changes on a server.

use std::time::Duration;

use clap::Args;
use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::Entry;
use serde_json::json;

use super::look::entry_json;
use crate::cli::output::{Json, print, print_json, reader_is_gone};
use crate::client::Client;
use crate::conversation::may_come_back;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::verbs::files::watch::AwaitChange;

/// A server is asked again after this many seconds.
const ROUND: u64 = 300;

/// Wait until a file on a server, or something in a directory, changes
///
/// Prints what changed. Exits with 124 if the time was up.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// The file or directory: SERVER:PATH
    file: ServerPath,
    /// Also watch all directories under it
    #[arg(short, long)]
    recursive: bool,
    /// Keep watching after the first change, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Wait at most this many seconds [default: forever]
    #[arg(short, long, value_name = "SECONDS")]
    wait: Option<u64>,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Watch {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let begun = std::time::Instant::now();
        let mut site = self.file.site(client, Face::Cli).await?;
        loop {
            let left = self.wait.map(|wait| wait.saturating_sub(begun.elapsed().as_secs()));
            let round = left.unwrap_or(ROUND).min(ROUND);
            let (wait, recursive) = (Duration::from_secs(round), self.recursive);
            let watch = AwaitChange { wait, revision: None, recursive };
            let answer = match watch.carry_out(&mut site).await {
                Err(failure) if may_come_back(failure.kind) => {
                    // Changes that happened meanwhile are not known; later ones are.
                    site = self.file.site(client, Face::Cli).await?;
                    site.enter().await?;
                    continue;
                }
                answer => answer?,
            };
            if !answer.changed {
                if left.is_some_and(|left| left <= round) {
                    return Ok(124);
                }
                continue;
            }
            let itself = answer.entry.iter().filter(|_| answer.entries.is_empty());
            let changed: Vec<&Entry> = answer.entries.iter().chain(itself).collect();
            self.print(&changed)?;
            if !self.follow || reader_is_gone() {
                return Ok(0);
            }
        }
    }

    fn print(&self, changed: &[&Entry]) -> Result<(), Failure> {
        for entry in changed {
            let path = quote(&entry.path).into_owned();
            let there = entry.revision != 0;
            if self.json.json {
                let mut value = entry_json(entry, &path);
                if !there {
                    value = json!({"path": path, "gone": true});
                }
                print_json(&value)?;
            } else {
                let word = if there { "changed" } else { "gone" };
                print(&format!("{word}  {path}\n"))?;
            }
        }
        Ok(())
    }
}
