//! The agent is replaced by another build while a compiler runs in a session.

use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{PLAIN, Record, SERVER, id_in, world};
use crate::Era;
use crate::world::{began, program_file};

const SOURCE: &str = "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n";

/// Replaces it as a service manager does: TERM, another file in its place, start. `newer` is an
/// agent of another build.
///
/// # Panics
///
/// When the compiler does not live on, or its exit is not told.
pub async fn replaced(newer: &Path) -> Record {
    let mut world = world().await;
    let mut record = Record::new(
        "The agent is ended with TERM and another build is started in its place, while a build runs in a session.",
        &world.path("work"),
    );
    std::fs::write(world.path("work/part.c"), SOURCE).expect("a file");
    let mut model = world.model(Era::Discover).await;
    let open = json!({"server": SERVER, "name": "build", "cwd": world.path("work")});
    let text = record.calls(&mut model, "session_open", open, 1).await;
    let id = id_in(&text);
    model.call("session_send", json!({"id": id, "text": PLAIN})).await;
    let text =
        record.calls(&mut model, "session_send", json!({"id": id, "text": "echo $$"}), 2).await;
    let shell: u32 = text.lines().nth(1).and_then(|pid| pid.parse().ok()).expect("a number");
    let since = began(shell);
    let build = "for i in 1 2 3 4 5 6; do echo cc part$i; cc -O2 -c part.c -o part$i.o || break; sleep 0.5; done; \
                 cc part6.o -o part && ./part; (exit 3)";
    let call = json!({"id": id, "text": build, "wait": 0.7});
    let text = record.calls(&mut model, "session_send", call, 3).await;
    assert!(text.contains(" state=running "), "{text}");

    let before = world.agent_pid(SERVER);
    let built = [&program_file("farwire-agent"), newer].map(digest);
    assert_ne!(built[0], built[1], "one build");
    world.end_agent(SERVER).await;
    assert_eq!(began(before), None);
    world.start_agent_from(SERVER, newer).await;
    record.says(&format!(
        "The agent has ended, and another one runs in its place: another process, of another build (SHA-256 {}, \
         then {}).",
        built[0], built[1]
    ));

    let call = json!({"id": id, "until": "^built", "wait": 30});
    record.calls(&mut model, "output", call, 9).await;
    let text =
        record.calls(&mut model, "session_send", json!({"id": id, "text": "echo $? $$"}), 2).await;
    assert!(text.ends_with(&format!("\n3 {shell}\n")), "{text}");
    assert!(since.is_some() && began(shell) == since);
    record.says("The exit code is that of the build, and the shell is the process that it was.");
    record
}

/// The beginning of a file's digest.
fn digest(path: impl AsRef<Path>) -> String {
    let bytes = std::fs::read(path).expect("a program");
    Sha256::digest(bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
