//! The category `pty`: terminals by the names and with the rules of a PTY server.

use farwire_tests::{Era, Model, World, until};
use serde_json::{Value, json};

/// A server and a client that lists the category.
async fn world() -> (World, Model) {
    let world = World::with_server("web-1").await;
    let model = world.model_with(&["--scope", "core,pty.*"], Era::Discover).await;
    (world, model)
}

/// Calls a tool for owner `a` and gives its text.
async fn call(model: &mut Model, tool: &str, mut arguments: Value) -> String {
    arguments.as_object_mut().expect("an object").entry("owner").or_insert(json!("a"));
    let (text, error) = model.call(tool, arguments.clone()).await;
    assert!(!error, "{tool} {arguments}: {text}");
    text
}

/// Calls a tool for owner `a` that must fail in this way.
async fn refused(model: &mut Model, tool: &str, mut arguments: Value, kind: &str) -> String {
    arguments.as_object_mut().expect("an object").entry("owner").or_insert(json!("a"));
    let (text, error) = model.call(tool, arguments.clone()).await;
    assert!(error && text.starts_with(&format!("[error {kind}]")), "{tool} {arguments}: {text}");
    text
}

/// Spawns and gives the session's id.
async fn spawn(model: &mut Model, arguments: Value) -> String {
    let text = call(model, "pty_spawn", arguments).await;
    text.split(' ').nth(1).expect("an id").trim_end_matches(']').to_owned()
}

/// The value of a field in a header: `offset=0-7`.
fn field(text: &str, name: &str) -> String {
    let header = text.lines().next().expect("a line");
    let start = format!(" {name}=");
    let (_, rest) = header.split_once(&start).unwrap_or_else(|| panic!("no {name}: {text}"));
    rest.split([' ', ']']).next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_program_is_spawned_read_typed_into_and_waited_for() {
    let (_world, mut model) = world().await;
    let command = "stty size; echo $TERM $X; read A; echo got-$A; exit 3";
    let spawned = json!({"server": "web-1", "command": format!("sh -c '{command}'"), "cols": 90, "rows": 20,
        "env": {"X": "5"}, "name": "job", "tag": "t1"});
    let id = spawn(&mut model, spawned).await;
    let text = call(
        &mut model,
        "pty_read_until",
        json!({"session_id": id, "pattern": "xterm\\S* 5\\r\\n"}),
    )
    .await;
    assert!(text.contains("\n20 90\n") && field(&text, "matched") == "0", "{text}");
    // Nothing new is no error, and takes the time that was given.
    let begun = std::time::Instant::now();
    let text = call(&mut model, "pty_read", json!({"session_id": id, "timeout_ms": 300})).await;
    assert!(begun.elapsed().as_millis() >= 300 && text.contains(" running offset="), "{text}");
    let text = call(&mut model, "pty_write", json!({"session_id": id, "data": "hello\n"})).await;
    assert_eq!(field(&text, "written"), "6");
    let text = call(&mut model, "pty_wait", json!({"session_id": id})).await;
    assert!(text.contains(" exit=3 "), "{text}");
    let text = call(&mut model, "pty_read", json!({"session_id": id})).await;
    assert!(text.contains("exit=3") && text.ends_with("got-hello\n"), "{text}");
    let text =
        refused(&mut model, "pty_write", json!({"session_id": id, "data": "x"}), "already_ended")
            .await;
    assert!(text.contains("exit=3"), "{text}");
    let text = call(&mut model, "pty_list", json!({})).await;
    assert!(text.starts_with("[open 0 sessions]"), "{text}");
    let text = call(&mut model, "pty_status", json!({"session_id": id})).await;
    assert!(text.contains("\nend: exit=3\n"), "{text}");
}

#[tokio::test]
async fn reads_neither_overlap_nor_miss_and_looking_takes_nothing() {
    let (_world, mut model) = world().await;
    let line = "for i in $(seq 1 3000); do echo line-$i; done; sleep 600";
    let id =
        spawn(&mut model, json!({"server": "web-1", "command": format!("sh -c '{line}'")})).await;
    let whole: String = (1..=3000).map(|at| format!("line-{at}\n")).collect();
    // Two clients, each with a cursor of its own, one in small steps.
    for (client, step) in [("x", 700), ("y", 7_500)] {
        let mut text = String::new();
        let mut at = 0;
        while text.lines().last() != Some("line-3000") {
            let read = json!({"session_id": id, "client_id": client, "max_bytes": step, "timeout_ms": 5000});
            let part = call(&mut model, "pty_read", read).await;
            let offset = field(&part, "offset");
            let (from, to) = offset.split_once('-').unwrap();
            assert_eq!(from.parse::<u64>().unwrap(), at, "{part}");
            at = to.parse().unwrap();
            text.push_str(part.split_once('\n').unwrap().1);
        }
        assert_eq!(text, whole, "{client}");
    }
    let at = json!({"session_id": id, "offset": 11, "max_bytes": 40});
    let first = call(&mut model, "pty_read_at", at.clone()).await;
    assert_eq!(first, call(&mut model, "pty_read_at", at).await, "the same offset, the same bytes");
    let next = first.split("next=").nth(1).unwrap().split(']').next().unwrap();
    assert!(next.starts_with(&format!("pty_read_at(session_id={id},offset=")), "{first}");
    let json_read = json!({"session_id": id, "offset": 0, "max_bytes": 16, "format": "json"});
    let text = call(&mut model, "pty_read_at", json_read).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["data"], "line-1\r\nline-2\r\n");
    assert_eq!((value["next_offset"].as_u64(), value["more"].as_bool()), (Some(16), Some(true)));
    refused(
        &mut model,
        "pty_read_at",
        json!({"session_id": id, "offset": 99_999_999}),
        "invalid_argument",
    )
    .await;
}

#[tokio::test]
async fn patterns_match_across_pieces_and_silence_ends_a_burst() {
    let (_world, mut model) = world().await;
    let line = "printf RE; sleep 0.4; printf \"\\033[1mADY\\033[0m\\n\"; read A; echo not yet; sleep 0.3; echo done; read A; \
        echo burst; echo over; sleep 600";
    let id =
        spawn(&mut model, json!({"server": "web-1", "command": format!("sh -c '{line}'")})).await;
    let any = json!({"session_id": id, "patterns": ["nothing", "READY"], "timeout_ms": 8000});
    let text = call(&mut model, "pty_read_until_any", any).await;
    assert!(field(&text, "matched") == "1" && text.ends_with("\nREADY\n"), "{text}");
    let prompt = json!({"session_id": id, "data": "y\n", "patterns": ["^done", "^error"], "timeout_ms": 8000});
    let text = call(&mut model, "pty_prompt", prompt).await;
    assert!(field(&text, "matched") == "0" && text.contains("not yet\ndone"), "{text}");
    call(&mut model, "pty_write", json!({"session_id": id, "data": "", "newline": true})).await;
    let begun = std::time::Instant::now();
    let quiet = json!({"session_id": id, "quiescence_ms": 500, "timeout_ms": 9000});
    let text = call(&mut model, "pty_read_quiescent", quiet).await;
    assert!(field(&text, "reason") == "silence" && text.ends_with("burst\nover\n"), "{text}");
    assert!(begun.elapsed().as_millis() < 5_000);
    let none = json!({"session_id": id, "pattern": "never", "timeout_ms": 200});
    let text = call(&mut model, "pty_read_until", none).await;
    assert!(field(&text, "matched") == "none" && field(&text, "reason") == "timeout", "{text}");
    refused(
        &mut model,
        "pty_read_until",
        json!({"session_id": id, "pattern": "("}),
        "invalid_argument",
    )
    .await;
}

#[tokio::test]
async fn separate_streams_are_no_terminal_and_are_read_apart() {
    let (_world, mut model) = world().await;
    let line = "test -t 1 || echo no-tty; echo to-err >&2; cat; echo end; exit 4";
    let spawned =
        json!({"server": "web-1", "command": line, "separate_streams": true, "name": "apart"});
    let id = spawn(&mut model, spawned.clone()).await;
    assert!(id.starts_with('r'), "{id}");
    refused(&mut model, "pty_spawn", spawned, "invalid_argument").await;
    let read = json!({"session_id": id, "timeout_ms": 5000});
    let text = call(&mut model, "pty_read_stderr", read.clone()).await;
    assert!(text.ends_with("]\nto-err\n"), "{text}");
    let text = call(&mut model, "pty_read_stdout", read.clone()).await;
    assert!(text.ends_with("]\nno-tty\n"), "{text}");
    // Whoever only looks does not end its input.
    let (text, _) = model.call("output", json!({"id": id, "wait": 0.1})).await;
    assert!(text.starts_with(&format!("[run {id} running")), "{text}");
    call(&mut model, "pty_write", json!({"session_id": id, "data": "typed\n"})).await;
    let text = call(&mut model, "pty_read", read.clone()).await;
    assert!(text.ends_with("]\ntyped\n"), "{text}");
    let text = call(&mut model, "pty_list", json!({})).await;
    assert!(text.contains(&id) && text.contains("apart"), "{text}");
    refused(
        &mut model,
        "pty_resize",
        json!({"session_id": id, "cols": 9, "rows": 9}),
        "invalid_argument",
    )
    .await;
    refused(&mut model, "pty_read", json!({"session_id": id, "owner": "b"}), "unknown_id").await;
    call(&mut model, "pty_write", json!({"session_id": id, "data": "", "eof": true})).await;
    let text = call(&mut model, "pty_wait", json!({"session_id": id})).await;
    assert!(text.contains(" exit=4 "), "{text}");
    let text = call(&mut model, "pty_read", read).await;
    assert!(text.ends_with("]\nend\n"), "{text}");
    refused(&mut model, "pty_write", json!({"session_id": id, "data": "x"}), "already_ended").await;
    // What cannot be kept is not promised.
    for (name, value) in [("rate_limit_bps", 100), ("input_rate_bps", 100), ("idle_timeout_sec", 9)]
    {
        let mut asked = json!({"server": "web-1", "command": "cat", "separate_streams": true});
        asked[name] = json!(value);
        refused(&mut model, "pty_spawn", asked, "invalid_argument").await;
    }
    let looks = json!({"server": "web-1", "command": "cat", "separate_streams": true, "scope": "read-only"});
    let id = spawn(&mut model, looks).await;
    refused(&mut model, "pty_write", json!({"session_id": id, "data": "x"}), "input_locked").await;
}

#[tokio::test]
async fn an_owner_is_asked_for_and_sees_nobody_elses_sessions() {
    let (world, mut model) = world().await;
    for (tool, arguments) in [
        ("pty_spawn", json!({"server": "web-1", "command": "cat"})),
        ("pty_list", json!({})),
        ("pty_read", json!({"session_id": "s1"})),
        ("pty_resume", json!({"name": "x"})),
        ("pty_close", json!({"session_id": "s1"})),
    ] {
        let (text, error) = model.call(tool, arguments).await;
        assert!(
            error && text.starts_with("[error invalid_argument]") && text.contains("owner"),
            "{tool}: {text}"
        );
    }
    let id = spawn(
        &mut model,
        json!({"server": "web-1", "command": "cat", "name": "same", "owner": "a"}),
    )
    .await;
    let other = spawn(
        &mut model,
        json!({"server": "web-1", "command": "cat", "name": "same", "owner": "b"}),
    )
    .await;
    assert_ne!(id, other, "a name is an owner's own");
    refused(
        &mut model,
        "pty_spawn",
        json!({"server": "web-1", "command": "cat", "name": "same"}),
        "invalid_argument",
    )
    .await;
    for (tool, mut arguments) in every_tool() {
        if arguments.get("session_id").is_none() {
            continue;
        }
        arguments["session_id"] = json!(id);
        arguments["owner"] = json!("b");
        let (text, error) = model.call(tool, arguments).await;
        assert!(error && text.starts_with("[error unknown_id]"), "{tool}: {text}");
    }
    let text = call(&mut model, "pty_list", json!({"owner": "b"})).await;
    assert!(text.starts_with("[open 1 session]") && text.contains(&other), "{text}");
    let text = call(&mut model, "pty_resume", json!({"name": "same"})).await;
    assert!(
        text.starts_with(&format!("[session {id} ")) && text.contains("\nowner: a\n"),
        "{text}"
    );
    refused(&mut model, "pty_resume", json!({"name": "nobody"}), "unknown_id").await;
    let mut free = world.model_with(&["--scope", "pty.*", "--no-owner"], Era::Discover).await;
    let (text, error) = free.call("pty_spawn", json!({"command": "cat"})).await;
    assert!(!error && text.starts_with("[session s"), "{text}");
}

/// Every tool that needs a session, with arguments that would do.
fn every_tool() -> Vec<(&'static str, Value)> {
    let with = |more: Value| {
        let mut arguments = json!({"session_id": "s1"});
        let more = more.as_object().expect("an object").clone();
        arguments.as_object_mut().expect("an object").extend(more);
        arguments
    };
    vec![
        ("pty_read", with(json!({"timeout_ms": 0}))),
        ("pty_read_stdout", with(json!({"timeout_ms": 0}))),
        ("pty_read_stderr", with(json!({"timeout_ms": 0}))),
        ("pty_read_until", with(json!({"pattern": "x", "timeout_ms": 0}))),
        ("pty_read_until_any", with(json!({"patterns": ["x"], "timeout_ms": 0}))),
        ("pty_read_quiescent", with(json!({"timeout_ms": 0}))),
        ("pty_prompt", with(json!({"data": "x", "timeout_ms": 0}))),
        ("pty_write", with(json!({"data": "x"}))),
        ("pty_resize", with(json!({"cols": 80, "rows": 24}))),
        ("pty_read_at", with(json!({"offset": 0}))),
        ("pty_status", with(json!({}))),
        ("pty_wait", with(json!({"timeout_ms": 0}))),
        ("pty_attach", with(json!({"client_id": "c"}))),
        ("pty_detach", with(json!({"client_id": "c"}))),
        ("pty_handoff", with(json!({"client_id": "c", "target_client_id": "d"}))),
        ("pty_takeover", with(json!({"client_id": "c", "from_client_id": "d"}))),
        ("pty_close", with(json!({}))),
    ]
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one lease from hand to hand")]
async fn whoever_is_attached_is_the_only_one_who_takes_or_types() {
    let (world, mut model) = world().await;
    let id = spawn(&mut model, json!({"server": "web-1", "command": "cat", "name": "c"})).await;
    let attach = |client: &str| json!({"session_id": id, "client_id": client});
    let text = call(&mut model, "pty_attach", attach("c")).await;
    assert!(field(&text, "lease").contains('c'), "{text}");
    call(&mut model, "pty_attach", attach("c")).await;
    refused(&mut model, "pty_attach", attach("d"), "input_locked").await;
    let looks = ["pty_read_at", "pty_status", "pty_wait"];
    for (tool, mut arguments) in every_tool() {
        if ["pty_attach", "pty_detach", "pty_handoff", "pty_takeover", "pty_close"].contains(&tool)
        {
            continue;
        }
        arguments["session_id"] = json!(id);
        for client in [None, Some("d")] {
            if looks.contains(&tool) {
                call(&mut model, tool, arguments.clone()).await;
                continue;
            }
            if let Some(client) = client {
                arguments["client_id"] = json!(client);
            }
            refused(&mut model, tool, arguments.clone(), "input_locked").await;
        }
        if looks.contains(&tool) || tool == "pty_read_stderr" {
            continue;
        }
        arguments["client_id"] = json!("c");
        call(&mut model, tool, arguments).await;
    }
    refused(&mut model, "pty_close", json!({"session_id": id}), "input_locked").await;
    // A lease grants nothing: the owner comes first.
    let read = json!({"session_id": id, "client_id": "c", "owner": "b"});
    refused(&mut model, "pty_read", read, "unknown_id").await;
    // Handed over and taken over, with reasons that are kept.
    let give =
        json!({"session_id": id, "client_id": "c", "target_client_id": "d", "reason": "lunch"});
    call(&mut model, "pty_handoff", give).await;
    refused(
        &mut model,
        "pty_write",
        json!({"session_id": id, "client_id": "c", "data": "x"}),
        "input_locked",
    )
    .await;
    call(&mut model, "pty_write", json!({"session_id": id, "client_id": "d", "data": "x\n"})).await;
    let take = |from: &str| json!({"session_id": id, "client_id": "e", "from_client_id": from, "reason": "gone"});
    let (text, error) = model
        .call("pty_takeover", {
            let mut wrong = take("c");
            wrong["owner"] = json!("a");
            wrong
        })
        .await;
    assert!(error, "the wrong client was named: {text}");
    call(&mut model, "pty_takeover", take("d")).await;
    let text = call(&mut model, "pty_status", json!({"session_id": id, "format": "json"})).await;
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["attached_client_id"], "e", "{text}");
    assert_eq!(status["last_lease_action"], "takeover", "{text}");
    assert_eq!(status["last_lease_from"], "d");
    assert_eq!(status["last_lease_to"], "e");
    assert_eq!(status["last_lease_reason"], "gone");
    call(&mut model, "pty_detach", attach("e")).await;
    call(&mut model, "pty_write", json!({"session_id": id, "data": "free\n"})).await;
    // Another process of the same surface is held to the lease as well.
    call(&mut model, "pty_attach", attach("e")).await;
    let mut other = world.model_with(&["--scope", "pty.*"], Era::Discover).await;
    refused(&mut other, "pty_write", json!({"session_id": id, "data": "x"}), "input_locked").await;
    // A process that leaves in peace lets go at once.
    assert_eq!(model.end().await, Some(0));
    until("the lease to be gone", async || {
        let text = call(&mut other, "pty_status", json!({"session_id": id})).await;
        text.contains("\nattached_client_id: none\n").then_some(())
    })
    .await;
}

/// A process renews its leases for as long as it lives, and lets go by being silent.
#[tokio::test]
async fn a_client_that_is_killed_lets_go_when_the_time_of_its_lease_is_up() {
    let (world, mut model) = world().await;
    let id = spawn(&mut model, json!({"server": "web-1", "command": "cat"})).await;
    call(&mut model, "pty_attach", json!({"session_id": id, "client_id": "c"})).await;
    let mut other = world.model_with(&["--scope", "pty.*"], Era::Discover).await;
    let mut least = f64::MAX;
    until("the lease to be renewed", async || {
        let text = call(&mut other, "pty_status", json!({"session_id": id})).await;
        let left = text.split("left=").nth(1).expect("a lease").split('s').next();
        let left: f64 = left.expect("seconds").parse().expect("a number");
        let renewed = left > least + 5.0;
        least = least.min(left);
        renewed.then_some(())
    })
    .await;
    model.kill().await;
    refused(&mut other, "pty_write", json!({"session_id": id, "data": "x"}), "input_locked").await;
    until("the lease to be over", async || {
        let text = call(&mut other, "pty_status", json!({"session_id": id})).await;
        text.contains("\nattached_client_id: none\n").then_some(())
    })
    .await;
    call(&mut other, "pty_write", json!({"session_id": id, "data": "free\n"})).await;
    let text = call(&mut other, "pty_status", json!({"session_id": id})).await;
    assert!(text.contains("\nlast_lease_action: expired\n"), "{text}");
}

#[tokio::test]
async fn the_sessions_of_a_workspace_move_together_and_are_recovered_together() {
    let (world, mut model) = world().await;
    let with = |name: &str| json!({"server": "web-1", "command": "cat", "name": name, "backend": "tmux", "tmux_workspace": "w"});
    let first = spawn(&mut model, with("p1")).await;
    let second = spawn(&mut model, with("p2")).await;
    for id in [&first, &second] {
        call(&mut model, "pty_attach", json!({"session_id": id, "client_id": "c"})).await;
    }
    let give =
        json!({"session_id": first, "client_id": "c", "target_client_id": "d", "reason": "move"});
    call(&mut model, "pty_handoff", give).await;
    let text = call(&mut model, "pty_status", json!({"session_id": second})).await;
    assert!(text.contains("\nattached_client_id: d\n"), "{text}");
    call(&mut model, "pty_write", json!({"session_id": first, "client_id": "d", "data": "kept\n"}))
        .await;
    // The client is killed; its sessions are not.
    model.kill().await;
    let mut model = world.model_with(&["--scope", "pty.*"], Era::Discover).await;
    let text = call(&mut model, "pty_recover", json!({"name": "p1"})).await;
    assert!(text.starts_with("[open 2 recovered]"), "{text}");
    assert!(text.contains(&first) && text.contains(&second), "{text}");
    let text = call(&mut model, "pty_status", json!({"session_id": first})).await;
    assert!(text.contains("\nrecovered: true\n") && text.contains("\nrecovered_at: "), "{text}");
    // Every byte that it said is there, from the first.
    let at = json!({"session_id": first, "offset": 0});
    let text = call(&mut model, "pty_read_at", at).await;
    assert!(text.contains("kept\n"), "{text}");
    refused(&mut model, "pty_recover", json!({"name": "p3"}), "unknown_id").await;
}

#[tokio::test]
async fn dangerous_commands_need_a_token_that_fits_once() {
    let (world, mut model) = world().await;
    let victim = world.path("victim");
    std::fs::create_dir(&victim).unwrap();
    let command = format!("rm -rf {}", victim.display());
    let spawned = |token: Option<&str>| {
        let mut call = json!({"server": "web-1", "command": command, "scope": "read-write"});
        if let Some(token) = token {
            call["dangerous_confirm_token"] = json!(token);
        }
        call
    };
    let text = refused(&mut model, "pty_spawn", spawned(None), "confirmation_required").await;
    assert!(text.contains("confirm_dangerous_command"), "{text}");
    // What is typed at the start is looked at, too.
    let typed =
        json!({"server": "web-1", "command": "sh", "startup_input": format!("{command}\n")});
    refused(&mut model, "pty_spawn", typed, "confirmation_required").await;
    let confirm = json!({"command": command, "justification": "test", "scope": "read-write", "server": "web-1"});
    let token = async |model: &mut Model| {
        let text = call(model, "confirm_dangerous_command", confirm.clone()).await;
        assert!(text.contains("\nexpires_at: 20"), "{text}");
        field(&text, "token")
    };
    let wrong = token(&mut model).await;
    let mut call_for_b = spawned(Some(&wrong));
    call_for_b["owner"] = json!("b");
    refused(&mut model, "pty_spawn", call_for_b, "confirmation_required").await;
    refused(&mut model, "pty_spawn", spawned(Some(&wrong)), "confirmation_required").await;
    assert!(victim.exists());
    let good = token(&mut model).await;
    let id = spawn(&mut model, spawned(Some(&good))).await;
    let text = call(&mut model, "pty_wait", json!({"session_id": id})).await;
    assert!(text.contains(" exit=0 ") && !victim.exists(), "{text}");
    refused(&mut model, "pty_spawn", spawned(Some(&good)), "confirmation_required").await;
    let text = call(
        &mut model,
        "confirm_dangerous_command",
        json!({"command": "ls", "justification": "x"}),
    )
    .await;
    assert!(text.starts_with("[status not-dangerous"), "{text}");
    let own = ["--scope", "pty.*", "--dangerous-patterns", r"\bdeploy\b"];
    let mut model = world.model_with(&own, Era::Discover).await;
    refused(&mut model, "pty_spawn", json!({"command": "deploy now"}), "confirmation_required")
        .await;
}

#[tokio::test]
async fn directories_and_first_input_are_as_they_were_asked_for() {
    let world = World::with_server("web-1").await;
    let more = ["--scope", "pty.*", "--enable", "admin,control"];
    let mut model = world.model_with(&more, Era::Discover).await;
    let pwd = async |model: &mut Model, arguments: Value| {
        let id = spawn(model, arguments).await;
        call(model, "pty_wait", json!({"session_id": id})).await;
        call(model, "pty_read", json!({"session_id": id}))
            .await
            .lines()
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(pwd(&mut model, json!({"command": "pwd", "cwd": "/usr"})).await, "/usr");
    assert_eq!(pwd(&mut model, json!({"command": "/usr/bin/env pwd"})).await, "/usr/bin");
    call(&mut model, "pty_read", json!({"session_id": "s1"})).await;
    let (text, _) = model.call("set_default_cwd", json!({"cwd": "/tmp"})).await;
    assert!(text.contains("default_cwd: /tmp"), "{text}");
    assert_eq!(pwd(&mut model, json!({"command": "pwd"})).await, "/tmp");
    let (text, error) = model.call("set_default_cwd", json!({"cwd": "tmp"})).await;
    assert!(error, "{text}");
    let first = json!({"command": "cat", "startup_input": "hello\n", "startup_wait_ms": 2000});
    let text = call(&mut model, "pty_spawn", first).await;
    assert!(text.contains("\nhello\n"), "{text}");
}

#[tokio::test]
async fn the_optional_tools_set_limits_signal_close_and_count() {
    let world = World::with_server("web-1").await;
    let more = ["--scope", "pty.*", "--enable", "admin,control"];
    let mut model = world.model_with(&more, Era::Discover).await;
    let (text, _) =
        model.call("set_limits", json!({"max_sessions": 2, "read_timeout_ms": 50})).await;
    assert!(text.contains("max_sessions: 2\n"), "{text}");
    let first = spawn(&mut model, json!({"command": "cat"})).await;
    spawn(&mut model, json!({"command": "cat"})).await;
    refused(&mut model, "pty_spawn", json!({"command": "cat"}), "session_limit").await;
    call(&mut model, "pty_signal", json!({"session_id": first, "signal": "TERM"})).await;
    let text = call(&mut model, "pty_wait", json!({"session_id": first})).await;
    assert!(text.contains(" signal=TERM "), "{text}");
    let third = spawn(&mut model, json!({"command": "cat"})).await;
    let begun = std::time::Instant::now();
    call(&mut model, "pty_read", json!({"session_id": third})).await;
    assert!(begun.elapsed().as_millis() < 900, "the read's time was set");
    let (text, _) = model.call("get_limits", json!({})).await;
    assert!(
        text.contains("read_timeout_ms: 50\n") && text.contains("idle_timeout_sec: none\n"),
        "{text}"
    );
    let text = call(&mut model, "pty_close_all", json!({})).await;
    assert!(text.starts_with("[stop 2 of 2]"), "{text}");
    let text =
        call(&mut model, "pty_list", json!({"include_closed": true, "format": "json"})).await;
    let list: Value = serde_json::from_str(&text).unwrap();
    let states: Vec<_> = list.as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, ["exited", "exited", "exited"], "{text}");
    let (text, _) = model.call("pty_metrics", json!({})).await;
    assert!(
        text.contains("sessions_spawned: 3\n") && text.contains("sessions_open: 0\n"),
        "{text}"
    );
    let (text, _) = model.call("pty_health", json!({})).await;
    assert!(text.starts_with("[status well]\nrelay"), "{text}");
}

#[tokio::test]
async fn a_write_that_nobody_reads_comes_back_and_says_how_much_it_was() {
    let (_world, mut model) = world().await;
    let id = spawn(
        &mut model,
        json!({"server": "web-1", "command": "sh -c 'stty raw -echo; echo RAW; exec sleep 600'"}),
    )
    .await;
    call(&mut model, "pty_read_until", json!({"session_id": id, "pattern": "RAW"})).await;
    let begun = std::time::Instant::now();
    let text =
        call(&mut model, "pty_write", json!({"session_id": id, "data": "x".repeat(5 << 20)})).await;
    let written: u64 = field(&text, "written").parse().unwrap();
    assert!(written < 1 << 20, "{text}");
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
    // It is still there, and can be closed.
    let text = call(&mut model, "pty_close", json!({"session_id": id})).await;
    assert!(text.contains("signal="), "{text}");
}

#[tokio::test]
async fn a_scope_or_a_size_that_there_is_not_is_refused() {
    let world = World::with_server("web-1").await;
    let mut model = world.model_with(&["--scope", "pty.*", "--no-owner"], Era::Discover).await;
    for wrong in [
        json!({"server": "web-1", "scope": "bogus"}),
        json!({"server": "web-1", "scope": "Read-Only"}),
        json!({"server": "web-1", "cols": 10_000, "rows": 0}),
        json!({"server": "web-1", "rows": 1_001}),
    ] {
        let (text, error) = model.call("pty_spawn", wrong.clone()).await;
        assert!(error && text.starts_with("[error invalid_argument]"), "{wrong}: {text}");
    }
    let (text, _) = model.call("pty_list", json!({})).await;
    assert!(!text.contains("s1"), "nothing was opened: {text}");
}
