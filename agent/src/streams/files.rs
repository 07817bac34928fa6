//! Serves `files` streams: opens sealed frames and hands them to the worker of a root, and seals
//! the worker's answers.
//!
//! The messages are in `protocol/src/streams/files.rs`; what a worker does is in the crate
//! `farwire-files`. Only the beginning is parsed here. If the stream ends before its content is
//! complete, the worker's socket is closed, and nothing is changed. While a request is open and the
//! worker is silent, we send signs of life, if the bridge has asked for them.

mod seated;

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use farwire_files::tree::Stat;
use farwire_files::worker::packet::{
    DATA, END, FILE, FilePart, MESSAGE, PACKET, PART, Packet, pop, push,
};
use farwire_link::inner::sealed::{BATCH, Frame, Reader, Writer};
use farwire_protocol::conversation::{Counts, End, Open, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::{Kind as FrameKind, PAYLOAD};
use farwire_protocol::streams::files::{CONTENT, Done, Enter, ToAgent, ToBridge, What};
use farwire_protocol::streams::run::BEAT;
use farwire_protocol::streams::session::Caller;
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use self::seated::SeatedPipe;
use crate::conversations::Seat;
use crate::files::pipe::Pipe;
use crate::files::waits::{Received, Waits};
use crate::gate::demand::Demand;
use crate::gate::principal::Principal;
use crate::streams::context::{Context, link_lost, request};

/// How much of a file that is not in memory is read at once.
const AHEAD: usize = 1 << 20;

/// How long a stream waits for the previous one of its conversation.
const LET_GO: Duration = Duration::from_secs(10);

/// Serves one stream.
pub(crate) async fn serve<W, R>(
    context: &Context,
    open: Open,
    writer: &mut Writer<W>,
    reader: Reader<R>,
) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + Send,
    R: AsyncRead + Unpin + Send,
{
    let create = open
        .create
        .as_ref()
        .ok_or_else(|| Failure::new(Kind::ConversationGone, "a files stream cannot be resumed"))?;
    let enter: Enter = request(create)?;
    let caller = Caller { client: enter.client.clone(), owner: None };
    let who = context.asker.who.calling_itself(Some(&caller))?;
    let beats = enter.beats == Some(true);
    let (owner, all) = (&context.asker.who, &context.services.file_conversations);
    let entered = all.enter(owner, open.conversation, open.generation, ());
    // The bridge will retry: the worker may be busy with something slow.
    let (seat, ()) = timeout(LET_GO, entered).await.map_err(|_| link_lost())??;
    let pipe = match let_in(context, &seat, enter, who).await {
        Ok(Some(pipe)) => pipe,
        // A later stream has taken the seat, and no worker has seen anything of this one.
        Ok(None) => return Err(link_lost()),
        Err(failure) => return refuse(writer, failure).await,
    };
    let detached = seat.detached.clone();
    let seated = SeatedPipe::new(pipe, seat, context.entered.clone());
    let pipe = seated.pipe();
    let questions = AtomicU64::new(0);
    let served = {
        let mut up = pin!(take(context, pipe, &questions, reader));
        let mut down = pin!(give(pipe, beats.then_some(&questions), writer));
        let both = async {
            tokio::select! {
                taken = &mut up => taken?,
                given = &mut down => return given,
            }
            // The bridge has sent everything; the worker has not.
            down.await
        };
        tokio::select! {
            biased;
            () = detached.cancelled() => Err(link_lost()),
            served = both => served,
        }
    };
    if served.is_ok() {
        seated.finish();
    }
    served
}

/// The pipe to the worker of a root; `None` once a later stream wants the seat.
async fn let_in(
    context: &Context,
    seat: &Seat,
    enter: Enter,
    who: Principal,
) -> Result<Option<Pipe>, Failure> {
    let enter = context.asker.allow(&Demand::EnterRoot, enter)?;
    let (services, entered) = (context.services.clone(), context.entered.clone());
    // Always finish starting a worker, even if the stream ends meanwhile.
    let entering = tokio::spawn(async move {
        let _entered = entered;
        services.roots.enter(enter, &who).await
    });
    tokio::select! {
        biased;
        () = seat.detached.cancelled() => Ok(None),
        entered = entering => entered.map_err(|_| link_lost())?.map(Some),
    }
}

/// Refuses to let the bridge in. A `Done` in place of `Entered` proves that no worker has seen any
/// of the request; a failure that only ends the stream does not.
async fn refuse<W>(writer: &mut Writer<W>, failure: Failure) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + Send,
{
    writer.message(&message(&ToBridge::Done(Done::from_failure(failure).into())));
    writer.end(&message(&End::default()));
    writer.finish().await.map_err(|_| link_lost())
}

/// Passes on what the bridge sends, until it has sent everything, or the worker no longer reads.
async fn take<R>(
    context: &Context,
    pipe: &Pipe,
    open: &AtomicU64,
    mut reader: Reader<R>,
) -> Result<(), Failure>
where
    R: AsyncRead + Unpin + Send,
{
    let mut counts = Counts::default();
    let mut packet = Vec::with_capacity(PACKET);
    loop {
        let mut frame = Some(reader.next().await?);
        context.link.note_activity();
        // Frames that are already here go into one packet.
        while let Some(next) = frame.take() {
            if next.kind == FrameKind::Control && !next.last && ToAgent::is_ask(&next.payload) {
                open.fetch_add(1, Ordering::Relaxed);
            }
            let last = part(&next, &mut packet, &mut counts)?;
            if last {
                // A worker that is gone has said why, or the other half notices its silence.
                let _ = pipe.send(&packet).await;
                return Ok(());
            }
            if packet.len() + PART + PAYLOAD > PACKET {
                break;
            }
            frame = reader.buffered()?;
        }
        if pipe.send(&packet).await.is_err() {
            return Ok(());
        }
        packet.clear();
    }
}

/// Adds a frame to a packet. Returns whether it was the last.
fn part(frame: &Frame, packet: &mut Vec<u8>, counts: &mut Counts) -> Result<bool, Failure> {
    match (frame.kind, frame.last) {
        (FrameKind::Data, _) if frame.channel == CONTENT => {
            let counted = counts.add(CONTENT, frame.payload.len());
            counted.ok_or_else(|| Failure::new(Kind::ProtocolViolation, "too much content"))?;
            push(packet, DATA, &frame.payload);
        }
        (FrameKind::Control, false) => push(packet, MESSAGE, &frame.payload),
        (FrameKind::Control, true) => {
            let end: End = read(&frame.payload).map_err(|error| {
                Failure::caused(
                    Kind::ProtocolViolation,
                    "the end of the stream is malformed",
                    &error,
                )
            })?;
            counts.check(&end.ends).map_err(|error| {
                Failure::caused(
                    Kind::StreamTruncated,
                    "the length of the content does not match",
                    &error,
                )
            })?;
            push(packet, END, &[]);
            return Ok(true);
        }
        _ => return Err(Failure::new(Kind::ProtocolViolation, "an unexpected frame")),
    }
    Ok(false)
}

/// Seals what the worker sends, until it has sent everything. `open` counts the unanswered
/// requests, if the bridge wants signs of life for them.
async fn give<W>(
    pipe: &Pipe,
    open: Option<&AtomicU64>,
    writer: &mut Writer<W>,
) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + Send,
{
    let mut counts = Counts::default();
    let mut buffer = vec![0; PACKET];
    loop {
        let packet = match pipe.received(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                writer.flush().await.map_err(|_| link_lost())?;
                match timeout(BEAT, pipe.receive(&mut buffer)).await {
                    Ok(packet) => packet.map_err(|_| worker_ended())?,
                    Err(_) => {
                        if open.is_some_and(|open| open.load(Ordering::Relaxed) > 0) {
                            writer.message(&message(&ToBridge::Beat));
                        }
                        continue;
                    }
                }
            }
            other => other.map_err(|_| worker_ended())?,
        };
        let Packet { bytes, descriptors } = packet.ok_or_else(worker_ended)?;
        let mut files = pipe.hold(descriptors);
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            let (kind, part) = pop(&mut bytes).ok_or_else(worker_ended)?;
            match kind {
                MESSAGE if part.len() <= PAYLOAD => {
                    if let Some(open) = open.filter(|_| ToBridge::is_done(&part)) {
                        // A worker answers each request only once.
                        let less = |open: u64| open.checked_sub(1);
                        let _ = open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                    }
                    writer.message(&part);
                }
                DATA => {
                    writer.data(CONTENT, &part);
                    add(&mut counts, part.len())?;
                }
                FILE => {
                    let file = files.next().filter(|file| is_regular(file.file()));
                    let part = FilePart::read(&part).ok_or_else(worker_ended)?;
                    let file = file.ok_or_else(worker_ended)?;
                    send_file(file, pipe.waits(), &part, writer, &mut counts).await?;
                }
                END => {
                    writer.end(&message(&End { ends: counts.offsets(), ..End::default() }));
                    return writer.finish().await.map_err(|_| link_lost());
                }
                _ => return Err(worker_ended()),
            }
        }
        if writer.waiting() >= BATCH {
            writer.flush().await.map_err(|_| link_lost())?;
        }
    }
}

fn add(counts: &mut Counts, bytes: usize) -> Result<(), Failure> {
    counts.add(CONTENT, bytes).ok_or_else(|| Failure::new(Kind::Internal, "too much content"))
}

/// Whether this is a regular file: reading anything else might block. So might the server of a file
/// system, which is therefore not asked.
fn is_regular(file: &OwnedFd) -> bool {
    state(file).is_some_and(|is| is.what == What::File)
}

/// Sends a part of a file that a worker has opened, followed by the file's new state if it was
/// changed meanwhile.
async fn send_file<W>(
    mut file: Received,
    waits: &Waits,
    part: &FilePart,
    writer: &mut Writer<W>,
    counts: &mut Counts,
) -> Result<(), Failure>
where
    W: AsyncWrite + Unpin + Send,
{
    let FilePart { mut offset, mut length, .. } = *part;
    let mut piece = vec![0; BATCH];
    while length > 0 {
        let most = usize::try_from(length).unwrap_or(BATCH).min(BATCH);
        let buffer = piece.get_mut(..most).unwrap_or_default();
        let read = match at_once(file.file(), buffer, offset) {
            // Not in memory: others go on while this waits for the disk.
            Err(Errno::AGAIN | Errno::OPNOTSUPP) => {
                let (back, bytes) = waits.run(move || wait_for(file, offset, length)).await?;
                file = back;
                let bytes = bytes.map_err(unreadable)?;
                for piece in bytes.chunks(BATCH) {
                    writer.data(CONTENT, piece);
                    writer.flush().await.map_err(|_| link_lost())?;
                }
                add(counts, bytes.len())?;
                bytes.len()
            }
            Err(error) => return Err(unreadable(error.into())),
            Ok(read) => {
                writer.data(CONTENT, buffer.get(..read).unwrap_or_default());
                add(counts, read)?;
                if writer.waiting() >= BATCH {
                    writer.flush().await.map_err(|_| link_lost())?;
                }
                read
            }
        };
        if read == 0 {
            let text = "the file became shorter while it was read";
            return Err(Failure::new(Kind::StreamTruncated, text).with_hint("read it again"));
        }
        offset += read as u64;
        length -= read as u64;
    }
    if let Some((revision, path)) = &part.opened
        && let Some(now) = state(file.file())
        && now.revision != *revision
    {
        writer.message(&message(&ToBridge::Entries(vec![now.entry(path)])));
    }
    Ok(())
}

/// The state of a file now. Does not ask the server of a file system, since that might block.
fn state(file: &OwnedFd) -> Option<Stat> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(file, c"", flags, StatxFlags::BASIC_STATS).ok().map(|stat| Stat::of(&stat))
}

/// Reads what is in memory.
#[cfg(target_os = "linux")]
fn at_once(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut buffers = [io::IoSliceMut::new(buffer)];
    rustix::io::retry_on_intr(|| {
        rustix::io::preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT)
    })
}

/// Reads, and waits for the disk.
fn wait_for(file: Received, offset: u64, length: u64) -> (Received, io::Result<Vec<u8>>) {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(AHEAD).min(AHEAD)];
    let read = rustix::io::retry_on_intr(|| rustix::io::pread(file.file(), &mut bytes[..], offset));
    let bytes = read.map(|read| {
        bytes.truncate(read);
        bytes
    });
    (file, bytes.map_err(Into::into))
}

fn unreadable(error: io::Error) -> Failure {
    Failure::caused(Kind::Io, "the rest of the file cannot be read", &error)
}

/// The worker is gone, or sends nonsense.
fn worker_ended() -> Failure {
    Failure::new(Kind::FileWorkerEnded, "the file worker ended before it had answered")
}
