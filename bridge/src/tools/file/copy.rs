//! `file_copy`: files between this machine and servers, and on a server.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::outer::valid_name;
use farwire_protocol::quote::quoted;
use farwire_protocol::streams::files::{Ask, Copy};
use schemars::JsonSchema;
use serde::Deserialize;

use super::FACE;
use crate::client::Client;
use crate::files::across::{self, Across};
use crate::files::landing::{Onto, landing};
use crate::files::place::{find, path_of};
use crate::files::sync::Direction;
use crate::files::transfer::{Meter, Transfer, download, upload};
use crate::text::header::{Header, Key};
use crate::text::neutral::neutral_within;
use crate::text::{Word, human};
use crate::tools::{Caller, Desk, Effect, Tool};

/// At most this many of what was left out are named.
const NAMED: usize = 20;

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
        path: Vec<u8>,
    },
}

impl End {
    /// Reads `SERVER:PATH` or a path here. A path here with a colon begins with `/` or `./`. The path on a server may
    /// be quoted.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((server, path)) if valid_name(server) => {
                Self::There { server: server.to_owned(), path: path_of(path) }
            }
            _ => Self::Here(PathBuf::from(text)),
        }
    }

    /// The same of bytes, which are the path as it is.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let there = bytes.iter().position(|&byte| byte == b':').and_then(|at| {
            let server = std::str::from_utf8(bytes.get(..at)?).ok()?;
            valid_name(server).then(|| (server.to_owned(), bytes[at + 1..].to_vec()))
        });
        match there {
            Some((server, path)) => Self::There { server, path },
            None => Self::Here(PathBuf::from(std::ffi::OsStr::from_bytes(bytes))),
        }
    }
}

/// What is here and what is on a server, and that the second is to become like the first or the other way round.
/// `None` if both are on the same side.
pub(crate) fn apart(from: End, to: End) -> Option<(PathBuf, (String, Vec<u8>), Direction)> {
    match (from, to) {
        (End::Here(local), End::There { server, path }) => {
            Some((local, (server, path), Direction::Up))
        }
        (End::There { server, path }, End::Here(local)) => {
            Some((local, (server, path), Direction::Down))
        }
        _ => None,
    }
}

impl Tool for FileCopy {
    const NAME: &'static str = "file_copy";
    const TITLE: &'static str = "Copy files";
    const ABOUT: &'static str = "Copy, upload or download files and directories: on a server, between two \
        servers, or between a server and this computer.";
    const EFFECT: Effect =
        Effect { read_only: false, destructive: true, idempotent: true, open_world: false };

    async fn call(self, desk: &Desk, caller: &Caller) -> Result<String, Failure> {
        let client = desk.client().await?;
        let begun = Instant::now();
        let meter = Meter::default();
        let copied = watched(caller, &meter, Box::pin(self.carry_out(client, &meter))).await;
        let (files, bytes) = copied.map_err(for_models)?;
        meter.outcome().map_err(for_models)?;
        let header =
            Header::new(Word::Copy).words(format_args!("{files} files {}", human::size(bytes)));
        let mut header = header.time(begun.elapsed());
        if meter.skipped() > 0 {
            header = header.field(Key::Skipped, meter.skipped());
        }
        Ok(format!("{}\n{}", header.end(), told(&meter)))
    }
}

/// What is to be said of single files: what was left out, and what grew.
pub(super) fn told(meter: &Meter) -> String {
    let left_out = meter.left_out();
    let names = left_out.iter().take(NAMED).map(|path| format!("left out: {}\n", quoted(path)));
    let more = left_out.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("left out: {more} more\n"));
    let remarks = meter.remarks().into_iter().take(NAMED);
    let remarks = remarks.map(|text| format!("{}\n", neutral_within(&text, 1_000)));
    names.chain(more).chain(remarks).collect()
}

/// Waits for what moves files, tells how far it is, and gives it up if that is wanted.
pub(super) async fn watched<T>(
    caller: &Caller,
    meter: &Meter,
    moved: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::pin!(moved);
    loop {
        tokio::select! {
            moved = &mut moved => return moved,
            () = caller.cancelled.cancelled() => {
                return Err(Failure::new(Kind::Cancelled, "it was cancelled")
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
    }
}

impl FileCopy {
    /// Gives how many files and bytes were copied.
    async fn carry_out(&self, client: &Client, meter: &Meter) -> Result<(u64, u64), Failure> {
        let overwrite = self.overwrite.unwrap_or(false);
        let recursive = self.recursive.unwrap_or(false);
        let (local, (server, path), up) = match (End::parse(&self.from), End::parse(&self.to)) {
            (End::There { server, path }, End::There { server: other, path: to }) => {
                let (from, to) = ((server.as_str(), &path[..]), (other.as_str(), &to[..]));
                return between(client, (from, to), [overwrite, recursive], meter).await;
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
        not_ours(Self::NAME, client.home.path(), &local)?;
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

/// The same failure with what a model says where a person has an option.
fn for_models(failure: Failure) -> Failure {
    match failure.kind {
        Kind::FileExists => failure.with_hint("overwrite=true replaces it, or choose another name"),
        Kind::NotAFile if failure.hint.is_some() => {
            failure.with_hint("recursive=true copies a directory with all that is in it")
        }
        _ => failure,
    }
}

/// That a path here is absolute, and not where our keys and secrets are: no model gets them, or puts others in
/// their place.
pub(super) fn not_ours(tool: &str, home: &Path, local: &Path) -> Result<(), Failure> {
    if !local.is_absolute() {
        let text = format!("{tool}: `{}` is neither SERVER:PATH nor absolute", local.display());
        return Err(Failure::new(Kind::InvalidArgument, text));
    }
    let real = |path: &Path| -> Option<PathBuf> {
        // What is not there yet is where its directory is.
        path.ancestors().find_map(|above| {
            let real = above.canonicalize().ok()?;
            Some(real.join(path.strip_prefix(above).ok()?))
        })
    };
    let (Some(home), Some(local)) = (real(home), real(local)) else { return Ok(()) };
    // A path with `..` in what is not there yet leads nowhere.
    let odd = local.components().any(|part| part == Component::ParentDir);
    if odd || local.starts_with(&home) || home.starts_with(&local) {
        let text = format!("{tool}: Farwire's own keys and secrets are there");
        return Err(Failure::new(Kind::NotGranted, text).with_hint("name another path"));
    }
    Ok(())
}

/// A server by its name, and a path there.
type Named<'a> = (&'a str, &'a [u8]);

/// Copies between servers, or on one.
async fn between(
    client: &Client,
    (from, to): (Named<'_>, Named<'_>),
    [overwrite, recursive]: [bool; 2],
    meter: &Meter,
) -> Result<(u64, u64), Failure> {
    let source = client.find(from.0).await?;
    let target = client.find(to.0).await?;
    let from = find(client, &source, from.1).await?;
    let to = find(client, &target, to.1).await?;
    let from = across::End { server: source, place: from };
    let to = across::End { server: target, place: to };
    let landing = Box::pin(landing(client, (&from, &to), Onto::FilesInside, recursive)).await?;
    let to = across::End { place: landing.place.clone(), ..to };
    if !from.is_beside(&to) {
        let copy = Across { client, from, to, overwrite, recursive, moved: false, meter };
        Box::pin(across::across(&copy)).await?;
        let (bytes, _, files) = meter.read();
        return Ok((files, bytes));
    }
    // In one root nothing has to come over.
    let mut files = from.enter_as(client, FACE).await?;
    if overwrite {
        landing.make_room(client, &mut files, (&from.place, false)).await?;
    }
    let copy = Copy {
        from: Blob(from.place.path),
        to: Blob(to.place.path),
        moved: None,
        overwrite: Some(overwrite),
        recursive: Some(recursive),
        undo: Some(true),
    };
    let done = files.answer(client, Ask::Copy(copy), None).await?.done;
    meter.copied(&done);
    Ok((done.count.unwrap_or(0), done.bytes.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_keys_are_neither_sent_nor_replaced() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("config/farwire");
        std::fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::symlink(&home, place.path().join("link")).unwrap();
        for ours in
            ["config/farwire", "config/farwire/new", "config", "", "link/identity", "x/../config"]
        {
            let refused = not_ours("file_copy", &home, &place.path().join(ours)).unwrap_err();
            assert_eq!(refused.kind, Kind::NotGranted, "{ours}");
        }
        for other in ["config/other", "config/farwire2", "file", "new/deep/file"] {
            not_ours("file_copy", &home, &place.path().join(other)).unwrap();
        }
    }

    #[test]
    fn an_end_is_here_or_on_a_server() {
        let there =
            |server: &str, path: &str| End::There { server: server.into(), path: path.into() };
        assert_eq!(End::parse("web-1:/srv/x"), there("web-1", "/srv/x"));
        assert_eq!(End::parse("web-1:a:b"), there("web-1", "a:b"));
        assert_eq!(End::parse("/tmp/a:b"), End::Here("/tmp/a:b".into()));
        assert_eq!(End::parse("./a:b"), End::Here("./a:b".into()));
        assert_eq!(End::parse("x"), End::Here("x".into()));
        assert_eq!(End::parse("db.example:x"), there("db.example", "x"));
        assert_eq!(End::parse("-x:y"), End::Here("-x:y".into()));
    }
}
