//! From here to a server.

mod large;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use farwire_link::inner::sealed::BATCH;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{
    Ask, Attributes, How, MakeDirectory, Part, Read, What, Write,
};

use self::large::large;
use super::ends::{Transfer, WITH_ALL};
use super::local::{LocalEntry, Walked, file_hash, io_failure, read_small, walk};
use super::meter::is_of_one;
use super::patience::{Patience, SoFar};
use super::reading::LARGE;
use super::rights::{Rights, set_there};
use crate::files::alike::{Like, like, there};
use crate::files::asked::outcome;
use crate::files::{Files, Up};

/// Sends a file, or a directory with all that is in it.
///
/// # Errors
///
/// Those of the server, and `io` for files here. What was sent before stays.
pub async fn upload(transfer: &Transfer<'_>) -> Result<(), Failure> {
    let local = &transfer.local;
    let is = std::fs::metadata(local).map_err(|error| io_failure(local, &error))?;
    if is.is_file() {
        let below = transfer.inside_directory().await?;
        let one = LocalEntry::new(below, local.clone(), &is);
        transfer.meter.expect(is.len());
        return large(transfer, &one).await;
    }
    if !is.is_dir() {
        return Err(Failure::new(
            Kind::NotAFile,
            format!("{} is not a regular file", local.display()),
        ));
    }
    if !transfer.recursive {
        return Err(Failure::new(Kind::NotAFile, format!("{} is a directory", local.display()))
            .with_hint(WITH_ALL));
    }
    let Walked { found, left_out, unread } = walk(local)?;
    left_out.iter().for_each(|path| transfer.meter.leave_out(path));
    unread.into_iter().for_each(|(path, failure)| transfer.meter.miss(&path, failure));
    // What was there before keeps the rights that it has.
    let top = !transfer.remote.path.is_empty() && !transfer.is_there().await?;
    let top = top.then(|| LocalEntry::new(Vec::new(), local.clone(), &is));
    let directories = found.iter().filter(|one| one.directory).chain(&top);
    let rights: Vec<_> = directories.map(LocalEntry::rights).collect();
    let found = if transfer.overwrite { found } else { missing(transfer, found).await? };
    send_all(transfer, found).await?;
    set_there(transfer, rights).await
}

/// What is not there yet: what an earlier call has sent of a directory is neither sent again nor in
/// the way.
async fn missing(
    transfer: &Transfer<'_>,
    found: Vec<LocalEntry>,
) -> Result<Vec<LocalEntry>, Failure> {
    let there = Box::pin(there(transfer, false)).await?.by_path();
    let mut missing = Vec::new();
    for one in found {
        let arrived = match there.get(&one.below) {
            Some(entry) => matches!(like(&one, entry, false).await?, Like::Same | Like::Rights),
            None => false,
        };
        if arrived && !one.directory {
            transfer.meter.expect(one.size);
            transfer.meter.came_before(one.size);
            transfer.meter.whole();
        } else {
            missing.push(one);
        }
    }
    Ok(missing)
}

/// Sends these files and directories. What cannot be sent is noted as missed. Directories get their
/// rights and times by [`set_there`], afterwards.
///
/// # Errors
///
/// As of [`upload`].
pub async fn send_all(transfer: &Transfer<'_>, found: Vec<LocalEntry>) -> Result<(), Failure> {
    found.iter().for_each(|one| transfer.meter.expect(one.size));
    let (big, small): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.size > LARGE);
    let steps: Vec<_> = small.iter().flat_map(steps).collect();
    let mut so_far = SoFar::default();
    let mut patience = Patience::new(transfer.meter);
    while let Err(failure) = many(transfer, &steps, &mut so_far, &mut patience).await {
        let unanswered = so_far.sent > so_far.done;
        patience.wait(failure).await.map_err(|failure| match unanswered {
            true => outcome(failure),
            false => failure,
        })?;
    }
    for (_, one) in so_far.doubtful.iter().filter_map(|&at| steps.get(at)) {
        let ours = Box::pin(is_ours(transfer, one)).await;
        transfer.meter.or_miss(&one.below, ours)?;
    }
    for one in &big {
        let sent = Box::pin(large(transfer, one)).await;
        transfer.meter.or_miss(&one.below, sent)?;
    }
    Ok(())
}

/// One question of many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum UploadStep {
    /// Make a directory.
    Make,
    /// Let nobody else see more of it than will be seen at the end, and us write to it.
    Prepare,
    /// Write a file.
    Send,
}

/// What is asked for one file or directory.
fn steps(one: &LocalEntry) -> impl Iterator<Item = (UploadStep, &LocalEntry)> {
    let steps: &[UploadStep] = match (one.directory, one.mode) {
        (false, _) => &[UploadStep::Send],
        // As it is made without being asked for more.
        (true, 0o755) => &[UploadStep::Make],
        (true, _) => &[UploadStep::Make, UploadStep::Prepare],
    };
    steps.iter().map(move |step| (*step, one))
}

impl LocalEntry {
    /// Its rights and times.
    pub(in crate::files) fn rights(&self) -> Rights {
        Rights { path: self.below.clone(), mode: self.mode, modified: self.modified }
    }
}

impl Transfer<'_> {
    /// A file that is sent to a directory is put into it.
    async fn inside_directory(&self) -> Result<Vec<u8>, Failure> {
        let path = Blob(self.remote.path.clone());
        let is = match self.stat(&path).await {
            Ok(entry) => Some(entry.target.unwrap_or(entry.what)),
            Err(failure) if failure.kind == Kind::NoSuchFile => None,
            Err(failure) => return Err(failure),
        };
        let name = self.local.file_name().unwrap_or_default();
        Ok(match is {
            Some(What::Directory) => name.as_encoded_bytes().to_vec(),
            _ => Vec::new(),
        })
    }

    /// How a file is written that is so here.
    fn write(&self, one: &LocalEntry, mode: u32, modified: i64) -> Write {
        let how = if self.overwrite { How::Put } else { How::Create };
        Write {
            mode: Some(mode & 0o777),
            parents: Some(true),
            modified: Some(modified),
            // Of one file: many would push out what is kept of all others.
            undo: (self.overwrite && !self.recursive).then_some(true),
            lazy: Some(true),
            ..Write::new(Blob(self.remote.join(&one.below)), how)
        }
    }
}

/// That a file that is there already is what we have sent, when the answer to that was lost.
///
/// # Errors
///
/// `file_exists` if it is another.
async fn is_ours(transfer: &Transfer<'_>, one: &LocalEntry) -> Result<(), Failure> {
    let path = Blob(transfer.remote.join(&one.below));
    let part = Part::Bytes { offset: 0, length: Some(0) };
    let read = Read { path, part, revision: None, hash: Some(true), before: None };
    let here = file_hash(&one.path).await?;
    let mut files = transfer.enter().await?;
    let there = files.answer(transfer.client, Ask::Read(read), None).await?.done.hash;
    if there.is_some_and(|hash| hash.0 == here) {
        return Ok(());
    }
    let text =
        format!("{} is there already", transfer.remote.text_of(&transfer.remote.join(&one.below)));
    Err(Failure::new(Kind::FileExists, text))
}

/// Whether what is there already is like what we send: who sent it before us may have been killed
/// after its last word, and the server has put the file in its place after it was asked what is
/// there.
async fn arrived_late(transfer: &Transfer<'_>, one: &LocalEntry) -> Result<bool, Failure> {
    let there = transfer.stat(&Blob(transfer.remote.join(&one.below))).await?;
    let like = like(one, &there, false).await?;
    Ok(!one.directory && matches!(like, Like::Same | Like::Rights))
}

/// Gives a directory rights with which it can be filled.
fn prepare(transfer: &Transfer<'_>, one: &LocalEntry) -> Ask {
    Ask::Attributes(Attributes {
        path: Blob(transfer.remote.join(&one.below)),
        mode: Some(one.mode | 0o700),
        modified: None,
    })
}

/// Whether it may be written; at first, what everything goes into is made.
async fn ready(transfer: &Transfer<'_>, files: &mut Files, first: bool) -> Result<(), Failure> {
    if !files.root.writable {
        let text = format!("{} may only be read", transfer.remote.to_text());
        return Err(Failure::new(Kind::ReadOnly, text));
    }
    if first && !transfer.remote.path.is_empty() {
        files.up.ask(make(transfer.remote.path.clone()))?;
        files.up.flush().await?;
        files.down.answer().await?;
    }
    Ok(())
}

/// Sends many small files and directories over one stream: what is sent does not wait for what is
/// answered.
async fn many(
    transfer: &Transfer<'_>,
    all: &[(UploadStep, &LocalEntry)],
    so_far: &mut SoFar,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut files = transfer.enter_on(patience).await?;
    ready(transfer, &mut files, so_far.done == 0).await?;
    let SoFar { done, sent, doubtful } = so_far;
    let (first, before) = (*done, *sent);
    let all = all.get(first..).unwrap_or_default();
    let (prepares, Files { up, down, .. }) = (files.root.sets_attributes(), &mut files);
    // What could not be read here: that it was not written there says nothing new.
    let unsent = Mutex::new(BTreeSet::new());
    let sending = async {
        for (at, (step, one)) in (first..).zip(all) {
            match step {
                UploadStep::Make => up.ask(make(transfer.remote.join(&one.below)))?,
                UploadStep::Prepare if !prepares => {}
                UploadStep::Prepare => up.ask(prepare(transfer, one))?,
                UploadStep::Send => {
                    if !send_small(transfer, up, one).await? {
                        unsent.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
                    }
                }
            }
            // Its last word may go out with what comes after it.
            *sent = (at + 1).max(*sent);
            up.flush_full().await?;
        }
        up.flush().await
    };
    let hearing = async {
        for (at, (step, one)) in (first..).zip(all) {
            if matches!(step, UploadStep::Prepare) && !prepares {
                *done += 1;
                continue;
            }
            let answer = down.answer().await.map(drop);
            let given_up = unsent.lock().unwrap_or_else(PoisonError::into_inner).contains(&at);
            match answer {
                Err(failure) if given_up && is_answer(failure.kind) => {}
                Err(failure) if failure.kind == Kind::FileExists && at < before => {
                    doubtful.push(at);
                }
                Err(failure)
                    if failure.kind == Kind::FileExists
                        && Box::pin(arrived_late(transfer, one)).await? =>
                {
                    count_upload(transfer, *step, one);
                }
                // What it is for is tried again at the end, and said then.
                Err(failure) if *step == UploadStep::Prepare && is_of_one(failure.kind) => {}
                Err(failure) => transfer.meter.or_miss(&one.below, Err(failure))?,
                Ok(()) => count_upload(transfer, *step, one),
            }
            *done += 1;
        }
        Ok::<_, Failure>(())
    };
    // A refusal ends the sending; a stream that breaks ends both.
    tokio::pin!(sending, hearing);
    tokio::select! {
        heard = &mut hearing => heard,
        sent = &mut sending => {
            sent?;
            hearing.await
        }
    }
}

fn count_upload(transfer: &Transfer<'_>, step: UploadStep, one: &LocalEntry) {
    if step == UploadStep::Send {
        transfer.meter.came(one.size);
        transfer.meter.whole();
    }
}

/// Whether the server has answered so, and the stream goes on.
fn is_answer(kind: Kind) -> bool {
    kind == Kind::Cancelled || is_of_one(kind)
}

fn make(path: Vec<u8>) -> Ask {
    Ask::MakeDirectory(MakeDirectory { path: Blob(path), parents: Some(true) })
}

/// Sends a small file in one of its states. What cannot be read is noted as missed, and given up:
/// the question has an answer in either case. Returns whether it was sent.
async fn send_small(
    transfer: &Transfer<'_>,
    up: &mut Up,
    one: &LocalEntry,
) -> Result<bool, Failure> {
    let small = match read_small(&one.path) {
        Ok(small) => small,
        Err(failure) => {
            transfer.meter.or_miss(&one.below, Err(failure))?;
            up.ask(Ask::Write(transfer.write(one, one.mode, one.modified)))?;
            up.give_up();
            return Ok(false);
        }
    };
    let now = LocalEntry::new(Vec::new(), one.path.clone(), &small.is);
    up.ask(Ask::Write(transfer.write(one, now.mode, now.modified)))?;
    for piece in small.content.chunks(BATCH) {
        up.content(piece);
        up.flush_full().await?;
    }
    up.whole(small.content.len() as u64);
    if small.grown {
        let text = format!("it grew; only the first {} bytes were sent", small.content.len());
        transfer.meter.remark(&one.below, &text);
    }
    Ok(true)
}
