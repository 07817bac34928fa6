//! Real programs, and every way in which one cannot be started.

use std::fs::File;
use std::io::Read as _;

use farwire_protocol::streams::run::Exit;

use super::*;
use crate::system::{group, wait};

fn program(argv: &[&str]) -> Program {
    let user = User::current();
    Program {
        argv: argv.iter().map(OsString::from).collect(),
        cwd: Some("/".into()),
        env: environment::complete(&user, &[]).unwrap(),
        user,
        stdin: false,
    }
}

/// Runs it to its end: what it said on standard output, and how it ended.
async fn check(program: &Program) -> (String, Exit) {
    let child = spawn(program).unwrap();
    let output = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        File::from(child.stdout).read_to_string(&mut text).unwrap();
        text
    });
    let exit = wait::leader(child.pidfd, || ()).await.unwrap();
    (output.await.unwrap(), exit)
}

#[tokio::test]
async fn it_leads_its_own_session_with_three_descriptors_and_default_signals() {
    harden::descriptors(); // cargo leaves its own open
    let (output, _) =
        check(&program(&["sh", "-c", "ls /proc/self/fd | wc -l; cat /proc/self/stat"])).await;
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("4"), "0, 1, 2 and the directory that is listed");
    let stat: Vec<_> = lines.next().unwrap().split(' ').collect();
    assert_eq!(stat[4], stat[5], "group and session are the same");
    assert_eq!(stat[6], "0", "there is no terminal");
    let (_, exit) =
        check(&program(&["bash", "-c", "yes | head -1 >/dev/null; exit ${PIPESTATUS[0]}"])).await;
    assert_eq!(exit, Exit::Code(141), "SIGPIPE ends what writes to nobody");
}

#[tokio::test]
async fn the_environment_is_the_one_that_was_made() {
    let (output, exit) = check(&program(&["env"])).await;
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(output.lines().count(), program(&[""]).env.len());
    assert!(output.contains("TERM=dumb") && !output.contains("CARGO_"));
}

#[tokio::test]
async fn codes_and_signals_come_from_wait() {
    for code in [0, 7, 255] {
        let (_, exit) = check(&program(&["sh", "-c", &format!("exit {code}")])).await;
        assert_eq!(exit, Exit::Code(code));
    }
    let (_, exit) = check(&program(&["sh", "-c", "kill -KILL $$"])).await;
    assert_eq!(exit, Exit::Signal(9));
}

#[test]
fn each_reason_not_to_start_is_named() {
    let kind = |program: &Program| spawn(program).unwrap_err().kind;
    assert_eq!(kind(&program(&["no-such-program"])), Kind::ExecFailed);
    assert_eq!(kind(&program(&["/etc/passwd"])), Kind::ExecFailed);
    assert_eq!(kind(&program(&["/"])), Kind::ExecFailed);
    assert_eq!(kind(&program(&[])), Kind::EmptyCommand);
    assert_eq!(kind(&program(&[""])), Kind::EmptyCommand);
    assert_eq!(kind(&program(&["echo", "a\0b"])), Kind::InvalidArgument);
    assert_eq!(kind(&program(&["echo", &"x".repeat(COMMAND_LIMIT)])), Kind::TooLarge);
    for cwd in ["/no/such/place", "/etc/passwd", "relative"] {
        let missing = Program { cwd: Some(cwd.into()), ..program(&["true"]) };
        assert_eq!(kind(&missing), Kind::CwdNotFound, "{cwd}");
    }
}

#[tokio::test]
async fn root_can_become_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let nobody = Program { user: User::named("nobody").unwrap(), ..program(&["id", "-un"]) };
    assert_eq!(check(&nobody).await, ("nobody\n".to_owned(), Exit::Code(0)));
    let nobody = Program { user: User::named("nobody").unwrap(), ..program(&["id", "-G"]) };
    assert!(!check(&nobody).await.0.split_whitespace().any(|group| group == "0"));
}

#[tokio::test]
async fn a_signal_reaches_the_whole_group_and_what_left_it_is_counted() {
    let script = "sleep 1000 & setsid sleep 1001 & echo started; wait";
    let child = spawn(&program(&["sh", "-c", script])).unwrap();
    let mut stdout = File::from(child.stdout);
    let mut line = [0; 8];
    stdout.read_exact(&mut line).unwrap();
    let escaped = loop {
        let escaped = group::escaped(child.pid);
        if !escaped.is_empty() {
            break escaped;
        }
        tokio::task::yield_now().await;
    };
    group::signal(child.pid, 9).unwrap();
    assert_eq!(wait::leader(child.pidfd, || ()).await.unwrap(), Exit::Signal(9));
    assert_eq!(escaped.len(), 1);
    rustix::process::kill_process(escaped[0], rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn two_hundred_starts_leave_no_descriptor_and_no_zombie() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    check(&program(&["true"])).await;
    let before = open();
    for _ in 0..200 {
        let (_, exit) = check(&program(&["true"])).await;
        assert_eq!(exit, Exit::Code(0));
    }
    // Other tests of this process open and close files meanwhile.
    assert!(open() < before + 60, "{before} before, {} after", open());
}
