//! Joins a device's stream to one towards an agent, chunk by chunk.
//!
//! The relay keeps no data: a direction reads only what the other side has taken, so that QUIC's
//! flow control reaches from end to end and a slow reader slows the program. Ends and resets pass
//! in both directions. The relay does not know what a stream carries. Its header says how urgent it
//! may be, and a direction that never pauses loses priority until it does.

use std::future::{pending, poll_fn};
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farwire_link::outer::opening::{Opening, OpeningError};
use farwire_link::outer::{RecvHalf, SendHalf, reset_of};
use farwire_protocol::header::{Class, Header, Reset, Route};
use farwire_protocol::id::Id;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::memory::Windows;
use crate::presence::Passage;
use crate::relay::Relay;
use crate::shares::{StreamPermit, StreamUse};
use crate::workspace::Member;

/// Chunks that are moved at once: about 64 packets' worth.
const CHUNKS: usize = 64;

/// Counts the bytes that were moved. Looked up once, not for every batch.
static SPLICED: LazyLock<metrics::Counter> =
    LazyLock::new(|| metrics::counter!("farwire_relay_spliced_bytes_total"));

/// After a batch of this size other streams get the processor.
const LARGE: usize = 16 << 10;

/// After this many bytes without a pause a direction loses priority.
const BACKLOG: usize = 64 << 10;

/// How long a stream may wait until its agent takes it. Bridges wait a little longer for an answer.
const LONGEST_OPENING: Duration = Duration::from_secs(5);

/// How long a handshake may take. Agents give up sooner.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(30);

/// Both directions of a QUIC stream.
pub(crate) struct Duplex {
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvHalf,
}

impl Duplex {
    fn reset(&mut self, reason: Reset) {
        self.send.reset(reason);
        self.recv.stop(reason);
    }
}

/// The connection that streams come from.
#[derive(Clone, Debug)]
pub(crate) struct StreamSource {
    pub(crate) device: Member,
    pub(crate) windows: Arc<Windows>,
}

/// Serves one stream that a device has opened.
pub(crate) async fn serve(relay: &Relay, source: &StreamSource, mut near: Duplex) {
    let (opening, passage) = match find_passage(relay, source.device, &mut near.recv).await {
        Ok(found) => found,
        Err(reason) => return refuse(near, reason),
    };
    let route = relay.presence.route(source.device.id);
    let (mut far, _permit) = match open(route, source.device.id, &opening, &passage).await {
        Ok(opened) => opened,
        Err(reason) => return refuse(near, reason),
    };
    let _windows = [source.windows.open_stream(), passage.windows.open_stream()];
    let notes = Notes::new(route, &opening.header);
    let cut = tokio::select! {
        // A cut comes first: both streams break at the same moment, which would hide its reason.
        biased;
        reason = passage.until_cut() => Some(reason),
        () = join(&notes, &mut near, &mut far) => None,
        () = handshake_timeout(&opening.header) => Some(Reset::Stale),
    };
    if let Some(reason) = cut {
        near.reset(reason);
        far.reset(reason);
    }
    notes.log();
}

/// Refuses a stream that a device has opened.
pub(crate) fn refuse(mut stream: Duplex, reason: Reset) {
    metrics::counter!("farwire_relay_refused_streams_total", "reason" => format!("{reason:?}"))
        .increment(1);
    stream.reset(reason);
}

/// Reads the header of a stream and finds the way to its target.
async fn find_passage(
    relay: &Relay,
    device: Member,
    recv: &mut RecvHalf,
) -> Result<(Opening, Passage), Reset> {
    let opening = Opening::read(recv).await.map_err(|error| match error {
        OpeningError::Slow => Reset::Stale,
        OpeningError::Broken(_) | OpeningError::Bad(_) => Reset::Malformed,
    })?;
    let passage = relay.presence.passage(device, opening.header.target)?;
    Ok((opening, passage))
}

/// Opens the stream towards the agent, once the device may have one more there, and sends the route
/// and the header as it came.
async fn open(
    route: Route,
    device: Id,
    opening: &Opening,
    passage: &Passage,
) -> Result<(Duplex, StreamPermit), Reset> {
    let open = async {
        let queue = passage.queue.clone();
        let permit = queue.enter(device, StreamUse::of(&opening.header)).await;
        let (mut send, recv) = passage.guest.open().await.map_err(|_| Reset::Offline)?;
        send.set_priority(priority(opening.header.class, false));
        let mut head = route.to_be_bytes().to_vec();
        head.extend_from_slice(&opening.raw);
        head.extend_from_slice(&opening.rest);
        // Within the timeout, too: an agent may take a stream and none of its bytes.
        send.write_all(&head).await.map_err(|_| Reset::Offline)?;
        Ok::<_, Reset>((Duplex { send, recv }, permit))
    };
    tokio::select! {
        biased;
        reason = passage.until_cut() => Err(reason),
        opened = timeout(LONGEST_OPENING, open) => opened.unwrap_or(Err(Reset::Overloaded)),
    }
}

/// Waits until a handshake has taken too long. Never returns for another stream.
async fn handshake_timeout(header: &Header) {
    if header.is_handshake() {
        sleep(LONGEST_HANDSHAKE).await;
    } else {
        pending::<()>().await;
    }
}

/// Returns the priority of a direction. QUIC sends the highest first. Control keeps ahead of others
/// even with a backlog, and nothing is below bulk.
fn priority(class: Class, backlog: bool) -> i32 {
    match (class, backlog) {
        (Class::Control, false) => 20,
        (Class::Interactive, false) => 15,
        (Class::Control | Class::Interactive, true) => 5,
        (Class::Bulk, _) => 0,
    }
}

/// How much a direction has moved without a pause, and the priority that follows from it.
#[derive(Debug)]
struct Streak {
    class: Class,
    bytes: usize,
}

impl Streak {
    fn new(class: Class) -> Self {
        Self { class, bytes: 0 }
    }

    /// Counts bytes that are to be moved. Returns the new priority when they make a backlog.
    fn extend(&mut self, bytes: usize) -> Option<i32> {
        let before = self.bytes;
        self.bytes = before.saturating_add(bytes);
        let lowered = before <= BACKLOG && self.bytes > BACKLOG;
        lowered.then(|| priority(self.class, true))
    }

    /// Notes that there is nothing to move. Returns the new priority when that ends a backlog.
    fn pause(&mut self) -> Option<i32> {
        let raised = mem::take(&mut self.bytes) > BACKLOG;
        raised.then(|| priority(self.class, false))
    }
}

/// All that the relay knows about a stream: its header, sizes and times.
struct Notes {
    route: Route,
    header: Header,
    begun: Instant,
    forth: AtomicU64,
    back: AtomicU64,
}

impl Notes {
    fn new(route: Route, header: &Header) -> Self {
        let (forth, back) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { route, header: *header, begun: Instant::now(), forth, back }
    }

    fn log(&self) {
        let Header { class, target, link, sid, not_after, .. } = self.header;
        let [a, b, c, d, ..] = target.0;
        let [e, f, g, h, ..] = link;
        tracing::debug!(
            device = self.route,
            agent = format!("{a:02x}{b:02x}{c:02x}{d:02x}…"),
            link = format!("{e:02x}{f:02x}{g:02x}{h:02x}…"),
            sid,
            ?class,
            not_after,
            bytes_forth = self.forth.load(Ordering::Relaxed),
            bytes_back = self.back.load(Ordering::Relaxed),
            ms = self.begun.elapsed().as_millis(),
            "stream ended",
        );
    }
}

/// Moves both directions until both have ended.
async fn join(notes: &Notes, near: &mut Duplex, far: &mut Duplex) {
    let class = notes.header.class;
    let _gauge = StreamGauge::new();
    near.send.set_priority(priority(class, false));
    tokio::join!(
        move_direction(class, &notes.forth, &mut near.recv, &mut far.send),
        move_direction(class, &notes.back, &mut far.recv, &mut near.send)
    );
}

/// Moves one direction until it ends or breaks, and passes that on.
async fn move_direction(class: Class, moved: &AtomicU64, recv: &mut RecvHalf, send: &mut SendHalf) {
    let stopped = send.stopped();
    let done = tokio::select! {
        done = move_all(class, moved, recv, send) => done,
        Some(reason) = stopped => {
            recv.stop(reason);
            send.reset(reason);
            return;
        }
    };
    match done {
        Ok(()) => send.finish(),
        Err(error) => {
            let reason = reset_of(&error).unwrap_or(Reset::Cancelled);
            recv.stop(reason);
            send.reset(reason);
        }
    }
}

async fn move_all(
    class: Class,
    moved: &AtomicU64,
    recv: &mut RecvHalf,
    send: &mut SendHalf,
) -> io::Result<()> {
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    let mut streak = Streak::new(class);
    loop {
        let count = {
            let mut reading = pin!(recv.read_chunks(&mut chunks));
            match poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    if let Some(priority) = streak.pause() {
                        send.set_priority(priority);
                    }
                    reading.await?
                }
            }
        };
        let Some(batch) = chunks.get_mut(..count).filter(|batch| !batch.is_empty()) else {
            return Ok(());
        };
        let bytes: usize = batch.iter().map(Bytes::len).sum();
        let counted = u64::try_from(bytes).unwrap_or(0);
        SPLICED.increment(counted);
        moved.fetch_add(counted, Ordering::Relaxed);
        if let Some(priority) = streak.extend(bytes) {
            send.set_priority(priority);
        }
        send.write_chunk(concat(batch, bytes)).await?;
        if bytes >= LARGE {
            // A stream that always has more to read would never let others run.
            tokio::task::yield_now().await;
        }
    }
}

/// Makes one piece of a batch. For each packet quinn searches the pieces from the first
/// unacknowledged one on: with thousands of small ones that costs more than copying them.
fn concat(batch: &mut [Bytes], length: usize) -> Bytes {
    if let [only] = batch {
        return mem::take(only);
    }
    let mut all = BytesMut::with_capacity(length);
    for chunk in batch {
        all.extend_from_slice(&mem::take(chunk));
    }
    all.freeze()
}

/// Counts an open stream while it lives.
struct StreamGauge;

impl StreamGauge {
    fn new() -> Self {
        metrics::gauge!("farwire_relay_streams").increment(1);
        Self
    }
}

impl Drop for StreamGauge {
    fn drop(&mut self) {
        metrics::gauge!("farwire_relay_streams").decrement(1);
    }
}

#[cfg(test)]
mod tests;
