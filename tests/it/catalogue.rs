//! Which tools a process offers, and the category `session`: terminals that people and models
//! share.
//!
//! The scenarios of the table in `docs/using.md` are tests here, each under its name.

use farwire_tests::person::Person;
use farwire_tests::{Era, Model, World, until};
use serde_json::{Value, json};

/// The names that a client lists.
async fn listed(model: &mut Model) -> Vec<String> {
    let list = model.request("tools/list", json!({})).await;
    let tools = list["result"]["tools"].as_array().expect("a list");
    tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

/// The error of a call that no tool answers.
async fn unknown(model: &mut Model, tool: &str) -> bool {
    let answer = model.request("tools/call", json!({"name": tool, "arguments": {}})).await;
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    answer["error"]["code"] == -32602 && message == format!("unknown tool: {tool}")
}

async fn ok(model: &mut Model, tool: &str, arguments: Value) -> String {
    let (text, error) = model.call(tool, arguments.clone()).await;
    assert!(!error, "{tool} {arguments}: {text}");
    text
}

async fn refused(model: &mut Model, tool: &str, arguments: Value, kind: &str) -> String {
    let (text, error) = model.call(tool, arguments.clone()).await;
    assert!(error && text.starts_with(&format!("[error {kind}]")), "{tool} {arguments}: {text}");
    text
}

/// A client of this world that lists the category.
async fn operator(world: &World) -> Model {
    world.model_with(&["--scope", "operator"], Era::Discover).await
}

const PTY: [&str; 22] = [
    "pty_spawn",
    "pty_resume",
    "pty_recover",
    "pty_attach",
    "pty_detach",
    "pty_handoff",
    "pty_takeover",
    "pty_read",
    "pty_read_stdout",
    "pty_read_stderr",
    "pty_read_at",
    "pty_read_until",
    "pty_read_until_any",
    "pty_read_quiescent",
    "pty_prompt",
    "confirm_dangerous_command",
    "pty_write",
    "pty_resize",
    "pty_close",
    "pty_status",
    "pty_wait",
    "pty_list",
];

const OPTIONAL: [&str; 8] = [
    "pty_signal",
    "pty_close_all",
    "set_default_cwd",
    "get_default_cwd",
    "set_limits",
    "get_limits",
    "pty_metrics",
    "pty_health",
];

#[tokio::test]
async fn what_is_out_of_scope_is_not_listed_and_unknown_when_called() {
    let world = World::new().await;
    let mut model = world.model_with(&["--scope", "pty.*"], Era::Discover).await;
    assert_eq!(listed(&mut model).await, PTY);
    for tool in OPTIONAL.iter().chain(&["run", "session_watch", "tool_call", "nope"]) {
        assert!(unknown(&mut model, tool).await, "{tool}");
    }
    let all = ["--scope", "pty.*", "--enable", "control,admin"];
    let mut model = world.model_with(&all, Era::Initialize("2025-06-18")).await;
    assert_eq!(listed(&mut model).await, [&PTY[..], &OPTIONAL[..]].concat());
    let mut model = world.model_with(&["--scope", "core.run,pty.pty_read"], Era::Discover).await;
    assert_eq!(listed(&mut model).await, ["run", "pty_read"]);
    let reads = ["--scope", "*", "--read-only", "--enable", "control,admin"];
    let mut model = world.model_with(&reads, Era::Discover).await;
    let list = model.request("tools/list", json!({})).await;
    for tool in list["result"]["tools"].as_array().unwrap() {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
    }
    assert!(unknown(&mut model, "run").await && unknown(&mut model, "tool_call").await);
    for wrong in [&["--scope", "nope"][..], &["--scope", "pty.pty_signal"], &["--enable", "nope"]] {
        let done = world.farwire(&[&["mcp", "serve"], wrong].concat()).await;
        assert_eq!(done.code, 64, "{wrong:?}: {done:?}");
    }
}

#[tokio::test]
async fn both_eras_and_every_process_list_the_same() {
    let world = World::new().await;
    let mut lists = Vec::new();
    for era in [Era::Discover, Era::Initialize("2025-11-25"), Era::Initialize("2024-11-05")] {
        let mut model = world.model_with(&["--scope", "*"], era).await;
        let list = model.request("tools/list", json!({})).await;
        lists.push(list["result"]["tools"].clone());
    }
    assert!(lists.windows(2).all(|two| two[0] == two[1]));
    // What the reference tells of is what is there.
    let reference =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/tools.md"));
    let reference = reference.unwrap();
    for tool in lists[0].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        assert!(reference.contains(&format!("\n### `{name}`: ")), "{name}");
    }
}

#[tokio::test]
async fn a_profile_is_the_list_that_is_written_down() {
    let world = World::new().await;
    let reference =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/tools.md"));
    let reference = reference.unwrap();
    for (name, has, lacks) in [
        ("reporting", "pty_read_at", "run"),
        ("terminals", "pty_spawn", "run"),
        ("operator", "session_history", "pty_spawn"),
        ("full", "session_retry", "pty_signal"),
    ] {
        let line =
            reference.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
        let scope = line.split('|').nth(3).unwrap().replace(' ', "");
        let mut profile = world.model_with(&["--scope", name], Era::Discover).await;
        let mut written = world.model_with(&["--scope", &scope], Era::Discover).await;
        let names = listed(&mut profile).await;
        assert_eq!(names, listed(&mut written).await, "{name}");
        assert!(names.iter().any(|one| one == has), "{name}: {names:?}");
        assert!(names.iter().all(|one| one != lacks), "{name}: {names:?}");
        assert!(unknown(&mut profile, lacks).await);
    }
}

#[tokio::test]
async fn tools_that_are_not_listed_are_found_and_called_and_others_are_not() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let text = ok(&mut model, "tool_find", json!({"query": "wait until a pattern appears"})).await;
    assert!(text.starts_with("[tools ") && text.contains("\npty_read_until: "), "{text}");
    let text = ok(&mut model, "tool_find", json!({"query": "pty_write"})).await;
    assert!(
        text.contains("\npty_write: ") && text.contains("\n  session_id (string, required): "),
        "{text}"
    );
    assert!(!text.contains("pty_read:"), "{text}");
    let text = ok(&mut model, "tool_find", json!({"category": "session"})).await;
    assert!(text.contains("\njob_wait: ") && !text.contains("\npty_"), "{text}");
    refused(&mut model, "tool_find", json!({"category": "nope"}), "invalid_argument").await;
    let spawn = json!({"name": "pty_spawn", "arguments": {"command": "cat", "owner": "a"}});
    let text = ok(&mut model, "tool_call", spawn).await;
    assert!(text.starts_with("[session s1 "), "{text}");
    let wrong = json!({"name": "pty_spawn", "arguments": {"comand": "cat"}});
    let text = refused(&mut model, "tool_call", wrong, "invalid_argument").await;
    assert!(text.contains("comand"), "{text}");
    assert!(unknown(&mut model, "pty_spawn").await, "it is found, and not listed");
    for name in ["pty_signal", "set_limits", "tool_call", "tool_find", "nope"] {
        let call = json!({"name": name, "arguments": {}});
        let text = refused(&mut model, "tool_call", call, "invalid_argument").await;
        assert!(text.contains(&format!("unknown tool: {name}")), "{text}");
    }
    let mut model = world.model_with(&["--catalog", "pty.pty_list"], Era::Discover).await;
    let text = ok(&mut model, "tool_find", json!({})).await;
    assert!(text.starts_with("[tools 1 of 1 "), "{text}");
    let call = json!({"name": "pty_spawn", "arguments": {}});
    refused(&mut model, "tool_call", call, "invalid_argument").await;
}

#[tokio::test]
async fn a_flaky_command_is_tried_until_it_succeeds() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    let count = world.path("count");
    let flaky =
        format!("echo x >> {0}; test $(wc -l < {0}) -ge 3 && echo made it", count.display());
    let begun = std::time::Instant::now();
    let retry =
        json!({"command": flaky, "max_attempts": 5, "backoff": "exponential", "delay": 0.2});
    let text = ok(&mut model, "session_retry", retry).await;
    assert!(text.starts_with("[status retry attempts=3 reason=success]\n"), "{text}");
    assert!(text.contains("attempt 1: exit=1") && text.ends_with("made it\n"), "{text}");
    assert!(begun.elapsed().as_millis() >= 600, "0.2 s and 0.4 s lie between");
    let fails =
        json!({"command": "echo ERROR", "fail_pattern": "ERR", "max_attempts": 2, "delay": 0});
    let text = ok(&mut model, "session_retry", fails).await;
    assert!(text.starts_with("[status retry attempts=2 reason=attempts]"), "{text}");
    let matched = json!({"command": "echo fine; exit 9", "success_pattern": "^fine$"});
    let text = ok(&mut model, "session_retry", matched).await;
    assert!(text.contains("attempts=1 reason=success"), "{text}");
    let slow = json!({"command": "sleep 60", "max_attempts": 1, "timeout": 0.3});
    let text = ok(&mut model, "session_retry", slow).await;
    assert!(text.contains("signal=KILL") && text.contains("reason=attempts"), "{text}");
    ok(&mut model, "session_connect", json!({"name": "r"})).await;
    std::fs::remove_file(&count).unwrap();
    let typed = json!({"command": flaky, "session": "web-1/r", "delay": 0});
    let text = ok(&mut model, "session_retry", typed).await;
    assert!(text.contains("attempts=3 reason=success") && text.contains("made it"), "{text}");
}

#[tokio::test]
async fn one_call_waits_for_all_of_several_jobs_or_for_any() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    let gates: Vec<_> = (0..3).map(|at| world.path(&format!("gate{at}"))).collect();
    for (at, gate) in gates.iter().enumerate() {
        let command = format!("until [ -e {} ]; do sleep 0.05; done; exit {at}", gate.display());
        ok(&mut model, "run", json!({"server": "web-1", "command": command, "wait": 0})).await;
    }
    let ids = json!(["r1", "r2", "r3"]);
    let text = ok(&mut model, "job_wait", json!({"ids": ids, "timeout": 0.2})).await;
    assert!(text.starts_with("[status 0 of 3 ended next=job_wait("), "{text}");
    let any = json!({"ids": ids, "mode": "any", "timeout": 40});
    let asked = model.send("tools/call", json!({"name": "job_wait", "arguments": any})).await;
    std::fs::write(&gates[1], "").unwrap();
    let (text, _) = farwire_tests::model::text_of(&model.answer(asked).await);
    assert!(text.starts_with("[status 1 of 3 ended]"), "{text}");
    assert!(text.contains("r2  web-1  exit=1") && text.contains("r1  web-1  running"), "{text}");
    let all = json!({"ids": ids, "timeout": 40});
    let asked = model.send("tools/call", json!({"name": "job_wait", "arguments": all})).await;
    std::fs::write(&gates[0], "").unwrap();
    std::fs::write(&gates[2], "").unwrap();
    let (text, _) = farwire_tests::model::text_of(&model.answer(asked).await);
    assert!(text.starts_with("[status 3 of 3 ended]"), "{text}");
    refused(&mut model, "job_wait", json!({"ids": ["r99"]}), "unknown_id").await;
    refused(&mut model, "job_wait", json!({"ids": []}), "invalid_argument").await;
}

#[tokio::test]
async fn known_slow_commands_yield_at_once() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    let begun = std::time::Instant::now();
    let slow = json!({"server": "web-1", "command": "apt-get() { sleep 600; }; apt-get install x"});
    let text = ok(&mut model, "run", slow).await;
    assert!(text.starts_with("[run r1 running ") && begun.elapsed().as_secs() < 8, "{text}");
    ok(&mut model, "stop", json!({"id": "r1"})).await;
}

#[tokio::test]
async fn commands_of_a_session_are_known_by_number() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    ok(&mut model, "session_connect", json!({})).await;
    for line in ["echo one", "cd /tmp", "(exit 7)", "seq 1 3"] {
        ok(&mut model, "session_send", json!({"id": "s1", "text": line})).await;
    }
    let gate = world.path("gate");
    let line =
        format!("until [ -e {} ]; do sleep 0.05; done; echo through; (exit 5)", gate.display());
    ok(&mut model, "session_send", json!({"id": "s1", "text": line, "wait": 0.3})).await;
    let text = ok(&mut model, "session_commands", json!({})).await;
    let rows: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(rows.len(), 5, "{text}");
    for (row, (exit, said)) in rows.iter().zip([
        ("exit=0", "echo one"),
        ("exit=0", "cd /tmp"),
        ("exit=7", "(exit 7)"),
        ("exit=0", "seq 1 3"),
        // What was typed is told by bash at its end.
        ("running", "/tmp"),
    ]) {
        assert!(row.contains(exit) && row.contains(said), "{text}");
    }
    let text = ok(&mut model, "session_command_status", json!({"number": 4})).await;
    assert!(text.starts_with("[session s1 exit=0 command=4 "), "{text}");
    assert!(text.ends_with("\n$ seq 1 3\n1\n2\n3\n"), "{text}");
    let text = ok(&mut model, "session_command_status", json!({})).await;
    assert!(
        text.starts_with("[session s1 running command=5 ") && text.contains("wait=25"),
        "{text}"
    );
    let wait = json!({"number": 5, "wait": 30});
    let asked = model
        .send("tools/call", json!({"name": "session_command_status", "arguments": wait}))
        .await;
    std::fs::write(&gate, "").unwrap();
    let (text, _) = farwire_tests::model::text_of(&model.answer(asked).await);
    assert!(
        text.starts_with("[session s1 exit=5 command=5 ") && text.ends_with("\nthrough\n"),
        "{text}"
    );
    refused(&mut model, "session_command_status", json!({"number": 99}), "unknown_id").await;
}

#[tokio::test]
async fn keys_have_names_and_a_wrong_one_is_said() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    ok(&mut model, "session_connect", json!({})).await;
    ok(&mut model, "session_send", json!({"id": "s1", "text": "sleep 600", "wait": 0.3})).await;
    let text = ok(&mut model, "session_control", json!({"keys": ["ctrl_c"]})).await;
    assert!(text.starts_with("[session s1 state=prompt"), "{text}");
    ok(&mut model, "session_send", json!({"id": "s1", "text": "echo from-history"})).await;
    let text = ok(&mut model, "session_control", json!({"keys": ["up", "enter"]})).await;
    assert!(text.contains("exit=0") && text.ends_with("from-history\n"), "{text}");
    refused(&mut model, "session_control", json!({"keys": ["hyper-q"]}), "invalid_argument").await;
    refused(&mut model, "session_control", json!({"keys": []}), "invalid_argument").await;
    let text = ok(&mut model, "session_resize", json!({"cols": 77, "rows": 22})).await;
    assert!(text.contains("size=77x22"), "{text}");
    let text = ok(&mut model, "session_send", json!({"id": "s1", "text": "stty size"})).await;
    assert!(text.ends_with("\n22 77\n"), "{text}");
}

#[tokio::test]
async fn a_watch_ends_at_output_or_at_an_event_whichever_is_first() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    let mut other = operator(&world).await;
    ok(&mut model, "session_connect", json!({})).await;
    let gate = world.path("gate");
    let line = format!("until [ -e {} ]; do sleep 0.05; done; echo out-it-is", gate.display());
    ok(&mut model, "session_send", json!({"id": "s1", "text": line, "wait": 0.3})).await;
    let begun = std::time::Instant::now();
    let text = ok(&mut model, "session_watch", json!({"wait": 0.4})).await;
    assert!(begun.elapsed().as_millis() >= 400 && text.lines().count() == 1, "{text}");
    let next = |text: &str, name: &str| -> u64 {
        let call = text.lines().next().unwrap().split("next=session_watch(").nth(1).unwrap();
        call.split(&format!("{name}="))
            .nth(1)
            .unwrap()
            .split([',', ')'])
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let again = json!({"offset": next(&text, "offset"), "event": next(&text, "event"), "wait": 40});
    let asked =
        model.send("tools/call", json!({"name": "session_watch", "arguments": again})).await;
    ok(&mut other, "session_resize", json!({"cols": 99, "rows": 33})).await;
    let (text, _) = farwire_tests::model::text_of(&model.answer(asked).await);
    assert!(text.contains("resized it to 99x33"), "{text}");
    let again = json!({"offset": next(&text, "offset"), "event": next(&text, "event"), "wait": 40});
    let asked =
        model.send("tools/call", json!({"name": "session_watch", "arguments": again})).await;
    std::fs::write(&gate, "").unwrap();
    let (text, _) = farwire_tests::model::text_of(&model.answer(asked).await);
    assert!(text.contains("out-it-is"), "{text}");
}

#[tokio::test]
async fn history_has_output_input_and_events_under_numbers_that_stay() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    ok(&mut model, "session_connect", json!({})).await;
    ok(&mut model, "session_send", json!({"id": "s1", "text": "seq 1 40"})).await;
    ok(&mut model, "session_resize", json!({"cols": 90, "rows": 30})).await;
    let first = ok(&mut model, "session_history", json!({"line": 1, "max": 500})).await;
    assert!(first.contains(" typed \"seq 1 40⏎\"") && first.contains(" out 17\n"), "{first}");
    assert!(first.contains("resized it to 90x30") && first.contains("opened it"), "{first}");
    let numbers: Vec<u64> = first
        .lines()
        .skip(1)
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{first}");
    ok(&mut model, "session_send", json!({"id": "s1", "text": "echo later"})).await;
    // Wherever one begins, a number is the same line; only the last had no end then, and went on.
    let whole: Vec<_> = first.lines().skip(1).collect();
    let open = whole.iter().rposition(|line| line.contains(" out ")).unwrap();
    for (line, max) in [(1, 7), (10, 5), (13, 20), (39, 6)] {
        let part = ok(&mut model, "session_history", json!({"line": line, "max": max})).await;
        for (at, (one, other)) in (line - 1..).zip(part.lines().skip(1).zip(&whole[line - 1..])) {
            assert!(at == open || one == *other, "from {line}: {one} and {other}");
        }
    }
    let last = ok(&mut model, "session_history", json!({"max": 6})).await;
    assert!(last.contains("later"), "{last}");
    // What a password prompt got is counted and not kept.
    ok(&mut model, "session_send", json!({"id": "s1", "text": "read -r -s X"})).await;
    ok(&mut model, "session_send", json!({"id": "s1", "text": "hunter2"})).await;
    let last = ok(&mut model, "session_history", json!({})).await;
    assert!(last.contains("bytes that were not shown") && !last.contains("hunter2"), "{last}");
}

// Scenarios, by the names under which they are known.

/// `single-device-default-connection`
#[tokio::test]
async fn single_device_default_connection() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    let text = ok(&mut model, "session_connect", json!({})).await;
    assert!(text.contains("server=web-1 name=main reused=false"), "{text}");
    let text = ok(&mut model, "session_connect", json!({})).await;
    assert!(text.starts_with("[session s1 ") && text.contains("reused=true"), "{text}");
    ok(&mut model, "session_send", json!({"id": "s1", "text": "echo default"})).await;
    let text = ok(&mut model, "session_command_status", json!({})).await;
    assert!(text.contains("\n$ echo default\n"), "nothing had to be named: {text}");
}

/// `dual-device-single-instance-switch`
#[tokio::test]
async fn dual_device_single_instance_switch() {
    let mut world = World::with_server("web-1").await;
    world.enroll("web-2").await;
    world.start_agent("web-2").await;
    let mut model = operator(&world).await;
    let text = refused(&mut model, "session_connect", json!({}), "ambiguous_server").await;
    assert!(text.contains("web-1") && text.contains("web-2"), "{text}");
    for server in ["web-1", "web-2"] {
        ok(&mut model, "session_set_active", json!({"server": server})).await;
        let text = ok(&mut model, "session_connect", json!({})).await;
        assert!(text.contains(&format!("server={server} ")), "{text}");
        ok(&mut model, "session_control", json!({"keys": ["enter"]})).await;
        let text = ok(&mut model, "session_diagnostics", json!({})).await;
        assert!(text.contains(&format!("\nsession: {server}/main\n")), "{text}");
    }
}

/// `single-device-multi-connection-selection`
#[tokio::test]
async fn single_device_multi_connection_selection() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    for name in ["main", "db"] {
        ok(&mut model, "session_connect", json!({"name": name})).await;
        let id = if name == "main" { "s1" } else { "s2" };
        ok(&mut model, "session_send", json!({"id": id, "text": format!("X=in-{name}")})).await;
    }
    for name in ["main", "db"] {
        ok(&mut model, "session_set_active", json!({"session": format!("web-1/{name}")})).await;
        let retry = json!({"command": "echo $X", "session": format!("web-1/{name}")});
        let text = ok(&mut model, "session_retry", retry).await;
        assert!(text.contains(&format!("in-{name}")), "{text}");
        let text = ok(&mut model, "session_list", json!({})).await;
        let active = text.lines().find(|line| line.contains('*')).unwrap();
        assert!(active.contains(&format!("web-1/{name}")), "{text}");
    }
}

/// `multi-ai-multi-instance-isolation`
#[tokio::test]
async fn multi_ai_multi_instance_isolation() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    ok(&mut model, "session_connect", json!({"active": true})).await;
    // Another installation has its own servers, ids and default: it knows of none of it.
    let url = world.invite().await;
    let made =
        world.device("other", &["init", "--relay", "-", "--name", "b"], url.as_bytes()).await;
    assert_eq!(made.code, 0, "{made:?}");
    let command = world.device_command("other", &["mcp", "serve", "--scope", "operator"]);
    let mut other = Model::start(command, Era::Discover).await;
    let text = ok(&mut other, "session_list", json!({})).await;
    assert!(text.starts_with("[open 0 sessions]"), "{text}");
    refused(&mut other, "session_diagnostics", json!({"session": "s1"}), "unknown_id").await;
    refused(&mut other, "session_diagnostics", json!({}), "unknown_id").await;
    // One installation shares its default between the processes of all its clients.
    let mut same = operator(&world).await;
    let text = ok(&mut same, "session_list", json!({})).await;
    assert!(text.contains("\ns1*"), "{text}");
}

/// `runtime-state-cleanup-on-exit`
#[tokio::test]
async fn runtime_state_cleanup_on_exit() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    ok(&mut model, "session_connect", json!({"active": true})).await;
    let before: Vec<_> = files(&world.path("bridge"));
    let pid = model.pid();
    assert_eq!(model.end().await, Some(0));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(farwire_tests::world::children(pid).is_empty());
    assert_eq!(files(&world.path("bridge")), before, "a process leaves no file of its own");
    let mut model = operator(&world).await;
    let text = ok(&mut model, "session_close", json!({"session": "s1"})).await;
    assert!(
        text.starts_with("[session s1 signal=HUP") || text.starts_with("[session s1 exit="),
        "{text}"
    );
    let text = ok(&mut model, "session_set_active", json!({})).await;
    assert_eq!(text, "[status active=none]\n");
    refused(&mut model, "session_diagnostics", json!({}), "unknown_id").await;
}

fn files(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// `input-lock-user-blocks-agent`
#[tokio::test]
async fn input_lock_user_blocks_agent() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    ok(&mut model, "session_connect", json!({"name": "shared"})).await;
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1/shared", "--take"]));
    person.types("echo person-was-here\r").await;
    person.sees("person-was-here").await;
    let typed = json!({"id": "s1", "text": "echo model"});
    until("the person to have the lease", async || {
        let text = ok(&mut model, "session_diagnostics", json!({})).await;
        text.contains("\nmay type: no\n").then_some(())
    })
    .await;
    refused(&mut model, "session_send", typed.clone(), "input_locked").await;
    refused(&mut model, "session_control", json!({"keys": ["enter"]}), "input_locked").await;
    person.types("\x1d").await;
    assert!(person.ended().await.is_ok_and(|status| status.success()));
    until("the agent to have seen the person leave", async || {
        let text = ok(&mut model, "session_diagnostics", json!({})).await;
        text.contains("\nmay type: yes\n").then_some(())
    })
    .await;
    let text = ok(&mut model, "session_send", typed).await;
    assert!(text.ends_with("\nmodel\n"), "{text}");
}

/// `ambiguous-active-session-blocks-default-targeting`
#[tokio::test]
async fn ambiguous_active_session_blocks_default_targeting() {
    let world = World::with_server("web-1").await;
    let mut model = operator(&world).await;
    refused(&mut model, "session_control", json!({"keys": ["enter"]}), "unknown_id").await;
    for name in ["a", "b"] {
        ok(&mut model, "session_connect", json!({"name": name})).await;
    }
    for (tool, arguments) in [
        ("session_control", json!({"keys": ["enter"]})),
        ("session_watch", json!({})),
        ("session_history", json!({})),
        ("session_diagnostics", json!({})),
        ("session_resize", json!({"cols": 80, "rows": 24})),
        ("session_commands", json!({})),
        ("session_command_status", json!({})),
    ] {
        let text = refused(&mut model, tool, arguments, "ambiguous_session").await;
        assert!(text.contains("s1 (web-1/a, ") && text.contains("s2 (web-1/b, "), "{text}");
    }
    ok(&mut model, "session_set_active", json!({"session": "s2"})).await;
    let text = ok(&mut model, "session_diagnostics", json!({})).await;
    assert!(text.contains("\nsession: web-1/b\n"), "{text}");
    // What was chosen has ended: the only one that is left is meant.
    ok(&mut model, "session_close", json!({"session": "s2"})).await;
    let text = ok(&mut model, "session_diagnostics", json!({})).await;
    assert!(text.contains("\nsession: web-1/a\n"), "{text}");
}

#[tokio::test]
async fn signals_that_do_not_end_a_program_are_sent_by_no_tool_without_the_group_that_has_them() {
    let world = World::with_server("web-1").await;
    let mut model = world.model_with(&["--scope", "*"], Era::Discover).await;
    let line = "trap 'echo caught' USR1; echo ready; while :; do sleep 0.1; done";
    model.call("session_open", json!({"server": "web-1", "command": line})).await;
    let run = json!({"server": "web-1", "command": line, "wait": 1.0});
    let (text, _) = model.call("run", run).await;
    assert!(text.starts_with("[run r2 running"), "{text}");
    for id in ["s1", "r2"] {
        for signal in ["USR1", "SIGSTOP", "10", "WINCH"] {
            let (text, error) = model.call("stop", json!({"id": id, "signal": signal})).await;
            assert!(error && text.starts_with("[error not_granted]"), "{signal}: {text}");
            assert!(text.contains("--enable control"), "{text}");
        }
    }
    let more = ["--scope", "*", "--enable", "control"];
    let mut trusted = world.model_with(&more, Era::Discover).await;
    for id in ["s1", "r2"] {
        let (text, error) = trusted.call("stop", json!({"id": id, "signal": "USR1"})).await;
        assert!(!error, "{text}");
        until("the program to hear of it", async || {
            let (text, _) = trusted.call("output", json!({"id": id, "view": "tail"})).await;
            text.contains("caught").then_some(())
        })
        .await;
        let (text, error) = model.call("stop", json!({"id": id, "signal": "KILL"})).await;
        assert!(!error, "{text}");
    }
}
