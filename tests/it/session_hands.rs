//! Who may type into a session: leases, the rule, owners, groups, secrets.

use std::time::{Duration, Instant};

use farwire::sessions::SessionReply;
use farwire_protocol::failure::Kind;
use farwire_protocol::streams::session::{Action, Heir, Labels, LeaseChange, TypingRule, What};
use farwire_protocol::streams::session::{Input, Request, Size, ToAgent};
use farwire_protocol::surface::Surface;
use farwire_tests::hand::{Hand, agent, text, user};
use farwire_tests::{World, until};

/// Long enough for everything that is waited for.
const LONG: Duration = Duration::from_secs(30);

fn enter() -> Input {
    Input::Key("enter".to_owned())
}

#[tokio::test]
async fn two_agents_share_a_session_by_lease_and_hand_over() {
    let world = World::with_server("web-1").await;
    let (a, b) = (agent(&world, "a"), agent(&world, "b"));
    let s = a.open("w", "bash").await;
    for _ in 0..2 {
        let status = a.does(s, Action::Acquire(60_000)).await.unwrap();
        let rights = status.typing.unwrap();
        assert!(rights.may_type && rights.lease.unwrap().holder.client.as_deref() == Some("a"));
    }
    for refused in [
        b.does(s, Action::Acquire(60_000)).await.map(drop),
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
    assert!(!b.look(s).await.status.typing.unwrap().may_type);
    let to = Heir { surface: None, client: Some("b".to_owned()) };
    let reason = Some("lunch".to_owned());
    a.does(s, Action::HandOver { to, reason }).await.unwrap();
    let answer = b.send(s, vec![text("echo $((40 + 2))\n")], LONG).await.unwrap();
    assert_eq!(answer.ended.typed, Some(17));
    assert_eq!(answer.pieces[0].bytes, b"42\r\n");
    let locked = a.send(s, vec![text("x")], LONG).await.unwrap_err();
    assert_eq!(locked.kind, Kind::InputLocked);
    let status = a.look(s).await.status;
    let transfer = status.typing.unwrap().transfer.unwrap();
    assert_eq!(
        (transfer.way, transfer.reason.as_deref()),
        (LeaseChange::HandedOver, Some("lunch"))
    );
    assert_eq!(transfer.to.unwrap().client.as_deref(), Some("b"));
    b.does(s, Action::Release).await.unwrap();
    let take = Action::TakeOver { from: Some("b".to_owned()), reason: None, for_ms: 1_000 };
    assert_eq!(a.does(s, take).await.unwrap_err().kind, Kind::ChangedMeanwhile);
}

/// Nobody has typed what a terminal says by itself.
#[tokio::test]
async fn a_window_that_gets_the_focus_locks_no_agent_out() {
    let world = World::with_server("web-1").await;
    let (a, person) = (agent(&world, "a"), user(&world));
    let s = a.open("w", "bash").await;
    person.does(s, Action::Rule(TypingRule::UserPriority)).await.unwrap();
    let wanted = "printf '\\033[?1004h\\033[?1003h'\n";
    a.send(s, vec![text(wanted)], LONG).await.unwrap();
    let mut at = person.attach(s, false).await;
    let reports = "\x1b[I\x1b[<35;10;2M\x1b[O";
    at.types(reports).await;
    at.until("it to be taken", |at| at.acked == reports.len() as u64).await;
    let answer = a.send(s, vec![Input::Key("ctrl-c".to_owned())], LONG).await;
    assert!(answer.is_ok(), "{answer:?}");
    at.types("x").await;
    at.until("it to be taken", |at| at.acked == reports.len() as u64 + 1).await;
    let locked = a.send(s, vec![text("y")], LONG).await.unwrap_err();
    assert_eq!(locked.kind, Kind::InputLocked, "{locked}");
}

#[tokio::test]
async fn a_person_takes_over_and_what_agents_had_typed_is_gone() {
    let world = World::with_server("web-1").await;
    let (a, person) = (agent(&world, "a"), user(&world));
    let s = a.open("w", "bash").await;
    a.does(s, Action::Acquire(600_000)).await.unwrap();
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
    until("the agent to get its turn", async || a.does(s, Action::Acquire(600_000)).await.ok())
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
        a.look(s).await.status.typing.unwrap().lease.is_none().then_some(())
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
    let denied = a.does(s, Action::Rule(TypingRule::Shared)).await.unwrap_err();
    assert_eq!(denied.kind, Kind::NotGranted);
    a.does(s, Action::Acquire(60_000)).await.unwrap();
    person.does(s, Action::Rule(TypingRule::UserOnly)).await.unwrap();
    for refused in [
        a.send(s, vec![text("x")], LONG).await.map(drop),
        a.does(s, Action::Acquire(60_000)).await.map(drop),
    ] {
        let failure = refused.unwrap_err();
        assert!(failure.message.contains("user-only"), "{failure}");
    }
    person.does(s, Action::Rule(TypingRule::AgentOnly)).await.unwrap();
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
        b.does(s, Action::Acquire(1_000)).await.map(drop),
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
    a.does(sessions[0], Action::Acquire(60_000)).await.unwrap();
    let locked = b.does(sessions[1], Action::Acquire(60_000)).await.unwrap_err();
    assert_eq!(locked.kind, Kind::InputLocked, "another member is somebody else's");
    a.does(sessions[1], Action::Acquire(60_000)).await.unwrap();
    let to = Heir { surface: None, client: Some("b".to_owned()) };
    a.does(sessions[0], Action::HandOver { to, reason: None }).await.unwrap();
    let mut holders = Vec::new();
    for session in &sessions {
        let lease = a.look(*session).await.status.typing.unwrap().lease;
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

/// Lets another device in, which has this home, and gives the hand of one of its surfaces.
async fn second_device(world: &World, surface: &Surface) -> Hand {
    let url = world.invite().await;
    let init = ["init", "--relay", "-", "--name", "laptop"];
    assert_eq!(world.device("laptop", &init, url.as_bytes()).await.code, 0);
    let bundle = world.device("laptop", &["fingerprint", "--bundle"], b"").await.stdout;
    let add = ["device", "add", "laptop", "--bundle", "-"];
    assert_eq!(world.agent_with("web-1", &add, &bundle).await.code, 0);
    agent(world, "model").of_device(world, "laptop", surface)
}

#[tokio::test]
async fn a_name_stands_for_ones_own_session_before_that_of_another_device() {
    let world = World::with_server("web-1").await;
    let person = user(&world);
    let model = second_device(&world, &Surface::AiLocal).await;
    for n in 0..4 {
        let name = format!("n{n}");
        let start = person.start(&name, "echo genuine; exec cat").await;
        let opened = |reply: SessionReply| reply.ended.status.session;
        let own = opened(person.ask(&Request::Open(start.clone())).await.unwrap());
        let other = model.open(&name, "echo fake; exec cat").await;
        assert_ne!(own, other);
        assert_eq!(person.open(&name, "exec cat").await, own, "{name}");
        // The same request, of which an answer was not heard.
        assert_eq!(opened(person.ask(&Request::Open(start)).await.unwrap()), own, "{name}");
        let named = format!("web-1/{name}");
        let screen = world.farwire(&["session", "screen", &named]).await;
        assert!(screen.code == 0 && screen.text().contains("genuine"), "{screen:?}");
    }
    // Of those of others none is chosen, unless there is only one.
    let only = model.open("only", "exec cat").await;
    assert_eq!(person.open("only", "exec cat").await, only);
    let model = model.acting_for("ann");
    model.open("both", "exec cat").await;
    let model = model.acting_for("bert");
    model.open("both", "exec cat").await;
    let start = person.start("both", "exec cat").await;
    let several = person.ask(&Request::Open(start)).await.unwrap_err();
    assert_eq!(several.kind, Kind::AmbiguousSession, "{several}");
    let screen = world.farwire(&["session", "screen", "web-1/both"]).await;
    assert!(screen.stderr.contains("error[ambiguous_session]"), "{screen:?}");
}

#[tokio::test]
async fn a_device_that_is_removed_types_no_more_and_keeps_no_lease() {
    let world = World::with_server("web-1").await;
    let person = user(&world);
    let model = second_device(&world, &Surface::AiLocal).await;
    let leased = model.open("leased", "exec cat").await;
    model.does(leased, Action::Acquire(3_600_000)).await.unwrap();
    let (gate, file) = (world.path("gate"), world.path("typed"));
    let program = format!(
        "stty raw -echo; echo ready; until [ -e {} ]; do sleep 0.05; done; exec cat > {}",
        gate.display(),
        file.display()
    );
    let session = person.open("typed", &program).await;
    person.does(session, Action::Rule(TypingRule::Shared)).await.unwrap();
    until("it to be ready", async || person.screen(session).await.contains("ready").then_some(()))
        .await;
    // Nothing more fits what nobody reads.
    let full = "y".repeat(60_000);
    until("it to be full", async || {
        let ended = person.send(session, vec![text(&full)], Duration::ZERO).await.unwrap().ended;
        ended.left
    })
    .await;
    let human = agent(&world, "x").of_device(&world, "laptop", &Surface::Human);
    human.look(session).await;
    let sending = human.send(session, vec![text(&"x".repeat(10_000))], LONG);
    let removing = async {
        assert_eq!(world.agent_with("web-1", &["device", "rm", "laptop"], b"").await.code, 0);
        let rights = until("the lease to end", async || {
            let rights = person.look(leased).await.status.typing.unwrap();
            rights.lease.is_none().then_some(rights)
        })
        .await;
        std::fs::write(&gate, "").unwrap();
        rights
    };
    let (_, rights) = tokio::join!(sending, removing);
    let transfer = rights.transfer.unwrap();
    assert_eq!(transfer.way, LeaseChange::Released);
    assert_eq!(transfer.reason.as_deref(), Some("its device was removed"));
    person.send(session, vec![text("END")], LONG).await.unwrap();
    let typed = until("the end", async || {
        let typed = std::fs::read_to_string(&file).unwrap_or_default();
        typed.ends_with("END").then_some(typed)
    })
    .await;
    assert!(!typed.contains('x'), "{} bytes", typed.matches('x').count());
}

#[tokio::test]
async fn a_command_is_typed_at_a_prompt_alone_and_not_onto_half_a_line() {
    let world = World::with_server("web-1").await;
    let (a, person) = (agent(&world, "a"), user(&world));
    let s = a.open("w", "bash").await;
    person.does(s, Action::Rule(TypingRule::Shared)).await.unwrap();
    let at_prompt = async |line: &str| {
        let mut asked = a.sending(s, vec![text(line)], LONG).await;
        asked.at_prompt = Some(true);
        a.ask(&Request::Send(asked)).await
    };
    assert_eq!(at_prompt("echo hi\n").await.unwrap().pieces[0].bytes, b"hi\r\n");
    let mut at = person.attach(s, false).await;
    let mut taken = 0;
    // Half a line, and one that the shell waits for more of.
    for (keys, undone) in [("echo unfin", "\x15"), ("echo 'open\r", "\x03")] {
        at.types(keys).await;
        taken += keys.len() as u64;
        at.until("it to be taken", |at| at.acked == taken).await;
        let busy = at_prompt("touch never\n").await.unwrap_err();
        assert_eq!(busy.kind, Kind::TerminalBusy, "{busy}");
        assert!(busy.message.contains("half typed"), "{busy}");
        at.types(undone).await;
        taken += undone.len() as u64;
        at.until("it to be taken", |at| at.acked == taken).await;
        let answer = until("a prompt", async || at_prompt("echo $((1 + 1))\n").await.ok()).await;
        assert_eq!(answer.pieces[0].bytes, b"2\r\n");
    }
    // What a program has read is no half of a line.
    let reads = "stty -icanon; printf re''ads; dd bs=1 count=1 status=none; stty icanon\n";
    a.send(s, vec![text(reads)], Duration::ZERO).await.unwrap();
    at.hears("reads").await;
    at.types("q").await;
    until("a prompt", async || (a.look(s).await.status.doing.name() == "prompt").then_some(()))
        .await;
    let answer = at_prompt("echo hi\n").await.unwrap();
    assert_eq!(answer.pieces[0].bytes, b"hi\r\n");
}
