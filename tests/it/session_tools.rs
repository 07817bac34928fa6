//! What a model sees of a session besides its screen: pictures, its log, exact commands; and
//! secrets that it never sees.

use farwire_tests::model::text_of;
use farwire_tests::{Era, World};
use serde_json::json;

#[tokio::test]
async fn a_screen_comes_as_a_picture_and_as_nothing_else() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    let line = "clear; printf '\\033[41mred\\033[m 井 ╔═╗\\n'";
    model.call("session_send", json!({"id": "s1", "text": line})).await;
    let call = json!({"name": "output", "arguments": {"id": "s1", "view": "png"}});
    let answer = model.request("tools/call", call).await;
    let (text, error) = text_of(&answer);
    assert!(!error && text.starts_with("[session s1 state=prompt cursor="), "{text}");
    assert!(text.contains(" size=120x40]"), "{text}");
    let content = answer["result"]["content"].as_array().unwrap();
    assert_eq!((content.len(), &content[1]["mimeType"]), (2, &"image/png".into()));
    assert!(answer["result"]["structuredContent"].is_null(), "{answer}");
    let png =
        data_encoding::BASE64.decode(content[1]["data"].as_str().unwrap().as_bytes()).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() < 32 << 10, "{} bytes", png.len());
    let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!((size(16), size(20)), (120 * 8, 40 * 16));
    let (text, error) = model.call("run", json!({"server": "web-1", "command": "true"})).await;
    assert!(!error, "{text}");
    let (text, error) = model.call("output", json!({"id": "r2", "view": "png"})).await;
    assert!(error && text.starts_with("[error invalid_argument]"), "{text}");
}

#[tokio::test]
async fn a_line_far_back_is_found_with_what_is_around_it() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    let line = "echo first; echo here-it-$((40 + 2)); seq 1000000 | tail -n 300000; echo last";
    let (text, _) = model
        .call("session_send", json!({"id": "s1", "text": line, "wait": 45.0, "max_output": 400}))
        .await;
    assert!(text.contains("state=prompt exit=0"), "{text}");
    let mut look = async |more: serde_json::Value| {
        let mut call = more;
        call["id"] = json!("s1");
        model.call("output", call).await.0
    };
    let text = look(json!({"view": "grep", "pattern": "^here-it-42", "context": 1})).await;
    assert!(text.contains(" matches=1"), "{text}");
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert!(lines.len() == 3 && lines[0].ends_with("- first"), "{text}");
    assert!(lines[1].ends_with(": here-it-42") && lines[2].ends_with("- 700001"), "{text}");
    let text = look(json!({"view": "grep", "pattern": "^99999[89]\r?$"})).await;
    assert!(text.contains(" matches=2") && text.lines().count() == 3, "{text}");
    let number: u64 = lines[1].split(':').next().unwrap().parse().unwrap();
    let text = look(json!({"view": "range", "offset": number, "lines": 2})).await;
    assert!(text.ends_with("]\nhere-it-42\n700001\n"), "{text}");
    let text = look(json!({"view": "head", "lines": 500})).await;
    assert!(text.contains("\nhere-it-42\n"), "{text}");
    let text = look(json!({"view": "tail", "lines": 3})).await;
    assert!(text.contains("\nlast\n"), "{text}");
}

#[tokio::test]
async fn a_command_runs_in_a_session_with_its_exact_exit_or_not_at_all() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    let mut run = async |command: &str| {
        model.call("run", json!({"session": "s1", "command": command, "wait": 2.0})).await
    };
    let (text, error) = run("cd /tmp; X=5").await;
    assert!(!error && text.starts_with("[session s1 state=prompt exit=0 "), "{text}");
    let (text, _) = run("echo $PWD $X; (exit 7)").await;
    assert!(
        text.starts_with("[session s1 state=prompt exit=7 ") && text.ends_with("]\n/tmp 5\n"),
        "{text}"
    );
    let (text, _) = run("cat <<END\na\nb\nEND").await;
    assert!(text.contains("exit=0") && text.ends_with("]\na\nb\n"), "{text}");
    let (text, _) = run("sleep 600").await;
    assert!(
        text.starts_with("[session s1 state=running ") && text.contains("next=output(id=s1)"),
        "{text}"
    );
    // What is not at a prompt is not typed into.
    let mark = world.path("mark");
    let touch = format!("touch {}", mark.display());
    let (text, error) = run(&touch).await;
    assert!(
        error && text.starts_with("[error terminal_busy]") && text.contains("running"),
        "{text}"
    );
    assert!(text.contains("Next: "), "{text}");
    model.call("session_send", json!({"id": "s1", "keys": ["ctrl-c"]})).await;
    assert!(!mark.exists());
    for (arguments, said) in [
        (json!({"command": "true"}), "server is missing"),
        (
            json!({"command": "true", "session": "s1", "cwd": "/"}),
            "run: cwd cannot be combined with session",
        ),
        (
            json!({"command": "true", "session": "s1", "server": "web-1"}),
            "run: server cannot be combined with session",
        ),
    ] {
        let (text, error) = model.call("run", arguments).await;
        assert!(
            error && text.starts_with("[error invalid_argument]") && text.contains(said),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_secret_is_typed_unseen_and_is_in_no_answer() {
    const VALUE: &str = "correct-horse-battery";
    let world = World::with_server("web-1").await;
    let stored =
        world.farwire_with(&["secret", "set", "sudo"], format!("{VALUE}\n").as_bytes()).await;
    assert!(
        stored.code == 0 && stored.stdout.is_empty() && !stored.stderr.contains(VALUE),
        "{stored:?}"
    );
    assert_eq!(world.farwire(&["secret", "ls"]).await.text(), "sudo\n");
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    let mut send = async |arguments: serde_json::Value| {
        let mut call = arguments;
        call["id"] = json!("s1");
        let (text, error) = model.call("session_send", call).await;
        assert!(!text.contains(VALUE), "{text}");
        (text, error)
    };
    // Where it would be seen it is not typed.
    let (text, error) = send(json!({"secret": "sudo"})).await;
    assert!(error && text.starts_with("[error terminal_busy]"), "{text}");
    let (text, error) = send(json!({"secret": "none"})).await;
    assert!(error && text.contains("farwire secret set none"), "{text}");
    let (text, error) = send(json!({"secret": "sudo", "text": "sudo id"})).await;
    assert!(error && text.starts_with("[error invalid_argument]"), "{text}");
    let (text, _) = send(json!({"text": "read -r -s -p 'Password: ' X"})).await;
    assert!(text.starts_with("[session s1 state=password"), "{text}");
    let (text, error) = send(json!({"secret": "sudo"})).await;
    assert!(!error && text.starts_with("[session s1 state=prompt exit=0"), "{text}");
    // It has arrived, and whatever a program does with it is taken out.
    let (text, _) = send(json!({"text": "echo ${#X} $X."})).await;
    assert!(text.ends_with(&format!("]\n{} [secret sudo].\n", VALUE.len())), "{text}");
    let (text, _) = send(json!({"text": "printf '%118s%s\\n' '' $X"})).await;
    assert!(text.contains("[secret sudo]"), "{text}");
    let (screen, _) = model.call("output", json!({"id": "s1", "view": "screen"})).await;
    assert!(
        screen.contains("[secret sudo]") && !screen.replace('\n', "").contains(VALUE),
        "{screen}"
    );
    let (text, error) = model.call("output", json!({"id": "s1", "view": "png"})).await;
    assert!(!error || text.contains("shows a secret"), "{text}");
    let (text, _) =
        model.call("run", json!({"server": "web-1", "command": format!("echo {VALUE}")})).await;
    assert!(text.contains("[secret sudo]") && !text.contains(VALUE), "{text}");
    assert_eq!(world.farwire(&["secret", "rm", "sudo"]).await.code, 0);
    let gone = world.farwire(&["secret", "rm", "sudo"]).await;
    assert!(gone.code == 64 && gone.stderr.contains("secret set sudo"), "{gone:?}");
    // No log of an agent has it.
    let empty = world.farwire_with(&["secret", "set", "x"], b"").await;
    assert!(empty.code == 64, "{empty:?}");
}

#[tokio::test]
async fn a_session_is_opened_as_it_is_asked_for() {
    let mut world = World::with_server("web-1").await;
    world.kill_agent("web-1").await;
    world.set("farwire-agent", &[("AGENT_SECRET", "of-the-agent".to_owned())]);
    world.start_agent("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let (text, error) =
        model.call("session_open", json!({"server": "web-1", "user": "no-such-user"})).await;
    assert!(
        error && text.starts_with("[error user_not_found]") && text.contains("no-such-user"),
        "{text}"
    );
    let call = json!({
        "server": "web-1", "cwd": "/tmp", "env": {"GIVEN": "yes"}, "cols": 99, "rows": 33,
    });
    model.call("session_open", call).await;
    let mut says = async |line: &str| {
        let (text, error) = model.call("session_send", json!({"id": "s1", "text": line})).await;
        assert!(!error, "{text}");
        text.split_once('\n').unwrap().1.to_owned()
    };
    assert!(says("tty").await.starts_with("/dev/pts/"));
    assert_eq!(says("stty size").await, "33 99\n");
    assert_eq!(says("echo $PWD $GIVEN $TERM").await, "/tmp yes xterm-256color\n");
    assert_eq!(says("echo ${AGENT_SECRET:-none}; env | grep -c AGENT_SECRET").await, "none\n0\n");
    // A new size is told to the program.
    says("trap 'stty size' WINCH").await;
    let resized = world.farwire(&["session", "resize", "s1", "77x22"]).await;
    if resized.code == 0 {
        assert_eq!(says("stty size").await.lines().last(), Some("22 77"));
    } else {
        assert!(resized.stderr.contains("error[unsupported]"), "{resized:?}");
    }
}

#[tokio::test]
async fn many_turns_of_a_progress_bar_are_one_line() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    let line = "for i in $(seq 10000); do printf '\\r%d of 10000' $i; done; echo";
    let (text, _) =
        model.call("session_send", json!({"id": "s1", "text": line, "wait": 30.0})).await;
    let (header, rest) = text.split_once('\n').unwrap();
    assert!(header.contains("state=prompt exit=0"), "{text}");
    assert_eq!(rest.lines().last(), Some("10000 of 10000"), "{text}");
    assert!(rest.lines().count() <= 3, "{text}");
    model
        .call("session_send", json!({"id": "s1", "text": format!("clear; {line}"), "wait": 30.0}))
        .await;
    let (screen, _) = model.call("output", json!({"id": "s1", "view": "screen"})).await;
    assert_eq!(screen.lines().nth(1), Some("10000 of 10000"), "{screen}");
}

#[tokio::test]
async fn several_lines_are_pasted_and_none_is_carried_out_before_the_last_enter() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1", "command": "bash"})).await;
    let mark = |name: &str| world.path(name);
    let lines = ["a", "b", "c"].map(|name| format!("touch {}", mark(name).display())).join("\n");
    let (text, _) = model
        .call("session_send", json!({"id": "s1", "text": lines, "enter": false, "wait": 1.0}))
        .await;
    assert!(text.contains("state=prompt"), "{text}");
    let (screen, _) = model.call("output", json!({"id": "s1", "view": "screen"})).await;
    assert!(screen.contains("/c"), "all of it is there: {screen}");
    assert!(!mark("a").exists() && !mark("b").exists() && !mark("c").exists(), "{screen}");
    let (text, _) = model.call("session_send", json!({"id": "s1", "keys": ["enter"]})).await;
    assert!(text.contains("state=prompt exit=0"), "{text}");
    assert!(mark("a").exists() && mark("b").exists() && mark("c").exists());
    // Also right after a command, while its prompt is still being drawn.
    let lines = ["d", "e"].map(|name| format!("touch {}", mark(name).display())).join("\n");
    for _ in 0..10 {
        model.call("session_send", json!({"id": "s1", "text": "true"})).await;
        let pasted = json!({"id": "s1", "text": lines, "enter": false, "wait": 0.2});
        let (text, _) = model.call("session_send", pasted).await;
        assert!(!mark("d").exists(), "{text}");
        model.call("session_send", json!({"id": "s1", "keys": ["ctrl-c"]})).await;
    }
}

#[tokio::test]
async fn what_a_program_is_tells_what_the_terminal_does() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    let there = |program: &str| std::path::Path::new("/usr/bin").join(program).exists();
    for (program, line, state, leave) in [
        ("vim", "vim -u NONE", "editor", ":q!\n"),
        ("nano", "nano", "editor", "\u{18}"),
        ("less", "seq 1000 | less", "pager", "q"),
        // Whoever has started the pager lives on beside it, as git does.
        ("less", "yes | less", "pager", "q"),
        ("bash", "bash -c 'seq 1000 | less; true'", "pager", "q"),
        // What a script asks for is no command.
        ("bash", "bash -c 'read -rp sure? x; true'", "running", "y\n"),
        ("bash", "(read -rp sure? x)", "running", "y\n"),
        ("python3", "python3 -q", "repl", "exit()\n"),
    ] {
        if !there(program) {
            eprintln!("{program} is not here: not tried");
            continue;
        }
        let (text, _) = model.call("session_send", json!({"id": "s1", "text": line})).await;
        assert!(
            text.starts_with(&format!("[session s1 state={state} program=")),
            "{program}: {text}"
        );
        let leave = json!({"id": "s1", "text": leave, "enter": false});
        let (text, _) = model.call("session_send", leave).await;
        assert!(text.starts_with("[session s1 state=prompt"), "{program}: {text}");
    }
    let (text, _) =
        model.call("session_send", json!({"id": "s1", "text": "echo Password:; sleep 0.3"})).await;
    assert!(text.starts_with("[session s1 state=prompt exit=0"), "{text}");
}

/// The shell that says marks is gone, and who has taken its place says none.
#[tokio::test]
async fn a_shell_in_the_place_of_the_first_one_is_at_its_prompt() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1", "command": "bash"})).await;
    let first = json!({"id": "s1", "text": "echo first", "wait": 20.0});
    let (text, _) = model.call("session_send", first).await;
    assert!(text.starts_with("[session s1 state=prompt exit=0"), "{text}");
    let exec = json!({"id": "s1", "text": "exec bash --norc", "wait": 20.0});
    let (text, _) = model.call("session_send", exec).await;
    assert!(text.starts_with("[session s1 state=prompt"), "{text}");
    assert!(!text.contains("wait-over"), "{text}");
    let run = json!({"session": "s1", "command": "echo by-$((1 + 1))", "wait": 20.0});
    let (text, error) = model.call("run", run).await;
    assert!(!error && text.contains("by-2") && !text.contains("wait-over"), "{text}");
}

/// A program that does not read takes as much as a terminal holds, and the model hears of the rest.
#[tokio::test]
async fn what_could_not_be_typed_is_told() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    let blocks = "stty raw; echo raw-$((1 + 1)); sleep 1000";
    let call = json!({"id": "s1", "text": blocks, "until": "raw-2", "wait": 20.0});
    let (text, _) = model.call("session_send", call).await;
    assert!(text.contains("until=matched"), "{text}");
    let lines = "0123456789\n".repeat(2_700);
    let call = json!({"id": "s1", "text": lines, "wait": 20.0});
    let (text, _) = model.call("session_send", call).await;
    assert!(text.contains(" bytes were typed") && !text.contains("wait-over"), "{text}");
    assert!(text.contains("next=output(id=s1,view=screen)"), "{text}");
    let sent = world.farwire(&["session", "send", "s1", &lines]).await;
    assert_eq!(sent.code, 124, "{sent:?}");
    assert!(sent.stderr.contains(" typed; look with "), "{sent:?}");
}

/// What commands were carried out is more than one frame takes, and each of them is told all the
/// same.
#[tokio::test]
async fn long_commands_are_listed_page_by_page() {
    let world = World::with_server("web-1").await;
    let mut model = world.model_with(&["--scope", "operator"], Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    for number in 1..=12 {
        let line = format!(": {}; (exit {number})", "x".repeat(2_400));
        let call = json!({"id": "s1", "text": line});
        let (text, error) = model.call("session_send", call).await;
        assert!(!error && text.contains(&format!("exit={number} ")), "{text}");
    }
    let (text, error) = model.call("session_commands", json!({"session": "s1"})).await;
    assert!(!error && text.starts_with("[session s1 12 commands]"), "{text}");
    let listed = world.farwire(&["session", "commands", "s1", "--json"]).await.json();
    let exits: Vec<_> = listed.as_array().unwrap().iter().map(|one| &one["exit_code"]).collect();
    assert_eq!(
        serde_json::to_value(exits).unwrap(),
        json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    );
    let (text, error) =
        model.call("session_command_status", json!({"session": "s1", "number": 2})).await;
    assert!(!error && text.contains("exit=2"), "{text}");
}
