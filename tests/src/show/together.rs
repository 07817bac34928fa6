//! Two models and a person in one session.

use serde_json::json;

use super::{PLAIN, Record, SERVER, id_in, world};
use crate::Era;
use crate::person::Person;

/// All three work in it, one after the other, and see what the others did.
///
/// # Panics
///
/// When one of them does not.
pub async fn together() -> Record {
    let world = world().await;
    let mut record = Record::new(
        "Two models and a person in one session. Each sees what the others did.",
        &world.path("work"),
    );
    let (mut first, mut second) =
        (world.model(Era::Discover).await, world.model(Era::Discover).await);
    let open = json!({"server": SERVER, "name": "shared", "cwd": world.path("work")});
    record.says("The first model:");
    let id = id_in(&record.calls(&mut first, "session_open", open.clone(), 1).await);
    first.call("session_send", json!({"id": id, "text": PLAIN})).await;
    record
        .calls(&mut first, "session_send", json!({"id": id, "text": "X=from-the-first"}), 1)
        .await;
    record.says("The second, with the same name:");
    let text = record.calls(&mut second, "session_open", open, 1).await;
    assert!(text.contains("resumed"), "{text}");
    let text = record
        .calls(&mut second, "session_send", json!({"id": id, "text": "echo $X; Y=second"}), 2)
        .await;
    assert!(text.contains("from-the-first"), "{text}");
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1/shared"]));
    person.sees("from-the-first").await;
    person.types("clear; echo $X and $Y; cd /; Z=person\r").await;
    let screen = person.sees("from-the-first and second").await;
    record.says("A person, `farwire attach web-1/shared`, types `clear; echo $X and $Y; cd /; Z=person` and sees:");
    let shown: Vec<_> = screen.trim_end().lines().map(|line| format!("    {line}")).collect();
    record.says(&shown.join("\n"));
    record.says("The first model again:");
    let text = record
        .calls(&mut first, "session_send", json!({"id": id, "text": "echo $Z in $PWD"}), 2)
        .await;
    assert!(text.contains("person in /"), "{text}");
    person.types("\x1d").await;
    assert!(person.ended().await.is_ok_and(|status| status.success()));
    record.says("The person leaves with ctrl-]; the session goes on.");
    let text =
        record.calls(&mut second, "session_send", json!({"id": id, "text": "echo on"}), 2).await;
    assert!(text.contains("exit=0"), "{text}");
    record
}
