//! Thousands of strangers at a relay: what its owner notices of them, and what they leave.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farwire_protocol::outer::ALPN;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::World;
use crate::raw::{self, Shows};

const SERVER: &str = "web-1";

/// From so many networks they come.
const NETWORKS: u8 = 4;

/// So many connections at a time are begun or open from each network.
const AT_ONCE: usize = 64;

/// How many strangers come between two lines that say so.
const STEP: usize = 1_000;

/// How long a stranger stays who is not shown out.
const STAY: Duration = Duration::from_secs(20);

/// What was found.
#[derive(Clone, Debug)]
pub struct Strangers {
    /// Connections that were begun.
    pub begun: usize,
    /// Those whose TLS was completed.
    pub met: usize,
    /// Runs of the owner among strangers.
    pub runs: usize,
    /// The slowest of a hundred runs of the owner, alone.
    pub alone: Duration,
    /// The same among strangers.
    pub during: Duration,
    /// Bytes that the relay's directory has grown by.
    pub grown: u64,
}

/// Has strangers begin so many connections, who say nothing, while the owner runs commands. Says on
/// standard error how far it has come.
///
/// # Panics
///
/// When the owner is not served.
pub async fn strangers(count: usize, runs: usize) -> Strangers {
    let world = World::with_server(SERVER).await;
    let mut alone = times(&world, runs, || false).await;
    let held = size(&world.path("relay"));
    eprintln!("{runs} runs alone: p99 {:.1?}", slowest(&mut alone));
    let (begun, met) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let elsewhere = elsewhere();
    let crowd = elsewhere.spawn(crowd(count, world.port, (begun.clone(), met.clone())));
    let going = || begun.load(Ordering::Relaxed) < count;
    let said = AtomicUsize::new(0);
    let going_on = || {
        let so_far = begun.load(Ordering::Relaxed).min(count);
        if so_far >= said.load(Ordering::Relaxed) + STEP {
            said.store(so_far, Ordering::Relaxed);
            eprintln!("{so_far} of {count} strangers");
        }
        going()
    };
    let mut during = times(&world, runs, going_on).await;
    crowd.await.expect("the strangers come");
    elsewhere.shutdown_background();
    // What else this machine does changes with time: alone is before and after.
    alone.extend(times(&world, runs, || false).await);
    Strangers {
        begun: begun.load(Ordering::Relaxed).min(count),
        met: met.load(Ordering::Relaxed),
        runs: during.len(),
        alone: slowest(&mut alone),
        during: slowest(&mut during),
        grown: size(&world.path("relay")).saturating_sub(held),
    }
}

/// Threads that get only what is left of this machine: strangers have machines of their own, and
/// what their half of a handshake costs is not what they cost a relay.
fn elsewhere() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(|| {
            // Of this thread alone, on Linux.
            rustix::process::setpriority_process(None, 19).expect("everybody may be nice");
        })
        .build()
        .expect("threads")
}

/// The strangers: `count` in all.
async fn crowd(count: usize, port: u16, (begun, met): (Arc<AtomicUsize>, Arc<AtomicUsize>)) {
    let mut all = JoinSet::new();
    for network in 1..=NETWORKS {
        let from = raw::socket(Ipv4Addr::new(127, 7, network, 1).into()).expect("a socket");
        for _ in 0..AT_ONCE {
            let (begun, met, from) = (begun.clone(), met.clone(), from.clone());
            all.spawn(async move {
                while begun.fetch_add(1, Ordering::Relaxed) < count {
                    let guest =
                        timeout(STAY, raw::connect_from(&from, port, ALPN, Shows::Key)).await;
                    if let Ok(Ok(guest)) = guest {
                        met.fetch_add(1, Ordering::Relaxed);
                        // Whoever stays longer is left: the next one comes.
                        let _ = timeout(STAY, guest.closed()).await;
                    }
                }
            });
        }
    }
    while all.join_next().await.is_some() {}
}

/// How long each run takes, of at least so many and as long as `going`.
async fn times(world: &World, runs: usize, going: impl Fn() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while going() || times.len() < runs {
        let begun = Instant::now();
        let done = world.farwire(&["run", SERVER, "--", "true"]).await;
        assert_eq!(done.code, 0, "{done:?}");
        times.push(begun.elapsed());
    }
    times
}

/// The slowest of a hundred.
fn slowest(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 99 / 100).or_else(|| times.last()).copied().unwrap_or_default()
}

/// The bytes of all files in a directory.
fn size(directory: &Path) -> u64 {
    let all = std::fs::read_dir(directory).expect("a directory").flatten();
    all.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}
