//! Holders that are of another age, that say what makes no sense, or that are gone.

use std::os::unix::net::UnixListener;

use super::*;

/// Nobody asks for a new one here.
fn none(_: &Path, _: OwnedFd) -> Result<Option<Leader>, Failure> {
    Err(Failure::new(Kind::Internal, "no holder is to be started"))
}

fn listening(holders: &Holders) -> OwnedFd {
    let socket = Holders::socket().unwrap();
    rustix::net::bind(&socket, &holders.address("one").unwrap()).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    socket
}

/// What is adopted from a holder that says this, and whether its socket is still there.
async fn adopted(said: Vec<Vec<u8>>) -> (Adopted, bool) {
    let state = tempfile::tempdir().unwrap();
    let holders = Arc::new(Holders::open(state.path(), none).unwrap());
    let socket = UnixListener::from(listening(&holders));
    let holder = std::thread::spawn(move || {
        let (socket, _) = socket.accept().unwrap();
        for packet in said {
            rustix::net::send(&socket, &packet, rustix::net::SendFlags::NOSIGNAL).unwrap();
        }
        socket
    });
    let adopted = holders.adopt().await;
    drop(holder.join().unwrap());
    (adopted, state.path().join("holders/one").exists())
}

fn hello(version: u32) -> Vec<u8> {
    cbor::encode(&Report::Hello { version, build: "other".to_owned(), able: Some(ABLE) })
}

#[tokio::test]
async fn one_of_another_version_is_left_alone_with_all_that_it_holds() {
    let ready = cbor::encode(&Report::Ready);
    let (found, there) = adopted(vec![hello(VERSION + 1), ready.clone()]).await;
    assert!(found.left_alone && found.jobs.is_empty() && there);
    let (found, _) = adopted(vec![hello(VERSION), ready]).await;
    assert!(!found.left_alone && found.jobs.is_empty());
}

#[tokio::test]
async fn one_that_makes_no_sense_is_left_alone() {
    for said in [
        vec![b"\xff\xff".to_vec()],
        vec![cbor::encode(&Report::Ready)],
        vec![hello(VERSION), cbor::encode(&Report::Grown(Nonce([1; 16])))],
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
