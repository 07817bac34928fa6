//! `revert`: a change is undone, or done again, as a whole or not at all.
//!
//! Which change that is, is decided here; [`Reversal`] carries it out.

use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, Revert};

use super::reversal::Reversal;
use super::{records, unknown};
use crate::peer::Peer;
use crate::undo::{ChangeRecord, UndoOrder};
use crate::verbs::desk::{Desk, VerbError};

/// Undoes a change, or does it again.
pub(in crate::verbs) fn revert(
    desk: &Desk<'_>,
    revert: &Revert,
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
    let redo = revert.redo.unwrap_or(false);
    // Each of two concurrent reverts would take the other's work for somebody else's change.
    let store = desk.undo.ok_or_else(unknown)?;
    let _lock = store.lock_reverts();
    let (undo, records) = records(desk)?;
    let record = choose(records, revert.change, redo)?;
    if record.undone != redo {
        let state = if redo { "has not been undone" } else { "has been undone already" };
        let text = format!("change {} {state}", record.change);
        return Err(Failure::new(Kind::NothingToUndo, text).into());
    }
    let mut keeping = undo.begin();
    keeping.pin(&record);
    let mut reversal = Reversal::new(desk, undo, &record, redo)?;
    reversal.check_visible()?;
    reversal.paths().for_each(|path| peer.changes(path));
    reversal.look(revert.force.unwrap_or(false))?;
    reversal.check_writable()?;
    let unexpected = reversal.carry_out(&mut keeping)?;
    keeping.record_revert(record.change, !redo, unexpected)?;
    let count = Some(record.steps.len() as u64);
    Ok(Done { change: Some(record.change), count, ..Done::default() })
}

/// Returns the change with this number, or the one that is next without a number. `records` begins
/// with the latest change.
pub(super) fn choose(
    mut records: impl Iterator<Item = Arc<ChangeRecord>>,
    change: Option<u64>,
    redo: bool,
) -> Result<Arc<ChangeRecord>, Failure> {
    match change {
        Some(number) => records.find(|record| record.change == number),
        None if redo => last_undone(records),
        None => records.find(|record| !record.undone),
    }
    .ok_or_else(unknown)
}

/// Returns the change that was undone last, unless something has been changed since: a change that
/// was undone before that is redone by its number only.
fn last_undone(records: impl Iterator<Item = Arc<ChangeRecord>>) -> Option<Arc<ChangeRecord>> {
    let (mut latest, mut last) = (0, None::<(UndoOrder, Arc<ChangeRecord>)>);
    for record in records {
        latest = latest.max(record.change);
        let order = record.order.filter(|_| record.undone);
        if let Some(order) = order
            && last.as_ref().is_none_or(|(other, _)| order.undo > other.undo)
        {
            last = Some((order, record));
        }
    }
    last.filter(|(order, _)| latest < order.next).map(|(_, record)| record)
}
