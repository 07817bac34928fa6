//! All that is beneath a directory of a server, however much that is.
//!
//! One question lists a whole tree. Where that is more than a server lists at once, directories are
//! listed one by one. What could not be read, or is too deep for one question, is found out and
//! named: nothing is missing without a word.

use std::collections::{BTreeMap, BTreeSet};

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, DEPTH_LIMIT, Entry, List, What};

use super::Files;
use super::place::Place;
use super::transfer::meter::is_of_one;
use crate::client::Client;

/// One question lists at most this many entries; an older agent lists fewer.
const LISTED: u32 = 1_000_000;

/// At most this many are listed in all.
const MOST: usize = 4_000_000;

/// What is beneath a directory.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Its entries, each by its path from the directory.
    pub(super) entries: Vec<Entry>,
    /// Directories that could not be read, and why: nobody knows what is in them.
    pub(super) unread: Vec<(Vec<u8>, Failure)>,
}

impl Listed {
    /// The entries by their paths.
    pub(super) fn by_path(self) -> BTreeMap<Vec<u8>, Entry> {
        self.entries.into_iter().map(|entry| (entry.path.0.clone(), entry)).collect()
    }
}

/// Lists all that is beneath a directory, with hashes of what files hold where that is wanted.
///
/// # Errors
///
/// Those of the directory itself and of the way to the server; `too_large` for more than can be
/// kept here.
pub(super) async fn everything(
    client: &Client,
    files: &mut Files,
    dir: &Place,
    hashes: bool,
) -> Result<Listed, Failure> {
    let mut lists = Lists { client, files, dir, hashes, listed: Listed::default() };
    let (entries, Rest { more, skipped }) = lists.ask(&[], (u32::MAX, LISTED)).await?;
    if more {
        lists.one_by_one(vec![Vec::new()]).await?;
        return Ok(lists.listed);
    }
    let mut doubtful = without_content(&entries);
    let deepest = |path: &Vec<u8>| path.split(|&byte| byte == b'/').count() >= DEPTH_LIMIT;
    doubtful.retain(|path| skipped || deepest(path));
    lists.listed.entries = entries;
    lists.look_into(doubtful).await?;
    if skipped && lists.listed.unread.is_empty() {
        lists.listed.unread.push((Vec::new(), unexplained()));
    }
    Ok(lists.listed)
}

/// That the server has left something out, and it is not known what.
fn unexplained() -> Failure {
    Failure::new(Kind::PermissionDenied, "something in it could not be read")
}

/// What a listing left out.
struct Rest {
    /// There is more than it may have.
    more: bool,
    /// Something could not be read.
    skipped: bool,
}

/// A listing on its way.
struct Lists<'a> {
    client: &'a Client,
    files: &'a mut Files,
    dir: &'a Place,
    hashes: bool,
    listed: Listed,
}

impl Lists<'_> {
    /// What is beneath a directory, and what was left out.
    async fn ask(
        &mut self,
        below: &[u8],
        (depth, limit): (u32, u32),
    ) -> Result<(Vec<Entry>, Rest), Failure> {
        let list = List {
            path: Blob(self.dir.join(below)),
            depth: Some(depth),
            limit: Some(limit),
            hashes: (self.hashes && limit > 1).then_some(true),
            ..List::default()
        };
        let answer = self.files.answer(self.client, Ask::List(list), None).await?;
        let mut entries = answer.entries;
        if !below.is_empty() {
            for entry in &mut entries {
                entry.path = Blob([below, b"/", &entry.path].concat());
            }
        }
        let skipped = answer.done.skipped.is_some_and(|count| count > 0);
        Ok((entries, Rest { more: answer.done.more == Some(true), skipped }))
    }

    /// Lists these directories, and those in them, each by a question of its own.
    async fn one_by_one(&mut self, mut waiting: Vec<Vec<u8>>) -> Result<(), Failure> {
        while let Some(below) = waiting.pop() {
            let (entries, Rest { more, skipped }) = match self.ask(&below, (1, LISTED)).await {
                Err(failure) if is_of_one(failure.kind) && !below.is_empty() => {
                    self.unread(below, failure);
                    continue;
                }
                answer => answer?,
            };
            let shown = || self.dir.text_of(&self.dir.join(&below));
            if more || self.listed.entries.len() + entries.len() > MOST {
                let text = format!("{} has too many entries to be listed", shown());
                return Err(Failure::new(Kind::TooLarge, text));
            }
            let directories = entries.iter().filter(|entry| entry.what == What::Directory);
            waiting.extend(directories.map(|entry| entry.path.0.clone()));
            self.listed.entries.extend(entries);
            if skipped {
                self.unread(below, unexplained());
            }
        }
        Ok(())
    }

    /// Finds out which of these directories, in which nothing was listed, could not be read or are
    /// too deep.
    async fn look_into(&mut self, doubtful: Vec<Vec<u8>>) -> Result<(), Failure> {
        for below in doubtful {
            match self.ask(&below, (1, 1)).await {
                Ok((entries, _)) if entries.is_empty() => {}
                Ok(_) => self.one_by_one(vec![below]).await?,
                Err(failure) if is_of_one(failure.kind) => self.unread(below, failure),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn unread(&mut self, below: Vec<u8>, failure: Failure) {
        // It was removed since it was listed: nothing is in it.
        if failure.kind != Kind::NoSuchFile {
            self.listed.unread.push((below, failure));
        }
    }
}

/// Directories in which nothing was listed.
fn without_content(entries: &[Entry]) -> Vec<Vec<u8>> {
    let above = |path: &[u8]| path.iter().rposition(|&byte| byte == b'/');
    let full: BTreeSet<&[u8]> =
        entries.iter().filter_map(|entry| entry.path.get(..above(&entry.path)?)).collect();
    let empty = entries
        .iter()
        .filter(|entry| entry.what == What::Directory && !full.contains(&entry.path[..]));
    empty.map(|entry| entry.path.0.clone()).collect()
}
