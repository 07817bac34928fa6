//! `du`: how much is beneath a path, counted on the server.

use clap::Args;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quoted;
use farwire_protocol::streams::files::Ask;
use serde_json::json;

use super::{ServerPath, all_was_read};
use crate::cli::{Json, print, print_json};
use crate::client::Client;
use crate::text::human;

/// Print how much files or directories of a server hold: their size, and how many files and directories are in them
///
/// The size is the sum of the sizes of all files, by each of their names; links are not followed.
#[derive(Args, Debug)]
pub(crate) struct Du {
    /// Which: SERVER or SERVER:PATH
    #[arg(required = true)]
    paths: Vec<ServerPath>,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Du {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let (mut all, mut unread) = (Vec::new(), Ok(()));
        for path in &self.paths {
            let mut at = path.site(client).await?;
            let done = at.ask(|place| Ask::Usage(Blob(place.path.clone()))).await?.done;
            let (bytes, files) = (done.bytes.unwrap_or(0), done.files.unwrap_or(0));
            let directories = done.count.unwrap_or(0);
            match self.json.json {
                true => all.push(json!({
                    "path": quoted(&path.path), "bytes": bytes, "files": files, "directories": directories,
                    "unread": done.unread.unwrap_or(0),
                })),
                false => print(&format!(
                    "{:>8}  {files} files  {directories} directories  {}\n",
                    human::size(bytes),
                    quoted(&path.path),
                ))?,
            }
            unread = unread.and_then(|()| all_was_read(&at.place, &done));
        }
        if self.json.json {
            print_json(&all)?;
        }
        unread
    }
}
