//! davfs2: a mount of the kernel's, for root. Taking it away waits until everything has been sent.

use std::process::Stdio;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::sleep;

use super::{Ends, Wanted, failure, run};
use crate::cli::output::print;

/// How long to wait before trying again while something is in use.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn mount(wanted: &Wanted<'_>) -> Result<(), Failure> {
    let mut ends = Ends::new()?;
    let begun = begin(wanted);
    tokio::select! {
        begun = begun => begun?,
        () = ends.next() => return Err(Failure::new(Kind::Cancelled, "nothing was mounted")),
    }
    print(&format!("ready {}\n", wanted.dir.display()))?;
    ends.next().await;
    note!(
        "farwire: unmounting once everything that was written has been sent; press Ctrl-C again not to wait"
    );
    tokio::select! {
        () = unmount(wanted) => Ok(()),
        () = ends.next() => {
            // Processes that use the mount would wait for us forever.
            let _ = run(Command::new("umount").args(["-i", "-l"]).arg(&wanted.dir)).await;
            let text = "it was ended before everything was sent";
            Err(Failure::new(Kind::Cancelled, text)
                .with_hint("davfs2 keeps what it has not sent in /var/cache/davfs2"))
        }
    }
}

async fn begin(wanted: &Wanted<'_>) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| failure("mount", &error);
    let mut mount = Command::new("mount");
    mount.args(["-t", "davfs", wanted.url]).arg(&wanted.dir);
    if wanted.read_only {
        mount.args(["-o", "ro"]);
    }
    // Its questions are answered here; nobody is asked.
    mount.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = mount.process_group(0).kill_on_drop(true).spawn().map_err(wrong)?;
    if let Some(mut input) = child.stdin.take() {
        let answers = format!("farwire\n{}\n", wanted.token);
        input.write_all(answers.as_bytes()).await.map_err(wrong)?;
    }
    // The daemon that stays keeps the pipe open: read only until the program ends.
    let mut said = child.stderr.take();
    let status = child.wait().await.map_err(wrong)?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    if let Some(said) = &mut said {
        use tokio::io::AsyncReadExt as _;
        // Without a message, use the exit status.
        let _ = said.read_to_string(&mut text).await;
    }
    let last = text.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned);
    Err(failure("mount", &last.unwrap_or_else(|| status.to_string())))
}

/// Unmounts it, as soon as nobody uses it.
async fn unmount(wanted: &Wanted<'_>) {
    let mut told = false;
    while let Err(why) = run(Command::new("umount").arg(&wanted.dir)).await {
        if why.contains("not mounted") {
            return;
        }
        if !told {
            note!("farwire: {why}");
        }
        told = true;
        sleep(AGAIN).await;
    }
}
