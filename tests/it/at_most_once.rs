//! A command runs at most once, whatever breaks when.

use farwire_tests::world::kill;
use farwire_tests::{Era, World, until};
use serde_json::json;

#[tokio::test]
async fn a_cut_at_any_moment_runs_a_command_once_and_its_answer_is_true() {
    let mut world = World::with_server("web-1").await;
    for round in 0..4_u64 {
        let mark = world.path(&format!("mark-{round}"));
        let script = format!("echo x >> {}; sleep 0.2; echo done; exit {round}", mark.display());
        let running =
            world.farwire_command(&["run", "web-1", "-n", "-c", &script]).spawn().unwrap();
        if round % 2 == 0 {
            until("the command to have begun", async || mark.exists().then_some(())).await;
        }
        world.kill_relay().await;
        world.start_relay(&[]).await;
        let output = running.wait_with_output().await.unwrap();
        let lines = std::fs::read_to_string(&mark).unwrap_or_default();
        if output.status.code() == Some(255) {
            // Cut before anything was sent: then nothing may have run.
            assert_eq!(lines, "", "{}", String::from_utf8_lossy(&output.stderr));
        } else {
            assert_eq!(lines, "x\n", "round {round}");
            assert_eq!(output.status.code(), i32::try_from(round).ok());
            assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
        }
        world.wait_for("web-1", "online").await;
    }
}

#[tokio::test]
async fn an_agent_that_lost_its_holders_never_claims_an_outcome_that_it_does_not_know() {
    let mut world = World::with_server("web-1").await;
    let mark = world.path("mark");
    let script = format!("echo x >> {}; sleep 600", mark.display());
    let running = world.farwire_command(&["run", "web-1", "-n", "-c", &script]).spawn().unwrap();
    until("the command to have begun", async || mark.exists().then_some(())).await;
    let holders = world.holders("web-1");
    world.kill_agent("web-1").await;
    holders.into_iter().for_each(kill);
    world.start_agent("web-1").await;
    let output = running.wait_with_output().await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(255), "{stderr}");
    assert!(stderr.contains("error[outcome_unknown]"), "{stderr}");
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n", "and it was not run again");
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert_eq!(done.code, 0, "the new process serves: {done:?}");
}

/// The journal is all that the next agent has when the holders are gone, too.
#[tokio::test]
async fn a_journal_that_is_damaged_makes_nothing_run_twice() {
    for damage in ["gone", "cut", "flipped", "older"] {
        let mut world = World::with_server("web-1").await;
        let mut model = world.model(Era::Discover).await;
        let (journal, mark) = (world.path("web-1").join("journal"), world.path("mark"));
        let before = std::fs::read(&journal).unwrap();
        let command = format!("echo x >> {}; sleep 600", mark.display());
        let arguments = json!({"server": "web-1", "command": command});
        let call = json!({"name": "run", "arguments": arguments});
        let asked = model.send("tools/call", call).await;
        until("the command to have begun", async || mark.exists().then_some(())).await;
        let holders = world.holders("web-1");
        world.kill_agent("web-1").await;
        holders.into_iter().for_each(kill);
        let mut bytes = std::fs::read(&journal).unwrap();
        match damage {
            "gone" => std::fs::remove_file(&journal).unwrap(),
            "cut" => std::fs::write(&journal, &bytes[..before.len()]).unwrap(),
            "flipped" => {
                let last = bytes.len() - 10;
                bytes[last] ^= 1;
                std::fs::write(&journal, &bytes).unwrap();
            }
            // As it was before the request, length and all.
            _ => std::fs::write(&journal, &before[..before.len() - 1]).unwrap(),
        }
        world.start_agent("web-1").await;
        let (text, error) = farwire_tests::model::text_of(&model.answer(asked).await);
        let says = text.contains("outcome_unknown") || text.contains("unreachable");
        assert!(says, "{damage}: {error} {text}");
        assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n", "{damage}: {text}");
        let stopped = world.farwire(&["stop", "r1"]).await;
        let said = format!("{}{}", stopped.text(), stopped.stderr);
        assert!(said.contains("outcome_unknown"), "{damage}: {said}");
    }
}

#[tokio::test]
async fn a_model_that_is_killed_leaves_its_run_to_the_next_one() {
    let world = World::with_server("web-1").await;
    let mut first = world.model(Era::Initialize("2025-06-18")).await;
    let (text, _) = first
        .call(
            "run",
            json!({"server": "web-1", "command": "echo one; sleep 1; echo two; exit 5", "wait": 0}),
        )
        .await;
    assert!(text.starts_with("[run r1 running"), "{text}");
    first.kill().await;
    let mut second = world.model(Era::Discover).await;
    let (text, error) = second.call("output", json!({"id": "r1"})).await;
    assert!(
        !error && text.starts_with("[run r1 exit=5 ") && text.ends_with("one\ntwo\n"),
        "{text}"
    );
}
