//! `cp` and `mv`: on a server, or from one to another.

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use serde_json::json;

use super::moved::report;
use super::unfinished::{incomplete, missed_json};
use crate::cli::output::{Json, print_json};
use crate::client::Client;
use crate::files::destination::Onto;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::files::transfer::Meter;
use crate::verbs::files::copy::{Copy, CopyAnswer};

/// Copy files on a server, or from one server to another
///
/// If TO is an existing directory, FROM is put into it under its own name. From one root or server
/// to another, the data passes through this machine, but is never written to its disk.
#[derive(Args, Debug)]
pub(crate) struct Cp {
    /// The file or directory: SERVER:PATH
    from: ServerPath,
    /// The destination: SERVER:PATH
    to: ServerPath,
    /// Copy a directory with everything in it
    #[arg(short, long)]
    recursive: bool,
    /// Replace an existing file or an empty directory
    #[arg(short, long)]
    force: bool,
    /// Treat the destination as the final path, even if it is a directory
    #[arg(short = 'T', long = "no-target-directory")]
    exact: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Move or rename files on a server, or move them from one server to another
///
/// If TO is an existing directory, FROM is put into it under its own name. From one root or server
/// to another, FROM is copied, compared by content, and only then removed.
#[derive(Args, Debug)]
pub(crate) struct Mv {
    /// The file or directory: SERVER:PATH
    from: ServerPath,
    /// The destination: SERVER:PATH
    to: ServerPath,
    /// Replace an existing file or an empty directory
    #[arg(short, long)]
    force: bool,
    /// Treat the destination as the final path, even if it is a directory
    #[arg(short = 'T', long = "no-target-directory")]
    exact: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Cp {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let copy = Copy {
            from: &self.from,
            to: &self.to,
            moved: false,
            overwrite: self.force,
            recursive: self.recursive,
            onto: onto(self.exact),
            within_root: false,
        };
        carry_out(client, copy, self.json).await
    }
}

impl Mv {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let copy = Copy {
            from: &self.from,
            to: &self.to,
            moved: true,
            overwrite: self.force,
            recursive: true,
            onto: onto(self.exact),
            within_root: false,
        };
        carry_out(client, copy, self.json).await
    }
}

fn onto(exact: bool) -> Onto {
    if exact { Onto::Itself } else { Onto::Inside }
}

async fn carry_out(client: &Client, copy: Copy<'_>, json: Json) -> Result<u8, Failure> {
    let prepared = copy.prepare(client, Face::Cli).await?;
    let meter = Meter::default();
    if !prepared.is_within_root() {
        return Box::pin(report(&meter, json, prepared.carry_through(&meter))).await;
    }
    let answer = prepared.carry_out(&meter).await?;
    let (links, unread) = (answer.links(), &answer.unread);
    if links > 0 {
        let listed = if unread.count > 0 { String::new() } else { left_out(&answer) };
        note!("farwire: {links} symbolic links and special files were left out{listed}");
    }
    if json.json {
        print_json(&json!({
            "path": answer.place.to_text(), "files": answer.files, "bytes": answer.bytes,
            "skipped": answer.skipped, "change": answer.change, "failed": missed_json(&answer.missed),
        }))?;
    }
    if unread.count > 0 {
        let text = format!("{} files or directories were not copied", unread.count);
        return Ok(incomplete(&answer.missed, &Failure::new(Kind::Incomplete, text)));
    }
    Ok(0)
}

/// The names of skipped entries, as far as the server has sent them.
fn left_out(answer: &CopyAnswer) -> String {
    let names: Vec<_> =
        answer.unread.paths.iter().map(|path| answer.source.argument_for(path)).collect();
    let more = if answer.links() > names.len() as u64 { ", …" } else { "" };
    if names.is_empty() { String::new() } else { format!(": {}{more}", names.join(", ")) }
}
