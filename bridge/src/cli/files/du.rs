//! `du`: the size of what is beneath a path, counted on the server.

use clap::Args;
use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quote;
use serde_json::json;

use super::unfinished::{all_was_read, code_of_unread};
use crate::cli::output::{Json, print, print_json};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::text::human;
use crate::verbs::files::size::MeasureSize;

/// Print the size of files or directories on a server, and how many files and directories are in
/// them
///
/// Sizes of all files are added up; a file with several hard links counts once for each. Symbolic
/// links are not followed. Paths that cannot be read are named, the rest is counted, and the
/// exit code is 2.
#[derive(Args, Debug)]
pub(crate) struct Du {
    /// The files or directories: SERVER or SERVER:PATH
    #[arg(required = true)]
    paths: Vec<ServerPath>,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Du {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let (mut all, mut unread) = (Vec::new(), Ok(()));
        for path in &self.paths {
            let answer = MeasureSize { path }.carry_out(client, Face::Cli).await?;
            let (bytes, files, directories) = (answer.bytes, answer.files, answer.directories);
            match self.json.json {
                true => all.push(json!({
                    "path": quote(&path.path), "bytes": bytes, "files": files, "directories": directories,
                    "unread": answer.unread.count,
                })),
                false => print(&format!(
                    "{:>8}  {files} files  {directories} directories  {}\n",
                    human::size(bytes),
                    quote(&path.path),
                ))?,
            }
            unread = unread.and_then(|()| all_was_read(&answer.place, &answer.unread));
        }
        if self.json.json {
            print_json(&all)?;
        }
        Ok(code_of_unread(unread))
    }
}
