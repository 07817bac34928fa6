//! What `run`, `output`, `stop` and `status` are given on the command line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use farwire_tests::{Done, World};

use super::{misused, refused};

#[tokio::test]
async fn a_server_that_is_not_there_is_unknown_however_it_is_written() {
    let mut world = World::with_server("web-1").await;
    let long = "a".repeat(100_000);
    for name in
        ["web-2", "", "../web-1", "web-1/", "we\u{1b}[31mb", "\u{202e}", "web-1\n", ".", &long]
    {
        refused(&world.farwire(&["run", name, "--", "true"]).await, 255, "unknown_server");
        refused(&world.farwire(&["status", name]).await, 69, "unknown_server");
    }
    let near = world.farwire(&["run", "WEB-1", "--", "true"]).await;
    assert!(near.stderr.contains("did you mean `web-1`"), "{near:?}");
    // A name that looks like an option is no option, and no name either.
    misused(&world.farwire(&["run", "-oProxyCommand=x", "--", "true"]).await, 255, "'-o'");
    for name in ["a b", "", "-x", "a/b", "a\nb", "ü", &"a".repeat(65)] {
        let done = world.farwire(&["server", "create", "--", name]).await;
        refused(&done, 64, "invalid_argument");
    }
    // Created and not enrolled, and then removed again.
    world.create("web-3", &[]).await;
    refused(&world.farwire(&["run", "web-3", "--", "true"]).await, 255, "server_pending");
    assert_eq!(world.farwire(&["server", "rm", "web-3"]).await.code, 0);
    refused(&world.farwire(&["run", "web-3", "--", "true"]).await, 255, "unknown_server");
    // The beginning of a fingerprint names a server if it fits one only.
    world.enroll("web-4").await;
    refused(&world.farwire(&["run", "fwa1-", "--", "true"]).await, 255, "unknown_server");
}

#[tokio::test]
async fn a_command_that_is_too_long_or_malformed_is_refused_before_anything_starts() {
    let world = World::with_server("web-1").await;
    let (argument, name) = ("x".repeat(66_000), "A".repeat(66_000));
    let many: Vec<&str> = ["run", "web-1", "--", "true"]
        .into_iter()
        .chain(std::iter::repeat_n("x", 40_000))
        .collect();
    refused(&world.farwire(&["run", "web-1", "--", "echo", &argument]).await, 255, "too_large");
    refused(&world.farwire(&["run", "web-1", "-c", &argument]).await, 255, "too_large");
    let done = world.farwire(&["run", "web-1", "--env", &format!("A={argument}"), "-c", ":"]).await;
    refused(&done, 255, "too_large");
    let done = world.farwire(&["run", "web-1", "--env", &format!("{name}=1"), "-c", ":"]).await;
    refused(&done, 255, "too_large");
    refused(&world.farwire(&many).await, 255, "too_large");
    for name in ["1A", "A B", "A-B", "Ä"] {
        let done = world.farwire(&["run", "web-1", "--env", &format!("{name}=x"), "-c", ":"]).await;
        refused(&done, 255, "invalid_argument");
    }
    for pair in ["A", "=x", ""] {
        let done = world.farwire(&["run", "web-1", "--env", pair, "-c", ":"]).await;
        misused(&done, 255, "KEY=VALUE");
    }
    for command in [&["--", ""][..], &["-c", ""], &["-c", " \t"], &[]] {
        let done = world.farwire(&[&["run", "web-1"], command].concat()).await;
        refused(&done, 255, "empty_command");
    }
    for (command, word) in [
        (&["ls"][..], "'ls'"),
        (&["--bogus", "--", "ls"], "--bogus"),
        (&["-c", "ls", "--", "ls"], "-c"),
        (&["--login", "--", "ls"], "-c"),
        (&["--json", "--", "ls"], "--detach"),
    ] {
        misused(&world.farwire(&[&["run", "web-1"], command].concat()).await, 255, word);
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_to_the_program_and_are_refused_where_text_is_needed() {
    let world = World::with_server("web-1").await;
    let odd = OsStr::from_bytes(b"\xff\xfe \x01");
    let run = async |arguments: &[&OsStr]| -> Done {
        let mut command = world.farwire_command(&["run"]);
        command.args(arguments).output().await.unwrap().into()
    };
    let word = |text| OsStr::new(text);
    let [web, dashes] = ["web-1", "--"].map(OsStr::new);
    let done = run(&[web, dashes, word("printf"), word("%s"), odd]).await;
    assert_eq!((done.code, done.stdout.as_slice()), (0, odd.as_bytes()));
    let line = OsStr::from_bytes(b"printf '\xff'");
    assert_eq!(run(&[web, word("-c"), line]).await.stdout, b"\xff");
    refused(&run(&[web, dashes, odd]).await, 255, "exec_failed");
    refused(&run(&[web, word("--cwd"), odd, dashes, word("true")]).await, 255, "cwd_not_found");
    for arguments in [
        &[odd, dashes, word("true")][..],
        &[web, word("--user"), odd, dashes, word("true")],
        &[web, word("--env"), OsStr::from_bytes(b"A=\xff"), dashes, word("true")],
    ] {
        misused(&run(arguments).await, 255, "UTF-8");
    }
}

#[tokio::test]
async fn a_place_or_a_user_that_is_not_there_is_named() {
    let world = World::with_server("web-1").await;
    let long = "/x".repeat(3_000);
    for cwd in ["/no/such/place", "/etc/passwd", "relative/and/missing", "", &long, "/\u{1b}[31m"] {
        let done = world.farwire(&["run", "web-1", "--cwd", cwd, "--", "true"]).await;
        refused(&done, 255, "cwd_not_found");
    }
    for user in ["nobody-of-that-name", "", "a\nb", "root:root", &"u".repeat(10_000)] {
        let done = world.farwire(&["run", "web-1", "--user", user, "--", "true"]).await;
        refused(&done, 255, "user_not_found");
    }
    for program in ["no-such-program", "/etc/passwd", "/", "./x", "\u{1b}[31m"] {
        let done = world.farwire(&["run", "web-1", "--", program]).await;
        refused(&done, 255, "exec_failed");
    }
}

#[tokio::test]
async fn absurd_times_are_refused_and_the_longest_is_kept() {
    let world = World::with_server("web-1").await;
    for time in ["0", "0s", "-1", "1e9h", "1.5s", "5x", "", " 1s", "99999999999999999999s", "367d"]
    {
        let argument = format!("--timeout={time}");
        let done = world.farwire(&["run", "web-1", &argument, "--", "true"]).await;
        misused(&done, 255, "30s, 5m, 1h or 7d");
        let done = world.farwire(&["server", "create", "x", &format!("--expires={time}")]).await;
        misused(&done, 64, "30s, 5m, 1h or 7d");
    }
    let long = world.farwire(&["server", "create", "x", "--expires", "8d"]).await;
    refused(&long, 64, "invalid_argument");
    let done = world.farwire(&["run", "web-1", "--timeout", "366d", "--", "echo", "ok"]).await;
    assert_eq!((done.code, done.text().as_str()), (0, "ok\n"), "{done:?}");
    let twice = ["run", "web-1", "--timeout", "1s", "--timeout", "2s", "--", "true"];
    misused(&world.farwire(&twice).await, 255, "multiple times");
}

#[tokio::test]
async fn an_id_of_any_other_shape_is_unknown() {
    let world = World::with_server("web-1").await;
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0, "it was r1");
    let digits = format!("r{}", "9".repeat(5_000));
    for id in [
        "r", "r0", "r2", "r-1", "r+1", "R1", "1", "s1", "f1", "x", "", "../r1", "r1;rm", "r１",
        &digits,
    ] {
        refused(&world.farwire(&["output", "--", id]).await, 69, "unknown_id");
        refused(&world.farwire(&["stop", "--", id]).await, 69, "unknown_id");
    }
    for signal in ["0", "99", "-9", "NOPE", "", "SIGSIG"] {
        let done = world.farwire(&["stop", "r1", &format!("--signal={signal}")]).await;
        refused(&done, 64, "invalid_argument");
    }
    let done = world.farwire(&["stop", "r1"]).await;
    assert!(done.code == 0 && done.text().contains("had-ended"), "{done:?}");
}

#[tokio::test]
async fn expressions_and_ranges_out_of_bounds_cost_nothing_and_show_nothing() {
    let world = World::with_server("web-1").await;
    let script = "seq 1000; head -c 200000 /dev/zero | tr '\\0' a";
    assert_eq!(world.farwire(&["run", "web-1", "-c", script]).await.code, 0);
    let grep = async |pattern: &str| {
        let view = ["output", "r1", "--view", "grep", &format!("--pattern={pattern}")];
        world.farwire(&view).await
    };
    let (deep, long) = ("(".repeat(5_000) + &")".repeat(5_000), "x".repeat(100_000));
    let bomb = r"(\w{1000}){1000}";
    for pattern in ["(", "[", "*", "(a{1000}){1000}", bomb, &deep, &long, r"\x{110000}", "(?<=a)b"]
    {
        refused(&grep(pattern).await, 64, "invalid_argument");
    }
    for slow in ["(a*)*b", "(a|a)*b", "(a+)+$b", "a{0,200}a{0,200}b"] {
        let begun = std::time::Instant::now();
        let done = grep(slow).await;
        assert_eq!((done.code, done.stdout.len()), (0, 0), "{slow}: {done:?}");
        assert!(begun.elapsed().as_secs() < 10, "{slow} took {:?}", begun.elapsed());
    }
    let view = async |arguments: &[&str]| {
        world.farwire(&[&["output", "r1", "--view"], arguments].concat()).await
    };
    let most = u64::MAX.to_string();
    let done = view(&["range", "--offset", &most, "--lines", "4294967295"]).await;
    assert_eq!((done.code, done.stdout.len()), (0, 0), "{done:?}");
    let done = view(&["range", "--offset", "0", "--lines", "2"]).await;
    assert_eq!(done.text(), "1\n2\n", "{done:?}");
    assert!(view(&["head", "--lines", "0"]).await.stdout.is_empty());
    misused(&view(&["range", "--offset", "18446744073709551616"]).await, 64, "--offset");
    misused(&view(&["range", "--offset=-1"]).await, 64, "--offset");
    misused(&view(&["head", "--lines", "4294967296"]).await, 64, "--lines");
    misused(&view(&["grep"]).await, 64, "--pattern");
    misused(&view(&["nope"]).await, 64, "possible values");
    misused(&view(&["head", "--follow"]).await, 64, "--follow");
}

#[tokio::test]
async fn closed_and_full_standard_streams_are_no_panic_and_lose_no_exit_code() {
    let world = World::with_server("web-1").await;
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = async |command: &mut tokio::process::Command| -> Done {
        // `output` would replace what the streams were set to.
        command.spawn().unwrap().wait_with_output().await.unwrap().into()
    };
    let mut run = world.farwire_command(&["run", "web-1", "-n", "--", "echo", "hi"]);
    refused(&ended(run.stdout(full())).await, 255, "io");
    let mut servers = world.farwire_command(&["servers"]);
    refused(&ended(servers.stdout(full())).await, 74, "io");
    // What goes to standard error is for people, and decides nothing.
    let mut create = world.farwire_command(&["server", "create", "web-2"]);
    let done = ended(create.stderr(full())).await;
    assert!(done.code == 0 && done.text().contains("fwe_"), "{done:?}");
    let mut nope = world.farwire_command(&["servers", "--bogus"]);
    assert_eq!(ended(nope.stderr(full())).await.code, 64);
    let mut unknown = world.farwire_command(&["run", "nope", "--", "true"]);
    assert_eq!(ended(unknown.stderr(full())).await.code, 255);
    for (name, arguments, code) in [
        ("farwire-agent", &["status", "--state"][..], 74),
        ("farwire-agent", &["fingerprint", "--state"], 74),
        ("farwire-agent", &["--help", "--state"], 0),
    ] {
        let mut command = farwire_tests::world::program(name);
        let done = ended(command.args(arguments).arg(world.path("web-1")).stdout(full())).await;
        assert!(done.code == code && !done.stderr.contains("panicked"), "{arguments:?}: {done:?}");
    }
    let mut url = farwire_tests::world::program("farwire-relay");
    let done = ended(url.arg("url").arg("--data").arg(world.path("relay")).stdout(full())).await;
    refused(&done, 74, "io");
    // A shell closes them altogether.
    let farwire = world.farwire_command(&[]).as_std().get_program().to_owned();
    let script = r#""$1" --home "$2" run web-1 -- cat <&- && "$1" --home "$2" run web-1 -n -- sh -c 'echo x; exit 3' >&- 2>&-; test $? = 3"#;
    let done = tokio::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .args([farwire, world.path("bridge").into()])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}
