//! The questions about a root, one file for each.
//!
//! Every function does one thing beneath one [`Tree`], sends what it finds to the [`Peer`], and
//! returns the end of the answer. Nothing is changed before the complete question and its content
//! have arrived.

mod archive;
mod batch;
mod changes;
mod desk;
mod edit;
mod list;
mod memory;
mod patch;
mod read;
mod search;
mod tidy;
mod unread;
mod usage;
mod watch;
mod write;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Attributes, Copy, Done, MakeDirectory, Remove};

use self::changes::Keeper;
pub use self::desk::{Desk, VerbError};
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::{Copied, Tree};

/// Answers a question about files. Requests of WebDAV clients go to `dav`.
pub fn answer(desk: &Desk<'_>, ask: &Ask, peer: &mut dyn Peer) -> Result<Done, VerbError> {
    let tree = desk.tree;
    match ask {
        Ask::List(list) => list::list(desk, list, peer),
        Ask::Stat(path) => stat(tree, path),
        Ask::Read(read) => read::read(desk, read, peer),
        Ask::Write(write) => write::write(desk, write, peer),
        Ask::Arrived(arrived) => write::received(tree, arrived),
        Ask::Edit(edit) => edit::edit(desk, edit, peer),
        Ask::Search(search) => search::search(desk, search, peer),
        Ask::MakeDirectory(make) => make_directory(tree, make),
        Ask::Remove(remove) => remove_one(desk, remove),
        Ask::Copy(copy) => copy_one(desk, copy),
        Ask::Watch(asked) => watch::watch(desk, asked, peer),
        Ask::Patch(asked) => patch::patch(desk, asked, peer),
        Ask::Changes(asked) => changes::changes(desk, asked, peer),
        Ask::Archive(asked) => archive::archive(desk, asked, peer),
        Ask::Revert(asked) => changes::revert(desk, asked, peer),
        Ask::Usage(path) => usage::usage(desk, path),
        Ask::Attributes(asked) => attributes(tree, asked),
        _ => Err(Failure::new(Kind::Unsupported, "this agent does not know that request")
            .with_hint("update the agent")
            .into()),
    }
}

fn stat(tree: &Tree, path: &Blob) -> Result<Done, VerbError> {
    let path = Rel::parse(path)?;
    let mut entry = tree.stat_link(&path)?.entry(path.as_bytes());
    if let Ok(behind) = tree.stat(&path)
        && behind.what != entry.what
    {
        entry = behind.entry(path.as_bytes());
        entry.target = Some(behind.what);
    }
    Ok(Done { entry: Some(entry), ..Done::default() })
}

fn attributes(tree: &Tree, asked: &Attributes) -> Result<Done, VerbError> {
    let path = Rel::parse(&asked.path)?;
    let stat = tree.set_rights(&path, asked.mode, asked.modified)?;
    Ok(Done { entry: Some(stat.entry(path.as_bytes())), ..Done::default() })
}

fn make_directory(tree: &Tree, make: &MakeDirectory) -> Result<Done, VerbError> {
    let path = Rel::parse(&make.path)?;
    match make.parents.unwrap_or(false) {
        true => tree.make_directories(&path)?,
        false => tree.make_directory(&path)?,
    }
    let entry = tree.stat(&path)?.entry(path.as_bytes());
    Ok(Done { entry: Some(entry), ..Done::default() })
}

fn remove_one(desk: &Desk<'_>, remove: &Remove) -> Result<Done, VerbError> {
    let path = Rel::parse(&remove.path)?;
    desk.tree.place_to_change(&path)?;
    let keeper = Keeper::new(desk, "remove", remove.undo);
    let change = keeper.removing(&path)?;
    let removed = desk.tree.remove(&path, remove.recursive.unwrap_or(false), remove.revision);
    keeper.conclude(change, removed)?;
    Ok(Done { change, ..Done::default() })
}

fn copy_one(desk: &Desk<'_>, copy: &Copy) -> Result<Done, VerbError> {
    let tree = desk.tree;
    let (from, to) = (Rel::parse(&copy.from)?, Rel::parse(&copy.to)?);
    let (overwrite, moved) = (copy.overwrite.unwrap_or(false), copy.moved.unwrap_or(false));
    tree.place_to_change(&to)?;
    let verb = if moved { "move" } else { "copy" };
    // A copy that will be refused replaces nothing, so nothing needs to be kept.
    let refused = !overwrite && tree.stat_link(&to).is_ok();
    let keeper = Keeper::new(desk, verb, copy.undo.filter(|_| !refused));
    let change = keeper.arriving(&from, &to, moved)?;
    let mut done = Done { change, ..Done::default() };
    if moved {
        keeper.conclude(change, tree.rename(&from, &to, overwrite))?;
    } else {
        let copied = tree.copy(&from, &to, overwrite, copy.recursive.unwrap_or(false));
        let copied = keeper.conclude(change, copied)?;
        done.count = Some(copied.files);
        done.bytes = Some(copied.bytes);
        let Copied { links, unread, .. } = copied;
        done.skipped = Some(links.count + unread.count).filter(|count| *count > 0);
        done.unread = Some(unread.count).filter(|count| *count > 0);
        let names = if unread.count > 0 { unread.names } else { links.names };
        done.names = done.skipped.map(|_| unread::paths_that_fit(&from, names));
    }
    done.entry = Some(tree.stat_link(&to)?.entry(to.as_bytes()));
    Ok(done)
}

#[cfg(test)]
mod tests;
