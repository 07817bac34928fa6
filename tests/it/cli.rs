//! The command line: what people and scripts rely on.

use farwire_tests::{World, world::program};

#[tokio::test]
async fn servers_can_be_labelled_found_renamed_suspended_and_removed() {
    let mut world = World::with_server("web-1").await;
    world.create("db-1", &["--label", "env=prod", "--label", "role=db"]).await;
    let names = |done: farwire_tests::Done| {
        let json = done.json();
        json.as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(world.farwire(&["servers", "--json"]).await), ["db-1", "web-1"]);
    assert_eq!(names(world.farwire(&["servers", "env=prod", "--json"]).await), ["db-1"]);
    assert_eq!(names(world.farwire(&["servers", "env!=prod", "--json"]).await), ["web-1"]);
    let taken = world.farwire(&["server", "create", "db-1"]).await;
    assert!(taken.code == 69 && taken.stderr.contains("error[name_taken]"), "{taken:?}");
    assert_eq!(
        world
            .farwire(&["server", "update", "web-1", "--rename", "www", "--label", "a=b"])
            .await
            .code,
        0
    );
    assert_eq!(world.farwire(&["run", "www", "--", "true"]).await.code, 0);
    assert_eq!(world.farwire(&["server", "suspend", "www"]).await.code, 0);
    let done = world.farwire(&["run", "www", "--", "true"]).await;
    assert!(done.code == 255 && done.stderr.contains("error[server_suspended]"), "{done:?}");
    assert_eq!(world.farwire(&["server", "update", "www", "--resume"]).await.code, 0);
    assert_eq!(world.farwire(&["run", "www", "--", "true"]).await.code, 0);
    world.kill_agent("web-1").await;
    world.wait_for("www", "offline").await;
    let done = world.farwire(&["run", "www", "--", "true"]).await;
    assert!(done.code == 255 && done.stderr.contains("error[server_offline]"), "{done:?}");
    assert_eq!(world.farwire(&["server", "rm", "www"]).await.code, 0);
    assert_eq!(names(world.farwire(&["servers", "--json"]).await), ["db-1"]);
}

#[tokio::test]
async fn doctor_names_what_is_wrong() {
    let mut world = World::with_server("web-1").await;
    let well = world.farwire(&["doctor", "--json"]).await;
    assert_eq!(well.code, 0, "{well:?}");
    assert!(well.json().as_array().unwrap().iter().all(|check| check["ok"] == true), "{well:?}");
    world.kill_relay().await;
    let ill = world.farwire(&["doctor", "--json"]).await;
    assert_eq!(ill.code, 69);
    let relay = ill
        .json()
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "relay")
        .cloned()
        .unwrap();
    assert_eq!(relay["kind"], "relay_unreachable", "{relay}");
    assert!(
        relay["hint"].as_str().unwrap().contains(&format!("UDP port {}", world.port)),
        "{relay}"
    );
    let key = world.path("bridge/keys/kn");
    let bytes = std::fs::read(&key).unwrap();
    std::fs::write(&key, &bytes[..bytes.len() - 1]).unwrap();
    let broken = world.farwire(&["doctor", "--json"]).await.json();
    assert_eq!(broken[0]["kind"], "keystore_corrupt", "{broken}");
}

#[tokio::test]
async fn an_installation_without_an_identity_says_how_to_get_one() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let mut servers = program("farwire");
    let done: farwire_tests::Done =
        servers.arg("--home").arg(&home).arg("servers").output().await.unwrap().into();
    assert!(done.code == 78 && done.stderr.contains("error[not_initialized]"), "{done:?}");
    assert!(done.stderr.contains("farwire init"), "{done:?}");
    assert!(!home.exists(), "asking writes nothing");
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_program_as_a_broken_pipe_would() {
    let world = World::with_server("web-1").await;
    let mut child = world.farwire_command(&["run", "web-1", "-n", "--", "yes"]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut some = [0; 4096];
    tokio::io::AsyncReadExt::read_exact(&mut out, &mut some).await.unwrap();
    drop(out);
    let ended = tokio::time::timeout(farwire_tests::PATIENCE, child.wait()).await.expect("it ends");
    assert_eq!(ended.unwrap().code(), Some(128 + 13));
}

#[tokio::test]
async fn ctrl_c_interrupts_the_program_on_the_server() {
    let world = World::with_server("web-1").await;
    let script = "trap 'echo caught; exit 42' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = world.farwire_command(&["run", "web-1", "-n", "-c", script]).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut ready = [0; 6];
    tokio::io::AsyncReadExt::read_exact(&mut out, &mut ready).await.unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut out, &mut rest).await.unwrap();
    assert_eq!((rest.as_str(), child.wait().await.unwrap().code()), ("caught\n", Some(42)));
}
