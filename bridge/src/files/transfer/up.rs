//! From here to a server.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use farwire_link::inner::sealed::BATCH;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::{Arrived, Ask, How, MakeDirectory, What, Write};
use sha2::{Digest as _, Sha256};

use super::local::{Found, failed, walk};
use super::{Patience, Transfer};
use crate::files::{Files, Up};

/// Files that are larger go one by one, so that each can be gone on with.
const LARGE: u64 = 8 << 20;

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
            .with_hint("--recursive sends it with all that is in it"));
    }
    let (found, skipped) = walk(local)?;
    (0..skipped).for_each(|_| transfer.meter.skip());
    send_all(transfer, found).await
}

/// Sends these files and directories.
///
/// # Errors
///
/// As of [`upload`].
pub async fn send_all(transfer: &Transfer<'_>, found: Vec<Found>) -> Result<(), Failure> {
    found.iter().for_each(|one| transfer.meter.expect(one.size));
    let (big, small): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.size > LARGE);
    // Those that were answered are not sent again.
    let mut done = 0;
    let mut patience = Patience::new(transfer.meter);
    while let Err(failure) = many(transfer, &small, &mut done, &mut patience).await {
        patience.wait(failure).await?;
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
        Write {
            path: Blob(self.remote.join(&one.below)),
            how: if self.overwrite { How::Put } else { How::Create },
            revision: None,
            mode: is.map(|is| is.mode() & 0o777),
            parents: Some(true),
            modified,
            hash: None,
            transfer: None,
            offset: None,
            undo: None,
            lazy: Some(true),
        }
    }
}

/// Sends many small files and directories over one stream: what is sent does not wait for what is answered.
async fn many(
    transfer: &Transfer<'_>,
    all: &[Found],
    done: &mut usize,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut files = transfer.enter().await?;
    patience.entered();
    let all = all.get(*done..).unwrap_or_default();
    let Files { up, down, .. } = &mut files;
    let make =
        |path: Vec<u8>| Ask::MakeDirectory(MakeDirectory { path: Blob(path), parents: Some(true) });
    if *done == 0 && !transfer.remote.path.is_empty() {
        up.ask(make(transfer.remote.path.clone()))?;
        up.flush().await?;
        down.answer().await?;
    }
    let sending = async {
        for one in all {
            if one.directory {
                up.ask(make(transfer.remote.join(&one.below)))?;
            } else {
                send_small(transfer, up, one).await?;
            }
            up.flush_full().await?;
        }
        up.flush().await
    };
    let hearing = async {
        for one in all {
            down.answer().await.map_err(|failure| {
                let name = String::from_utf8_lossy(&one.below).into_owned();
                Failure { message: format!("{name}: {}", failure.message), ..failure }
            })?;
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
    up.ask(Ask::Write(transfer.write(one, &file)))?;
    let mut content = Vec::new();
    let read = file.take(LARGE + 1).read_to_end(&mut content);
    read.map_err(|error| failed(&one.path, &error))?;
    for piece in content.chunks(BATCH) {
        up.content(piece);
        up.flush_full().await?;
    }
    up.whole(content.len() as u64);
    Ok(())
}

/// Sends one file; goes on with what is there of it.
async fn large(transfer: &Transfer<'_>, one: &Found) -> Result<(), Failure> {
    let id = part_of(transfer, one)?;
    let mut counted = 0;
    let mut patience = Patience::new(transfer.meter);
    while let Err(failure) = attempt(transfer, (one, id), &mut counted, &mut patience).await {
        patience.wait(failure).await?;
    }
    transfer.meter.whole();
    Ok(())
}

async fn attempt(
    transfer: &Transfer<'_>,
    (one, id): (&Found, Nonce),
    counted: &mut u64,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut files = transfer.enter().await?;
    patience.entered();
    let path = Blob(transfer.remote.join(&one.below));
    let have = match one.size > LARGE {
        true => {
            let arrived = Ask::Arrived(Arrived { path, transfer: id });
            files.ask(arrived, None).await?.done.bytes.unwrap_or(0)
        }
        false => 0,
    };
    let have = if have > one.size { 0 } else { have };
    // What arrived before counts, once.
    transfer.meter.came(have.saturating_sub(*counted));
    *counted = have.max(*counted);
    send(transfer, &mut files, (one, id), have, counted).await
}

async fn send(
    transfer: &Transfer<'_>,
    files: &mut Files,
    (one, id): (&Found, Nonce),
    have: u64,
    counted: &mut u64,
) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| failed(&one.path, &error);
    let mut file = File::open(&one.path).map_err(wrong)?;
    let mut write = transfer.write(one, &file);
    write.lazy = None;
    if one.size > LARGE {
        write.transfer = Some(id);
        write.offset = Some(have);
    }
    if have > 0 {
        // Two parts are only one file if the whole of it is what it should be.
        write.hash = Some(Blob(digest(&mut file).map_err(wrong)?));
    }
    file.seek(SeekFrom::Start(have)).map_err(wrong)?;
    let Files { up, down, .. } = files;
    up.ask(Ask::Write(write))?;
    let mut reached = have;
    let sending = async {
        let mut piece = vec![0; BATCH];
        loop {
            let length = file.read(&mut piece).map_err(wrong)?;
            if length == 0 {
                break;
            }
            up.content(piece.get(..length).unwrap_or_default());
            reached += length as u64;
            if reached > *counted {
                transfer.meter.came(reached - *counted);
                *counted = reached;
            }
            up.flush_full().await?;
        }
        up.whole(reached - have);
        up.flush().await
    };
    let answered = down.answer();
    tokio::pin!(sending, answered);
    tokio::select! {
        // It was refused before all was there.
        answered = &mut answered => answered.map(drop),
        sent = &mut sending => {
            sent?;
            answered.await.map(drop)
        }
    }
}

/// SHA-256 of a file here.
///
/// # Errors
///
/// `io`.
pub fn file_hash(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let wrong = |error: std::io::Error| failed(path, &error);
    digest(&mut File::open(path).map_err(wrong)?).map_err(wrong)
}

fn digest(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    file.rewind()?;
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(hash.finalize().to_vec());
        }
        hash.update(piece.get(..length).unwrap_or_default());
    }
}

/// The id of a transfer: that of the same file in the same state to the same place, in whichever process.
fn part_of(transfer: &Transfer<'_>, one: &Found) -> Result<Nonce, Failure> {
    let is = std::fs::metadata(&one.path).map_err(|error| failed(&one.path, &error))?;
    let mut hash = Sha256::new();
    for part in [
        &transfer.server.pin.bundle.id.0[..],
        transfer.remote.root.as_bytes(),
        &transfer.remote.join(&one.below),
        one.path.as_os_str().as_encoded_bytes(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    for number in [
        is.ino().cast_signed(),
        is.size().cast_signed(),
        is.mtime(),
        is.mtime_nsec(),
        is.ctime(),
        is.ctime_nsec(),
    ] {
        hash.update(number.to_be_bytes());
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    Ok(Nonce(id))
}
