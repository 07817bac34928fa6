//! How programs end, and that they are reaped.

use super::*;
use crate::os::process::Process;
use crate::os::testing::*;

#[tokio::test]
async fn codes_and_signals_are_told_apart() {
    for code in [0, 1, 127, 128 + 9, 255] {
        let ended = run(&script(&format!("exit {code}"))).await;
        assert_eq!(ended.exit, Exit::Code(code));
    }
    for signal in [1, 9, 11, 13, 15, 34, 64] {
        let ended = run(&script(&format!("kill -{signal} $$"))).await;
        assert_eq!(ended.exit, Exit::Signal(signal));
    }
}

#[tokio::test]
async fn waiting_can_be_given_up_and_repeated() {
    let mut command = command(&["cat"]);
    command.stdin = crate::os::spawn::Stdin::Pipe;
    let mut child = start(&command);
    for _ in 0..3 {
        tokio::select! {
            biased;
            exit = child.leader.exited() => panic!("{exit:?}"),
            () = std::future::ready(()) => {}
        }
    }
    assert_eq!(child.leader.poll().unwrap(), None);
    assert!(!child.leader.reap());
    child.stdin = None;
    let (one, two) = tokio::join!(soon(child.leader.exited()), soon(child.leader.exited()));
    assert_eq!((one.unwrap(), two.unwrap()), (Exit::Code(0), Exit::Code(0)));
    assert!(Process::read(child.leader.pid()).is_some_and(|process| process.ended));
    assert!(child.leader.reap() && child.leader.reap());
    assert_eq!(Process::read(child.leader.pid()), None);
    assert_eq!(soon(child.leader.exited()).await.unwrap(), Exit::Code(0));
}

#[tokio::test]
async fn collecting_first_loses_nothing() {
    let child = start(&command(&["false"]));
    // Ended, once its output is at its end and the kernel says so.
    while !child.leader.reap() {
        tokio::task::yield_now().await;
    }
    assert_eq!(child.leader.exited().await.unwrap(), Exit::Code(1));
}

#[tokio::test]
async fn without_process_descriptors_sigchld_does() {
    let mut command = command(&["cat"]);
    command.stdin = crate::os::spawn::Stdin::Pipe;
    let mut children: Vec<_> = (0..20).map(|_| start(&command)).collect();
    for child in &mut children {
        child.leader.forget_pidfd();
    }
    let waiting: Vec<_> = children
        .into_iter()
        .map(|mut child| {
            let stdin = child.stdin.take();
            let task = tokio::spawn(async move { soon(child.leader.exited()).await.unwrap() });
            (task, stdin)
        })
        .collect();
    tokio::task::yield_now().await;
    for (task, stdin) in waiting {
        drop(stdin);
        assert_eq!(task.await.unwrap(), Exit::Code(0));
    }
}

#[test]
fn a_leader_that_is_dropped_while_it_runs_is_collected_later() {
    let test = "a_leader_that_is_dropped_while_it_runs_is_collected_later";
    if !alone(module_path!(), test) {
        return;
    }
    let mut command = command(&["cat"]);
    command.stdin = crate::os::spawn::Stdin::Pipe;
    let child = start(&command);
    let pid = child.leader.pid();
    drop(child.leader);
    assert!(Process::read(pid).is_some_and(|process| !process.ended));
    drop(child.stdin);
    while Process::read(pid).is_some_and(|process| !process.ended) {
        std::thread::yield_now();
    }
    drop(start(&crate::os::testing::command(&["true"])));
    assert_eq!(Process::read(pid), None);
}

#[tokio::test]
async fn a_child_that_somebody_else_collected_has_no_known_outcome() {
    let child = start(&command(&["true"]));
    collect_now(child.leader.pid);
    let failure = soon(child.leader.exited()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::OutcomeUnknown);
    assert!(failure.message.ends_with("cannot be read: no child process (ECHILD)"), "{failure}");
}
