//! `patch`: a unified diff is applied to several files, as a whole or not at all.
//!
//! Everything is read and worked out first. Then each file is written beside its place, and only when all of
//! them are there is the first one put into it. If one of them cannot be, those before it are put back.

mod diff;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Done, How, Patch};

use self::diff::{FileDiff, parse};
use super::changes::{Keeper, Planned};
use super::gathered::{Share, gather};
use super::{Desk, Stop};
use crate::path::Rel;
use crate::peer::Peer;
use crate::tree::{Draft, Stat, Tree, Wanted};

/// So many bytes of files are patched at once.
const LARGEST: u64 = 64 << 20;

pub(super) fn patch(desk: &Desk<'_>, patch: &Patch, peer: &mut dyn Peer) -> Result<Done, Stop> {
    let mut share = Share::default();
    let text = gather(peer, &mut share)?;
    let below = Rel::parse(&patch.path)?;
    let mut budget = LARGEST;
    let mut results = Vec::new();
    for file in parse(&text, patch.strip, &mut share)? {
        results.push(Target::work_out((desk.tree, &below), &file, &mut budget, &mut share)?);
    }
    twice(&results)?;
    let mut told = String::new();
    for result in &results {
        told.push_str(&result.told());
    }
    let hunks = results.iter().map(|result| result.hunks).sum();
    let mut done =
        Done { count: Some(hunks), files: Some(results.len() as u64), ..Done::default() };
    if !patch.dry.unwrap_or(false) {
        results.iter().for_each(|result| peer.changes(&result.path));
        done.change = carry_out(desk, &results, patch.undo)?;
    }
    peer.data(told.as_bytes())?;
    Ok(done)
}

/// One file as it is and as it will be.
#[derive(Debug)]
struct Target {
    path: Rel,
    /// What it is now, with its state.
    before: Option<(Vec<u8>, Stat)>,
    /// What it will be: gone, if absent.
    after: Option<Vec<u8>>,
    mode: Option<u32>,
    hunks: u64,
    lines: (usize, usize),
}

impl Target {
    fn work_out(
        (tree, below): (&Tree, &Rel),
        file: &FileDiff<'_>,
        budget: &mut u64,
        share: &mut Share,
    ) -> Result<Self, Failure> {
        let path = below.join(Rel::parse(&file.path)?.as_bytes());
        let path = Rel::parse(path.as_bytes())?;
        let before = match tree.open(&path) {
            Ok((opened, stat)) => {
                if stat.size > *budget {
                    return Err(Failure::new(
                        Kind::TooLarge,
                        "the files of the patch have more than 64 MiB",
                    ));
                }
                *budget -= stat.size;
                Some((share.read(&path, opened, stat.size)?, stat))
            }
            Err(failure) if failure.kind == Kind::NoSuchFile && file.creates => None,
            Err(failure) => return Err(failure),
        };
        if file.creates && before.is_some() {
            return Err(Failure::new(
                Kind::FileExists,
                format!("{path} is there already, and the patch makes it"),
            ));
        }
        let old = before.as_ref().map_or(&[][..], |(bytes, _)| bytes);
        let after = file.apply(&path, old, share)?;
        if file.deletes && !after.is_empty() {
            let text = format!("{path}: the patch removes it, and does not know all that is in it");
            return Err(Failure::new(Kind::PatchFailed, text));
        }
        Ok(Self {
            path,
            before,
            after: (!file.deletes).then_some(after),
            mode: file.mode,
            hunks: file.hunks.len() as u64,
            lines: file.lines(),
        })
    }

    /// What became of it, in a line.
    fn told(&self) -> String {
        let what = match (&self.before, &self.after) {
            (None, _) => "A",
            (_, None) => "D",
            _ => "M",
        };
        let path = String::from_utf8_lossy(self.path.as_bytes()).escape_debug().to_string();
        format!("{what} {path} +{} -{}\n", self.lines.0, self.lines.1)
    }

    /// The file beside its place.
    fn draft<'a>(&self, tree: &'a Tree) -> Result<Option<Draft<'a>>, Failure> {
        let Some(after) = &self.after else {
            tree.place_to_change(&self.path)?;
            return Ok(None);
        };
        if self.before.is_none()
            && let Some((above, _)) = self.path.split()
        {
            tree.make_directories(&above)?;
        }
        let how = if self.before.is_some() { How::Replace } else { How::Create };
        let revision = self.before.as_ref().map(|(_, stat)| stat.revision);
        let mut draft =
            tree.draft(&self.path, Wanted { how, revision, mode: self.mode, ..Wanted::default() })?;
        draft.write(after)?;
        Ok(Some(draft))
    }

    /// Puts back what was there.
    fn put_back(&self, tree: &Tree) -> Result<(), Failure> {
        let Some((bytes, stat)) = &self.before else { return tree.remove(&self.path, false, None) };
        let mut draft =
            tree.draft(&self.path, Wanted { mode: Some(stat.mode), ..Wanted::default() })?;
        draft.write(bytes)?;
        draft.commit().map(drop)
    }
}

/// One file is patched once.
fn twice(results: &[Target]) -> Result<(), Failure> {
    for (at, result) in results.iter().enumerate() {
        if results.iter().take(at).any(|other| other.path == result.path) {
            let text = format!("{} stands in the patch twice", result.path);
            return Err(Failure::new(Kind::InvalidArgument, text));
        }
    }
    Ok(())
}

fn carry_out(
    desk: &Desk<'_>,
    results: &[Target],
    undo: Option<bool>,
) -> Result<Option<u64>, Failure> {
    let drafts: Result<Vec<_>, _> = results.iter().map(|result| result.draft(desk.tree)).collect();
    let drafts = drafts?;
    let planned = results.iter().map(|result| Planned {
        path: &result.path,
        after: result.after.as_deref(),
        mode: result
            .mode
            .or_else(|| result.before.as_ref().map(|(_, stat)| stat.mode & 0o777))
            .unwrap_or(0o644),
    });
    let keeper = Keeper::new(desk, "patch", undo);
    let change = keeper.planned(planned)?;
    keeper.settled(change, put_all(desk, results, drafts))?;
    Ok(change)
}

/// Puts all files in their places, or back those before one that cannot be.
fn put_all(
    desk: &Desk<'_>,
    results: &[Target],
    drafts: Vec<Option<Draft<'_>>>,
) -> Result<(), Failure> {
    for (at, (result, draft)) in results.iter().zip(drafts).enumerate() {
        let revision = result.before.as_ref().map(|(_, stat)| stat.revision);
        let put = match draft {
            Some(draft) => draft.commit().map(drop),
            None => desk.tree.remove(&result.path, false, revision),
        };
        if let Err(failure) = put {
            let back: Result<(), Failure> =
                results.iter().take(at).rev().try_for_each(|done| done.put_back(desk.tree));
            return Err(match back {
                Ok(()) => failure,
                Err(worse) => Failure::new(
                    Kind::OutcomeUnknown,
                    format!(
                        "{failure}; and what was patched before could not be put back: {worse}"
                    ),
                ),
            });
        }
    }
    Ok(())
}

/// What stands before the paths of a diff.
fn stripped(path: &[u8], strip: Option<u32>) -> Option<Blob> {
    let path = match strip {
        None => path.strip_prefix(b"a/").or_else(|| path.strip_prefix(b"b/")).unwrap_or(path),
        Some(strip) => {
            let mut rest = path;
            for _ in 0..strip {
                let at = rest.iter().position(|&byte| byte == b'/')?;
                rest = rest.get(at + 1..)?;
            }
            rest
        }
    };
    (!path.is_empty()).then(|| Blob(path.to_vec()))
}
