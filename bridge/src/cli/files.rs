//! `farwire files`: what is beneath the roots that servers have opened.
//!
//! A file on a server is `SERVER:PATH`. The path is the one that it has there, or begins with the name of a
//! root; where a server has one root, it may begin in it.

mod archive;
mod change;
mod checksum;
mod copied;
mod du;
mod editor;
mod look;
mod mount;
mod moved;
mod serve;
mod sync;
mod undo;
mod watch;
mod write;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use clap::Subcommand;
use clap::builder::{OsStringValueParser, TypedValueParser};
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quoted;
use farwire_protocol::streams::files::{Done, Enter};

use crate::cli::jobs::online;
use crate::client::{Client, Server};
use crate::files::place::{Place, find};
use crate::files::site::Site;
use crate::files::transfer::Missed;
use crate::text::neutral::neutral_within;

/// Work on files of a server, beneath the directories that its owner has opened
#[derive(Debug, Subcommand)]
pub(crate) enum Files {
    Roots(look::Roots),
    Ls(look::Ls),
    Stat(look::Stat),
    Cat(look::Cat),
    Checksum(checksum::Checksum),
    Archive(archive::Archive),
    Du(du::Du),
    Search(look::Search),
    Watch(watch::Watch),
    Get(moved::Get),
    Put(moved::Put),
    Cp(copied::Cp),
    Mv(copied::Mv),
    Rm(change::Rm),
    Mkdir(change::Mkdir),
    Write(write::Write),
    Edit(change::Edit),
    Patch(change::Patch),
    Sync(sync::Sync),
    Undo(undo::Undo),
    Serve(serve::Serve),
    Mount(mount::Mount),
}

impl Files {
    pub(crate) fn carry_out(&self, client: Client) -> Result<u8, Failure> {
        if let Self::Serve(serve) = self {
            return serve.carry_out(client).map(|()| 0);
        }
        if let Self::Mount(mount) = self {
            return mount.carry_out(client).map(|()| 0);
        }
        online(&client, async {
            match self {
                Self::Roots(roots) => roots.carry_out(&client).await,
                Self::Ls(ls) => ls.carry_out(&client).await,
                Self::Stat(stat) => stat.carry_out(&client).await,
                Self::Cat(cat) => cat.carry_out(&client).await,
                Self::Checksum(checksum) => return checksum.carry_out(&client).await,
                Self::Archive(archive) => return archive.carry_out(&client).await,
                Self::Du(du) => du.carry_out(&client).await,
                Self::Search(search) => return search.carry_out(&client).await,
                Self::Watch(watch) => return watch.carry_out(&client).await,
                Self::Get(get) => return Box::pin(get.carry_out(&client)).await,
                Self::Put(put) => return Box::pin(put.carry_out(&client)).await,
                Self::Cp(cp) => return Box::pin(cp.carry_out(&client)).await,
                Self::Mv(mv) => return mv.carry_out(&client).await,
                Self::Rm(rm) => rm.carry_out(&client).await,
                Self::Mkdir(mkdir) => mkdir.carry_out(&client).await,
                Self::Write(write) => write.carry_out(&client).await,
                Self::Edit(edit) => edit.carry_out(&client).await,
                Self::Patch(patch) => patch.carry_out(&client).await,
                Self::Sync(sync) => return Box::pin(sync.carry_out(&client)).await,
                Self::Undo(undo) => undo.carry_out(&client).await,
                Self::Serve(_) | Self::Mount(_) => Ok(()),
            }
            .map(|()| 0)
        })
        .map_err(|failure| self.for_people(failure))
    }

    /// The same failure with the option that a person has. What models are told is in `tools/file.rs`.
    fn for_people(&self, failure: Failure) -> Failure {
        let hint = match (failure.kind, &failure.hint, self) {
            (
                Kind::FileExists,
                None,
                Self::Get(_)
                | Self::Put(_)
                | Self::Cp(_)
                | Self::Mv(_)
                | Self::Write(_)
                | Self::Archive(_),
            ) => "--force replaces it; or choose another name",
            (Kind::NotAFile, Some(_), Self::Get(_) | Self::Put(_) | Self::Cp(_)) => {
                "--recursive takes it with all that is in it"
            }
            (Kind::DirectoryNotEmpty, None, Self::Rm(_)) => {
                "--recursive removes it with all that is in it"
            }
            _ => return failure,
        };
        failure.with_hint(hint)
    }

    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Roots(roots) => roots.json.json,
            Self::Ls(ls) => ls.json.json,
            Self::Stat(stat) => stat.json.json,
            Self::Checksum(checksum) => checksum.json.json,
            Self::Archive(archive) => archive.json.json,
            Self::Du(du) => du.json.json,
            Self::Search(search) => search.json.json,
            Self::Watch(watch) => watch.json.json,
            Self::Get(get) => get.json.json,
            Self::Put(put) => put.json.json,
            Self::Cp(cp) => cp.json.json,
            Self::Mv(mv) => mv.json.json,
            Self::Rm(rm) => rm.json.json,
            Self::Mkdir(mkdir) => mkdir.json.json,
            Self::Write(write) => write.json.json,
            Self::Edit(edit) => edit.json.json,
            Self::Patch(patch) => patch.json.json,
            Self::Sync(sync) => sync.json.json,
            Self::Undo(undo) => undo.json.json,
            Self::Cat(_) | Self::Serve(_) | Self::Mount(_) => false,
        }
    }
}

/// What servers' histories call whoever works through these commands.
const FACE: &str = "cli";

/// A file on a server, as it is named on the command line. A path is bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
struct ServerPath {
    server: String,
    path: Vec<u8>,
}

impl ServerPath {
    fn parse(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let (server, path) = match bytes.iter().position(|&byte| byte == b':') {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (bytes, &[][..]),
        };
        match std::str::from_utf8(server) {
            Ok(server) if !server.is_empty() && !server.contains('/') => {
                Ok(Self { server: server.to_owned(), path: path.to_vec() })
            }
            _ => Err("not SERVER:PATH".to_owned()),
        }
    }
}

/// Reads one from the bytes of an argument.
#[derive(Clone, Debug)]
struct ServerPathParser;

impl TypedValueParser for ServerPathParser {
    type Value = ServerPath;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<ServerPath, clap::Error> {
        let read = OsStringValueParser::new().try_map(|value| ServerPath::parse(&value));
        read.parse_ref(command, argument, value)
    }
}

impl clap::builder::ValueParserFactory for ServerPath {
    type Parser = ServerPathParser;

    fn value_parser() -> ServerPathParser {
        ServerPathParser
    }
}

impl ServerPath {
    async fn place(&self, client: &Client) -> Result<(Server, Place), Failure> {
        let server = client.find(&self.server).await?;
        let place = find(client, &server, &self.path).await?;
        Ok((server, place))
    }

    /// The path, for questions about it.
    async fn site(&self, client: &Client) -> Result<Site, Failure> {
        Site::find(client, client.find(&self.server).await?, &self.path, FACE).await
    }

    /// The root of this name, for questions about it.
    async fn site_root(&self, client: &Client) -> Result<Site, Failure> {
        Site::find_root(client, client.find(&self.server).await?, &self.path, FACE).await
    }

    /// How it is entered as if it were a root: nothing beside it can be named then.
    async fn below(&self, client: &Client) -> Result<Enter, Failure> {
        if self.path.is_empty() {
            return Ok(Enter::default());
        }
        let (_, place) = self.place(client).await?;
        let below = Some(Blob(place.path)).filter(|below| !below.is_empty());
        Ok(Enter { root: Some(place.root), below, ..Enter::default() })
    }
}

/// The exit code of what was done but for some of it.
const INCOMPLETE: u8 = 2;

/// Says what could not be done of many; returns the exit code.
fn incomplete(missed: &[Missed], failure: &Failure) -> u8 {
    for one in missed {
        note!("farwire: {}", neutral_within(&one.shown(), 4_096));
    }
    let hint = match failure.kind {
        Kind::FileExists if failure.hint.is_none() => "--force replaces it; or choose another name",
        _ => failure.hint(),
    };
    let message = neutral_within(&failure.message, 2_000);
    note!("error[{}]: {message}\nhint: {}", failure.kind, neutral_within(hint, 2_000));
    INCOMPLETE
}

/// The same as JSON.
fn missed_json(missed: &[Missed]) -> Vec<serde_json::Value> {
    let one = |one: &Missed| {
        serde_json::json!({
            "path": quoted(&one.path), "kind": one.why.kind.name(), "message": one.why.message,
        })
    };
    missed.iter().map(one).collect()
}

/// What a server left out or could not read, as it says so at the end of its answer.
fn named(place: &Place, done: &Done) -> String {
    let names: Vec<_> = done.names.iter().flatten().map(|path| place.given(path)).collect();
    let many = done.unread.or(done.skipped).unwrap_or(0);
    let more = if many > names.len() as u64 { ", …" } else { "" };
    if names.is_empty() { String::new() } else { format!(": {}{more}", names.join(", ")) }
}

/// That nothing was left out because it could not be read.
///
/// # Errors
///
/// `permission_denied` with the names, once the rest has been done.
fn all_was_read(place: &Place, done: &Done) -> Result<(), Failure> {
    let Some(unread) = done.unread.filter(|unread| *unread > 0) else { return Ok(()) };
    let names = named(place, done);
    let text = format!("{unread} files or directories could not be read{names}");
    Err(Failure::new(Kind::PermissionDenied, text))
}

/// A revision, as it is shown and given.
fn parse_revision(text: &str) -> Result<u64, String> {
    match u64::from_str_radix(text, 16) {
        Ok(number) if text.len() == 12 => Ok(number),
        _ => Err("not the 12 digits of a revision".to_owned()),
    }
}
