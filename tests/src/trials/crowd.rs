//! Thousands of sessions on one agent: what each costs, and that none is lost.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::world::{children, proportional_kib};
use crate::{Era, World, until};

const SERVER: &str = "web-1";

/// Longer than a grid is kept that nobody looks at.
const SETTLE: Duration = Duration::from_secs(8);

/// Where the system says how many terminals there may be.
const TERMINALS: &str = "/proc/sys/kernel/pty/max";

/// What was found. Memory is that of the agent and its holders, without the programs.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// So many sessions.
    pub count: usize,
    /// Memory for each, in KiB.
    pub each: f64,
    /// All memory, in MiB.
    pub all: f64,
    /// Until all were open.
    pub opening: Duration,
    /// To list all of them.
    pub listing: Duration,
    /// Until the last had answered to what was typed.
    pub answering: Duration,
    /// Until all had been closed.
    pub closing: Duration,
}

/// As long as it lives, the system has room for so many terminals.
#[derive(Debug)]
pub struct Room(Option<String>);

impl Room {
    /// Makes room; says why not, where the system does not let us.
    pub fn make(terminals: usize) -> Result<Self, String> {
        let before = std::fs::read_to_string(TERMINALS).map_err(|error| error.to_string())?;
        let wanted = terminals + 2_048;
        if before.trim().parse::<usize>().is_ok_and(|most| most >= wanted) {
            return Ok(Self(None));
        }
        std::fs::write(TERMINALS, wanted.to_string())
            .map_err(|error| format!("{TERMINALS} cannot be raised to {wanted}: {error}"))?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // What cannot be undone stays as it is until the machine starts again.
            let _ = std::fs::write(TERMINALS, before);
        }
    }
}

/// Opens so many sessions with this program in them, leaves them alone, lists them, has each
/// answer, and closes them.
///
/// # Panics
///
/// When one of them is lost on the way.
pub async fn crowd(count: usize, program: &str) -> Crowd {
    let world = World::with_server(SERVER).await;
    let mut model = world.model(Era::Discover).await;
    let memory = || {
        let holders = world.holders(SERVER);
        let pids = holders.into_iter().chain([world.agent_pid(SERVER)]);
        pids.map(proportional_kib).sum::<u64>()
    };
    // A run of the same bridge, so that what a link costs is not counted for the sessions.
    model.call("run", json!({"server": SERVER, "command": "true"})).await;
    sleep(SETTLE).await;
    let before = memory();

    let begun = Instant::now();
    let call = |n| {
        json!({"server": SERVER, "name": format!("c{n}"), "command": program, "cwd": "/",
               "cols": 80, "rows": 24})
    };
    let opened = model.calls("session_open", (0..count).map(call).collect(), 64).await;
    let opening = begun.elapsed();
    let ids: Vec<_> =
        opened.iter().map(|text| text.split(' ').nth(1).expect("an id").to_owned()).collect();

    sleep(SETTLE).await;
    let idle = memory();
    tell_of(&world, idle);

    let begun = Instant::now();
    let open = world.farwire(&["status", "--json"]).await;
    let listing = begun.elapsed();
    assert_eq!(open.code, 0, "{}", open.stderr);
    let open = open.json();
    let open: std::collections::HashSet<_> =
        open.as_array().into_iter().flatten().filter_map(|one| one["id"].as_str()).collect();
    let lost = ids.iter().filter(|id| !open.contains(id.as_str())).count();
    assert_eq!(lost, 0, "not listed, of {count}; {} are", open.len());

    let begun = Instant::now();
    let call = |(n, id): (usize, &String)| {
        // `cat` says it again, and a shell says that there is no such command.
        json!({"id": id, "text": format!("hello-{n}"), "until": format!("hello-{n}(: .*)?\r?$"), "wait": 50})
    };
    let said = model.calls("session_send", ids.iter().enumerate().map(call).collect(), 16).await;
    let answering = begun.elapsed();
    let silent = said.iter().filter(|text| !text.contains("until=matched")).count();
    assert_eq!(silent, 0, "did not answer, of {count}: {:?}", said.last());

    let begun = Instant::now();
    let closed = ids.iter().map(|id| json!({"id": id})).collect();
    model.calls("stop", closed, 64).await;
    until("all programs to have ended", async || {
        world.holders(SERVER).iter().all(|&holder| children(holder).is_empty()).then_some(())
    })
    .await;
    let closing = begun.elapsed();
    Crowd {
        count,
        each: idle.saturating_sub(before) as f64 / count as f64,
        all: idle as f64 / 1024.0,
        opening,
        listing,
        answering,
        closing,
    }
}

/// Says where the memory is, for whoever looks for it.
fn tell_of(world: &World, all: u64) {
    if std::env::var_os("FARWIRE_CROWD_MEMORY").is_none() {
        return;
    }
    let agent = world.agent_pid(SERVER);
    let holders = world.holders(SERVER);
    eprintln!("agent {} KiB, {} holders, all {all} KiB", proportional_kib(agent), holders.len());
    for pid in [Some(agent), holders.first().copied()].into_iter().flatten() {
        for (name, kib) in mappings(pid).iter().take(8) {
            eprintln!("  {pid} {name}: {kib} KiB");
        }
    }
}

/// The mappings of a process by name, those that cost most first.
fn mappings(pid: u32) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut all = std::collections::HashMap::<String, u64>::new();
    let mut name = String::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first.contains('-') {
            let path = Path::new(words.nth(4).unwrap_or("[anonymous]"));
            name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        } else if first == "Pss:" {
            *all.entry(name.clone()).or_default() +=
                words.next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    let mut all = Vec::from_iter(all);
    all.sort_by_key(|(_, kib)| std::cmp::Reverse(*kib));
    all
}
