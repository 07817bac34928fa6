//! From one root or server to another, and gone from where it was: copied, compared, and only then
//! removed.
//!
//! What is removed is removed in the very state in which it was compared. What came or changed
//! meanwhile stays.

use std::collections::BTreeMap;

use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, Entry, Remove, What};

use super::{Between, CopyEnd, copy_between};
use crate::conversation::is_unknown;
use crate::files::everything::everything;
use crate::files::sums::sum_of;
use crate::files::transfer::{Patience, SoFar};

/// So many are removed before the first is answered.
const AHEAD: usize = 64;

/// Something that is removed if it is still in this state.
#[derive(Debug, Eq, PartialEq)]
struct Gone {
    path: Vec<u8>,
    /// A directory has another one once something in it is removed.
    revision: Option<u64>,
}

/// Moves a file, or a directory with all that is in it.
///
/// # Errors
///
/// Those of a copy, and before anything is copied `unsupported` where something would be left
/// behind. After any of them all that was there is still there, or at its new place.
pub async fn move_between(copy: &Between<'_>) -> Result<(), Failure> {
    let source = &copy.from;
    if source.place.path.is_empty() {
        return Err(Failure::new(Kind::InvalidArgument, "the root itself stays as it is"));
    }
    let entered = copy.enter(source).await?;
    if !entered.root.writable {
        let text = format!("{} may not be removed there", source.place.to_text());
        return Err(Failure::new(Kind::ReadOnly, text));
    }
    entered.leave().await?;
    let entry = source.stat(copy.client).await?;
    match (entry.what, entry.target) {
        (What::File, None) => {
            copy_between(copy).await?;
            let gone = compare_file(copy).await?;
            remove(copy, &[gone]).await
        }
        (What::Directory, None) => {
            let all = list(copy, source, false).await?;
            all.values().try_for_each(|entry| can_be_copied(source, entry))?;
            copy_between(copy).await?;
            copy.meter.outcome()?;
            let (from, to) = (list(copy, source, true).await?, list(copy, &copy.to, true).await?);
            let gone = compare(source, &from, &to)?;
            remove(copy, &gone).await
        }
        _ => Err(left_behind(&source.place.to_text())),
    }
}

fn left_behind(path: &str) -> Failure {
    let text = format!("{path} is neither file nor directory, and would be left behind");
    Failure::new(Kind::Unsupported, text).with_hint("remove it, or copy what shall be elsewhere")
}

fn can_be_copied(end: &CopyEnd, entry: &Entry) -> Result<(), Failure> {
    match entry.what {
        What::File | What::Directory => Ok(()),
        What::Link | What::Other => {
            Err(left_behind(&end.place.text_of(&end.place.join(&entry.path))))
        }
    }
}

/// All that is in a directory.
async fn list(
    copy: &Between<'_>,
    end: &CopyEnd,
    hashes: bool,
) -> Result<BTreeMap<Vec<u8>, Entry>, Failure> {
    let mut files = copy.enter(end).await?;
    let listed = everything(copy.client, &mut files, &end.place, hashes).await?;
    if !listed.unread.is_empty() {
        let text = format!("not all that is in {} may be read", end.place.to_text());
        return Err(Failure::new(Kind::PermissionDenied, text));
    }
    Ok(listed.by_path())
}

/// What may be removed: that all of it is at its new place, too.
fn compare(
    source: &CopyEnd,
    from: &BTreeMap<Vec<u8>, Entry>,
    to: &BTreeMap<Vec<u8>, Entry>,
) -> Result<Vec<Gone>, Failure> {
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    for (path, entry) in from {
        let place = source.place.join(path);
        let there = to.get(path).filter(|there| there.what == entry.what);
        let same = there.is_some_and(|there| match entry.what {
            What::Directory => true,
            What::File => entry.hash.is_some() && entry.hash == there.hash,
            What::Link | What::Other => false,
        });
        if !same {
            return Err(differs(&source.place.text_of(&place)));
        }
        // Two roots may be one directory.
        if there.is_some_and(|there| there.revision == entry.revision) {
            return Err(itself(&source.place.text_of(&place)));
        }
        match entry.what {
            What::Directory => directories.push(Gone { path: place, revision: None }),
            _ => files.push(Gone { path: place, revision: Some(entry.revision) }),
        }
    }
    // What is in a directory goes before it.
    directories.reverse();
    files.extend(directories);
    files.push(Gone { path: source.place.path.clone(), revision: None });
    Ok(files)
}

fn differs(path: &str) -> Failure {
    let text =
        format!("{path} is not the same at both places; it was copied, and nothing was removed");
    Failure::new(Kind::ChangedMeanwhile, text)
        .with_hint("look at both, and remove what is not wanted")
}

fn itself(path: &str) -> Failure {
    Failure::new(
        Kind::InvalidArgument,
        format!("both places of {path} are one; nothing was removed"),
    )
}

/// The same of one file.
async fn compare_file(copy: &Between<'_>) -> Result<Gone, Failure> {
    let (from, to) = (read(copy, &copy.from).await?, read(copy, &copy.to).await?);
    let shown = copy.from.place.to_text();
    if from.1 != to.1 {
        return Err(differs(&shown));
    }
    if from.0.revision == to.0.revision {
        return Err(itself(&shown));
    }
    Ok(Gone { path: copy.from.place.path.clone(), revision: Some(from.0.revision) })
}

async fn read(copy: &Between<'_>, end: &CopyEnd) -> Result<(Entry, Blob), Failure> {
    let mut files = copy.enter(end).await?;
    sum_of(copy.client, &mut files, Blob(end.place.path.clone())).await
}

/// Removes all of it. It is not kept for undo: it is at its new place. Over other streams where one
/// breaks: what was removed by an answer that was lost is not there any more.
async fn remove(copy: &Between<'_>, all: &[Gone]) -> Result<(), Failure> {
    let mut so_far = SoFar::default();
    let mut patience = Patience::new(copy.meter);
    while let Err(failure) = remove_on(copy, all, &mut so_far, &mut patience).await {
        patience
            .wait(failure)
            .await
            .map_err(|failure| removal_failure(copy, all.get(so_far.done), failure))?;
    }
    Ok(())
}

/// Removes what is left of it over one stream.
async fn remove_on(
    copy: &Between<'_>,
    all: &[Gone],
    SoFar { done, sent, .. }: &mut SoFar,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut source = copy.enter_on(&copy.from, patience).await?;
    let before = *sent;
    for some in all.get(*done..).unwrap_or_default().chunks(AHEAD) {
        for Gone { path, revision } in some {
            let (path, revision) = (Blob(path.clone()), *revision);
            let remove = Remove { path, recursive: None, revision, undo: None };
            source.up.ask(Ask::Remove(remove))?;
        }
        *sent = before.max(*done + some.len());
        source.up.flush().await?;
        for _ in some {
            match source.down.answer().await {
                Err(failure) if failure.kind == Kind::NoSuchFile && *done < before => {}
                answer => drop(answer?),
            }
            *done += 1;
        }
    }
    // All of it has been answered.
    let _ = source.leave().await;
    Ok(())
}

/// That this one is still there, or may be.
fn removal_failure(copy: &Between<'_>, one: Option<&Gone>, failure: Failure) -> Failure {
    let place = &copy.from.place;
    let shown = one.map_or_else(|| place.to_text(), |one| place.text_of(&one.path));
    if is_unknown(failure.kind) {
        let text =
            format!("{shown} was copied; whether it was removed is not known: {}", failure.message);
        return Failure::new(Kind::OutcomeUnknown, text)
            .with_hint("look at both places; what is at both may be removed at the first");
    }
    let message = format!("{shown} was copied and not removed: {}", failure.message);
    Failure { message, ..failure }
}
