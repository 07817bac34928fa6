//! One file, which can be gone on with.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use farwire_link::inner::sealed::BATCH;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::{Arrived, Ask};
use sha2::{Digest as _, Sha256};

use super::{arrived_late, is_ours};
use crate::files::Files;
use crate::files::transfer::local::{Found, digest, failed};
use crate::files::transfer::{LARGE, Patience, Transfer};

/// Sends one file; goes on with what is there of it.
pub(super) async fn large(transfer: &Transfer<'_>, one: &Found) -> Result<(), Failure> {
    let id = part_of(transfer, one)?;
    let mut sent = Sent::default();
    let mut patience = Patience::new(transfer.meter);
    loop {
        let before = sent.whole;
        match attempt(transfer, (one, id), &mut sent, &mut patience).await {
            Ok(()) => break,
            // The answer to an earlier one was lost.
            Err(failure) if failure.kind == Kind::FileExists && before => {
                Box::pin(is_ours(transfer, one)).await?;
                break;
            }
            Err(failure)
                if failure.kind == Kind::FileExists
                    && Box::pin(arrived_late(transfer, one)).await? =>
            {
                transfer.meter.came_before(one.size.saturating_sub(sent.counted));
                break;
            }
            Err(failure) => patience.wait(failure).await?,
        }
    }
    transfer.meter.whole();
    Ok(())
}

/// How far one file is.
#[derive(Debug, Default)]
struct Sent {
    /// So many bytes have been counted.
    counted: u64,
    /// All of it was said once: it may have been put in its place.
    whole: bool,
}

async fn attempt(
    transfer: &Transfer<'_>,
    (one, id): (&Found, Nonce),
    sent: &mut Sent,
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
    transfer.meter.came_before(have.saturating_sub(sent.counted));
    sent.counted = have.max(sent.counted);
    send(transfer, &mut files, (one, id), have, sent).await
}

async fn send(
    transfer: &Transfer<'_>,
    files: &mut Files,
    (one, id): (&Found, Nonce),
    have: u64,
    so_far: &mut Sent,
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
        write.hash = Some(Blob(digest(file.try_clone().map_err(wrong)?, &one.path).await?));
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
            if reached > so_far.counted {
                transfer.meter.came(reached - so_far.counted);
                so_far.counted = reached;
            }
            up.flush_full().await?;
        }
        up.whole(reached - have);
        so_far.whole = true;
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
