//! `mount`: a root as a directory of this machine, through whichever WebDAV client the system has.
//!
//! Those clients keep written data for some seconds before they send it. So the shutdown has an
//! order: first the directory is unmounted, then the client sends all that it keeps, and only then
//! the endpoint that it sends to is stopped.

mod davfs2;
mod rclone;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use tokio::process::Command;

use super::serve::{Ready, ready};
use crate::cli::runtime::{Ends, runtime};
use crate::client::Client;
use crate::files::RootRequest;
use crate::files::place::ServerPath;
use crate::files::serve::serve;

/// Mount a root of a server, or a directory in one, on a local directory until Ctrl-C
///
/// Uses rclone with FUSE, or davfs2 as root. Requests from the kernel travel to the server
/// end-to-end encrypted. Prints `ready DIR` once it is mounted. Ends when everything that was
/// written has been sent; a second Ctrl-C does not wait for that.
#[derive(Args, Debug)]
pub(crate) struct Mount {
    /// The directory: SERVER or SERVER:PATH
    root: ServerPath,
    /// An empty local directory
    dir: PathBuf,
    /// The WebDAV client to use [default: the first one found]
    #[arg(long, value_name = "CLIENT")]
    with: Option<With>,
    /// Refuse all changes
    #[arg(long)]
    read_only: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum With {
    Rclone,
    Davfs2,
}

impl With {
    /// Whether it could mount something.
    fn is_there(self) -> bool {
        match self {
            Self::Rclone => is_program("rclone") && fusermount().is_some(),
            Self::Davfs2 => {
                rustix::process::geteuid().is_root()
                    && (is_program("mount.davfs") || Path::new("/sbin/mount.davfs").exists())
            }
        }
    }
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

/// The program that unmounts FUSE without root.
fn fusermount() -> Option<&'static str> {
    ["fusermount3", "fusermount"].into_iter().find(|name| is_program(name))
}

/// What is mounted, and where.
struct Wanted<'a> {
    /// The endpoint, without the token.
    url: &'a str,
    token: &'a str,
    /// Absolute.
    dir: PathBuf,
    read_only: bool,
    /// Identifies what is mounted; unique for each place.
    place: String,
}

impl Mount {
    pub(super) fn carry_out(&self, client: Client) -> Result<(), Failure> {
        let with = match self.with {
            Some(with) if with.is_there() => with,
            None if With::Rclone.is_there() => With::Rclone,
            None if With::Davfs2.is_there() => With::Davfs2,
            _ => return Err(nothing_mounts()),
        };
        is_empty(&self.dir)?;
        let dir = std::path::absolute(&self.dir)
            .map_err(|error| Failure::new(Kind::Io, format!("{}: {error}", self.dir.display())))?;
        runtime()?.block_on(async {
            let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
            let leaving = client.clone();
            let mut request = self.root.below(&client).await?;
            request.enter.read_only = self.read_only.then_some(true);
            let ready = ready(client, &self.root.server, request, listen).await?;
            let Ready { served, listener, url, token, .. } = ready;
            let RootRequest { enter, path } = &served.request;
            let place = format!(
                "{:?} {:?} {:?} {path:?}",
                served.server.pin.bundle.id, enter.root, enter.below
            );
            let read_only = self.read_only;
            let wanted = Wanted { url: &url, token: &token, dir, read_only, place };
            let mounted = async {
                match with {
                    With::Rclone => rclone::mount(&wanted).await,
                    With::Davfs2 => davfs2::mount(&wanted).await,
                }
            };
            let ended = tokio::select! {
                served = serve(Arc::new(served), listener) => served.map_err(|error| {
                    Failure::new(Kind::Io, format!("the WebDAV endpoint of the mount failed: {error}"))
                }),
                mounted = mounted => mounted,
            };
            leaving.leave().await;
            ended
        })
    }
}

/// A mount would hide what is in the directory.
fn is_empty(dir: &Path) -> Result<(), Failure> {
    if !dir.is_dir() {
        let text = format!("{} is not a directory", dir.display());
        return Err(Failure::new(Kind::NotADirectory, text).with_hint("create it first"));
    }
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let text = format!("{} is not empty", dir.display());
            let hint = "a mount would hide what is in it: make another directory";
            Err(Failure::new(Kind::DirectoryNotEmpty, text).with_hint(hint))
        }
        Err(error) => Err(failure(&dir.display().to_string(), &error)),
    }
}

fn nothing_mounts() -> Failure {
    let text = "no WebDAV client that can mount is installed here";
    let hint = match is_program("gio") {
        true => {
            "`farwire files serve` prints a URL and its token; then `gio mount dav://farwire@127.0.0.1:PORT/ROOT/` \
             asks for the token as the password; or install rclone and fuse3"
        }
        false => {
            "install rclone and fuse3, or davfs2 as root; or mount the URL of `farwire files serve` yourself"
        }
    };
    Failure::new(Kind::Unsupported, text).with_hint(hint)
}

fn failure(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Io, format!("{what}: {why}"))
}

/// Runs a program to its end; returns its own error message if it failed.
async fn run(command: &mut Command) -> Result<(), String> {
    // A Ctrl-C that is meant for us does not end it.
    let output = command.process_group(0).kill_on_drop(true).output().await;
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned()))
}
