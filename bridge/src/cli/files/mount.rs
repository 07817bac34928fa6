//! `mount`: a root as a directory of this machine, through whichever WebDAV client the system has.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use clap::Args;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::Enter;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::Remote;
use super::serve::{Ready, ready};
use crate::cli::{print, runtime};
use crate::client::Client;
use crate::files::serve::serve;

/// Mount a root of a server, or a directory in one, on a directory here, until it is ended with Ctrl-C
///
/// Uses rclone with FUSE, or davfs2 as root. What the kernel asks for goes end-to-end encrypted to the server.
#[derive(Args, Debug)]
pub(crate) struct Mount {
    /// Which directory: SERVER or SERVER:PATH
    root: Remote,
    /// An empty directory here
    dir: PathBuf,
    /// With which client [default: the first that is there]
    #[arg(long, value_name = "CLIENT")]
    with: Option<With>,
    /// Refuse every change
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
            Self::Rclone => {
                is_program("rclone") && (is_program("fusermount3") || is_program("fusermount"))
            }
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

impl Mount {
    pub(super) fn carry_out(&self, client: Client) -> Result<(), Failure> {
        let with = match self.with {
            Some(with) if with.is_there() => with,
            None if With::Rclone.is_there() => With::Rclone,
            None if With::Davfs2.is_there() => With::Davfs2,
            _ => {
                let text = "no WebDAV client that mounts is installed here";
                return Err(Failure::new(Kind::Unsupported, text).with_hint(
                    "install rclone and fuse3, or davfs2 as root; or mount the URL of `farwire files serve` yourself",
                ));
            }
        };
        if !self.dir.is_dir() {
            let text = format!("{} is not a directory", self.dir.display());
            return Err(Failure::new(Kind::NotADirectory, text).with_hint("make it first"));
        }
        runtime()?.block_on(async {
            let listen = ([127, 0, 0, 1], 0).into();
            let mut enter = Enter::default();
            if !self.root.path.is_empty() {
                let (_, place) = self.root.place(&client).await?;
                enter.root = Some(place.root);
                enter.below = Some(Blob(place.path)).filter(|below| !below.is_empty());
            }
            enter.read_only = self.read_only.then_some(true);
            let ready = ready(client, (&self.root.server, enter), listen).await?;
            let Ready { served, listener, url, token, .. } = ready;
            tokio::select! {
                served = serve(Arc::new(served), listener) => served.map_err(|error| {
                    Failure::new(Kind::Io, format!("the endpoint for the mount broke: {error}"))
                }),
                mounted = self.mount(with, &url, &token) => mounted,
            }
        })
    }

    async fn mount(&self, with: With, url: &str, token: &str) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::new(Kind::Io, format!("{with:?}: {error}"));
        match with {
            With::Rclone => {
                print(&format!("ready {}\n", self.dir.display()))?;
                // The token goes where other users of this machine cannot read it.
                let status = Command::new("rclone")
                    .args([
                        "mount",
                        ":webdav:",
                        "--vfs-cache-mode",
                        "writes",
                        "--dir-cache-time",
                        "5s",
                    ])
                    .arg(&self.dir)
                    .env("RCLONE_CONFIG", "/dev/null")
                    .env("RCLONE_WEBDAV_URL", url)
                    .env("RCLONE_WEBDAV_VENDOR", "other")
                    .env("RCLONE_WEBDAV_BEARER_TOKEN", token)
                    .stdin(Stdio::null())
                    .kill_on_drop(true)
                    .status()
                    .await
                    .map_err(failed)?;
                match status.success() {
                    true => Ok(()),
                    false => Err(Failure::new(Kind::Io, format!("rclone ended with {status}"))),
                }
            }
            With::Davfs2 => {
                let mut mount = Command::new("mount");
                mount.args(["-t", "davfs", url]).arg(&self.dir).stdin(Stdio::piped());
                // Its questions are answered here.
                mount.stdout(Stdio::null());
                let mut child = mount.spawn().map_err(failed)?;
                if let Some(mut input) = child.stdin.take() {
                    let answers = format!("farwire\n{token}\n");
                    input.write_all(answers.as_bytes()).await.map_err(failed)?;
                }
                let status = child.wait().await.map_err(failed)?;
                if !status.success() {
                    return Err(Failure::new(Kind::Io, format!("mount ended with {status}")));
                }
                print(&format!("ready {}\n", self.dir.display()))?;
                tokio::signal::ctrl_c().await.map_err(failed)?;
                let status =
                    Command::new("umount").arg(&self.dir).status().await.map_err(failed)?;
                match status.success() {
                    true => Ok(()),
                    false => Err(Failure::new(Kind::Io, format!("umount ended with {status}"))),
                }
            }
        }
    }
}
