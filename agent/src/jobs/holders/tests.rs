//! Holders of another version, that send nonsense, or that are gone.

use std::os::unix::net::UnixListener;

use farwire_protocol::cbor;
use farwire_protocol::id::Nonce;

use super::*;
use crate::holder::message::{ABLE, HolderReport, VERSION};

/// No test here starts a new one.
fn none(_: &Path, _: OwnedFd) -> Result<Option<Leader>, Failure> {
    Err(Failure::new(Kind::Internal, "no holder is to be started"))
}

fn listening(holders: &Holders) -> OwnedFd {
    listening_as(holders, "one")
}

fn listening_as(holders: &Holders, name: &str) -> OwnedFd {
    let socket = Holders::socket().unwrap();
    rustix::net::bind(&socket, &holders.address(name).unwrap()).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    socket
}

/// What is adopted from a holder that sends this, and whether its socket is still there.
async fn adopted(said: Vec<Vec<u8>>) -> (Adopted, bool) {
    let state = tempfile::tempdir().unwrap();
    let holders = Arc::new(Holders::open(state.path(), none).unwrap());
    let socket = UnixListener::from(listening(&holders));
    let holder = std::thread::spawn(move || {
        let (socket, _) = socket.accept().unwrap();
        for packet in said {
            // The other side may be gone before everything is sent.
            match rustix::net::send(&socket, &packet, rustix::net::SendFlags::NOSIGNAL) {
                Ok(_) | Err(rustix::io::Errno::PIPE) => {}
                Err(error) => panic!("{error}"),
            }
        }
        socket
    });
    let adopted = holders.adopt().await;
    drop(holder.join().unwrap());
    (adopted, state.path().join("holders/one").exists())
}

fn hello(version: u32) -> Vec<u8> {
    cbor::encode(&HolderReport::Hello { version, build: "other".to_owned(), able: Some(ABLE) })
}

#[tokio::test]
async fn one_of_another_version_is_left_alone_with_all_that_it_holds() {
    let ready = cbor::encode(&HolderReport::Ready);
    let (found, there) = adopted(vec![hello(VERSION + 1), ready.clone()]).await;
    assert!(found.left_alone && found.jobs.is_empty() && there);
    let (found, _) = adopted(vec![hello(VERSION), ready]).await;
    assert!(!found.left_alone && found.jobs.is_empty());
}

#[tokio::test]
async fn one_that_makes_no_sense_is_left_alone() {
    for said in [
        vec![b"\xff\xff".to_vec()],
        vec![cbor::encode(&HolderReport::Ready)],
        vec![hello(VERSION), cbor::encode(&HolderReport::Grown(Nonce([1; 16])))],
    ] {
        let (found, there) = adopted(said.clone()).await;
        assert!(found.left_alone && found.jobs.is_empty() && there, "{said:?}");
    }
}

#[tokio::test]
async fn the_socket_of_one_that_has_died_is_removed() {
    let state = tempfile::tempdir().unwrap();
    let holders = Arc::new(Holders::open(state.path(), none).unwrap());
    drop(listening(&holders));
    let found = holders.adopt().await;
    assert!(!found.left_alone && found.jobs.is_empty());
    assert!(!state.path().join("holders/one").exists());
}

/// As if they were stopped, some of them already under earlier agents.
#[tokio::test(start_paused = true)]
async fn those_that_do_not_answer_cost_one_wait_together() {
    let state = tempfile::tempdir().unwrap();
    let holders = Arc::new(Holders::open(state.path(), none).unwrap());
    let names: Vec<String> = (0..4).map(|number| format!("holder-{number}")).collect();
    let _sockets: Vec<_> = names.iter().map(|name| listening_as(&holders, name)).collect();
    let waiting = (0..8).flat_map(|_| names.iter().map(|name| holders.connect(name)));
    let waiting: Vec<_> = waiting.filter_map(Result::ok).collect();
    assert!(waiting.len() < 32, "no more than that can wait");
    let begun = Instant::now();
    let found = holders.adopt().await;
    assert!(found.left_alone && found.jobs.is_empty());
    assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
}
