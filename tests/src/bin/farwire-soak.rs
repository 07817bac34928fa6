//! The trials at length: `cargo xtask soak NAME` builds the programs and runs this.
//!
//! A trial that finds something ends with a panic that says what. Those that the machine does not
//! let us make are skipped by name.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;
use farwire_tests::simulated;
use farwire_tests::trials::relay::Kind;
use farwire_tests::trials::{self, crowd, kills, relay, restarts, shells};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The trials at length
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak")]
enum Trial {
    /// Restart the agent under sessions that count
    Restarts {
        /// How many sessions count
        #[arg(long, default_value_t = 50)]
        sessions: usize,
        /// How often the agent is restarted
        #[arg(long, default_value_t = 20)]
        restarts: usize,
    },
    /// Kill agent, relay and bridge at random moments under somebody who types
    Kills {
        /// How often
        #[arg(long, default_value_t = 50)]
        rounds: usize,
        /// What decides whom and when; told, so that it can be had again
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Carry out commands in every shell: exact exits and outputs, or none claimed
    Shells {
        /// How many in each shell that marks its commands
        #[arg(long, default_value_t = 1_000)]
        rounds: u32,
    },
    /// Kill file workers during writes, and transfers at each part of them; and many clients at
    /// once
    Files {
        /// How many writes
        #[arg(long, default_value_t = 1_000)]
        writes: usize,
        /// At how many places a transfer is killed
        #[arg(long, default_value_t = 100)]
        cuts: u64,
        /// How many clients at once
        #[arg(long, default_value_t = 1_000)]
        clients: usize,
        /// What decides when; told, so that it can be had again
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Thousands of strangers at the relay: what its owner notices of them, and what they leave
    Strangers {
        /// How many connections they begin
        #[arg(long, default_value_t = 10_000)]
        count: usize,
        /// How many runs of the owner at least
        #[arg(long, default_value_t = 300)]
        runs: usize,
        /// The most that the slowest of a hundred runs may take among them, compared with alone
        #[arg(long, default_value_t = 1.5)]
        ratio: f64,
    },
    /// Do everything that a relay can do to every stream of every kind of request
    Relay {
        /// Only every so many of the cases
        #[arg(long, default_value_t = 1)]
        stride: usize,
    },
    /// Open thousands of sessions, leave them alone, list them, and have each answer
    Sessions {
        /// How many
        #[arg(long, default_value_t = 1_000)]
        count: usize,
        /// What runs in each
        #[arg(long, default_value = "exec dash")]
        program: String,
        /// The most that each may cost beside its program, in KiB
        #[arg(long, default_value_t = 64.0)]
        each: f64,
        /// The most that all may cost beside their programs, in MiB
        #[arg(long, default_value_t = 2_048.0)]
        all: f64,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Trial::parse() {
        Trial::Restarts { sessions, restarts: count } => {
            let mut times = restarts::restarts(sessions, count).await;
            times.sort_unstable();
            let at = |share: usize| seconds(times[(times.len() - 1) * share / 100]);
            println!(
                "{count} restarts under {sessions} sessions: no number lost; back after {}, median {}",
                at(100),
                at(50)
            );
        }
        Trial::Kills { rounds, seed } => {
            let seed = seed.unwrap_or_else(|| u64::from(u32::from_le_bytes(simulated::random())));
            let found = kills::kills(rounds, seed).await;
            println!(
                "{rounds} kills, seed {seed}: {} lines typed, none twice; {} lost, each where it could be known; \
                 {} sessions opened meanwhile, each once; no output missing",
                found.typed, found.untold, found.opened
            );
        }
        Trial::Shells { rounds } => {
            // Five, four and two settings: at least so many in each shell.
            let marked = shells::marked(rounds.div_ceil(2)).await;
            println!("{marked} commands in shells with marks: every exit and every output exact");
            let unmarked = shells::unmarked(rounds.div_ceil(50)).await;
            println!("{unmarked} commands in shells without: no exit claimed");
        }
        Trial::Files { writes, cuts, clients, seed } => {
            let changed =
                tokio::task::spawn_blocking(move || trials::files::torn(writes, seed)).await?;
            println!(
                "{writes} writes with the worker killed: none torn, {changed} of them done (seed {seed})"
            );
            trials::files::cuts(cuts, 64 << 20).await;
            println!(
                "64 MiB sent, killed at each of {cuts} parts: went on each time, and never seen in part"
            );
            descriptors(8_192).map_err(anyhow::Error::msg)?;
            let longest = trials::files::clients(clients).await;
            println!(
                "{clients} clients at once: each got what is its own; the longest took {longest:.1?}"
            );
        }
        Trial::Strangers { count, runs, ratio } => strangers(count, runs, ratio).await?,
        Trial::Relay { stride } => disturbed(stride).await,
        Trial::Sessions { count, program, each, all } => {
            // The agent has one descriptor for each, the terminal.
            let room = descriptors(count as u64 + 2_048).and_then(|()| crowd::Room::make(count));
            let _room = match room {
                Ok(room) => room,
                Err(why) => {
                    println!("skipped: sessions --count {count}: {why}");
                    return Ok(());
                }
            };
            let found = crowd::crowd(count, &program).await;
            println!(
                "{count} sessions of `{program}`: {:.1} KiB each, {:.0} MiB in all; opened in {}, listed in \
                 {}, all answered in {}, closed in {}; none lost",
                found.each,
                found.all,
                seconds(found.opening),
                seconds(found.listing),
                seconds(found.answering),
                seconds(found.closing),
            );
            if found.each > each || found.all > all {
                bail!("more than {each} KiB each or {all} MiB in all");
            }
        }
    }
    Ok(())
}

async fn strangers(count: usize, runs: usize, ratio: f64) -> Result<()> {
    descriptors(4_096).map_err(anyhow::Error::msg)?;
    let found = trials::strangers::strangers(count, runs).await;
    let slower = found.during.as_secs_f64() / found.alone.as_secs_f64();
    println!(
        "{} connections begun by strangers, {} met: p99 of a run {:.1?} alone, {:.1?} among them \
         ({} runs, x {slower:.2}); the relay's directory grew by {} bytes",
        found.begun, found.met, found.alone, found.during, found.runs, found.grown
    );
    if slower > ratio || found.grown > 0 {
        bail!("more than x {ratio}, or something was written");
    }
    Ok(())
}

async fn disturbed(stride: usize) {
    let begun = Instant::now();
    let (mut tried, mut all) = (0, relay::Counts::default());
    for kinds in [Kind::COMMANDS, Kind::TOOLS, Kind::FILES, Kind::CHANGES] {
        let mut bench = relay::Bench::new().await;
        tried += bench.try_all(kinds, (0, stride)).await;
        tried += bench.try_handshakes(kinds, (0, stride)).await;
        let counts = bench.counts();
        all.right += counts.right;
        all.unknown += counts.unknown;
        all.failed += counts.failed;
        eprintln!("{tried} cases after {}, up to {kinds:?}", seconds(begun.elapsed()));
    }
    println!(
        "{tried} ways to disturb a request, in {}: {} answers with what was asked for, {} `outcome_unknown`, {} \
         failures; 0 things done twice, 0 false answers",
        seconds(begun.elapsed()),
        all.right,
        all.unknown,
        all.failed
    );
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Raises the limit of open files, for the programs too; says why not, where the system does not
/// let us.
fn descriptors(wanted: u64) -> std::result::Result<(), String> {
    let now = getrlimit(Resource::Nofile);
    let maximum = now.maximum.map(|most| most.max(wanted));
    let raised = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| format!("the limit of open files cannot be raised to {wanted}: {error}"))
}
