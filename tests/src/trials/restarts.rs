//! Sessions that count go on counting, whatever becomes of the agent.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::began;
use crate::{Era, Model, World, until};

/// No restart may take longer until all sessions are there again.
pub const BACK: Duration = Duration::from_secs(5);

const SERVER: &str = "web-1";

/// A session that counts.
struct Counter {
    id: String,
    pid: u32,
    began: Option<u64>,
}

/// Restarts the agent so many times under so many sessions that count, by KILL and TERM in turn,
/// and reads at the end what all of them said. Gives how long each restart took until all were
/// listed and readable.
///
/// # Panics
///
/// When a number is missing, comes twice or out of turn, when a program is another one than before,
/// when one does not end as it says, or when a restart takes longer than [`BACK`].
pub async fn restarts(sessions: usize, restarts: usize) -> Vec<Duration> {
    let mut world = World::with_server(SERVER).await;
    let mut model = world.model(Era::Discover).await;
    let end = world.path("end");
    let script = format!(
        "echo $$; i=0; until [ -e {} ]; do i=$((i+1)); echo $i; sleep 0.2; done; exit 7",
        end.display()
    );
    let call = |n| json!({"server": SERVER, "name": format!("c{n}"), "command": script});
    let texts = model.calls("session_open", (0..sessions).map(call).collect(), 16).await;
    let ids: Vec<_> =
        texts.iter().map(|text| text.split(' ').nth(1).expect("an id").to_owned()).collect();
    let mut counters = Vec::new();
    for (id, first) in ids.iter().zip(all(&mut model, &ids, "head").await) {
        let pid = first.lines().nth(1).and_then(|line| line.parse().ok()).expect("its number");
        counters.push(Counter { id: id.clone(), pid, began: began(pid) });
    }
    let mut times = Vec::new();
    for round in 0..restarts {
        let before: Vec<_> = latest(&mut model, &ids).await;
        let begun = Instant::now();
        match round % 2 {
            0 => world.kill_agent(SERVER).await,
            _ => world.end_agent(SERVER).await,
        }
        world.start_agent(SERVER).await;
        let listed = listed(&world).await;
        let missing: Vec<_> = ids.iter().filter(|id| !listed.contains(id)).collect();
        assert!(missing.is_empty(), "restart {round}: not listed: {missing:?}");
        let after = latest(&mut model, &ids).await;
        let time = begun.elapsed();
        assert!(time <= BACK, "restart {round}: {time:?}");
        times.push(time);
        for ((counter, before), after) in counters.iter().zip(before).zip(after) {
            assert!(after >= before, "{}: {before} and then {after}", counter.id);
            assert!(
                counter.began.is_some() && began(counter.pid) == counter.began,
                "{}",
                counter.id
            );
        }
    }
    std::fs::write(&end, "").expect("a file");
    for counter in &counters {
        let ended = until("the end of a counter", async || {
            let done = world.farwire(&["output", &counter.id, "--json"]).await.json();
            (done["running"] == false).then_some(done)
        });
        check(counter, &ended.await);
    }
    times
}

/// The sessions that the server lists as open.
async fn listed(world: &World) -> Vec<String> {
    let open = world.farwire(&["status", "--json"]).await.json();
    let open = open.as_array().cloned().unwrap_or_default();
    open.iter().filter_map(|one| Some(one["id"].as_str()?.to_owned())).collect()
}

/// Asks for a line of each session.
async fn all(model: &mut Model, ids: &[String], view: &str) -> Vec<String> {
    let call = |id| json!({"id": id, "view": view, "lines": 1});
    model.calls("output", ids.iter().map(call).collect(), 16).await
}

/// The last number that each has said.
async fn latest(model: &mut Model, ids: &[String]) -> Vec<u64> {
    let texts = all(model, ids, "tail").await;
    let number = |text: &String| text.lines().last().and_then(|line| line.parse().ok());
    texts.iter().map(|text| number(text).unwrap_or_else(|| panic!("no number: {text}"))).collect()
}

/// All that one said: its process, and each number once and in turn.
fn check(counter: &Counter, done: &Value) {
    assert_eq!(done["exit_code"], 7, "{}: {done}", counter.id);
    assert_eq!(done["dropped_bytes"], 0, "{}", counter.id);
    let output = done["output"].as_str().expect("text").replace('\r', "");
    let last = output.lines().count().saturating_sub(1);
    let mut expected = format!("{}\n", counter.pid);
    for number in 1..=last {
        writeln!(expected, "{number}").expect("a string takes all");
    }
    assert_eq!(output, expected, "{}", counter.id);
}
