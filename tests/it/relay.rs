//! The relay as itself: what it lets whom ask, what it keeps, and what it does with those who break
//! its rules. Its guests are simulated, with real connections.

use std::collections::BTreeMap;
use std::time::Duration;

use farwire_link::outer::{Closed, reset_of};
use farwire_protocol::address::RelayUrl;
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::{Class, Header, Reset};
use farwire_protocol::id::Target;
use farwire_protocol::outer::{
    ALPN, Done, EnrollmentState, LIMIT, List, Lookup, MailAnswer, MailGet, MailPut, MailState,
    Notice, Presence, Role, ServerCreate, ServerRemove, ServerUpdate, Verb,
};
use farwire_tests::raw::{self, Shows};
use farwire_tests::simulated::{
    arrive, create, device, enroll, founder, nonce, random, stranger, stranger_of,
};
use farwire_tests::world::resident_kib;
use farwire_tests::{PATIENCE, World, until};
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
    let domain = owner.bundle.trust_domain;
    let owner = arrive(&relay, &owner).await.unwrap();
    let agent = enroll(&owner, domain, "web-1").await.unwrap();
    let agent = arrive(&relay, &agent).await.unwrap();
    let enrollment = nonce();
    create(&owner, "web-2", enrollment).await.unwrap();
    let mut waiting = stranger(Role::Enrolling);
    waiting.enrollment = Some(enrollment);
    let waiting = arrive(&relay, &waiting).await.unwrap();

    assert_eq!(kind(owner.call(&Presence { admits: Vec::new() }).await), Some(Kind::RelayDenied));
    let other = EnrollmentState { enrollment: nonce() };
    let remove = ServerRemove { name: "web-1".to_owned() };
    let put = MailPut { enrollment: nonce(), blob: Blob(vec![1]) };
    let get = MailGet { enrollment: None, after: None };
    for guest in [&agent, &waiting] {
        assert_eq!(kind(guest.call(&List { page: None }).await), Some(Kind::RelayDenied));
        assert_eq!(kind(guest.call(&remove).await), Some(Kind::RelayDenied));
        assert_eq!(kind(guest.call(&other).await), Some(Kind::RelayDenied));
        assert_eq!(kind(guest.call(&put).await), Some(Kind::RelayDenied));
        assert_eq!(kind(create(guest, "mine", nonce()).await), Some(Kind::RelayDenied));
    }
    assert_eq!(kind(agent.call(&get).await), Some(Kind::RelayDenied));
    assert_eq!(waiting.call(&get).await.unwrap().pieces, []);
    assert_eq!(kind(waiting.call(&Presence { admits: Vec::new() }).await), Some(Kind::RelayDenied));
    for guest in [&owner, &agent, &waiting] {
        assert_eq!(kind(guest.call(&Unheard {}).await), Some(Kind::Unsupported));
        let nonsense = kind(guest.call(&Nonsense { name: 1 }).await);
        assert_eq!(nonsense, Some(Kind::ProtocolViolation));
    }
    // Whoever asked for what is not to be had is here all the same.
    assert_eq!(owner.call(&List { page: None }).await.unwrap().servers.len(), 2);
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
    let mut nowhere = stranger(Role::Enrolling);
    nowhere.enrollment = Some(nonce());
    assert_eq!(kind(arrive(&relay, &nowhere).await), Some(Kind::TokenUnknown));
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
    let domain = owner.bundle.trust_domain;
    let owner = arrive(&relay, &owner).await.unwrap();
    let agent = enroll(&owner, domain, "web-1").await.unwrap();
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
    let mail = other.call(&MailGet { enrollment: Some(pending), after: None }).await.unwrap();
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
    let domain = owner.bundle.trust_domain;
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
    let mail = owner.call(&MailGet { enrollment: None, after: None }).await.unwrap().pieces;
    assert_eq!(mail.len(), 4);
    assert!(mail.iter().all(|piece| piece.enrollment == enrollment && piece.blob.len() == 16384));

    let mut notices = guest.notices();
    let bundle = Blob(stranger_of(Role::Agent, domain).bundle.encode());
    let answer = MailAnswer { enrollment, agent: bundle.clone(), blob: Blob(vec![9; 99]) };
    owner.call(&answer).await.unwrap();
    owner.call(&answer).await.expect("the same answer again is no other");
    assert_eq!(timeout(PATIENCE, notices.recv()).await.unwrap().unwrap(), Notice::Mail);
    let got = guest.call(&MailGet { enrollment: None, after: None }).await.unwrap().pieces;
    assert_eq!(got.iter().map(|piece| piece.blob.len()).collect::<Vec<_>>(), [99]);
    let another = MailAnswer { enrollment, agent: bundle, blob: Blob(vec![8; 99]) };
    assert_eq!(kind(owner.call(&another).await), Some(Kind::TokenUsed));
    assert_eq!(state().await, MailState::Answered);
    assert_eq!(kind(put(vec![6]).await), Some(Kind::TokenUsed));
}

#[tokio::test]
async fn a_token_that_is_used_again_after_the_answer_comes_to_its_inviter() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let domain = owner.bundle.trust_domain;
    let owner = arrive(&relay, &owner).await.unwrap();
    let enrollment = nonce();
    create(&owner, "web-1", enrollment).await.unwrap();
    let agent = Blob(stranger_of(Role::Agent, domain).bundle.encode());
    owner.call(&MailAnswer { enrollment, agent, blob: Blob(vec![9; 99]) }).await.unwrap();
    let mut thief = stranger(Role::Enrolling);
    thief.enrollment = Some(enrollment);
    let thief = arrive(&relay, &thief).await.unwrap();
    let mut notices = owner.notices();
    let put = thief.call(&MailPut { enrollment, blob: Blob(vec![7; 99]) }).await;
    assert_eq!(kind(put), Some(Kind::TokenUsed), "whoever used it learns nothing else");
    assert_eq!(timeout(PATIENCE, notices.recv()).await.unwrap().unwrap(), Notice::Mail);
    for only in [None, Some(enrollment)] {
        let mail = owner.call(&MailGet { enrollment: only, after: None }).await.unwrap();
        let late: Vec<_> = mail.pieces.iter().map(|piece| (piece.blob.len(), piece.late)).collect();
        assert_eq!(late, [(99, Some(true))]);
    }
}

#[tokio::test]
async fn mail_and_lists_of_any_size_come_in_pages() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    let long = |key: usize| (format!("{key:02}{}", "k".repeat(62)), "漢".repeat(128));
    let labels: BTreeMap<_, _> = (0..32).map(long).collect();
    for number in 0..20 {
        let enrollment = nonce();
        let name = format!("web-{number:02}");
        let create = ServerCreate { name, labels: labels.clone(), enrollment, lifetime: 3600 };
        owner.call(&create).await.unwrap();
        let mut guest = stranger(Role::Enrolling);
        guest.enrollment = Some(enrollment);
        let guest = arrive(&relay, &guest).await.unwrap();
        for blob in 0..4 {
            let blob = Blob(vec![blob; 16 * 1024]);
            guest.call(&MailPut { enrollment, blob }).await.unwrap();
        }
    }
    let (mut mail, mut after, mut pages) = (0, None, 0);
    loop {
        let page = owner.call(&MailGet { enrollment: None, after }).await.unwrap();
        mail += page.pieces.len();
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(mail == 80 && pages >= 5, "{mail} pieces in {pages} pages");
    let servers = world.farwire(&["servers", "--json"]).await.json();
    assert_eq!(servers.as_array().unwrap().len(), 20);
    // Neither what is asked nor what is answered is too large for the connection.
    let name = "é".repeat(100_000);
    assert_eq!(kind(owner.call(&ServerRemove { name }).await), Some(Kind::UnknownServer));
    owner.call(&List { page: None }).await.unwrap();
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
    let domain = owner.bundle.trust_domain;
    let owner = arrive(&relay, &owner).await.unwrap();
    let identity = enroll(&owner, domain, "web-1").await.unwrap();
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
    assert_eq!(refused(&mut recv).await, Some(Reset::Suspended));
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
    let domain = owner.bundle.trust_domain;
    let owner = arrive(&relay, &owner).await.unwrap();
    let identity = enroll(&owner, domain, "web-1").await.unwrap();
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
    // And nothing of the flood is lost once it is read: what was cut off in the middle was not
    // taken.
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
    let domain = owner.bundle.trust_domain;
    let owner = arrive(&relay, &owner).await.unwrap();
    let identity = enroll(&owner, domain, "web-1").await.unwrap();
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
async fn a_suspended_or_removed_server_is_cut_at_once_at_both_ends() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let domain = owner.bundle.trust_domain;
    let owner = arrive(&relay, &owner).await.unwrap();
    let identity = enroll(&owner, domain, "web-1").await.unwrap();
    let agent = arrive(&relay, &identity).await.unwrap();
    let good = header(identity.bundle.id.target()).encode();
    let name = || "web-1".to_owned();
    for reason in [Reset::Suspended, Reset::UnknownServer] {
        let (mut open, mut far) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let (mut send, recv) = owner.open().await.unwrap();
            send.write_all(&good).await.unwrap();
            let (back, mut heard) = agent.accept().await.unwrap();
            heard.read_exact(&mut [0; 60]).await.unwrap();
            open.push((send, recv));
            far.push((back, heard));
        }
        if reason == Reset::Suspended {
            let suspended = Some(true);
            let update = ServerUpdate { name: name(), suspended, ..ServerUpdate::default() };
            owner.call(&update).await.unwrap();
        } else {
            owner.call(&ServerRemove { name: name() }).await.unwrap();
        }
        let cut = async {
            for (_send, recv) in &mut open {
                assert_eq!(refused(recv).await, Some(reason));
            }
            for (_send, recv) in &mut far {
                assert!(recv.read_u8().await.is_err());
            }
        };
        timeout(Duration::from_secs(10), cut).await.expect("all of them are cut");
        let resume = ServerUpdate { name: name(), suspended: Some(false), ..Default::default() };
        let resumed = owner.call(&resume).await;
        assert_eq!(resumed.is_ok(), reason == Reset::Suspended);
    }
}

#[tokio::test]
async fn an_agent_restarted_at_once_is_no_duplicate() {
    let mut world = World::with_server("web-1").await;
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    let record = async || owner.call(&List { page: None }).await.unwrap().servers.remove(0);
    for killed in [false, true, true] {
        if killed {
            world.kill_agent("web-1").await;
        } else {
            world.end_agent("web-1").await;
        }
        world.start_agent("web-1").await;
        // It answers, so that the one before has been displaced.
        let done = world.farwire(&["run", "web-1", "--", "true"]).await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    // Whoever was displaced had its time to be heard.
    until("what was displaced is gone", async || {
        let log = std::fs::read_to_string(world.path("relay.log")).unwrap();
        assert!(!log.contains("two processes hold"), "{log}");
        let ended = log.matches("a connection ended role=\"agent\"").count();
        (ended >= 3).then_some(())
    })
    .await;
    assert_eq!(record().await.duplicate, None);
}

#[tokio::test]
async fn one_devices_flood_of_streams_leaves_room_for_others() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let domain = owner.bundle.trust_domain;
    let first = arrive(&relay, &owner).await.unwrap();
    let identity = enroll(&first, domain, "web-1").await.unwrap();
    let url: RelayUrl = world.invite().await.trim().parse().unwrap();
    let (other, _) = founder(url.invite.unwrap());
    let agent = arrive(&relay, &identity).await.unwrap();
    agent.call(&Presence { admits: vec![other.bundle.id] }).await.unwrap();
    let good = header(identity.bundle.id.target()).encode();
    // From two processes of one device, more than an agent takes.
    let second = arrive(&relay, &owner).await.unwrap();
    let mut open = Vec::new();
    for connection in [&first, &second] {
        for _ in 0..200 {
            let (mut send, recv) = connection.open().await.unwrap();
            send.write_all(&good).await.unwrap();
            open.push((send, recv));
        }
    }
    let mut far = Vec::new();
    for _ in 0..176 {
        far.push(timeout(PATIENCE, agent.accept()).await.unwrap().unwrap());
    }
    let other = arrive(&relay, &other).await.unwrap();
    let (mut send, _recv) = other.open().await.unwrap();
    send.write_all(&good).await.unwrap();
    let (_back, mut heard) = timeout(PATIENCE, agent.accept()).await.unwrap().unwrap();
    let mut route = [0; 60];
    heard.read_exact(&mut route).await.unwrap();
    let mut flood = [0; 60];
    far[0].1.read_exact(&mut flood).await.unwrap();
    assert_ne!(route[..4], flood[..4], "the next one is the other device's");
    // What waits goes on when there is room.
    drop(far.split_off(64));
    let (mut send, _recv) = second.open().await.unwrap();
    send.write_all(&good).await.unwrap();
    timeout(PATIENCE, agent.accept()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_agent_that_gives_way_to_another_process_shows_that_there_are_two() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let domain = owner.bundle.trust_domain;
    let owner = arrive(&relay, &owner).await.unwrap();
    let identity = enroll(&owner, domain, "web-1").await.unwrap();
    let first = arrive(&relay, &identity).await.unwrap();
    let mut told = first.notices();
    let clone = farwire_link::outer::Identity { instance: nonce(), ..identity };
    let _clone = arrive(&relay, &clone).await.unwrap();
    assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap().unwrap(), Notice::Superseded);
    // As `farwire-agent` does.
    first.close(Reset::Moved);
    until("a duplicate", async || {
        owner.call(&List { page: None }).await.unwrap().servers.remove(0).duplicate
    })
    .await;
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
