//! Signals for groups of real processes, and a count of what escapes them.

use tokio::net::unix::pipe;

use super::census::{Census, census};
use super::*;
use crate::os::environment::MARK;
use crate::os::process::Process;
use crate::os::spawn::{Child, SpawnCommand, Stdin};
use crate::os::testing::*;
use crate::os::wait::Exit;

#[tokio::test]
async fn a_signal_reaches_the_whole_group() {
    let child = start(&script("sleep 1000 & sleep 1000 & echo ready; wait"));
    let mut stdout = pipe::Receiver::from_owned_fd(child.stdout).unwrap();
    assert_eq!(line(&mut stdout).await, "ready");
    assert_eq!(census(&child.leader, None), Census { group: 3, ..Census::default() });
    child.leader.signal_group(9).unwrap();
    assert_eq!(soon(child.leader.exited()).await.unwrap(), Exit::Signal(9));
    // Its end comes when none of them has it open any more: they close it on their way out.
    assert_eq!(rest(stdout).await, "");
    soon(async {
        while census(&child.leader, None) != Census::default() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_program_may_handle_its_signal() {
    let mut command =
        script("trap 'echo stopped; exit 3' INT; echo ready; while :; do read x; done");
    command.stdin = Stdin::Pipe;
    let child = start(&command);
    let mut stdout = pipe::Receiver::from_owned_fd(child.stdout).unwrap();
    assert_eq!(line(&mut stdout).await, "ready");
    child.leader.signal_group(2).unwrap();
    assert_eq!(rest(stdout).await, "stopped\n");
    assert_eq!(soon(child.leader.exited()).await.unwrap(), Exit::Code(3));
}

#[tokio::test]
async fn what_the_leader_left_in_the_background_can_be_killed_after_its_end() {
    // With a descriptor of the process and without.
    for forget in [false, true] {
        let (mut child, stdout) = left_behind().await;
        if forget {
            child.forget_pidfd();
        }
        assert_eq!(census(&child, None), Census { group: 1, ..Census::default() });
        child.signal_group(15).unwrap();
        assert_eq!(rest(stdout).await, "");
    }
}

#[tokio::test]
async fn after_the_leader_was_collected_only_a_descriptor_can_mean_its_group() {
    let (mut leader, stdout) = left_behind().await;
    assert!(leader.reap());
    let exact = leader.signal_group(libc::SIGCONT);
    if let Err(failure) = &exact {
        eprintln!("skipped: signals to the group of a descriptor need Linux 6.9: {failure}");
        assert_eq!(failure.kind, Kind::AlreadyEnded);
    }
    if exact.is_ok() {
        leader.signal_group(9).unwrap();
        assert_eq!(rest(stdout).await, "");
        let failure = loop {
            // The last of them may still be on its way out.
            match leader.signal_group(9) {
                Err(failure) => break failure,
                Ok(()) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(failure.kind, Kind::AlreadyEnded);
    }
    leader.forget_pidfd();
    let failure = leader.signal_group(9).unwrap_err();
    assert_eq!(failure.kind, Kind::AlreadyEnded);
    assert!(failure.message.ends_with("for the signal KILL"), "{failure}");
}

#[tokio::test]
async fn what_is_no_signal_is_refused() {
    let mut command = command(&["cat"]);
    command.stdin = Stdin::Pipe;
    let child = start(&command);
    for signal in [0, -1, -9, 65, i32::MAX, i32::MIN] {
        let failure = child.leader.signal_group(signal).unwrap_err();
        assert_eq!(failure.kind, Kind::InvalidArgument);
    }
    assert_eq!(finish(child).await.exit, Exit::Code(0));
}

#[tokio::test]
async fn a_child_in_a_session_of_its_own_is_counted_while_its_parent_lives() {
    let script = script("setsid sleep 1000 & echo $!; read x; kill $!");
    let (child, mut stdout) = waiting(script);
    let escaped = line(&mut stdout).await.parse().unwrap();
    left_the_group(escaped, &child).await;
    assert_eq!(census(&child.leader, None), Census { group: 1, escaped: 1, partial: false });
    drop(child.stdin);
    assert_eq!(rest(stdout).await, "");
}

#[tokio::test]
async fn a_child_in_a_group_of_its_own_is_counted_after_the_leaders_end() {
    let (child, mut stdout) = waiting(command(&["bash", "-c", "set -m; cat & echo $!"]));
    let escaped: u32 = line(&mut stdout).await.parse().unwrap();
    soon(child.leader.exited()).await.unwrap();
    assert_eq!(census(&child.leader, None), Census { group: 0, escaped: 1, partial: false });
    stop(escaped);
    assert_eq!(rest(stdout).await, "");
}

#[tokio::test]
async fn a_daemon_that_forked_twice_is_counted_by_its_mark() {
    let mark = format!("test{}", std::process::id());
    let mut command = script("(setsid sh -c 'echo $$; exec sleep 1000' &)");
    command.env.push((MARK.into(), mark.clone().into()));
    let (child, mut stdout) = waiting(command);
    let daemon: u32 = line(&mut stdout).await.parse().unwrap();
    soon(child.leader.exited()).await.unwrap();
    left_the_group(daemon, &child).await;
    let counted = Census { group: 0, escaped: 1, partial: false };
    assert_eq!(census(&child.leader, Some(&mark)), counted);
    assert_eq!(census(&child.leader, Some("another")), Census::default());
    assert_eq!(census(&child.leader, None), Census::default());
    // The mark is known to nobody else, so it counts even when the leader is gone.
    assert!(child.leader.reap());
    assert_eq!(census(&child.leader, Some(&mark)), counted);
    // It is not in the group, and nothing else is.
    child.leader.signal_group(9).unwrap_err();
    stop(daemon);
    assert_eq!(rest(stdout).await, "");
}

#[tokio::test]
async fn programs_of_others_are_not_counted() {
    let mut stranger = command(&["cat"]);
    stranger.stdin = Stdin::Pipe;
    let (mine, stranger) = (start(&stranger), start(&stranger));
    assert_eq!(census(&mine.leader, Some("mine")), Census { group: 1, ..Census::default() });
    assert_eq!(finish(stranger).await.exit, Exit::Code(0));
    assert_eq!(finish(mine).await.exit, Exit::Code(0));
}

/// A leader that has ended and was not reaped, and whose child is alive.
async fn left_behind() -> (Leader, pipe::Receiver) {
    let child = start(&script("sleep 1000 & echo ready"));
    let mut stdout = pipe::Receiver::from_owned_fd(child.stdout).unwrap();
    assert_eq!(line(&mut stdout).await, "ready");
    assert_eq!(soon(child.leader.exited()).await.unwrap(), Exit::Code(0));
    (child.leader, stdout)
}

/// Starts a program that reads from a pipe which stays open.
fn waiting(mut command: SpawnCommand) -> (Child, pipe::Receiver) {
    command.stdin = Stdin::Pipe;
    let mut child = start(&command);
    let (_, unused) = std::io::pipe().unwrap();
    let stdout = core::mem::replace(&mut child.stdout, unused.into());
    (child, pipe::Receiver::from_owned_fd(stdout).unwrap())
}

/// Waits until `pid` has founded its session.
async fn left_the_group(pid: u32, child: &Child) {
    let out = || Process::read(pid).is_some_and(|p| p.session != child.leader.pid());
    soon(async {
        while !out() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Ends a process that a test has started.
fn stop(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

async fn rest(mut output: pipe::Receiver) -> String {
    let mut text = String::new();
    soon(tokio::io::AsyncReadExt::read_to_string(&mut output, &mut text)).await.unwrap();
    text
}
