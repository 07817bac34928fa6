//! The relay sees sizes and times. The test holds everything that it has, its memory included.

use std::fs;
use std::path::Path;

use farwire_tests::{Era, World};
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

#[tokio::test]
async fn no_canary_is_found_in_anything_that_the_relay_has() {
    let mut world = World::with_server("web-1").await;
    world.kill_relay().await;
    let keylog = world.path("relay/keys.log");
    world.start_relay(&["--keylog", &keylog.display().to_string()]).await;
    world.wait_for("web-1", "online").await;
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
    let mut held = files(&world.path("relay"));
    held.push(("log".to_owned(), fs::read(world.path("relay.log")).unwrap()));
    match memory(world.relay_pid()) {
        Some(memory) => {
            assert!(contains(&memory, "web-1"), "its memory was really read");
            held.push(("memory".to_owned(), memory));
        }
        None => eprintln!("skipped: the relay's memory may not be read here"),
    }
    for (place, bytes) in &held {
        for canary in [&argv, &env, &input, &output] {
            assert!(!contains(bytes, canary), "{canary} in {place}");
        }
    }
    // And the canaries are found where they must be, by the same means.
    assert!(contains(done.text().as_bytes(), &output));
}

#[tokio::test]
async fn its_own_notes_of_a_stream_hold_header_sizes_and_times() {
    let world = World::with_server("web-1").await;
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
    let log = farwire_tests::until("the relay's notes", async || {
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
    world.kill_relay().await;
    let keylog = world.path("relay/keys.log");
    world.start_relay(&["--keylog", &keylog.display().to_string()]).await;
    world.wait_for("web-1", "online").await;
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
    let mut held = files(&world.path("relay"));
    held.push(("log".to_owned(), fs::read(world.path("relay.log")).unwrap()));
    held.extend(memory(world.relay_pid()).map(|memory| ("memory".to_owned(), memory)));
    for (place, bytes) in &held {
        for canary in [&directory, &name, &content, &found] {
            assert!(!contains(bytes, canary), "{canary} is in {place}");
        }
    }
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
