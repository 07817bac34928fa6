//! A change that is being undone, or done again.
//!
//! All paths are looked at first. A path is then changed only if it is still in the state that was
//! seen, so that concurrent changes of others are not lost. If a step fails, the steps before it
//! are taken back.

use std::io::Read as _;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{How, What};
use sha2::{Digest as _, Sha256};

use super::current::{Current, kind_of};
use super::{unknown, visible};
use crate::fault::fault;
use crate::path::Rel;
use crate::tree::{EVERYTHING, Tree, WriteOptions};
use crate::undo::{ChangeRecord, Keeping, Snapshot, Undo, Unexpected};
use crate::verbs::desk::Desk;

const LOST: &str = "look at it, and force the change if later changes may be lost";

/// One path that is restored.
struct Restoration<'a> {
    /// The index of its step in the record.
    step: usize,
    path: Rel,
    /// How the path should be before.
    expected: &'a Snapshot,
    /// How the path will be afterwards.
    target: &'a Snapshot,
    /// How the path is, compared with `target`.
    current: Current,
}

/// A step that has been made, with what it takes to take it back.
enum Applied {
    Renamed {
        from: Rel,
        to: Rel,
    },
    /// The path was as in this snapshot before.
    Replaced(Rel, Snapshot),
}

/// A change that is being undone, or done again.
pub(super) struct Reversal<'a> {
    desk: &'a Desk<'a>,
    undo: &'a Undo,
    change: u64,
    redo: bool,
    /// In the order of paths: directories come before their entries.
    paths: Vec<Restoration<'a>>,
    /// The source, if the change was a move.
    moved_from: Option<Rel>,
    applied: Vec<Applied>,
    unexpected: Vec<Unexpected>,
}

impl<'a> Reversal<'a> {
    pub(super) fn new(
        desk: &'a Desk<'a>,
        undo: &'a Undo,
        record: &'a ChangeRecord,
        redo: bool,
    ) -> Result<Self, Failure> {
        let mut paths = Vec::new();
        for (step, change) in record.steps.iter().enumerate() {
            let path = desk.tree.inner(&change.path).ok_or_else(unknown)?;
            let (before, after) = (&change.before, &change.after);
            let (expected, target) = if redo { (before, after) } else { (after, before) };
            paths.push(Restoration { step, path, expected, target, current: Current::default() });
        }
        paths.sort_by(|one, other| one.path.cmp(&other.path));
        let moved_from = record.steps.iter().find_map(|step| step.moved_from.as_ref());
        let moved_from =
            moved_from.map(|from| desk.tree.inner(from).ok_or_else(unknown)).transpose()?;
        Ok(Self {
            desk,
            undo,
            change: record.change,
            redo,
            paths,
            moved_from,
            applied: Vec::new(),
            unexpected: Vec::new(),
        })
    }

    /// The paths that the change was about.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Rel> {
        self.paths.iter().map(|restoration| &restoration.path)
    }

    /// Refuses a change of which a path is hidden now.
    pub(super) fn check_visible(&self) -> Result<(), Failure> {
        let paths = self.paths().chain(&self.moved_from);
        visible::check_visible(self.desk.tree, self.change, paths)
    }

    /// Refuses a change that would write to a path that is protected now.
    pub(super) fn check_writable(&self) -> Result<(), Failure> {
        let written =
            self.paths.iter().filter(|restoration| !restoration.current.fits(restoration.target));
        let mut paths = written.map(|restoration| &restoration.path).chain(&self.moved_from);
        paths.try_for_each(|path| visible::check_writable(self.desk.tree, self.change, path))
    }

    /// Looks at all paths. Refuses a path that has been changed since, unless `force` is set.
    pub(super) fn look(&mut self, force: bool) -> Result<(), Failure> {
        let moved = self.moved_from.is_some();
        for restoration in &mut self.paths {
            self.desk.tree.listener().check()?;
            let path = &restoration.path;
            restoration.current = Current::look(self.desk, path, restoration.target)?;
            restoration.current.has_content &= !restoration.has_other_mode();
            let as_expected = match restoration.expected {
                // The entries of a directory that was moved are wherever the directory is.
                Snapshot::Unknown => moved,
                expected => Current::look(self.desk, path, expected)?.fits(expected),
            };
            // An earlier attempt, which broke off, has restored what fits the target already.
            if !force && !as_expected && !restoration.current.fits(restoration.target) {
                let text = match restoration.expected {
                    Snapshot::Unknown => format!("{path} is too large to be compared"),
                    _ => format!("{path} has been changed since"),
                };
                return Err(Failure::new(Kind::ChangedMeanwhile, text).with_hint(LOST));
            }
        }
        if moved && self.redo && !force { self.check_replaced_directory() } else { Ok(()) }
    }

    /// Refuses to redo a move onto a directory that has entries which it did not have when it was
    /// replaced first: they would be lost, and no copy of them is kept.
    fn check_replaced_directory(&self) -> Result<(), Failure> {
        let Some(first) = self.paths.first() else { return Ok(()) };
        if first.current.what != Some(What::Directory) {
            return Ok(());
        }
        let changed = |path: &Rel| {
            let text = format!("{path} has been changed since");
            Failure::new(Kind::ChangedMeanwhile, text).with_hint(LOST)
        };
        let skipped =
            self.desk.tree.walk(&first.path, EVERYTHING, &mut |visited| {
                self.desk.tree.listener().check_after_name()?;
                let path = first.path.join(visited.at.as_bytes());
                match self.paths.binary_search_by(|restoration| restoration.path.cmp(&path)) {
                    Ok(_) => Ok(visited.what().map_err(|error| fault(&path, error))?
                        == Some(What::Directory)),
                    Err(_) => Err(changed(&path)),
                }
            })?;
        if skipped > 0 { Err(changed(&first.path)) } else { Ok(()) }
    }

    /// Carries the reversal out, or takes back what was done of it. Returns what stood at paths
    /// where something else had been expected.
    pub(super) fn carry_out(
        mut self,
        keeping: &mut Keeping<'_>,
    ) -> Result<Vec<Unexpected>, Failure> {
        let done = match (self.redo, self.moved_from.clone()) {
            (true, Some(from)) => self.move_again(&from, keeping),
            (_, from) => self.restore_all(from.as_ref(), keeping),
        };
        let Err(failure) = done else { return Ok(self.unexpected) };
        let tree = &self.desk.tree.for_taking_back();
        for applied in self.applied.iter().rev() {
            let taken_back = match applied {
                Applied::Renamed { from, to } => tree.rename(to, from, false),
                Applied::Replaced(path, snapshot) => self.take_back(tree, path, snapshot),
            };
            if let Err(worse) = taken_back {
                let text = format!(
                    "{failure}; the part that was already done could not be taken back: {worse}"
                );
                return Err(Failure::new(Kind::OutcomeUnknown, text));
            }
        }
        Err(failure)
    }

    /// Redoes a move. The destination was kept when it was replaced first.
    fn move_again(&mut self, from: &Rel, keeping: &mut Keeping<'_>) -> Result<(), Failure> {
        let paths = std::mem::take(&mut self.paths);
        let first = paths.first().ok_or_else(unknown)?;
        if first.current.what == Some(What::File) {
            self.keep(first, keeping)?;
        }
        self.desk.tree.rename(from, &first.path, true)
    }

    fn restore_all(
        &mut self,
        from: Option<&Rel>,
        keeping: &mut Keeping<'_>,
    ) -> Result<(), Failure> {
        let tree = self.desk.tree;
        let mut paths = std::mem::take(&mut self.paths);
        if let (Some(from), Some(first)) = (from, paths.first()) {
            tree.rename(&first.path, from, false)?;
            self.applied.push(Applied::Renamed { from: first.path.clone(), to: from.clone() });
            for restoration in &mut paths {
                restoration.current = Current::default();
            }
        }
        // Entries are removed before their directories, and created after them.
        for restoration in paths.iter_mut().rev() {
            let current = restoration.current;
            if current.what.is_some() && current.what != kind_of(restoration.target) {
                let before = self.keep(restoration, keeping)?;
                tree.remove(&restoration.path, false, current.removable)?;
                self.applied.push(Applied::Replaced(restoration.path.clone(), before));
                restoration.current = Current::default();
            }
        }
        for restoration in &paths {
            self.apply(restoration, keeping)?;
        }
        Ok(())
    }

    /// Restores a path to its target, unless it is there already.
    fn apply(
        &mut self,
        restoration: &Restoration<'_>,
        keeping: &mut Keeping<'_>,
    ) -> Result<(), Failure> {
        let (path, current) = (&restoration.path, restoration.current);
        let before = match (restoration.target, current.what) {
            (Snapshot::Absent, _) | (Snapshot::Directory { .. }, Some(What::Directory)) => {
                return Ok(());
            }
            (Snapshot::File { .. }, Some(_)) if current.has_content => return Ok(()),
            (Snapshot::File { .. }, Some(_)) => self.keep(restoration, keeping)?,
            (Snapshot::Unknown, _) => {
                let text = "the content before the change is no longer kept";
                return Err(Failure::new(Kind::NothingToUndo, text));
            }
            (_, None) | (Snapshot::Directory { .. }, Some(_)) => Snapshot::Absent,
        };
        let how = if current.what.is_some() { How::Replace } else { How::Create };
        let wanted = WriteOptions { how, revision: current.revision, ..WriteOptions::default() };
        self.restore(self.desk.tree, path, restoration.target, wanted)?;
        self.applied.push(Applied::Replaced(path.clone(), before));
        Ok(())
    }

    /// Keeps what stands at a path, so that it can be put back. Returns a snapshot of it.
    fn keep(
        &mut self,
        restoration: &Restoration<'_>,
        keeping: &mut Keeping<'_>,
    ) -> Result<Snapshot, Failure> {
        let path = &restoration.path;
        let Ok((file, stat)) = self.desk.tree.open(path) else {
            let stat = self.desk.tree.stat_link(path)?;
            let directory = Snapshot::Directory { mode: Some(stat.mode & 0o777) };
            let is_directory = stat.what == What::Directory;
            return Ok(if is_directory { directory } else { Snapshot::Unknown });
        };
        let kept = keeping.keep(&file)?;
        let Some((hash, size)) = kept else { return Ok(Snapshot::Unknown) };
        let snapshot = Snapshot::File { hash, size, mode: stat.mode & 0o777 };
        if snapshot != *restoration.expected {
            let step = u32::try_from(restoration.step).map_err(|_| unknown())?;
            self.unexpected.push(Unexpected { step, snapshot: snapshot.clone() });
        }
        Ok(snapshot)
    }

    /// Takes back a step: puts back what stood at its path before.
    fn take_back(&self, tree: &Tree, path: &Rel, before: &Snapshot) -> Result<(), Failure> {
        if *before == Snapshot::Unknown {
            return Err(Failure::new(Kind::TooLarge, format!("{path} could not be kept")));
        }
        let now = tree.stat_link(path).ok().map(|stat| stat.what);
        if *before == Snapshot::Absent || now.is_some_and(|now| Some(now) != kind_of(before)) {
            tree.remove(path, false, None)?;
        }
        let wanted = WriteOptions::default();
        self.restore(tree, path, before, wanted)
    }

    /// Restores a path to a snapshot.
    fn restore(
        &self,
        tree: &Tree,
        path: &Rel,
        snapshot: &Snapshot,
        wanted: WriteOptions,
    ) -> Result<(), Failure> {
        let (hash, mode) = match snapshot {
            Snapshot::File { hash, mode, .. } => (hash, mode),
            Snapshot::Directory { mode } => {
                return tree.make_directories_with(path, mode.unwrap_or(0o777));
            }
            Snapshot::Absent | Snapshot::Unknown => return Ok(()),
        };
        let mut content = self.undo.content(hash)?;
        if let Some((above, _)) = path.split() {
            tree.make_directories(&above)?;
        }
        let mut draft = tree.draft(path, WriteOptions { mode: Some(*mode), ..wanted })?;
        let mut buffer = vec![0; 128 << 10];
        let mut digest = Sha256::new();
        loop {
            let read = content.read(&mut buffer);
            let read = read.map_err(|error| Failure::new(Kind::Io, error.to_string()))?;
            if read == 0 {
                break;
            }
            let piece = buffer.get(..read).unwrap_or_default();
            digest.update(piece);
            draft.write(piece)?;
        }
        // The store is written without fsync: a machine that crashed may have lost a part of it.
        if digest.finalize().as_slice() != hash.0.as_slice() {
            let text = format!("the old content of {path} was not kept completely");
            return Err(Failure::new(Kind::NothingToUndo, text));
        }
        draft.commit().map(drop)
    }
}

impl Restoration<'_> {
    /// Whether the change was also about the mode of a file, which is not that of the target.
    fn has_other_mode(&self) -> bool {
        match (self.expected, self.target) {
            (Snapshot::File { mode: before, .. }, Snapshot::File { mode: after, .. }) => {
                before != after && self.current.mode != *after
            }
            _ => false,
        }
    }
}
