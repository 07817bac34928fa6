//! Several hands at one session: whoever types has its turn until the answer, text is data, and an
//! answer is that of what was typed.

use std::time::Duration;

use farwire_protocol::streams::session::Request;
use farwire_protocol::streams::session::{Commands, Limits, What};
use farwire_tests::hand::{agent, text};
use farwire_tests::person::Person;
use farwire_tests::{Era, Model, World, until};
use serde_json::json;

#[tokio::test]
async fn calls_at_the_same_time_are_each_answered_with_their_own_command() {
    let world = World::with_server("web-1").await;
    let mut first = world.model(Era::Discover).await;
    let mut second = world.model(Era::Discover).await;
    let mut third = world.model(Era::Discover).await;
    first.call("session_open", json!({"server": "web-1"})).await;
    for round in 0..3 {
        let line = |n: u32| format!("echo A{round}{n}; sleep 0.4; (exit {n})");
        let typed = |n: u32| json!({"id": "s1", "text": line(n), "wait": 30.0});
        let run = |n: u32| json!({"session": "s1", "command": line(n), "wait": 30.0});
        let answers = tokio::join!(
            first.call("session_send", typed(1)),
            second.call("run", run(2)),
            third.call("session_send", typed(3)),
        );
        for (n, (text, error)) in [(1, answers.0), (2, answers.1), (3, answers.2)] {
            assert!(
                !error && text.starts_with(&format!("[session s1 state=prompt exit={n} ")),
                "{text}"
            );
            assert!(text.ends_with(&format!("]\nA{round}{n}\n")), "{text}");
        }
    }
}

#[tokio::test]
async fn who_waits_for_its_turn_in_vain_is_told_who_has_it_and_types_nothing() {
    let world = World::with_server("web-1").await;
    let mut first = world.model(Era::Discover).await;
    let mut second = world.model(Era::Discover).await;
    first.call("session_open", json!({"server": "web-1"})).await;
    let (gate, mark) = (world.path("gate"), world.path("mark"));
    let line = format!("until [ -e {} ]; do sleep 0.05; done; (exit 5)", gate.display());
    let holds = first.call("session_send", json!({"id": "s1", "text": line, "wait": 50.0}));
    let waits = async {
        let touch = format!("touch {}", mark.display());
        let mut texts = Vec::new();
        // It may come first, and is through at once then.
        loop {
            let call = json!({"id": "s1", "text": touch, "wait": 0.3});
            let (text, error) = second.call("session_send", call).await;
            texts.push(text);
            if error {
                break;
            }
        }
        let _ = std::fs::remove_file(&mark);
        let (text, error) =
            second.call("run", json!({"session": "s1", "command": touch, "wait": 0.3})).await;
        assert!(error, "{text}");
        texts.push(text);
        std::fs::write(&gate, "").unwrap();
        texts
    };
    let ((text, error), refused) = tokio::join!(holds, waits);
    assert!(!error && text.contains("exit=5"), "{text}");
    for text in refused.iter().rev().take(2) {
        assert!(text.starts_with("[error terminal_busy]"), "{text}");
        assert!(text.contains("ai-local on") && text.contains("nothing was typed"), "{text}");
    }
    let (text, _) = first.call("session_send", json!({"id": "s1", "text": "echo $?"})).await;
    assert!(text.ends_with("]\n5\n"), "nothing came in between: {text}");
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_user_ends_the_turn_of_a_model_which_is_told_so() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1", "name": "work"})).await;
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1/work"]));
    let call = json!({"id": "s1", "text": "echo go'ing'; sleep 600", "wait": 50.0});
    let waits = model.call("session_send", call);
    let takes = async {
        person.sees("going").await;
        person.types("\x03").await;
    };
    let ((text, error), ()) = tokio::join!(waits, takes);
    assert!(!error && text.contains("interrupted by"), "{text}");
    assert!(text.contains("/human"), "{text}");
    // What the user runs afterwards is none of the model's.
    person.types("(exit 9)\r").await;
    assert!(!text.contains("exit=9"), "{text}");
}

#[tokio::test]
async fn keys_reach_what_their_own_sender_waits_for() {
    let world = World::with_server("web-1").await;
    let mut first = world.model(Era::Discover).await;
    let mut second = world.model(Era::Discover).await;
    first.call("session_open", json!({"server": "web-1"})).await;
    let mark = world.path("mark");
    let line = format!("touch {}; sleep 600", mark.display());
    let waits = first.call("session_send", json!({"id": "s1", "text": line, "wait": 50.0}));
    let stops = async {
        until("the command to begin", async || mark.exists().then_some(())).await;
        second.call("session_send", json!({"id": "s1", "keys": ["ctrl-c"]})).await
    };
    let ((text, _), (stopped, error)) = tokio::join!(waits, stops);
    assert!(!error && stopped.contains("exit=130"), "{stopped}");
    assert!(text.contains("exit=130"), "{text}");
}

#[tokio::test]
async fn what_is_being_typed_keeps_its_turn_though_its_sender_is_gone() {
    let world = World::with_server("web-1").await;
    let (one, other) = (agent(&world, "one"), agent(&world, "other"));
    let mut start = one.start("slow", "stty raw -echo; echo ready; exec cat").await;
    start.limits = Some(Limits { input_rate: Some(100), ..Limits::default() });
    let session = one.ask(&Request::Open(start)).await.unwrap().ended.status.session;
    let shown = async || other.screen(session).await.replace(['\n', ' '], "");
    until("it to read", async || shown().await.contains("ready").then_some(())).await;
    let typed = vec![text(&"a".repeat(500))];
    let send = Request::Send(one.sending(session, typed, Duration::from_secs(1)).await);
    tokio::select! {
        answer = one.ask(&send) => panic!("it types for two seconds: {answer:?}"),
        _ = other.sees(session, |_, what| matches!(what, What::Typed { .. })) => {}
    }
    // This is answered once nothing more of it is typed.
    let again = async { one.ask(&send).await.unwrap().ended };
    let (again, after) =
        tokio::join!(again, other.send(session, vec![text("b")], Duration::from_secs(5)));
    after.unwrap();
    let (typed, left) = (again.typed.unwrap(), again.left.unwrap_or(0));
    assert_eq!(typed + left, 500);
    let said =
        until("the last", async || Some(shown().await).filter(|all| all.contains('b'))).await;
    let all = "a".repeat(usize::try_from(typed).unwrap());
    assert_eq!(said, format!("ready{all}b"));
}

#[tokio::test]
async fn who_asks_again_is_not_answered_with_what_others_typed_meanwhile() {
    let world = World::with_server("web-1").await;
    let (one, other) = (agent(&world, "one"), agent(&world, "other"));
    let start = one.start("shared", "bash").await;
    let session = one.ask(&Request::Open(start)).await.unwrap().ended.status.session;
    let gate = world.path("gate");
    let line = format!("until [ -e {} ]; do sleep 0.05; done; (exit 7)\r", gate.display());
    let wait = Duration::from_secs(20);
    let send = Request::Send(one.sending(session, vec![text(&line)], wait).await);
    tokio::select! {
        answer = one.ask(&send) => panic!("it waits: {answer:?}"),
        _ = other.sees(session, |_, what| matches!(what, What::Typed { .. })) => {}
    }
    let line = format!("touch {}; (exit 3)\r", world.path("mark").display());
    let theirs = other.send(session, vec![text(&line)], wait);
    let opens = async {
        let theirs = |text: &[u8]| text.starts_with(b"touch");
        let typed =
            |what: &What| matches!(what, What::Typed { text: Some(text), .. } if theirs(text));
        other.sees(session, |_, what| typed(what)).await;
        std::fs::write(&gate, "").unwrap();
    };
    let (theirs, ()) = tokio::join!(theirs, opens);
    theirs.unwrap();
    until("the second to end", async || world.path("mark").exists().then_some(())).await;
    let again = one.ask(&send).await.unwrap().ended;
    assert_eq!(again.command.and_then(|command| command.exit), Some(7));
}

/// Opens a session with this shell, which tabs mean something to, in a directory where they would
/// complete.
async fn in_shell(world: &World, model: &mut Model, shell: &str) -> String {
    let directory = world.path("tabs");
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("unique_name_x"), "").expect("a file");
    let call = json!({"server": "web-1", "command": shell, "cwd": directory, "name": shell});
    let (text, error) = model.call("session_open", call).await;
    assert!(!error, "{text}");
    text.split_whitespace().nth(1).expect("an id").trim_end_matches(']').to_owned()
}

#[tokio::test]
async fn a_tab_in_text_is_a_character_in_every_shell() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    for shell in ["bash", "zsh", "fish", "dash"] {
        if !["/bin", "/usr/bin"]
            .iter()
            .any(|place| std::path::Path::new(place).join(shell).exists())
        {
            eprintln!("skipped: no {shell}");
            continue;
        }
        let id = in_shell(&world, &mut model, shell).await;
        for (text, said) in [
            ("printf '[%s]\\n' 'a\tb' | cat -A", "[a^Ib]"),
            ("echo \t\t u", "u"),
            ("printf '{%s}\\n' '\tx' | cat -A\nprintf '<%s>\\n' 'y\t' | cat -A", "{^Ix}"),
        ] {
            let call = json!({"id": id, "text": text});
            let (answer, error) = model.call("session_send", call).await;
            assert!(!error, "{shell}: {answer}");
            assert!(!answer.contains("unique_name_x"), "{shell}: {answer}");
            let (log, _) =
                model.call("output", json!({"id": id, "view": "tail", "lines": 30})).await;
            assert!(log.contains(said), "{shell}, {text:?}: {answer}\n{log}");
        }
        let (log, _) = model.call("output", json!({"id": id, "view": "tail", "lines": 30})).await;
        assert_eq!(log.matches("<y^I>").count(), 1, "{shell}: {log}");
    }
}

#[tokio::test]
async fn text_that_would_be_pressed_as_keys_is_refused() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    for text in ["echo a\u{3}b", "\u{1b}[A", "x\u{7f}y", "a\u{4}"] {
        let (answer, error) = model.call("session_send", json!({"id": "s1", "text": text})).await;
        assert!(error && answer.starts_with("[error invalid_argument]"), "{text:?}: {answer}");
        assert!(answer.contains("keys"), "{answer}");
        let done = world.farwire(&["session", "send", "s1", text]).await;
        assert!(done.code != 0 && done.stderr.contains("control character"), "{done:?}");
    }
    // A program that takes keys one by one, and no pastes.
    let line = "stty -icanon -echo; cat > /dev/null";
    let (text, _) =
        model.call("session_send", json!({"id": "s1", "text": line, "wait": 2.0})).await;
    assert!(text.contains("program=cat"), "{text}");
    let (text, error) = model.call("session_send", json!({"id": "s1", "text": "a\tb"})).await;
    assert!(error && text.contains("the program reads single keys"), "{text}");
    let (text, error) =
        model.call("session_send", json!({"id": "s1", "text": "ab", "wait": 0.5})).await;
    assert!(!error, "{text}");
}

#[tokio::test]
async fn what_is_typed_while_a_command_runs_is_not_answered_with_its_exit() {
    let world = World::with_server("web-1").await;
    let a = agent(&world, "a");
    let s = a.open("w", "bash").await;
    let gate = world.path("gate");
    let runs = format!("until [ -e {} ]; do sleep 0.05; done; (exit 9)\n", gate.display());
    let runs = a.send(s, vec![text(&runs)], Duration::from_millis(500)).await.unwrap();
    let number = runs.ended.command.unwrap().number;
    let wait = Duration::from_secs(60);
    let typed = a.send(s, vec![text("echo mine; (exit 3)\n")], wait);
    let opens = async {
        a.sees(s, |_, what| {
            matches!(what, What::Typed { text: Some(text), .. } if text.starts_with(b"echo mine"))
        })
        .await;
        std::fs::write(&gate, "").unwrap();
    };
    let (typed, ()) = tokio::join!(typed, opens);
    let typed = typed.unwrap();
    let command = typed.ended.command.unwrap();
    assert_eq!((command.number, command.exit), (number + 1, Some(3)));
    assert_eq!(typed.pieces[0].bytes, b"mine\r\n");
    // Where the time is up before it begins, nothing is said of how it ended.
    let _ = std::fs::remove_file(&gate);
    let reads = "read -r X; (exit 7)\n";
    a.send(s, vec![text(reads)], Duration::from_millis(500)).await.unwrap();
    let read = a.send(s, vec![text("for it\n")], wait).await.unwrap();
    assert_eq!(read.ended.command.unwrap().exit, Some(7), "no other command follows");
}

#[tokio::test]
async fn several_lines_are_one_command_without_marks_in_its_output() {
    let world = World::with_server("web-1").await;
    let a = agent(&world, "a");
    let s = a.open("w", "bash").await;
    a.send(s, vec![text("true\n")], Duration::from_secs(60)).await.unwrap();
    let lines = "echo a\nfalse\necho c\n";
    let answer = a.send(s, vec![text(lines)], Duration::from_secs(60)).await.unwrap();
    let output = String::from_utf8_lossy(&answer.pieces[0].bytes).into_owned();
    assert_eq!(output, "a\r\nc\r\n");
    let named = until("its text", async || {
        let asked = Commands { session: s, limit: 1, before: None };
        let ended = a.ask(&Request::Commands(asked)).await.unwrap().ended;
        ended.commands.and_then(|mut commands| commands.pop()).and_then(|last| last.text)
    })
    .await;
    // Every text of a peer is one line.
    assert_eq!(named, "echo a false echo c");
}

#[tokio::test]
async fn a_pattern_for_a_whole_line_matches_what_a_person_sees() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1"})).await;
    let line = "echo DONE; seq 9990 9999; sleep 600";
    let call = json!({"id": "s1", "text": line, "wait": 50.0, "until": "^DONE$"});
    let (text, error) = model.call("session_send", call).await;
    assert!(!error && text.contains("until=matched"), "{text}");
    until("the last line", async || {
        let call = json!({"id": "s1", "view": "grep", "pattern": "^9999$"});
        let (text, _) = model.call("output", call).await;
        text.ends_with("9999\n").then_some(())
    })
    .await;
}
