//! Reaching servers: one that is stuck, a relay that is silent, and what a caller may do meanwhile.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

use farwire_keystore::{Answered, Home, TicketState};
use farwire_protocol::outer::{Role, ServerRemove};
use farwire_tests::hostile::{Hostile, Mischief, Way};
use farwire_tests::model::text_of;
use farwire_tests::simulated::{arrive, device, stranger};
use farwire_tests::world::{program_file, resident_kib};
use farwire_tests::{Era, Model, World, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Stops a process as Ctrl-Z does, until it is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::STOP).expect("it is ours");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been ended.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Long after anything that has a deadline, and before the relay gives up a silent agent.
const HANG: Duration = Duration::from_secs(25);

async fn two_servers() -> World {
    let mut world = World::with_server("stuck").await;
    world.enroll("well").await;
    world.start_agent("well").await;
    world
}

fn run(server: &str, wait: u32) -> Value {
    json!({"name": "run", "arguments": {"server": server, "command": "echo hello", "wait": wait}})
}

/// The answer to a request, which may have come before another that was waited for.
async fn answer_to(model: &mut Model, id: u64) -> Value {
    match model.notices.iter().position(|one| one["id"] == id) {
        Some(at) => model.notices.remove(at),
        None => model.answer(id).await,
    }
}

#[tokio::test]
async fn a_stopped_server_holds_up_no_other_and_a_call_answers_in_its_time() {
    let world = two_servers().await;
    let mut model = world.model(Era::Discover).await;
    let _stopped = Stopped::new(world.agent_pid("stuck"));
    let begun = Instant::now();
    let stuck = model.send("tools/call", run("stuck", 5)).await;
    let answer = model.request("tools/call", run("well", 5)).await;
    let other = begun.elapsed();
    let (text, error) = text_of(&answer);
    assert!(!error && text.ends_with("hello\n"), "{text}");
    assert!(other < HANG, "{other:?}");
    let (text, error) = text_of(&answer_to(&mut model, stuck).await);
    let own = begun.elapsed();
    assert!(error && text.contains("nothing was started"), "{text}");
    assert!(own < HANG, "{own:?}");
    println!("beside a stopped server: {other:?}; wait=5 on it: {own:?}");
    // Others are asked beside it, too.
    for (tool, arguments) in [("servers", json!({})), ("status", json!({}))] {
        let begun = Instant::now();
        let (text, error) = model.call(tool, arguments).await;
        assert!(!error && begun.elapsed() < HANG, "{tool} took {:?}: {text}", begun.elapsed());
        println!("{tool}: {:?}", begun.elapsed());
    }
}

/// The names that a header says did not answer.
fn failed(text: &str) -> BTreeSet<String> {
    let field = text.split("failed=").nth(1).unwrap_or_default();
    let field = field.split([' ', ']']).next().unwrap_or_default().trim_matches('"');
    let names = field.split(',').filter_map(|one| one.split(':').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn status_gives_what_is_known_of_20_servers_3_of_them_stuck() {
    let mut world = World::new().await;
    let names: Vec<String> = (0..20).map(|n| format!("s{n:02}")).collect();
    for name in &names {
        world.enroll(name).await;
        world.start_agent(name).await;
    }
    let mut model = world.model(Era::Discover).await;
    let (text, error) = model.call("status", json!({})).await;
    assert!(!error && text.starts_with("[open 0 runs"), "{text}");
    let stuck: BTreeSet<String> = names.iter().take(3).cloned().collect();
    let stopped: Vec<_> = stuck.iter().map(|name| Stopped::new(world.agent_pid(name))).collect();
    let begun = Instant::now();
    let done = world.farwire(&["status"]).await;
    println!("the command, cold: {:?}", begun.elapsed());
    assert_eq!(done.code, 69, "{done:?}");
    for name in &stuck {
        assert!(done.stderr.contains(&format!("`{name}`: no answer within 4.")), "{done:?}");
    }
    let begun = Instant::now();
    let (text, error) = model.call("status", json!({})).await;
    println!("status: {:?}", begun.elapsed());
    assert!(!error && failed(&text).is_superset(&stuck), "{text}");
    assert!(text.contains("Not known") && text.contains("next=status(server="), "{text}");
    assert!(begun.elapsed() < HANG, "{:?}", begun.elapsed());
    drop(stopped);
    until("all to answer again", async || {
        failed(&model.call("status", json!({})).await.0).is_empty().then_some(())
    })
    .await;
}

/// A world whose relay has been replaced by an enemy.
async fn betrayed() -> (World, Hostile) {
    let mut world = World::with_server("web-1").await;
    let hostile = Hostile::replace(&mut world, "web-1").await;
    (world, hostile)
}

#[tokio::test]
async fn a_withheld_handshake_ends_and_does_not_block_the_next() {
    let (world, hostile) = betrayed().await;
    let mut model = world.model(Era::Discover).await;
    // One more is tried, as the agent may have been restarted.
    hostile.plan(0, Mischief::Hold(Way::Back));
    hostile.plan(1, Mischief::Hold(Way::Back));
    let begun = Instant::now();
    let waiting = [
        model.send("tools/call", run("web-1", 40)).await,
        model.send("tools/call", run("web-1", 40)).await,
    ];
    for id in waiting {
        let (text, error) = text_of(&answer_to(&mut model, id).await);
        assert!(error && text.contains("handshake"), "{text}");
    }
    assert!(begun.elapsed() < HANG, "{:?}", begun.elapsed());
    println!("a withheld handshake: {:?}", begun.elapsed());
    assert_eq!(hostile.recorded().len(), 2, "both waited for the same attempts");
    let (text, error) = text_of(&model.request("tools/call", run("web-1", 20)).await);
    assert!(!error && text.ends_with("hello\n"), "{text}");
}

async fn calls(model: &mut Model) -> u64 {
    let (text, _) = model.call("pty_metrics", json!({})).await;
    let line = text.lines().find_map(|line| line.strip_prefix("calls: ")).expect("a line");
    line.parse().expect("a number")
}

#[tokio::test]
async fn cancelling_works_during_a_handshake_and_starts_nothing() {
    let (world, hostile) = betrayed().await;
    let scope = ["--scope", "*", "--enable", "admin"];
    let mut model = world.model_with(&scope, Era::Initialize("2025-06-18")).await;
    hostile.plan(0, Mischief::Hold(Way::Back));
    let mark = world.path("mark");
    let command = format!("touch {}", mark.display());
    let begun = Instant::now();
    let mut cancelled = Vec::new();
    for (tool, arguments) in [
        ("run", json!({"server": "web-1", "command": command, "wait": 40})),
        ("session_open", json!({"server": "web-1"})),
        ("session_retry", json!({"server": "web-1", "command": command})),
        ("file_list", json!({"server": "web-1", "path": "/"})),
        ("servers", json!({"server": "web-1"})),
    ] {
        let call = json!({"name": tool, "arguments": arguments});
        cancelled.push(model.send("tools/call", call).await);
    }
    until("the handshake to be withheld", async || (!hostile.recorded().is_empty()).then_some(()))
        .await;
    let before = calls(&mut model).await;
    for id in &cancelled {
        let params = json!({"requestId": id});
        let notice =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        model.say(&notice).await;
    }
    let mut asked = 0;
    until("all of them to have ended", async || {
        asked += 1;
        (calls(&mut model).await >= before + asked + cancelled.len() as u64).then_some(())
    })
    .await;
    println!("five calls cancelled in a handshake: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(9), "they waited: {:?}", begun.elapsed());
    // The link that was being made for them is there for the next, or is made anew.
    until("the next call to be answered", async || {
        let call = json!({"server": "web-1", "command": "echo hello", "wait": 20});
        model.call("run", call).await.0.ends_with("hello\n").then_some(())
    })
    .await;
    assert!(!mark.exists(), "something that was cancelled before it was sent was started");
}

#[tokio::test]
async fn mail_after_a_refused_ticket_arrives() {
    let mut world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let connection = arrive(&relay, &owner).await.unwrap();
    let home = Home::open(&world.path("bridge")).unwrap();
    // Their answers were burned, and their records are gone: the relay refuses them each time.
    for n in 0..6 {
        let name = format!("lost-{n}");
        world.create(&name, &[]).await;
        connection.call(&ServerRemove { name: name.clone() }).await.unwrap();
        let tickets = home.tickets().list().unwrap().entries;
        let (_, ticket) = tickets.into_iter().find(|(_, ticket)| ticket.name == name).unwrap();
        let answered = Answered {
            agent: stranger(Role::Agent).bundle,
            request: [1; 32],
            response: vec![2; 64],
            at: ticket.created,
            settled: false,
            reused_by: None,
        };
        let guard = home.lock().unwrap();
        home.tickets().answer(&guard, &ticket.token.enrollment, answered).unwrap();
    }
    let open = home.tickets().list().unwrap().entries;
    assert!(open.iter().all(|(_, one)| matches!(one.state, TicketState::Answered(_))));
    world.enroll("web-1").await;
    world.start_agent("web-1").await;
    assert_eq!(world.farwire(&["run", "web-1", "-c", "true"]).await.code, 0);
}

#[tokio::test]
async fn servers_says_so_when_the_relay_does_not_answer() {
    let world = World::with_server("web-1").await;
    let _stopped = Stopped::new(world.relay_pid());
    let begun = Instant::now();
    let done = world.farwire(&["servers"]).await;
    assert_eq!(done.code, 69, "{done:?}");
    assert!(done.text().starts_with("web-1  unknown"), "{done:?}");
    assert!(done.stderr.contains("error[relay_unreachable]"), "{done:?}");
    let done = world.farwire(&["servers", "--json"]).await;
    assert_eq!((done.code, &done.json()[0]["state"]), (69, &"unknown".into()), "one document");
    println!("servers without a relay, twice: {:?}", begun.elapsed());
    assert!(begun.elapsed() < 2 * HANG, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_long_list_names_the_exact_call_that_goes_on_with_it() {
    let world = World::with_server("web-1").await;
    let mut model = world.model(Era::Discover).await;
    let command = format!("true {}", "x".repeat(90));
    for _ in 0..100 {
        model.call("run", json!({"server": "web-1", "command": command})).await;
    }
    let mut seen = BTreeSet::new();
    let mut arguments = json!({"all": true});
    loop {
        let (text, error) = model.call("status", arguments).await;
        assert!(!error && text.chars().count() < 8_000, "{text}");
        seen.extend(
            text.lines().skip(1).filter_map(|row| row.split(' ').next()).map(str::to_owned),
        );
        let Some(next) = text.split("next=status(").nth(1) else { break };
        let next = next.split(')').next().unwrap();
        let after = next.strip_prefix("all=true,after=").unwrap_or_else(|| panic!("{text}"));
        assert!(seen.contains(after), "{text}");
        arguments = json!({"all": true, "after": after});
    }
    assert_eq!(seen.len(), 100, "{seen:?}");
}

#[tokio::test]
async fn tokens_and_invites_go_through_standard_input() {
    let world = World::new().await;
    let done = world.farwire(&["server", "create", "web-1"]).await;
    let command = done.text();
    let token = command.strip_prefix(" echo ").and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(token.starts_with("fwe_"), "{done:?}");
    assert_eq!(command, format!(" echo {token} | sudo farwire-agent enroll --token -\n"));
    assert!(!done.stderr.contains(token), "{done:?}");
    let done = world.farwire(&["server", "create", "web-2", "--json"]).await.json();
    let token = done["token"].as_str().unwrap();
    assert_eq!(done["command"], format!(" echo {token} | sudo farwire-agent enroll --token -"));
    // An invite on a command line goes on without it.
    let url = world.invite().await;
    let done = world.device("other", &["init", "--relay", url.trim()], b"").await;
    assert_eq!(done.code, 0, "{done:?}");
    let url = world.invite().await;
    let whole = format!("--relay={}", url.trim());
    let done = world.device("third", &["init", &whole, "--name", "third"], b"").await;
    assert!(done.code == 0 && done.text().contains("`third`"), "{done:?}");
}

/// The kernel gives the files of a process that may not be dumped to root.
#[tokio::test]
async fn nobody_but_root_reads_the_memory_of_the_bridge() {
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let file = place.path().join("farwire");
    std::fs::copy(program_file("farwire"), &file).unwrap();
    let mut command = tokio::process::Command::new(&file);
    command.arg("--home").arg(place.path().join("home")).args(["mcp", "serve"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    command.kill_on_drop(true);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let model = Model::start(command, Era::Discover).await;
    assert!(resident_kib(model.pid()) > 0);
    let environ = std::fs::metadata(format!("/proc/{}/environ", model.pid())).unwrap();
    assert_eq!(environ.uid(), 0, "it can be read by whoever runs it");
}

#[tokio::test]
async fn an_environment_takes_no_question_away() {
    let world = World::with_server("web-1").await;
    let mut command = world.farwire_command(&["mcp", "serve", "--scope", "pty.*", "--no-owner"]);
    command.env("FARWIRE_DANGEROUS_PATTERNS", "nothing; ship");
    let mut model = Model::start(command, Era::Discover).await;
    for line in ["rm -rf /nowhere", "ship it"] {
        let (text, error) =
            model.call("pty_spawn", json!({"server": "web-1", "command": line})).await;
        assert!(error && text.contains("confirmation_required"), "{line}: {text}");
    }
}
