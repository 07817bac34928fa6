//! `farwire files`: files in the roots that servers have opened.
//!
//! A file on a server is `SERVER:PATH`. The path is absolute, or begins with the name of a root; if
//! the server has only one root, it may be relative to that root.

mod archive;
mod arguments;
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
mod unfinished;
mod watch;
mod write;

use clap::Subcommand;
use farwire_protocol::failure::{Failure, Kind};

use crate::cli::jobs::online;
use crate::client::Client;
use crate::files::transfer::WITH_ALL;

/// Work with files on a server, in the directories that its owner has opened
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
                Self::Ls(ls) => return ls.carry_out(&client).await,
                Self::Stat(stat) => stat.carry_out(&client).await,
                Self::Cat(cat) => cat.carry_out(&client).await,
                Self::Checksum(checksum) => return checksum.carry_out(&client).await,
                Self::Archive(archive) => return archive.carry_out(&client).await,
                Self::Du(du) => return du.carry_out(&client).await,
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

    /// The same failure, with the command line's option in the hint. Hints for models are in
    /// `tools/file.rs`.
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
            (Kind::NotAFile, Some(hint), _) if hint == WITH_ALL => {
                "--recursive copies the directory with everything in it"
            }
            // Nothing of it goes on there, as a run would.
            (Kind::LinkLost, None, _) => "try again once the server is back",
            (Kind::DirectoryNotEmpty, None, Self::Rm(_)) => {
                "--recursive removes the directory with everything in it"
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
