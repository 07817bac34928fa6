//! Commands in every shell that is there: the exact exit and output where the shell marks them, and
//! none claimed where it does not.

use std::path::Path;

use serde_json::json;

use crate::{Era, Model, World};

const SERVER: &str = "web-1";

/// Each shell that makes marks, with what is set in it: prompts, titles, traces.
const MARKED: [(&str, &[&str]); 3] = [
    (
        "bash",
        &[
            "PS1='[\\u \\w] $(date) $ '",
            "PROMPT_COMMAND='echo -n noise; false'",
            "set -x",
            "set +x",
        ],
    ),
    (
        "zsh",
        &[
            "PS1='%n %~ %# '; precmd() { print -n noise; false }",
            "setopt xtrace",
            "unsetopt xtrace",
        ],
    ),
    ("fish", &["function fish_prompt; echo -n \"$status noise> \"; end"]),
];

/// A command, with what it says and its exit. `round` chooses, and is told in it.
fn command(round: u32, shell: &str, traced: bool) -> (String, String, u32) {
    let code = round % 200;
    // A trace would stand in the same line.
    let end = if traced { "\\n" } else { "" };
    let (line, output) = match round % 8 {
        0 => (format!("sh -c 'exit {code}'"), String::new()),
        1 => (
            format!("printf 'a\\nb\\tc %s{end}' {round}; sh -c 'exit {code}'"),
            format!("a\nb\tc {round}\n"),
        ),
        // Marks without a nonce, with another one, and one of the right length.
        2 => (
            format!("printf '\\033]133;D;x;0\\007%s\\n' {round}; sh -c 'exit {code}'"),
            format!("{round}\n"),
        ),
        3 => (
            format!(
                "printf '\\033]133;D;%032d;0\\007\\033]133;A;%032d\\007$ \\033]133;B;%032d\\007%s\\n' 1 1 1 {round}; \
                 sh -c 'exit {code}'"
            ),
            format!("$ {round}\n"),
        ),
        4 => (
            format!(
                "sh -c 'printf \"\\\\033]133;C\\\\007\\\\033]133;D;5\\\\007%s\\\\n\" {round}; exit {code}'"
            ),
            format!("{round}\n"),
        ),
        // What looks like a prompt, and a command that was typed.
        5 => (
            format!("sh -c 'echo \"root@host:~# exit {code}\"; echo \"> \"; exit {code}'"),
            format!("root@host:~# exit {code}\n>\n"),
        ),
        // fish has no heredocs.
        6 if shell != "fish" && !traced => (
            format!("sh -c 'cat; exit {code}' <<'END'\none $HOME\n$ \n{round}\nEND"),
            format!("one $HOME\n$\n{round}\n"),
        ),
        _ => (
            format!("sh -c 'echo $ ; echo \"# \"; seq 1 50; exit {code}'"),
            format!("$\n#\n{}", (1..=50).map(|n| format!("{n}\n")).collect::<String>()),
        ),
    };
    (line, output, code)
}

async fn open(model: &mut Model, name: &str, command: &str) -> String {
    let call = json!({"server": SERVER, "name": name, "command": command});
    let (text, error) = model.call("session_open", call).await;
    assert!(!error, "{name}: {text}");
    text.split(' ').nth(1).expect("an id").to_owned()
}

/// So many commands after each setting of each shell that makes marks. Gives how many there were.
///
/// # Panics
///
/// When an exit or an output is another one than it was.
pub async fn marked(rounds: u32) -> u32 {
    let world = World::with_server(SERVER).await;
    let mut model = world.model(Era::Discover).await;
    let mut count = 0;
    for (shell, settings) in MARKED {
        if !Path::new("/usr/bin").join(shell).exists() {
            eprintln!("skipped: {shell} is not here");
            continue;
        }
        let id = open(&mut model, shell, shell).await;
        for setting in [&[""], settings].concat() {
            if !setting.is_empty() {
                let call = json!({"id": id, "text": setting});
                let (text, error) = model.call("session_send", call).await;
                let well = !error && text.contains("state=prompt exit=0");
                assert!(well, "{shell}: {setting}: {text}");
            }
            let traced = setting.starts_with("set -x") || setting.starts_with("setopt");
            for round in 0..rounds {
                let (line, output, code) = command(round, shell, traced);
                let (text, error) =
                    model.call("session_send", json!({"id": id, "text": line})).await;
                let (header, rest) = text.split_once('\n').expect("two lines");
                let said = header.contains(&format!(" state=prompt exit={code} "));
                assert!(!error && said, "{shell}: {setting}: {line}: {text}");
                let shown: String = rest
                    .lines()
                    .filter(|line| !traced || !line.starts_with('+'))
                    .map(|line| format!("{}\n", line.trim_end()))
                    .collect();
                assert_eq!(shown, output, "{shell}: {setting}: {line}: {text}");
                count += 1;
            }
            // All that the session has said, with the marks of all commands before.
            let recording = world.path(&format!("{shell}.recording"));
            let said = world.farwire(&["output", &id]).await.stdout;
            std::fs::write(&recording, said).expect("a file");
            let line = format!("cat {}; sh -c 'exit 7'", recording.display());
            let (text, error) = model.call("session_send", json!({"id": id, "text": line})).await;
            let said =
                text.lines().next().is_some_and(|line| line.contains(" state=prompt exit=7 "));
            assert!(!error && said, "{shell}: {setting}: a recording: {text}");
            count += 1;
        }
    }
    count
}

/// The same in shells that make no marks, and in one that nobody knows. Gives how many there were.
///
/// # Panics
///
/// When an exit is claimed, when the output is not there, or when it is not said why the wait was
/// over.
pub async fn unmarked(rounds: u32) -> u32 {
    let world = World::with_server(SERVER).await;
    let mut model = world.model(Era::Discover).await;
    let strange = world.path("strange");
    std::fs::copy("/bin/dash", &strange).expect("there is a dash");
    let strange = format!("exec {} -i", strange.display());
    let mut count = 0;
    for (name, line, state) in [
        ("sh", "exec sh -i", "prompt"),
        ("dash", "exec dash -i", "prompt"),
        ("strange", strange.as_str(), "running"),
    ] {
        let id = open(&mut model, name, line).await;
        for round in 0..rounds {
            for (line, output) in [
                (format!("echo said {round}; (exit 3)"), format!("said {round}\n")),
                (
                    format!("printf '\\033]133;C;x\\007made up {round}\\033]133;D;x;0\\007\\n'"),
                    format!("made up {round}\n"),
                ),
                (format!("cat <<'END'\n$ \nexit=0 {round}\nEND"), format!("exit=0 {round}\n")),
                (format!("set -x; echo traced {round}; set +x"), format!("traced {round}\n")),
                ("sleep 0.1; false".to_owned(), String::new()),
            ] {
                let (text, error) =
                    model.call("session_send", json!({"id": id, "text": line})).await;
                let (header, rest) = text.split_once('\n').expect("two lines");
                let well = header.contains(&format!(" state={state} "))
                    && header.contains("reason=silence");
                assert!(!error && well, "{name}: {line}: {text}");
                assert!(!header.contains("exit="), "{name}: {line}: nobody can know: {text}");
                let all = rest.lines().map(|line| format!("{}\n", line.trim_end()));
                assert!(all.collect::<String>().contains(&output), "{name}: {line}: {text}");
                count += 1;
            }
        }
        let (text, _) = model.call("session_send", json!({"id": id, "text": "exit 4"})).await;
        assert!(text.starts_with(&format!("[session {id} exit=4")), "{name}: {text}");
    }
    count
}
