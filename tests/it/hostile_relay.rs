//! A relay that holds the real key and does its worst.

use std::process::Stdio;

use farwire_protocol::header::Reset;
use farwire_protocol::streams::session::{Action, TypingRule};
use farwire_tests::hand::user;
use farwire_tests::hostile::{CODES, Hostile, Mischief, Way};
use farwire_tests::trials::relay::{Bench, Kind};
use farwire_tests::{Era, World, until};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

/// A world whose relay has been replaced by the enemy.
async fn betrayed() -> (World, Hostile) {
    let mut world = World::with_server("web-1").await;
    let hostile = Hostile::replace(&mut world, "web-1").await;
    (world, hostile)
}

#[tokio::test]
async fn a_recorded_stream_replayed_runs_nothing_and_gets_no_answer() {
    let (world, hostile) = betrayed().await;
    let mark = world.path("mark");
    let mut model = world.model(Era::Discover).await;
    let command = format!("echo x >> {}", mark.display());
    let (text, _) = model.call("run", json!({"server": "web-1", "command": command})).await;
    assert!(text.contains("exit=0"), "{text}");
    let recorded = hostile.recorded();
    assert_eq!(recorded.len(), 2, "a handshake and a run");
    for stream in &recorded {
        let replay = [stream.head.as_slice(), &stream.forth].concat();
        for _ in 0..3 {
            let back = hostile.inject(&replay).await;
            // A handshake is answered with a fresh message 2, to somebody who cannot go on from it.
            assert!(
                stream.head[20..36] == [0; 16] || back.is_empty(),
                "an answer of {} bytes",
                back.len()
            );
        }
    }
    let (text, _) =
        model.call("run", json!({"server": "web-1", "command": "echo still here"})).await;
    assert!(text.ends_with("still here\n"), "{text}");
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n", "it ran once");
}

#[tokio::test]
async fn forged_stream_numbers_do_not_hurt_the_link() {
    let (world, hostile) = betrayed().await;
    let mut model = world.model(Era::Discover).await;
    model.call("run", json!({"server": "web-1", "command": "true"})).await;
    let stream = hostile.recorded().pop().unwrap();
    for sid in [2_u64, 4, 6, 1_000_000, u64::MAX - 1, 3] {
        let mut forged = stream.head.clone();
        forged[40..48].copy_from_slice(&sid.to_be_bytes());
        forged.extend_from_slice(&stream.forth);
        assert_eq!(hostile.inject(&forged).await, b"", "sid {sid}");
    }
    for n in 0..5 {
        let command = format!("echo {n}");
        let (text, error) = model.call("run", json!({"server": "web-1", "command": command})).await;
        assert!(!error && text.ends_with(&format!("{n}\n")), "{text}");
    }
    assert_eq!(hostile.recorded().len(), 7, "the same link served all of it");
}

#[tokio::test]
async fn whatever_is_done_to_a_stream_no_wrong_byte_and_no_wrong_code_comes_out() {
    let (world, hostile) = betrayed().await;
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    for (number, mischief) in [
        Mischief::Flip(Way::Back, 10),
        Mischief::Flip(Way::Back, 60_000),
        Mischief::Flip(Way::Forth, 30),
        Mischief::Finish(Way::Back, 0),
        Mischief::Finish(Way::Back, 50_000),
        Mischief::Break(Way::Back, 70_000, Reset::Cancelled),
        Mischief::Swap(Way::Back),
        Mischief::Repeat(Way::Back),
        Mischief::Repeat(Way::Forth),
        Mischief::Break(Way::Forth, 20, Reset::Cancelled),
    ]
    .into_iter()
    .chain(CODES.map(Reset::from_code).map(Mischief::Refuse))
    .enumerate()
    {
        // The first stream of a process is its handshake, the second the run.
        hostile.plan(1, mischief.clone());
        let mark = world.path(&format!("mark-{number}"));
        let script = format!("echo x >> {}; seq 20000; exit 7", mark.display());
        let done = world.farwire(&["run", "web-1", "-n", "-c", &script]).await;
        assert_eq!(done.code, 7, "{mischief:?}: {}", done.stderr);
        assert!(done.text() == expected, "{mischief:?}: {} bytes", done.stdout.len());
        assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n", "{mischief:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_held_and_released_late_is_not_carried_out_twice() {
    held_back(Way::Forth).await;
}

/// A request with input is kept from the agent and taken up again by the bridge; then it is let go,
/// too.
#[tokio::test]
async fn input_that_is_kept_from_the_agent_and_let_go_later_reaches_the_program_once() {
    let (world, hostile) = betrayed().await;
    hostile.plan(1, Mischief::Detain(100, Reset::Overloaded));
    let mark = world.path("mark");
    let script = format!("cat >> {}", mark.display());
    let mut command = world.farwire_command(&["run", "web-1", "-c", &script]);
    let mut run = command.stdin(Stdio::piped()).spawn().expect("it starts");
    let mut input = run.stdin.take().expect("a pipe");
    input.write_all(b"one\n").await.expect("it is read");
    let read = || std::fs::read_to_string(&mark).unwrap_or_default();
    until("the input", async || (read() == "one\n").then_some(())).await;
    hostile.let_go().await;
    input.write_all(b"two\n").await.expect("it is read");
    drop(input);
    let ended = until("its end", async || run.try_wait().expect("it is ours")).await;
    assert_eq!((ended.code(), read().as_str()), (Some(0), "one\ntwo\n"));
}

#[tokio::test]
async fn an_answer_that_is_held_back_is_fetched_by_another_stream() {
    held_back(Way::Back).await;
}

/// The agent says every 15 s that it works on a question: a longer silence is the relay's.
#[tokio::test]
async fn the_answer_about_files_that_is_held_back_is_asked_for_again_and_a_long_one_is_waited_for()
{
    let mut world = World::with_root("web-1", &[]).await;
    std::fs::write(world.in_root("here.txt"), "x").expect("a file");
    let hostile = Hostile::replace(&mut world, "web-1").await;
    hostile.plan(1, Mischief::HoldRest(Way::Back));
    let list = async { world.farwire(&["files", "ls", "web-1:"]).await };
    // On a stream of its own, undisturbed, and for longer than a silent one is waited for.
    let watch = async {
        until("the question", async || (hostile.recorded().len() > 1).then_some(())).await;
        world.farwire(&["files", "watch", "web-1:", "--wait", "50"]).await
    };
    let (listed, watched) = tokio::join!(list, watch);
    assert!(listed.code == 0 && listed.text().contains("here.txt"), "{listed:?}");
    assert_eq!(watched.code, 124, "nothing changed, and nothing broke: {watched:?}");
}

/// The bridge notices the silence, as the agent speaks at least every 15 s, and takes the run up on
/// another stream; what is let go after that is stale.
async fn held_back(way: Way) {
    let (world, hostile) = betrayed().await;
    hostile.plan(1, Mischief::Hold(way));
    let mark = world.path("mark");
    let script = format!("echo x >> {}; echo out; exit 7", mark.display());
    let done = world.farwire(&["run", "web-1", "-n", "-c", &script]).await;
    assert_eq!((done.code, done.text().as_str()), (7, "out\n"), "{done:?}");
    // Until the held stream has been let go, and turned away.
    until("the end of the held stream", async || {
        let log = std::fs::read_to_string(world.path("web-1.log")).unwrap_or_default();
        (way == Way::Back || log.contains("a stream was refused")).then_some(())
    })
    .await;
    assert_eq!(std::fs::read_to_string(&mark).expect("a mark"), "x\n", "it ran once");
}

#[tokio::test]
async fn a_handshake_that_is_altered_comes_to_nothing_and_starts_nothing() {
    let (world, hostile) = betrayed().await;
    let mark = world.path("mark");
    let script = format!("echo x >> {}", mark.display());
    let run = async || world.farwire(&["run", "web-1", "-n", "-c", &script]).await;
    for mischief in [
        Mischief::Flip(Way::Forth, 40),
        Mischief::Flip(Way::Forth, 1_400),
        Mischief::Flip(Way::Back, 100),
        Mischief::Flip(Way::Back, 1_300),
    ] {
        hostile.plan(0, mischief.clone());
        let done = run().await;
        let refused = done.stderr.contains("error[handshake_failed]");
        assert!(done.code == 255 && refused, "{mischief:?}: {done:?}");
        assert!(!mark.exists(), "{mischief:?}: something ran");
    }
    // A handshake that is cut short may be that of an agent which was restarted just now.
    let cut_short = Mischief::Finish(Way::Back, 200);
    hostile.plan(0, cut_short.clone());
    hostile.plan(1, cut_short.clone());
    let done = run().await;
    assert!(done.code == 255 && done.stderr.contains("error[link_lost]"), "{done:?}");
    assert!(!mark.exists(), "something ran");
    hostile.plan(0, cut_short);
    let done = run().await;
    assert_eq!(done.code, 0, "one more is tried: {done:?}");
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n");
    assert_eq!(
        world.farwire(&["run", "web-1", "--", "true"]).await.code,
        0,
        "and nothing is broken"
    );
}

/// In the ordinary suite every so many of the cases; `cargo xtask soak relay` makes all of them.
const STRIDE: usize = 19;

#[tokio::test]
async fn nothing_is_done_twice_and_every_answer_is_true_whatever_a_relay_does_to_commands() {
    let mut bench = Bench::new().await;
    assert!(bench.try_all(Kind::COMMANDS, (0, STRIDE)).await > 20);
}

#[tokio::test]
async fn nothing_is_done_twice_and_every_answer_is_true_whatever_a_relay_does_to_tools() {
    let mut bench = Bench::new().await;
    assert!(bench.try_all(&[Kind::McpRun], (0, 1)).await > 40);
    assert!(bench.try_all(&Kind::TOOLS[1..], (5, STRIDE)).await > 10);
}

#[tokio::test]
async fn nothing_is_done_twice_and_every_answer_is_true_whatever_a_relay_does_to_files() {
    let mut bench = Bench::new().await;
    assert!(bench.try_all(Kind::FILES, (9, STRIDE)).await > 20);
}

#[tokio::test]
async fn nothing_is_done_twice_and_every_answer_is_true_whatever_a_relay_does_to_changes_of_trees()
{
    let mut bench = Bench::new().await;
    assert!(bench.try_all(Kind::CHANGES, (4, 2 * STRIDE)).await > 20);
}

#[tokio::test]
async fn a_handshake_that_is_disturbed_while_a_request_is_under_way_ends_nothing() {
    let mut bench = Bench::new().await;
    bench.try_handshakes(&[Kind::McpRun, Kind::SessionSend], (0, 3)).await;
    bench.try_handshakes(&[Kind::CliRun], (2, 4)).await;
}

#[tokio::test]
async fn a_relay_that_refuses_for_longer_than_there_is_time_leaves_the_outcome_unknown_with_the_id()
{
    let mut bench = Bench::new().await;
    for reason in [Reset::UnknownServer, Reset::Offline, Reset::Integrity] {
        let (text, times) = bench.refused_throughout(reason).await;
        assert!(text.contains("state=unreachable") && text.contains("outcome_unknown"), "{text}");
        assert_eq!(times, 1, "{text}");
        let id = text.strip_prefix("[run ").and_then(|text| text.split(' ').next()).expect("an id");
        assert!(text.contains(&format!("next=output(id={id})")), "{text}");
        let text = bench.call("output", json!({"id": id})).await;
        assert!(text.contains(&format!("[run {id} exit=0")), "{text}");
    }
}

/// What a person has decided since stays so.
#[tokio::test]
async fn a_rule_that_is_held_back_and_released_late_does_not_undo_a_later_one() {
    let (world, hostile) = betrayed().await;
    let user = user(&world);
    let session = user.open("work", "exec cat").await;
    hostile.plan(0, Mischief::Detain(100, Reset::Overloaded));
    user.does(session, Action::Rule(TypingRule::Shared)).await.expect("a later copy passes");
    let status = user.does(session, Action::Rule(TypingRule::UserOnly)).await.expect("it passes");
    assert_eq!(status.typing.expect("it is told").rule, TypingRule::UserOnly);
    hostile.let_go().await;
    let status = user.look(session).await.status;
    assert_eq!(status.typing.expect("it is told").rule, TypingRule::UserOnly);
}
