//! The relay as itself: what it lets whom ask, what it keeps, and what it does with those who break its
//! rules. Its guests are simulated, with real connections.

use std::time::Duration;

use farwire_link::outer::{Closed, reset_of};
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::{Class, Header, Reset};
use farwire_protocol::id::Target;
use farwire_protocol::outer::{
    ALPN, Done, EnrollmentState, LIMIT, List, Lookup, MailAnswer, MailGet, MailPut, MailState,
    Notice, Presence, Role, ServerRemove, ServerUpdate, Verb,
};
use farwire_tests::raw::{self, Shows};
use farwire_tests::simulated::{arrive, create, device, enroll, nonce, random, stranger};
use farwire_tests::world::resident_kib;
use farwire_tests::{PATIENCE, World};
use minicbor::{Decode, Encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

fn kind<T>(result: Result<T, Failure>) -> Option<Kind> {
    result.err().map(|failure| failure.kind)
}

/// A header of a stream on some link to this agent.
fn header(target: Target) -> Header {
    Header {
        class: Class::Interactive,
        target,
        link: [7; 16],
        epoch: 0,
        sid: 2,
        not_after: 1,
        rest: 0,
    }
}

#[derive(Clone, Debug, Decode, Encode)]
#[cbor(map)]
struct Unheard {}

impl Verb for Unheard {
    const NUMBER: u16 = 999;
    type Answer = Done;
}

/// The number of a verb that exists, and a body that is none of its.
#[derive(Clone, Debug, Decode, Encode)]
#[cbor(map)]
struct Nonsense {
    #[n(0)]
    name: u64,
}

impl Verb for Nonsense {
    const NUMBER: u16 = ServerRemove::NUMBER;
    type Answer = Done;
}

#[tokio::test]
async fn each_role_may_ask_what_is_its_business_and_nothing_else() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    let agent = enroll(&owner, "web-1").await.unwrap();
    let agent = arrive(&relay, &agent).await.unwrap();
    let mut waiting = stranger(Role::Enrolling);
    waiting.enrollment = Some(nonce());
    let waiting = arrive(&relay, &waiting).await.unwrap();

    assert_eq!(kind(owner.call(&Presence { admits: Vec::new() }).await), Some(Kind::RelayDenied));
    let other = EnrollmentState { enrollment: nonce() };
    let remove = ServerRemove { name: "web-1".to_owned() };
    let put = MailPut { enrollment: nonce(), blob: Blob(vec![1]) };
    let get = MailGet { enrollment: None };
    for guest in [&agent, &waiting] {
        assert_eq!(kind(guest.call(&List { page: None }).await), Some(Kind::RelayDenied));
        assert_eq!(kind(guest.call(&remove).await), Some(Kind::RelayDenied));
        assert_eq!(kind(guest.call(&other).await), Some(Kind::RelayDenied));
        assert_eq!(kind(guest.call(&put).await), Some(Kind::RelayDenied));
        assert_eq!(kind(create(guest, "mine", nonce()).await), Some(Kind::RelayDenied));
    }
    assert_eq!(kind(agent.call(&get).await), Some(Kind::RelayDenied));
    assert_eq!(kind(waiting.call(&get).await), Some(Kind::TokenUnknown));
    assert_eq!(kind(waiting.call(&Presence { admits: Vec::new() }).await), Some(Kind::RelayDenied));
    for guest in [&owner, &agent, &waiting] {
        assert_eq!(kind(guest.call(&Unheard {}).await), Some(Kind::Unsupported));
        let nonsense = kind(guest.call(&Nonsense { name: 1 }).await);
        assert_eq!(nonsense, Some(Kind::ProtocolViolation));
    }
    // Whoever asked for what is not to be had is here all the same.
    assert_eq!(owner.call(&List { page: None }).await.unwrap().servers.len(), 1);
    agent.call(&Presence { admits: Vec::new() }).await.unwrap();
    let many = Presence { admits: vec![farwire_protocol::id::Id(random()); 1025] };
    assert_eq!(kind(agent.call(&many).await), Some(Kind::TooLarge));
}

#[tokio::test]
async fn a_hello_that_does_not_fit_is_refused() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    for role in [Role::Device, Role::Agent] {
        assert_eq!(kind(arrive(&relay, &stranger(role)).await), Some(Kind::RelayDenied));
    }
    // A bundle of somebody else, one of another kind, and an enrollment that is not named.
    let mut thief = stranger(Role::Device);
    thief.bundle = owner.bundle.clone();
    assert_eq!(kind(arrive(&relay, &thief).await), Some(Kind::RelayDenied));
    let mut other = owner.clone();
    other.role = Role::Agent;
    assert_eq!(kind(arrive(&relay, &other).await), Some(Kind::RelayDenied));
    assert_eq!(kind(arrive(&relay, &stranger(Role::Enrolling)).await), Some(Kind::RelayDenied));
    // An invite that was never made.
    let mut founder = stranger(Role::Device);
    let secret = farwire_protocol::address::Invite(random());
    founder.found = Some((secret, vec![0; 40]));
    assert_eq!(kind(arrive(&relay, &founder).await), Some(Kind::RelayDenied));
    arrive(&relay, &owner).await.unwrap();
}

#[tokio::test]
async fn one_workspace_knows_nothing_of_another() {
    let world = World::new().await;
    let url = world.invite().await;
    let init = ["init", "--relay", "-", "--name", "other"];
    let done = world.device("other", &init, url.as_bytes()).await;
    assert_eq!(done.code, 0, "{done:?}");
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    let agent = enroll(&owner, "web-1").await.unwrap();
    let _here = arrive(&relay, &agent).await.unwrap();
    let pending = nonce();
    create(&owner, "web-2", pending).await.unwrap();

    let (_, other) = device(&world, "other");
    let other = arrive(&relay, &other).await.unwrap();
    assert_eq!(other.call(&List { page: None }).await.unwrap().servers, []);
    let lookup = Lookup { agent: agent.bundle.id };
    assert_eq!(kind(other.call(&lookup).await), Some(Kind::UnknownServer));
    let update = ServerUpdate { name: "web-1".to_owned(), ..ServerUpdate::default() };
    assert_eq!(kind(other.call(&update).await), Some(Kind::UnknownServer));
    let remove = ServerRemove { name: "web-1".to_owned() };
    assert_eq!(kind(other.call(&remove).await), Some(Kind::UnknownServer));
    let mail = other.call(&MailGet { enrollment: Some(pending) }).await.unwrap();
    assert_eq!(mail.pieces, []);
    // It can neither answer for the owner nor take the owner's agent over.
    let bundle = Blob(stranger(Role::Agent).bundle.encode());
    let answer = MailAnswer { enrollment: pending, agent: bundle, blob: Blob(vec![0; 64]) };
    assert_eq!(kind(other.call(&answer).await), Some(Kind::TokenUnknown));
    let (mine, taken) = (nonce(), Blob(agent.bundle.encode()));
    create(&other, "web-1", mine).await.unwrap();
    let answer = MailAnswer { enrollment: mine, agent: taken, blob: Blob(vec![0; 64]) };
    assert_eq!(kind(other.call(&answer).await), Some(Kind::AlreadyEnrolled));

    let (mut send, mut recv) = other.open().await.unwrap();
    send.write_all(&header(agent.bundle.id.target()).encode()).await.unwrap();
    assert_eq!(refused(&mut recv).await, Some(Reset::UnknownServer));
}

/// The reason for which a stream is refused.
async fn refused(recv: &mut farwire_link::outer::RecvHalf) -> Option<Reset> {
    let read = timeout(PATIENCE, recv.read_u8()).await.expect("an end");
    reset_of(&read.expect_err("nothing is said"))
}

#[tokio::test]
async fn a_mailbox_is_small_and_holds_what_it_was_given() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    let enrollment = nonce();
    create(&owner, "web-1", enrollment).await.unwrap();
    let mut guest = stranger(Role::Enrolling);
    guest.enrollment = Some(enrollment);
    let guest = arrive(&relay, &guest).await.unwrap();
    let put = async |blob: Vec<u8>| guest.call(&MailPut { enrollment, blob: Blob(blob) }).await;
    let state = async || guest.call(&EnrollmentState { enrollment }).await.unwrap().state;
    assert_eq!(state().await, MailState::Open);
    assert_eq!(kind(put(vec![0; 16 * 1024 + 1]).await), Some(Kind::TooLarge));
    for round in [1, 2] {
        // The same bytes again are the same request.
        for number in 1..=4 {
            put(vec![number; 16 * 1024]).await.unwrap_or_else(|error| panic!("{round}: {error:?}"));
        }
    }
    assert_eq!(kind(put(vec![5]).await), Some(Kind::TokenUsed));
    assert_eq!(state().await, MailState::Waiting);
    let mail = owner.call(&MailGet { enrollment: None }).await.unwrap().pieces;
    assert_eq!(mail.len(), 4);
    assert!(mail.iter().all(|piece| piece.enrollment == enrollment && piece.blob.len() == 16384));

    let mut notices = guest.notices();
    let bundle = Blob(stranger(Role::Agent).bundle.encode());
    let answer = MailAnswer { enrollment, agent: bundle.clone(), blob: Blob(vec![9; 99]) };
    owner.call(&answer).await.unwrap();
    owner.call(&answer).await.expect("the same answer again is no other");
    assert_eq!(timeout(PATIENCE, notices.recv()).await.unwrap().unwrap(), Notice::Mail);
    let got = guest.call(&MailGet { enrollment: None }).await.unwrap().pieces;
    assert_eq!(got.iter().map(|piece| piece.blob.len()).collect::<Vec<_>>(), [99]);
    let another = MailAnswer { enrollment, agent: bundle, blob: Blob(vec![8; 99]) };
    assert_eq!(kind(owner.call(&another).await), Some(Kind::TokenUsed));
    assert_eq!(state().await, MailState::Answered);
    assert_eq!(kind(put(vec![6]).await), Some(Kind::TokenUsed));
}

#[tokio::test]
async fn long_lists_come_in_pages_and_in_order() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    for number in (0..450).rev() {
        create(&owner, &format!("web-{number:03}"), nonce()).await.unwrap();
    }
    let servers = world.farwire(&["servers", "--json"]).await.json();
    let names: Vec<_> =
        servers.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    let wanted: Vec<_> = (0..450).map(|number| format!("web-{number:03}")).collect();
    assert_eq!(names, wanted);
    assert!(owner.call(&List { page: Some(u32::MAX) }).await.unwrap().servers.is_empty());
}

#[tokio::test]
async fn streams_that_lead_nowhere_are_refused_with_the_reason() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    let identity = enroll(&owner, "web-1").await.unwrap();
    let target = identity.bundle.id.target();
    let open = async |bytes: &[u8]| {
        let (mut send, mut recv) = owner.open().await.unwrap();
        send.write_all(bytes).await.unwrap();
        refused(&mut recv).await
    };
    let good = header(target).encode();
    assert_eq!(open(&good).await, Some(Reset::Offline));
    assert_eq!(open(&header(Target([9; 16])).encode()).await, Some(Reset::UnknownServer));
    let agent = arrive(&relay, &identity).await.unwrap();
    for (at, value) in [(0, 2), (0, 0), (1, 3), (1, 0x80), (2, 0xff), (3, 1)] {
        let mut bad = good;
        bad[at] = value;
        assert_eq!(open(&bad).await, Some(Reset::Malformed), "byte {at} = {value}");
    }
    // Half a header, and then nothing.
    assert_eq!(open(&good[..55]).await, Some(Reset::Stale));
    let suspend = |suspended| ServerUpdate {
        name: "web-1".to_owned(),
        suspended: Some(suspended),
        ..ServerUpdate::default()
    };
    // A stream that is open ends with the suspension.
    let (mut send, mut recv) = owner.open().await.unwrap();
    send.write_all(&good).await.unwrap();
    let (_far, mut heard) = agent.accept().await.unwrap();
    heard.read_exact(&mut [0; 60]).await.unwrap();
    owner.call(&suspend(true)).await.unwrap();
    assert_eq!(refused(&mut recv).await, Some(Reset::Cancelled));
    assert_eq!(open(&good).await, Some(Reset::Suspended));
    owner.call(&suspend(false)).await.unwrap();
    // Only devices open streams.
    let (mut send, mut recv) = agent.open().await.unwrap();
    send.write_all(&good).await.unwrap();
    assert!(refused(&mut recv).await.is_some());
    // A record that is removed takes its agent's connection with it.
    owner.call(&ServerRemove { name: "web-1".to_owned() }).await.unwrap();
    let closed = timeout(PATIENCE, agent.closed()).await.unwrap();
    assert_eq!(closed, Closed::ByPeer(Reset::UnknownServer));
    assert_eq!(open(&good).await, Some(Reset::UnknownServer));
    assert_eq!(kind(arrive(&relay, &identity).await), Some(Kind::RelayDenied));
}

#[tokio::test]
async fn a_reader_that_sleeps_holds_its_own_stream_up_and_nothing_else() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    let identity = enroll(&owner, "web-1").await.unwrap();
    let agent = arrive(&relay, &identity).await.unwrap();
    let good = header(identity.bundle.id.target()).encode();
    let before = resident_kib(world.relay_pid());
    let (mut flood, _answers) = owner.open().await.unwrap();
    flood.write_all(&good).await.unwrap();
    let (_far, mut asleep) = agent.accept().await.unwrap();
    asleep.read_exact(&mut [0; 60]).await.unwrap();
    // Until nothing goes any more.
    let chunk = vec![0; 256 << 10];
    let mut written = 0;
    while timeout(Duration::from_secs(2), flood.write_all(&chunk)).await.is_ok() {
        written += chunk.len();
        assert!(written < 64 << 20, "nobody reads it, and it goes on and on");
    }
    let kept = resident_kib(world.relay_pid()).saturating_sub(before);
    assert!(kept < 32 << 10, "the relay keeps {kept} KiB of a stream that nobody reads");

    // Meanwhile others pass on the same connections.
    let (mut send, mut recv) = owner.open().await.unwrap();
    send.write_all(&good).await.unwrap();
    send.write_all(b"ping").await.unwrap();
    let (mut back, mut heard) = agent.accept().await.unwrap();
    let mut said = [0; 64];
    timeout(PATIENCE, heard.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(&said[60..], b"ping");
    back.write_all(b"pong").await.unwrap();
    let mut said = [0; 4];
    timeout(PATIENCE, recv.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(&said, b"pong");
    // And nothing of the flood is lost once it is read: what was cut off in the middle was not taken.
    flood.finish();
    let mut read = 0;
    while let Some(piece) = timeout(PATIENCE, asleep.read_chunk(1 << 20)).await.unwrap().unwrap() {
        read += piece.len();
    }
    assert!(read >= written && read < written + chunk.len(), "{read} of {written}");
}

#[tokio::test]
async fn a_second_process_with_an_agents_identity_is_noted_and_a_return_is_not() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    let identity = enroll(&owner, "web-1").await.unwrap();
    let first = arrive(&relay, &identity).await.unwrap();
    // The same process comes back before the relay has noticed that it had gone.
    let back = arrive(&relay, &identity).await.unwrap();
    assert_eq!(timeout(PATIENCE, first.closed()).await.unwrap(), Closed::ByPeer(Reset::Moved));
    let record = || async { owner.call(&List { page: None }).await.unwrap().servers.remove(0) };
    assert_eq!(record().await.duplicate, None);
    let mut told = back.notices();
    let mut clone = identity.clone();
    clone.instance = nonce();
    let clone = arrive(&relay, &clone).await.unwrap();
    assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap().unwrap(), Notice::Superseded);
    assert_eq!(timeout(PATIENCE, back.closed()).await.unwrap(), Closed::ByPeer(Reset::Moved));
    assert!(record().await.duplicate.is_some());
    // Streams go to the one that came last.
    let (mut send, _recv) = owner.open().await.unwrap();
    send.write_all(&header(identity.bundle.id.target()).encode()).await.unwrap();
    timeout(PATIENCE, clone.accept()).await.unwrap().unwrap();
    let listed = world.farwire(&["servers"]).await.text();
    assert!(listed.is_empty() || !listed.contains("web-1 "), "it is pinned nowhere: {listed}");
}

#[tokio::test]
async fn whoever_speaks_another_protocol_is_shown_out_and_others_notice_nothing() {
    let world = World::new().await;
    let port = world.port;
    for (alpn, shows) in [
        (&b"h3"[..], Shows::Key),
        (b"farwire/2", Shows::Key),
        (ALPN, Shows::Nothing),
        (ALPN, Shows::AnothersKey),
    ] {
        // A refusal of the client's key reaches the client after its own handshake is done.
        let met = match raw::connect(port, alpn, shows).await {
            Ok(connection) => timeout(PATIENCE, connection.closed()).await.is_ok(),
            Err(_) => true,
        };
        assert!(met, "{alpn:?}, {shows:?}");
    }
    let too_long = (u32::try_from(LIMIT).unwrap() + 1).to_be_bytes();
    let mut noise = vec![0, 0, 1, 0];
    noise.extend(random::<256>());
    let map = [0, 0, 0, 1, 0xa0];
    let deep = [&[0, 0, 0x10, 0][..], &[0x81; 4096]].concat();
    for said in [&too_long[..], &noise, &map, &deep, &[0, 0, 0, 0], &[0xff; 64]] {
        let guest = raw::connect(port, ALPN, Shows::Key).await.unwrap();
        let (mut send, mut recv) = guest.open_bi().await.unwrap();
        send.write_all(said).await.unwrap();
        timeout(PATIENCE, guest.closed()).await.expect("it is shown out");
        assert!(recv.read_to_end(9).await.is_err(), "{said:?} is not answered");
    }
    // Nothing at all: no HELLO within the time for it.
    let silent = raw::connect(port, ALPN, Shows::Key).await.unwrap();
    timeout(PATIENCE, silent.closed()).await.expect("it is shown out");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [1, 20, 21, 60, 1200, 1472] {
        for first in [0x00, 0x40, 0x80, 0xc0, 0xff] {
            let mut packet = random::<1472>()[..length].to_vec();
            packet[0] = first;
            socket.send_to(&packet, ("127.0.0.1", port)).unwrap();
        }
    }
    let (relay, owner) = device(&world, "bridge");
    arrive(&relay, &owner).await.unwrap();
    let log = std::fs::read_to_string(world.path("relay.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn a_flood_of_streams_is_bounded_and_heals() {
    let world = World::with_server("web-1").await;
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    let mut open = Vec::new();
    // More than may be open: the next one waits for a place.
    while let Ok(stream) = timeout(Duration::from_millis(500), owner.open()).await {
        let (mut send, recv) = stream.unwrap();
        send.write_all(&[1]).await.unwrap();
        open.push((send, recv));
        assert!(open.len() <= 256, "streams without end");
    }
    assert_eq!(open.len(), 255, "and the control stream");
    assert_eq!(world.farwire(&["run", "web-1", "--", "true"]).await.code, 0, "others are served");
    // Streams without a header are ended in time, and make room.
    for (_send, mut recv) in open {
        assert_eq!(refused(&mut recv).await, Some(Reset::Stale));
    }
    timeout(PATIENCE, owner.open()).await.expect("there is room").unwrap();
}
