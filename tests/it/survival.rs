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
