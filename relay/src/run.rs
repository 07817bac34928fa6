//! The life of the relay: start in order, serve until a signal, and end in reverse within a second.

use std::sync::Arc;
use std::time::Duration;

use farwire_link::outer::listen::{Listener, Options};
use farwire_protocol::address::RelayUrl;
use farwire_protocol::failure::{Failure, Kind};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::data::DataDirectory;
use crate::relay::Relay;
use crate::{connection, http, store, url};

/// How long the notice of the end may travel before the connections are closed.
const FAREWELL: Duration = Duration::from_millis(300);

/// How often mail that nobody can use any more is deleted.
const SWEEP: Duration = Duration::from_secs(3600);

/// How often sightings of agents are written down.
const SAVE: Duration = Duration::from_secs(2);

/// Serves until a signal ends it.
pub(crate) fn serve(config: Config) -> Result<(), Failure> {
    runtime()?.block_on(run(config))
}

/// Makes a runtime with half as many threads as there are cores. The kernel's half of the network
/// wants a core, too; and with two threads on two cores a packet that wakes both is later than one
/// that wakes one.
fn runtime() -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.div_ceil(2))
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::ResourceExhausted, format!("no threads: {error}")))
}

async fn run(config: Config) -> Result<(), Failure> {
    let data = DataDirectory::open(config.data.clone())?;
    let _lock = data.lock()?;
    let key = data.tls_key()?;
    let node = data.node()?;
    let store = store::open(&data.database()?).await?;
    let relay = Relay::load(node, store).await?;
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Failure::new(Kind::Internal, format!("no metrics: {error}")))?;
    let site = http::bind(config.http).await?;
    let listener = Listener::bind(&Options {
        listen: config.listen,
        key: key.clone(),
        node: node.number(),
        reset_key: data.reset_key()?,
        cid_key: data.cid_key()?,
        keylog: config.keylog.clone(),
    })
    .map_err(|error| Failure::caused(Kind::Io, "the relay cannot start", &error))?;
    let address = url::advertised_address(&config, &listener)?;
    data.remember_address(&address);
    let url = url::of_new_relay(&*relay.store, address, &key).await?;
    let site = tokio::spawn(http::serve(site, relay.clone(), metrics));
    let upkeep = tokio::spawn(keep_up(relay.clone()));
    announce(&url);

    let served = accept(&relay, &listener).await;

    relay.begin_draining();
    sleep(FAREWELL).await;
    listener.close().await;
    upkeep.abort();
    site.abort();
    relay.save_sightings().await;
    // The store has logged why it fails, and the next start recovers what was written.
    let _ = relay.store.close().await;
    served
}

/// Writes sightings down and sweeps the mail, for ever.
async fn keep_up(relay: Arc<Relay>) {
    let mut sweep = interval(SWEEP);
    let mut save = interval(SAVE);
    save.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = sweep.tick() => {
                // The store has logged why it fails. The next sweep deletes the rest.
                let _ = relay.store.sweep_mail().await;
            }
            _ = save.tick() => relay.save_sightings().await,
        }
    }
}

/// Says that the relay serves: on standard output, in the log, and to systemd.
fn announce(url: &RelayUrl) {
    // Standard output may be closed; `farwire-relay url` prints the URL, too.
    let _ = url::print(&format!("ready {url}\n"));
    tracing::info!(address = url.relay.addresses.join(","), "the relay serves");
    // It fails without systemd.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// Accepts connections until a signal comes.
async fn accept(relay: &Arc<Relay>, listener: &Listener) -> Result<(), Failure> {
    let no_signal = |error| Failure::new(Kind::Io, format!("no signals: {error}"));
    let mut term = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut int = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            biased;
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            knock = listener.accept() => {
                let Some(knock) = knock else { return Ok(()) };
                if let Some((knock, place)) = relay.entrance.admit(knock) {
                    connections.spawn(connection::serve(relay.clone(), knock, place));
                }
            }
        }
    }
}
