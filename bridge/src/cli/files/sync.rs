//! `sync`: a directory is made like another one.

use std::path::PathBuf;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use serde_json::json;

use super::Remote;
use super::moved::shown;
use crate::cli::{Json, print, print_json};
use crate::client::Client;
use crate::files::sync::{Direction, carry_out, plan};
use crate::files::transfer::{Meter, Transfer};
use crate::text::human;
use crate::text::neutral::neutral_within;
use crate::tools::file::copy::apart;

/// Make a directory like another one, here or on a server; only what differs is sent
///
/// One of both is SERVER:PATH. What is only at the destination stays, unless --delete is given. Links and special
/// files are left out, and counted; --verbose and --dry-run name them.
#[derive(Args, Debug)]
pub(crate) struct Sync {
    /// Like which directory
    from: String,
    /// Which directory is made so
    to: String,
    /// Remove what is only at the destination
    #[arg(long)]
    delete: bool,
    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Compare contents, and not only sizes and times
    #[arg(short, long)]
    checksum: bool,
    /// Name also what is left out
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Sync {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let (local, (server, path), direction) = apart(&self.from, &self.to).ok_or_else(|| {
            let text = "one of both must be SERVER:PATH, and the other a directory here";
            Failure::new(Kind::InvalidArgument, text)
        })?;
        let remote = Remote { server, path };
        let local: PathBuf = std::path::absolute(&local)
            .map_err(|error| Failure::new(Kind::Io, format!("{}: {error}", local.display())))?;
        let (server, remote) = remote.place(client).await?;
        let meter = Meter::default();
        let transfer = Transfer {
            client,
            server: &server,
            remote,
            local,
            overwrite: true,
            recursive: true,
            upward: direction == Direction::Up,
            meter: &meter,
        };
        let plan = plan(&transfer, direction, self.checksum).await?;
        let (moved, same) = (plan.moved(), plan.same);
        let named = |paths: &[Vec<u8>]| -> Vec<String> {
            paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
        };
        let (removed, left_out) = (named(&plan.remove), named(&plan.left_out));
        let verb = if direction == Direction::Up { "send" } else { "fetch" };
        if !self.dry_run {
            shown(&meter, Json { json: false }, carry_out(&transfer, plan, self.delete)).await?;
        }
        let removed = if self.delete { removed } else { Vec::new() };
        if self.json.json {
            let moved: Vec<_> =
                moved.iter().map(|(path, size)| json!({"path": path, "size": size})).collect();
            return print_json(&json!({
                verb: moved, "remove": removed, "same": same, "skipped": left_out, "dry_run": self.dry_run,
            }));
        }
        let mut text = String::new();
        for (path, size) in &moved {
            text.push_str(&format_line(verb, path, &human::size(*size)));
        }
        for path in &removed {
            text.push_str(&format_line("remove", path, ""));
        }
        for path in left_out.iter().filter(|_| self.verbose || self.dry_run) {
            text.push_str(&format_line("skip", path, ""));
        }
        print(&text)?;
        let left_out = match left_out.len() {
            0 => String::new(),
            count => format!(", {count} links and special files are left out"),
        };
        note!(
            "farwire: {} to {verb}, {} to remove, {same} files are the same{left_out}",
            moved.len(),
            removed.len()
        );
        Ok(())
    }
}

fn format_line(verb: &str, path: &str, size: &str) -> String {
    format!("{verb:<6} {} {size}\n", neutral_within(path, 4_096)).replace(" \n", "\n")
}
