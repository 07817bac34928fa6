//! `farwire setup CLIENT --verify`, against servers that a shell plays.
//!
//! The entry starts a link to the shell with the arguments `mcp serve …`, so the shell reads its
//! script from the file `mcp` in the directory where the client is started.

use std::time::Duration;

use expect_test::expect;

use super::*;

/// Answers each request whose method it knows.
const SERVER: &str = r#"
while read -r line; do
    id=${line##*'"id":'}; id=${id%%[,\}]*}
    case $line in
        *'"initialize"'*) answer='"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"farwire","version":"9"}}' ;;
        *'"tools/list"'*cursor*) answer='"result":{"tools":[{"name":"output"},{"name":"stop"}]}' ;;
        *'"tools/list"'*) answer='"result":{"tools":[{"name":"servers"},{"name":"status"},{"name":"run"}],"nextCursor":"2"}' ;;
        *'"server/discover"'*) discover ;;
        *) continue ;;
    esac
    echo '{"jsonrpc":"2.0","id":'$id','"$answer"'}'
done
"#;

const MODERN: &str = r#"discover() { answer='"result":{"supportedVersions":["2026-07-28"],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"farwire","version":"9"}}}'; }"#;

const NOT_MODERN: &str = r#"discover() { answer='"error":{"code":-32601,"message":"no"}'; }"#;

/// A world in which our program is a shell that runs `script`.
fn world(script: &str) -> World {
    let mut world = World::new();
    let exe = world.directory.path().join("farwire");
    std::os::unix::fs::symlink("/bin/sh", &exe).unwrap();
    fs::write(world.context.cwd.join("mcp"), script).unwrap();
    world.context.exe = exe;
    world
}

fn verified(world: &World, client: &str) -> Verified {
    world.setup(&format!("{client} --verify")).verify.unwrap()
}

fn check_problem(script: &str, expected: Expect) {
    let world = world(script);
    let problem = verified(&world, "codex").problem.expect("a problem");
    expected.assert_eq(&format!(
        "{}: {}\n{}",
        problem.kind,
        problem.message,
        problem.stderr.unwrap_or_default()
    ));
}

#[test]
fn a_server_that_works() {
    let world = world(&format!("{NOT_MODERN}\n{SERVER}"));
    for (client, protocol) in [("codex", "2025-06-18"), ("claude", "2025-06-18")] {
        let report = world.setup(&format!("{client} --verify"));
        assert_eq!((report.status, report.failure()), (SetupStatus::Installed, None));
        let verified = report.verify.unwrap();
        assert!(verified.ok && verified.start_ms.is_some());
        assert_eq!(verified.protocol.as_deref(), Some(protocol));
        assert_eq!(verified.server.as_deref(), Some("farwire 9"));
        assert_eq!(verified.tools, ["servers", "status", "run", "output", "stop"]);
    }
}

#[test]
fn claude_needs_no_initialize_where_the_server_is_modern() {
    let world = world(&format!("{MODERN}\n{}", SERVER.replace("\"initialize\"", "never")));
    assert_eq!(verified(&world, "claude").protocol.as_deref(), Some("2026-07-28"));
}

#[test]
fn a_server_may_ask_and_tell_in_between() {
    let chatter = r#"
        read -r hello
        echo
        echo '{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
        echo '{"jsonrpc":"2.0","id":"a","method":"roots/list"}'
        echo '{"jsonrpc":"2.0","id":"b","method":"ping"}'
        read -r roots
        read -r pong
        case $roots$pong in *'"error":{'*'"id":"a"'*'"id":"b"'*'"result":{}'*) ;; *) exit 9 ;; esac
        echo '{"jsonrpc":"2.0","id":77,"result":{}}'
        echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2024-11-05"}}'
    "#;
    let world = world(&format!("{chatter}\n{SERVER}"));
    let verified = verified(&world, "codex");
    assert!(verified.ok, "{verified:?}");
    assert_eq!(verified.protocol.as_deref(), Some("2024-11-05"));
}

#[test]
fn a_server_that_ends_at_once() {
    check_problem(
        "echo 'no identity yet' >&2; exit 3",
        expect![[r#"
            exec_failed: it ended with exit status 3 before it answered `initialize`
            no identity yet"#]],
    );
    check_problem(
        "kill -9 $$",
        expect![[r#"
            exec_failed: it was ended by signal KILL before it answered `initialize`
        "#]],
    );
}

#[test]
fn a_server_that_closes_its_output_and_stays() {
    check_problem(
        "exec >&-; read line; read line",
        expect![[r#"
            exec_failed: it closed its standard output before it answered `initialize`
        "#]],
    );
}

#[test]
fn a_server_that_writes_something_else_to_standard_output() {
    check_problem(
        "printf 'Welcome!\\033[31m\\n'; read line",
        expect![[r#"
            protocol_violation: it wrote something that is not MCP to standard output: `Welcome!\u{1b}[31m`
        "#]],
    );
    check_problem(
        "echo '{\"id\":1}'; read line",
        expect![[r#"
            protocol_violation: it wrote something that is not MCP to standard output: `{"id":1}`
        "#]],
    );
    check_problem(
        "echo '{\"jsonrpc\":\"2.0\",\"id\":1}'; read line",
        expect![[r#"
            protocol_violation: it wrote something that is not MCP to standard output: `{"id":1,"jsonrpc":"2.0"}`
        "#]],
    );
}

#[test]
fn a_server_that_refuses() {
    check_problem(
        r#"echo '{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"not today"}}'; read line"#,
        expect![[r#"
            protocol_violation: it refused `initialize`: not today
        "#]],
    );
    check_problem(
        r#"echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2099-01-01"}}'; read line"#,
        expect![[r#"
            incompatible_version: it answers `initialize` with revision `2099-01-01`, but the client supports `2025-06-18`
        "#]],
    );
}

#[test]
fn a_tool_that_is_missing_is_named() {
    check_problem(
        &format!("{NOT_MODERN}\n{}", SERVER.replace("{\"name\":\"output\"},", "")),
        expect![[r#"
            incompatible_version: it does not offer the tools `output`
        "#]],
    );
}

#[test]
fn a_list_without_end_and_a_line_without_end_are_bounded() {
    let endless =
        SERVER.replace("{\"name\":\"output\"},{\"name\":\"stop\"}]}", "],\"nextCursor\":\"2\"}");
    check_problem(
        &format!("{NOT_MODERN}\n{endless}"),
        expect![[r#"
            protocol_violation: its list of tools has no end
        "#]],
    );
    check_problem(
        "exec cat /dev/zero",
        expect![[r#"
            too_large: it wrote a line without end
        "#]],
    );
}

/// Checks a launch directly, within `limit`.
fn check_launch(entry: &Value, limit: Duration) -> Problem {
    let world = World::new();
    let launch = super::super::claude::Claude.launch(entry, &world.context).unwrap();
    let problem = super::super::verify::check(&launch, &["run"], limit).problem;
    problem.expect("a problem")
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let entry = serde_json::json!({"command": "/bin/sh", "args": ["-c", "echo busy >&2; trap '' TERM; while :; do read x || exec sleep 1000; done"]});
    let problem = check_launch(&entry, Duration::from_millis(300));
    assert_eq!(problem.kind, Kind::TimedOut);
    assert_eq!(problem.message, "it did not answer `server/discover` within 300ms");
    assert_eq!(problem.stderr.as_deref(), Some("busy"));
}

#[test]
fn a_server_that_never_stops_talking_is_not_listened_to_for_ever() {
    let entry = serde_json::json!({"command": "/bin/sh", "args": ["-c", r#"while :; do echo '{"jsonrpc":"2.0","method":"x"}'; done"#]});
    assert_eq!(check_launch(&entry, Duration::from_millis(300)).kind, Kind::TimedOut);
}

#[test]
fn nothing_of_the_server_is_left() {
    let world = World::new();
    let file = world.home("pid");
    let script = format!("sleep 1000 & echo $! > '{}'; echo x; wait", file.display());
    let entry = serde_json::json!({"command": "/bin/sh", "args": ["-c", script]});
    check_launch(&entry, Duration::from_secs(10));
    let pid = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    // Killed means gone or not yet waited for by whoever inherited it.
    let gone = || match fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => rustix::process::test_kill_process(pid).is_err(),
    };
    while !gone() {
        assert!(std::time::Instant::now() < until, "it lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_command_that_cannot_be_started_is_described() {
    let message = |command: &str| {
        let problem =
            check_launch(&serde_json::json!({ "command": command }), Duration::from_secs(10));
        assert_eq!(problem.kind, Kind::ExecFailed);
        problem.message
    };
    assert_eq!(message("/nowhere/farwire"), "`/nowhere/farwire` does not exist");
    assert_eq!(message("farwire-nowhere"), "`farwire-nowhere` is not on the client's PATH");
    assert_eq!(message("/etc/passwd"), "`/etc/passwd` is not executable");
}

#[test]
fn an_entry_that_is_there_is_tried_as_it_is() {
    let world =
        World::with(".codex/config.toml", "[mcp_servers.farwire]\ncommand = \"/gone/farwire\"\n");
    let before = world.snapshot();
    world.check(
        "codex --verify",
        expect![[r#"
            codex: outdated in /home/.codex/config.toml
            codex: does not work: `/gone/farwire` does not exist
            error[exec_failed]: codex: `/gone/farwire` does not exist
            hint: `farwire setup codex` repairs the entry
        "#]],
    );
    assert_eq!(world.snapshot(), before, "verifying is not repairing");
}

#[test]
fn an_entry_that_is_switched_off_is_not_started() {
    let world = World::with(
        ".codex/config.toml",
        "[mcp_servers.farwire]\ncommand = \"/gone/farwire\"\nenabled = false\n",
    );
    let problem = verified(&world, "codex").problem.unwrap();
    assert_eq!(problem.message, "the entry is disabled: `enabled = false`");
}

#[test]
fn codex_passes_on_little_and_claude_everything() {
    for (client, seen) in [("codex", "home x"), ("claude", "home y")] {
        let mut world = world("echo $FARWIRE_HOME $FROM_ENTRY $SECRET >&2");
        let env = [("FARWIRE_HOME", "home"), ("SECRET", "y"), ("FROM_ENTRY", "")];
        world.context.env.extend(env.map(|(key, value)| (key.into(), value.into())));
        world.setup(client);
        if client == "codex" {
            let file = world.home(".codex/config.toml");
            let text = fs::read_to_string(&file).unwrap()
                + "\n[mcp_servers.farwire.env]\nFROM_ENTRY = \"x\"\n";
            fs::write(file, text).unwrap();
        }
        let problem = verified(&world, client).problem.unwrap();
        assert_eq!(problem.stderr.as_deref(), Some(seen));
    }
}
