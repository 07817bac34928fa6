//! Who may no longer be here is cut off from all that it has open, and not only from what it opens
//! next.

#![expect(clippy::unwrap_used, reason = "its helpers are part of its tests")]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use farwire_link::inner::sealed::ReadError;
use farwire_protocol::failure::Kind;
use farwire_protocol::header::Reset;
use farwire_tests::person::Person;
use farwire_tests::{Era, World, hand, until};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// A run that writes each line of its input down, and says when it has begun.
async fn echoing(world: &World, file: &Path) -> (Child, ChildStdin, Lines<BufReader<ChildStdout>>) {
    let script =
        format!("echo up; while read -r line; do echo \"$line\" >> {}; done", file.display());
    let mut command = world.farwire_command(&["run", "web-1", "-c", &script]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(stdout.next_line().await.unwrap().as_deref(), Some("up"));
    (child, stdin, stdout)
}

/// Everything that one device has open, cut by `cut`; what it started goes on.
async fn all_that_is_open_ends(cut: &[&str], back: bool) {
    let world = World::with_root("web-1", &[]).await;
    let bundle = world.farwire(&["fingerprint", "--bundle"]).await.stdout;
    let (typed, input) = (world.path("typed"), world.path("input"));
    let (run, mut stdin, _stdout) = echoing(&world, &input).await;
    stdin.write_all(b"before\n").await.unwrap();
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1"]));
    person
        .types(&format!(
            "echo before >> {}; PS1='> '; clear; echo ready-$((1 + 1))\r",
            typed.display()
        ))
        .await;
    person.sees("ready-2").await;
    let watch = world.farwire_command(&["files", "watch", "web-1:"]).spawn().unwrap();
    let mut model = world.model(Era::Discover).await;
    let (text, _) =
        model.call("run", json!({"server": "web-1", "command": "sleep 600", "wait": 0})).await;
    assert!(text.contains("running"), "{text}");
    until("the input to have come", async || input.exists().then_some(())).await;

    let done = world.agent_with("web-1", cut, b"").await;
    assert_eq!(done.code, 0, "{done:?}");

    let ended = person.ended().await.unwrap();
    assert!(!ended.success(), "{}", person.screen());
    for (what, child) in [("the run", run), ("the watch", watch)] {
        let output = child.wait_with_output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains("error[not_authorized]"),
            "{what}: {stderr}"
        );
    }
    let (text, error) = model.call("output", json!({"id": "r2", "wait": 20})).await;
    assert!(error, "{text}");
    // Nothing that is said from now on arrives.
    let _ = stdin.write_all(b"after\n").await;
    assert_eq!(std::fs::read_to_string(&input).unwrap(), "before\n");
    assert_eq!(std::fs::read_to_string(&typed).unwrap(), "before\n");
    if !back {
        return;
    }
    let added =
        world.agent_with("web-1", &["device", "add", "again", "--bundle", "-"], &bundle).await;
    assert_eq!(added.code, 0, "{added:?}");
    let status = world.farwire(&["status", "web-1", "--all"]).await.text();
    assert!(
        status.contains("sleep 600") && status.contains("running"),
        "what runs goes on: {status}"
    );
}

#[tokio::test]
async fn a_device_that_is_removed_loses_all_that_it_has_open_and_its_programs_go_on() {
    all_that_is_open_ends(&["device", "rm", "test"], true).await;
}

/// Something that takes long beneath a root, of a device that is removed meanwhile.
async fn stops_with_its_device(arguments: &[&str], files: u32) -> World {
    let world = World::with_root("web-1", &[]).await;
    let big = world.in_root("big");
    std::fs::create_dir(&big).unwrap();
    for number in 0..files {
        std::fs::write(big.join(number.to_string()), "").unwrap();
    }
    let changed = || std::fs::metadata(&big).unwrap().modified().unwrap();
    let before = changed();
    let work = world.farwire_command(arguments).spawn().unwrap();
    let drafts = || {
        let names = std::fs::read_dir(world.in_root("")).unwrap().flatten();
        names.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".farwire-")).count()
    };
    let begun = async || (drafts() > 0 || changed() != before).then_some(());
    until("the work to have begun", begun).await;
    let done = world.agent_with("web-1", &["device", "rm", "test"], b"").await;
    assert_eq!(done.code, 0, "{done:?}");
    let output = work.wait_with_output().await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("this device was locked out of the server"), "{stderr}");
    let audit = world.path("web-1").join("files.audit");
    until("the work to have ended", async || {
        let lines = std::fs::read_to_string(&audit).unwrap_or_default();
        let verb = if arguments[1] == "rm" { "remove" } else { "copy" };
        let line = lines.lines().find(|line| line.contains(&format!("\"verb\":\"{verb}\"")))?;
        assert!(line.contains("\"result\":\"cancelled\""), "{line}");
        (drafts() == 0).then_some(())
    })
    .await;
    world
}

#[tokio::test]
async fn a_copy_stops_when_its_device_is_removed() {
    let copy = ["files", "cp", "-r", "web-1:big", "web-1:copy"];
    let world = stops_with_its_device(&copy, 60_000).await;
    assert!(!world.in_root("copy").exists());
}

#[tokio::test]
async fn a_removal_stops_when_its_device_is_removed() {
    let world = stops_with_its_device(&["files", "rm", "-r", "web-1:big"], 120_000).await;
    assert!(std::fs::read_dir(world.in_root("big")).unwrap().next().is_some());
}

#[tokio::test]
async fn an_agent_that_leaves_its_workspace_cuts_off_the_devices_that_came_with_it() {
    all_that_is_open_ends(&["leave"], false).await;
}

#[tokio::test]
async fn a_hundred_open_streams_end_with_a_sealed_refusal_and_a_renamed_device_keeps_its_own() {
    let world = World::with_server("web-1").await;
    let bundle = world.farwire(&["fingerprint", "--bundle"]).await.stdout;
    let user = hand::user(&world);
    let session = user.open("main", "exec cat").await;
    let mut attached = Vec::new();
    for _ in 0..100 {
        attached.push(user.attach(session, true).await);
    }
    let add = ["device", "add", "renamed", "--bundle", "-"];
    assert_eq!(world.agent_with("web-1", &add, &bundle).await.code, 0);
    // It is looked at more than once, and everybody stays.
    let log = || std::fs::read_to_string(world.path("web-1.log")).unwrap_or_default();
    for _ in 0..30 {
        user.look(session).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!log().contains("a link ends"));
    let begun = Instant::now();
    assert_eq!(world.agent_with("web-1", &["device", "rm", "renamed"], b"").await.code, 0);
    for one in attached {
        let refusal = one.refusal().await;
        assert_eq!(refusal.kind, Kind::NotAuthorized, "{refusal}");
        assert!(refusal.message.contains("goes on"), "{refusal:?}");
    }
    eprintln!("100 streams were cut after {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_device_with_too_many_processes_loses_an_idle_link_first_and_then_the_longest_silent_one()
{
    let world = World::with_server("web-1").await;
    let first = hand::user(&world);
    let session = first.open("main", "exec cat").await;
    let mut watching = first.attach(session, true).await;
    for _ in 0..70 {
        hand::user(&world).look(session).await;
    }
    let mut person = first.attach(session, false).await;
    person.types("still here\n").await;
    watching.hears("still here").await;
    // Now each of them has something open.
    let mut attached = Vec::new();
    for _ in 0..64 {
        let one = hand::user(&world);
        attached.push((one.attach(session, true).await, one));
    }
    let error = watching.broken().await;
    assert!(matches!(error, ReadError::Reset(Reset::UnknownLink)), "{error}");
    let (last, _) = attached.last_mut().unwrap();
    let typist = hand::user(&world);
    let mut typing = typist.attach(session, false).await;
    typing.types("after all\n").await;
    last.hears("after all").await;
}

#[tokio::test]
async fn a_damaged_or_hidden_list_of_devices_lets_nobody_stay() {
    let world = World::with_server("web-1").await;
    let user = hand::user(&world);
    let session = user.open("main", "exec cat").await;
    let devices = world.path("web-1/devices");
    let file = std::fs::read_dir(&devices).unwrap().flatten().next().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    let one = user.attach(session, true).await;
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(one.refusal().await.kind, Kind::NotAuthorized);
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert!(done.code == 255 && done.stderr.contains("error[keystore_corrupt]"), "{done:?}");
    // Put right, and then moved away as a whole.
    std::fs::write(&file, &whole).unwrap();
    let user = hand::user(&world);
    let one = user.attach(session, true).await;
    std::fs::rename(&devices, world.path("web-1/elsewhere")).unwrap();
    assert_eq!(one.refusal().await.kind, Kind::NotAuthorized);
}

#[tokio::test]
async fn what_a_removed_device_has_waiting_is_never_started() {
    let world = World::with_server("web-1").await;
    let running = ["run", "web-1", "--detach", "--", "sleep", "600"];
    for _ in 0..64 {
        assert_eq!(world.farwire(&running).await.code, 0);
    }
    let mark = world.path("mark");
    let touch = format!("touch {}", mark.display());
    let waits = world.farwire_command(&["run", "web-1", "-c", &touch]).spawn().unwrap();
    let log = || std::fs::read_to_string(world.path("web-1.log")).unwrap_or_default();
    until("it to wait", async || {
        let status = world.farwire(&["status", "web-1"]).await.text();
        status.contains("touch").then_some(())
    })
    .await;
    let bundle = world.farwire(&["fingerprint", "--bundle"]).await.stdout;
    assert_eq!(world.agent_with("web-1", &["device", "rm", "test"], b"").await.code, 0);
    let output = waits.wait_with_output().await.unwrap();
    assert!(!output.status.success(), "{output:?}");
    until("the links to have ended", async || log().contains("a link ends").then_some(())).await;
    let add = ["device", "add", "again", "--bundle", "-"];
    assert_eq!(world.agent_with("web-1", &add, &bundle).await.code, 0);
    // One turn is free now, and the one who waited does not get it.
    let stop = world.farwire(&["stop", "r1"]).await;
    assert_eq!(stop.code, 0, "{stop:?}");
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_key_file_that_others_can_read_stops_agent_and_bridge_and_the_fix_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::with_server("web-1").await;
    world.end_agent("web-1").await;
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // Neither of the two opens these: a program that signs does.
    let (agents, bridges) = (world.path("web-1/keys/id"), world.path("bridge/keys/id"));
    open(&agents, 0o644);
    open(&bridges, 0o644);
    for (done, file) in [
        (world.agent_with("web-1", &["run"], b"").await, &agents),
        (world.farwire(&["servers"]).await, &bridges),
    ] {
        assert!(done.code != 0 && done.stderr.contains("error[keystore_permissions]"), "{done:?}");
        assert!(done.stderr.contains(&format!("chmod 600 {}", file.display())), "{done:?}");
    }
    open(&agents, 0o600);
    open(&bridges, 0o600);
    world.start_agent("web-1").await;
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
}
