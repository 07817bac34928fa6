//! `run`, from the command line to a real process and back.

use farwire_tests::world::{children, resident_kib, running};
use farwire_tests::{Era, World, is_root_or_skips, until};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

#[tokio::test]
async fn streams_exit_code_and_signals_come_back_as_they_are() {
    let world = World::with_server("web-1").await;
    let done =
        world.farwire(&["run", "web-1", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!((done.code, done.text().as_str(), done.stderr.as_str()), (7, "out\n", "err\n"));
    let done = world.farwire(&["run", "web-1", "-c", "kill -TERM $$"]).await;
    assert_eq!(done.code, 128 + 15, "{done:?}");
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert_eq!((done.code, done.stdout.len(), done.stderr.as_str()), (0, 0, ""));
}

#[tokio::test]
async fn megabytes_pass_in_both_directions_byte_for_byte() {
    let world = World::with_server("web-1").await;
    let input: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let done = world.farwire_with(&["run", "web-1", "--", "cat"], &input).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout == input, "{} of {} bytes", done.stdout.len(), input.len());
}

#[tokio::test]
async fn where_as_whom_and_with_what_it_runs_is_as_asked() {
    let world = World::with_server("web-1").await;
    let done = world
        .farwire(&[
            "run",
            "web-1",
            "--cwd",
            "/usr",
            "--env",
            "A=b c",
            "-c",
            "pwd; echo $A; echo $TERM",
        ])
        .await;
    assert_eq!(done.text(), "/usr\nb c\ndumb\n");
    let done =
        world.farwire(&["run", "web-1", "--", "printf", "%s|", "a b", "$HOME", "'q'", "*"]).await;
    assert_eq!(done.text(), "a b|$HOME|'q'|*|", "no shell reads an argv");
    if is_root_or_skips("a run as another user") {
        let done = world.farwire(&["run", "web-1", "--user", "nobody", "--", "id", "-un"]).await;
        assert_eq!(done.text(), "nobody\n", "{done:?}");
    }
    let done = world.farwire(&["run", "web-1", "-n", "--", "cat"]).await;
    assert_eq!((done.code, done.stdout.len()), (0, 0), "no standard input is an empty one");
}

#[tokio::test]
async fn each_failure_of_ours_is_named_and_ends_with_255() {
    let world = World::with_server("web-1").await;
    for (arguments, kind) in [
        (&["run", "web-1", "--", "no-such-program"][..], "exec_failed"),
        (&["run", "web-1", "--", "/etc/passwd"], "exec_failed"),
        (&["run", "web-1", "--cwd", "/no/such/place", "--", "true"], "cwd_not_found"),
        (&["run", "web-1", "--user", "nobody-of-that-name", "--", "true"], "user_not_found"),
        (&["run", "web-1", "--env", "1A=x", "--", "true"], "invalid_argument"),
        (&["run", "web-1", "--", ""], "empty_command"),
        (&["run", "web-1"], "empty_command"),
        (&["run", "web-2", "--", "true"], "unknown_server"),
        (&["run", "../x", "--", "true"], "unknown_server"),
    ] {
        let done = world.farwire(arguments).await;
        assert_eq!(done.code, 255, "{arguments:?}: {done:?}");
        assert!(
            done.stderr.contains(&format!("error[{kind}]: ")),
            "{arguments:?}: {}",
            done.stderr
        );
        assert!(done.stderr.contains("\nhint: "), "{arguments:?}: {}", done.stderr);
    }
    let long = "x".repeat(65 * 1024);
    let done = world.farwire(&["run", "web-1", "--", "echo", &long]).await;
    assert!(done.code == 255 && done.stderr.contains("error[too_large]"), "{}", done.stderr);
    let done = world.farwire(&["run", "web-1", "--timeout", "0", "--", "true"]).await;
    assert_eq!(done.code, 255, "usage of run is ours, too");
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group_and_keeps_what_was_said() {
    let world = World::with_server("web-1").await;
    let script = "echo before; sleep 1234567 & sleep 1234567";
    let done = world.farwire(&["run", "web-1", "--timeout", "1s", "-c", script]).await;
    assert_eq!((done.code, done.text().as_str()), (128 + 9, "before\n"));
    let left = running(&["sleep", "1234567"]);
    assert_eq!(left, [] as [u32; 0], "something of the group is alive");
}

#[tokio::test]
async fn a_child_left_in_the_background_does_not_hold_the_answer() {
    let world = World::with_server("web-1").await;
    let mark = world.path("mark");
    let script = format!("(sleep 2; echo late; echo done > {}) & echo now", mark.display());
    let done = world.farwire(&["run", "web-1", "-c", &script]).await;
    assert_eq!((done.code, done.text().as_str()), (0, "now\n"));
    // It goes on, and does not die of writing to a pipe that nobody reads.
    until("the background child's mark", async || mark.exists().then_some(())).await;
}

#[tokio::test]
async fn a_program_that_takes_no_heed_of_a_reader_that_is_gone_is_named() {
    let world = World::with_server("web-1").await;
    let script = "trap '' PIPE; while :; do echo line; sleep 0.05; done";
    let mut child = world.farwire_command(&["run", "web-1", "-n", "-c", script]).spawn().unwrap();
    let mut line = [0; 5];
    let mut output = child.stdout.take().expect("a pipe");
    output.read_exact(&mut line).await.expect("a line");
    drop(output);
    let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut told = String::new();
    while !told.contains("nobody reads the output") {
        told = said.next_line().await.expect("its output").expect("a line that says so");
    }
    assert!(told.contains("farwire stop r1"), "{told}");
    let pid = rustix::process::Pid::from_raw(child.id().expect("it runs").cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(child.wait().await.expect("it ended").code(), Some(130));
}

#[tokio::test]
async fn a_detached_run_is_read_and_stopped_by_its_id_from_other_processes() {
    let world = World::with_server("web-1").await;
    let script = "echo hello; trap '' TERM INT; while :; do sleep 0.1; done";
    let done = world.farwire(&["run", "web-1", "--detach", "-c", script]).await;
    let id = done.text().trim().to_owned();
    assert!(done.code == 0 && id.starts_with('r'), "{done:?}");
    until("its output", async || {
        (world.farwire(&["output", &id]).await.text() == "hello\n").then_some(())
    })
    .await;
    let status = world.farwire(&["status", "--json"]).await.json();
    assert_eq!(
        (&status[0]["id"], &status[0]["state"]),
        (&id.as_str().into(), &"running".into()),
        "{status}"
    );
    let done = world.farwire(&["stop", &id, "--signal", "KILL"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    until("its end", async || {
        let output = world.farwire(&["output", &id, "--json"]).await.json();
        (output["signal"] == "KILL").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_dropped_from_a_flood_is_counted_and_the_tail_is_there() {
    let world = World::with_server("web-1").await;
    let script = "head -c 300000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo the-end";
    let done = world.farwire(&["run", "web-1", "--detach", "-c", script]).await;
    let id = done.text().trim().to_owned();
    let output = until("the end of a flood", async || {
        let output = world
            .farwire(&["output", &id, "--view", "tail", "--lines", "1", "--json"])
            .await
            .json();
        (output["exit_code"] == 0).then_some(output)
    })
    .await;
    assert_eq!(output["output"], "xxxthe-end\n");
    assert!(output["dropped_bytes"].as_u64().unwrap() > 30_000_000, "{output}");
    assert_eq!(output["lines"], 300_000_000_u64.div_ceil(99), "lines keep their numbers");
}

#[tokio::test]
async fn a_run_survives_the_death_and_the_return_of_the_relay() {
    let mut world = World::with_server("web-1").await;
    let go = world.path("go");
    let script = format!(
        "echo first; while [ ! -e {} ]; do sleep 0.05; done; seq 100000; exit 9",
        go.display()
    );
    let mut command = world.farwire_command(&["run", "web-1", "-n", "-c", &script]);
    let mut child = command.spawn().unwrap();
    // Its first words have come: the run is under way.
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 6];
    tokio::io::AsyncReadExt::read_exact(&mut out, &mut first).await.unwrap();
    world.kill_relay().await;
    std::fs::write(&go, "").unwrap();
    world.start_relay(&[]).await;
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut out, &mut rest).await.unwrap();
    let status = child.wait().await.unwrap();
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(rest == expected, "{} of {} bytes", rest.len(), expected.len());
    assert_eq!(status.code(), Some(9));
}

#[tokio::test]
async fn ten_thousand_short_runs_in_a_row_leave_nothing_behind() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let programs = [world.agent_pid("web-1"), world.relay_pid(), model.pid()];
    // Only root sees the descriptors of a process that is not to be looked into.
    let looks = is_root_or_skips("to count the descriptors of an agent");
    let files = |pid| match looks {
        true => std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
        false => 0,
    };
    let call = serde_json::json!({"server": "web-1", "command": "echo hi"});
    let mut before = Vec::new();
    for number in 0..10_000 {
        if number == 1_000 {
            before = programs.iter().map(|&pid| (files(pid), resident_kib(pid))).collect();
        }
        let (text, error) = model.call("run", call.clone()).await;
        assert!(!error && text.contains("exit=0") && text.ends_with("hi\n"), "{number}: {text}");
    }
    for (&pid, (open, resident)) in programs.iter().zip(before) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        until("descriptors to be closed", async || (files(pid) <= open + 4).then_some(())).await;
        let more = resident_kib(pid).saturating_sub(resident);
        assert!(more < 16 << 10, "{name} has grown by {more} KiB");
    }
    let spool = std::fs::read_dir(world.path("web-1").join("spool")).unwrap().count();
    assert_eq!(spool, 0, "little output costs no file");
    let holders = world.holders("web-1");
    assert!(holders.len() <= 2, "one is in use and one is ready: {holders:?}");
    let mut left = children(world.agent_pid("web-1"));
    left.retain(|pid| !holders.contains(pid));
    left.extend(holders.into_iter().flat_map(children));
    assert!(left.is_empty(), "no zombie is left: {left:?}");
}

/// More than an agent takes is refused here, and is not taken for trouble on the way.
#[tokio::test]
async fn a_request_that_is_too_long_is_refused_before_anything_is_sent() {
    let world = World::with_server("web-1").await;
    let long = "x".repeat(150_000);
    let (one, other) = ("y".repeat(100_000), "z".repeat(100_000));
    let done = world.farwire(&["run", "web-1", "-n", "--", "echo", &one, &other]).await;
    assert!(done.code == 255 && done.stderr.contains("error[too_large]"), "{done:?}");
    let mut model = world.model(Era::Discover).await;
    for (tool, arguments) in [
        ("run", json!({"server": "web-1", "command": long})),
        ("session_open", json!({"server": "web-1", "command": long})),
    ] {
        let (text, error) = model.call(tool, arguments).await;
        assert!(error && text.contains("too_large"), "{tool}: {}", &text[..text.len().min(300)]);
    }
    let status = world.farwire(&["status", "web-1", "--all"]).await.text();
    assert!(!status.contains("yyyy"), "{}", status.len());
}
