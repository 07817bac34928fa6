//! `write`: replaces the content of a file, or appends to it.

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Arrived, Done, How, Write};

use super::changes::Keeper;
use super::desk::{Desk, VerbError};
use super::list;
use super::memory::{MemoryShare, gather};
use crate::listener::Listener;
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::{Draft, Stat, Tree, WriteOptions};

pub(super) fn write(
    desk: &Desk<'_>,
    write: &Write,
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
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
        How::Put | How::Create | How::Replace => replace(desk, &path, write, &mut change, peer)?,
    };
    let entry = Some(stat.entry(path.as_bytes()));
    Ok(Done { entry, bytes: Some(stat.size), change, ..Done::default() })
}

fn replace(
    desk: &Desk<'_>,
    path: &Rel,
    write: &Write,
    change: &mut Option<u64>,
    peer: &mut dyn Peer,
) -> Result<Stat, VerbError> {
    let tree = desk.tree;
    let wanted = WriteOptions {
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
            if offset > draft.length() {
                let text =
                    format!("{} bytes of the transfer have arrived, not {offset}", draft.length());
                // The transfer was completed or restarted since the client asked.
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
        verify(&draft, path, expected, desk.tree.listener())?;
    }
    let keeper = Keeper::new(desk, "write", write.undo);
    let written = draft.file().try_clone();
    let written = written.map_err(|error| Failure::new(Kind::Io, format!("{path}: {error}")))?;
    let stat = draft.commit_with(|before, mode| {
        *change = keeper.replacing(path, before, &written, mode)?;
        Ok(())
    });
    Ok(keeper.conclude(*change, stat)?)
}

/// Refuses content that did not arrive as it was sent. The transfer then has to start over.
fn verify(
    draft: &Draft<'_>,
    path: &Rel,
    expected: &Blob,
    listener: &Listener,
) -> Result<(), Failure> {
    let read = || {
        let mut file = draft.file().try_clone()?;
        std::io::Seek::rewind(&mut file)?;
        list::digest(file, listener)
    };
    let hash = read().map_err(|error| Failure::new(Kind::Io, format!("{path}: {error}")))?;
    if hash != expected.0 {
        // Damaged content must not be continued.
        let _ = draft.file().set_len(0);
        let text = format!("{path}: the content differs from what the sender announced");
        return Err(Failure::new(Kind::IntegrityFailure, text)
            .with_hint("the file may have changed while it was read; send it again"));
    }
    Ok(())
}

/// Appends to a file at once, so that concurrent writers lose nothing.
fn append(tree: &Tree, path: &Rel, write: &Write, peer: &mut dyn Peer) -> Result<Stat, VerbError> {
    // Held as long as the content is.
    let mut share = MemoryShare::default();
    let content = gather(peer, &mut share)?;
    let wanted = WriteOptions {
        how: How::Append,
        revision: write.revision,
        mode: write.mode,
        modified: None,
        durable: !write.lazy.unwrap_or(false),
    };
    Ok(match tree.append(path, wanted, &content) {
        // Somebody created it meanwhile.
        Err(failure) if failure.kind == Kind::FileExists => tree.append(path, wanted, &content),
        other => other,
    }?)
}

pub(super) fn received(tree: &Tree, arrived: &Arrived) -> Result<Done, VerbError> {
    let path = Rel::parse(&arrived.path)?;
    let bytes = match tree.received_bytes(&path, arrived.transfer) {
        Ok(bytes) => bytes,
        // The directory may not exist yet.
        Err(failure) if failure.kind == Kind::NoSuchFile => 0,
        Err(failure) => return Err(failure.into()),
    };
    Ok(Done { bytes: Some(bytes), ..Done::default() })
}
