//! Who may type into a session, what was done to it, its bounds, and what stays of it.

use std::time::{Duration, Instant};

use farwire_protocol::failure::Kind;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::Exit;
use farwire_protocol::streams::session::hands::{
    Action, Event, Heir, Labels, Limits, Lost, Policy, Way, What,
};
use farwire_protocol::streams::session::{Input, Request, Size, ToAgent};
use farwire_protocol::surface::Surface;
use farwire_tests::hand::{Hand, text};
use farwire_tests::{World, until};

/// Long enough for everything that is waited for.
const LONG: Duration = Duration::from_secs(30);

fn user(world: &World) -> Hand {
    Hand::new(world, "web-1", &Surface::Human, None)
}

fn agent(world: &World, client: &str) -> Hand {
    Hand::new(world, "web-1", &Surface::AiLocal, Some(client))
}

fn enter() -> Input {
    Input::Key("enter".to_owned())
}

#[tokio::test]
async fn two_agents_share_a_session_by_lease_and_hand_over() {
    let world = World::with_server("web-1").await;
    let (a, b) = (agent(&world, "a"), agent(&world, "b"));
    let s = a.open("w", "bash").await;
    for _ in 0..2 {
        let status = a.does(s, Action::Attach(60_000)).await.unwrap();
        let hands = status.hands.unwrap();
        assert!(hands.may_type && hands.lease.unwrap().holder.client.as_deref() == Some("a"));
    }
    for refused in [
        b.does(s, Action::Attach(60_000)).await.map(drop),
        b.does(s, Action::Signal(2)).await.map(drop),
        b.does(s, Action::Resize(Size { cols: 10, rows: 10 })).await.map(drop),
        b.does(s, Action::Close).await.map(drop),
        b.send(s, vec![text("touch never\n")], LONG).await.map(drop),
        b.does(s, Action::TakeOver { from: Some("c".into()), reason: None, for_ms: 1 })
            .await
            .map(drop),
    ] {
        let failure = refused.unwrap_err();
        assert_eq!(failure.kind, Kind::InputLocked, "{failure}");
        assert!(
            failure.message.contains("ai-local on ") && failure.message.contains("`a`"),
            "{failure}"
        );
    }
    // To look is nobody's privilege.
    assert!(!b.look(s).await.status.hands.unwrap().may_type);
    let to = Heir { surface: None, client: Some("b".to_owned()) };
    let reason = Some("lunch".to_owned());
    a.does(s, Action::HandOver { to, reason }).await.unwrap();
    let answer = b.send(s, vec![text("echo $((40 + 2))\n")], LONG).await.unwrap();
    assert_eq!(answer.ended.typed, Some(17));
    assert_eq!(answer.pieces[0].bytes, b"42\r\n");
    let locked = a.send(s, vec![text("x")], LONG).await.unwrap_err();
    assert_eq!(locked.kind, Kind::InputLocked);
    let status = a.look(s).await.status;
    let transfer = status.hands.unwrap().transfer.unwrap();
    assert_eq!((transfer.way, transfer.reason.as_deref()), (Way::HandedOver, Some("lunch")));
    assert_eq!(transfer.to.unwrap().client.as_deref(), Some("b"));
    b.does(s, Action::Detach).await.unwrap();
    let take = Action::TakeOver { from: Some("b".to_owned()), reason: None, for_ms: 1_000 };
    assert_eq!(a.does(s, take).await.unwrap_err().kind, Kind::ChangedMeanwhile);
}

#[tokio::test]
async fn a_person_takes_over_and_what_agents_had_typed_is_gone() {
    let world = World::with_server("web-1").await;
    let (a, person) = (agent(&world, "a"), user(&world));
    let s = a.open("w", "bash").await;
    a.does(s, Action::Attach(600_000)).await.unwrap();
    // A line that is half typed at the prompt.
    a.send(s, vec![text("touch /tmp/farwire-never-made")], Duration::ZERO).await.unwrap();
    let mut at = person.attach(s, false).await;
    assert!(!at.hands.as_ref().unwrap().may_type, "{:?}", at.hands);
    at.types("echo refused\r").await;
    at.until("a refusal", |at| at.refused.is_some()).await;
    assert_eq!(at.refused.take().unwrap().kind, Kind::InputLocked);
    at.says(ToAgent::Take).await;
    at.until("the hands", |at| at.hands.as_ref().unwrap().may_type).await;
    at.types("echo mine-$((1 + 1))\r").await;
    at.hears("mine-2").await;
    assert!(!std::path::Path::new("/tmp/farwire-never-made").exists());
    let said = String::from_utf8_lossy(&at.said).into_owned();
    assert!(!said.contains("refused"), "{said}");
    // What waits for a program that does not read is gone as well.
    at.says(ToAgent::Release).await;
    at.until("nobody to hold it", |at| at.hands.as_ref().unwrap().lease.is_none()).await;
    let go = world.path("go");
    let line = format!(
        "clear; stty -icanon -echo; until [ -e {} ]; do sleep 0.05; done; stty sane; cat\r",
        go.display()
    );
    at.types(&line).await;
    a.sees(
        s,
        |_, what| matches!(what, What::Typed { text: Some(text), .. } if text.ends_with(b"cat\r")),
    )
    .await;
    until("the agent to get its turn", async || a.does(s, Action::Attach(600_000)).await.ok())
        .await;
    let flood = "agents\n".repeat(2_000);
    let sending = a.send(s, vec![text(&flood)], LONG);
    let taking = async {
        a.sees(s, |event, what| {
            let long = matches!(what, What::Typed { length, .. } if *length > 1_000);
            long && event.actor.as_ref().is_some_and(|actor| actor.surface == "ai-local")
        })
        .await;
        at.says(ToAgent::Take).await;
        at.until("the hands", |at| at.hands.as_ref().unwrap().may_type).await;
    };
    let (sent, ()) = tokio::join!(sending, taking);
    match sent {
        Ok(answer) => assert!(answer.ended.left.is_some() || answer.ended.typed.is_some()),
        Err(failure) => assert_eq!(failure.kind, Kind::InputLocked, "{failure}"),
    }
    at.said.clear();
    std::fs::write(&go, "").unwrap();
    at.types("person\r").await;
    at.hears("person").await;
    assert!(!String::from_utf8_lossy(&at.said).contains("agents"), "{:?}", at.said);
    let locked = a.send(s, vec![text("x")], LONG).await.unwrap_err();
    assert!(locked.message.contains("human on "), "{locked}");
    // The lease lives as long as the stream.
    drop(at);
    a.sees(s, |_, what| matches!(what, What::Left)).await;
    until("it to be free", async || {
        a.look(s).await.status.hands.unwrap().lease.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn agents_wait_while_a_person_types_and_the_rule_is_a_persons() {
    let world = World::with_server("web-1").await;
    let (a, person) = (agent(&world, "a"), user(&world));
    let s = a.open("w", "bash").await;
    let mut at = person.attach(s, false).await;
    at.types("echo unfini").await;
    at.hears("unfini").await;
    let locked = a.send(s, vec![text("x")], LONG).await.unwrap_err();
    assert!(
        locked.kind == Kind::InputLocked && locked.message.contains("user-priority"),
        "{locked}"
    );
    at.until("the draft to be told", |at| at.hands.as_ref().unwrap().drafting.is_some()).await;
    at.types("shed\r").await;
    at.until("no draft", |at| at.hands.as_ref().unwrap().drafting.is_none()).await;
    let answer = until("the agent to get its turn", async || {
        a.send(s, vec![text("echo hi\n")], LONG).await.ok()
    })
    .await;
    assert_eq!(answer.pieces[0].bytes, b"hi\r\n");
    let denied = a.does(s, Action::Policy(Policy::Shared)).await.unwrap_err();
    assert_eq!(denied.kind, Kind::NotGranted);
    a.does(s, Action::Attach(60_000)).await.unwrap();
    person.does(s, Action::Policy(Policy::UserOnly)).await.unwrap();
    for refused in [
        a.send(s, vec![text("x")], LONG).await.map(drop),
        a.does(s, Action::Attach(60_000)).await.map(drop),
    ] {
        let failure = refused.unwrap_err();
        assert!(failure.message.contains("user-only"), "{failure}");
    }
    person.does(s, Action::Policy(Policy::AgentOnly)).await.unwrap();
    at.refused = None;
    at.types("y").await;
    at.until("a refusal", |at| at.refused.is_some()).await;
    let label = Labels { read_only: Some(true), ..Labels::default() };
    person.does(s, Action::Label(label)).await.unwrap();
    let locked = a.send(s, vec![text("x")], LONG).await.unwrap_err();
    assert!(locked.message.contains("read-only"), "{locked}");
}

#[tokio::test]
async fn a_session_of_one_owner_is_none_for_another() {
    let world = World::with_server("web-1").await;
    let a = agent(&world, "a").acting_for("anna");
    let b = agent(&world, "a").acting_for("bert");
    let s = a.open("w", "bash").await;
    for refused in [
        b.send(s, vec![text("x")], LONG).await.map(drop),
        b.does(s, Action::Attach(1_000)).await.map(drop),
        b.events(s, 1, Duration::ZERO).await.map(drop),
    ] {
        assert_eq!(refused.unwrap_err().kind, Kind::UnknownId);
    }
    let other = b.open("w", "bash").await;
    assert_ne!(s, other, "names are each owner's own");
    assert_eq!(a.open("w", "bash").await, s, "and taken up");
    assert_eq!(a.look(s).await.status.labels.unwrap().owner.as_deref(), Some("anna"));
}

#[tokio::test]
async fn the_sessions_of_a_group_are_handed_over_together() {
    let world = World::with_server("web-1").await;
    let (a, b) = (agent(&world, "a"), agent(&world, "b"));
    let mut sessions = Vec::new();
    for name in ["one", "two", "three"] {
        let labels = Labels { group: Some("g".to_owned()), ..Labels::default() };
        let start = farwire_protocol::streams::session::Start {
            labels: Some(labels),
            ..a.start(name, "bash").await
        };
        sessions.push(a.ask(&Request::Open(start)).await.unwrap().ended.status.session);
    }
    a.does(sessions[0], Action::Attach(60_000)).await.unwrap();
    let locked = b.does(sessions[1], Action::Attach(60_000)).await.unwrap_err();
    assert_eq!(locked.kind, Kind::InputLocked, "another member is somebody else's");
    a.does(sessions[1], Action::Attach(60_000)).await.unwrap();
    let to = Heir { surface: None, client: Some("b".to_owned()) };
    a.does(sessions[0], Action::HandOver { to, reason: None }).await.unwrap();
    let mut holders = Vec::new();
    for session in &sessions {
        let lease = a.look(*session).await.status.hands.unwrap().lease;
        holders.push(lease.and_then(|lease| lease.holder.client));
    }
    assert_eq!(holders, [Some("b".to_owned()), Some("b".to_owned()), None]);
}

#[tokio::test]
async fn a_secret_is_typed_where_it_is_hidden_and_noted_nowhere() {
    let world = World::with_server("web-1").await;
    let a = agent(&world, "a");
    let s = a.open("w", "bash").await;
    let secret = || Input::Secret(farwire_protocol::cbor::Blob(b"hunter2-canary".to_vec()));
    let busy = a.send(s, vec![secret(), enter()], LONG).await.unwrap_err();
    assert_eq!(busy.kind, Kind::TerminalBusy, "{busy}");
    a.send(s, vec![text("read -rs X\n")], LONG).await.unwrap();
    a.send(s, vec![secret(), enter()], LONG).await.unwrap();
    let answer = a.send(s, vec![text("echo ${#X}\n")], LONG).await.unwrap();
    assert_eq!(answer.pieces[0].bytes, b"14\r\n");
    // What somebody types there without calling it a secret is not noted either.
    a.send(s, vec![text("read -rs Y\n")], LONG).await.unwrap();
    a.send(s, vec![text("hunter3-canary\n")], LONG).await.unwrap();
    let events = a.events(s, 1, Duration::ZERO).await.unwrap();
    assert!(format!("{events:?}").contains("length: 15"), "{events:?}");
    let typed: Vec<u8> = events
        .iter()
        .filter_map(|event| match &event.what {
            Some(What::Typed { text: Some(text), .. }) => Some(text.to_vec()),
            _ => None,
        })
        .flatten()
        .collect();
    let typed = String::from_utf8_lossy(&typed).into_owned();
    assert!(typed.contains("read -rs X") && !typed.contains("canary"), "{typed}");
    let mut asked = a.sending(s, vec![text("sleep 600\n")], Duration::ZERO).await;
    asked.at_prompt = Some(true);
    a.ask(&Request::Send(asked)).await.unwrap();
    until("it to run", async || {
        let doing = a.look(s).await.status.doing.name();
        (doing == "running").then_some(())
    })
    .await;
    let mut asked = a.sending(s, vec![text("echo\n")], Duration::ZERO).await;
    asked.at_prompt = Some(true);
    assert_eq!(a.ask(&Request::Send(asked)).await.unwrap_err().kind, Kind::TerminalBusy);
    a.does(s, Action::Signal(15)).await.unwrap();
    until("the prompt", async || {
        let doing = a.look(s).await.status.doing.name();
        (doing == "prompt").then_some(())
    })
    .await;
    let answer = a.send(s, vec![text("echo $?\n")], LONG).await.unwrap();
    assert!(
        String::from_utf8_lossy(&answer.pieces[0].bytes).contains("143"),
        "the foreground alone"
    );
    world_has_no("hunter2-canary", &world);
    world_has_no("hunter3-canary", &world);
}

/// No file of the agent has this.
fn world_has_no(text: &str, world: &World) {
    let mut todo = vec![world.path("web-1"), world.path("web-1.log")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("it can be read").flatten();
            todo.extend(entries.map(|entry| entry.path()));
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = bytes.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_write_that_nobody_reads_comes_back_with_its_count() {
    let world = World::with_server("web-1").await;
    let a = agent(&world, "a");
    let s = a.open("w", "bash").await;
    a.send(s, vec![text("stty raw -echo; sleep 600\n")], Duration::from_millis(300)).await.unwrap();
    let much = "x".repeat(60_000);
    let (mut typed, mut left) = (0, 0);
    let begun = Instant::now();
    for _ in 0..4 {
        let one = Instant::now();
        let ended = a.send(s, vec![text(&much)], LONG).await.unwrap().ended;
        typed += ended.typed.unwrap();
        left += ended.left.unwrap_or(0);
        if ended.left.is_some() {
            assert!(one.elapsed() < Duration::from_secs(5), "{:?}", one.elapsed());
            break;
        }
    }
    assert!(left > 0 && typed > 0 && (typed + left) % 60_000 == 0, "{typed} {left}");
    assert!(begun.elapsed() < LONG);
    a.does(s, Action::Close).await.unwrap();
    let failure = until("its end", async || {
        a.send(s, vec![text("x")], Duration::ZERO)
            .await
            .err()
            .filter(|failure| failure.kind == Kind::AlreadyEnded)
    })
    .await;
    assert!(failure.message.contains("by signal HUP"), "{failure}");
}

/// Who did what.
fn told(event: &Event) -> (&str, String) {
    let who = event.actor.as_ref().map_or("-", |actor| actor.surface.as_str());
    let what = match &event.what {
        Some(What::Opened) => "opened".to_owned(),
        Some(What::Typed { length, .. }) => format!("typed {length}"),
        Some(What::Resized(size)) => format!("resized {}x{}", size.cols, size.rows),
        Some(What::Joined(read_only)) => format!("joined {read_only}"),
        Some(What::Left) => "left".to_owned(),
        Some(What::Leased(transfer)) => transfer.way.name().to_owned(),
        Some(What::Policy(policy)) => policy.name().to_owned(),
        Some(What::Signalled(signal)) => format!("signal {signal}"),
        Some(What::Refused(length)) => format!("refused {length}"),
        Some(What::Changed) => "changed".to_owned(),
        other => format!("{other:?}"),
    };
    (who, what)
}

#[tokio::test]
async fn what_was_done_is_told_in_order_and_counted_on_by_the_next_agent() {
    let mut world = World::with_server("web-1").await;
    let (a, person) = (agent(&world, "a"), user(&world));
    let s = a.open("w", "bash").await;
    a.does(s, Action::Attach(60_000)).await.unwrap();
    a.send(s, vec![text("echo one\n")], LONG).await.unwrap();
    a.does(s, Action::Resize(Size { cols: 0, rows: 60_000 })).await.unwrap();
    let looking = person.attach(s, true).await;
    drop(looking);
    a.sees(s, |_, what| matches!(what, What::Left)).await;
    let refused = person.send(s, vec![text("no")], LONG).await.unwrap_err();
    assert_eq!(refused.kind, Kind::InputLocked);
    person.does(s, Action::Policy(Policy::Shared)).await.unwrap();
    a.does(s, Action::Label(Labels { tag: Some("t".into()), ..Labels::default() })).await.unwrap();
    a.does(s, Action::Signal(28)).await.unwrap();
    a.does(s, Action::Detach).await.unwrap();
    let events = a.events(s, 1, Duration::ZERO).await.unwrap();
    let told: Vec<_> = events.iter().map(told).collect();
    let expected = [
        ("ai-local", "opened"),
        ("ai-local", "attach"),
        ("ai-local", "typed 9"),
        ("ai-local", "resized 1x1000"),
        ("human", "joined true"),
        ("human", "left"),
        ("human", "refused 2"),
        ("human", "shared"),
        ("ai-local", "changed"),
        ("ai-local", "signal 28"),
        ("ai-local", "detach"),
    ];
    let told: Vec<_> = told.iter().map(|(who, what)| (*who, what.as_str())).collect();
    assert_eq!(told, expected);
    assert!(events.iter().zip(1..).all(|(event, number)| event.number == number));
    assert!(events[0].actor.as_ref().unwrap().mine == Some(true));
    assert!(events[5].actor.as_ref().unwrap().mine == Some(false));
    // Somebody who waits is told of what comes.
    let waiting = a.events(s, 12, LONG);
    let typing = async {
        a.send(s, vec![text("echo two\n")], LONG).await.unwrap();
    };
    let (next, ()) = tokio::join!(waiting, typing);
    let next = next.unwrap();
    assert!(matches!(next[0].what, Some(What::Typed { length: 9, .. })), "{next:?}");
    person.does(s, Action::Policy(Policy::AgentOnly)).await.unwrap();
    a.does(s, Action::Attach(60_000)).await.unwrap();
    // Written down within a moment, and not later than that by those who wait for a file.
    let file = world.path(&format!("web-1/sessions/{s}/events.jsonl"));
    until("the file", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        (text.lines().count() >= 14).then_some(())
    })
    .await;
    world.kill_agent("web-1").await;
    world.start_agent("web-1").await;
    let a = agent(&world, "a");
    let event = a.sees(s, |_, what| matches!(what, What::Recovered)).await;
    assert_eq!(event.number, 15);
    let all = a.events(s, 1, Duration::ZERO).await.unwrap();
    assert!(all.iter().zip(1..).all(|(event, number)| event.number == number), "{all:?}");
    let status = a.look(s).await.status;
    let hands = status.hands.unwrap();
    assert!(hands.lease.is_none() && hands.policy == Policy::AgentOnly, "{hands:?}");
    assert_eq!(hands.transfer.unwrap().way, Way::Attached, "for the record");
    assert_eq!(status.labels.unwrap().tag.as_deref(), Some("t"));
    assert!(status.recovered_ms.is_some());
}

#[tokio::test]
async fn bounds_are_kept_to_and_outlive_the_agent() {
    let mut world = World::with_server("web-1").await;
    let a = agent(&world, "a");
    let limits = Limits { output_rate: Some(100_000), kept: Some(1 << 20), ..Limits::default() };
    let start = farwire_protocol::streams::session::Start {
        limits: Some(limits),
        ..a.start("slow", "yes").await
    };
    let slow = a.ask(&Request::Open(start)).await.unwrap().ended.status.session;
    let rate = async || {
        a.look(slow).await;
        let (from, begin) = (a.look(slow).await.state.bytes, Instant::now());
        let (elapsed, to) = until("two seconds", async || {
            let to = a.look(slow).await.state.bytes;
            let elapsed = begin.elapsed();
            (elapsed > Duration::from_secs(2)).then_some((elapsed, to))
        })
        .await;
        (to - from) as f64 / elapsed.as_secs_f64()
    };
    let first = rate().await;
    assert!((85_000.0..115_000.0).contains(&first), "{first} bytes in a second");
    world.kill_agent("web-1").await;
    world.start_agent("web-1").await;
    let second = rate().await;
    assert!((85_000.0..115_000.0).contains(&second), "{second} bytes in a second");
    assert_eq!(a.look(slow).await.status.limits, Some(limits));
    let change = Limits { output_rate: Some(4_000_000_000), ..Limits::default() };
    a.does(slow, Action::Limits(change)).await.unwrap();
    until("some of it to be dropped", async || {
        let state = a.look(slow).await.state;
        let kept = state.bytes - state.dropped_bytes;
        assert!(kept < 4 << 20, "{kept}");
        (state.dropped_bytes > 0).then_some(())
    })
    .await;
    a.does(slow, Action::Close).await.unwrap();
    // Input at a rate: typed late, and all of it.
    let s = a.open("w", "bash").await;
    let change = Limits { input_rate: Some(1_000), ..Limits::default() };
    a.does(s, Action::Limits(change)).await.unwrap();
    let begun = Instant::now();
    let line = format!("echo {}\n", "x".repeat(1_500));
    let ended = a.send(s, vec![text(&line)], LONG).await.unwrap().ended;
    assert_eq!(ended.typed, Some(1_506));
    assert!(begun.elapsed() > Duration::from_millis(1_200), "{:?}", begun.elapsed());
    // Idle, then forgotten.
    let limits = Limits { idle_ms: Some(1_000), keep_ms: Some(1_500), ..Limits::default() };
    a.does(s, Action::Limits(limits)).await.unwrap();
    let event = a.sees(s, |_, what| matches!(what, What::Closed)).await;
    assert!(event.actor.is_none(), "nobody but time");
    until("it to be forgotten", async || {
        a.ask(&Request::Look(s)).await.err().filter(|failure| failure.kind == Kind::UnknownId)
    })
    .await;
    until("its files to be gone", async || {
        let files = world.path(&format!("web-1/sessions/{s}"));
        (!files.exists()).then_some(())
    })
    .await;
}

/// Waits until what a session has said is written down.
async fn written(world: &World, session: Nonce, text: &str) {
    let file = world.path(&format!("web-1/sessions/{session}/transcript"));
    until("the transcript", async || {
        let said = std::fs::read(&file).unwrap_or_default();
        String::from_utf8_lossy(&said).contains(text).then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_a_reboot_sessions_are_lost_and_what_they_said_is_there() {
    let mut world = World::with_server("web-1").await;
    let a = agent(&world, "a");
    let (lost, ended) = (a.open("lost", "bash").await, a.open("ended", "bash").await);
    a.send(lost, vec![text("echo last-$((40 + 2)); seq 100000 | tail -1\n")], LONG).await.unwrap();
    a.send(ended, vec![text("echo bye-$((40 + 3)); exit 9\n")], LONG).await.unwrap();
    a.sees(ended, |_, what| matches!(what, What::Ended)).await;
    written(&world, lost, "100000").await;
    written(&world, ended, "bye-43").await;
    let state = world.path("web-1");
    let record = |session: Nonce| state.join(format!("sessions/{session}/session.json"));
    until("its end to be written", async || {
        let text = std::fs::read_to_string(record(ended)).unwrap_or_default();
        text.contains("\"code\":9").then_some(())
    })
    .await;
    world.kill_agent("web-1").await;
    for holder in world.holders("web-1") {
        farwire_tests::world::children(holder).into_iter().for_each(farwire_tests::world::kill);
        farwire_tests::world::kill(holder);
    }
    let recorded = std::fs::read_to_string(record(lost)).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(recorded.contains(boot.trim()), "{recorded}");
    let changed = recorded.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    std::fs::write(record(lost), changed).unwrap();
    for _ in 0..2 {
        world.start_agent("web-1").await;
        let status = a.look(lost).await;
        assert_eq!(status.status.lost, Some(Lost::HostRebooted), "{status:?}");
        assert_eq!(status.status.doing.name(), "exited");
        assert_eq!((status.state.exit, status.status.name.as_str()), (None, "lost"));
        assert!(status.state.failure.is_some());
        let screen = a.screen(lost).await;
        assert!(screen.contains("last-42\n") && screen.contains("100000"), "{screen}");
        let status = a.look(ended).await;
        assert_eq!((status.state.exit, status.status.lost), (Some(Exit::Code(9)), None));
        assert!(a.screen(ended).await.contains("bye-43"));
        let failure = a.send(lost, vec![text("x")], LONG).await.unwrap_err();
        assert_eq!(failure.kind, Kind::AlreadyEnded);
        let failure = a.send(ended, vec![text("x")], LONG).await.unwrap_err();
        assert!(failure.message.contains("exit code 9"), "{failure}");
        let events = a.events(ended, 1, Duration::ZERO).await.unwrap();
        assert!(matches!(events[0].what, Some(What::Opened)), "{events:?}");
        world.kill_agent("web-1").await;
    }
    // A holder that dies alone is told as that.
    world.start_agent("web-1").await;
    let a = agent(&world, "a");
    let other = a.open("other", "bash").await;
    a.send(other, vec![text("echo x\n")], LONG).await.unwrap();
    for holder in world.holders("web-1") {
        farwire_tests::world::kill(holder);
    }
    until("it to be lost", async || {
        let status = a.look(other).await.status;
        (status.lost == Some(Lost::HolderDied)).then_some(())
    })
    .await;
}
