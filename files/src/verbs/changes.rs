//! `changes` and `revert`: the changes of a root, and how to undo and redo them.

mod current;
mod keeper;
mod reversal;
mod revert;
mod visible;

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Change, Changes, Done, ToBridge};

pub(super) use self::keeper::{Keeper, Planned};
use self::revert::choose;
pub(super) use self::revert::revert;
use super::batch::{BATCH, Batch};
use super::desk::{Desk, VerbError};
use super::edit;
use super::memory::MemoryShare;
use crate::peer::Peer;
use crate::undo::{ChangeRecord, Snapshot, Undo};

/// The most paths that are listed of a change.
const PATHS: usize = 20;

/// The size of a change in a message, besides its paths.
const OVERHEAD: usize = 160;

/// The changes within this tree that may be shown, the latest first.
fn records<'a>(
    desk: &'a Desk<'a>,
) -> Result<(&'a Undo, impl Iterator<Item = Arc<ChangeRecord>>), Failure> {
    let undo = desk
        .undo
        .ok_or_else(|| Failure::new(Kind::NothingToUndo, "undo is disabled for this root"))?;
    let ours = |record: &Arc<ChangeRecord>| {
        let paths =
            record.steps.iter().flat_map(|step| [Some(&step.path), step.moved_from.as_ref()]);
        paths.flatten().all(|path| desk.tree.inner(path).is_some())
            && visible::is_any_visible(desk.tree, record)
    };
    Ok((undo, undo.records().into_iter().filter(ours)))
}

/// Lists the latest changes, or shows a diff of what undoing one of them would do.
pub(super) fn changes(
    desk: &Desk<'_>,
    changes: &Changes,
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
    let (undo, mut records) = records(desk)?;
    let limit = changes.limit.map_or(50, |limit| usize::try_from(limit).unwrap_or(1000)).min(1000);
    let one = changes.change.is_some() || changes.next.is_some();
    let chosen: Vec<_> = match one {
        true => {
            vec![choose(records.by_ref(), changes.change, changes.next.unwrap_or(false))?]
        }
        false => records.by_ref().take(limit).collect(),
    };
    let mut batch = Batch::new();
    for record in &chosen {
        let paths = fitting_paths(desk, record);
        let bytes = OVERHEAD + paths.iter().map(|path| path.len()).sum::<usize>();
        let change = Change {
            change: record.change,
            verb: record.verb.clone(),
            paths,
            age_ms: Undo::age(record),
            who: record.who.clone(),
            undone: record.undone.then_some(true),
            kept: record.kept_bytes(),
        };
        if let Some(full) = batch.push(change, bytes) {
            peer.say(&ToBridge::Changed(full))?;
        }
    }
    if let Some(rest) = batch.rest() {
        peer.say(&ToBridge::Changed(rest))?;
    }
    if one && let [record] = chosen.as_slice() {
        preview(desk, undo, record, peer)?;
    }
    let more = !one && records.next().is_some();
    Ok(Done { count: Some(chosen.len() as u64), more: Some(more), ..Done::default() })
}

/// The paths of a change, as many as fit a message.
fn fitting_paths(desk: &Desk<'_>, record: &ChangeRecord) -> Vec<Blob> {
    let mut room = BATCH - OVERHEAD;
    let paths = record.steps.iter().filter_map(|step| desk.tree.inner(&step.path));
    let paths = paths.filter(|path| visible::is_visible(desk.tree, path)).take(PATHS);
    let fitting = paths.take_while(|path| {
        let fits = path.as_bytes().len() <= room;
        room = room.saturating_sub(path.as_bytes().len());
        fits
    });
    fitting.map(|path| Blob(path.as_bytes().to_vec())).collect()
}

/// Sends a diff of what undoing a change would do to text files.
fn preview(
    desk: &Desk<'_>,
    undo: &Undo,
    record: &ChangeRecord,
    peer: &mut dyn Peer,
) -> Result<(), VerbError> {
    let mut share = MemoryShare::default();
    // For both texts and the diff.
    share.take(3 * edit::NEAR)?;
    for step in record.steps.iter().take(PATHS) {
        let Some(path) = desk.tree.inner(&step.path) else { continue };
        if !visible::is_visible(desk.tree, &path) {
            continue;
        }
        desk.tree.listener().check_after_name()?;
        let to = if record.undone { &step.after } else { &step.before };
        let now = desk.tree.open(&path).map(|(file, _)| text(file)).unwrap_or_default();
        let then = match to {
            Snapshot::File { hash, .. } => undo.content(hash).map(text).unwrap_or_default(),
            Snapshot::Absent | Snapshot::Directory { .. } | Snapshot::Unknown => Vec::new(),
        };
        let shown = farwire_protocol::quote::quote(path.as_bytes());
        let diff = edit::diff(&now, &then);
        if !diff.is_empty() {
            peer.data(format!("--- {shown}\n+++ {shown}\n{diff}").as_bytes())?;
        }
    }
    Ok(())
}

fn text(file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A file that cannot be read is shown as empty.
    let _ = file.take(edit::NEAR as u64 + 1).read_to_end(&mut bytes);
    bytes
}

fn unknown() -> Failure {
    Failure::new(Kind::NothingToUndo, "there is no such change, or it is no longer kept")
}
