//! Thousands of strangers at a relay: what its owner notices of them, and what they leave.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farwire_protocol::outer::ALPN;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::World;
use crate::raw::{self, Shows};

const SERVER: &str = "web-1";

/// From so many networks they come.
const NETWORKS: u8 = 4;

/// So many connections at a time are begun or open from each network.
const AT_ONCE: usize = 64;

/// How long a stranger stays who is not shown out.
const STAY: Duration = Duration::from_secs(20);

/// What was found.
#[derive(Clone, Debug)]
pub struct Strangers {
    /// Connections that were begun.
    pub begun: usize,
    /// Those whose TLS was completed.
    pub met: usize,
    /// The slowest of a hundred runs of the owner, alone.
    pub before: Duration,
    /// The same among strangers.
    pub during: Duration,
    /// Bytes that the relay's directory has grown by.
    pub grown: u64,
}

/// Has strangers begin so many connections, who say nothing, while the owner runs commands.
///
/// # Panics
///
/// When the owner is not served.
pub async fn strangers(count: usize, runs: usize) -> Strangers {
    let world = World::with_server(SERVER).await;
    let before = slowest(&world, runs, || true).await;
    let held = size(&world.path("relay"));
    let (begun, met) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut all = JoinSet::new();
    for network in 1..=NETWORKS {
        for _ in 0..AT_ONCE {
            let (begun, met, port) = (begun.clone(), met.clone(), world.port);
            let from = raw::socket(Ipv4Addr::new(127, 7, network, 1).into()).expect("a socket");
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
    let going = || begun.load(Ordering::Relaxed) < count;
    let during = slowest(&world, runs, going).await;
    while all.join_next().await.is_some() {}
    Strangers {
        begun: begun.load(Ordering::Relaxed).min(count),
        met: met.load(Ordering::Relaxed),
        before,
        during,
        grown: size(&world.path("relay")).saturating_sub(held),
    }
}

/// How long the slowest of a hundred runs takes, of at least so many and as long as `going`.
async fn slowest(world: &World, runs: usize, going: impl Fn() -> bool) -> Duration {
    let mut times = Vec::new();
    while times.len() < runs || (going() && times.len() < 100 * runs) {
        let begun = Instant::now();
        let done = world.farwire(&["run", SERVER, "--", "true"]).await;
        assert_eq!(done.code, 0, "{done:?}");
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[(times.len() * 99 / 100).min(times.len() - 1)]
}

/// The bytes of all files in a directory.
fn size(directory: &Path) -> u64 {
    let all = std::fs::read_dir(directory).expect("a directory").flatten();
    all.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}
