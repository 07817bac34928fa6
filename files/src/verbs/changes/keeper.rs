//! Keeps what a question is about to change, and records the change.

use std::collections::BTreeMap;
use std::fs::File;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::What;
use sha2::{Digest as _, Sha256};

use crate::path::Rel;
use crate::tree::{EVERYTHING, Stat, is_left_out, mode_without_acl};
use crate::undo::{ChangeStep, Keeping, LARGEST, Snapshot, Undo};
use crate::verbs::desk::Desk;
use crate::verbs::list;

/// A larger directory is removed or replaced without an undo.
const STEPS: usize = 5_000;

/// A file as a patch will leave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) path: &'a Rel,
    /// The new content. Absent: the file will be removed.
    pub(crate) after: Option<&'a [u8]>,
    pub(crate) mode: u32,
}

/// Keeps what a question is about to change.
pub(crate) struct Keeper<'a> {
    desk: &'a Desk<'a>,
    undo: Option<&'a Undo>,
    verb: &'static str,
}

/// The files in a directory and the directory itself, by path, with the sizes of files. `None` if
/// not all of it can be kept.
type Inventory = Option<BTreeMap<Rel, Option<u64>>>;

impl<'a> Keeper<'a> {
    /// Keeps only if `wanted` is set and there is a store.
    pub(crate) fn new(desk: &'a Desk<'a>, verb: &'static str, wanted: Option<bool>) -> Self {
        let undo = desk.undo.filter(|_| wanted.unwrap_or(false));
        Self { desk, undo, verb }
    }

    /// Keeps a file before its content is replaced. Returns the number of the change.
    pub(crate) fn replacing(
        &self,
        path: &Rel,
        before: Option<&Stat>,
        content: &File,
        mode: u32,
    ) -> Result<Option<u64>, Failure> {
        let Some(mut keeping) = self.begin() else { return Ok(None) };
        let before = match before {
            None => Some(Snapshot::Absent),
            Some(_) => self.snapshot(&mut keeping, path)?,
        };
        let after = self.file_snapshot(content, mode)?;
        let Some(before) = before else { return Ok(None) };
        self.record(keeping, vec![self.step(path, before, after)])
    }

    /// Keeps several files before a patch changes all of them.
    pub(crate) fn patching<'p>(
        &self,
        files: impl Iterator<Item = Planned<'p>>,
    ) -> Result<Option<u64>, Failure> {
        let Some(mut keeping) = self.begin() else { return Ok(None) };
        let mut steps = Vec::new();
        for Planned { path, after, mode } in files {
            let Some(before) = self.snapshot(&mut keeping, path)? else { return Ok(None) };
            let after = after.map_or(Snapshot::Absent, |content| {
                let hash = Blob(Sha256::digest(content).to_vec());
                Snapshot::File { hash, size: content.len() as u64, mode }
            });
            steps.push(self.step(path, before, after));
        }
        self.record(keeping, steps)
    }

    /// Keeps everything at a path before it is removed.
    pub(crate) fn removing(&self, path: &Rel) -> Result<Option<u64>, Failure> {
        let Some(mut keeping) = self.begin() else { return Ok(None) };
        let Some(found) = self.inventory(path)? else { return Ok(None) };
        let Some(before) = self.keep_all(&mut keeping, found)? else { return Ok(None) };
        let step = |(path, before): (Rel, Snapshot)| {
            let before = self.without_acl(&path, before);
            self.step(&path, before, Snapshot::Absent)
        };
        self.record(keeping, before.into_iter().map(step).collect())
    }

    /// Keeps what a copy or a move will replace.
    pub(crate) fn arriving(
        &self,
        from: &Rel,
        to: &Rel,
        moved: bool,
    ) -> Result<Option<u64>, Failure> {
        let Some(mut keeping) = self.begin() else { return Ok(None) };
        let Some(mut after) = self.snapshots_after(from, to, moved)? else { return Ok(None) };
        let Some(found) = self.inventory(to)? else { return Ok(None) };
        let Some(mut before) = self.keep_all(&mut keeping, found)? else { return Ok(None) };
        before.entry(to.clone()).or_insert(Snapshot::Absent);
        let mut steps = Vec::new();
        for (path, before) in before {
            // The contents of a directory that is moved are not looked at.
            let gone = if moved { Snapshot::Unknown } else { Snapshot::Absent };
            let after = after.remove(&path).unwrap_or(gone);
            steps.push(self.step(&path, before, after));
        }
        let more = after.into_iter().map(|(path, after)| self.step(&path, Snapshot::Absent, after));
        steps.extend(more);
        if moved && let Some(first) = steps.first_mut() {
            first.moved_from = Some(Blob(self.desk.tree.outer(from).as_bytes().to_vec()));
        }
        self.record(keeping, steps)
    }

    /// Passes on the result of a change. The record of a change that was not made is voided.
    pub(crate) fn conclude<T>(
        &self,
        change: Option<u64>,
        result: Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let (Some(change), Some(undo), Err(failure)) = (change, self.undo, &result)
            && !self.is_partly_made(undo, change, failure)
        {
            undo.void(change);
        }
        result
    }

    /// Whether a failed change was made in part. What it removed is then in the store, and perhaps
    /// nowhere else.
    fn is_partly_made(&self, undo: &Undo, change: u64, failure: &Failure) -> bool {
        if failure.kind == Kind::OutcomeUnknown {
            return true;
        }
        let tree = self.desk.tree;
        let Some(record) = undo.find_record(change) else { return false };
        record.steps.iter().filter(|step| step.before != Snapshot::Absent).any(|step| {
            let is = tree.inner(&step.path).map(|path| tree.stat_link(&path));
            matches!(is, Some(Err(failure)) if failure.kind == Kind::NoSuchFile)
        })
    }

    fn begin(&self) -> Option<Keeping<'a>> {
        self.undo.map(Undo::begin)
    }

    fn step(&self, path: &Rel, before: Snapshot, after: Snapshot) -> ChangeStep {
        let path = Blob(self.desk.tree.outer(path).as_bytes().to_vec());
        ChangeStep { path, before, after, moved_from: None }
    }

    fn record(&self, keeping: Keeping<'_>, steps: Vec<ChangeStep>) -> Result<Option<u64>, Failure> {
        match keeping.record(self.verb, self.desk.who, steps) {
            Err(failure) if failure.kind == Kind::TooLarge => Ok(None),
            other => other.map(Some),
        }
    }

    /// Lists what is at a path, if all of it can be kept. Keeps nothing yet: a removal that is too
    /// large must not push older changes out of the store for nothing.
    fn inventory(&self, path: &Rel) -> Result<Inventory, Failure> {
        let (tree, quota) = (self.desk.tree, self.undo.map_or(0, Undo::quota));
        let mut found = BTreeMap::new();
        let Ok(stat) = tree.stat_link(path) else { return Ok(Some(found)) };
        let mut total = 0_u64;
        let mut fits = |what, size| {
            total = total.saturating_add(size);
            what == What::Directory || what == What::File && size <= LARGEST && total <= quota
        };
        let size_of = |stat: &Stat| (stat.what == What::File).then_some(stat.size);
        if !fits(stat.what, size_of(&stat).unwrap_or(0)) {
            return Ok(None);
        }
        found.insert(path.clone(), size_of(&stat));
        if stat.what != What::Directory {
            return Ok(Some(found));
        }
        let full = || Failure::new(Kind::TooLarge, "more than can be kept");
        let walked = tree.walk(path, EVERYTHING, &mut |visited| {
            self.desk.tree.listener().check_after_name()?;
            let Some(stat) = visited.stat().map_err(|_| full())? else { return Ok(false) };
            if found.len() >= STEPS || !fits(stat.what, size_of(&stat).unwrap_or(0)) {
                return Err(full());
            }
            found.insert(path.join(visited.at.as_bytes()), size_of(&stat));
            Ok(stat.what == What::Directory)
        });
        match walked {
            Ok(0) => Ok(Some(found)),
            Ok(_) => Ok(None),
            Err(failure) if failure.kind == Kind::TooLarge => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Keeps everything in an inventory.
    fn keep_all(
        &self,
        keeping: &mut Keeping<'_>,
        found: BTreeMap<Rel, Option<u64>>,
    ) -> Result<Option<BTreeMap<Rel, Snapshot>>, Failure> {
        let mut kept = BTreeMap::new();
        for (path, size) in found {
            self.desk.tree.listener().check()?;
            let snapshot = match size {
                None => Some(self.directory_snapshot(&path)),
                Some(_) => self.snapshot(keeping, &path)?,
            };
            let Some(snapshot) = snapshot else { return Ok(None) };
            kept.insert(path, snapshot);
        }
        Ok(Some(kept))
    }

    /// The states of paths after a copy or a move.
    fn snapshots_after(
        &self,
        from: &Rel,
        to: &Rel,
        moved: bool,
    ) -> Result<Option<BTreeMap<Rel, Snapshot>>, Failure> {
        let tree = self.desk.tree;
        // A move takes a link itself, and a copy takes its target.
        let source = if moved { tree.stat_link(from) } else { tree.stat(from) };
        let whole = match source.map(|stat| stat.what) {
            Ok(What::Directory) if !moved => {
                let Some(found) = self.inventory(from)? else { return Ok(None) };
                let mut after = BTreeMap::new();
                for (path, size) in found {
                    self.desk.tree.listener().check_after_name()?;
                    let below = path.beneath(from).unwrap_or_default();
                    let will = match size.map(|_| self.copy_snapshot(&path)) {
                        None => self.directory_snapshot(&path),
                        Some(Ok(will)) => will,
                        // The copy leaves it out.
                        Some(Err(failure))
                            if failure.kind == Kind::NoSuchFile || is_left_out(failure.kind) =>
                        {
                            continue;
                        }
                        Some(Err(failure)) => return Err(failure),
                    };
                    after.insert(to.join(below), will);
                }
                return Ok(Some(after));
            }
            Ok(What::Directory) => Snapshot::Directory { mode: None },
            Ok(What::File) => self.copy_snapshot(from)?,
            Ok(What::Link | What::Other) if moved => Snapshot::Unknown,
            // The copy or move will fail and say why.
            _ => return Ok(None),
        };
        Ok(Some(BTreeMap::from([(to.clone(), whole)])))
    }

    /// The state of a directory.
    fn directory_snapshot(&self, path: &Rel) -> Snapshot {
        let stat = self.desk.tree.stat_link(path);
        Snapshot::Directory { mode: stat.ok().map(|stat| stat.mode & 0o777) }
    }

    /// The state of a copy of this file.
    fn copy_snapshot(&self, path: &Rel) -> Result<Snapshot, Failure> {
        let (file, stat) = self.desk.tree.open(path)?;
        self.file_snapshot(&file, stat.mode & 0o777)
    }

    /// The state of a file, whose content is kept. `None` if it cannot be kept.
    fn snapshot(&self, keeping: &mut Keeping<'_>, path: &Rel) -> Result<Option<Snapshot>, Failure> {
        match self.desk.tree.open(path) {
            Ok((file, stat)) => {
                let kept = keeping.keep(&file)?;
                Ok(kept.map(|(hash, size)| Snapshot::File { hash, size, mode: stat.mode & 0o777 }))
            }
            Err(failure) if failure.kind == Kind::NoSuchFile => Ok(Some(Snapshot::Absent)),
            // An unreadable file, or one that is no regular file, cannot be kept.
            Err(_) => Ok(None),
        }
    }

    /// The state in which a file is restored: without its ACL.
    fn without_acl(&self, path: &Rel, snapshot: Snapshot) -> Snapshot {
        match (snapshot, self.desk.tree.open(path)) {
            (Snapshot::File { hash, size, mode }, Ok((file, _))) => {
                let mode = mode_without_acl(&file, mode);
                Snapshot::File { hash, size, mode }
            }
            // Its ACL is unknown.
            (Snapshot::File { hash, size, mode }, Err(_)) => {
                Snapshot::File { hash, size, mode: mode & 0o700 }
            }
            (snapshot, _) => snapshot,
        }
    }

    /// The state of a file with this content. Content that is too large to be kept is not read.
    fn file_snapshot(&self, content: &File, mode: u32) -> Result<Snapshot, Failure> {
        let failed = |error: std::io::Error| Failure::new(Kind::Io, error.to_string());
        let size = content.metadata().map_err(failed)?.len();
        if size > LARGEST {
            return Ok(Snapshot::Unknown);
        }
        let mut copy = content.try_clone().map_err(failed)?;
        std::io::Seek::rewind(&mut copy).map_err(failed)?;
        let hash = Blob(list::digest(copy, self.desk.tree.listener()).map_err(failed)?);
        Ok(Snapshot::File { hash, size, mode })
    }
}
