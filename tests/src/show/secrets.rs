//! A program that asks for a password is known by the terminal, and not by what it says.

use serde_json::json;

use super::{PLAIN, Record, SERVER, id_in, world};
use crate::Era;

/// A line that says so, a program that asks so, and `sudo` where it is there.
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
    if ["/usr/bin/sudo", "/bin/sudo"].iter().any(|path| std::path::Path::new(path).exists()) {
        let asks =
            json!({"id": id, "text": "sudo -k; sudo -u nobody -p 'Password: ' true", "wait": 5});
        record.calls(&mut model, "session_send", asks, 3).await;
    } else {
        record.says("skipped: there is no sudo here.");
    }
    record
}
