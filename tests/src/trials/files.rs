//! Files under processes that are killed, and under many clients at once.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use farwire_files::worker::message::{Order, Serve, Setup};
use farwire_files::worker::packet::{self, DATA, MESSAGE};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::id::Id;
use farwire_protocol::streams::files::{Ask, Enter, How, Root, ToAgent, Write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sha2::{Digest as _, Sha256};

use super::Dice;
use crate::dav::Dav;
use crate::world::{World, program_file};
use crate::{PATIENCE, until};

/// Bytes that compress badly and do not repeat.
pub fn bytes(length: usize) -> Vec<u8> {
    let mut block = [0; 32];
    let mut all = Vec::with_capacity(length + 32);
    while all.len() < length {
        block = Sha256::digest(block).into();
        all.extend_from_slice(&block);
    }
    all.truncate(length);
    all
}

fn pair() -> (OwnedFd, OwnedFd) {
    let kind = SocketType::SEQPACKET;
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("sockets")
}

fn setup() -> Order {
    Order::Setup(Box::new(Setup {
        writable: true,
        follow: true,
        mounts: true,
        hard_links: false,
        hidden: Vec::new(),
        kept: Vec::new(),
        largest: u64::MAX,
        spare: 0,
        kept_bytes: 0,
        name: "work".to_owned(),
        audit: false,
    }))
}

fn serve() -> Order {
    let path = Blob(b"/".to_vec());
    let root = Root {
        name: "work".to_owned(),
        path,
        writable: true,
        excludes: None,
        confined: None,
        asks: None,
        beats: None,
    };
    let (enter, who, device) = (Enter::default(), "trial".to_owned(), Id([1; 32]));
    Order::Serve(Box::new(Serve { enter, root, who, device }))
}

fn write() -> ToAgent {
    ToAgent::Ask(Box::new(Ask::Write(Write::new(Blob(b"file".to_vec()), How::Put))))
}

/// Kills a worker at a random moment of each of `rounds` writes: the file is the old one or the new
/// one. Returns how often it was the new one.
///
/// # Panics
///
/// If a file is torn.
pub fn torn(rounds: usize, seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let place = tempfile::tempdir().expect("a directory");
    let target = place.path().join("file");
    let mut now = bytes(100_000);
    fs::write(&target, &now).expect("it is written");
    let mut changed = 0;
    // The longest delay in microseconds. It adapts to how long a write takes here, so that half of
    // them are completed.
    let mut longest = 2_000;
    for round in 0..rounds {
        let next = vec![u8::try_from(round % 251).expect("small"); 40_000 + round % 5_000 * 20];
        write_and_kill(place.path(), &next, dice.roll(longest));
        let is = fs::read(&target).expect("it is there");
        assert!(is == now || is == next, "seed {seed}, round {round}: {} bytes are torn", is.len());
        changed += usize::from(is == next);
        longest = if is == next { (longest * 7 / 8).max(100) } else { longest * 9 / 8 };
        now = is;
    }
    changed
}

/// One write, whose worker is killed `after` microseconds.
fn write_and_kill(root: &Path, content: &[u8], after: u64) {
    let (ours, theirs) = pair();
    let mut worker = Command::new(program_file("farwire-agent"));
    worker.arg("file-worker").stdin(Stdio::from(theirs)).stdout(Stdio::null()).process_group(0);
    let mut worker = worker.spawn().expect("it starts");
    let root = fs::File::open(root).expect("the root");
    packet::send(&ours, &cbor::encode(&setup()), &[root.as_fd()]).expect("it listens");
    let mut buffer = vec![0; packet::PACKET];
    packet::receive(&ours, &mut buffer).expect("it answers").expect("it is ready");
    let (stream, far) = pair();
    packet::send(&ours, &cbor::encode(&serve()), &[far.as_fd()]).expect("it listens");
    drop(far);
    let mut parts = Vec::new();
    packet::push(&mut parts, MESSAGE, &cbor::encode(&write()));
    let begun = Instant::now();
    let mut sent = packet::send(&stream, &parts, &[]).is_ok();
    for piece in content.chunks(16 << 10) {
        parts.clear();
        packet::push(&mut parts, DATA, piece);
        sent = sent && packet::send(&stream, &parts, &[]).is_ok();
    }
    parts.clear();
    packet::push(&mut parts, MESSAGE, &cbor::encode(&ToAgent::Whole(content.len() as u64)));
    let _ = sent && packet::send(&stream, &parts, &[]).is_ok();
    while begun.elapsed() < Duration::from_micros(after) {
        std::hint::spin_loop();
    }
    worker.kill().expect("it is ours");
    worker.wait().expect("it is ours");
}

/// Kills `files put` in each of `parts` parts of a transfer, and starts it again: it resumes, and
/// the file is not visible before it is complete.
///
/// # Panics
///
/// If received content is thrown away, or a part of the file is visible.
pub async fn cuts(parts: u64, size: usize) {
    let world = World::with_root("web-1", &[]).await;
    let content = bytes(size);
    fs::write(world.path("big"), &content).expect("it is written");
    let local = world.path("big").display().to_string();
    let whole = world.in_root("big");
    let arrived = || {
        let entries = fs::read_dir(world.in_root("")).expect("the root").flatten();
        entries.map(|entry| entry.metadata().map_or(0, |is| is.len())).max().unwrap_or(0)
    };
    let mut reached = 0;
    for part in 1..parts {
        let mut put = world.farwire_command(&["files", "put", &local, "web-1:big"]);
        let mut put = put.spawn().expect("it starts");
        let goal = content.len() as u64 * part / parts;
        until("progress", async || {
            let ended = put.try_wait().expect("it is ours").is_some();
            (arrived() >= goal || ended).then_some(())
        })
        .await;
        let _ = put.kill().await;
        assert!(arrived() >= reached, "part {part}: what had arrived was thrown away");
        reached = arrived();
        assert!(
            !whole.exists() || fs::read(&whole).is_ok_and(|is| is == content),
            "part {part}: seen in part"
        );
    }
    if !whole.exists() {
        let done = world.farwire(&["files", "put", &local, "web-1:big"]).await;
        assert!(done.code == 0 || whole.exists(), "{done:?}");
    }
    assert!(fs::read(&whole).is_ok_and(|is| is == content), "it is not what was sent");
}

/// Lets `count` clients at once write a file each and read it back. Returns the longest time that
/// one of them took.
///
/// # Panics
///
/// If a client is refused, or reads what another has written.
pub async fn clients(count: usize) -> Duration {
    let world = World::with_root("web-1", &[]).await;
    let mut served = Vec::new();
    // One endpoint accepts 256 connections at once.
    for _ in 0..count.div_ceil(200) {
        served.push(std::sync::Arc::new(Dav::start(&world, "web-1", &[]).await));
    }
    let clients = (0..count).map(|n| {
        let dav = served[n % served.len()].clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let (path, content) = (format!("/f{n}"), format!("client {n} ").repeat(400));
            let put = dav.ask("PUT", &path, &[], content.as_bytes()).await;
            assert_eq!(put.status, 201, "{n}: {put:?}");
            let got = dav.ask("GET", &path, &[], b"").await;
            assert_eq!((got.status, got.text()), (200, content), "{n}");
            begun.elapsed()
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut longest = Duration::ZERO;
    for client in clients {
        let took =
            tokio::time::timeout(PATIENCE, client).await.expect("it ends").expect("it goes well");
        longest = longest.max(took);
    }
    longest
}
