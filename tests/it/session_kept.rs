//! What was done to a session, its bounds, and what stays of it.

use std::time::{Duration, Instant};

use farwire_protocol::failure::Kind;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::Exit;
use farwire_protocol::streams::session::{
    Action, Event, Labels, LeaseChange, Limits, Lost, TypingRule, What,
};
use farwire_protocol::streams::session::{Request, Size};
use farwire_tests::hand::{agent, text, user};
use farwire_tests::{World, until};

/// Long enough for everything that is waited for.
const LONG: Duration = Duration::from_secs(30);

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
        Some(What::Rule(policy)) => policy.name().to_owned(),
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
    a.does(s, Action::Acquire(60_000)).await.unwrap();
    a.send(s, vec![text("echo one\n")], LONG).await.unwrap();
    a.does(s, Action::Resize(Size { cols: 0, rows: 60_000 })).await.unwrap();
    let looking = person.attach(s, true).await;
    drop(looking);
    a.sees(s, |_, what| matches!(what, What::Left)).await;
    let refused = person.send(s, vec![text("no")], LONG).await.unwrap_err();
    assert_eq!(refused.kind, Kind::InputLocked);
    person.does(s, Action::Rule(TypingRule::Shared)).await.unwrap();
    a.does(s, Action::Label(Labels { tag: Some("t".into()), ..Labels::default() })).await.unwrap();
    a.does(s, Action::Signal(28)).await.unwrap();
    a.does(s, Action::Release).await.unwrap();
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
    person.does(s, Action::Rule(TypingRule::AgentOnly)).await.unwrap();
    a.does(s, Action::Acquire(60_000)).await.unwrap();
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
    let rights = status.typing.unwrap();
    assert!(rights.lease.is_none() && rights.rule == TypingRule::AgentOnly, "{rights:?}");
    assert_eq!(rights.transfer.unwrap().way, LeaseChange::Acquired, "for the record");
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
        a.ask(&Request::Look(s)).await.err().filter(|failure| failure.kind == Kind::Expired)
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
