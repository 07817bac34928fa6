//! `sync`: makes one directory like another.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;
use serde_json::json;

use super::moved::{print_notes, watch_progress};
use super::unfinished::{incomplete, missed_json};
use crate::cli::output::{Json, print, print_json};
use crate::client::Client;
use crate::files::place::Endpoint;
use crate::files::site::Face;
use crate::files::transfer::Meter;
use crate::text::human;
use crate::text::neutral::neutral_within;
use crate::verbs::files::sync::Sync as MakeLike;

/// Make one directory like another, here or on a server; only differences are transferred
///
/// Exactly one of the two is SERVER:PATH. Permissions and times are made alike, too. What exists
/// only at the destination stays unless --delete is given, and so does what has another type there:
/// a directory instead of a file, or the other way round. Symbolic links and special files are left
/// out, and counted; --verbose and --dry-run name them. What cannot be read or written is named,
/// the rest is done, and the exit code is 2.
#[derive(Args, Debug)]
pub(crate) struct Sync {
    /// The source directory
    from: OsString,
    /// The destination directory, which is changed
    to: OsString,
    /// Remove what exists only at the destination, or has another type there
    #[arg(long)]
    delete: bool,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Compare contents, not only sizes and times
    #[arg(short, long)]
    checksum: bool,
    /// List skipped files too
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Sync {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let end = |text: &OsStr| Endpoint::of(text.as_bytes());
        let ends = Endpoint::apart(end(&self.from), end(&self.to));
        let (local, remote, direction) = ends.ok_or_else(|| {
            let text = "one of the two must be SERVER:PATH, and the other a directory here";
            Failure::new(Kind::InvalidArgument, text)
        })?;
        let local = std::path::absolute(&local)
            .map_err(|error| Failure::new(Kind::Io, format!("{}: {error}", local.display())))?;
        let (meter, delete, checksum) = (Meter::default(), self.delete, self.checksum);
        let make_like = MakeLike { local, remote, direction, delete, checksum };
        let planned = make_like.plan(client, Face::Cli, &meter).await?;
        let answer = planned.answer();
        match self.dry_run {
            true => planned.leave(),
            false => {
                watch_progress(&meter, planned.carry_out()).await?;
            }
        }
        let named = |paths: &[Vec<u8>]| -> Vec<String> {
            paths.iter().map(|path| quote(path).into_owned()).collect()
        };
        let (removed, left_out) = (named(&answer.removed), named(&answer.left_out));
        let (verb, moved, set, same) = (answer.verb(), &answer.moved, &answer.set, answer.same);
        print_notes(&meter);
        let (missed, _) = meter.missed();
        if self.json.json {
            let moved: Vec<_> =
                moved.iter().map(|(path, size)| json!({"path": path, "size": size})).collect();
            print_json(&json!({
                verb: moved, "remove": removed, "set": set, "same": same, "skipped": left_out,
                "failed": missed_json(&missed), "notes": meter.remarks(), "dry_run": self.dry_run,
            }))?;
        } else {
            self.print(verb, (moved, set), (&removed, &left_out))?;
            let left_out = match left_out.len() {
                0 => String::new(),
                count => format!(", {count} symbolic links and special files are left out"),
            };
            note!(
                "farwire: {} to {verb}, {} to remove, {same} files are the same{left_out}",
                moved.len(),
                removed.len()
            );
        }
        Ok(meter.outcome().map_or_else(|failure| incomplete(&missed, &failure), |()| 0))
    }

    fn print(
        &self,
        verb: &str,
        (moved, set): (&[(String, u64)], &[String]),
        (removed, left_out): (&[String], &[String]),
    ) -> Result<(), Failure> {
        let mut text = String::new();
        for (path, size) in moved {
            text.push_str(&format_line(verb, path, &human::size(*size)));
        }
        for path in removed {
            text.push_str(&format_line("remove", path, ""));
        }
        for path in set {
            text.push_str(&format_line("set", path, ""));
        }
        for path in left_out.iter().filter(|_| self.verbose || self.dry_run) {
            text.push_str(&format_line("skip", path, ""));
        }
        print(&text)
    }
}

fn format_line(verb: &str, path: &str, size: &str) -> String {
    format!("{verb:<6} {} {size}\n", neutral_within(path, 4_096)).replace(" \n", "\n")
}
