//! Enrollment: one token lets in one agent, and a refused one leaves nothing behind.

use farwire_tests::{Era, Model, World, until};
use serde_json::json;
use tokio::net::UdpSocket;

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
    until("the token's time to pass", async || (std::time::Instant::now() > over).then_some(()))
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
    // Whoever looks after the mail, it is known to all from then on.
    let servers = world.farwire(&["servers"]).await;
    assert!(servers.text().contains("another agent used its token"), "{servers:?}");
    let mut model = Model::start(world.farwire_command(&["mcp", "serve"]), Era::Discover).await;
    let (listed, _) = model.call("servers", json!({})).await;
    assert!(listed.contains("another agent used its token"), "{listed}");
    let doctor = world.farwire(&["doctor"]).await;
    assert!(doctor.code == 69 && doctor.text().contains("BAD  token of web-1"), "{doctor:?}");
}

#[tokio::test]
async fn a_request_that_is_seen_after_the_tokens_time_waits_for_a_person() {
    let mut world = World::new().await;
    let token = world.create("web-1", &["--expires", "8s"]).await;
    let created = std::time::Instant::now();
    let asked = world
        .agent_with("web-1", &["enroll", "--token", "-", "--wait", "1"], token.as_bytes())
        .await;
    assert!(asked.code == 0 && asked.text().contains("pending"), "{asked:?}");
    let over = created + std::time::Duration::from_millis(9_100);
    until("the token's time to pass", async || (std::time::Instant::now() > over).then_some(()))
        .await;
    let servers = world.farwire(&["servers"]).await;
    assert!(servers.stderr.contains("arrived after its token had expired"), "{servers:?}");
    let refused = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert!(refused.code == 255 && refused.stderr.contains("error[server_pending]"), "{refused:?}");
    let shown = world.farwire(&["server", "accept", "web-1"]).await;
    let fingerprint = shown.text().split_whitespace().last().expect("a fingerprint").to_owned();
    let own = world.agent_with("web-1", &["fingerprint"], b"").await;
    assert!(own.text().contains(&fingerprint), "{own:?} is not {fingerprint}");
    let other = format!("{}x", &fingerprint[..fingerprint.len() - 1]);
    let wrong = world.farwire(&["server", "accept", "web-1", "--fingerprint", &other]).await;
    assert!(wrong.code != 0 && wrong.stderr.contains("another fingerprint"), "{wrong:?}");
    let right = world.farwire(&["server", "accept", "web-1", "--fingerprint", &fingerprint]).await;
    assert_eq!(right.code, 0, "{right:?}");
    world.start_agent("web-1").await;
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
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert!(done.code == 255 && done.stderr.contains("error[enrollment_rejected]"), "{done:?}");
}

/// Another port that leads to the relay, as a translator of addresses does it, for one client at a
/// time.
async fn detour(relay: u16) -> u16 {
    let outside = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let inside = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    inside.connect(("127.0.0.1", relay)).await.expect("a socket");
    let port = outside.local_addr().expect("a socket").port();
    tokio::spawn(async move {
        let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        // A relay that is not up refuses packets; the next ones may get through.
        loop {
            tokio::select! {
                Ok((length, from)) = outside.recv_from(&mut there) => {
                    client = Some(from);
                    let _ = inside.send(&there[..length]).await;
                }
                Ok(length) = inside.recv(&mut back) => if let Some(client) = client {
                    let _ = outside.send_to(&back[..length], client).await;
                },
                else => {}
            }
        }
    });
    port
}

#[tokio::test]
async fn a_server_may_reach_the_relay_at_another_address_than_its_owner() {
    let mut world = World::new().await;
    let token = world.create("web-1", &[]).await;
    let enroll = async |address: &str| {
        let enroll = ["enroll", "--token", "-", "--wait", "1", "--relay", address];
        world.agent_with("web-1", &enroll, token.as_bytes()).await
    };
    let done = enroll("127.0.0.1:1").await;
    assert!(done.stderr.contains("error[relay_unreachable]") && done.code == 69, "{done:?}");
    assert!(!world.path("web-1").exists(), "nothing is written");
    assert_eq!(enroll("nowhere").await.code, 64);
    let there = format!("127.0.0.1:{}", detour(world.port).await);
    let done = enroll(&there).await;
    assert!(done.text().contains("pending"), "{done:?}");
    world.farwire(&["servers"]).await;
    world.start_agent("web-1").await;
    let relay = async || {
        let status = world.agent_with("web-1", &["status", "--json"], b"").await.json();
        status["relay"][0].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(relay().await, there);
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);

    // And its settings may say so later.
    world.kill_agent("web-1").await;
    let settings = world.path("agent.toml");
    let run = async |text: String| {
        std::fs::write(&settings, text).unwrap();
        let run = ["run", "--config", settings.to_str().unwrap()];
        world.agent_with("web-1", &run, b"").await
    };
    let done = run("relay = 'x'".to_owned()).await;
    assert!(done.code == 78 && done.stderr.contains("error[configuration]"), "{done:?}");
    let here = format!("log = 'debug'\nrelay = ['127.0.0.1:1', '127.0.0.1:{}']", world.port);
    let serving = run(here);
    let asking = world.wait_for("web-1", "online");
    tokio::select! {
        done = serving => panic!("it ended: {done:?}"),
        () = asking => {}
    }
}

#[tokio::test]
async fn an_invite_makes_one_workspace() {
    let world = World::new().await;
    let url = world.invite().await;
    for (home, code) in [("second", 0), ("third", 69)] {
        let init = ["init", "--relay", "-", "--name", home];
        let done = world.device(home, &init, url.as_bytes()).await;
        assert_eq!(done.code, code, "{home}: {done:?}");
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
async fn a_server_whose_key_changed_is_not_talked_to_until_somebody_has_compared() {
    let mut world = World::with_server("web-1").await;
    let pin = world.path("bridge/servers/web-1.pin");
    let old = world.farwire(&["server", "show", "web-1", "--json"]).await.json();
    let kept = std::fs::read(&pin).unwrap();
    // The machine is set up anew, and another device of ours has heard of it.
    world.kill_agent("web-1").await;
    assert_eq!(world.farwire(&["server", "rm", "web-1"]).await.code, 0);
    std::fs::rename(world.path("web-1"), world.path("before")).unwrap();
    world.enroll("web-1").await;
    world.start_agent("web-1").await;
    std::fs::write(&pin, kept).unwrap();

    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert!(done.code == 255 && done.stderr.contains("error[server_key_changed]"), "{done:?}");
    let new = world.agent_with("web-1", &["fingerprint"], b"").await.text();
    for fingerprint in [old["fingerprint"].as_str().unwrap(), new.trim()] {
        assert!(done.stderr.contains(fingerprint), "{done:?}");
    }
    let listed = world.farwire(&["servers"]).await.text();
    assert!(listed.contains("another key"), "{listed}");

    let bundle = world.agent_with("web-1", &["fingerprint", "--bundle"], b"").await.stdout;
    let repin = world.farwire_with(&["server", "repin", "web-1", "--bundle", "-"], &bundle).await;
    assert_eq!(repin.code, 0, "{repin:?}");
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
}

#[tokio::test]
async fn a_second_device_with_keys_that_were_carried_by_hand_has_its_own_runs() {
    let world = World::with_server("web-1").await;
    let laptop =
        async |arguments: &[&str], input: &[u8]| world.device("laptop", arguments, input).await;
    let url = world.invite().await;
    let done = laptop(&["init", "--relay", "-", "--name", "laptop"], url.as_bytes()).await;
    assert_eq!(done.code, 0, "{done:?}");
    let agent = world.agent_with("web-1", &["fingerprint", "--bundle"], b"").await.stdout;
    let added = laptop(&["server", "add", "box", "--bundle", "-"], &agent).await;
    assert_eq!(added.code, 0, "{added:?}");
    let done = laptop(&["run", "box", "--", "true"], b"").await;
    assert!(done.code == 255 && done.stderr.contains("`farwire-agent device add`"), "{done:?}");
    let bundle = laptop(&["fingerprint", "--bundle"], b"").await.stdout;
    let add = ["device", "add", "laptop", "--bundle", "-"];
    assert_eq!(world.agent_with("web-1", &add, &bundle).await.code, 0);
    // The agent looks for new devices, and tells the relay.
    let said = until("the laptop is let in", async || {
        let done = laptop(&["run", "box", "--", "echo", "in"], b"").await;
        (done.code == 0).then(|| done.text())
    });
    assert_eq!(said.await, "in\n");
    assert!(laptop(&["servers"], b"").await.text().contains("box  online"));

    // A person sees what runs there; a model sees what its own device has started.
    let ours = world.farwire(&["run", "web-1", "--detach", "--", "sleep", "60"]).await;
    assert_eq!(ours.code, 0, "{ours:?}");
    let seen = laptop(&["status", "--all"], b"").await.text();
    assert!(seen.contains("echo in") && seen.contains("sleep 60"), "{seen}");
    let serve = world.device_command("laptop", &["mcp", "serve"]);
    let mut model = Model::start(serve, Era::Discover).await;
    let (seen, _) = model.call("status", json!({"all": true})).await;
    assert!(seen.contains("echo in") && !seen.contains("sleep 60"), "{seen}");
}

#[tokio::test]
async fn a_token_that_is_given_as_an_argument_does_not_stay_where_other_users_can_read_it() {
    let world = World::new().await;
    let token = world.create("web-1", &[]).await;
    for form in [vec!["--token".to_owned(), token.clone()], vec![format!("--token={token}")]] {
        let mut command = farwire_tests::world::program("farwire-agent");
        command.arg("enroll").args(form).args(["--wait", "50", "--state"]).arg(world.path("web-1"));
        let mut child = command.spawn().unwrap();
        let line = format!("/proc/{}/cmdline", child.id().unwrap());
        until("the token to be gone", async || {
            let line = std::fs::read_to_string(&line).unwrap();
            (line.contains("enroll") && !line.contains(&token)).then_some(())
        })
        .await;
        assert!(child.try_wait().unwrap().is_none(), "it waits for its answer");
        child.kill().await.unwrap();
    }
}
