//! A program that asks for a password is known by the terminal, and not by what it says.

use std::path::Path;

use serde_json::json;

use super::{PLAIN, Record, SERVER, id_in, world};
use crate::Era;

/// A line that says so, a program that asks so, and `su` where it can be had.
///
/// # Panics
///
/// When one is taken for the other.
pub async fn secrets() -> Record {
    let world = world().await;
    let mut record = Record::new(
        "A password is asked for by a program that has the terminal show nothing. A line `Password:` in a log \
         is a line.",
        &world.path("work"),
    );
    let mut model = world.model(Era::Discover).await;
    let open = json!({"server": SERVER, "cwd": world.path("work")});
    let text = record.calls(&mut model, "session_open", open, 1).await;
    let id = id_in(&text);
    model.call("session_send", json!({"id": id, "text": PLAIN})).await;
    let log = json!({"id": id, "text": "echo 'auth: Password:'; sleep 600", "wait": 2});
    let text = record.calls(&mut model, "session_send", log, 3).await;
    assert!(text.contains(" state=running program=sleep "), "{text}");
    record.calls(&mut model, "session_send", json!({"id": id, "keys": ["ctrl-c"]}), 2).await;
    // As `sudo` does it: what is typed is not shown, and is taken by the line.
    let asks = "stty -echo; printf '[sudo] password for you: '; read -r P; stty echo; echo; echo ${#P} characters";
    let text = record.calls(&mut model, "session_send", json!({"id": id, "text": asks}), 3).await;
    assert!(text.contains(" state=password"), "{text}");
    let text = record
        .calls(&mut model, "session_send", json!({"id": id, "text": "correct horse"}), 4)
        .await;
    assert!(text.contains(" exit=0 ") && text.contains("13 characters"), "{text}");
    assert!(!text.contains("correct horse"), "{text}");
    // A program that really asks, for a user who is asked.
    let user = json!({"server": SERVER, "command": "/bin/sh", "user": "nobody", "name": "nobody"});
    if rustix::process::geteuid().is_root() && Path::new("/bin/su").exists() {
        let id = id_in(&record.calls(&mut model, "session_open", user, 1).await);
        model.call("session_send", json!({"id": id, "text": "PS1='$ '"})).await;
        let asks = json!({"id": id, "text": "su -c id", "wait": 5});
        let text = record.calls(&mut model, "session_send", asks, 3).await;
        assert!(text.contains(" state=password program=su"), "{text}");
        let nothing = json!({"id": id, "keys": ["enter"], "until": "(?m)^\\$ $", "wait": 20});
        let text = record.calls(&mut model, "session_send", nothing, 3).await;
        assert!(text.contains(" state=prompt"), "{text}");
    } else {
        record.says("skipped: `su` asks nobody here.");
    }
    record
}
