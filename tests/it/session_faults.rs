//! What goes wrong around a session, and what it must not lose.

use std::time::{Duration, Instant};

use farwire_tests::person::Person;
use farwire_tests::trials::{Dice, kills};
use farwire_tests::world::{began, children, kill, resident_kib};
use farwire_tests::{Era, Model, World, until};
use serde_json::json;

#[tokio::test]
async fn whoever_is_killed_a_line_is_typed_once_and_no_output_is_missing() {
    kills::kills(5, 20_261_125).await;
}

async fn open(model: &mut Model, command: &str) -> String {
    let call = json!({"server": "web-1", "command": command});
    let (text, error) = model.call("session_open", call).await;
    assert!(!error, "{text}");
    text.split(' ').nth(1).expect("an id").to_owned()
}

/// All that a session has said, once it has ended, and its exit code.
async fn said(world: &World, id: &str) -> (Vec<u8>, Option<i64>) {
    let code = until("it to end", async || {
        let done = world.farwire(&["output", id, "--json", "--view", "tail"]).await.json();
        (done["running"] == false).then(|| done["exit_code"].as_i64())
    })
    .await;
    (world.farwire(&["output", id]).await.stdout, code)
}

#[tokio::test]
async fn a_program_that_ignores_hup_and_term_is_closed_all_the_same() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let id =
        open(&mut model, "trap '' HUP TERM INT QUIT; echo $$; while :; do sleep 1; done").await;
    let (text, _) = model.call("output", json!({"id": id, "view": "head"})).await;
    let pid = text.lines().nth(1).and_then(|line| line.parse().ok()).unwrap();
    assert!(began(pid).is_some());
    let begun = Instant::now();
    let (text, error) = model.call("stop", json!({"id": id})).await;
    assert!(!error && text.contains("signal=KILL"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(began(pid), None);
}

#[tokio::test]
async fn a_child_that_keeps_the_terminal_does_not_keep_the_session() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let left = "trap '' HUP; (trap '' HUP; echo $BASHPID; exec sleep 600) & sleep 0.2; exit 3";
    let call = json!({"server": "web-1", "command": "bash", "name": "left"});
    model.call("session_open", call).await;
    let (text, _) = model.call("session_send", json!({"id": "s1", "text": left})).await;
    assert!(text.starts_with("[session s1 exit=3 "), "{text}");
    let (output, code) = said(&world, "s1").await;
    assert_eq!(code, Some(3));
    let output = String::from_utf8(output).unwrap();
    let child = output.lines().rev().find_map(|line| line.trim().parse().ok()).unwrap();
    assert!(began(child).is_some(), "nobody asked for its end: {output}");
    kill(child);
}

#[tokio::test]
async fn what_a_program_does_not_collect_is_gone_when_it_is_closed() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let id =
        open(&mut model, "for i in $(seq 100); do sleep 0 & done; echo $$; exec sleep 600").await;
    let (text, _) = model.call("output", json!({"id": id, "view": "tail", "lines": 1})).await;
    let pid: u32 = text.lines().nth(1).and_then(|line| line.parse().ok()).unwrap();
    assert!(!children(pid).is_empty(), "it has collected them");
    let (text, error) = model.call("stop", json!({"id": id})).await;
    assert!(!error && text.contains("signal="), "{text}");
    until("nothing to be left", async || {
        let holders = world.holders("web-1");
        (holders.iter().all(|&holder| children(holder).is_empty()) && began(pid).is_none())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_byte_is_kept_and_shown_whatever_it_is() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let mut dice = Dice::new(8);
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend((0..100_000).map(|_| dice.roll(256) as u8));
    let file = world.path("bytes");
    std::fs::write(&file, &bytes).unwrap();
    let id = open(&mut model, &format!("stty raw; cat {}", file.display())).await;
    let (output, code) = said(&world, &id).await;
    assert_eq!(code, Some(0));
    assert!(output == bytes, "{} bytes of {}", output.len(), bytes.len());
    // And a model is shown something of it, in one piece.
    let (text, error) = model.call("output", json!({"id": id, "view": "tail"})).await;
    assert!(!error && text.starts_with(&format!("[session {id} exit=0")), "{text}");
    let (text, error) = model.call("output", json!({"id": id, "view": "screen"})).await;
    assert!(!error, "{text}");
    // The same typed, but for the two keys that the bridge keeps for itself: ctrl-] and ctrl-^.
    let typed = world.path("typed");
    let reads = format!("stty raw -echo; echo ready; head -c 254 > {}; exit 4", typed.display());
    let id = open(&mut model, &reads).await;
    let mut person = Person::start(&world.farwire_command(&["attach", &id]));
    person.sees("ready").await;
    let keys: Vec<u8> = (0..=255).filter(|byte| !matches!(byte, 0x1d | 0x1e)).collect();
    person.types_bytes(&keys).await;
    assert_eq!(person.ended().await.unwrap().code(), Some(4));
    assert_eq!(std::fs::read(typed).unwrap(), keys);
}

#[tokio::test]
async fn sizes_that_cannot_be_are_brought_within_bounds_and_the_last_one_holds() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    for (cols, rows, expected) in [(0, 0, "1 1"), (65_535, 65_535, "1000 1000")] {
        let call = json!({"server": "web-1", "command": "stty size", "cols": cols, "rows": rows});
        let (text, error) = model.call("session_open", call).await;
        assert!(!error, "{text}");
        let id = text.split(' ').nth(1).unwrap().to_owned();
        let (output, _) = said(&world, &id).await;
        assert_eq!(String::from_utf8(output).unwrap().trim(), expected);
    }
    let call = json!({"server": "web-1", "name": "sized"});
    model.call("session_open", call).await;
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1/sized"]));
    person.types("PS1='> '; clear; echo here\r").await;
    person.sees("here\n>").await;
    let before = resident_kib(world.agent_pid("web-1"));
    let mut dice = Dice::new(1000);
    for _ in 0..1_000 {
        let (cols, rows) = match dice.roll(10) {
            0 => (0, 0),
            1 => (65_535, 65_535),
            2 => (1, 65_535),
            _ => (dice.roll(400) as u16, dice.roll(120) as u16),
        };
        person.size(cols, rows);
        tokio::task::yield_now().await;
    }
    person.resize(77, 33);
    person
        .types("clear; until [ \"$(stty size)\" = '33 77' ]; do sleep 0.1; done; stty size\r")
        .await;
    person.sees("33 77").await;
    let grown = resident_kib(world.agent_pid("web-1")).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
}

#[tokio::test]
async fn one_line_of_many_megabytes_is_bounded_and_what_follows_is_seen() {
    const LINE: usize = 24 << 20;
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let before = resident_kib(world.agent_pid("web-1"));
    let line = format!("head -c {LINE} /dev/zero | tr '\\0' x; echo; echo after; exit 5");
    let id = open(&mut model, &line).await;
    let (text, error) =
        model.call("output", json!({"id": id, "until": "^after", "wait": 50})).await;
    assert!(!error, "{text}");
    assert!(text.len() < 16_000, "{}", text.len());
    let code = until("it to end", async || {
        let done =
            world.farwire(&["output", &id, "--json", "--view", "tail", "--lines", "1"]).await;
        let done = done.json();
        (done["running"] == false).then_some(done)
    })
    .await;
    assert_eq!(code["exit_code"], 5);
    assert_eq!(code["total_bytes"], LINE + "\r\nafter\r\n".len());
    let (text, _) = model.call("output", json!({"id": id, "view": "tail", "lines": 1})).await;
    assert!(text.ends_with("\nafter\n"), "{text}");
    let (text, _) =
        model.call("output", json!({"id": id, "view": "grep", "pattern": "^aft"})).await;
    assert!(text.contains("2: after"), "{text}");
    let (text, error) = model.call("output", json!({"id": id, "view": "head", "lines": 1})).await;
    assert!(!error && text.len() < 16_000, "{}", text.len());
    let grown = resident_kib(world.agent_pid("web-1")).saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
}

#[tokio::test]
async fn a_flood_of_what_takes_long_to_draw_holds_up_nobody() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let (text, _) = model.call("session_open", json!({"server": "web-1", "name": "other"})).await;
    let other = text.split(' ').nth(1).unwrap().to_owned();
    let file = world.path("flood");
    // Lines that are put in, a character that is repeated, all begun anew, questions about where
    // the cursor is.
    for one in ["\x1b[H\x1b[999L", "x\x1b[65535b", "\x1bcx", "x\x1b[65535b\x1b[6n"] {
        std::fs::write(&file, one.repeat(100_000)).unwrap();
        let line = format!("while cat {}; do :; done", file.display());
        let call = json!({"server": "web-1", "command": line, "cols": 1000, "rows": 1000});
        let (text, error) = model.call("session_open", call).await;
        assert!(!error, "{one:?}: {text}");
        let id = text.split(' ').nth(1).unwrap().to_owned();
        let (text, error) = model.call("output", json!({"id": id, "view": "screen"})).await;
        assert!(!error && text.contains("state=running"), "{one:?}: {text}");
        let (text, error) =
            model.call("session_send", json!({"id": other, "text": "echo he'r'e"})).await;
        assert!(!error && text.ends_with("]\nhere\n"), "{one:?}: {text}");
        let (text, error) = model.call("stop", json!({"id": id})).await;
        assert!(!error, "{one:?}: {text}");
    }
}

#[tokio::test]
async fn somebody_who_reads_a_byte_a_second_holds_up_nobody() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let go = world.path("go");
    let line = format!(
        "until [ -e {} ]; do sleep 0.05; done; seq 1 400000; echo over; exec sleep 600",
        go.display()
    );
    let call = json!({"server": "web-1", "name": "flood", "command": line});
    model.call("session_open", call).await;
    let (text, _) = model.call("session_open", json!({"server": "web-1", "name": "other"})).await;
    let other = text.split(' ').nth(1).unwrap().to_owned();
    let attach = || Person::start(&world.farwire_command(&["attach", "web-1/flood"]));
    let (mut slow, mut quick) = (attach(), attach());
    until("both to be there", async || {
        (slow.reads(1) == 1 && !quick.screen().is_empty() || attached(&mut model).await == 2)
            .then_some(())
    })
    .await;
    let before = resident_kib(world.agent_pid("web-1"));
    let begun = Instant::now();
    std::fs::write(&go, "").unwrap();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let seen = async {
        while !quick.screen().contains("over") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun.elapsed()
    };
    let dripping = async {
        loop {
            ticks.tick().await;
            slow.reads(1);
        }
    };
    let working = async {
        let mut longest = Duration::ZERO;
        for n in 0..20 {
            let begun = Instant::now();
            let call = json!({"id": other, "text": format!("echo is-{n}")});
            let (text, _) = model.call("session_send", call).await;
            assert!(text.contains("exit=0") && text.contains(&format!("is-{n}")), "{text}");
            longest = longest.max(begun.elapsed());
        }
        longest
    };
    let (seen, longest) = tokio::select! {
        both = async { tokio::join!(seen, working) } => both,
        () = dripping => unreachable!(),
    };
    assert!(seen < Duration::from_secs(20), "the one who reads was held up: {seen:?}");
    assert!(longest < Duration::from_secs(3), "another session was held up: {longest:?}");
    let grown = resident_kib(world.agent_pid("web-1")).saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
    slow.sees("over").await;
}

async fn attached(model: &mut Model) -> u32 {
    let (text, _) = model.call("status", json!({})).await;
    u32::from(text.contains("flood")) * 2
}

#[tokio::test]
async fn a_server_of_tools_ends_with_whoever_started_it() {
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

    let world = World::with_server("web-1").await;
    let served = world.farwire_command(&["mcp", "serve"]);
    let served = served.as_std();
    // A client of which somebody else has standard input too: its end does not come.
    let mut client = tokio::process::Command::new("sh");
    client.args(["-c", "exec 3<&0; \"$@\" <&3 & echo $!; wait", "client"]);
    client.arg(served.get_program()).args(served.get_args());
    let mut client = client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut held = client.stdin.take().unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let pid: u32 = lines.next_line().await.unwrap().unwrap().parse().unwrap();
    for request in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
            "name": "run", "arguments": {"server": "web-1", "command": "echo up; sleep 2; echo on", "wait": 0}}}),
    ] {
        held.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    }
    while !lines.next_line().await.unwrap().unwrap().contains("[run r1 ") {}
    assert!(began(pid).is_some() && children(pid).is_empty());
    let begun = Instant::now();
    client.kill().await.unwrap();
    until("it to end", async || began(pid).is_none().then_some(())).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // And nothing has changed on the server.
    let mut model = world.model(Era::Discover).await;
    let (text, _) = model.call("output", json!({"id": "r1"})).await;
    assert!(text.contains("exit=0") && text.contains("on"), "{text}");
}

/// A small disk in the place of a directory, as long as it lives.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// None where the system does not let us.
    fn mount(path: std::path::PathBuf, size: &str) -> Option<Self> {
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"]);
        command.arg(&path).status().is_ok_and(|status| status.success()).then_some(Self(path))
    }

    fn grow(&self, size: &str) {
        let mut command = std::process::Command::new("mount");
        command.args(["-o", &format!("remount,size={size}")]).arg(&self.0);
        assert!(command.status().is_ok_and(|status| status.success()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = std::process::Command::new("umount");
        // It goes with the machine otherwise.
        let _ = command.arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_costs_old_output_and_nothing_else() {
    let mut world = World::new().await;
    world.enroll("web-1").await;
    let spool = world.path("web-1/spool");
    std::fs::create_dir_all(&spool).unwrap();
    let Some(disk) = SmallDisk::mount(spool, "1m") else {
        eprintln!("skipped: no disk can be mounted here");
        return;
    };
    world.start_agent("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let id = open(&mut model, "seq 1 400000; echo after; exit 6").await;
    let (_, code) = said(&world, &id).await;
    assert_eq!(code, Some(6));
    let (text, error) = model.call("output", json!({"id": id, "view": "tail", "lines": 2})).await;
    assert!(!error && text.contains(&format!("[session {id} exit=6 ")), "{text}");
    assert!(text.contains("spool=\"memory only: no space left (ENOSPC)\""), "{text}");
    assert!(text.contains(" lines=400001 ") && text.contains("dropped="), "{text}");
    assert!(text.ends_with("\n400000\nafter\n"), "{text}");
    // Others go on, and what there is room for is kept again without anything being restarted.
    let (text, _) = model.call("run", json!({"server": "web-1", "command": "echo well"})).await;
    assert!(text.contains("exit=0") && text.ends_with("well\n"), "{text}");
    disk.grow("16m");
    let id = open(&mut model, "seq 1 400000; exit 7").await;
    let (output, code) = said(&world, &id).await;
    assert_eq!(code, Some(7));
    let expected: String = (1..=400_000).map(|n| format!("{n}\r\n")).collect();
    assert!(output == expected.as_bytes(), "{} bytes of {}", output.len(), expected.len());
    let (text, _) = model.call("output", json!({"id": id, "view": "tail", "lines": 1})).await;
    assert!(!text.contains("memory only"), "{text}");
    // The disk is busy as long as somebody writes to it.
    world.kill_agent("web-1").await;
}

#[tokio::test]
async fn sessions_with_the_longest_titles_are_all_listed() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let long = "\u{1f600}".repeat(190);
    let line = format!("printf '\\033]0;{long}\\007ready'; exec cat # {long}");
    let call = |n| json!({"server": "web-1", "name": format!("long-{n}"), "command": line});
    model.calls("session_open", (0..40).map(call).collect(), 20).await;
    let open = world.farwire(&["status", "--json"]).await;
    assert_eq!(open.json().as_array().map(Vec::len), Some(40), "{}", open.stderr);
}
