//! Four ways in which starting programs on terminals goes wrong elsewhere, and does not here.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use super::*;

const SIZE: Size = Size { cols: 80, rows: 24 };

fn on_terminal(argv: &[&str]) -> SpawnCommand {
    SpawnCommand { terminal: true, ..command(argv) }
}

/// Reads until a terminal has written this.
async fn says(terminal: &mut pipe::Receiver, text: &str) {
    let mut said = String::new();
    while !said.contains(text) {
        let mut buffer = [0; 512];
        let length = soon(terminal.read(&mut buffer)).await.unwrap();
        said.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

#[tokio::test]
async fn hazard_a_half_typed_line_is_not_carried_out_when_the_writer_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let (leader, master) = spawn_on_terminal(&on_terminal(&["/bin/sh", "-i"]), SIZE).unwrap();
    let copy = || master.try_clone().unwrap();
    let mut output = pipe::Receiver::from_owned_fd_unchecked(copy()).unwrap();
    let mut writer = pipe::Sender::from_owned_fd_unchecked(copy()).unwrap();
    let line = format!("echo ready-$((1 + 1)); touch {}", mark.display());
    writer.write_all(b"echo up-$((1 + 1))\n").await.unwrap();
    says(&mut output, "up-2").await;
    writer.write_all(line.as_bytes()).await.unwrap();
    drop(writer);
    // Whatever a writer could leave behind, an end of file or of a line, would have arrived before
    // this.
    let mut other = pipe::Sender::from_owned_fd_unchecked(copy()).unwrap();
    other.write_all(b"\x15echo still-$((1 + 1))\n").await.unwrap();
    says(&mut output, "still-2").await;
    assert!(!mark.exists());
    drop((other, output, master));
    assert_eq!(soon(leader.exited()).await.unwrap(), Exit::Signal(libc::SIGHUP));
    assert!(!mark.exists());
}

#[test]
fn hazard_a_program_that_cannot_be_executed_is_no_success() {
    let failure = spawn_on_terminal(&on_terminal(&["/no/such/program"]), SIZE).unwrap_err();
    assert_eq!(failure.kind, Kind::ExecFailed);
}

#[test]
fn hazard_a_missing_directory_is_not_passed_over() {
    let mut command = on_terminal(&["pwd"]);
    command.cwd = Some("/no/such".into());
    let failure = spawn_on_terminal(&command, SIZE).unwrap_err();
    assert_eq!(failure.kind, Kind::CwdNotFound);
}

#[tokio::test]
async fn hazard_descriptors_do_not_leak_into_a_program_on_a_terminal() {
    // Without close-on-exec, as the agent may inherit them.
    let leaked = rustix::io::dup(std::fs::File::open("/dev/null").unwrap()).unwrap();
    let (leader, master) = spawn_on_terminal(&on_terminal(&["cat"]), SIZE).unwrap();
    let mut output = pipe::Receiver::from_owned_fd_unchecked(master.try_clone().unwrap()).unwrap();
    let mut writer = pipe::Sender::from_owned_fd_unchecked(master).unwrap();
    // It is past its start, in which it opens libraries.
    writer.write_all(b"x\n").await.unwrap();
    says(&mut output, "x\r\nx\r\n").await;
    let directory = format!("/proc/{}/fd", leader.pid());
    let open: BTreeSet<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(open, ["0", "1", "2"].map(str::to_owned).into());
    for number in 0..3 {
        let target = std::fs::read_link(format!("{directory}/{number}")).unwrap();
        assert!(target.starts_with("/dev/pts/"), "{number} is {}", target.display());
    }
    drop((leaked, output, writer));
    let ended = tokio::time::timeout(Duration::from_secs(60), leader.exited()).await;
    assert_eq!(ended.unwrap().unwrap(), Exit::Signal(libc::SIGHUP));
}
