//! Who ends says so: an agent, and a command that a signal ends. An agent that comes back is no
//! stranger to itself.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use farwire_tests::{PATIENCE, World, system, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

/// The relay and the agent take a silent connection for a living one for longer than this.
const SOON: Duration = Duration::from_secs(25);

/// Sends a signal, and waits for the end.
async fn signalled(child: &mut Child, signal: Signal) -> ExitStatus {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    kill_process(pid.expect("it runs"), signal).expect("it is ours");
    timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it can be waited for")
}

/// Waits for the first line of what a command prints.
async fn first_line(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().expect("it is piped")).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.expect("it speaks");
    line.expect("it writes lines").expect("it lives")
}

#[tokio::test]
async fn a_command_that_a_signal_ends_closes_its_connections_and_ends_by_that_signal() {
    let world = World::with_root("web-1", &[]).await;
    let ended = || {
        let log = std::fs::read_to_string(world.path("relay.log")).unwrap();
        let is = |line: &&str| line.contains("a connection ended") && line.contains("device");
        log.lines().filter(is).count()
    };
    let run = ["run", "web-1", "-n", "-c", "echo on; sleep 600"];
    let watch = ["files", "watch", "web-1", "-f"];
    for (command, signal) in [
        (&run[..], Signal::TERM),
        (&run, Signal::HUP),
        (&watch, Signal::INT),
        (&watch, Signal::TERM),
        (&watch, Signal::HUP),
    ] {
        let mut child = world.farwire_command(command).spawn().unwrap();
        let mut writing = 0;
        tokio::select! {
            line = first_line(&mut child) => assert!(!line.is_empty()),
            () = until("what it prints", async || {
                // Until something changes a watch says nothing.
                writing += 1;
                std::fs::write(world.in_root("file"), writing.to_string()).unwrap();
                None
            }) => {}
        }
        let (before, begun) = (ended(), Instant::now());
        let status = signalled(&mut child, signal).await;
        assert_eq!(status.signal(), Some(signal.as_raw()), "{command:?}: {status}");
        until("the end of the connection", async || (ended() > before).then_some(())).await;
        assert!(begun.elapsed() < SOON, "{command:?} {signal:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_program_on_a_terminal_is_hung_up_on_when_a_signal_ends_us() {
    let world = World::with_server("web-1").await;
    for signal in [Signal::TERM, Signal::HUP] {
        let mut command = world.farwire_command(&["run", "web-1", "-t", "-c", "echo on; cat"]);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert_eq!(first_line(&mut child).await.trim(), "on");
        assert_eq!(signalled(&mut child, signal).await.code(), Some(255));
        until("the session to be forgotten", async || {
            let sessions = world.farwire(&["sessions", "--all", "--json"]).await;
            (sessions.json() == serde_json::json!([])).then_some(())
        })
        .await;
    }
}

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

#[tokio::test]
async fn an_agent_starts_on_a_full_disk_and_serves_what_needs_no_room() {
    let mut world = World::new().await;
    let state = world.path("web-1");
    std::fs::create_dir(&state).unwrap();
    let place = state.to_str().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=8m,mode=700", "none", place];
    if system("mount", &mount).is_none() {
        // Only root can have a small disk.
        return;
    }
    let unmount = Unmount(place.to_owned());
    world.enroll("web-1").await;
    world.start_agent("web-1").await;
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0);
    world.end_agent("web-1").await;
    let mut filling = std::fs::File::create(state.join("filling")).unwrap();
    let zeros = [0; 4096];
    while std::io::Write::write_all(&mut filling, &zeros).is_ok() {}
    // As long as it is open, removing it makes no room.
    drop(filling);
    world.start_agent("web-1").await;
    let listed = world.farwire(&["status", "web-1", "--all"]).await;
    assert_eq!(listed.code, 0, "{listed:?}");
    // Whether a run is refused or carried out, it is said; and with room again all is as before.
    let done = world.farwire(&["run", "web-1", "--", "true"]).await;
    assert!(done.code == 0 || done.stderr.contains("error["), "{done:?}");
    std::fs::remove_file(state.join("filling")).unwrap();
    until("runs again", async || {
        (world.farwire(&["run", "web-1", "--", "true"]).await.code == 0).then_some(())
    })
    .await;
    drop(world);
    drop(unmount);
}

/// Unmounts when the test is over, however it ends.
struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        system("umount", &["-l", &self.0]);
    }
}
