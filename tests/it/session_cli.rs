//! Sessions from a shell: listed, looked at, typed into, without attaching to them.

use farwire_tests::person::Person;
use farwire_tests::{World, until};

/// A session `web-1/NAME`, opened by somebody who has left again.
async fn opened(world: &World, name: &str) {
    let place = format!("web-1/{name}");
    let mut person = Person::start(&world.farwire_command(&["attach", &place]));
    person.types("PS1='> '; clear; echo ready-$((1 + 1))\r").await;
    person.sees("ready-2\n>").await;
    person.types("\x1d").await;
    assert!(person.ended().await.expect("it ends").success());
}

#[tokio::test]
async fn sessions_are_listed_with_what_they_do_and_those_of_servers_that_are_away_are_not_hidden() {
    let mut world = World::with_server("web-1").await;
    world.enroll("db-1").await;
    world.start_agent("db-1").await;
    let none = world.farwire(&["sessions"]).await;
    assert!(none.code == 0 && none.text().is_empty() && none.stderr.contains("attach"), "{none:?}");
    opened(&world, "work").await;
    let busy =
        world.farwire(&["session", "send", "web-1/work", "sleep 600", "--wait", "0.3"]).await;
    assert!(busy.code == 124 && busy.stderr.contains("the time was up; it is running"), "{busy:?}");
    world.kill_agent("db-1").await;
    world.wait_for("db-1", "offline").await;
    let list = world.farwire(&["sessions"]).await;
    assert_eq!(list.code, 0);
    let (text, said) = (list.text(), &list.stderr);
    assert!(text.starts_with("s1  web-1/work  running") && text.contains("  sleep  "), "{text}");
    assert!(said.contains("`db-1`: it is offline"), "{said}");
    let list = world.farwire(&["sessions", "web-1", "--json"]).await.json();
    assert_eq!(list[0]["state"], "running");
    assert_eq!(list[0]["program"], "sleep");
    assert_eq!((&list[0]["name"], &list[0]["attached"]), (&"work".into(), &0.into()));
    let away = world.farwire(&["sessions", "db-1"]).await;
    assert!(away.code == 69 && away.stderr.contains("error[server_offline]"), "{away:?}");
    // What has ended is among all.
    assert_eq!(world.farwire(&["session", "close", "s1"]).await.text(), "s1: closing\n");
    until("the session to have ended", async || {
        world.farwire(&["sessions", "web-1"]).await.text().is_empty().then_some(())
    })
    .await;
    let all = world.farwire(&["sessions", "web-1", "--all"]).await.text();
    assert!(all.starts_with("s1  web-1/work  ") && !all.contains("running"), "{all}");
}

#[tokio::test]
async fn a_command_typed_from_a_shell_gives_its_output_and_its_exit() {
    let world = World::with_server("web-1").await;
    opened(&world, "work").await;
    let send = async |text: &str| world.farwire(&["session", "send", "web-1/work", text]).await;
    let done = send("cd /tmp; echo $PWD; (exit 7)").await;
    assert_eq!((done.code, done.text().as_str()), (7, "/tmp\r\n"), "{done:?}");
    let done = send("printf 'a\\nb'; true").await;
    assert_eq!((done.code, done.text().as_str()), (0, "a\r\nb"), "{done:?}");
    let asked = send("read -r -s -p 'Secret? ' X").await;
    assert!(asked.code == 0 && asked.stderr.contains("is waiting for a secret"), "{asked:?}");
    let busy = world.farwire(&["session", "send", "s1", "--at-prompt", "true"]).await;
    let refused = busy.code == 69 && busy.stderr.contains("error[terminal_busy]");
    assert!(refused || busy.code == 0, "{busy:?}");
    if refused {
        assert_eq!(send("hunter2").await.code, 0);
    }
    let done = world.farwire(&["session", "send", "s1", "echo ${#X}", "--json"]).await.json();
    assert_eq!((&done["because"], &done["command"]["exit_code"]), (&"ended".into(), &0.into()));
    assert_eq!(done["state"], "prompt");
    // Keys and expressions.
    let args = ["session", "send", "s1", "sleep 600", "--until", "never", "--wait", "0.3"];
    assert_eq!(world.farwire(&args).await.code, 124);
    let key = world.farwire(&["session", "send", "s1", "--key", "ctrl-c"]).await;
    assert_eq!(key.code, 130, "{key:?}");
    let nothing = world.farwire(&["session", "send", "s1"]).await;
    assert!(nothing.code == 64 && nothing.stderr.contains("hint: "), "{nothing:?}");
    let wrong = world.farwire(&["session", "send", "web-1/none", "ls"]).await;
    assert!(wrong.code == 69 && wrong.stderr.contains("error[unknown_id]"), "{wrong:?}");
    assert!(wrong.stderr.contains("farwire sessions web-1 --all"), "{wrong:?}");
}

#[tokio::test]
async fn the_commands_of_a_session_are_a_list_with_their_exact_output() {
    let world = World::with_server("web-1").await;
    opened(&world, "work").await;
    for (line, code) in [
        ("cd /tmp", 0),
        ("false", 1),
        ("seq 1 20000", 0),
        ("sleep 0.2; (exit 3)", 3),
        ("echo fin", 0),
    ] {
        assert_eq!(world.farwire(&["session", "send", "s1", line]).await.code, code, "{line}");
    }
    let list = world.farwire(&["session", "commands", "s1", "-n", "5", "--json"]).await.json();
    let rows: Vec<_> = list.as_array().unwrap().iter().collect();
    assert_eq!(rows.len(), 5);
    let codes: Vec<_> = rows.iter().map(|row| row["exit_code"].as_i64().unwrap()).collect();
    assert_eq!(codes, [0, 1, 0, 3, 0]);
    assert_eq!(rows[3]["text"], "sleep 0.2; (exit 3)");
    assert_eq!(rows[3]["cwd"], "/tmp");
    let took = rows[3]["duration_ms"].as_u64().unwrap();
    // The agent may hear of the beginning late, and says how long it was after that.
    assert!(took > 0, "{took}");
    let number = rows[2]["number"].to_string();
    let done = world.farwire(&["session", "commands", "s1", "--output", &number]).await;
    let expected: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
    assert!(done.stdout == expected.as_bytes(), "{} bytes: {}", done.stdout.len(), done.stderr);
    let table = world.farwire(&["session", "commands", "web-1/work"]).await.text();
    let last = table.lines().last().unwrap();
    assert!(
        table.contains("exit=3  ") && last.contains("  /tmp ") && last.ends_with(" echo fin"),
        "{table}"
    );
    let none = world.farwire(&["session", "commands", "s1", "--output", "999"]).await;
    assert!(none.code == 69 && none.stderr.contains("error[unknown_id]"), "{none:?}");
}

#[tokio::test]
async fn a_screen_is_shown_as_text_and_as_what_draws_it() {
    let world = World::with_server("web-1").await;
    opened(&world, "work").await;
    let line = "clear; printf '\\033[1;31mred\\033[m plain\\n'";
    world.farwire(&["session", "send", "s1", line]).await;
    // The command is answered at its end; its prompt may come a moment later.
    until("the prompt is drawn", async || {
        let text = world.farwire(&["session", "screen", "s1"]).await.text();
        (text == "red plain\n>\n").then_some(())
    })
    .await;
    let drawn = world.farwire(&["session", "screen", "s1", "--colors"]).await.text();
    let mut grid = vt100::Parser::default();
    grid.process(drawn.as_bytes());
    let cell = grid.screen().cell(0, 0).unwrap();
    assert!(cell.bold() && cell.fgcolor() == vt100::Color::Idx(1), "{cell:?}");
    let json = world.farwire(&["session", "screen", "s1", "--json"]).await.json();
    assert_eq!(json["cursor"], serde_json::json!({"row": 2, "column": 3}));
    let show = world.farwire(&["session", "show", "web-1/work"]).await.text();
    assert!(show.starts_with("s1 web-1/work\n  state      prompt\n"), "{show}");
    assert!(show.contains("exit codes known"), "{show}");
    let show = world.farwire(&["session", "show", "s1", "--json"]).await.json();
    assert_eq!((&show["cols"], &show["marked"]), (&80.into(), &true.into()));
}

#[tokio::test]
async fn a_secret_is_asked_for_on_a_terminal_without_being_shown() {
    let world = World::with_server("web-1").await;
    let mut person = Person::start(&world.farwire_command(&["secret", "set", "sudo"]));
    person.sees("secret: ").await;
    assert!(!person.echoes());
    person.types("hunterX\x7f2\r").await;
    person.sees("again: ").await;
    person.types("hunter2\r").await;
    assert!(person.ended().await.unwrap().success());
    let screen = person.sees("stored").await;
    assert!(!screen.contains("hunter") && person.echoes(), "{screen}");
    let mut person = Person::start(&world.farwire_command(&["secret", "set", "sudo"]));
    person.sees("secret: ").await;
    person.types("x\x03").await;
    assert_eq!(person.ended().await.unwrap().code(), Some(130));
    assert!(person.echoes());
    opened(&world, "work").await;
    let send =
        async |args: &[&str]| world.farwire(&[&["session", "send", "s1"], args].concat()).await;
    assert_eq!(send(&["read -r -s X"]).await.code, 0);
    assert_eq!(send(&["--secret", "sudo"]).await.code, 0);
    assert_eq!(send(&["echo ${#X}"]).await.text(), "7\r\n");
    let shown = send(&["--secret", "sudo"]).await;
    assert!(shown.code == 69 && shown.stderr.contains("error[terminal_busy]"), "{shown:?}");
}
