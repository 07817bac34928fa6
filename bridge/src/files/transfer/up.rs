//! From here to a server.

mod large;

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use farwire_link::inner::sealed::BATCH;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::streams::files::{Ask, How, MakeDirectory, Part, Read, What, Write};

use self::large::large;
use super::local::{Found, failed, file_hash, walk};
use super::{LARGE, Patience, SoFar, Transfer, WITH_ALL};
use crate::files::sync::{same, there};
use crate::files::{Files, Up};
use crate::text::neutral::neutral;

/// Sends a file, or a directory with all that is in it.
///
/// # Errors
///
/// Those of the server, and `io` for files here. What was sent before stays.
pub async fn upload(transfer: &Transfer<'_>) -> Result<(), Failure> {
    let local = &transfer.local;
    let is = std::fs::metadata(local).map_err(|error| failed(local, &error))?;
    if is.is_file() {
        let below = transfer.inside_directory().await?;
        let one = Found { below, path: local.clone(), directory: false, size: is.len() };
        transfer.meter.expect(is.len());
        return large(transfer, &one).await;
    }
    if !is.is_dir() {
        return Err(Failure::new(Kind::NotAFile, format!("{} is no file", local.display())));
    }
    if !transfer.recursive {
        return Err(Failure::new(Kind::NotAFile, format!("{} is a directory", local.display()))
            .with_hint(WITH_ALL));
    }
    let (found, skipped) = walk(local)?;
    transfer.meter.skip(skipped.len() as u64);
    let found = if transfer.overwrite { found } else { missing(transfer, found).await? };
    send_all(transfer, found).await
}

/// What is not there yet: what an earlier call has sent of a directory is neither sent again nor in the way.
async fn missing(transfer: &Transfer<'_>, found: Vec<Found>) -> Result<Vec<Found>, Failure> {
    let there = match Box::pin(there(transfer, false)).await {
        Ok((there, _)) => there,
        // Each that is there is refused then.
        Err(failure) if failure.kind == Kind::TooLarge => return Ok(found),
        Err(failure) => return Err(failure),
    };
    let mut missing = Vec::new();
    for one in found {
        let like = match there.get(&one.below) {
            Some(entry) => same(&one, entry, false).await?,
            None => false,
        };
        if like && !one.directory {
            transfer.meter.expect(one.size);
            transfer.meter.came_before(one.size);
            transfer.meter.whole();
        } else {
            missing.push(one);
        }
    }
    Ok(missing)
}

/// Sends these files and directories.
///
/// # Errors
///
/// As of [`upload`].
pub async fn send_all(transfer: &Transfer<'_>, found: Vec<Found>) -> Result<(), Failure> {
    found.iter().for_each(|one| transfer.meter.expect(one.size));
    let (big, small): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.size > LARGE);
    let mut so_far = SoFar::default();
    let mut patience = Patience::new(transfer.meter);
    while let Err(failure) = many(transfer, &small, &mut so_far, &mut patience).await {
        patience.wait(failure).await?;
    }
    for one in so_far.doubtful.iter().filter_map(|&at| small.get(at)) {
        Box::pin(is_ours(transfer, one)).await?;
    }
    for one in &big {
        large(transfer, one).await?;
    }
    Ok(())
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

    fn write(&self, one: &Found, file: &File) -> Write {
        let is = file.metadata().ok();
        let modified = is
            .as_ref()
            .map(|is| is.mtime().saturating_mul(1_000_000_000).saturating_add(is.mtime_nsec()));
        let how = if self.overwrite { How::Put } else { How::Create };
        Write {
            mode: is.map(|is| is.mode() & 0o777),
            parents: Some(true),
            modified,
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
async fn is_ours(transfer: &Transfer<'_>, one: &Found) -> Result<(), Failure> {
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
        format!("{} is there already", transfer.remote.shown_of(&transfer.remote.join(&one.below)));
    Err(Failure::new(Kind::FileExists, text))
}

/// Whether what is there already is like what we send: who sent it before us may have been killed after its last
/// word, and the server has put the file in its place after it was asked what is there.
async fn arrived_late(transfer: &Transfer<'_>, one: &Found) -> Result<bool, Failure> {
    let there = transfer.stat(&Blob(transfer.remote.join(&one.below))).await?;
    Ok(!one.directory && same(one, &there, false).await?)
}

/// Sends many small files and directories over one stream: what is sent does not wait for what is answered.
async fn many(
    transfer: &Transfer<'_>,
    all: &[Found],
    so_far: &mut SoFar,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut files = transfer.enter().await?;
    patience.entered();
    let SoFar { done, sent, doubtful } = so_far;
    let (first, before) = (*done, *sent);
    let all = all.get(first..).unwrap_or_default();
    let Files { up, down, .. } = &mut files;
    let make =
        |path: Vec<u8>| Ask::MakeDirectory(MakeDirectory { path: Blob(path), parents: Some(true) });
    if *done == 0 && !transfer.remote.path.is_empty() {
        up.ask(make(transfer.remote.path.clone()))?;
        up.flush().await?;
        down.answer().await?;
    }
    let sending = async {
        for (at, one) in (first..).zip(all) {
            if one.directory {
                up.ask(make(transfer.remote.join(&one.below)))?;
            } else {
                send_small(transfer, up, one).await?;
            }
            // Its last word may go out with what comes after it.
            *sent = (at + 1).max(*sent);
            up.flush_full().await?;
        }
        up.flush().await
    };
    let hearing = async {
        for (at, one) in (first..).zip(all) {
            match down.answer().await {
                Ok(_) => {}
                Err(failure) if failure.kind == Kind::FileExists && at < before => {
                    doubtful.push(at);
                }
                Err(failure)
                    if failure.kind == Kind::FileExists
                        && Box::pin(arrived_late(transfer, one)).await? => {}
                Err(failure) => {
                    let name = String::from_utf8_lossy(&one.below).into_owned();
                    return Err(Failure {
                        message: format!("{name}: {}", failure.message),
                        ..failure
                    });
                }
            }
            *done += 1;
            if !one.directory {
                transfer.meter.came(one.size);
                transfer.meter.whole();
            }
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

async fn send_small(transfer: &Transfer<'_>, up: &mut Up, one: &Found) -> Result<(), Failure> {
    let file = File::open(&one.path).map_err(|error| failed(&one.path, &error))?;
    let write = transfer.write(one, &file);
    let mut content = Vec::new();
    let read = file.take(LARGE + 1).read_to_end(&mut content);
    read.map_err(|error| failed(&one.path, &error))?;
    if content.len() as u64 > LARGE {
        // A part of it is not the file.
        let text = format!("{} grew while it was sent", neutral(&one.path.display().to_string()));
        return Err(Failure::new(Kind::ChangedMeanwhile, text).with_hint("send it again"));
    }
    up.ask(Ask::Write(write))?;
    for piece in content.chunks(BATCH) {
        up.content(piece);
        up.flush_full().await?;
    }
    up.whole(content.len() as u64);
    Ok(())
}
