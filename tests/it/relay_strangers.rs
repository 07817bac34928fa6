//! What strangers can do to a relay, which is nothing that its owner would notice.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ed25519_dalek::SigningKey;
use farwire_link::outer::reset_of;
use farwire_protocol::address::{Invite, RelayUrl};
use farwire_protocol::cbor::Blob;
use farwire_protocol::failure::Kind;
use farwire_protocol::outer::{ALPN, List, MailAnswer, Role, ServerCreate};
use farwire_tests::raw::{self, Shows};
use farwire_tests::simulated::{
    arrive, claiming, device, founder, nonce, random, stranger, stranger_of,
};
use farwire_tests::{PATIENCE, World};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// All that the relay has written.
fn books(world: &World) -> BTreeMap<String, Vec<u8>> {
    let all = std::fs::read_dir(world.path("relay")).expect("its directory").flatten();
    let files = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    // What SQLite shares among processes changes with whoever reads.
    let lasting = files.filter(|name| !name.ends_with("-shm"));
    lasting
        .map(|name| (name.clone(), std::fs::read(world.path("relay").join(name)).expect("a file")))
        .collect()
}

#[tokio::test]
async fn strangers_cannot_lock_the_owner_out() {
    let world = World::with_server("web-1").await;
    let here = raw::socket(Ipv4Addr::LOCALHOST.into()).unwrap();
    let mut silent = JoinSet::new();
    // From the owner's own address, ten times what shake hands at once, and they stay.
    for _ in 0..700 {
        let (here, port) = (here.clone(), world.port);
        silent.spawn(async move {
            let met = raw::connect_from(&here, port, ALPN, Shows::Key).await;
            if let Ok(met) = met {
                met.closed().await;
            }
        });
    }
    for round in 0..5 {
        let done = world.farwire(&["run", "web-1", "--", "echo", "here"]).await;
        assert_eq!((done.code, done.text().as_str()), (0, "here\n"), "{round}: {done:?}");
    }
    let (relay, owner) = device(&world, "bridge");
    let owner = arrive(&relay, &owner).await.unwrap();
    assert_eq!(owner.call(&List { page: None }).await.unwrap().servers.len(), 1);
    // They are shown out in time, whatever they do.
    timeout(PATIENCE * 2, async { while silent.join_next().await.is_some() {} }).await.unwrap();
}

#[tokio::test]
async fn a_stranger_writes_nothing() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let before = books(&world);
    let mut all = JoinSet::new();
    for number in 0..60 {
        let relay = relay.clone();
        let mut guest = match number % 4 {
            0 => stranger(Role::Device),
            1 => stranger(Role::Agent),
            2 => stranger(Role::Enrolling),
            _ => founder(Invite(random())).0,
        };
        guest.enrollment = (guest.role == Role::Enrolling).then(nonce);
        all.spawn(async move { arrive(&relay, &guest).await.map(drop) });
    }
    while let Some(met) = all.join_next().await {
        assert!(met.unwrap().is_err());
    }
    assert_eq!(before, books(&world));
    arrive(&relay, &owner).await.unwrap();
    assert_eq!(before, books(&world), "and whoever is known already is not written down again");
}

#[tokio::test]
async fn a_claimed_key_keeps_nobody_out() {
    let world = World::new().await;
    let (relay, owner) = device(&world, "bridge");
    let domain = owner.bundle.trust_domain;
    let owner = arrive(&relay, &owner).await.unwrap();
    let url: RelayUrl = world.invite().await.trim().parse().unwrap();
    let (victim, _) = founder(url.invite.unwrap());
    let claim = |role| {
        let own = SigningKey::from_bytes(&random());
        claiming(role, &SigningKey::from_bytes(&random()), own, |bundle| {
            bundle.kn = victim.bundle.kn;
        })
    };
    for role in [Role::Device, Role::Agent] {
        assert_eq!(arrive(&relay, &claim(role)).await.unwrap_err().kind, Kind::RelayDenied);
    }
    // Nor does what somebody says who was let in: an agent that claims both of the victim's keys.
    let enrollment = nonce();
    let name = "web-1".to_owned();
    let create = ServerCreate { name, labels: BTreeMap::new(), enrollment, lifetime: 3600 };
    owner.call(&create).await.unwrap();
    let own = SigningKey::from_bytes(&random());
    let claims = claiming(Role::Agent, &own, SigningKey::from_bytes(&random()), |bundle| {
        (bundle.kn, bundle.kt) = (victim.bundle.kn, victim.bundle.kt);
        bundle.trust_domain = domain;
    });
    let agent = Blob(claims.bundle.encode());
    owner.call(&MailAnswer { enrollment, agent, blob: Blob(vec![1; 64]) }).await.unwrap();
    let victim = arrive(&relay, &victim).await.expect("it holds the keys");
    assert!(victim.call(&List { page: None }).await.unwrap().servers.is_empty());
}

#[tokio::test]
async fn sixty_four_devices_at_once_see_no_error() {
    let world = World::new().await;
    let (relay, _) = device(&world, "bridge");
    let mut invites = Vec::new();
    for _ in 0..64 {
        let url: RelayUrl = world.invite().await.trim().parse().unwrap();
        invites.push(url.invite.unwrap());
    }
    let mut all = JoinSet::new();
    for invite in invites {
        let relay = relay.clone();
        all.spawn(async move {
            let (founder, domain) = founder(invite);
            let owner = arrive(&relay, &founder).await?;
            let mut agents = Vec::new();
            for name in ["web-1", "web-2", "web-3"] {
                let enrollment = nonce();
                let (name, labels) = (name.to_owned(), BTreeMap::new());
                owner.call(&ServerCreate { name, labels, enrollment, lifetime: 3600 }).await?;
                let identity = stranger_of(Role::Agent, domain);
                let agent = Blob(identity.bundle.encode());
                owner.call(&MailAnswer { enrollment, agent, blob: Blob(vec![0; 64]) }).await?;
                agents.push(arrive(&relay, &identity).await?);
            }
            assert_eq!(owner.call(&List { page: None }).await?.servers.len(), 3);
            Ok::<_, farwire_protocol::failure::Failure>(())
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap().unwrap();
    }
    let log = std::fs::read_to_string(world.path("relay.log")).unwrap();
    assert!(!log.contains("the database failed"), "{log}");
}

#[tokio::test]
async fn a_stranger_may_say_little_and_open_little() {
    let world = World::new().await;
    let guest = raw::connect(world.port, ALPN, Shows::Key).await.unwrap();
    let mut said = 0;
    let mut streams = Vec::new();
    // Until the relay shows it out.
    loop {
        let opened = tokio::select! {
            opened = guest.open_bi() => opened,
            closed = guest.closed() => Err(closed),
        };
        let Ok((mut send, recv)) = opened else { break };
        // Bytes at the end of a stream whose beginning never comes are kept by a relay that lets
        // them come.
        let written = tokio::select! {
            written = send.write(&[0; 32 << 10]) => written.unwrap_or(0),
            _ = guest.closed() => 0,
        };
        said += written;
        streams.push((send, recv));
    }
    assert!(said <= 64 << 10, "{said} bytes from somebody whom nobody knows");
    assert!(streams.len() <= 16, "{} streams", streams.len());
}

#[tokio::test]
async fn a_hello_that_is_too_long_is_not_read() {
    let world = World::new().await;
    let guest = raw::connect(world.port, ALPN, Shows::Key).await.unwrap();
    let (mut send, _recv) = guest.open_bi().await.unwrap();
    send.write_all(&(16 * 1024 + 1_u32).to_be_bytes()).await.unwrap();
    let closed = timeout(PATIENCE, guest.closed()).await.expect("at once");
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed}");
    // A stream of somebody who is refused ends, too.
    let (relay, _) = device(&world, "bridge");
    let stranger = stranger(Role::Device);
    let met = farwire_link::outer::dial::dial(&relay, &stranger).await.unwrap();
    let (_send, mut recv) = met.open().await.unwrap();
    let error = timeout(PATIENCE, tokio::io::AsyncReadExt::read_u8(&mut recv)).await.unwrap();
    assert_eq!(reset_of(&error.unwrap_err()), None, "with its connection");
}
