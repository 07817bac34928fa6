//! A person's own terminal while attached: it is kept from harm, and put back on every way out.

use farwire_tests::person::Person;
use farwire_tests::{World, until};
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
    person.sees("trying to come back").await;
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
