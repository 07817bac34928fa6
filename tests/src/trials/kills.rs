//! Agent, relay and bridge are killed at random moments, while somebody types, looks, resizes,
//! opens and closes.
//!
//! What must hold: a line that was typed arrives once, or somebody was told that it may not have;
//! what a program says arrives whole and in order; a request opens one session or none; no exit is
//! made up.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::process::Child;
use tokio::time::sleep;

use super::Dice;
use crate::person::Person;
use crate::{Era, Model, World, until};

const SERVER: &str = "web-1";

/// Who is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Victim {
    Agent,
    Relay,
    Bridge,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Lines that were typed.
    pub typed: usize,
    /// Those that did not arrive, and of which this was said.
    pub untold: usize,
    /// Sessions that were opened while something was killed.
    pub opened: usize,
}

struct Trial {
    world: World,
    dice: Dice,
    person: Option<Person>,
    model: Model,
    typed: usize,
    /// Lines that were typed shortly before somebody was killed who could lose them.
    doubtful: Vec<usize>,
    /// How often that was: each may have cost half a line.
    losses: usize,
}

/// Kills so often.
///
/// # Panics
///
/// When something does not hold; the seed is in the text.
pub async fn kills(rounds: usize, seed: u64) -> Tally {
    eprintln!("seed {seed}");
    let world = World::with_server(SERVER).await;
    let mut model = world.model(Era::Discover).await;
    let (log, end) = (world.path("lines"), world.path("end"));
    let reads = format!(
        "stty -echo; echo ready; while IFS= read -r line; do echo \"got $line\"; echo \"$line\" >> {}; done; exit 9",
        log.display()
    );
    let counts = format!(
        "i=0; until [ -e {} ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit 7",
        end.display()
    );
    let open = |name: &str, line: &str| json!({"server": SERVER, "name": name, "command": line});
    for (name, line) in [("reads", &reads), ("counts", &counts)] {
        let (text, error) = model.call("session_open", open(name, line)).await;
        assert!(!error, "{text}");
    }
    let follower = follow(&world, "s2");
    let mut trial = Trial {
        person: Some(attach(&world).await),
        dice: Dice::new(seed),
        model,
        world,
        typed: 0,
        doubtful: Vec::new(),
        losses: 0,
    };
    let mut tally = Tally::default();
    for round in 0..rounds {
        let victim = [Victim::Agent, Victim::Relay, Victim::Bridge][trial.dice.roll(3) as usize];
        eprintln!("round {round}: {victim:?}");
        trial.round(victim, round, &mut tally).await;
    }
    std::fs::write(end, "").expect("a file");
    let mut person = trial.person.take().expect("somebody is there");
    person.types("\x04").await;
    let status = person.ended().await.expect("it can be waited for");
    assert_eq!(status.code(), Some(9), "seed {seed}");
    trial.check(follower, seed).await;
    Tally { typed: trial.typed, untold: trial.doubtful.len(), ..tally }
}

/// Somebody who sees what the session has said.
async fn attach(world: &World) -> Person {
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1/reads"]));
    until("the screen", async || (!person.screen().trim().is_empty()).then_some(())).await;
    person
}

/// Somebody who reads all that a session says, for as long as it takes.
fn follow(world: &World, id: &str) -> Child {
    let mut command = world.farwire_command(&["output", id, "--follow"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

impl Trial {
    async fn round(&mut self, victim: Victim, round: usize, tally: &mut Tally) {
        let burst = 1 + self.dice.roll(30) as usize;
        let first = self.typed + 1;
        let after = Duration::from_micros(self.dice.roll(40_000));
        let resize = self.dice.roll(2) == 0;
        let open = self.dice.roll(3) == 0;
        let name = format!("o{round}");
        let opened = self.world.path(&name);
        let request = json!({"server": SERVER, "name": name,
            "command": format!("echo >> {}; exec sleep 600", opened.display())});
        let opening = match open {
            true => Some(
                self.model
                    .send("tools/call", json!({"name": "session_open", "arguments": request}))
                    .await,
            ),
            false => None,
        };
        let mut person = self.person.take().expect("somebody is there");
        let (world, dice) = (&mut self.world, &mut self.dice);
        let typing = async {
            for line in first..first + burst {
                person.types(&format!("line {line}.\r")).await;
                if resize {
                    person.size(40 + (line % 90) as u16, 10 + (line % 30) as u16);
                }
            }
            person
        };
        let killing = async {
            // A moment that is random on purpose: nothing is waited for.
            sleep(after).await;
            match victim {
                Victim::Agent => world.kill_agent(SERVER).await,
                Victim::Relay => world.kill_relay().await,
                Victim::Bridge => {}
            }
        };
        let (mut person, ()) = tokio::join!(typing, killing);
        self.typed += burst;
        match victim {
            Victim::Agent => world.start_agent(SERVER).await,
            Victim::Relay => {
                world.start_relay(&[]).await;
            }
            Victim::Bridge => {
                sleep(Duration::from_micros(dice.roll(20_000))).await;
                person.kill().await;
                person = attach(world).await;
            }
        }
        self.arrives(&mut person).await;
        self.person = Some(person);
        // What was typed to a bridge that was killed, or into a terminal whose agent was, may be
        // lost.
        if victim != Victim::Relay {
            self.doubtful.extend(first..first + burst);
            self.losses += 1;
        }
        if let Some(id) = opening {
            self.opened(id, &request, &opened).await;
            tally.opened += 1;
        }
    }

    /// Types one more line, which arrives. Half of one that was lost may be before it.
    async fn arrives(&mut self, person: &mut Person) {
        self.typed += 1;
        let last = self.typed;
        person.types(&format!("\rline {last}.\r")).await;
        let (text, log) = (format!("line {last}."), self.world.path("lines"));
        until("a line to arrive", async || {
            // Somebody has to read.
            person.screen();
            let lines = std::fs::read_to_string(&log).unwrap_or_default();
            (lines.lines().next_back() == Some(&text)).then_some(())
        })
        .await;
        person.sees("got line").await;
    }

    /// What was asked for while something was killed has been done once or not at all, and asked
    /// for again it is there once.
    async fn opened(&mut self, id: u64, request: &serde_json::Value, opened: &std::path::Path) {
        let answer = self.model.answer(id).await;
        let times = || std::fs::read(opened).map_or(0, |bytes| bytes.len());
        let (text, error) = crate::model::text_of(&answer);
        if error {
            assert!(
                [
                    "outcome_unknown",
                    "stream_stale",
                    "server_offline",
                    "link_lost",
                    "relay_unreachable"
                ]
                .iter()
                .any(|kind| text.starts_with(&format!("[error {kind}"))),
                "{text}"
            );
        }
        let text = until("the session to be there", async || {
            let (text, error) = self.model.call("session_open", request.clone()).await;
            (!error).then_some(text)
        })
        .await;
        until("the program to have begun", async || (times() > 0).then_some(())).await;
        assert_eq!(times(), 1, "opened more than once");
        let id = text.split(' ').nth(1).expect("an id").to_owned();
        // Closed by whoever is killed next, or not.
        let (text, error) = self.model.call("stop", json!({"id": id})).await;
        assert!(!error && !text.contains("exit="), "an exit that nobody had: {text}");
        assert_eq!(times(), 1, "opened more than once");
    }

    async fn check(&mut self, follower: Child, seed: u64) {
        for (id, code) in [("s1", 9), ("s2", 7)] {
            until("the end of a session", async || {
                let done = self.world.farwire(&["output", id, "--json"]).await;
                if done.code != 0 {
                    return None;
                }
                let done = done.json();
                if done["running"] == true {
                    return None;
                }
                assert_eq!(done["exit_code"], code, "seed {seed}: {id}: {done}");
                Some(())
            })
            .await;
        }
        let followed = tokio::time::timeout(crate::PATIENCE, follower.wait_with_output()).await;
        let followed = followed.expect("it ends").expect("it can be waited for");
        let told = String::from_utf8_lossy(&followed.stderr);
        let text = String::from_utf8_lossy(&followed.stdout).replace('\r', "");
        let wrong = text.lines().zip(1..).find(|(line, number)| *line != number.to_string());
        let count = text.lines().count();
        assert!(wrong.is_none() && count > 0, "seed {seed}: {wrong:?} of {count}: {told}");
        assert!(told.contains("it ended with exit code 7"), "seed {seed}: {told}");

        let lines = std::fs::read_to_string(self.world.path("lines")).expect("lines");
        let mut arrived = Vec::new();
        let mut halves = 0;
        for line in lines.lines().filter(|line| !line.is_empty()) {
            match number(line) {
                Some(number) => arrived.push(number),
                None => halves += 1,
            }
        }
        assert!(
            halves <= self.losses,
            "seed {seed}: {halves} lines that were not typed so: {lines}"
        );
        let ascending = arrived.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(ascending, "seed {seed}: twice, or out of turn: {arrived:?}");
        let missing: Vec<usize> =
            (1..=self.typed).filter(|line| arrived.binary_search(line).is_err()).collect();
        let silent: Vec<_> = missing.iter().filter(|line| !self.doubtful.contains(line)).collect();
        assert!(silent.is_empty(), "seed {seed}: lost, and nobody could know: {silent:?}");
        self.doubtful = missing;
    }
}

/// The number of a line that arrived whole.
fn number(line: &str) -> Option<usize> {
    line.strip_prefix("line ")?.strip_suffix('.')?.parse().ok()
}
