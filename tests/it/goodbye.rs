//! An agent that ends says so, and one that comes back is no stranger to itself.

use farwire_tests::{World, until};

#[tokio::test]
async fn an_agent_that_ends_is_offline_at_once_and_nobody_waits_for_it() {
    let mut world = World::with_server("web-1").await;
    let mut running = world.farwire_command(&["run", "web-1", "-c", "sleep 600"]).spawn().unwrap();
    until("it to run", async || {
        world.farwire(&["status", "web-1"]).await.text().contains("running").then_some(())
    })
    .await;
    world.end_agent("web-1").await;
    // What was heard last: without a goodbye the relay would wait for half a minute.
    let servers = world.farwire(&["servers"]).await.text();
    assert!(servers.contains("offline"), "{servers}");
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert!(done.code == 255 && done.stderr.contains("error[server_offline]"), "{done:?}");
    world.start_agent("web-1").await;
    assert!(running.try_wait().unwrap().is_none(), "the run goes on");
    assert_eq!(world.farwire(&["stop", "r1"]).await.code, 0);
    let ended = running.wait().await.unwrap();
    assert!(!ended.success());
}

#[tokio::test]
async fn an_agent_that_is_restarted_at_once_is_not_taken_for_two() {
    let mut world = World::with_server("web-1").await;
    for _ in 0..3 {
        world.end_agent("web-1").await;
        world.start_agent("web-1").await;
        let servers = world.farwire(&["servers"]).await.text();
        assert!(!servers.contains("two agents"), "{servers}");
        assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
    }
}
