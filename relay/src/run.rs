//! The life of the relay: start in order, serve, end within a second.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farwire_link::outer::Closed;
use farwire_link::outer::control as frames;
use farwire_link::outer::listen::{Arrival, Guest, Knock, Listener, Options};
use farwire_protocol::address::{Relay as RelayAddress, RelayUrl};
use farwire_protocol::cbor;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Reset;
use farwire_protocol::outer::{Call, HELLO_LIMIT, Hello, Notice, Verb as _};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::config::{self, Config};
use crate::control::{self, Displaced, Visit};
use crate::data::{Data, public};
use crate::door::Limits;
use crate::entrance::{Entrance, Place};
use crate::hello::{self, Admitted};
use crate::presence::{Arriving, Device, NOTICES, Presence, Ticket};
use crate::rooms::{Room, Rooms};
use crate::store::{self, Store};
use crate::turns::Turns;
use crate::{http, splice};

/// Program and version, as others see it.
pub(crate) const BUILD: &str = concat!("farwire-relay ", env!("CARGO_PKG_VERSION"));

/// How long HELLO may take after the TLS handshake.
const HELLO: Duration = Duration::from_secs(5);

/// How many calls of one workspace are carried out at a time.
const CALLS: usize = 4;

/// How long after the notice that it ends the relay waits before it does.
const FAREWELL: Duration = Duration::from_millis(300);

/// How often old mail is thrown away.
const SWEEP: Duration = Duration::from_secs(3600);

/// How often what was seen of agents is written down.
const WRITE_DOWN: Duration = Duration::from_secs(2);

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) presence: Presence,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) draining: AtomicBool,
    /// Held while a record changes, in the books and in [`Presence`].
    pub(crate) changes: tokio::sync::Mutex<()>,
    /// Who may ask something.
    pub(crate) calls: Arc<Turns>,
    pub(crate) rooms: Arc<Rooms>,
}

/// Serves until it is told to stop.
pub(crate) fn serve(config: Config) -> Result<(), Failure> {
    runtime()?.block_on(start(config))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // The kernel's half of the network wants a core, too; and where there are two, a packet that wakes both
    // of our threads is later than one that wakes one.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.div_ceil(2))
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::ResourceExhausted, format!("no threads: {error}")))
}

async fn start(config: Config) -> Result<(), Failure> {
    let data = Data::open(config.data.clone())?;
    let _lock = data.lock()?;
    let key = data.tls_key()?;
    let store = store::open(&data.database()?).await?;
    let presence = Presence::default();
    for server in store.enrolled_servers().await? {
        presence.put(&server);
    }
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Failure::new(Kind::Internal, format!("no metrics: {error}")))?;
    let site = http::bind(config.http).await?;
    let listener = Listener::bind(&Options {
        listen: config.listen,
        key: key.clone(),
        node: 1,
        reset_key: data.reset_key()?,
        cid_key: data.cid_key()?,
        keylog: config.keylog.clone(),
    })
    .map_err(|error| Failure::caused(Kind::Io, "the relay cannot start", &error))?;
    let address = advertised(&config, &listener)?;
    data.remember_address(&address);
    let url = url(&*store, vec![address], public(&key)).await?;
    let entrance = Arc::new(Entrance::new(Limits::default()));
    let (draining, changes) = (AtomicBool::new(false), tokio::sync::Mutex::default());
    let (calls, rooms) = (Turns::new(CALLS), Arc::new(Rooms::of_this_machine()));
    let relay = Arc::new(Relay { store, presence, entrance, draining, changes, calls, rooms });
    let site = tokio::spawn(http::serve(site, relay.clone(), metrics));
    let books = tokio::spawn(keep_books(relay.clone()));
    say_ready(&url);
    let served = listen(&relay, &listener).await;
    relay.draining.store(true, Ordering::Relaxed);
    relay.presence.tell_all(&Notice::GoAway(3_000));
    // So that the notices leave before the connections are closed.
    sleep(FAREWELL).await;
    listener.close().await;
    site.abort();
    books.abort();
    write_down(&relay).await;
    // It has been logged, and the next start goes on with what is there.
    let _ = relay.store.close().await;
    served
}

/// Writes down what was seen of agents, and throws old mail away, for ever.
async fn keep_books(relay: Arc<Relay>) {
    let mut sweep = interval(SWEEP);
    let mut seen = interval(WRITE_DOWN);
    seen.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = sweep.tick() => {
                // It has been logged, and the next sweep takes more.
                let _ = relay.store.sweep_mail().await;
            }
            _ = seen.tick() => write_down(&relay).await,
        }
    }
}

async fn write_down(relay: &Relay) {
    let news = relay.presence.news();
    if !news.is_empty() && relay.store.note_sightings(&news).await.is_err() {
        // It has been logged, and is tried again.
        relay.presence.untold(&news);
    }
}

fn say_ready(url: &RelayUrl) {
    // Nobody may be reading it any more; `farwire-relay url` says it, too.
    let _ = print(&format!("ready {url}\n"));
    tracing::info!(address = url.relay.addresses.join(","), "the relay serves");
    // Not being under systemd is no error.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// The address for URLs: as configured, or where we listen, or the primary address.
fn advertised(config: &Config, listener: &Listener) -> Result<String, Failure> {
    if let Some(address) = &config.advertise {
        return Ok(address.clone());
    }
    let bound = listener
        .address()
        .map_err(|error| Failure::new(Kind::Io, format!("no local address: {error}")))?;
    let ip = if bound.ip().is_unspecified() { primary_address() } else { bound.ip() };
    Ok(SocketAddr::new(ip, bound.port()).to_string())
}

/// The address of the route to the world. Nothing is sent.
fn primary_address() -> IpAddr {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    found.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

async fn url(
    store: &dyn Store,
    addresses: Vec<String>,
    key: farwire_protocol::id::Kt,
) -> Result<RelayUrl, Failure> {
    // Without room for an invite the relay serves those who have a workspace all the same.
    let invite = if store.has_workspace().await? { None } else { store.make_invite().await.ok() };
    Ok(RelayUrl { relay: RelayAddress { addresses, key }, invite })
}

/// `farwire-relay url` and `farwire-relay invite`.
pub(crate) fn print_url(data: Option<PathBuf>, invite: bool) -> Result<(), Failure> {
    let data = Data::open(config::data(data)?)?;
    let relay = RelayAddress { addresses: vec![data.address()?], key: public(&data.tls_key()?) };
    let url = if invite {
        let database = data.database()?;
        let lock = data.lock();
        let made = async {
            let store = match &lock {
                Ok(_) => store::open(&database).await?,
                Err(failure) if failure.kind == Kind::AlreadyRunning => {
                    store::join(&database).await?
                }
                Err(failure) => return Err(failure.clone()),
            };
            store.make_invite().await
        };
        RelayUrl { relay, invite: Some(runtime()?.block_on(made)?) }
    } else {
        RelayUrl { relay, invite: None }
    };
    print(&format!("{url}\n"))
        .map_err(|error| Failure::new(Kind::Io, format!("the URL could not be printed: {error}")))
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Takes connections until a signal comes.
async fn listen(relay: &Arc<Relay>, listener: &Listener) -> Result<(), Failure> {
    let no_signal = |error| Failure::new(Kind::Io, format!("no signals: {error}"));
    let mut term = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut int = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let visits = TaskTracker::new();
    loop {
        tokio::select! {
            biased;
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            knock = listener.accept() => {
                let Some(knock) = knock else { return Ok(()) };
                if let Some((knock, place)) = relay.entrance.admit(knock) {
                    visits.spawn(visit(relay.clone(), knock, place));
                }
            }
        }
    }
}

/// One connection, from its first packet to its last.
///
/// What is done once, or rarely, is on the heap while it lasts: nearly all connections are idle nearly
/// all of the time, and each would keep the room for it.
async fn visit(relay: Arc<Relay>, knock: Knock, place: Place) {
    // Whoever is let in gives the place up.
    let entered = Box::pin(place.enter(enter(&relay, knock))).await;
    if let Some((arrival, who)) = entered {
        stay(&relay, arrival, who).await;
    }
}

/// Somebody who was let in: as what, the number of the call that HELLO was, and its program.
struct Entered {
    who: Admitted,
    call: u32,
    build: String,
}

/// Shakes hands, hears HELLO and checks it. `None` for whoever is not let in.
async fn enter(relay: &Relay, knock: Knock) -> Option<(Arrival, Entered)> {
    let remote = knock.remote();
    metrics::counter!("farwire_relay_handshakes_total").increment(1);
    let mut arrival = match knock.enter().await {
        Ok(arrival) => arrival,
        Err(error) => {
            tracing::debug!(%remote, %error, "a connection came to nothing");
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
    match hello::admit(&*relay.store, &arrival, &hello).await {
        Ok(who) => Some((arrival, Entered { who, call, build: clean(&hello.build) })),
        Err(failure) => {
            // A stranger costs no line in a log that is kept; the counter has them all.
            tracing::debug!(%remote, kind = %failure.kind, why = failure.message, "not let in");
            metrics::counter!("farwire_relay_refused_hellos_total").increment(1);
            refuse(arrival, call, failure).await;
            None
        }
    }
}

/// What a program says that it is, as far as it may stand in a log or on a screen.
fn clean(build: &str) -> String {
    build.chars().filter(|char| char.is_ascii_graphic() || *char == ' ').take(64).collect()
}

/// Answers HELLO with a failure, and closes the connection.
async fn refuse(mut arrival: Arrival, call: u32, failure: Failure) {
    if control::answer(&mut arrival.send, call, Err::<(), _>(failure)).await.is_ok() {
        arrival.send.finish();
        // The refusal is read before the connection is closed, or the peer does not care.
        let _ = timeout(HELLO, arrival.send.stopped()).await;
    }
    arrival.link.close(Reset::Closing);
}

/// Registers somebody who was let in, and serves until it leaves.
async fn stay(relay: &Arc<Relay>, arrival: Arrival, entered: Entered) {
    let Entered { who, call, build } = entered;
    let (notices, told) = mpsc::channel(NOTICES);
    let room = Room::new(relay.rooms.clone(), arrival.link.clone(), who.workspace());
    let came = match who {
        Admitted::Device { id, workspace } => {
            let came = relay.presence.device_came((id, workspace), notices);
            came.map(|(ticket, device)| {
                arrival.link.widen();
                (ticket, Some(device))
            })
        }
        Admitted::Enrolling { enrollment, workspace } => {
            Ok((relay.presence.enrolling_came((enrollment, workspace), notices), None))
        }
        Admitted::Agent { id, instance, .. } => {
            let (guest, room) = (arrival.link.clone(), room.clone());
            let arriving = Arriving { id, instance, guest, room, notices, build };
            agent_came(relay, arriving).await.map(|ticket| (ticket, None))
        }
    };
    let (ticket, device) = match came {
        Ok(came) => came,
        Err(failure) => return refuse(arrival, call, failure).await,
    };
    let leaves = Leaves { relay, ticket };
    let Arrival { link, mut send, recv, .. } = arrival;
    let mail = Box::pin(waiting_mail(relay, who)).await;
    if control::answer(&mut send, call, Ok(control::welcome(link.remote(), mail))).await.is_ok() {
        let visit = Visit { relay, who, ticket, link: &link };
        let streams = TaskTracker::new();
        let reason = tokio::select! {
            served = visit.serve(recv, send, told) => match served {
                Ok(displaced) => {
                    note_displaced(relay, who, displaced);
                    Reset::Moved
                }
                Err(error) => {
                    tracing::debug!(%error, "a control conversation ended");
                    Reset::Closing
                }
            },
            () = streams_of(relay, (&link, &room), (who, device), &streams) => Reset::Closing,
        };
        // An agent that hears that another has its place closes with this.
        let gave_way = link.close_reason() == Some(Closed::ByPeer(Reset::Moved));
        if gave_way && relay.presence.is_displaced(ticket) {
            note_displaced(relay, who, Displaced::Living);
        }
        link.close(reason);
    }
    drop(leaves);
}

/// Registers an agent. Its record may have changed since its HELLO was checked; one that has just been made is in the
/// books before it is in [`Presence`].
async fn agent_came(relay: &Relay, arriving: Arriving) -> Result<Ticket, Failure> {
    let arriving = match relay.presence.agent_came(arriving) {
        Ok(ticket) => return Ok(ticket),
        Err(arriving) => arriving,
    };
    let _order = relay.changes.lock().await;
    relay.store.server_of_agent(arriving.id).await?;
    let came = relay.presence.agent_came(arriving);
    came.map_err(|_| Failure::new(Kind::Internal, "the relay has lost the record of this agent"))
}

/// Somebody was displaced by another process. Where both live, two hold one identity.
fn note_displaced(relay: &Relay, who: Admitted, displaced: Displaced) {
    if let (Admitted::Agent { id, .. }, Displaced::Living) = (who, displaced) {
        tracing::warn!(agent = ?id.target(), "two processes hold one agent's identity");
        relay.presence.duplicate(id);
    }
}

/// Gives the place in the directory up, whatever happens.
struct Leaves<'a> {
    relay: &'a Relay,
    ticket: Ticket,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.relay.presence.leave(self.ticket);
        tracing::debug!(who = self.ticket.name(), "a connection is over");
    }
}

async fn waiting_mail(relay: &Relay, who: Admitted) -> bool {
    match who {
        Admitted::Device { workspace, .. } => {
            relay.store.has_requests(workspace).await.unwrap_or(false)
        }
        Admitted::Agent { .. } | Admitted::Enrolling { .. } => false,
    }
}

/// Serves the streams of a device. Nobody else opens any.
async fn streams_of(
    relay: &Arc<Relay>,
    (link, room): (&Guest, &Arc<Room>),
    (who, device): (Admitted, Option<Arc<Device>>),
    streams: &TaskTracker,
) {
    while let Ok((send, mut recv)) = link.accept().await {
        let (Admitted::Device { id, workspace }, Some(device)) = (who, &device) else {
            recv.stop(Reset::Malformed);
            continue;
        };
        let wait = device.pace(std::time::Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let Some(opened) = device.opened() else {
            splice::refuse((send, recv), Reset::Overloaded);
            continue;
        };
        let (relay, room) = (relay.clone(), room.clone());
        streams.spawn(async move {
            splice::serve(&relay, (id, workspace), &room, (send, recv)).await;
            drop(opened);
        });
    }
}
