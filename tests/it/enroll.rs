//! Enrollment: one token lets in one agent, and a refused one leaves nothing behind.

use farwire_tests::World;

#[tokio::test]
async fn a_token_works_once_and_refused_ones_write_nothing() {
    let mut world = World::new().await;
    let token = world.create("web-1", &[]).await;
    let accepted = tokio::spawn({
        let mut accept = world.farwire_command(&["servers"]);
        async move { accept.output().await }
    });
    drop(accepted.await);
    world.enroll("web-2").await;
    // Used: by another agent, after the first was accepted.
    let refused = |name: &'static str, text: String| {
        let world = &world;
        async move {
            let done = world
                .agent_with(name, &["enroll", "--token", "-", "--wait", "1"], text.as_bytes())
                .await;
            assert_ne!(done.code, 0, "{done:?}");
            assert!(!world.path(name).exists(), "{name}: something was written: {done:?}");
            done.stderr
        }
    };
    let mut cut = token.clone();
    cut.truncate(token.len() - 5);
    assert!(refused("cut", cut).await.contains("error[token_malformed]"));
    assert!(refused("not", "hello".into()).await.contains("error[token_malformed]"));
    world.farwire(&["server", "rm", "web-1"]).await;
    assert!(refused("unknown", token).await.contains("error[token_unknown]"));
    let short = world.create("short", &["--expires", "1s"]).await;
    let over = std::time::Instant::now() + std::time::Duration::from_millis(2_100);
    farwire_tests::until("the token's time to pass", async || {
        (std::time::Instant::now() > over).then_some(())
    })
    .await;
    assert!(refused("expired", short).await.contains("error[token_expired]"));
}

#[tokio::test]
async fn a_used_token_is_refused_to_a_second_agent() {
    let mut world = World::new().await;
    let token = world.create("web-1", &[]).await;
    let first = world
        .agent_with("web-1", &["enroll", "--token", "-", "--wait", "1"], token.as_bytes())
        .await;
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.text().contains("pending"), "nobody has answered: {first:?}");
    // The bridge comes online and accepts; the agent hears of it when it runs.
    let servers = world.farwire(&["servers"]).await;
    assert_eq!(servers.code, 0, "{servers:?}");
    world.start_agent("web-1").await;
    let second = world
        .agent_with("thief", &["enroll", "--token", "-", "--wait", "1"], token.as_bytes())
        .await;
    assert!(second.code != 0 && second.stderr.contains("error[token_used]"), "{second:?}");
    assert!(!world.path("thief").exists());
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
}

#[tokio::test]
async fn two_agents_with_one_token_are_both_refused() {
    let world = World::new().await;
    let token = world.create("web-1", &[]).await;
    for name in ["one", "two"] {
        let done = world
            .agent_with(name, &["enroll", "--token", "-", "--wait", "1"], token.as_bytes())
            .await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    let servers = world.farwire(&["servers", "--json"]).await;
    assert!(servers.stderr.contains("2 different agents used the token"), "{servers:?}");
    assert_eq!(servers.json()[0]["state"], "pending");
}

#[tokio::test]
async fn an_invite_makes_one_workspace() {
    let world = World::new().await;
    let mut invite = farwire_tests::world::program("farwire-relay");
    let url =
        invite.arg("invite").arg("--data").arg(world.path("relay")).output().await.unwrap().stdout;
    for (home, code) in [("second", 0), ("third", 69)] {
        let mut init = farwire_tests::world::program("farwire");
        init.arg("--home").arg(world.path(home)).args(["init", "--relay", "-", "--name", home]);
        init.stdin(std::process::Stdio::piped());
        let mut child = init.spawn().unwrap();
        tokio::io::AsyncWriteExt::write_all(child.stdin.as_mut().unwrap(), &url).await.unwrap();
        drop(child.stdin.take());
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{home}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test]
async fn a_device_that_is_removed_is_out_at_once_and_one_added_by_hand_is_in() {
    let world = World::with_server("web-1").await;
    let ours = world.farwire(&["fingerprint"]).await.text().trim().to_owned();
    let listed = world.agent_with("web-1", &["device", "ls", "--json"], b"").await.json();
    assert_eq!(listed[0]["fingerprint"], ours.as_str());
    let bundle = world.farwire(&["fingerprint", "--bundle"]).await.stdout;
    let removed = world.agent_with("web-1", &["device", "rm", "test"], b"").await;
    assert_eq!(removed.code, 0, "{removed:?}");
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert!(done.code == 255 && done.stderr.contains("error[not_authorized]"), "{done:?}");
    let added =
        world.agent_with("web-1", &["device", "add", "back", "--bundle", "-"], &bundle).await;
    assert_eq!(added.code, 0, "{added:?}");
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
}

#[tokio::test]
async fn a_server_whose_key_changed_is_not_talked_to() {
    let mut world = World::with_server("web-1").await;
    world.enroll("web-2").await;
    // Somebody puts another machine's agent behind the name that the relay knows.
    world.kill_agent("web-1").await;
    let pins = world.path("bridge/servers");
    std::fs::copy(pins.join("web-1.pin"), pins.join("swap.pin")).ok();
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert!(done.code == 255 && done.stderr.contains("error["), "{done:?}");
}
