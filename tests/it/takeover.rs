//! A person takes the keyboard from a model, with a key and from a shell, and both are told.

use std::time::{Duration, Instant};

use farwire_tests::person::Person;
use farwire_tests::{Era, World, until};
use serde_json::json;

/// What is pressed twice within this time is typed.
const TWICE: Duration = Duration::from_millis(500);

/// Within so long everybody knows who is there; what is silent is looked after each 15 s only.
const JOINED_AND_LEFT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn one_key_takes_the_keyboard_and_the_model_is_told_by_whom() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1", "name": "work"})).await;
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1/work"]));
    person.types("PS1='> '; clear; echo ready-$((1 + 1))\r").await;
    person.sees("ready-2\n>").await;
    // Whoever has just typed comes first, for a moment.
    until("the model's turn", async || {
        let send = json!({"id": "s1", "text": "echo by-$((1 + 1))"});
        let (text, error) = model.call("session_send", send).await;
        assert!(error || text.ends_with("]\nby-2\n"), "{text}");
        (!error).then_some(())
    })
    .await;
    person.sees("by-2").await;
    assert!(!person.screen().contains("[farwire"), "nothing is said while nothing matters");
    person.types("\x1e").await;
    person.sees("[farwire: the keyboard is yours; Ctrl-^ releases it]").await;
    let taken = Instant::now();
    let (text, error) = model.call("session_send", json!({"id": "s1", "text": "echo never"})).await;
    assert!(error && text.starts_with("[error input_locked]"), "{text}");
    assert!(text.contains("human") && text.contains("Next: "), "{text}");
    let (text, _) = model.call("status", json!({})).await;
    assert!(
        text.starts_with("[open 0 runs 1 session]")
            && text.contains("typing=")
            && text.contains("human"),
        "{text}"
    );
    let show = world.farwire(&["session", "show", "s1"]).await.text();
    assert!(show.contains("keyboard") && show.contains("attached"), "{show}");
    until("a second press to be another", async || (taken.elapsed() > TWICE).then_some(())).await;
    person.types("\x1e").await;
    person.sees("[farwire: you released the keyboard]").await;
    until("the model's turn again", async || {
        let send = json!({"id": "s1", "text": "echo again-$((1 + 1))"});
        let (text, error) = model.call("session_send", send).await;
        (!error && text.ends_with("]\nagain-2\n")).then_some(())
    })
    .await;
    assert!(!person.sees("again-2").await.contains("never"));
    // Twice in a row it is typed, too.
    person.types("cat -v\r\x1e\x1e\r").await;
    person.sees("^^").await;
    person.types("\x03").await;
    person.types("\x1d").await;
    assert!(person.ended().await.unwrap().success());
    // Who leaves lets go, and is gone from the list before anybody can ask.
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1/work", "--take"]));
    person.sees("the keyboard is yours").await;
    person.types("\x1d").await;
    assert!(person.ended().await.unwrap().success());
    let gone = Instant::now();
    until("the person to be gone from the list", async || {
        let show = world.farwire(&["session", "show", "s1"]).await.text();
        (!show.contains("\n  attached") && !show.contains("\n  keyboard")).then_some(())
    })
    .await;
    assert!(gone.elapsed() < JOINED_AND_LEFT, "{:?}", gone.elapsed());
}

#[tokio::test]
async fn who_types_is_decided_from_a_shell_and_noted() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    model.call("session_open", json!({"server": "web-1", "name": "work"})).await;
    let session = async |args: &[&str]| world.farwire(&[&["session"], args].concat()).await;
    let policy = session(&["policy", "s1", "user-only"]).await;
    assert!(policy.code == 0 && policy.text().contains("policy user-only"), "{policy:?}");
    assert!(session(&["policy", "web-1/work"]).await.text().contains("user-only"));
    let (text, error) = model.call("session_send", json!({"id": "s1", "text": "true"})).await;
    assert!(
        error && text.starts_with("[error input_locked]") && text.contains("user-only"),
        "{text}"
    );
    assert_eq!(session(&["send", "s1", "true"]).await.code, 0);
    session(&["policy", "s1", "shared"]).await;
    let taken =
        session(&["take", "s1", "--for", "1m", "--reason", "deploying", "--json"]).await.json();
    assert_eq!(taken["typing"]["lease"]["holder"]["you"], true, "{taken}");
    let (text, error) = model.call("session_send", json!({"id": "s1", "text": "true"})).await;
    assert!(error && text.starts_with("[error input_locked]"), "{text}");
    let given = session(&["handoff", "s1", "--surface", "ai-local", "--json"]).await.json();
    assert_eq!(given["typing"]["lease"]["holder"]["surface"], "ai-local", "{given}");
    let (text, error) = model.call("session_send", json!({"id": "s1", "text": "true"})).await;
    assert!(!error, "{text}");
    let wrong = session(&["take", "s1", "--for", "2h"]).await;
    assert!(wrong.code == 64 && wrong.stderr.contains("--for: at most 1h"), "{wrong:?}");
    assert_eq!(session(&["take", "s1"]).await.code, 0);
    assert!(session(&["release", "s1"]).await.text().contains("nobody holds the keyboard"));
    let resized = session(&["resize", "s1", "100x30"]).await;
    assert_eq!(resized.text(), "s1: 100x30\n");
    let filed = session(&["label", "s1", "--tag", "db"]).await;
    assert_eq!(filed.text(), "s1: labels: tag=db\n");
    let limited = session(&["limits", "s1", "--idle", "2h"]).await;
    assert!(limited.text().contains("idle=2h00m"), "{limited:?}");
    let history = session(&["history", "s1"]).await.text();
    for line in [
        "opened",
        "typed",
        "refused",
        "keyboard: takeover",
        "deploying",
        "keyboard: handoff",
        "resized to 100x30",
    ] {
        assert!(history.contains(line), "{line}: {history}");
    }
    let first = history.lines().next().unwrap();
    assert!(first.starts_with("1 2") && first.ends_with("opened"), "{history}");
    // Follows to the end.
    let mut following = Person::start(&world.farwire_command(&["session", "history", "s1", "-f"]));
    following.sees("opened").await;
    assert_eq!(session(&["send", "s1", "exit 3"]).await.code, 3);
    assert!(following.ended().await.unwrap().success());
    following.sees("ended").await;
}

#[tokio::test]
async fn a_person_who_takes_the_keyboard_at_once_has_it_first() {
    let world = World::with_server("web-1").await;
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1", "--take"]));
    person.sees("the keyboard is yours").await;
    let mut model = world.model(Era::Discover).await;
    let (text, _) = model.call("status", json!({})).await;
    let id = text.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let (text, error) = model.call("session_send", json!({"id": id, "text": "true"})).await;
    assert!(error && text.starts_with("[error input_locked]"), "{text}");
    person.types("\x1e").await;
    person.sees("you released the keyboard").await;
    // What nobody may type is refused in one line, not in one for each key.
    let policy = world.farwire(&["session", "policy", &id, "agent-only"]).await;
    assert_eq!(policy.code, 0, "{policy:?}");
    person.sees("[farwire: only AI clients may type here; Ctrl-^ takes the keyboard]").await;
    for _ in 0..3 {
        person.types("x").await;
    }
    person.sees("[farwire: not typed: only AI clients may type").await;
    let (text, error) =
        model.call("session_send", json!({"id": id, "text": "echo up-$((1 + 1))"})).await;
    assert!(!error && text.ends_with("]\nup-2\n"), "{text}");
    let screen = person.sees("up-2").await;
    assert_eq!(screen.matches("not typed").count(), 1, "{screen}");
}
