//! What a thousand idle agents cost a relay, and how soon all of them are back after its death.
//!
//! The relay is a real process. The agents are simulated in this one: real QUIC connections, each
//! with a socket and an identity of its own, that dial again as `farwire-agent` does.
//!
//! Usage: `FARWIRE_PROGRAMS=DIR farwire-swarm [AGENTS]`; prints rows of a Markdown table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use farwire_link::outer::dial::Identity;
use farwire_protocol::address::Relay;
use farwire_protocol::header::Reset;
use farwire_tests::simulated::random;
use farwire_tests::world::resident_kib;
use farwire_tests::{World, simulated};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// So many connect at once at first: what is measured there is memory, not the rush.
const AT_ONCE: usize = 32;

/// Longer than the search for the packet size, and whatever else a new connection does.
const SETTLE: Duration = Duration::from_secs(10);

/// How long the return is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let agents = std::env::args().nth(1).map_or(Ok(1000), |n| n.parse()).context("how many?")?;
    // A socket for each agent.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })
        .context("the limit of open files cannot be raised")?;
    let mut world = World::new().await;
    let (relay, identities) = enroll(&world, agents).await?;
    // A relay that has done nothing but start, as after any restart.
    restart(&mut world).await;
    let pid = world.relay_pid();
    sleep(Duration::from_secs(1)).await;
    let empty = resident_kib(pid);
    let (came, mut arrivals) = mpsc::channel(agents);
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut swarm = JoinSet::new();
    for identity in identities {
        swarm.spawn(live(relay.clone(), identity, gate.clone(), came.clone()));
    }
    all(&mut arrivals, agents).await?;
    sleep(SETTLE).await;
    let (full, busy) = (resident_kib(pid), cpu(pid)?);
    sleep(SETTLE).await;
    let busy = (cpu(pid)? - busy).as_secs_f64() * 1000.0 / SETTLE.as_secs_f64();
    let each = full.saturating_sub(empty) as f64 / agents as f64;
    println!("| relay, memory per idle agent, of {agents} | Farwire | {each:.1} KiB | |");
    println!("| relay, CPU for {agents} idle agents | Farwire | {busy:.1} ms/s | |");

    gate.add_permits(agents);
    let begun = Instant::now();
    restart(&mut world).await;
    let times = all(&mut arrivals, agents).await?;
    let mut times: Vec<_> = times.into_iter().map(|at| at.duration_since(begun)).collect();
    times.sort_unstable();
    let at = |share: usize| times[(agents * share / 100).min(agents - 1)].as_secs_f64();
    if std::env::var_os("FARWIRE_SWARM_ALL").is_some() {
        eprintln!("{:?}", [1, 5, 10, 25, 50, 75, 90, 95, 99].map(at));
    }
    println!(
        "| {agents} agents back after a kill -9 of the relay, the last one | Farwire | {:.1} s | median {:.1} s |",
        at(100),
        at(50)
    );
    Ok(())
}

async fn restart(world: &mut World) {
    world.kill_relay().await;
    world.start_relay(&[]).await;
}

/// One moment for each agent: when it was welcomed.
async fn all(arrivals: &mut mpsc::Receiver<Instant>, agents: usize) -> Result<Vec<Instant>> {
    let mut times = Vec::with_capacity(agents);
    while times.len() < agents {
        match timeout(PATIENCE, arrivals.recv()).await {
            Ok(Some(at)) => times.push(at),
            _ => return Err(anyhow!("{} of {agents} agents came", times.len())),
        }
    }
    Ok(times)
}

/// One agent's life: connect, stay, come back as `agent/src/dial.rs` does.
async fn live(relay: Relay, identity: Identity, gate: Arc<Semaphore>, came: mpsc::Sender<Instant>) {
    let mut failures = 0;
    loop {
        let turn = gate.acquire().await;
        let connection = simulated::arrive(&relay, &identity).await;
        drop(turn);
        if let Ok(connection) = connection {
            failures = 0;
            if came.send(Instant::now()).await.is_err() {
                return;
            }
            connection.closed().await;
        }
        let most = Duration::from_millis(500) * 2_u32.saturating_pow(failures);
        failures = (failures + 1).min(6);
        let least = Duration::from_millis(250);
        sleep(least + most.saturating_sub(least).mul_f64(chance())).await;
    }
}

/// Makes the records and the agents.
async fn enroll(world: &World, agents: usize) -> Result<(Relay, Vec<Identity>)> {
    let (relay, device) = simulated::device(world, "bridge");
    let domain = device.bundle.trust_domain;
    let device = simulated::arrive(&relay, &device).await.map_err(|f| anyhow!(f.message))?;
    let mut made = Vec::with_capacity(agents);
    for number in 0..agents {
        let agent = simulated::enroll(&device, domain, &format!("swarm-{number}")).await;
        made.push(agent.map_err(|f| anyhow!(f.message))?);
    }
    device.shut(Reset::Closing).await;
    Ok((relay, made))
}

fn chance() -> f64 {
    f64::from(u32::from_le_bytes(random())) / f64::from(u32::MAX)
}

fn cpu(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().context("no fields")?.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
