//! Full-screen programs driven by a model: what it is shown is what another emulator shows.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{PLAIN, Record, SERVER, id_in, world};
use crate::{Era, Model, World};

const COLS: usize = 100;
const ROWS: usize = 30;

/// What a screen may have in characters, of the raw bytes that drew it.
const SHARE: f64 = 0.10;

/// Drives vim and htop. `python` is one that has `pyte`.
///
/// # Panics
///
/// When a screen differs from the reference, or is too large beside the bytes.
pub async fn screens(python: &Path) -> Record {
    let world = world().await;
    let mut record = Record::new(
        "vim and htop, driven by a model. After each part the screen that the model is shown is compared with \
         pyte's,\nwhich was given the same bytes.",
        &world.path("work"),
    );
    let mut model = world.model(Era::Discover).await;
    let open = json!({"server": SERVER, "name": "edit", "cols": COLS, "rows": ROWS, "cwd": world.path("work")});
    let text = record.calls(&mut model, "session_open", open, 1).await;
    let id = id_in(&text);
    model.call("session_send", json!({"id": id, "text": PLAIN})).await;
    let make = "seq -f 'line %g of a file that is long enough to scroll' 400 > long.txt; clear";
    model.call("session_send", json!({"id": id, "text": make})).await;
    let begun = raw(&world, &id).await.len();
    for call in [
        json!({"id": id, "text": "vim -u NONE -N long.txt", "wait": 5}),
        json!({"id": id, "text": ":set number hlsearch", "wait": 5}),
        json!({"id": id, "text": "/line 200", "wait": 5}),
        json!({"id": id, "text": "ccchanged by a model", "enter": false, "keys": ["escape"], "wait": 5}),
    ] {
        record.calls(&mut model, "session_send", call, 1).await;
    }
    for keys in ["page-up", "page-down", "ctrl-d", "ctrl-u", "up", "down", "page-down", "page-up"] {
        model.call("session_send", json!({"id": id, "keys": vec![keys; 4], "wait": 5})).await;
    }
    same(&mut record, (&world, &mut model), &id, (python, begun, 14)).await;
    record.calls(&mut model, "session_send", json!({"id": id, "text": ":wq", "wait": 5}), 2).await;
    let changed = json!({"id": id, "text": "grep -n changed long.txt"});
    record.calls(&mut model, "session_send", changed, 3).await;

    // It draws itself anew every hundred seconds only: two looks see the same.
    let begun = raw(&world, &id).await.len();
    let htop = json!({"id": id, "text": "clear; htop -d 1000", "wait": 5});
    record.calls(&mut model, "session_send", htop, 1).await;
    for keys in ["f6", "escape", "down", "page-down", "f5", "f2", "escape", "page-up", "f5", "up"] {
        for _ in 0..4 {
            model.call("session_send", json!({"id": id, "keys": [keys], "wait": 3})).await;
        }
    }
    // Whose processes run here is not for the recording.
    same(&mut record, (&world, &mut model), &id, (python, begun, 1)).await;
    record.calls(&mut model, "session_send", json!({"id": id, "keys": ["q"], "wait": 5}), 1).await;
    record
}

/// The bytes of a session's log.
async fn raw(world: &World, id: &str) -> Vec<u8> {
    world.farwire(&["output", id]).await.stdout
}

async fn same(
    record: &mut Record,
    (world, model): (&World, &mut Model),
    id: &str,
    (python, begun, lines): (&Path, usize, usize),
) {
    let look = json!({"id": id, "view": "screen", "max_output": 20_000});
    let shown = record.calls(model, "output", look, lines).await;
    let bytes = raw(world, id).await;
    let (header, screen) = shown.split_once('\n').expect("two lines");
    let drawn = bytes.len() - begun;
    let share = screen.chars().count() as f64 / drawn as f64;
    let reference = emulate(python, &bytes).await;
    let screen: String = screen.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let same = screen == reference;
    assert!(same, "{header}\nshown:\n{screen}\nreference:\n{reference}");
    assert!(share <= SHARE, "{share}");
    record.says(&format!(
        "The same as pyte's, row by row. {drawn} bytes drew it; the text has {:.1} % of that.",
        share * 100.0
    ));
}

async fn emulate(python: &Path, bytes: &[u8]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("show/emulate.py");
    let mut command = Command::new(python);
    command.arg(script).args([COLS.to_string(), ROWS.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = tokio::process::Command::from(command).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(bytes).await.expect("it reads");
    drop(stdin);
    let done = child.wait_with_output().await.expect("it can be waited for");
    assert!(done.status.success());
    String::from_utf8(done.stdout).expect("text")
}
