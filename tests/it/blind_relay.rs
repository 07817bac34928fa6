//! The relay sees sizes and times. The test holds everything that it has, its memory included.

use std::fs;
use std::path::{Path, PathBuf};

use farwire_tests::person::Person;
use farwire_tests::{Era, World, until};
use serde_json::json;

/// Every file below a directory.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("it is a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
    found
}

/// All writable memory of a process, if we may read it.
fn memory(pid: u32) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut part = vec![0; usize::try_from(to - from).ok()?];
        if memory.read_exact_at(&mut part, from).is_ok() {
            all.extend(part);
        }
    }
    Some(all)
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    let needle = needle.as_bytes();
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// A relay that writes its TLS secrets down, too. Gives the file.
async fn with_keylog(world: &mut World) -> PathBuf {
    world.kill_relay().await;
    let keylog = world.path("relay/keys.log");
    world.start_relay(&["--keylog", &keylog.display().to_string()]).await;
    world.wait_for("web-1", "online").await;
    keylog
}

/// None of these is in the relay's files, log or memory.
fn assert_blind(world: &World, canaries: &[&String]) {
    let mut held = files(&world.path("relay"));
    held.push(("log".to_owned(), fs::read(world.path("relay.log")).expect("its log")));
    match memory(world.relay_pid()) {
        Some(memory) => {
            assert!(contains(&memory, "web-1"), "its memory was really read");
            held.push(("memory".to_owned(), memory));
        }
        None => eprintln!("skipped: the relay's memory may not be read here"),
    }
    for (place, bytes) in &held {
        for canary in canaries {
            assert!(!contains(bytes, canary), "{canary} is in {place}");
        }
    }
}

#[tokio::test]
async fn no_canary_is_found_in_anything_that_the_relay_has() {
    let mut world = World::with_server("web-1").await;
    let keylog = with_keylog(&mut world).await;
    // Assembled here, so that they stand nowhere whole but where they are used.
    let canary = |place: &str| format!("canary-{place}-{}", "5f1d9c".repeat(3));
    let [argv, env, input, output] = ["argv", "env", "input", "output"].map(canary);
    let script = format!("cat; echo $V; echo {}{} | tr -d _ ; exit 77", &output[..9], &output[9..]);
    let done = world
        .farwire_with(
            &["run", "web-1", "--env", &format!("V={env}"), "--", "sh", "-c", &script, &argv],
            input.as_bytes(),
        )
        .await;
    assert_eq!(done.code, 77, "{done:?}");
    assert_eq!(done.text(), format!("{input}{env}\n{output}\n"));
    let mut model = world.model(Era::Discover).await;
    let (text, _) = model
        .call("run", json!({"server": "web-1", "command": format!("echo {argv}"), "stdin": input}))
        .await;
    assert!(text.contains(&argv));

    assert!(fs::metadata(&keylog).unwrap().len() > 0, "the relay's TLS secrets were logged");
    assert_blind(&world, &[&argv, &env, &input, &output]);
    // And the canaries are found where they must be, by the same means.
    assert!(contains(done.text().as_bytes(), &output));
}

#[tokio::test]
async fn its_own_notes_of_a_stream_hold_header_sizes_and_times() {
    let world = World::with_server("web-1").await;
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
    let log = until("the relay's notes", async || {
        let log = fs::read_to_string(world.path("relay.log")).unwrap();
        log.contains("stream ended").then_some(log)
    })
    .await;
    let line = log.lines().rfind(|line| line.contains("stream ended")).unwrap();
    let notes = line.split("stream ended ").nth(1).unwrap();
    let fields: Vec<_> = notes.split(' ').filter_map(|field| field.split('=').next()).collect();
    assert_eq!(
        fields,
        ["device", "agent", "link", "sid", "class", "not_after", "bytes_forth", "bytes_back", "ms"]
    );
}

#[tokio::test]
async fn no_canary_of_a_file_is_found_in_anything_that_the_relay_has() {
    let mut world = World::with_root("web-1", &[]).await;
    with_keylog(&mut world).await;
    let canary = |place: &str| format!("canary-{place}-{}", "7ae41b".repeat(3));
    let [directory, name, content, found] = ["directory", "name", "content", "found"].map(canary);
    fs::create_dir(world.in_root(&directory)).unwrap();
    fs::write(world.in_root(&format!("{directory}/old")), format!("{found}\n")).unwrap();
    let file = format!("web-1:{directory}/{name}");
    let done = world.farwire_with(&["files", "write", &file], content.as_bytes()).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(world.farwire(&["files", "cat", &file]).await.text(), content);
    let search = world.farwire(&["files", "search", &found, &format!("web-1:{directory}")]).await;
    assert!(search.text().contains(&found), "{search:?}");
    let dav = farwire_tests::dav::Dav::start(&world, "web-1", &[]).await;
    let reply = dav.ask("GET", &format!("/{directory}/{name}"), &[], b"").await;
    assert_eq!(reply.text(), content);
    assert_blind(&world, &[&directory, &name, &content, &found]);
    // The server's owner finds a line for each of them.
    let path = world.path("web-1/files.audit");
    let read = || fs::read_to_string(&path).unwrap_or_default();
    // The agent writes down what was answered, and nobody waits for it.
    let mut audit = read();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !audit.contains("\"verb\":\"http GET\"") && std::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
        audit = read();
    }
    for verb in ["write", "read", "search", "http GET"] {
        let line = audit.lines().find(|line| line.contains(&format!("\"verb\":\"{verb}\"")));
        assert!(line.is_some_and(|line| line.contains(&directory)), "{verb}: {audit}");
    }
    assert!(
        !audit.contains(&content)
            && audit.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );
}

#[tokio::test]
async fn no_canary_of_a_terminal_or_a_job_is_found_in_anything_that_the_relay_has() {
    let mut world = World::with_server("web-1").await;
    with_keylog(&mut world).await;
    let canary = |place: &str| format!("canary-{place}-{}", "c83f20".repeat(3));
    let [named, typed, keyed, detached, pty] =
        ["named", "typed", "keyed", "detached", "pty"].map(canary);
    let mut model = world.model(Era::Discover).await;
    let open = json!({"server": "web-1", "name": named, "command": "sh"});
    let (text, error) = model.call("session_open", open).await;
    assert!(!error, "{text}");
    let id = text.split_whitespace().nth(1).expect("an id").to_owned();
    let send = json!({"id": id, "text": format!("echo {typed}"), "until": format!("^{typed}")});
    let (text, error) = model.call("session_send", send).await;
    assert!(!error && text.contains(&typed), "{text}");
    let mut person = Person::start(&world.farwire_command(&["attach", &id]));
    person.types(&format!("echo {keyed}\r")).await;
    until("what was typed", async || (person.screen().matches(&keyed).count() > 1).then_some(()))
        .await;
    person.kill().await;
    let line = format!("echo {detached}");
    let done = world.farwire(&["run", "web-1", "--detach", "-c", &line]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let job = done.text().trim().to_owned();
    until("its output", async || {
        world.farwire(&["output", &job]).await.text().contains(&detached).then_some(())
    })
    .await;
    assert!(world.farwire(&["status", "web-1", "--all"]).await.text().contains(&detached));
    let done = world.farwire(&["run", "web-1", "-t", "-c", &format!("echo {pty}")]).await;
    assert!(done.text().contains(&pty), "{done:?}");
    assert_blind(&world, &[&named, &typed, &keyed, &detached, &pty]);
}

#[tokio::test]
async fn no_canary_of_a_tree_or_a_change_is_found_in_anything_that_the_relay_has() {
    let mut world = World::with_root("web-1", &[]).await;
    with_keylog(&mut world).await;
    let canary = |place: &str| format!("canary-{place}-{}", "90bd6e".repeat(3));
    let [tree, inside, moved, added, old, new] =
        ["tree", "inside", "moved", "added", "old", "new"].map(canary);
    let here = world.path("here");
    fs::create_dir_all(here.join(&inside)).unwrap();
    fs::write(here.join(&inside).join("file"), format!("{old}\n")).unwrap();
    let (here, there) = (here.display().to_string(), format!("web-1:{tree}"));
    let (file, away) = (format!("{there}/{inside}/file"), format!("{there}/{moved}"));
    let back = world.path("back").display().to_string();
    let patch =
        format!("--- a/{moved}\n+++ b/{moved}\n@@ -1,2 +1,2 @@\n-{old}\n+{new}\n {added}\n");
    let asked: [(&[&str], &str); 12] = [
        (&["put", "--recursive", &here, &there], ""),
        (&["sync", &here, &there], ""),
        (&["get", "--recursive", &there, &back], ""),
        (&["ls", &there], ""),
        (&["write", "--append", &file], &format!("{added}\n")),
        (&["mv", &file, &away], ""),
        (&["patch", &there], &patch),
        (&["edit", &away, "--old", &new, "--new", &old], ""),
        (&["undo", "web-1"], ""),
        (&["checksum", &away], ""),
        (&["cp", &away, &format!("{away}-2")], ""),
        (&["rm", &away], ""),
    ];
    for (arguments, input) in asked {
        let done = world.farwire_with(&[&["files"], arguments].concat(), input.as_bytes()).await;
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
    }
    let held = fs::read_to_string(world.in_root(&format!("{tree}/{moved}-2"))).unwrap();
    assert_eq!(held, format!("{new}\n{added}\n"), "all of it was done");
    let list = world.farwire(&["files", "undo", "web-1", "--list"]).await;
    assert!(list.text().contains(&moved), "{list:?}");
    assert_blind(&world, &[&tree, &inside, &moved, &added, &old, &new]);
}
