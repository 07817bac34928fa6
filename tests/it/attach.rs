//! A person's own terminal while attached: it is kept from harm, and put back on every way out.

use std::fmt::Write as _;

use farwire::machine::random_nonce;
use farwire_protocol::failure::Kind;
use farwire_tests::person::Person;
use farwire_tests::{World, hand, until};
use rustix::process::{Pid, Signal, kill_process};

async fn attached(world: &World, more: &[&str]) -> Person {
    let mut person = Person::start(&world.farwire_command(&[&["attach", "web-1"], more].concat()));
    person.types("PS1='> '; clear; echo ready-$((1 + 1))\r").await;
    person.sees("ready-2\n>").await;
    assert!(!person.echoes(), "keys come as they are");
    person
}

fn told(person: &Person, signal: Signal) {
    let pid = i32::try_from(person.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("it lives"), signal).expect("it is ours");
}

#[tokio::test]
async fn the_terminal_is_put_back_on_every_way_out() {
    let mut world = World::with_server("web-1").await;
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let mut person = attached(&world, &[]).await;
        // A program that leaves everything changed behind it.
        person.types("printf '\\033[?1049h\\033[?25l\\033[?2004h\\033[?1003h\\033[?1h\\033[31min'; cat\r").await;
        person.sees("in").await;
        told(&person, signal);
        assert!(person.ended().await.unwrap().success(), "{signal:?}");
        assert!(person.echoes(), "{signal:?}");
        let screen = person.modes();
        assert_eq!(screen, "", "{signal:?}");
        world.farwire(&["session", "send", "web-1/main", "--key", "ctrl-c"]).await;
    }
    // The relay is gone, and nothing can be passed on: Ctrl-] leaves all the same.
    let mut person = attached(&world, &[]).await;
    world.kill_relay().await;
    person.types("typed in vain").await;
    person.sees("reconnecting").await;
    person.types("\x1d").await;
    assert!(person.ended().await.unwrap().success());
    assert!(person.echoes());
    // Nor does a relay that was never there hold anybody.
    let mut person = Person::start(&world.farwire_command(&["attach", "web-1"]));
    let ended = person.ended().await.unwrap();
    assert!(!ended.success() && person.echoes(), "{ended:?}");
}

#[tokio::test]
async fn what_could_harm_the_terminal_does_not_arrive_in_whatever_pieces_it_comes() {
    let world = World::with_server("web-1").await;
    let mut person = attached(&world, &[]).await;
    person.raw();
    let line = "for s in '\\033]52;c;aGk=\\007' '\\033[21t' '\\033[6n' '\\033[c' '\\005' '\\033P$qm\\033\\\\' \
        '\\033P+q544e\\033\\\\' '\\033]11;?\\007' '\\033]1337;File=:AA\\007' '\\033_Gq=1\\033\\\\' '\\2336n'; do \
        printf \"$s\" | while IFS= read -r -N1 c; do printf %s \"$c\"; done; printf \"$s\"; done; \
        printf '\\033]8;;file:///x\\007fi'; echo nished\r";
    person.types(line).await;
    person.sees("finished").await;
    let bytes = person.raw();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for harm in [
        "\x1b]52",
        "\x1b[21t",
        "\x1b[6n",
        "\x1b[c",
        "\x05",
        "\x1bP",
        "\x1b]11",
        "\x1b]1337",
        "\x1b_",
        "\x1b]8",
        "\u{9b}",
    ] {
        assert!(!text.contains(harm), "{harm:?} in {text:?}");
    }
    assert!(!bytes.contains(&0x9b), "{text:?}");
    person.types("\x1d").await;
    assert!(person.ended().await.unwrap().success());
}

#[tokio::test]
async fn a_flood_that_nobody_takes_does_not_keep_a_person_from_leaving() {
    let world = World::with_server("web-1").await;
    let mut person = attached(&world, &[]).await;
    // Nobody reads what is typed, and it fills every queue on the way.
    person.types("stty raw -echo; printf asleep; sleep 600\r").await;
    person.sees("asleep").await;
    let much = "x".repeat(4096);
    for _ in 0..40 {
        person.types(&much).await;
    }
    person.types("\x1d").await;
    assert!(person.ended().await.unwrap().success());
    assert!(person.echoes());
    until("the list to say what it does", async || {
        let list = world.farwire(&["sessions", "web-1"]).await.text();
        list.contains("  sleep  ").then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_of_a_stream_that_was_left_for_another_are_not_typed() {
    let world = World::with_server("web-1").await;
    let user = hand::user(&world);
    let session = user.open("work", "stty -echo; echo ready; exec cat").await;
    let conversation = random_nonce().unwrap();
    let mut old = user.attach_again(session, false, (conversation, 0)).await;
    old.types("one ").await;
    old.until("the keys to be taken", |one| one.acked == 4).await;
    let mut new = user.attach_again(session, false, (conversation, 1)).await;
    assert_eq!(new.attached.as_ref().unwrap().keys, Some(4), "so much was taken");
    // It authenticates, and comes too late.
    old.types_in_vain("two ").await;
    new.types("three\r").await;
    new.hears("three").await;
    old.types_in_vain("four\r").await;
    new.types("five\r").await;
    new.hears("five").await;
    let said = String::from_utf8_lossy(&new.said).into_owned();
    assert!(
        said.contains("one three") && !said.contains("two") && !said.contains("four"),
        "{said}"
    );
}

#[tokio::test]
async fn a_stream_that_goes_in_the_middle_of_a_write_is_taken_up_at_the_very_byte() {
    let world = World::with_server("web-1").await;
    let user = hand::user(&world);
    let gate = world.path("gate");
    let program = format!(
        "stty raw -echo; echo ready; until [ -e {} ]; do sleep 0.05; done; head -c 100000 | cksum",
        gate.display()
    );
    let session = user.open("work", &program).await;
    let mut keys = String::new();
    (0..20_000).for_each(|number| write!(keys, "{number:05}").unwrap());
    let conversation = random_nonce().unwrap();
    let mut old = user.attach_again(session, false, (conversation, 0)).await;
    old.hears("ready").await;
    old.types(&keys[..60_000]).await;
    // The terminal is full, and nobody reads.
    let mut taken = 0;
    for generation in 1..4 {
        let new = user.attach_again(session, false, (conversation, generation)).await;
        let now = new.attached.as_ref().unwrap().keys.expect("nobody has died");
        assert!(now >= taken && now < 60_000, "{now}");
        taken = now;
        old = new;
        old.types(&keys[usize::try_from(taken).unwrap()..]).await;
    }
    std::fs::write(&gate, "").unwrap();
    old.hears(" 100000").await;
    let local = tokio::process::Command::new("sh")
        .args(["-c", "for i in $(seq 0 19999); do printf %05d $i; done | cksum"])
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&old.said).into_owned();
    assert!(said.contains(String::from_utf8(local.stdout).unwrap().trim()), "{said}");
}

#[tokio::test]
async fn what_is_typed_while_the_relay_is_killed_arrives_once() {
    let mut world = World::with_server("web-1").await;
    let file = world.path("typed");
    let mut person = attached(&world, &[]).await;
    person
        .types(&format!("stty -echo; cat > {}; stty echo; echo cl''osed\r", file.display()))
        .await;
    until("the file", async || file.exists().then_some(())).await;
    let mut expected = String::new();
    for number in 0..40 {
        let line = format!("line {number} of what is typed\r");
        expected += &line.replace('\r', "\n");
        if number % 13 == 5 {
            // Some of it is under way.
            let (first, rest) = line.split_at(9);
            person.types(first).await;
            world.kill_relay().await;
            person.types(rest).await;
            world.start_relay(&[]).await;
            continue;
        }
        person.types(&line).await;
    }
    until("all of it", async || {
        let typed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(expected.starts_with(&typed), "{typed}");
        (typed == expected).then_some(())
    })
    .await;
    person.types("\x04").await;
    let screen = person.sees("closed").await;
    assert!(!screen.contains("not known"), "{screen}");
}

#[tokio::test]
async fn who_comes_back_to_a_full_screen_program_leaves_it_on_the_screen_beneath() {
    let world = World::with_server("web-1").await;
    let mut person = attached(&world, &[]).await;
    person
        .types("printf '\\033[?1049h\\033[H\\033[?1004h\\033[?1h\\033[?2004h\\033[?1002h\\033(0lqk'; read x; printf '\\033(B\\033[?1004l\\033[?1l\\033[?1002l\\033[?1049l'\r")
        .await;
    person.sees("lqk").await;
    person.types("\x1d").await;
    assert!(person.ended().await.unwrap().success());
    assert_eq!(person.modes(), "");
    let mut back = Person::start(&world.farwire_command(&["attach", "web-1"]));
    let screen = back.sees("┌─┐").await;
    assert!(!screen.contains("ready-2"), "{screen}");
    assert_eq!(back.modes(), "alternate paste cursor mouse ");
    let raw = String::from_utf8(back.everything().to_vec()).unwrap();
    assert!(raw.contains("\x1b[?1004h") && raw.contains("\x1b(0"), "{raw:?}");
    back.types("\r").await;
    let screen = back.sees("ready-2").await;
    assert!(!screen.contains("┌─┐"), "{screen}");
    // A row that goes on in the next one is one line here, and two there.
    let words = |text: &str| text.split_whitespace().collect::<String>();
    until("the screen to be as the session's own", async || {
        let shown = world.farwire(&["session", "screen", "web-1/main"]).await;
        (words(&back.screen()) == words(&shown.text())).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_program_runs_on_a_terminal_of_its_own_and_ends_with_it() {
    let world = World::with_server("web-1").await;
    let line = "test -t 0 && stty size; printf 'name? '; read x; echo \"hello $x\"; exit 7";
    let command = world.farwire_command(&["run", "web-1", "-t", "-c", line]);
    let mut person = Person::start(&command);
    person.sees("24 80").await;
    person.sees("name?").await;
    assert!(!person.echoes(), "keys come as they are");
    person.types("ann\r").await;
    assert_eq!(person.ended().await.unwrap().code(), Some(7));
    assert!(person.echoes() && person.screen().contains("hello ann"), "{}", person.screen());
    until("it to be forgotten", async || {
        let listed = world.farwire(&["sessions", "--json"]).await.json();
        listed.as_array().unwrap().is_empty().then_some(())
    })
    .await;
    // A size that changes is the program's, too.
    let line = "echo ready; trap 'stty size; exit 3' WINCH; while :; do sleep 0.05; done";
    let mut person = Person::start(&world.farwire_command(&["run", "web-1", "-t", "-c", line]));
    person.sees("ready").await;
    person.resize(100, 30);
    person.sees("30 100").await;
    assert_eq!(person.ended().await.unwrap().code(), Some(3));
    // Who leaves hangs up.
    let mark = world.path("mark");
    let line = format!(
        "trap 'touch {}; exit' HUP; echo ready; while :; do sleep 0.05; done",
        mark.display()
    );
    let mut person = Person::start(&world.farwire_command(&["run", "web-1", "-t", "-c", &line]));
    person.sees("ready").await;
    person.types("\x1d").await;
    assert_eq!(person.ended().await.unwrap().code(), Some(255));
    until("it to hear of it", async || mark.exists().then_some(())).await;
}

#[tokio::test]
async fn a_terminal_is_there_without_one_here() {
    let world = World::with_server("web-1").await;
    let run = ["run", "web-1", "-t", "--", "sh", "-c", "stty size; tr a-z A-Z; exit 5"];
    let done = world.farwire_with(&run, b"one\ntwo").await;
    assert_eq!(done.code, 5, "{done:?}");
    let text = done.text().replace('\r', "");
    assert!(
        text.contains("24 80\n") && text.contains("ONE\n") && text.ends_with("TWO"),
        "{done:?}"
    );
    for more in ["--detach", "--login"] {
        let done = world.farwire(&["run", "web-1", "-t", more, "-c", "true"]).await;
        assert!(done.code != 0 && done.stderr.contains("cannot be used with"), "{done:?}");
    }
}

/// The places in which it is counted what was taken are given away when there are many clients.
#[tokio::test]
async fn a_client_whose_place_was_given_away_is_told_that_nobody_knows_what_was_taken() {
    let world = World::with_server("web-1").await;
    let user = hand::user(&world);
    let session = user.open("work", "stty raw -echo; exec cat").await;
    let conversation = random_nonce().unwrap();
    let mut first = user.attach_again(session, false, (conversation, 0)).await;
    assert_eq!(first.attached.as_ref().unwrap().keys, Some(0));
    first.types("one").await;
    first.until("the keys to be taken", |one| one.acked == 3).await;
    drop(first);
    until("nobody to be attached", async || {
        (user.look(session).await.status.attached == 0).then_some(())
    })
    .await;
    for _ in 0..64 {
        drop(user.attach(session, false).await);
    }
    // It may not hear the answer, and comes once more.
    for generation in [1, 2] {
        let again = user.attach_again(session, false, (conversation, generation)).await;
        assert_eq!(again.attached.as_ref().unwrap().keys, None);
    }
    let mut again = user.attach_again(session, false, (conversation, 3)).await;
    again.types("two").await;
    again.until("the keys to be taken", |one| one.acked == 3).await;
    let later = user.attach_again(session, false, (conversation, 4)).await;
    assert_eq!(later.attached.as_ref().unwrap().keys, Some(3));
}

#[tokio::test]
async fn a_stream_of_an_earlier_generation_is_refused_after_a_restart_too() {
    let mut world = World::with_server("web-1").await;
    let session = hand::user(&world).open("work", "exec cat").await;
    world.kill_agent("web-1").await;
    world.start_agent("web-1").await;
    let user = hand::user(&world);
    user.look(session).await;
    let conversation = random_nonce().unwrap();
    let _later = user.attach_again(session, false, (conversation, 7)).await;
    let refusal = user.knock(session, false, conversation, 5).await.refusal().await;
    assert_eq!(refusal.kind, Kind::ProtocolViolation, "{refusal}");
}
