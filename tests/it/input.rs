//! Standard input reaches the program once, whole, and ends where it was said to end.

use farwire_tests::{Done, Era, World, until};
use serde_json::json;

#[tokio::test]
async fn input_within_a_request_is_whole_each_time() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let long = "x".repeat(39_999) + "\n";
    let count = async |model: &mut farwire_tests::Model, more: serde_json::Value, input: &str| {
        let mut call = json!({"server": "web-1", "command": "wc -c", "stdin": input});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (text, error) = model.call("run", call).await;
        assert!(!error && text.contains(" exit=0 "), "{text}");
        text.lines().last().unwrap().trim().to_owned()
    };
    for round in 0..20 {
        assert_eq!(count(&mut model, json!({}), "hello\n").await, "6", "round {round}");
        assert_eq!(count(&mut model, json!({}), &long).await, "40000", "round {round}");
    }
    for round in 0..5 {
        let login = count(&mut model, json!({"login": true}), "hello\n").await;
        assert_eq!(login, "6", "a login shell, round {round}");
        let late = json!({"command": "sleep 0.2; wc -c"});
        assert_eq!(count(&mut model, late, &long).await, "40000", "a late reader, round {round}");
        assert_eq!(count(&mut model, json!({}), "").await, "0", "none, round {round}");
    }
    if is_root() {
        let other = count(&mut model, json!({"user": "nobody"}), "hello\n").await;
        assert_eq!(other, "6", "another user");
    }
    let call = json!({"server": "web-1", "command": "sleep 0.3; wc -c", "stdin": long, "wait": 0});
    let (text, _) = model.call("run", call).await;
    assert!(text.contains(" running "), "{text}");
    let id = text.split(' ').nth(1).unwrap().to_owned();
    until("its end", async || {
        let (text, _) = model.call("output", json!({"id": id, "view": "tail"})).await;
        text.contains(" exit=0 ").then(|| assert!(text.ends_with("\n40000\n"), "{text}"))
    })
    .await;
}

/// Whether this is the user who may run programs as others.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[tokio::test]
async fn piped_input_is_whole_also_for_a_program_that_reads_late() {
    let world = World::with_server("web-1").await;
    for (line, bytes) in [("wc -c", 6), ("wc -c", 40_000), ("sleep 0.2; wc -c", 2 << 20)] {
        let input = vec![b'x'; bytes];
        let done = world.farwire_with(&["run", "web-1", "-c", line], &input).await;
        assert_eq!(done.text().trim(), bytes.to_string(), "{line}");
    }
}

#[tokio::test]
async fn input_within_a_request_survives_the_agent() {
    let mut world = World::with_server("web-1").await;
    let go = world.path("go");
    let script = format!("until [ -e {} ]; do sleep 0.02; done; wc -c", go.display());
    let mut model = world.model(Era::Discover).await;
    let input = "x".repeat(45_000);
    let call = json!({"server": "web-1", "command": script, "stdin": input, "wait": 0});
    let (text, _) = model.call("run", call).await;
    assert!(text.starts_with("[run r1 running"), "{text}");
    world.kill_agent("web-1").await;
    world.start_agent("web-1").await;
    std::fs::write(&go, "").unwrap();
    until("its end", async || {
        let (text, _) = model.call("output", json!({"id": "r1", "view": "tail"})).await;
        text.contains(" exit=0 ").then(|| assert!(text.ends_with("\n45000\n"), "{text}"))
    })
    .await;
}

/// Reading a directory fails, and is no end.
#[tokio::test]
async fn an_input_that_cannot_be_read_is_said_and_never_looks_whole() {
    let world = World::with_server("web-1").await;
    let whole = world.path("whole");
    let script = format!("cat && touch {}", whole.display());
    for more in [&[][..], &["-t"]] {
        let arguments = [&["run", "web-1"], more, &["-c", &script]].concat();
        let mut command = world.farwire_command(&arguments);
        command.stdin(std::fs::File::open(world.path("bridge")).unwrap());
        let done = Done::from(command.output().await.unwrap());
        let said = "error[io]: standard input cannot be read: Is a directory";
        assert!(done.code == 255 && done.stderr.contains(said), "{done:?}");
        until("the end of the program", async || {
            let open = world.farwire(&["status", "--json"]).await.json();
            open.as_array().unwrap().is_empty().then_some(())
        })
        .await;
        assert!(!whole.exists(), "the program saw the end of its input");
    }
}
