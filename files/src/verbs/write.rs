//! `write`: the whole content of a file, or more of it.

use std::os::fd::AsFd as _;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Arrived, Done, How, What, Write};
use rustix::fs::{Mode, OFlags};

use super::changes::Keeper;
use super::gathered::{Share, gather};
use super::{Desk, Listens, Stop, list};
use crate::fault::fault;
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::{Draft, Stat, Tree, Wanted};

pub(super) fn write(desk: &Desk<'_>, write: &Write, peer: &mut dyn Peer) -> Result<Done, Stop> {
    let tree = desk.tree;
    let path = Rel::parse(&write.path)?;
    if write.parents.unwrap_or(false)
        && let Some((above, _)) = path.split()
    {
        if !tree.rules().writable {
            return Err(Failure::new(
                Kind::ReadOnly,
                format!("{path} is in a root that is read-only"),
            )
            .into());
        }
        tree.make_directories(&above)?;
    }
    let mut change = None;
    let stat = match write.how {
        How::Append => append(tree, &path, write, peer)?,
        How::Put | How::Create | How::Replace => replace(desk, (&path, write), &mut change, peer)?,
    };
    let entry = Some(stat.entry(path.as_bytes()));
    Ok(Done { entry, bytes: Some(stat.size), change, ..Done::default() })
}

fn replace(
    desk: &Desk<'_>,
    (path, write): (&Rel, &Write),
    change: &mut Option<u64>,
    peer: &mut dyn Peer,
) -> Result<Stat, Stop> {
    let tree = desk.tree;
    let wanted = Wanted {
        how: write.how,
        revision: write.revision,
        mode: write.mode,
        modified: write.modified,
        durable: !write.lazy.unwrap_or(false),
    };
    let _held = match write.transfer {
        Some(transfer) => Some(desk.transfers.take(transfer, peer.socket())?),
        None => None,
    };
    let mut draft = match write.transfer {
        None => tree.draft(path, wanted)?,
        Some(transfer) => {
            let mut draft = tree.resume(path, wanted, transfer)?;
            let offset = write.offset.unwrap_or(0);
            if offset > draft.written() {
                let text =
                    format!("{} bytes of the transfer are there, not {offset}", draft.written());
                // It was finished, or begun anew, since that was asked.
                return Err(Failure::new(Kind::StreamStale, text).into());
            }
            draft.truncate(offset)?;
            draft
        }
    };
    while let Some(piece) = peer.content()? {
        draft.write(&piece)?;
    }
    if let Some(expected) = &write.hash {
        compare(&draft, path, (expected, desk.listens))?;
    }
    let keeper = Keeper::new(desk, "write", write.undo);
    let written = draft.file().try_clone();
    let written = written.map_err(|error| Failure::new(Kind::Io, format!("{path}: {error}")))?;
    let stat = draft.commit_with(|before, mode| {
        *change = keeper.replacing(path, before, (&written, mode))?;
        Ok(())
    });
    Ok(keeper.settled(*change, stat)?)
}

/// Refuses what did not arrive as it was sent. A transfer that went wrong begins anew.
fn compare(
    draft: &Draft<'_>,
    path: &Rel,
    (expected, listens): (&Blob, &Listens),
) -> Result<(), Failure> {
    let read = || {
        let mut file = draft.file().try_clone()?;
        std::io::Seek::rewind(&mut file)?;
        list::digest(file, listens)
    };
    let hash = read().map_err(|error| Failure::new(Kind::Io, format!("{path}: {error}")))?;
    if hash != expected.0 {
        // What is wrong is not gone on with.
        let _ = draft.file().set_len(0);
        let text = format!("{path}: the content is not what was meant to be sent");
        return Err(Failure::new(Kind::IntegrityFailure, text)
            .with_hint("the file may have changed while it was read; send it again"));
    }
    Ok(())
}

/// Adds to the end of a file, at once, so that others who write to it lose nothing.
fn append(tree: &Tree, path: &Rel, write: &Write, peer: &mut dyn Peer) -> Result<Stat, Stop> {
    let mut share = Share::default();
    let content = gather(peer, &mut share)?;
    match add(tree, path, write, &content) {
        // Somebody made it meanwhile.
        Err(failure) if failure.kind == Kind::FileExists => Ok(add(tree, path, write, &content)?),
        other => Ok(other?),
    }
}

fn add(tree: &Tree, path: &Rel, write: &Write, content: &[u8]) -> Result<Stat, Failure> {
    let failed = |error| fault(path, error);
    let place = tree.place_to_write(path)?;
    let lane = tree.lane(&place);
    let before = place.stat().map_err(failed)?;
    let Some(before) = before else {
        // It is taken again when the file gets its name.
        drop(lane);
        let wanted = Wanted {
            how: How::Create,
            revision: write.revision,
            mode: write.mode,
            ..Wanted::default()
        };
        let mut draft = tree.draft(path, wanted)?;
        draft.write(content)?;
        return draft.commit();
    };
    if before.what != What::File {
        return Err(failed(rustix::io::Errno::NXIO));
    }
    if before.links > 1 && !tree.rules().hard_links {
        let text =
            format!("{path} has {} names, and the others may be outside the root", before.links);
        return Err(Failure::new(Kind::OutsideRoot, text));
    }
    if write.revision.is_some_and(|expected| expected != before.revision) {
        return Err(crate::tree::changed(path));
    }
    if before.size.saturating_add(content.len() as u64) > tree.rules().largest {
        return Err(Failure::new(Kind::TooLarge, format!("{path} would be larger than allowed")));
    }
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(place.dir.as_fd(), &place.name[..], flags, Mode::empty());
    let file = file.map_err(failed)?;
    let opened = Stat::new(&rustix::fs::fstat(&file).map_err(failed)?);
    if opened.what != What::File || opened.inode != before.inode {
        return Err(crate::tree::changed(path));
    }
    let written = rustix::io::write(&file, content).map_err(failed)?;
    if written < content.len() {
        // The disk took a part of it: nothing is better than a part.
        let full = fault(path, rustix::io::Errno::NOSPC);
        return Err(match take_back(&file, written as u64).map_err(failed)? {
            true => full,
            false => {
                let text = format!("{}, and {written} bytes were added before", full.message);
                Failure::new(full.kind, text).with_hint("others have added to it since")
            }
        });
    }
    if !write.lazy.unwrap_or(false) {
        rustix::fs::fdatasync(&file).map_err(failed)?;
    }
    Ok(Stat::new(&rustix::fs::fstat(&file).map_err(failed)?))
}

/// Takes back so many bytes that were just added through this handle, if nobody has added more since: other
/// programs write without asking us, and what they wrote stays. Says whether it was done.
fn take_back(file: impl std::os::fd::AsFd, written: u64) -> Result<bool, rustix::io::Errno> {
    // The kernel has put the handle behind what it wrote, wherever that went.
    let end = rustix::fs::tell(&file)?;
    let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
    if size != end {
        return Ok(false);
    }
    rustix::fs::ftruncate(&file, end.saturating_sub(written))?;
    Ok(true)
}

pub(super) fn arrived(tree: &Tree, arrived: &Arrived) -> Result<Done, Stop> {
    let path = Rel::parse(&arrived.path)?;
    let bytes = match tree.arrived(&path, arrived.transfer) {
        Ok(bytes) => bytes,
        // The directory may have to be made yet.
        Err(failure) if failure.kind == Kind::NoSuchFile => 0,
        Err(failure) => return Err(failure.into()),
    };
    Ok(Done { bytes: Some(bytes), ..Done::default() })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_added_in_part_is_taken_back_and_what_others_added_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let open = || std::fs::File::options().create(true).append(true).open(&path).unwrap();
        let (mut ours, mut theirs) = (open(), open());
        theirs.write_all(b"theirs\n").unwrap();
        ours.write_all(b"ou").unwrap();
        assert_eq!(take_back(&ours, 2), Ok(true));
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs\n");
        theirs.write_all(b"more\n").unwrap();
        ours.write_all(b"ou").unwrap();
        theirs.write_all(b"last\n").unwrap();
        assert_eq!(take_back(&ours, 2), Ok(false));
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs\nmore\noulast\n");
    }
}
