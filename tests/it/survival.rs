//! Programs outlive the agent that started them.

use std::process::Stdio;

use farwire_tests::world::kill;
use farwire_tests::{Era, World, is_root_or_skips, until};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

#[tokio::test]
async fn a_run_goes_on_with_all_its_bytes_however_often_the_agent_is_killed() {
    let mut world = World::with_server("web-1").await;
    let script = "while read -r line; do echo \"got $line\"; done; exit 7";
    let mut command = world.farwire_command(&["run", "web-1", "-c", script]);
    let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = running.stdin.take().unwrap();
    let mut stdout = BufReader::new(running.stdout.take().unwrap()).lines();
    let holders = world.holders("web-1");
    for round in 0..3 {
        stdin.write_all(format!("before {round}\n").as_bytes()).await.unwrap();
        let line = stdout.next_line().await.unwrap();
        assert_eq!(line.as_deref(), Some(&*format!("got before {round}")));
        world.kill_agent("web-1").await;
        stdin.write_all(format!("without {round}\n").as_bytes()).await.unwrap();
        world.start_agent("web-1").await;
        let line = stdout.next_line().await.unwrap();
        assert_eq!(line.as_deref(), Some(&*format!("got without {round}")));
    }
    drop(stdin);
    assert_eq!(stdout.next_line().await.unwrap(), None);
    let output = running.wait_with_output().await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    let now = world.holders("web-1");
    assert!(holders.iter().any(|holder| now.contains(holder)), "{holders:?} {now:?}");
}

#[tokio::test]
async fn a_run_that_has_ended_is_kept_over_restarts_and_kills_of_the_agent() {
    let mut world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let commands = [
        "echo out; echo err >&2; exit 3",
        "seq 1 300000; exit 4",
        "exit 5",
        "kill -9 $$",
        "printf 'no end of a line'; sleep 60 >/dev/null 2>&1 & exit 6",
    ];
    for command in commands {
        let (text, _) = model.call("run", json!({"server": "web-1", "command": command})).await;
        assert!(!text.contains(" running "), "{text}");
    }
    for round in 0..4 {
        // Killed the moment it has said how the last run ended.
        let last = format!("echo round {round}; exit 7");
        let (text, _) = model.call("run", json!({"server": "web-1", "command": last})).await;
        assert!(text.contains(" exit=7 "), "{text}");
        if round % 2 == 0 {
            world.kill_agent("web-1").await;
        } else {
            world.end_agent("web-1").await;
        }
        world.start_agent("web-1").await;
        world.wait_for("web-1", "online").await;
        let mut output = async |id: &str, more: serde_json::Value| {
            let mut call = json!({"id": id});
            call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            model.call("output", call).await.0
        };
        let text = output("r1", json!({"view": "tail"})).await;
        assert!(text.starts_with("[run r1 exit=3 ") && text.contains("out\n"), "{text}");
        assert!(text.contains("err\n") && text.contains(" lines=2"), "{text}");
        let text = output("r2", json!({"view": "range", "offset": 299_999, "lines": 2})).await;
        assert!(text.starts_with("[run r2 exit=4 "), "{text}");
        assert!(text.ends_with("\n299999\n300000\n"), "{text}");
        let text = output("r2", json!({"view": "grep", "pattern": "^1(0)+$"})).await;
        assert!(text.contains("100000"), "{text}");
        for (id, end) in [("r3", "exit=5"), ("r4", "signal=KILL"), ("r5", "exit=6")] {
            let text = output(id, json!({"view": "tail"})).await;
            assert!(text.starts_with(&format!("[run {id} {end} ")), "{text}");
        }
        for earlier in 0..=round {
            let id = format!("r{}", 6 + earlier);
            let text = output(&id, json!({"view": "tail"})).await;
            assert!(text.starts_with(&format!("[run {id} exit=7 ")), "{text}");
            assert!(text.ends_with(&format!("\nround {earlier}\n")), "{text}");
        }
        let stopped = world.farwire(&["stop", "r1"]).await.text();
        assert_eq!(stopped, "r1: had-ended\n");
        let listed = world.farwire(&["status", "web-1", "--all"]).await.text();
        assert!(listed.contains("r1 ") && listed.contains("r6 "), "{listed}");
    }
    // The bytes themselves, of the first run.
    let done = world.farwire(&["output", "r1"]).await;
    assert!(done.text().contains("out\n"), "{}", done.text());
}

#[tokio::test]
async fn a_run_that_waits_for_its_turn_says_so_in_every_answer() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    for _ in 0..64 {
        let call = json!({"server": "web-1", "command": "exec sleep 600", "wait": 0});
        let (text, _) = model.call("run", call).await;
        assert!(text.contains(" running "), "{text}");
    }
    let call = json!({"server": "web-1", "command": "echo mine", "wait": 1});
    let (text, error) = model.call("run", call).await;
    assert!(!error && text.starts_with("[run r65 queued"), "{text}");
    let (text, _) = model.call("output", json!({"id": "r65", "wait": 0})).await;
    assert!(text.starts_with("[run r65 queued"), "{text}");
    let detached = world.farwire(&["run", "web-1", "--detach", "--", "true"]).await.text();
    assert_eq!(detached.trim(), "r66");
    let listed = world.farwire(&["status", "web-1"]).await.text();
    assert!(listed.contains("queued"), "{listed}");
    let stopped = world.farwire(&["stop", "r65"]).await.text();
    assert_eq!(stopped, "r65: signalled\n", "it does not wait for the others");
    let (text, _) = model.call("output", json!({"id": "r65", "view": "tail"})).await;
    assert!(text.contains("cancelled"), "{text}");
    // One turn is free again: the next in the queue goes.
    world.farwire(&["stop", "r1", "--signal", "KILL"]).await;
    until("the next to have its turn", async || {
        let (text, _) = model.call("output", json!({"id": "r66", "view": "tail"})).await;
        text.contains(" exit=0 ").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_its_turn_when_the_agent_is_stopped_was_never_started_and_is_said_so() {
    let mut world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    for _ in 0..64 {
        let call = json!({"server": "web-1", "command": "exec sleep 600", "wait": 0});
        let (text, _) = model.call("run", call).await;
        assert!(text.contains(" running "), "{text}");
    }
    let mark = world.path("mark");
    let touch = format!("touch {}", mark.display());
    let call = json!({"server": "web-1", "command": touch, "wait": 0});
    let (text, _) = model.call("run", call).await;
    assert!(text.starts_with("[run r65 queued"), "{text}");
    let waits = world.farwire_command(&["run", "web-1", "-c", &touch]).spawn().unwrap();
    until("it to wait", async || {
        let status = world.farwire(&["status", "web-1"]).await.text();
        status.contains("r66 ").then_some(())
    })
    .await;
    world.end_agent("web-1").await;
    let output = waits.wait_with_output().await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("error[cancelled]") && stderr.contains("not started"), "{stderr}");
    world.start_agent("web-1").await;
    let (text, _) = model.call("output", json!({"id": "r65", "view": "tail"})).await;
    assert!(text.contains("cancelled") && text.contains("started"), "{text}");
    let (text, _) = model.call("output", json!({"id": "r64", "wait": 0})).await;
    assert!(text.starts_with("[run r64 running"), "those that had their turn go on: {text}");
    assert_eq!(world.farwire(&["stop", "r1", "--signal", "KILL"]).await.code, 0);
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!mark.exists());
}

#[tokio::test]
async fn what_a_run_does_while_there_is_no_agent_is_told_by_the_next_one() {
    let mut world = World::with_server("web-1").await;
    let (go, done) = (world.path("go"), world.path("done"));
    let script = format!(
        "echo begun; until [ -e {} ]; do sleep 0.02; done; seq 1 300000; touch {}; exit 3",
        go.display(),
        done.display()
    );
    let mut model = world.model(Era::Discover).await;
    let call = json!({"server": "web-1", "command": script, "wait": 0});
    let (text, _) = model.call("run", call).await;
    assert!(text.starts_with("[run r1 running"), "{text}");
    until("it to have begun", async || {
        let (text, _) = model.call("output", json!({"id": "r1", "view": "tail"})).await;
        text.contains("begun").then_some(())
    })
    .await;
    world.kill_agent("web-1").await;
    std::fs::write(&go, "").unwrap();
    until("it to be done", async || done.exists().then_some(())).await;
    world.start_agent("web-1").await;
    let (text, error) = model.call("output", json!({"id": "r1", "view": "tail"})).await;
    assert!(!error && text.starts_with("[run r1 exit=3 "), "{text}");
    assert!(text.contains("lines=300001") && text.ends_with("\n300000\n"), "{text}");
    let (text, _) =
        model.call("output", json!({"id": "r1", "view": "grep", "pattern": "^1(0)+$"})).await;
    assert!(text.contains("100000"), "{text}");
}

#[tokio::test]
async fn a_stop_and_a_timeout_reach_a_run_of_the_agent_before() {
    let mut world = World::with_server("web-1").await;
    let timed = world
        .farwire_command(&["run", "web-1", "-n", "--timeout", "4s", "--", "sleep", "600"])
        .spawn()
        .unwrap();
    let mut model = world.model(Era::Discover).await;
    let call = json!({"server": "web-1", "command": "echo up; exec sleep 600", "wait": 0});
    let (text, _) = model.call("run", call).await;
    let id = text.split(' ').nth(1).unwrap().to_owned();
    until("it to have begun", async || {
        let (text, _) = model.call("output", json!({"id": id, "view": "tail"})).await;
        text.contains("up").then_some(())
    })
    .await;
    until("both to run", async || {
        let status = world.farwire(&["status", "web-1"]).await.text();
        (status.matches("running").count() >= 2).then_some(())
    })
    .await;
    world.kill_agent("web-1").await;
    world.start_agent("web-1").await;
    let (text, error) = model.call("stop", json!({"id": id})).await;
    assert!(!error && text.contains("signal=INT"), "{text}");
    let timed = timed.wait_with_output().await.unwrap();
    let stderr = String::from_utf8_lossy(&timed.stderr);
    assert_eq!(timed.status.code(), Some(128 + 9), "{stderr}");
    assert!(stderr.contains("its time was up"), "{stderr}");
}

#[tokio::test]
async fn a_holder_that_is_killed_costs_its_own_runs_and_no_others() {
    if !is_root_or_skips("a run as another user") {
        return;
    }
    let world = World::with_server("web-1").await;
    let spawn = |user: &str| {
        let arguments = ["run", "web-1", "-c", "echo up; read -r line; echo $line", "--user", user];
        let mut command = world.farwire_command(&arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        (BufReader::new(child.stdout.take().unwrap()).lines(), stdin, child)
    };
    let user = "nobody";
    let (mut first, _open, lost) = spawn("root");
    assert_eq!(first.next_line().await.unwrap().as_deref(), Some("up"));
    let holder = world
        .holders("web-1")
        .into_iter()
        .find(|&pid| !farwire_tests::world::children(pid).is_empty());
    let (mut second, mut stdin, whole) = spawn(user);
    assert_eq!(second.next_line().await.unwrap().as_deref(), Some("up"));
    kill(holder.unwrap());
    let lost = lost.wait_with_output().await.unwrap();
    let stderr = String::from_utf8_lossy(&lost.stderr);
    assert_eq!(lost.status.code(), Some(255), "{stderr}");
    assert!(stderr.contains("error[outcome_unknown]"), "{stderr}");
    stdin.write_all(b"still here\n").await.unwrap();
    assert_eq!(second.next_line().await.unwrap().as_deref(), Some("still here"));
    assert!(whole.wait_with_output().await.unwrap().status.success());
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert_eq!(done.code, 0, "{done:?}");
}

#[tokio::test]
async fn sessions_that_count_lose_no_number_when_the_agent_is_restarted() {
    farwire_tests::trials::restarts::restarts(5, 2).await;
}
