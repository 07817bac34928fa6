//! What each path will hold when all of a patch is done.
//!
//! As in git, a change sees what those before it in the patch have left, and a rename or a copy reads what was there
//! before the patch. A file that the patch removes or renames makes room for another one, wherever that stands.

use std::collections::{BTreeMap, BTreeSet};

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;

use super::hunk;
use super::parse::{FileAction, FileDiff};
use crate::path::Rel;
use crate::tree::{Stat, Tree, mode_of_new};
use crate::verbs::memory::MemoryShare;

/// So many bytes of files are patched at once.
const LARGEST: u64 = 64 << 20;

/// A path as it is and as it will be.
#[derive(Debug)]
pub(super) struct PathState {
    /// What it is now, with its state.
    pub(super) before: Option<(Vec<u8>, Stat)>,
    /// What it will be: gone, if absent.
    pub(super) after: Option<Vec<u8>>,
    /// The rights that it will have, if they are others than now.
    pub(super) mode: Option<u32>,
    /// It holds what another path held, and no longer what it did.
    replaced: bool,
}

/// What was done about one file.
#[derive(Debug)]
pub(super) struct PatchedFile {
    /// `A`, `D`, `M`, `R` or `C`.
    pub(super) what: char,
    pub(super) from: Rel,
    pub(super) to: Rel,
    pub(super) hunks: bool,
    pub(super) lines: (usize, usize),
    /// The mode before and after, as git has them, where it was changed.
    pub(super) modes: Option<(u32, u32)>,
}

/// The paths of a patch.
#[derive(Debug)]
pub(super) struct PatchPlan<'a> {
    tree: &'a Tree,
    below: &'a Rel,
    states: BTreeMap<Rel, PathState>,
    /// What the patch removes or renames.
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

    /// What is changed.
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

    /// Adds what is to be done to one file.
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
        let unseen = || Failure::new(Kind::Internal, "a path of the patch was not looked at");
        self.states.get_mut(path).ok_or_else(unseen)
    }

    /// Looks at what is there.
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

    /// Refuses a path that is a link or goes through one: what it leads to has another name, by which the patch may
    /// change it, too.
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

    /// A file is made, of nothing or of another one. Gives the rights before and after.
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
            let text = format!("{to} is there already, and the patch makes it");
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
            // Another file stands here already, and this one made room for it.
            return check_removes_all(diff, path, before, share).map(|()| None);
        }
        let Some(now) = &state.after else { return Err(nothing_to_change(path, state)) };
        check_removes_all(diff, path, now, share)?;
        state.after = None;
        Ok(None)
    }
}

/// Refuses to remove a file of which the patch does not know all that is in it.
fn check_removes_all(
    diff: &FileDiff<'_>,
    path: &Rel,
    text: &[u8],
    share: &mut MemoryShare,
) -> Result<(), Failure> {
    match hunk::apply(&diff.hunks, path, text, share)?.is_empty() {
        true => Ok(()),
        false => {
            let text = format!("{path}: the patch removes it, and does not know all that is in it");
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
    Failure::new(Kind::NoSuchFile, format!("{path} is not there"))
}

/// Why a path has nothing that could be changed.
fn nothing_to_change(path: &Rel, state: &PathState) -> Failure {
    match state.before.is_some() {
        true => {
            let text = format!("{path} is removed or renamed by the patch before it is changed");
            Failure::new(Kind::PatchFailed, text)
        }
        false => not_there(path),
    }
}

/// Rights with or without those to execute: where somebody may read.
fn with_execute(mode: u32, executable: Option<bool>) -> u32 {
    match executable {
        None => mode,
        Some(true) => mode | (mode & 0o444) >> 2,
        Some(false) => mode & !0o111,
    }
}
