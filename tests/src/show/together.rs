//! Two models and a person in one session.

use serde_json::{Value, json};

use super::{PLAIN, Record, SERVER, id_in, world};
use crate::person::Person;
use crate::{Era, Model, until};

/// All three work in it, one after the other, hand the keyboard on, and see what the others did.
///
/// # Panics
///
/// When one of them does not.
pub async fn together() -> Record {
    let world = world().await;
    let mut record = Record::new(
        "Two models and a person in one session: who may type is decided by the server, and handed on.",
        &world.path("work"),
    );
    let scope = ["--scope", "core,pty.*"];
    let mut first = world.model_with(&scope, Era::Discover).await;
    let mut second = world.model_with(&scope, Era::Discover).await;
    let open = json!({"server": SERVER, "name": "shared", "cwd": world.path("work")});
    record.says("The first model opens it, and takes the lease:");
    let id = id_in(&record.calls(&mut first, "session_open", open.clone(), 1).await);
    first.call("session_send", json!({"id": id, "text": PLAIN})).await;
    let lease = |client: &str| json!({"session_id": id, "owner": "team", "client_id": client});
    let types = |text: &str| json!({"id": id, "text": text});
    record.calls(&mut first, "pty_attach", lease("first"), 1).await;
    let write = |client: &str, data: &str| {
        let mut write = lease(client);
        write["data"] = json!(data);
        write
    };
    record.calls(&mut first, "pty_write", write("first", "X=from-the-first\n"), 1).await;
    record.says("The second, with the same name, gets the same session, and may only look:");
    let text = record.calls(&mut second, "session_open", open, 1).await;
    assert!(text.contains("resumed"), "{text}");
    locked(&mut record, &mut second, "pty_write", write("second", "echo $X\n")).await;
    record.says("The first hands the keyboard over:");
    let mut give = lease("first");
    (give["target_client_id"], give["reason"]) = (json!("second"), json!("your turn"));
    record.calls(&mut first, "pty_handoff", give, 1).await;
    record.calls(&mut second, "pty_write", write("second", "echo $X; Y=second\n"), 1).await;
    locked(&mut record, &mut first, "pty_write", write("first", "never\n")).await;

    let mut person = Person::start(&world.farwire_command(&["attach", "web-1/shared"]));
    person.sees("from-the-first").await;
    person.types("\x1e").await;
    person.sees("the keyboard is yours").await;
    record.says("A person, `farwire attach web-1/shared`, presses ctrl-^ and has the keyboard. The second model:");
    locked(&mut record, &mut second, "pty_write", write("second", "never\n")).await;
    person.types("clear; echo $X and $Y; cd /; Z=person\r").await;
    let screen = person.sees("from-the-first and second").await;
    record.says("The person types `clear; echo $X and $Y; cd /; Z=person`, sees");
    let shown: Vec<_> = screen.trim_end().lines().map(|line| format!("    {line}")).collect();
    record.says(&shown.join("\n"));
    record.says("and leaves with ctrl-], which lets go of the keyboard. The first model again:");
    person.types("\x1d").await;
    assert!(person.ended().await.is_ok_and(|status| status.success()));
    until("the keyboard to be free", async || {
        let (_, error) = first.call("session_send", types("true")).await;
        (!error).then_some(())
    })
    .await;
    let text = record.calls(&mut first, "session_send", types("echo $Z in $PWD"), 2).await;
    assert!(text.ends_with("person in /\n"), "{text}");
    record.says("Who did what, by the server's own record, `farwire session history shared`:");
    let history = world.farwire(&["session", "history", "web-1/shared"]).await.text();
    for what in ["attach", "handoff", "refused", "takeover", "your turn"] {
        assert!(history.contains(what), "{what}: {history}");
    }
    assert!(!history.contains("never"), "{history}");
    let lines: Vec<_> = history.lines().map(|line| format!("    {line}")).collect();
    record.says(&lines.join("\n"));
    record
}

/// Calls a tool that must be refused, since somebody else has the keyboard.
async fn locked(record: &mut Record, model: &mut Model, tool: &str, arguments: Value) {
    let text = record.refused(model, tool, arguments).await;
    assert!(text.starts_with("[error input_locked]"), "{text}");
}
