//! The life of the relay: start in order, serve, end within a second.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farwire_link::outer::control as frames;
use farwire_link::outer::listen::{Arrival, Guest, Knock, Listener, Options};
use farwire_protocol::address::{Relay as RelayAddress, RelayUrl};
use farwire_protocol::cbor;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Reset;
use farwire_protocol::outer::{Call, Hello, LIMIT, Notice, Verb as _};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::config::{self, Config};
use crate::control::{self, Visit};
use crate::data::{Data, public};
use crate::db::Db;
use crate::hello::{self, Admitted};
use crate::presence::{Arriving, NOTICES, Presence, Ticket};
use crate::{http, splice};

/// Program and version, as others see it.
pub(crate) const BUILD: &str = concat!("farwire-relay ", env!("CARGO_PKG_VERSION"));

/// How long HELLO may take after the TLS handshake.
const HELLO: Duration = Duration::from_secs(5);

/// Handshakes under way at once. Beyond that a peer must prove its address first.
const HANDSHAKES: usize = 64;

/// When so many handshakes came within one second, peers must prove their address first.
const RUSH: u32 = 1_500;

/// How long after the notice that it ends the relay waits before it does.
const FAREWELL: Duration = Duration::from_millis(300);

/// How often old mail is thrown away.
const SWEEP: Duration = Duration::from_secs(3600);

/// What every connection needs.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) db: Db,
    pub(crate) presence: Presence,
    pub(crate) draining: AtomicBool,
    handshakes: Semaphore,
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
    let db = Db::open(&data.database()).await?;
    let presence = Presence::default();
    for server in db.enrolled().await? {
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
    data.remember_address(&address)?;
    let url = url(&db, vec![address], public(&key), false).await?;
    let handshakes = Semaphore::new(HANDSHAKES);
    let relay = Arc::new(Relay { db, presence, draining: AtomicBool::new(false), handshakes });
    let site = tokio::spawn(http::serve(site, relay.clone(), metrics));
    say_ready(&url);
    let served = listen(&relay, &listener).await;
    relay.draining.store(true, Ordering::Relaxed);
    relay.presence.tell_all(&Notice::GoAway(3_000));
    // So that the notices leave before the connections are closed.
    tokio::time::sleep(FAREWELL).await;
    listener.close().await;
    site.abort();
    relay.db.close().await;
    served
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
    db: &Db,
    addresses: Vec<String>,
    key: farwire_protocol::id::Kt,
    always: bool,
) -> Result<RelayUrl, Failure> {
    let invite =
        if always || !db.has_workspace().await? { Some(db.make_invite().await?) } else { None };
    Ok(RelayUrl { relay: RelayAddress { addresses, key }, invite })
}

/// `farwire-relay url` and `farwire-relay invite`.
pub(crate) fn print_url(data: Option<PathBuf>, invite: bool) -> Result<(), Failure> {
    let data = Data::open(config::data(data)?)?;
    let relay = RelayAddress { addresses: vec![data.address()?], key: public(&data.tls_key()?) };
    let url = if invite {
        let made = async { Db::open(&data.database()).await?.make_invite().await };
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
    let mut sweep = tokio::time::interval(SWEEP);
    let visits = TaskTracker::new();
    let mut rush = (Instant::now(), 0);
    loop {
        tokio::select! {
            biased;
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = sweep.tick() => {
                // It has been logged, and the next sweep takes more.
                let _ = relay.db.sweep_mail().await;
            }
            knock = listener.accept() => {
                let Some(knock) = knock else { return Ok(()) };
                if rush.0.elapsed() > Duration::from_secs(1) {
                    rush = (Instant::now(), 0);
                }
                rush.1 += 1;
                let crowded = rush.1 > RUSH || relay.handshakes.available_permits() == 0;
                let knock = if crowded { knock.validated() } else { Some(knock) };
                if let Some(knock) = knock {
                    visits.spawn(visit(relay.clone(), knock));
                }
            }
        }
    }
}

/// One connection, from its first packet to its last.
///
/// What is done once, or rarely, is on the heap while it lasts: nearly all connections are idle nearly
/// all of the time, and each would keep the room for it.
async fn visit(relay: Arc<Relay>, knock: Knock) {
    let remote = knock.remote();
    let arrival = {
        let _turn = relay.handshakes.acquire().await;
        metrics::counter!("farwire_relay_handshakes_total").increment(1);
        Box::pin(knock.enter()).await
    };
    match arrival {
        Ok(arrival) => receive(&relay, arrival, remote).await,
        Err(error) => tracing::debug!(%remote, %error, "a connection came to nothing"),
    }
}

async fn receive(relay: &Arc<Relay>, mut arrival: Arrival, remote: SocketAddr) {
    let first = timeout(HELLO, frames::read::<Call>(&mut arrival.recv)).await;
    let Ok(Ok(call)) = first else {
        arrival.link.close(Reset::Malformed);
        return;
    };
    let hello = (call.verb == Hello::NUMBER).then(|| cbor::decode::<Hello>(&call.body, LIMIT));
    let Some(Ok(hello)) = hello else {
        arrival.link.close(Reset::Malformed);
        return;
    };
    match Box::pin(hello::admit(&relay.db, &arrival, &hello)).await {
        Ok(who) => stay(relay, arrival, (who, call.id), hello.build).await,
        Err(failure) => {
            tracing::info!(%remote, kind = %failure.kind, why = failure.message, "not let in");
            metrics::counter!("farwire_relay_refused_hellos_total").increment(1);
            if control::answer(&mut arrival.send, call.id, Err::<(), _>(failure)).await.is_ok() {
                arrival.send.finish();
                // The refusal is read before the connection is closed, or the peer does not care.
                let _ = timeout(HELLO, arrival.send.stopped()).await;
            }
            arrival.link.close(Reset::Closing);
        }
    }
}

/// Registers somebody who was let in, and serves until it leaves.
async fn stay(relay: &Arc<Relay>, arrival: Arrival, (who, call): (Admitted, u32), build: String) {
    let Arrival { link, mut send, recv, .. } = arrival;
    let (notices, told) = mpsc::channel(NOTICES);
    let (ticket, agent) = match who {
        Admitted::Device { workspace, .. } => {
            link.widen();
            (relay.presence.device_came(workspace, notices), None)
        }
        Admitted::Enrolling { enrollment } => {
            (relay.presence.enrolling_came(enrollment, notices), None)
        }
        Admitted::Agent { id, instance } => {
            let build: String = build.chars().filter(|c| !c.is_control()).take(64).collect();
            let guest = link.clone();
            let (ticket, duplicate) =
                relay.presence.agent_came(Arriving { id, instance, guest, notices, build });
            if duplicate {
                tracing::warn!(agent = ?id.target(), "two processes hold one agent's identity");
                Box::pin(relay.db.note_duplicate(id)).await;
            }
            (ticket, Some(id))
        }
    };
    let mail = Box::pin(waiting_mail(relay, who)).await;
    if control::answer(&mut send, call, Ok(control::welcome(link.remote(), mail))).await.is_ok() {
        let visit = Visit { relay, who, ticket };
        let streams = TaskTracker::new();
        let reason = tokio::select! {
            served = visit.serve(recv, send, told) => match served {
                Ok(()) => Reset::Moved,
                Err(error) => {
                    tracing::debug!(%error, "a control conversation ended");
                    Reset::Closing
                }
            },
            () = streams_of(relay, &link, who, &streams) => Reset::Closing,
        };
        link.close(reason);
    }
    Box::pin(leave(relay, ticket, agent)).await;
}

async fn waiting_mail(relay: &Relay, who: Admitted) -> bool {
    match who {
        Admitted::Device { workspace, .. } => {
            relay.db.requests_of(workspace, None).await.is_ok_and(|mail| !mail.is_empty())
        }
        Admitted::Agent { .. } | Admitted::Enrolling { .. } => false,
    }
}

async fn leave(relay: &Relay, ticket: Ticket, agent: Option<farwire_protocol::id::Id>) {
    let build = relay.presence.leave(ticket, agent);
    if let (Some(agent), Some(build)) = (agent, build) {
        relay.db.seen(agent, &build).await;
    }
}

/// Serves the streams of a device. Nobody else opens any.
async fn streams_of(relay: &Arc<Relay>, link: &Guest, who: Admitted, streams: &TaskTracker) {
    while let Ok((send, mut recv)) = link.accept().await {
        let Admitted::Device { id, workspace } = who else {
            recv.stop(Reset::Malformed);
            continue;
        };
        let relay = relay.clone();
        streams.spawn(async move { splice::serve(&relay, (id, workspace), send, recv).await });
    }
}
