//! One file, which can be gone on with.

use std::io::{Read as _, Seek as _, SeekFrom};

use farwire_link::inner::sealed::BATCH;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::files::{Arrived, Ask};
use sha2::{Digest as _, Sha256};

use super::{arrived_late, is_ours};
use crate::files::Files;
use crate::files::asked::outcome;
use crate::files::transfer::ends::Transfer;
use crate::files::transfer::local::{LocalEntry, Stamp, digest_of, io_failure, open, read_small};
use crate::files::transfer::patience::Patience;
use crate::files::transfer::reading::{LARGE, READINGS, change_failure};

/// Sends one file; goes on with what is there of it. A file that changed while it was read is
/// compared with what arrived, by hash: it may only have grown. If it is another, it is sent again.
pub(super) async fn large(transfer: &Transfer<'_>, one: &LocalEntry) -> Result<(), Failure> {
    let mut sent = Sent::default();
    let mut patience = Patience::new(transfer.meter);
    loop {
        let before = sent.whole;
        match attempt(transfer, one, &mut sent, &mut patience).await {
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
            Err(failure) if failure.kind == Kind::ChangedMeanwhile => {
                sent.readings += 1;
                if sent.readings > READINGS {
                    return Err(failure);
                }
            }
            Err(failure) => patience.wait(failure).await.map_err(|failure| match sent.whole {
                true => outcome(failure),
                false => failure,
            })?,
        }
    }
    transfer.meter.whole();
    Ok(())
}

/// How far one file is.
#[derive(Debug, Default)]
struct Sent {
    /// Which state of it is sent: as many bytes as it has then.
    of: Option<Stamp>,
    /// So many bytes have been counted.
    counted: u64,
    /// How often it has changed while it was read.
    readings: u32,
    /// All of it was said once: it may have been put in its place.
    whole: bool,
}

async fn attempt(
    transfer: &Transfer<'_>,
    one: &LocalEntry,
    sent: &mut Sent,
    patience: &mut Patience<'_>,
) -> Result<(), Failure> {
    let mut files = transfer.enter_on(patience).await?;
    let now = Stamp::new(&open(&one.path)?.1);
    if now.size <= LARGE {
        return alone(transfer, &mut files, one, sent).await;
    }
    // What has another beginning is another file.
    let of = *sent.of.filter(|of| now.continues(of)).get_or_insert(now);
    sent.of = Some(of);
    let id = part_of(transfer, one, &of);
    let path = Blob(transfer.remote.join(&one.below));
    let arrived = Ask::Arrived(Arrived { path, transfer: id });
    let have = files.ask(arrived, None).await?.done.bytes.unwrap_or(0);
    let have = if have > of.size { 0 } else { have };
    // What arrived before counts, once.
    transfer.meter.came_before(have.saturating_sub(sent.counted));
    sent.counted = have.max(sent.counted);
    send(transfer, &mut files, (one, id, have), (&of, sent)).await
}

/// Sends a file that is small, and waits until the disk has it.
async fn alone(
    transfer: &Transfer<'_>,
    files: &mut Files,
    one: &LocalEntry,
    sent: &mut Sent,
) -> Result<(), Failure> {
    let small = read_small(&one.path)?;
    let now = LocalEntry::new(Vec::new(), one.path.clone(), &small.is);
    let mut write = transfer.write(one, now.mode, now.modified);
    write.lazy = None;
    let length = small.content.len() as u64;
    sent.whole = true;
    files.ask(Ask::Write(write), Some(&small.content)).await?;
    transfer.meter.came(length.saturating_sub(sent.counted));
    sent.counted = length.max(sent.counted);
    if small.grown {
        let text = format!("it grew; only the first {length} bytes were sent");
        transfer.meter.remark(one.path.as_os_str().as_encoded_bytes(), &text);
    }
    Ok(())
}

async fn send(
    transfer: &Transfer<'_>,
    files: &mut Files,
    (one, id, have): (&LocalEntry, Nonce, u64),
    (of, so_far): (&Stamp, &mut Sent),
) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| io_failure(&one.path, &error);
    let (mut file, is) = open(&one.path)?;
    let opened = Stamp::new(&is);
    let now = LocalEntry::new(Vec::new(), one.path.clone(), &is);
    let mut write = transfer.write(one, now.mode, now.modified);
    (write.lazy, write.transfer, write.offset) = (None, Some(id), Some(have));
    if have > 0 {
        // Two parts are only one file if the whole of it is what it should be.
        let copy = file.try_clone().map_err(wrong)?;
        write.hash = Some(Blob(digest_of(copy, of.size, &one.path).await?));
    }
    file.seek(SeekFrom::Start(have)).map_err(wrong)?;
    let Files { up, down, .. } = files;
    up.ask(Ask::Write(write))?;
    let mut reached = have;
    let sending = async {
        let mut piece = vec![0; BATCH];
        while reached < of.size {
            let most = usize::try_from(of.size - reached).unwrap_or(BATCH).min(BATCH);
            let length = file.read(piece.get_mut(..most).unwrap_or_default()).map_err(wrong)?;
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
        let after = Stamp::new(&file.metadata().map_err(wrong)?);
        // With a hash the server finds out what was not read twice alike.
        if reached < of.size || (have == 0 && after != opened) {
            up.give_up();
            up.flush().await?;
            return Ok(Err(change_failure(&one.path.display().to_string())));
        }
        up.whole(reached - have);
        so_far.whole = true;
        up.flush().await?;
        Ok::<_, Failure>(Ok(after.size > of.size))
    };
    let answered = down.answer();
    tokio::pin!(sending, answered);
    let grown = tokio::select! {
        // It was refused before all was there.
        answered = &mut answered => return answered.map(drop),
        sent = &mut sending => sent?,
    };
    let answer = answered.await;
    let grown = grown?;
    match answer {
        Err(failure) if failure.kind == Kind::IntegrityFailure => {
            return Err(change_failure(&one.path.display().to_string()));
        }
        answer => drop(answer?),
    }
    if grown {
        let text = format!("it grew; only the first {} bytes were sent", of.size);
        transfer.meter.remark(one.path.as_os_str().as_encoded_bytes(), &text);
    }
    Ok(())
}

/// The id of a transfer: that of the same file in the same state to the same place, in whichever
/// process.
fn part_of(transfer: &Transfer<'_>, one: &LocalEntry, of: &Stamp) -> Nonce {
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
    for number in of.numbers() {
        hash.update(number.to_be_bytes());
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize()[..16]);
    Nonce(id)
}
