//! Terminals that stay, and what a model is told of them.

use std::os::unix::fs::PermissionsExt as _;

use farwire_tests::person::Person;
use farwire_tests::{Era, World, until};
use serde_json::json;

#[tokio::test]
async fn a_model_types_commands_and_is_told_their_output_and_exit() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let (text, error) =
        model.call("session_open", json!({"server": "web-1", "name": "work"})).await;
    assert!(!error && text.starts_with("[session s1 state=prompt name=work]"), "{text}");
    for (line, exit, output) in [
        ("echo hello", 0, "hello\n"),
        ("false", 1, ""),
        ("cd /tmp; X=5", 0, ""),
        ("echo $X in $PWD; exit_with() { return $1; }; exit_with 7", 7, "5 in /tmp\n"),
        ("cat <<END\none\ntwo\nEND", 0, "one\ntwo\n"),
        ("for i in 1 2 3; do echo $i; done", 0, "1\n2\n3\n"),
        ("set -x; echo traced; set +x", 0, "+ echo traced\ntraced\n+ set +x\n"),
        ("printf '\\033]133;D;0\\007no end'; sleep 0.2; (exit 9)", 9, "no end\n"),
        ("test -t 0 && stty size", 0, "40 120\n"),
    ] {
        let call = json!({"id": "s1", "text": line});
        let (text, error) = model.call("session_send", call).await;
        let (header, rest) = text.split_once('\n').unwrap();
        assert!(!error, "{line}: {text}");
        assert!(
            header.starts_with(&format!("[session s1 state=prompt exit={exit} ")),
            "{line}: {text}"
        );
        assert_eq!(rest, output, "{line}: {text}");
    }
    let (text, _) = model.call("status", json!({})).await;
    assert!(
        text.contains("s1") && text.contains("state=prompt") && text.contains("work"),
        "{text}"
    );
    let (text, _) = model.call("session_open", json!({"server": "web-1", "name": "work"})).await;
    assert!(text.starts_with("[session s1 state=prompt name=work resumed]"), "{text}");
    let (text, _) = model.call("session_send", json!({"id": "s1", "text": "exit 3"})).await;
    assert!(text.starts_with("[session s1 exit=3"), "{text}");
    let (text, error) = model.call("session_send", json!({"id": "s1", "text": "echo"})).await;
    assert!(error && text.contains("already_ended"), "{text}");
}

#[tokio::test]
async fn what_a_terminal_does_is_known_from_the_kernel_and_not_from_its_text() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    let mut send = async |arguments: serde_json::Value| {
        let mut arguments = arguments;
        arguments["id"] = json!("s1");
        model.call("session_send", arguments).await.0
    };
    let text = send(json!({"text": "echo Password:"})).await;
    assert!(text.starts_with("[session s1 state=prompt exit=0"), "{text}");
    let text = send(json!({"text": "read -r -s -p 'Secret? ' X"})).await;
    assert!(text.starts_with("[session s1 state=password"), "{text}");
    let text = send(json!({"text": "hunter2"})).await;
    assert!(text.starts_with("[session s1 state=prompt exit=0"), "{text}");
    let text = send(json!({"text": "echo ${#X}"})).await;
    assert!(text.ends_with("]\n7\n"), "{text}");
    let text = send(json!({"text": format!("seq 1000 | {}", pager(&world))})).await;
    assert!(text.starts_with("[session s1 state=pager program=less"), "{text}");
    let text = send(json!({"keys": ["G"]})).await;
    assert!(text.starts_with("[session s1 state=pager"), "{text}");
    let text = send(json!({"keys": ["q"]})).await;
    assert!(text.starts_with("[session s1 state=prompt"), "{text}");
    let text = send(json!({"text": "sleep 600", "wait": 0.5})).await;
    assert!(text.starts_with("[session s1 state=running program=sleep"), "{text}");
    let text = send(json!({"keys": ["ctrl-c"]})).await;
    assert!(text.starts_with("[session s1 state=prompt"), "{text}");
    let text = send(json!({"text": "echo $?"})).await;
    assert!(text.ends_with("]\n130\n"), "{text}");
}

/// A pager by name and by what it does with its terminal: one that every machine has.
fn pager(world: &World) -> String {
    let path = world.path("less");
    let script = "#!/bin/sh\nstty -icanon -echo </dev/tty\nprintf ': '\n\
                  until [ \"$key\" = q ]; do key=$(dd bs=1 count=1 </dev/tty 2>&-); done\n\
                  stty icanon echo </dev/tty\n";
    std::fs::write(&path, script).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a file");
    path.display().to_string()
}

#[tokio::test]
async fn a_session_and_its_command_outlive_the_agent() {
    let mut world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1", "name": "build"})).await;
    let ask = r"printf '\033[6n'; read -r -s -d R A; X=kept";
    let (text, _) = model.call("session_send", json!({"id": "s1", "text": ask})).await;
    assert!(text.contains("exit=0"), "{text}");
    let mark = world.path("go");
    let line =
        format!("until [ -e {} ]; do sleep 0.05; done; echo built; (exit 4)", mark.display());
    let call = json!({"id": "s1", "text": line, "wait": 0.5});
    let (text, _) = model.call("session_send", call).await;
    assert!(text.starts_with("[session s1 state=running"), "{text}");
    world.kill_agent("web-1").await;
    world.start_agent("web-1").await;
    std::fs::write(&mark, "").unwrap();
    until("the command to end", async || {
        let (text, _) = model.call("output", json!({"id": "s1", "view": "tail"})).await;
        text.contains("built\n").then_some(())
    })
    .await;
    // What a program asked of its terminal was answered before, and is not answered again.
    let (text, _) = model.call("session_send", json!({"id": "s1", "text": "echo $? $X"})).await;
    assert!(text.starts_with("[session s1 state=prompt exit=0"), "{text}");
    assert!(text.ends_with("]\n4 kept\n"), "{text}");
}

#[tokio::test]
async fn a_person_attaches_leaves_comes_back_and_finds_all_as_it_was() {
    let mut world = World::with_server("web-1").await;
    let attach = |world: &World, more: &[&str]| {
        Person::start(&world.farwire_command(&[&["attach", "web-1"], more].concat()))
    };
    let mut first = attach(&world, &[]);
    first.types("PS1='> '; clear\r").await;
    first.types("echo $((6 * 7))\r").await;
    first.sees("42\n>").await;
    // Another looks on, and cannot type.
    let mut second = attach(&world, &["--read-only"]);
    second.sees("42\n>").await;
    second.types("echo never\r").await;
    first.types("stty size\r").await;
    second.sees("24 80").await;
    first.resize(100, 30);
    until("the size to have come through", async || {
        first.types("stty size\r").await;
        first.screen().contains("30 100").then_some(())
    })
    .await;
    assert!(!first.screen().contains("never"));
    // The agent is replaced under their hands.
    first.types("clear; printf 'name? '; read -r X\r").await;
    first.sees("name? ").await;
    world.kill_agent("web-1").await;
    world.start_agent("web-1").await;
    first.types("typed\r").await;
    first.sees("name? typed\n>").await;
    first.types("clear; echo got-$X\r").await;
    first.sees("got-typed").await;
    second.sees("got-typed").await;
    first.types("\x1d").await;
    assert!(first.ended().await.unwrap().success());
    first.sees("farwire attach web-1/main").await;
    assert!(first.echoes(), "the terminal is as it was");
    let mut third = attach(&world, &[]);
    third.sees("got-typed").await;
    third.types("exit 5\r").await;
    assert_eq!(third.ended().await.unwrap().code(), Some(5));
    assert_eq!(second.ended().await.unwrap().code(), Some(5));
}

/// At length: `cargo xtask soak shells`.
#[tokio::test]
async fn every_shell_tells_the_exact_exit_and_output_whatever_its_prompts_do() {
    farwire_tests::trials::shells::marked(8).await;
}

#[tokio::test]
async fn shells_without_marks_never_claim_an_exit() {
    farwire_tests::trials::shells::unmarked(2).await;
}

#[tokio::test]
async fn the_four_hazards_of_terminals_are_none_of_ours() {
    let mut world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    // What cannot be executed, and a directory that is not there, are errors and no sessions.
    for (arguments, kind) in [
        (json!({"server": "web-1", "cwd": "/nowhere"}), "cwd_not_found"),
        (json!({"server": "web-1", "user": "nobody-at-all"}), "user_not_found"),
        (json!({"server": "web-1", "name": "a\nb"}), "invalid_argument"),
    ] {
        let (text, error) = model.call("session_open", arguments).await;
        assert!(error && text.starts_with(&format!("[error {kind}]")), "{text}");
    }
    model.call("session_open", json!({"server": "web-1", "name": "w"})).await;
    // A program finds three descriptors and no more.
    let (text, _) =
        model.call("session_send", json!({"id": "s1", "text": "ls /proc/self/fd"})).await;
    assert!(text.contains("0") && !text.contains('4'), "{text}");
    let (text, _) = model
        .call("session_send", json!({"id": "s1", "text": "ls -l /proc/$$/fd | grep -c memfd"}))
        .await;
    assert!(text.ends_with("]\n0\n"), "{text}");
    // Half a line is not carried out when whoever typed it goes, nor when the agent does.
    let mark = world.path("mark");
    let half = json!({"id": "s1", "text": format!("touch {}", mark.display()), "enter": false});
    model.call("session_send", half).await;
    model.kill().await;
    world.kill_agent("web-1").await;
    world.start_agent("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let (text, _) = model.call("output", json!({"id": "s1", "view": "screen"})).await;
    assert!(text.contains("touch /") && text.contains("state=prompt"), "{text}");
    assert!(!mark.exists(), "nobody has pressed enter");
    let (text, _) = model.call("session_send", json!({"id": "s1", "keys": ["ctrl-u"]})).await;
    assert!(text.contains("state=prompt"), "{text}");
    let (text, error) = model.call("stop", json!({"id": "s1"})).await;
    assert!(!error, "{text}");
    until("the session to have ended", async || {
        let (text, _) = model.call("status", json!({})).await;
        text.starts_with("[open 0 ").then_some(())
    })
    .await;
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_flood_can_be_interrupted_and_who_lags_gets_the_screen() {
    let world = World::with_server("web-1").await;
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1"]));
    person.types("PS1='> '; clear\r").await;
    person.types("yes abcdefgh\r").await;
    person.sees("abcdefgh\nabcdefgh").await;
    // Nobody reads for a while: the flood goes on, and nothing queues up.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    person.types("\x03").await;
    person.sees("^C\n>").await;
    person.types("clear; echo done\r").await;
    person.sees("done\n>").await;
    let mut model = world.model(Era::Discover).await;
    let (text, _) = model.call("status", json!({})).await;
    let id = text.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let (text, _) = model.call("output", json!({"id": id, "view": "screen"})).await;
    assert!(text.contains("done") && !text.contains("abcdefgh"), "{text}");
}
