//! `patch`: applies a diff to several files as `git apply` does, as a whole or not at all.
//!
//! ```text
//!     parse     turns a text into changes of files; head, name, hunk and misfit are its parts
//!     plan      turns changes of files into the new state of each path
//!     here      writes all new files beside their places before the first one is put in place
//! ```
//!
//! If a file cannot be put in its place, those before it are put back. All of it is one change.

mod head;
mod hunk;
mod misfit;
mod name;
mod parse;
mod plan;

use std::fmt::Write as _;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::quote::quote;
use farwire_protocol::streams::files::{Done, How, Patch};

use self::plan::{PatchPlan, PatchedFile, PathState};
use super::changes::{Keeper, Planned};
use super::desk::{Desk, VerbError};
use super::memory::{MemoryShare, gather};
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::{Draft, Tree, WriteOptions};

pub(super) fn patch(
    desk: &Desk<'_>,
    patch: &Patch,
    peer: &mut dyn Peer,
) -> Result<Done, VerbError> {
    let mut share = MemoryShare::default();
    let text = gather(peer, &mut share)?;
    let below = Rel::parse(&patch.path)?;
    let diffs = parse::parse(&text, patch.strip, &mut share)?;
    let mut plan = PatchPlan::new(desk.tree, &below, &diffs)?;
    let mut told = String::new();
    for diff in &diffs {
        desk.tree.listener().check_after_name()?;
        let did = plan.add(diff, &mut share)?;
        told.push_str(&describe(&did, patch.prefix.as_deref().unwrap_or_default()));
    }
    let hunks = diffs.iter().map(|diff| diff.hunks.len() as u64).sum();
    let mut done = Done { count: Some(hunks), files: Some(diffs.len() as u64), ..Done::default() };
    if !patch.dry.unwrap_or(false) {
        let changed = plan.changed_paths();
        changed.iter().for_each(|(path, _)| peer.changes(path));
        done.change = carry_out(desk, &changed, patch.undo)?;
    }
    peer.data(told.as_bytes())?;
    Ok(done)
}

/// Describes what was done to a file, in a line or two.
fn describe(did: &PatchedFile, prefix: &str) -> String {
    let name = |path: &Rel| {
        let name = [prefix.as_bytes(), path.as_bytes()].concat();
        quote(&name).into_owned()
    };
    let mut text = String::new();
    let (from, to) = (name(&did.from), name(&did.to));
    let lines = match did.hunks {
        true => format!(" +{} -{}", did.lines.0, did.lines.1),
        false => String::new(),
    };
    // Writing to a string does not fail.
    let _ = match did.what {
        'R' | 'C' => writeln!(text, "{} {from} -> {to}{lines}", did.what),
        // If only the mode changed, the lines below say so.
        'M' if !did.hunks => Ok(()),
        what => writeln!(text, "{what} {to}{lines}"),
    };
    if let Some((before, after)) = did.modes {
        let _ = writeln!(text, "mode {to} {before:o} -> {after:o}");
    }
    text
}

impl PathState {
    /// Writes the new file beside its place.
    fn draft<'a>(&self, tree: &'a Tree, path: &Rel) -> Result<Option<Draft<'a>>, Failure> {
        let Some(after) = &self.after else {
            tree.place_to_change(path)?;
            return Ok(None);
        };
        if self.before.is_none()
            && let Some((above, _)) = path.split()
        {
            tree.make_directories(&above)?;
        }
        let how = if self.before.is_some() { How::Replace } else { How::Create };
        let revision = self.before.as_ref().map(|(_, stat)| stat.revision);
        let wanted = WriteOptions { how, revision, mode: self.mode, ..WriteOptions::default() };
        let mut draft = tree.draft(path, wanted)?;
        draft.write(after)?;
        Ok(Some(draft))
    }

    /// Puts the new file in its place.
    fn write(&self, tree: &Tree, path: &Rel, draft: Option<Draft<'_>>) -> Result<(), Failure> {
        match draft {
            Some(draft) => draft.commit().map(drop),
            None => {
                let revision = self.before.as_ref().map(|(_, stat)| stat.revision);
                tree.remove(path, false, revision)
            }
        }
    }

    /// Puts the old file back.
    fn put_back(&self, tree: &Tree, path: &Rel) -> Result<(), Failure> {
        let Some((bytes, stat)) = &self.before else { return tree.remove(path, false, None) };
        let mut draft =
            tree.draft(path, WriteOptions { mode: Some(stat.mode), ..WriteOptions::default() })?;
        draft.write(bytes)?;
        draft.commit().map(drop)
    }
}

fn carry_out(
    desk: &Desk<'_>,
    changed: &[(&Rel, &PathState)],
    undo: Option<bool>,
) -> Result<Option<u64>, Failure> {
    let drafts: Result<Vec<_>, _> =
        changed.iter().map(|(path, state)| state.draft(desk.tree, path)).collect();
    let drafts = drafts?;
    let planned = changed.iter().map(|(path, state)| Planned {
        path,
        after: state.after.as_deref(),
        mode: state
            .mode
            .or_else(|| state.before.as_ref().map(|(_, stat)| stat.mode & 0o777))
            .unwrap_or(0o644),
    });
    let keeper = Keeper::new(desk, "patch", undo);
    let change = keeper.patching(planned)?;
    keeper.conclude(change, write_all(desk, changed, drafts))?;
    Ok(change)
}

/// Puts all files in their places. If one fails, puts those before it back.
fn write_all(
    desk: &Desk<'_>,
    changed: &[(&Rel, &PathState)],
    drafts: Vec<Option<Draft<'_>>>,
) -> Result<(), Failure> {
    let tree = desk.tree;
    for (at, ((path, state), draft)) in changed.iter().zip(drafts).enumerate() {
        if let Err(failure) = state.write(tree, path, draft) {
            let mut done = changed.iter().take(at).rev();
            let tree = &tree.for_taking_back();
            return Err(match done.try_for_each(|(path, state)| state.put_back(tree, path)) {
                Ok(()) => failure,
                Err(worse) => Failure::new(
                    Kind::OutcomeUnknown,
                    format!("{failure}; the files already patched could not be restored: {worse}"),
                ),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
