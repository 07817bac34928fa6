//! The category `pty`: terminals by the names and with the rules of a PTY server.

use farwire_tests::{Era, Model, World};
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
}

#[tokio::test]
async fn dangerous_commands_need_a_token_that_fits_once() {
    let (world, mut model) = world().await;
    let victim = world.path("victim");
    std::fs::create_dir(&victim).unwrap();
    let command = format!("rm -rf {}", victim.display());
    let spawned = |token: Option<&str>| {
        let mut call = json!({"server": "web-1", "command": command, "scope": "admin"});
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
    let confirm =
        json!({"command": command, "justification": "test", "scope": "admin", "server": "web-1"});
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
