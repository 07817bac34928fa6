//! `get` and `put`: files on their way.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use farwire_protocol::failure::Failure;
use farwire_protocol::quote::quote;
use serde_json::json;

use super::unfinished::{incomplete, missed_json};
use crate::cli::output::{Json, print_json};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::site::Face;
use crate::files::transfer::Meter;
use crate::text::human;
use crate::text::neutral::neutral_within;
use crate::verbs::files::transfer::{Fetch, Send};

/// How often progress is shown.
const SHOWN: Duration = Duration::from_millis(200);

/// At most this many skipped entries are named.
const NAMED: usize = 50;

/// Fetch a file or a directory from a server
///
/// Run it again to resume an interrupted transfer. Permissions and times are preserved; symbolic
/// links and special files are left out, and named. What cannot be read is named, the rest is
/// fetched, and the exit code is 2.
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The file or directory: SERVER:PATH
    from: ServerPath,
    /// Where to put it [default: here, under its own name]
    to: Option<PathBuf>,
    /// Transfer a directory with everything in it
    #[arg(short, long)]
    recursive: bool,
    /// Replace existing files here
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// Send a file or a directory to a server
///
/// Run it again to resume an interrupted transfer. A file appears under its name only once it is
/// complete. Permissions and times are preserved; symbolic links and special files are left out,
/// and named. What cannot be sent is named, the rest is sent, and the exit code is 2.
#[derive(Args, Debug)]
pub(crate) struct Put {
    /// The file or directory here
    from: PathBuf,
    /// The destination: SERVER:PATH
    to: ServerPath,
    /// Transfer a directory with everything in it
    #[arg(short, long)]
    recursive: bool,
    /// Replace existing files on the server
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

impl Get {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let (meter, recursive) = (Meter::default(), self.recursive);
        let (from, to, overwrite) = (&self.from, self.to.clone(), self.force);
        let fetch = Fetch { from, to, overwrite, recursive };
        report(&meter, self.json, fetch.carry_out(client, Face::Cli, &meter)).await
    }
}

impl Put {
    pub(super) async fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let (meter, recursive) = (Meter::default(), self.recursive);
        let (from, to, overwrite) = (self.from.clone(), &self.to, self.force);
        let send = Send { from, to, overwrite, recursive };
        report(&meter, self.json, send.carry_out(client, Face::Cli, &meter)).await
    }
}

/// Shows the progress of a transfer on a terminal, and its result. Returns the exit code.
pub(super) async fn report(
    meter: &Meter,
    json: Json,
    transfer: impl Future<Output = Result<(), Failure>>,
) -> Result<u8, Failure> {
    let begun = Instant::now();
    let terminal = watch_progress(meter, transfer).await?;
    let (bytes, _, files) = meter.read();
    let time = begun.elapsed();
    print_notes(meter);
    let (missed, _) = meter.missed();
    if json.json {
        let left_out: Vec<_> =
            meter.left_out().iter().map(|path| quote(path).into_owned()).collect();
        print_json(&json!({
            "files": files, "bytes": bytes, "moved": bytes.saturating_sub(meter.had()),
            "skipped": meter.skipped(), "left_out": left_out, "failed": missed_json(&missed),
            "notes": meter.remarks(), "seconds": time.as_secs_f64(),
        }))?;
    } else if terminal {
        note!("{files} files, {} in {}", human::size(bytes), human::duration(time));
    }
    Ok(meter.outcome().map_or_else(|failure| incomplete(&missed, &failure), |()| 0))
}

/// Waits for a transfer, and shows its progress if standard error is a terminal; returns whether it
/// is.
pub(super) async fn watch_progress(
    meter: &Meter,
    transfer: impl Future<Output = Result<(), Failure>>,
) -> Result<bool, Failure> {
    let begun = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    tokio::pin!(transfer);
    let done = loop {
        tokio::select! {
            done = &mut transfer => break done,
            () = tokio::time::sleep(SHOWN), if terminal => bar(meter, begun),
        }
    };
    if terminal {
        clear();
    }
    done.map(|()| terminal)
}

/// Names what was left out, and prints other notes about files.
pub(super) fn print_notes(meter: &Meter) {
    for remark in meter.remarks() {
        note!("farwire: {}", neutral_within(&remark, 4_096));
    }
    let left_out = meter.left_out();
    for path in left_out.iter().take(NAMED) {
        note!("farwire: left out: {}", quote(path));
    }
    if left_out.len() > NAMED {
        note!("farwire: and {} more", left_out.len() - NAMED);
    }
    if meter.skipped() > 0 {
        note!("farwire: {} symbolic links and special files were left out", meter.skipped());
    }
}

fn bar(meter: &Meter, begun: Instant) {
    use std::io::Write as _;
    let (bytes, all, files) = meter.read();
    let percent = (bytes.min(all) * 100).checked_div(all).unwrap_or(0);
    let seconds = begun.elapsed().as_secs().max(1);
    let rate = human::size(bytes / seconds);
    let (bytes, all) = (human::size(bytes), human::size(all));
    // Standard error may be closed.
    let _ = write!(
        std::io::stderr(),
        "\r\x1b[K{percent:>3} %  {bytes} of {all}  {files} files  {rate}/s"
    );
}

fn clear() {
    use std::io::Write as _;
    let _ = write!(std::io::stderr(), "\r\x1b[K");
}
