//! `file_copy`: files between this machine and servers, and on a server.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Copy};
use schemars::JsonSchema;
use serde::Deserialize;

use super::enter;
use crate::client::Client;
use crate::files::place::find;
use crate::files::transfer::{Meter, Transfer, download, upload};
use crate::text::header::{Header, Key};
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Tool};

/// How often progress is told.
const TOLD: Duration = Duration::from_secs(1);

/// The arguments of `file_copy`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileCopy {
    /// SERVER:PATH, or an absolute path here.
    pub from: String,
    /// SERVER:PATH, or an absolute path here.
    pub to: String,
    /// Directories with all in them.
    pub recursive: Option<bool>,
    /// Replace what is there.
    pub overwrite: Option<bool>,
}

/// One end of a copy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// On this machine.
    Here(PathBuf),
    /// On a server.
    There {
        /// The server's name.
        server: String,
        /// The path there.
        path: String,
    },
}

impl End {
    /// Reads `SERVER:PATH` or a path here.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((server, path)) if !server.is_empty() && !server.contains(['/', '.']) => {
                Self::There { server: server.to_owned(), path: path.to_owned() }
            }
            _ => Self::Here(PathBuf::from(text)),
        }
    }
}

impl Tool for FileCopy {
    const NAME: &'static str = "file_copy";
    const TITLE: &'static str = "Copy files";
    const ABOUT: &'static str = "Copy, upload or download files and directories: on a server, or between a server \
        and this computer.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: true, open_world: false };

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let begun = Instant::now();
        let meter = Meter::default();
        let copied = self.carry_out(client, &meter);
        tokio::pin!(copied);
        let (files, bytes) = loop {
            tokio::select! {
                copied = &mut copied => break copied?,
                () = caller.cancelled.cancelled() => {
                    return Err(Failure::new(Kind::Cancelled, "the copy was cancelled")
                        .with_hint("the same call goes on where it stopped"));
                }
                () = tokio::time::sleep(TOLD) => {
                    let (bytes, all, files) = meter.read();
                    if let Some(progress) = &caller.progress {
                        let text = format!("{files} files, {} of {}", human::size(bytes), human::size(all));
                        // Who does not listen is told the next time.
                        let _ = progress.try_send((files, text));
                    }
                }
            }
        };
        let header =
            Header::new(Word::Copy).words(format_args!("{files} files {}", human::size(bytes)));
        let mut header = header.time(begun.elapsed());
        if meter.skipped() > 0 {
            header = header.field(Key::Skipped, meter.skipped());
        }
        Ok(format!("{}\n", header.end()))
    }
}

impl FileCopy {
    /// Gives how many files and bytes were copied.
    async fn carry_out(&self, client: &Client, meter: &Meter) -> Result<(u64, u64), Failure> {
        let overwrite = self.overwrite.unwrap_or(false);
        let recursive = self.recursive.unwrap_or(false);
        let (local, (server, path), up) = match (End::parse(&self.from), End::parse(&self.to)) {
            (End::There { server, path }, End::There { server: other, path: to })
                if server == other =>
            {
                return on_one(client, (&server, &path, &to), overwrite, recursive).await;
            }
            (End::There { .. }, End::There { .. }) => {
                return Err(Failure::new(
                    Kind::Unsupported,
                    "file_copy: not yet from one server to another",
                )
                .with_hint("copy it here first, then to the other server"));
            }
            (End::Here(_), End::Here(_)) => {
                return Err(Failure::new(
                    Kind::InvalidArgument,
                    "file_copy: neither end is on a server",
                )
                .with_hint("name a server's file as SERVER:PATH"));
            }
            (End::Here(local), End::There { server, path }) => (local, (server, path), true),
            (End::There { server, path }, End::Here(local)) => (local, (server, path), false),
        };
        if !local.is_absolute() {
            let text =
                format!("file_copy: `{}` is neither SERVER:PATH nor absolute", local.display());
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
        let server = client.find(&server).await?;
        let remote = find(client, &server, &path).await?;
        let transfer = Transfer {
            client,
            server: &server,
            remote,
            local,
            overwrite,
            recursive,
            upward: up,
            meter,
        };
        match up {
            true => upload(&transfer).await?,
            false => download(&transfer).await?,
        }
        let (bytes, _, files) = meter.read();
        Ok((files, bytes))
    }
}

/// Copies on one server.
async fn on_one(
    client: &Client,
    (server, from, to): (&str, &str, &str),
    overwrite: bool,
    recursive: bool,
) -> Result<(u64, u64), Failure> {
    let mut at = enter(client, server, from).await?;
    let target = find(client, &at.server, to).await?;
    if target.root != at.place.root {
        return Err(Failure::new(Kind::Unsupported, "file_copy: not from one root to another")
            .with_hint("copy it here first, then to the other root"));
    }
    let copy = Copy {
        from: Blob(at.place.path.clone()),
        to: Blob(target.path),
        moved: None,
        overwrite: Some(overwrite),
        recursive: Some(recursive),
        undo: Some(true),
    };
    let done = at.files.answer(client, Ask::Copy(copy), None).await?.done;
    Ok((done.count.unwrap_or(0), done.bytes.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_here_or_on_a_server() {
        let there =
            |server: &str, path: &str| End::There { server: server.into(), path: path.into() };
        assert_eq!(End::parse("web-1:/srv/x"), there("web-1", "/srv/x"));
        assert_eq!(End::parse("web-1:a:b"), there("web-1", "a:b"));
        assert_eq!(End::parse("/tmp/a:b"), End::Here("/tmp/a:b".into()));
        assert_eq!(End::parse("./a:b"), End::Here("./a:b".into()));
        assert_eq!(End::parse("x"), End::Here("x".into()));
    }
}
