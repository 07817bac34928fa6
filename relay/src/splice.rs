//! Joins one stream to another, chunk by chunk.
//!
//! Nothing is kept here: a half reads only what the other side has taken, so that QUIC's flow control
//! reaches from end to end and a slow reader slows the program. Ends and resets pass in both
//! directions. What a stream carries is not known; how urgent it may be stands in its header, and a
//! half that does not stop talking is lowered until it does.

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

use crate::presence::Passage;
use crate::rooms::Room;
use crate::run::Relay;
use crate::shares::{Turn, Use};
use crate::store::WorkspaceId;

/// How many chunks are moved at once: about 64 packets' worth.
const CHUNKS: usize = 64;

/// Looked up once, not for every batch.
static SPLICED: LazyLock<metrics::Counter> =
    LazyLock::new(|| metrics::counter!("farwire_relay_spliced_bytes_total"));

/// After a batch of this size others have their turn.
const LARGE: usize = 16 << 10;

/// After so many bytes without a pause a half gives way to others.
const BACKLOG: usize = 64 << 10;

/// How long a stream may wait for room at its agent. Those who ask wait a little longer.
const ROOM: Duration = Duration::from_secs(5);

/// How long a handshake may take. Agents give it up sooner.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Serves one stream that a device has opened.
pub(crate) async fn serve(
    relay: &Relay,
    device: (Id, WorkspaceId),
    room: &Arc<Room>,
    (send, mut recv): (SendHalf, RecvHalf),
) {
    let refusal = match open(relay, device, &mut recv).await {
        Ok((opening, passage)) => match enter(relay, device.0, &opening, &passage).await {
            Ok((mut far, _turn)) => {
                let _shares = [room.open(), passage.room.open()];
                let notes = Notes::new(relay.presence.route(device.0), &opening.header);
                let mut near = (send, recv);
                let cut = tokio::select! {
                    // A cut comes first: what is cut breaks at the same moment, and would hide the reason.
                    biased;
                    reason = passage.cut() => Some(reason),
                    () = join(&notes, &mut near, &mut far) => None,
                    () = late(&opening.header) => Some(Reset::Stale),
                };
                if let Some(reason) = cut {
                    for (send, recv) in [&mut near, &mut far] {
                        send.reset(reason);
                        recv.stop(reason);
                    }
                }
                notes.write();
                return;
            }
            Err(refusal) => refusal,
        },
        Err(refusal) => refusal,
    };
    refuse((send, recv), refusal);
}

/// Refuses a stream that a device has opened.
pub(crate) fn refuse((mut send, mut recv): (SendHalf, RecvHalf), reason: Reset) {
    metrics::counter!("farwire_relay_refused_streams_total", "reason" => format!("{reason:?}"))
        .increment(1);
    recv.stop(reason);
    send.reset(reason);
}

/// Waits until a handshake has taken too long; for ever where it is none.
async fn late(header: &Header) {
    if header.is_handshake() {
        sleep(HANDSHAKE).await;
    } else {
        pending::<()>().await;
    }
}

async fn open(
    relay: &Relay,
    (device, workspace): (Id, WorkspaceId),
    recv: &mut RecvHalf,
) -> Result<(Opening, Passage), Reset> {
    let opening = Opening::read(recv).await.map_err(|error| match error {
        OpeningError::Slow => Reset::Stale,
        OpeningError::Broken(_) | OpeningError::Bad(_) => Reset::Malformed,
    })?;
    let passage = relay.presence.passage(device, workspace, opening.header.target)?;
    Ok((opening, passage))
}

/// Opens the stream on the agent's leg when this device may have one more there, with the route and the
/// header as it came.
async fn enter(
    relay: &Relay,
    device: Id,
    opening: &Opening,
    passage: &Passage,
) -> Result<((SendHalf, RecvHalf), Turn), Reset> {
    let opened = async {
        let turn = passage.queue.clone().enter(device, Use::of(&opening.header)).await;
        let (mut send, recv) = passage.guest.open().await.map_err(|_| Reset::Offline)?;
        send.set_priority(priority(opening.header.class, false));
        let mut head = relay.presence.route(device).to_be_bytes().to_vec();
        head.extend_from_slice(&opening.raw);
        head.extend_from_slice(&opening.rest);
        // An agent that allows no bytes holds up a device no longer than one that allows no streams.
        send.write_all(&head).await.map_err(|_| Reset::Offline)?;
        Ok::<_, Reset>(((send, recv), turn))
    };
    tokio::select! {
        biased;
        reason = passage.cut() => Err(reason),
        opened = timeout(ROOM, opened) => opened.unwrap_or(Err(Reset::Overloaded)),
    }
}

fn priority(class: Class, backlog: bool) -> i32 {
    match (class, backlog) {
        (Class::Control, false) => 20,
        (Class::Interactive, false) => 15,
        (Class::Control | Class::Interactive, true) => 5,
        (Class::Bulk, _) => 0,
    }
}

/// All that the relay knows of a stream: its header, sizes and times.
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

    fn write(&self) {
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

async fn join(
    notes: &Notes,
    (near_send, near_recv): &mut (SendHalf, RecvHalf),
    (far_send, far_recv): &mut (SendHalf, RecvHalf),
) {
    let class = notes.header.class;
    let _open = Gauge::new();
    near_send.set_priority(priority(class, false));
    tokio::join!(
        half(class, &notes.forth, near_recv, far_send),
        half(class, &notes.back, far_recv, near_send)
    );
}

/// Moves one direction until it ends or breaks.
async fn half(class: Class, moved: &AtomicU64, recv: &mut RecvHalf, send: &mut SendHalf) {
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
    let mut streak = 0;
    loop {
        let count = {
            let mut reading = pin!(recv.read_chunks(&mut chunks));
            match poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    if streak > BACKLOG {
                        send.set_priority(priority(class, false));
                    }
                    streak = 0;
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
        if streak <= BACKLOG && streak + bytes > BACKLOG {
            send.set_priority(priority(class, true));
        }
        streak += bytes;
        send.write_chunk(together(batch, bytes)).await?;
        if bytes >= LARGE {
            // Others have their turn: a stream that always has more to say never waits by itself.
            tokio::task::yield_now().await;
        }
    }
}

/// One piece of a batch. quinn looks for what it sends from the first unacknowledged piece on, each
/// time: thousands of small ones cost more than copying them does.
fn together(batch: &mut [Bytes], length: usize) -> Bytes {
    if let [only] = batch {
        return mem::take(only);
    }
    let mut all = BytesMut::with_capacity(length);
    for chunk in batch {
        all.extend_from_slice(&mem::take(chunk));
    }
    all.freeze()
}

/// Counts itself while it lives.
struct Gauge;

impl Gauge {
    fn new() -> Self {
        metrics::gauge!("farwire_relay_streams").increment(1);
        Self
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        metrics::gauge!("farwire_relay_streams").decrement(1);
    }
}
