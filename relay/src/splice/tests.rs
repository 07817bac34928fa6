//! What a stream's priority follows from, and what passes from one stream to the other.

use std::time::Duration;

use farwire_protocol::id::Target;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::testing::{Peer, connect, header};

/// What no test must wait longer for.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn control_is_before_interaction_and_that_before_bulk_and_any_backlog() {
    let [control, interactive, bulk] =
        [Class::Control, Class::Interactive, Class::Bulk].map(|class| priority(class, false));
    assert!(control > interactive && interactive > bulk);
    for class in [Class::Control, Class::Interactive] {
        let backlog = priority(class, true);
        assert!(backlog < interactive, "it does not delay what somebody types");
        assert!(backlog > bulk);
    }
    assert_eq!(priority(Class::Bulk, true), bulk);
}

#[test]
fn a_direction_that_never_pauses_is_lowered_once_and_raised_by_a_pause() {
    let mut streak = Streak::new(Class::Interactive);
    assert_eq!(streak.extend(BACKLOG), None);
    assert_eq!(streak.extend(1), Some(priority(Class::Interactive, true)));
    assert_eq!(streak.extend(BACKLOG), None, "once");
    assert_eq!(streak.pause(), Some(priority(Class::Interactive, false)));
    assert_eq!(streak.pause(), None, "once");
    assert_eq!(streak.extend(BACKLOG), None, "it begins anew");
    assert_eq!(streak.pause(), None, "it was not lowered");
}

#[test]
fn a_batch_becomes_one_piece_in_its_order() {
    let mut batch = [Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cd")];
    assert_eq!(concat(&mut batch, 4), Bytes::from_static(b"abcd"));
    let only = Bytes::from(vec![7; 9]);
    let place = only.as_ptr();
    assert_eq!(concat(&mut [only], 9).as_ptr(), place, "a single piece is not copied");
}

#[tokio::test(start_paused = true)]
async fn only_a_handshake_has_a_time_limit() {
    let handshake = Header::handshake(Target([1; 16]), 9);
    timeout(LONGEST_HANDSHAKE, handshake_timeout(&handshake)).await.unwrap();
    let day = Duration::from_secs(24 * 3600);
    assert!(timeout(day, handshake_timeout(&header(Class::Control))).await.is_err());
}

/// A stream between the relay and a program.
struct TestStream {
    relay: Duplex,
    program: Duplex,
    _peer: Peer,
}

async fn open_stream() -> TestStream {
    let (arrival, peer) = connect().await;
    let (mut send, recv) = arrival.link.open().await.unwrap();
    // The program learns of a stream with its first byte.
    send.write_all(b"!").await.unwrap();
    let (program_send, mut program_recv) = peer.connection.accept().await.unwrap();
    assert_eq!(program_recv.read_u8().await.unwrap(), b'!');
    let program = Duplex { send: program_send, recv: program_recv };
    TestStream { relay: Duplex { send, recv }, program, _peer: peer }
}

#[tokio::test]
async fn bytes_and_ends_pass_in_both_directions() {
    let (mut near, mut far) = (open_stream().await, open_stream().await);
    let notes = Notes::new(1, &header(Class::Interactive));
    let programs = async {
        let question = vec![7; 100_000];
        near.program.send.write_all(&question).await.unwrap();
        near.program.send.finish();
        let mut read = Vec::new();
        far.program.recv.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, question);
        far.program.send.write_all(b"answer").await.unwrap();
        far.program.send.finish();
        let mut read = Vec::new();
        near.program.recv.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"answer");
    };
    let all = async { tokio::join!(join(&notes, &mut near.relay, &mut far.relay), programs) };
    timeout(PATIENCE, all).await.expect("both directions end");
    assert_eq!(notes.forth.load(Ordering::Relaxed), 100_000);
    assert_eq!(notes.back.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn resets_and_stops_pass_with_their_reasons() {
    let (mut near, mut far) = (open_stream().await, open_stream().await);
    let notes = Notes::new(1, &header(Class::Bulk));
    near.program.send.reset(Reset::Stale);
    near.program.recv.stop(Reset::Overloaded);
    let programs = async {
        let error = far.program.recv.read_u8().await.unwrap_err();
        assert_eq!(reset_of(&error), Some(Reset::Stale));
        assert_eq!(far.program.send.stopped().await, Some(Reset::Overloaded));
    };
    let all = async { tokio::join!(join(&notes, &mut near.relay, &mut far.relay), programs) };
    timeout(PATIENCE, all).await.expect("both directions end");
}
