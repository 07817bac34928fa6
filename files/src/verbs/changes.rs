//! `changes` and `revert`: what was changed here, undone and done again.

use std::fs::File;
use std::io::Read as _;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{
    Change, Changes, DEPTH_LIMIT, Done, Revert, ToBridge, What,
};

use sha2::{Digest as _, Sha256};

use super::{Batch, Desk, Stop, edit, list};
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::{Stat, Tree, Wanted};
use crate::undo::{Record, Step, Undo, Was};

/// A directory with more in it is removed for good.
const STEPS: usize = 5_000;

/// So many paths of a change are told.
const PATHS: usize = 20;

/// What a change takes in a message besides its paths.
const OVERHEAD: usize = 160;

/// A file as a patch will leave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned<'a> {
    pub(super) path: &'a Rel,
    /// What it will hold: gone, if absent.
    pub(super) after: Option<&'a [u8]>,
    pub(super) mode: u32,
}

/// Begins to keep what a question is about to change.
pub(super) struct Keeper<'a> {
    desk: &'a Desk<'a>,
    undo: Option<&'a Undo>,
    verb: &'static str,
}

impl<'a> Keeper<'a> {
    /// Keeps what was there, if it was asked to and there is a store.
    pub(super) fn new(desk: &'a Desk<'a>, verb: &'static str, wanted: Option<bool>) -> Self {
        let undo = desk.undo.filter(|_| wanted.unwrap_or(false));
        Self { desk, undo, verb }
    }

    /// Keeps what a file is before content takes its place. Gives the number of the change.
    pub(super) fn replacing(
        &self,
        path: &Rel,
        before: Option<&Stat>,
        (content, mode): (&File, u32),
    ) -> Result<Option<u64>, Failure> {
        let Some(undo) = self.undo else { return Ok(None) };
        let before = match before {
            None => Some(Was::Absent),
            Some(_) => self.was(undo, path)?,
        };
        let after = hashed(content, mode)?;
        let (Some(before), Some(after)) = (before, after) else { return Ok(None) };
        self.record(undo, vec![self.step(path, before, after)])
    }

    /// Keeps what several files are before all of them are changed.
    pub(super) fn planned<'p>(
        &self,
        files: impl Iterator<Item = Planned<'p>>,
    ) -> Result<Option<u64>, Failure> {
        let Some(undo) = self.undo else { return Ok(None) };
        let mut steps = Vec::new();
        for Planned { path, after, mode } in files {
            let Some(before) = self.was(undo, path)? else { return Ok(None) };
            let after = after.map_or(Was::Absent, |content| {
                let hash = Blob(Sha256::digest(content).to_vec());
                Was::File { hash, size: content.len() as u64, mode }
            });
            steps.push(self.step(path, before, after));
        }
        self.record(undo, steps)
    }

    /// Keeps all that is at a path before it is removed.
    pub(super) fn removing(&self, path: &Rel) -> Result<Option<u64>, Failure> {
        let Some(undo) = self.undo else { return Ok(None) };
        let tree = self.desk.tree;
        let mut steps = Vec::new();
        let Ok(stat) = tree.stat_link(path) else { return Ok(None) };
        if stat.what != What::Directory {
            let Some(before) = self.was(undo, path)? else { return Ok(None) };
            steps.push(self.step(path, before, Was::Absent));
            return self.record(undo, steps);
        }
        steps.push(self.step(path, Was::Directory, Was::Absent));
        let mut whole = true;
        let full = || Failure::new(Kind::TooLarge, "more than is kept");
        let walked = tree.walk(path, DEPTH_LIMIT, &mut |visited| {
            if steps.len() >= STEPS {
                return Err(full());
            }
            let at = path.join(visited.at.as_bytes());
            let what = visited.listing.stat(&visited.listed.name).map(|stat| stat.what);
            let before = match what {
                Some(What::Directory) => Some(Was::Directory),
                Some(What::File) => self.was(undo, &at)?,
                _ => None,
            };
            whole &= before.is_some();
            steps.extend(before.map(|before| self.step(&at, before, Was::Absent)));
            Ok(what == Some(What::Directory))
        });
        match walked {
            Ok(0) if whole => self.record(undo, steps),
            Ok(_) => Ok(None),
            Err(failure) if failure.kind == Kind::TooLarge => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Keeps what a copy or a move will replace.
    pub(super) fn arriving(
        &self,
        from: &Rel,
        to: &Rel,
        moved: bool,
    ) -> Result<Option<u64>, Failure> {
        let Some(undo) = self.undo else { return Ok(None) };
        let tree = self.desk.tree;
        let before = match tree.stat_link(to) {
            Ok(stat) if stat.what == What::File => self.was(undo, to)?,
            Ok(_) => None,
            Err(_) => Some(Was::Absent),
        };
        let source = tree.stat_link(from);
        let after = match source.map(|stat| stat.what) {
            Ok(What::File) => {
                let (file, stat) = tree.open(from)?;
                hashed(&file, stat.mode & 0o777)?
            }
            Ok(What::Directory) if moved => Some(Was::Directory),
            // A copy of a directory is removed by hand; a link is not made again.
            _ => None,
        };
        let (Some(before), Some(after)) = (before, after) else { return Ok(None) };
        let mut step = self.step(to, before, after);
        step.moved_from = moved.then(|| Blob(self.desk.tree.outer(from).as_bytes().to_vec()));
        self.record(undo, vec![step])
    }

    /// Passes on how a change came out. One that was not made is not kept.
    pub(super) fn settled<T>(
        &self,
        change: Option<u64>,
        result: Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let (Some(change), Some(undo), Err(_)) = (change, self.undo, &result) {
            undo.void(change);
        }
        result
    }

    fn step(&self, path: &Rel, before: Was, after: Was) -> Step {
        let path = Blob(self.desk.tree.outer(path).as_bytes().to_vec());
        Step { path, before, after, moved_from: None }
    }

    fn record(&self, undo: &Undo, steps: Vec<Step>) -> Result<Option<u64>, Failure> {
        match undo.record(self.verb, self.desk.who, steps) {
            Err(failure) if failure.kind == Kind::TooLarge => Ok(None),
            other => other.map(Some),
        }
    }

    /// How a file is, with what it holds kept: `None` if that is too much.
    fn was(&self, undo: &Undo, path: &Rel) -> Result<Option<Was>, Failure> {
        match self.desk.tree.open(path) {
            Ok((file, stat)) => {
                let kept = undo.keep(&file)?;
                Ok(kept.map(|(hash, size)| Was::File { hash, size, mode: stat.mode & 0o777 }))
            }
            Err(failure) if failure.kind == Kind::NoSuchFile => Ok(Some(Was::Absent)),
            // What cannot be read, or is no file, cannot be kept.
            Err(_) => Ok(None),
        }
    }
}

/// How a file will be.
fn hashed(content: &File, mode: u32) -> Result<Option<Was>, Failure> {
    let failed = |error: std::io::Error| Failure::new(Kind::Io, error.to_string());
    let size = content.metadata().map_err(failed)?.len();
    if size > crate::undo::LARGEST {
        return Ok(None);
    }
    let mut copy = content.try_clone().map_err(failed)?;
    std::io::Seek::rewind(&mut copy).map_err(failed)?;
    let hash = Blob(list::digest(copy).map_err(failed)?);
    Ok(Some(Was::File { hash, size, mode }))
}

/// The changes that concern this tree, the latest first.
fn records<'a>(desk: &'a Desk<'a>) -> Result<(&'a Undo, Vec<Record>), Failure> {
    let undo = desk
        .undo
        .ok_or_else(|| Failure::new(Kind::NothingToUndo, "nothing is kept of this root"))?;
    let ours = |record: &Record| {
        let paths =
            record.steps.iter().flat_map(|step| [Some(&step.path), step.moved_from.as_ref()]);
        paths.flatten().all(|path| desk.tree.inner(path).is_some())
    };
    Ok((undo, undo.records().into_iter().filter(ours).collect()))
}

/// The latest changes, or a diff of what undoing one would do.
pub(super) fn changes(
    desk: &Desk<'_>,
    changes: &Changes,
    peer: &mut dyn Peer,
) -> Result<Done, Stop> {
    let (undo, records) = records(desk)?;
    let limit = changes.limit.map_or(50, |limit| usize::try_from(limit).unwrap_or(1000)).min(1000);
    let chosen: Vec<_> = match changes.change {
        Some(number) => records.iter().filter(|record| record.change == number).collect(),
        None => records.iter().take(limit).collect(),
    };
    if changes.change.is_some() && chosen.is_empty() {
        return Err(unknown().into());
    }
    let mut batch = Batch::new();
    for record in &chosen {
        let paths = record.steps.iter().take(PATHS).filter_map(|step| desk.tree.inner(&step.path));
        let paths: Vec<Blob> = paths.map(|path| Blob(path.as_bytes().to_vec())).collect();
        let bytes = OVERHEAD + paths.iter().map(|path| path.len()).sum::<usize>();
        let change = Change {
            change: record.change,
            verb: record.verb.clone(),
            paths,
            age_ms: Undo::age(record),
            who: record.who.clone(),
            undone: record.undone.then_some(true),
            kept: record.kept(),
        };
        if let Some(full) = batch.push(change, bytes) {
            peer.say(&ToBridge::Changed(full))?;
        }
    }
    if let Some(rest) = batch.rest() {
        peer.say(&ToBridge::Changed(rest))?;
    }
    if changes.change.is_some()
        && let [record] = chosen.as_slice()
    {
        preview(desk, undo, record, peer)?;
    }
    let more = changes.change.is_none() && records.len() > limit;
    Ok(Done { count: Some(chosen.len() as u64), more: Some(more), ..Done::default() })
}

/// What undoing a change would do to files that are text.
fn preview(desk: &Desk<'_>, undo: &Undo, record: &Record, peer: &mut dyn Peer) -> Result<(), Stop> {
    for step in record.steps.iter().take(PATHS) {
        let Some(path) = desk.tree.inner(&step.path) else { continue };
        let to = if record.undone { &step.after } else { &step.before };
        let now = desk.tree.open(&path).map(|(file, _)| text(file)).unwrap_or_default();
        let then = match to {
            Was::File { hash, .. } => undo.content(hash).map(text).unwrap_or_default(),
            Was::Absent | Was::Directory => Vec::new(),
        };
        let shown = String::from_utf8_lossy(path.as_bytes()).escape_debug().to_string();
        let diff = edit::diff(&now, &then);
        if !diff.is_empty() {
            peer.data(format!("--- {shown}\n+++ {shown}\n{diff}").as_bytes())?;
        }
    }
    Ok(())
}

fn text(file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What cannot be read is shown as nothing.
    let _ = file.take(4 << 20).read_to_end(&mut bytes);
    bytes
}

fn unknown() -> Failure {
    Failure::new(Kind::NothingToUndo, "there is no such change, or it is no longer kept")
}

/// Undoes a change, or does it again.
pub(super) fn revert(desk: &Desk<'_>, revert: &Revert, peer: &mut dyn Peer) -> Result<Done, Stop> {
    let redo = revert.redo.unwrap_or(false);
    let (undo, records) = records(desk)?;
    let record = match revert.change {
        Some(number) => {
            records.into_iter().find(|record| record.change == number).ok_or_else(unknown)?
        }
        // The latest that is done is undone first; the earliest that is undone is done again first.
        None if redo => {
            let undone = records.into_iter().take_while(|record| record.undone);
            undone.last().ok_or_else(unknown)?
        }
        None => records.into_iter().find(|record| !record.undone).ok_or_else(unknown)?,
    };
    if record.undone != redo {
        let state = if redo { "has not been undone" } else { "has been undone already" };
        return Err(
            Failure::new(Kind::NothingToUndo, format!("change {} {state}", record.change)).into()
        );
    }
    let mut steps = record.steps.clone();
    for path in steps.iter().flat_map(|step| [Some(&step.path), step.moved_from.as_ref()]) {
        if let Some(path) = path.and_then(|path| desk.tree.inner(path)) {
            peer.changes(&path);
        }
    }
    if !revert.force.unwrap_or(false) {
        for step in &steps {
            unchanged(desk.tree, step, redo)?;
        }
    }
    // What was removed comes back from the outside in, and what was made goes from the inside out.
    let removal = steps.first().is_some_and(|step| step.after == Was::Absent);
    let mut order: Vec<&mut Step> = steps.iter_mut().collect();
    if removal == redo {
        order.reverse();
    }
    for step in order {
        turn(desk.tree, undo, step, redo)?;
    }
    undo.turn(record.change, !redo, &steps)?;
    Ok(Done { change: Some(record.change), count: Some(steps.len() as u64), ..Done::default() })
}

/// Refuses where something has been changed since.
fn unchanged(tree: &Tree, step: &Step, redo: bool) -> Result<(), Failure> {
    let path = tree.inner(&step.path).ok_or_else(unknown)?;
    let expected = if redo { &step.before } else { &step.after };
    let is = match tree.stat_link(&path) {
        Err(failure) if failure.kind == Kind::NoSuchFile => *expected == Was::Absent,
        Err(failure) => return Err(failure),
        Ok(stat) => match expected {
            Was::Absent => false,
            Was::Directory => stat.what == What::Directory,
            Was::File { hash, size, .. } => {
                let (file, stat) = tree.open(&path)?;
                let now = list::digest(file)
                    .map_err(|error| Failure::new(Kind::Io, error.to_string()))?;
                stat.size == *size && now == hash.0
            }
        },
    };
    match is {
        true => Ok(()),
        false => {
            let text = format!("{path} has been changed since");
            Err(Failure::new(Kind::ChangedMeanwhile, text)
                .with_hint("look at it, and force it if what was done since may be lost"))
        }
    }
}

/// Takes one step back, or forth again. What stands there is kept first, for the way back.
fn turn(tree: &Tree, undo: &Undo, step: &mut Step, redo: bool) -> Result<(), Failure> {
    let path = tree.inner(&step.path).ok_or_else(unknown)?;
    if let Ok((file, stat)) = tree.open(&path)
        && let Some((hash, size)) = undo.keep(&file)?
    {
        let now = Was::File { hash, size, mode: stat.mode & 0o777 };
        if redo {
            step.before = now;
        } else {
            step.after = now;
        }
    }
    if let Some(from) = &step.moved_from {
        let from = tree.inner(from).ok_or_else(unknown)?;
        if redo {
            return tree.rename(&from, &path, true);
        }
        tree.rename(&path, &from, false)?;
        return if step.before == Was::Absent {
            Ok(())
        } else {
            be(tree, undo, &path, &step.before)
        };
    }
    be(tree, undo, &path, if redo { &step.after } else { &step.before })
}

/// Makes a path what it was.
fn be(tree: &Tree, undo: &Undo, path: &Rel, was: &Was) -> Result<(), Failure> {
    match was {
        Was::Absent => match tree.remove(path, false, None) {
            Err(failure) if failure.kind == Kind::NoSuchFile => Ok(()),
            other => other,
        },
        Was::Directory => tree.make_directories(path),
        Was::File { hash, mode, .. } => {
            let mut content = undo.content(hash)?;
            if let Some((above, _)) = path.split() {
                tree.make_directories(&above)?;
            }
            let mut draft = tree.draft(path, Wanted { mode: Some(*mode), ..Wanted::default() })?;
            let mut buffer = vec![0; 128 << 10];
            loop {
                let read = content.read(&mut buffer);
                let read = read.map_err(|error| Failure::new(Kind::Io, error.to_string()))?;
                if read == 0 {
                    break;
                }
                draft.write(buffer.get(..read).unwrap_or_default())?;
            }
            draft.commit().map(drop)
        }
    }
}
