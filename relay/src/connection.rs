//! One connection, from its first packet to its last: the door, the TLS handshake, HELLO, and then
//! its control conversation and its streams until it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use farwire_link::outer::Closed;
use farwire_link::outer::control as frames;
use farwire_link::outer::listen::{Arrival, Guest, Knock};
use farwire_protocol::cbor;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Reset;
use farwire_protocol::outer::{Call, HELLO_LIMIT, Hello, Verb as _};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::control::{self, Displaced, Visitor};
use crate::entrance::EntrancePlace;
use crate::hello::{self, Admitted, Proven};
use crate::memory::Windows;
use crate::presence::{AgentArrival, ConnectedDevice, NOTICES, Notices, Presence, Ticket};
use crate::relay::Relay;
use crate::splice::{self, Duplex, StreamSource};

/// How long HELLO may take after the TLS handshake, and how long a refusal may take to be read.
const HELLO: Duration = Duration::from_secs(5);

/// Longest description that a program may give of itself.
const BUILD_LENGTH: usize = 64;

/// Serves one connection.
///
/// Steps that happen once, or rarely, are on the heap while they last: nearly all connections are
/// idle nearly all of the time, and each would keep the room for them otherwise.
pub(crate) async fn serve(relay: Arc<Relay>, knock: Knock, place: EntrancePlace) {
    // A program that is let in gives its place up.
    if let Some((arrival, entered)) = Box::pin(place.enter(enter(&relay, knock))).await {
        stay(&relay, arrival, entered).await;
    }
}

/// A program that was let in.
struct Entered {
    who: Admitted,
    /// The number of the call that HELLO was.
    call: u32,
    /// Program and version, as it names itself.
    build: String,
}

/// Shakes hands, reads HELLO and checks it. Returns `None` for a program that is not let in.
async fn enter(relay: &Relay, knock: Knock) -> Option<(Arrival, Entered)> {
    let remote = knock.remote();
    metrics::counter!("farwire_relay_handshakes_total").increment(1);
    let mut arrival = match knock.enter().await {
        Ok(arrival) => arrival,
        Err(error) => {
            tracing::debug!(%remote, %error, "a handshake failed");
            return None;
        }
    };
    let first = timeout(HELLO, frames::read_within::<Call>(&mut arrival.recv, HELLO_LIMIT)).await;
    let hello = match &first {
        Ok(Ok(call)) if call.verb == Hello::NUMBER => {
            cbor::decode::<Hello>(&call.body, HELLO_LIMIT).ok().map(|hello| (call.id, hello))
        }
        _ => None,
    };
    let Some((call, hello)) = hello else {
        arrival.link.close(Reset::Malformed);
        return None;
    };
    let proven = Proven { key: arrival.key, exporter: arrival.exporter };
    match hello::admit(&*relay.store, &proven, &hello).await {
        Ok(who) => Some((arrival, Entered { who, call, build: printable(&hello.build) })),
        Err(failure) => {
            // Not above debug: strangers must not fill a log that is kept. The counter has them
            // all.
            tracing::debug!(%remote, kind = %failure.kind, why = failure.message, "not admitted");
            metrics::counter!("farwire_relay_refused_hellos_total").increment(1);
            refuse(arrival, call, failure).await;
            None
        }
    }
}

/// Cuts a program's description of itself down to what may stand in a log or on a screen.
fn printable(build: &str) -> String {
    let printable = build.chars().filter(|char| char.is_ascii_graphic() || *char == ' ');
    printable.take(BUILD_LENGTH).collect()
}

/// Answers HELLO with a failure, and closes the connection.
async fn refuse(mut arrival: Arrival, call: u32, failure: Failure) {
    if control::answer(&mut arrival.send, call, Err::<(), _>(failure)).await.is_ok() {
        arrival.send.finish();
        // Wait until the refusal is read; a peer that does not read it is closed all the same.
        let _ = timeout(HELLO, arrival.send.stopped()).await;
    }
    arrival.link.close(Reset::Closing);
}

/// Registers a program that was let in, and serves it until it leaves.
async fn stay(relay: &Arc<Relay>, arrival: Arrival, entered: Entered) {
    let Entered { who, call, build } = entered;
    let (notices, inbox) = mpsc::channel(NOTICES);
    let windows = Windows::new(relay.memory.clone(), arrival.link.clone(), who.workspace());
    let newcomer = Newcomer { who, build, guest: &arrival.link, windows: &windows, notices };
    let Registered { ticket, streams } = match register(relay, newcomer).await {
        Ok(registered) => registered,
        Err(failure) => return refuse(arrival, call, failure).await,
    };
    let _leaving = Leaving { presence: &relay.presence, ticket };
    let Arrival { link, mut send, recv, .. } = arrival;
    let mail = Box::pin(has_mail(relay, who)).await;
    let welcome = control::welcome(relay.node, link.remote(), mail);
    if control::answer(&mut send, call, Ok(welcome)).await.is_err() {
        return;
    }
    let visitor = Visitor { relay, who, ticket };
    let tasks = TaskTracker::new();
    let reason = tokio::select! {
        served = visitor.converse(&link, recv, send, inbox) => match served {
            Ok(displaced) => {
                note_displaced(relay, who, displaced);
                Reset::Moved
            }
            Err(error) => {
                tracing::debug!(%error, "a control conversation ended");
                Reset::Closing
            }
        },
        () = accept_streams(relay, &link, streams.as_ref(), &tasks) => Reset::Closing,
    };
    // A displaced agent that closes the connection itself gives this reason.
    let gave_way = link.close_reason() == Some(Closed::ByPeer(Reset::Moved));
    if gave_way && relay.presence.is_displaced(ticket) {
        note_displaced(relay, who, Displaced::Living);
    }
    link.close(reason);
}

/// A program that is to be registered.
struct Newcomer<'a> {
    who: Admitted,
    build: String,
    guest: &'a Guest,
    windows: &'a Arc<Windows>,
    notices: Notices,
}

struct Registered {
    ticket: Ticket,
    /// The streams to serve, for a device. Nobody else may open any.
    streams: Option<DeviceStreams>,
}

struct DeviceStreams {
    source: StreamSource,
    shared: Arc<ConnectedDevice>,
}

async fn register(relay: &Relay, newcomer: Newcomer<'_>) -> Result<Registered, Failure> {
    let Newcomer { who, build, guest, windows, notices } = newcomer;
    match who {
        Admitted::Device(member) => {
            let (ticket, shared) = relay.presence.device_arrived(member, notices)?;
            guest.widen();
            let source = StreamSource { device: member, windows: windows.clone() };
            Ok(Registered { ticket, streams: Some(DeviceStreams { source, shared }) })
        }
        Admitted::Enrolling(enrolling) => {
            let ticket = relay.presence.enrolling_arrived(enrolling, notices);
            Ok(Registered { ticket, streams: None })
        }
        Admitted::Agent { id, instance, .. } => {
            let (guest, windows) = (guest.clone(), windows.clone());
            let arrival = AgentArrival { agent: id, instance, build, guest, windows, notices };
            Ok(Registered { ticket: register_agent(relay, arrival).await?, streams: None })
        }
    }
}

/// Registers an agent. Its record may have changed since its HELLO was checked: a record that was
/// just made is in the store before it is in [`Presence`].
async fn register_agent(relay: &Relay, arrival: AgentArrival) -> Result<Ticket, Failure> {
    let arrival = match relay.presence.agent_arrived(arrival) {
        Ok(ticket) => return Ok(ticket),
        Err(arrival) => arrival,
    };
    let _order = relay.changes.lock().await;
    relay.store.server_of_agent(arrival.agent).await?;
    let registered = relay.presence.agent_arrived(arrival);
    registered
        .map_err(|_| Failure::new(Kind::Internal, "the relay has lost the record of this agent"))
}

/// Notes that an agent was displaced by another process. If both live, two processes hold one
/// identity.
fn note_displaced(relay: &Relay, who: Admitted, displaced: Displaced) {
    if let (Admitted::Agent { id, .. }, Displaced::Living) = (who, displaced) {
        tracing::warn!(agent = ?id.target(), "two processes hold one agent's identity");
        relay.presence.note_duplicate(id);
    }
}

/// Ends a registration when it is dropped, however the connection ends.
struct Leaving<'a> {
    presence: &'a Presence,
    ticket: Ticket,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.presence.leave(self.ticket);
        tracing::debug!(role = self.ticket.role(), "a connection ended");
    }
}

/// Returns whether mail waits for the workspace of a device.
async fn has_mail(relay: &Relay, who: Admitted) -> bool {
    match who {
        // A device that is told of no mail asks for it later.
        Admitted::Device(member) => {
            relay.store.has_requests(member.workspace).await.unwrap_or(false)
        }
        Admitted::Agent { .. } | Admitted::Enrolling(_) => false,
    }
}

/// Serves the streams of a device, and stops those of anybody else.
async fn accept_streams(
    relay: &Arc<Relay>,
    link: &Guest,
    device: Option<&DeviceStreams>,
    tasks: &TaskTracker,
) {
    while let Ok((send, mut recv)) = link.accept().await {
        let Some(DeviceStreams { source, shared }) = device else {
            recv.stop(Reset::Malformed);
            continue;
        };
        let stream = Duplex { send, recv };
        let delay = shared.delay(Instant::now());
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let Some(counted) = shared.count_stream() else {
            splice::refuse(stream, Reset::Overloaded);
            continue;
        };
        let (relay, source) = (relay.clone(), source.clone());
        tasks.spawn(async move {
            splice::serve(&relay, &source, stream).await;
            drop(counted);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_description_of_itself_is_short_and_printable() {
        assert_eq!(printable("farwire-agent 0.1.0"), "farwire-agent 0.1.0");
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{e9}d"), "a[2Jbcd");
        assert_eq!(printable(&"x".repeat(1_000)).len(), BUILD_LENGTH);
    }
}
