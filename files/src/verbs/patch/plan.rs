//! The state that each path will have when all of a patch has been applied.
//!
//! As in git, a change sees the result of earlier changes in the patch, and a rename or copy reads
//! the state before the patch. A file that the patch removes or renames makes way for another one,
//! wherever in the patch that is.

use std::collections::{BTreeMap, BTreeSet};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;

use super::hunk;
use super::parse::{FileAction, FileDiff};
use crate::path::Rel;
use crate::tree::{Stat, Tree, mode_of_new};
use crate::verbs::memory::MemoryShare;

/// The most bytes of files that are patched at once.
const LARGEST: u64 = 64 << 20;

/// A path before and after the patch.
#[derive(Debug)]
pub(super) struct PathState {
    /// The current content and state.
    pub(super) before: Option<(Vec<u8>, Stat)>,
    /// The new content. Absent: the file will be removed.
    pub(super) after: Option<Vec<u8>>,
    /// The new mode, if it changes.
    pub(super) mode: Option<u32>,
    /// Whether it gets the content of another path instead of its own.
    replaced: bool,
}

/// What was done to one file.
#[derive(Debug)]
pub(super) struct PatchedFile {
    /// `A`, `D`, `M`, `R` or `C`.
    pub(super) what: char,
    pub(super) from: Rel,
    pub(super) to: Rel,
    pub(super) hunks: bool,
    pub(super) lines: (usize, usize),
    /// The mode before and after, as git writes it, if it changed.
    pub(super) modes: Option<(u32, u32)>,
}

/// The paths of a patch.
#[derive(Debug)]
pub(super) struct PatchPlan<'a> {
    tree: &'a Tree,
    below: &'a Rel,
    states: BTreeMap<Rel, PathState>,
    /// The paths that the patch removes or renames.
    leaving: BTreeSet<Rel>,
    budget: u64,
}

impl<'a> PatchPlan<'a> {
    pub(super) fn new(
        tree: &'a Tree,
        below: &'a Rel,
        diffs: &[FileDiff<'_>],
    ) -> Result<Self, Failure> {
        let states = BTreeMap::new();
        let mut plan = Self { tree, below, states, leaving: BTreeSet::new(), budget: LARGEST };
        for diff in
            diffs.iter().filter(|diff| matches!(diff.act, FileAction::Remove | FileAction::Rename))
        {
            let path = plan.path(&diff.from)?;
            plan.leaving.insert(path);
        }
        Ok(plan)
    }

    /// The paths that the patch changes.
    pub(super) fn changed_paths(&self) -> Vec<(&Rel, &PathState)> {
        let changed = |state: &PathState| match (&state.before, &state.after) {
            (None, None) => false,
            (Some((before, _)), Some(after)) => before != after || state.mode.is_some(),
            _ => true,
        };
        self.states.iter().filter(|(_, state)| changed(state)).collect()
    }

    fn path(&self, name: &[u8]) -> Result<Rel, Failure> {
        Rel::parse(self.below.join(Rel::parse(name)?.as_bytes()).as_bytes())
    }

    /// Adds the change of one file.
    pub(super) fn add(
        &mut self,
        diff: &FileDiff<'_>,
        share: &mut MemoryShare,
    ) -> Result<PatchedFile, Failure> {
        let (from, to) = (self.path(&diff.from)?, self.path(&diff.to)?);
        self.look(&from, share)?;
        self.look(&to, share)?;
        let (what, mode) = match diff.act {
            FileAction::Create => ('A', self.create(&to, &from, diff, share)?),
            FileAction::CreateOrModify if self.state(&to)?.after.is_none() => {
                ('A', self.create(&to, &from, diff, share)?)
            }
            FileAction::Modify | FileAction::CreateOrModify => {
                ('M', self.modify(&to, diff, share)?)
            }
            FileAction::Remove => ('D', self.remove(&from, diff, share)?),
            FileAction::Rename => ('R', self.create(&to, &from, diff, share)?),
            FileAction::Copy => ('C', self.create(&to, &from, diff, share)?),
        };
        let as_git = |mode: u32| if mode & 0o100 == 0 { 0o100_644 } else { 0o100_755 };
        let modes = mode.filter(|_| diff.executable.is_some() && what != 'A');
        let modes = modes.map(|(before, after)| (as_git(before), as_git(after)));
        let (hunks, lines) = (!diff.hunks.is_empty(), diff.lines());
        Ok(PatchedFile { what, from, to, hunks, lines, modes })
    }

    fn state(&mut self, path: &Rel) -> Result<&mut PathState, Failure> {
        let unseen = || Failure::new(Kind::Internal, "a path of the patch was not read");
        self.states.get_mut(path).ok_or_else(unseen)
    }

    /// Loads the current state of a path.
    fn look(&mut self, path: &Rel, share: &mut MemoryShare) -> Result<(), Failure> {
        if self.states.contains_key(path) {
            return Ok(());
        }
        self.check_no_links(path)?;
        let before = match self.tree.open(path) {
            Ok((opened, stat)) => {
                self.budget = self.budget.checked_sub(stat.size).ok_or_else(|| {
                    Failure::new(Kind::TooLarge, "the files of the patch have more than 64 MiB")
                })?;
                Some((share.read(path, opened, stat.size)?, stat))
            }
            Err(failure) if failure.kind == Kind::NoSuchFile => None,
            Err(failure) => return Err(failure),
        };
        let after = before.as_ref().map(|(bytes, _)| copy(bytes, share)).transpose()?;
        self.states.insert(path.clone(), PathState { before, after, mode: None, replaced: false });
        Ok(())
    }

    /// Refuses a path with a symbolic link in it: the patch might change its target by another name
    /// too.
    fn check_no_links(&self, path: &Rel) -> Result<(), Failure> {
        let mut at = self.below.clone();
        for name in path.beneath(self.below).unwrap_or_default().split(|&byte| byte == b'/') {
            at = at.join(name);
            if self.tree.stat_link(&at).is_ok_and(|stat| stat.what == What::Link) {
                let what = if at == *path { "is" } else { "goes through" };
                let text = format!("{path} {what} a symbolic link; only files are patched");
                return Err(Failure::new(Kind::NotAFile, text));
            }
        }
        Ok(())
    }

    /// Creates a file, empty or from another one. Returns the mode before and after.
    fn create(
        &mut self,
        to: &Rel,
        from: &Rel,
        diff: &FileDiff<'_>,
        share: &mut MemoryShare,
    ) -> Result<Option<(u32, u32)>, Failure> {
        let leaving = self.leaving.contains(to);
        let state = self.state(to)?;
        if state.after.is_some() && (state.replaced || !leaving) {
            let text = format!("{to} already exists, but the patch creates it");
            return Err(Failure::new(Kind::FileExists, text));
        }
        let (old, old_mode) = match diff.act {
            FileAction::Rename | FileAction::Copy => match &self.state(from)?.before {
                Some((bytes, stat)) => (bytes.as_slice(), Some(stat.mode & 0o777)),
                None => return Err(not_there(from)),
            },
            _ => (&[][..], None),
        };
        let after = hunk::apply(&diff.hunks, to, old, share)?;
        let mode = match (old_mode, diff.executable) {
            (Some(mode), executable) => with_execute(mode, executable),
            (None, executable) => mode_of_new(executable.unwrap_or(false)),
        };
        if diff.act == FileAction::Rename {
            let state = self.state(from)?;
            if !state.replaced {
                state.after = None;
            }
        }
        let state = self.state(to)?;
        (state.after, state.mode, state.replaced) = (Some(after), Some(mode), true);
        Ok(Some((old_mode.unwrap_or(mode), mode)))
    }

    fn modify(
        &mut self,
        path: &Rel,
        diff: &FileDiff<'_>,
        share: &mut MemoryShare,
    ) -> Result<Option<(u32, u32)>, Failure> {
        let state = self.state(path)?;
        let Some(now) = &state.after else { return Err(nothing_to_change(path, state)) };
        let after = hunk::apply(&diff.hunks, path, now, share)?;
        state.after = Some(after);
        let had = state.before.as_ref().map(|(_, stat)| stat.mode & 0o777);
        let Some(mode) = state.mode.or(had) else { return Ok(None) };
        let will = with_execute(mode, diff.executable);
        if Some(will) != had || state.mode.is_some() {
            state.mode = Some(will);
        }
        Ok(Some((mode, will)))
    }

    fn remove(
        &mut self,
        path: &Rel,
        diff: &FileDiff<'_>,
        share: &mut MemoryShare,
    ) -> Result<Option<(u32, u32)>, Failure> {
        let state = self.state(path)?;
        if state.replaced
            && let Some((before, _)) = &state.before
        {
            // Another file has taken its place, for which this one made way.
            return check_removes_all(diff, path, before, share).map(|()| None);
        }
        let Some(now) = &state.after else { return Err(nothing_to_change(path, state)) };
        check_removes_all(diff, path, now, share)?;
        state.after = None;
        Ok(None)
    }
}

/// Refuses to remove a file if the patch does not list its whole content.
fn check_removes_all(
    diff: &FileDiff<'_>,
    path: &Rel,
    text: &[u8],
    share: &mut MemoryShare,
) -> Result<(), Failure> {
    match hunk::apply(&diff.hunks, path, text, share)?.is_empty() {
        true => Ok(()),
        false => {
            let text = format!("{path}: the patch removes it, but the file has other content");
            Err(Failure::new(Kind::PatchFailed, text))
        }
    }
}

fn copy(bytes: &[u8], share: &mut MemoryShare) -> Result<Vec<u8>, Failure> {
    let mut copied = share.buffer(bytes.len())?;
    copied.extend_from_slice(bytes);
    Ok(copied)
}

fn not_there(path: &Rel) -> Failure {
    Failure::new(Kind::NoSuchFile, format!("{path} does not exist"))
}

/// The failure of a path that has no content to change.
fn nothing_to_change(path: &Rel, state: &PathState) -> Failure {
    match state.before.is_some() {
        true => {
            let text = format!("{path} is removed or renamed by the patch before it is changed");
            Failure::new(Kind::PatchFailed, text)
        }
        false => not_there(path),
    }
}

/// A mode with or without execute permission, for everybody who may read.
fn with_execute(mode: u32, executable: Option<bool>) -> u32 {
    match executable {
        None => mode,
        Some(true) => mode | (mode & 0o444) >> 2,
        Some(false) => mode & !0o111,
    }
}
