//! What the tests of this layer share: programs that run to their end, and tests that need root or
//! a process of their own.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::spawn::{Child, SpawnCommand, Stdin, spawn};
use super::user::User;
use super::wait::Exit;

/// A program with a usual environment and no input.
pub(crate) fn command(argv: &[&str]) -> SpawnCommand {
    let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("LC_ALL", "C")];
    SpawnCommand {
        argv: argv.iter().map(Into::into).collect(),
        cwd: None,
        env: env.map(|(name, value)| (name.into(), value.into())).to_vec(),
        user: None,
        stdin: Stdin::Null,
        terminal: false,
        extra: None,
    }
}

/// A script for `/bin/sh`.
pub(crate) fn script(text: &str) -> SpawnCommand {
    command(&["/bin/sh", "-c", text])
}

/// Starts a program that must start.
pub(crate) fn start(command: &SpawnCommand) -> Child {
    spawn(command).unwrap()
}

/// What a program did.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end.
pub(crate) async fn run(command: &SpawnCommand) -> Ended {
    finish(start(command)).await
}

/// Waits for the end of a program and of its output.
pub(crate) async fn finish(child: Child) -> Ended {
    let Child { leader, stdin, stdout, stderr } = child;
    drop(stdin);
    let (stdout, stderr) = (all(stdout).await, all(stderr).await);
    let exit = soon(leader.exited()).await.unwrap();
    Ended { exit, stdout, stderr }
}

/// Everything that is written until all writers are gone.
pub(crate) async fn all(output: OwnedFd) -> String {
    let mut text = Vec::new();
    let mut output = pipe::Receiver::from_owned_fd(output).unwrap();
    soon(output.read_to_end(&mut text)).await.unwrap();
    String::from_utf8(text).unwrap()
}

/// The next line, without its end.
pub(crate) async fn line(output: &mut pipe::Receiver) -> String {
    let mut text = String::new();
    loop {
        match soon(output.read_u8()).await.unwrap() {
            b'\n' => return text,
            byte => text.push(char::from(byte)),
        }
    }
}

/// What must happen, however slow the machine is.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it never happens")
}

/// A user other than root, for tests that can only be done by root. Says what is skipped.
pub(crate) fn nobody(test: &str) -> Option<User> {
    if rustix::process::geteuid().is_root() {
        return Some(User::by_name("nobody").unwrap());
    }
    eprintln!("skipped: {test} needs root");
    None
}

/// Whether this is a process that only this test runs in. Otherwise starts one, and expects it to
/// pass: the caller then returns.
pub(crate) fn alone(module: &str, test: &str) -> bool {
    const ALONE: &str = "FARWIRE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let (_, module) = module.split_once("::").unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::{test}"), "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cause = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{cause}");
    false
}

/// How many descriptors this process has open.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
