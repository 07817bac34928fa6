//! Pins: which are accepted, resolved, and survive.

use std::fs;
use std::path::Path;

use farwire_protocol::failure::Kind as Failed;
use farwire_protocol::id::{Kn, TrustDomain};

use super::*;
use crate::claim::tests::{bundle, changed};
use crate::crowd;
use crate::file::tests::check_damage;
use crate::relay::tests::relay;
use crate::steps::power;
use crate::{Home, StateDir};

fn home() -> (tempfile::TempDir, Home) {
    let temp = tempfile::tempdir().unwrap();
    let home = Home::create(&temp.path().join("home")).unwrap();
    (temp, home)
}

fn pin(seed: u8) -> Pin {
    Pin::new(bundle(seed, Kind::Agent, 1), relay(), Some(Nonce([seed; 16])), 7)
}

fn with_bundle(bundle: SignedBundle) -> Pin {
    Pin::new(bundle, relay(), None, 7)
}

fn failed<T: core::fmt::Debug>(result: Result<T, PinError>) -> Failure {
    result.unwrap_err().into()
}

#[test]
fn a_pin_comes_back_as_it_was() {
    let (_temp, home) = home();
    let pins = home.pins();
    assert!(pins.list().unwrap().entries.is_empty());
    pins.add(&home.lock().unwrap(), "web-1", &pin(1)).unwrap();
    pins.add(&home.lock().unwrap(), "db", &pin(2)).unwrap();
    assert_eq!(pins.load("web-1").unwrap(), pin(1));
    let listing = pins.list().unwrap();
    assert!(listing.warnings.is_empty());
    assert_eq!(listing.entries, [("db".to_owned(), pin(2)), ("web-1".to_owned(), pin(1))]);
    let peer = pin(1).peer();
    assert_eq!((peer.id, peer.trust_domain), (pin(1).bundle.id, TrustDomain([2; 32])));
}

#[test]
fn a_server_is_found_by_its_name_or_by_an_id_that_fits_no_other() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let pins = home.pins();
    let mut twin = pin(2);
    twin.record = Some(Nonce([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]));
    pins.add(&guard, "web-1", &pin(1)).unwrap();
    pins.add(&guard, "web-2", &twin).unwrap();
    let found = |query: &str| pins.resolve(query).unwrap().0;
    assert_eq!(found("web-1"), "web-1");
    assert_eq!(found(&pin(1).fingerprint()[..12]), "web-1");
    assert_eq!(found(&twin.fingerprint().to_uppercase()), "web-2");
    assert_eq!(found("0101010101010202"), "web-2");
    let failure = failed(pins.resolve("01010101"));
    assert_eq!(failure.kind, Failed::AmbiguousServer);
    assert!(failure.message.contains("web-1, web-2"), "{failure}");
    for query in ["web1", "fwa1-aaaa-aaaa", "", "../web-1", "a\u{1b}[31m", "0101"] {
        let failure = failed(pins.resolve(query));
        let unknown = [Failed::UnknownServer, Failed::AmbiguousServer];
        assert!(unknown.contains(&failure.kind), "{query}");
        assert!(!failure.message.contains('\u{1b}'));
    }
    assert_eq!(failed(pins.resolve("web1")).hint(), "did you mean `web-1` or `web-2`?");
    assert!(failed(pins.resolve(&"x".repeat(1 << 20))).message.len() < 200);
    let by_agent = |hint| pins.of_agent(&pin(1).bundle.id, hint).unwrap().unwrap().0;
    assert_eq!(
        (by_agent("web-1"), by_agent("web-2"), by_agent("gone")),
        ("web-1".into(), "web-1".into(), "web-1".into())
    );
}

#[test]
fn a_name_and_an_agent_are_pinned_once() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let pins = home.pins();
    pins.add(&guard, "web-1", &pin(1)).unwrap();
    assert_eq!(failed(pins.add(&guard, "web-1", &pin(2))).kind, Failed::NameTaken);
    let failure = failed(pins.add(&guard, "web-2", &pin(1)));
    assert!(failure.kind == Failed::AlreadyEnrolled && failure.message.contains("web-1"));
    for name in ["", "-x", "../x", ".hidden", "a b", &"a".repeat(65)] {
        assert_eq!(failed(pins.add(&guard, name, &pin(3))).kind, Failed::InvalidArgument);
    }
    assert_eq!(pins.list().unwrap().entries.len(), 1);
}

#[test]
fn keys_of_others_and_of_ourselves_are_refused() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let own = home.create_identity(&guard, "lab", 7).unwrap().open_public().unwrap();
    let pins = home.pins();
    pins.add(&guard, "web-1", &pin(1)).unwrap();
    let held = pin(1).bundle;
    for (thief, holder) in [
        (changed(2, Kind::Agent, |bundle| bundle.kn = held.kn), "web-1"),
        (changed(2, Kind::Agent, |bundle| bundle.kt = held.kt), "web-1"),
        (changed(2, Kind::Agent, |bundle| bundle.kn = own.kn), "this installation"),
        (changed(2, Kind::Agent, |bundle| bundle.kt = own.kt), "this installation"),
    ] {
        let failure = failed(pins.add(&guard, "thief", &with_bundle(thief)));
        assert!(failure.message.contains(holder), "{failure}");
    }
    let device = failed(pins.add(&guard, "laptop", &with_bundle(bundle(3, Kind::Device, 1))));
    assert_eq!(device.kind, Failed::WrongKeyKind);
    assert_eq!(pins.list().unwrap().entries.len(), 1);
}

#[test]
fn an_agent_renews_its_bundle_and_never_goes_back() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let pins = home.pins();
    pins.add(&guard, "web-1", &with_bundle(bundle(1, Kind::Agent, 5))).unwrap();
    pins.add(&guard, "web-2", &pin(2)).unwrap();
    assert!(!pins.renew(&guard, "web-1", &bundle(1, Kind::Agent, 5)).unwrap());
    let rotated = changed(1, Kind::Agent, |bundle| {
        bundle.seq = 6;
        bundle.kn = Kn([77; 32]);
    });
    assert!(pins.renew(&guard, "web-1", &rotated).unwrap());
    assert_eq!(pins.load("web-1").unwrap().bundle, rotated);
    for bad in [
        bundle(1, Kind::Agent, 5),
        bundle(1, Kind::Agent, 6),
        changed(1, Kind::Agent, |bundle| {
            bundle.seq = 7;
            bundle.kn = pin(2).bundle.kn;
        }),
        changed(1, Kind::Device, |bundle| bundle.seq = 7),
    ] {
        pins.renew(&guard, "web-1", &bad).unwrap_err();
    }
    let other = failed(pins.renew(&guard, "web-1", &bundle(9, Kind::Agent, 9)));
    assert_eq!(other.kind, Failed::ChangedMeanwhile);
    assert_eq!(pins.load("web-1").unwrap().bundle, rotated);
}

#[test]
fn an_old_bundle_does_not_come_back_after_its_pin_is_gone() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let pins = home.pins();
    pins.add(&guard, "web-1", &with_bundle(bundle(1, Kind::Agent, 5))).unwrap();
    pins.remove(&guard, "web-1").unwrap();
    assert_eq!(failed(pins.load("web-1")).kind, Failed::UnknownServer);
    assert_eq!(failed(pins.remove(&guard, "web-1")).kind, Failed::UnknownServer);
    pins.add(&guard, "web-1", &with_bundle(bundle(1, Kind::Agent, 4))).unwrap_err();
    pins.add(&guard, "web-1", &with_bundle(bundle(1, Kind::Agent, 6))).unwrap();
    pins.replace(&guard, "web-1", &bundle(1, Kind::Agent, 1).id, &pin(2)).unwrap();
    let back = with_bundle(bundle(1, Kind::Agent, 5));
    pins.replace(&guard, "web-1", &pin(2).bundle.id, &back).unwrap_err();
    assert_eq!(pins.load("web-1").unwrap(), pin(2));
}

#[test]
fn another_key_is_pinned_only_in_place_of_the_one_that_was_shown() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let pins = home.pins();
    pins.add(&guard, "web-1", &pin(1)).unwrap();
    let failure = failed(pins.replace(&guard, "web-1", &pin(3).bundle.id, &pin(2)));
    assert_eq!(failure.kind, Failed::ChangedMeanwhile);
    assert!(failure.message.contains(&pin(1).fingerprint()), "{failure}");
    assert_eq!(pins.load("web-1").unwrap(), pin(1));
    pins.replace(&guard, "web-1", &pin(1).bundle.id, &pin(2)).unwrap();
    assert_eq!(pins.load("web-1").unwrap(), pin(2));
    let device = with_bundle(bundle(3, Kind::Device, 1));
    let failure = failed(pins.replace(&guard, "web-1", &pin(2).bundle.id, &device));
    assert_eq!(failure.kind, Failed::WrongKeyKind);
}

#[test]
fn a_server_keeps_its_pin_under_another_name() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let pins = home.pins();
    pins.add(&guard, "web-1", &pin(1)).unwrap();
    pins.add(&guard, "web-2", &pin(2)).unwrap();
    assert_eq!(failed(pins.rename(&guard, "web-1", "web-2")).kind, Failed::NameTaken);
    assert_eq!(failed(pins.rename(&guard, "web-9", "x")).kind, Failed::UnknownServer);
    assert_eq!(failed(pins.rename(&guard, "web-1", "../x")).kind, Failed::InvalidArgument);
    pins.rename(&guard, "web-1", "front").unwrap();
    assert_eq!(pins.load("front").unwrap(), pin(1));
    assert_eq!(pins.list().unwrap().entries.len(), 2);
    pins.set_route(&guard, "front", &relay(), None).unwrap();
    assert_eq!(pins.load("front").unwrap().record, None);
}

#[test]
fn the_floor_only_rises_and_a_link_is_noted_once_an_hour() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let pins = home.pins();
    pins.add(&guard, "web-1", &pin(1)).unwrap();
    let link = |version, at| LinkMade { agent: pin(1).bundle.id, version, at };
    assert!(pin(1).is_news(&link(1, 10)), "the first link ever");
    pins.note_link(&guard, "web-1", &link(3, 10)).unwrap();
    let seen = pins.load("web-1").unwrap();
    assert_eq!((seen.floor, seen.first_seen, seen.last_seen), (3, Some(10), Some(10)));
    assert!(!seen.is_news(&link(3, 100)) && seen.is_news(&link(4, 100)));
    assert!(seen.is_news(&link(3, 10 + 3600)) && !seen.is_news(&link(1, 5)));
    pins.note_link(&guard, "web-1", &link(1, 5)).unwrap();
    assert_eq!(pins.load("web-1").unwrap(), seen);
    let other = LinkMade { agent: pin(2).bundle.id, version: 9, at: 9 };
    assert_eq!(failed(pins.note_link(&guard, "web-1", &other)).kind, Failed::ChangedMeanwhile);
}

#[test]
fn damage_disables_one_server_and_says_so() {
    let (_temp, home) = home();
    let guard = home.lock().unwrap();
    let pins = home.pins();
    for seed in 1..4 {
        pins.add(&guard, &format!("web-{seed}"), &pin(seed)).unwrap();
    }
    let servers = home.path().join("servers");
    check_damage(&servers.join("web-2.pin"), || {
        pins.load("web-2").map(drop).map_err(Failure::from)
    });
    fs::write(servers.join("web-2.pin"), b"").unwrap();
    fs::copy(servers.join("web-1.pin"), servers.join("web-9.pin")).unwrap();
    fs::write(servers.join("notes.txt"), b"mine").unwrap();
    fs::write(servers.join("a b.pin"), b"").unwrap();
    let listing = pins.list().unwrap();
    let names: Vec<_> = listing.entries.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["web-1", "web-3"]);
    let warned: Vec<_> = listing.warnings.iter().map(|one| one.path.clone()).collect();
    assert_eq!(warned, ["a b.pin", "web-2.pin", "web-9.pin"].map(|name| servers.join(name)));
    assert_eq!(failed(pins.resolve("web-2")).kind, Failed::KeystoreCorrupt);
    assert_eq!(failed(pins.add(&guard, "web-2", &pin(5))).kind, Failed::NameTaken);
    pins.remove(&guard, "web-2").unwrap();
    pins.add(&guard, "web-2", &pin(2)).unwrap();
}

#[test]
fn an_agents_state_is_no_bridges_home() {
    let temp = tempfile::tempdir().unwrap();
    let state = StateDir::create(&temp.path().join("state")).unwrap();
    let guard = state.lock().unwrap();
    state.create_identity(&guard, TrustDomain::NONE, 7).unwrap();
    drop(guard);
    let home = Home::open(state.path()).unwrap();
    assert!(home.genesis().unwrap().is_none() && home.workspace().unwrap().is_none());
}

fn one_pin(path: &Path) {
    let home = Home::create(path).unwrap();
    home.pins().add(&home.lock().unwrap(), "web-1", &pin(1)).unwrap();
}

fn names(path: &Path) -> Vec<String> {
    let listing = Home::open(path).unwrap().pins().list().unwrap();
    assert!(listing.warnings.is_empty(), "{:?}", listing.warnings);
    listing.entries.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn after_a_power_cut_every_pin_is_whole() {
    let add = |path: &Path| {
        let home = Home::open(path)?;
        Ok(home.pins().add(&home.lock()?, "web-2", &pin(2))?)
    };
    power::cut_everywhere(one_pin, add, |path, done| {
        let names = names(path);
        assert!(names == ["web-1", "web-2"] || (names == ["web-1"] && !done), "{names:?}");
    });
    let rename = |path: &Path| {
        let home = Home::open(path)?;
        Ok(home.pins().rename(&home.lock()?, "web-1", "web-2")?)
    };
    power::cut_everywhere(
        one_pin,
        |path| rename(path).and_then(|()| add_again(path)),
        |path, done| {
            let names = names(path);
            assert!(names.contains(&"web-2".to_owned()) || (names == ["web-1"] && !done));
        },
    );
    let replace = |path: &Path| {
        let home = Home::open(path)?;
        Ok(home.pins().replace(&home.lock()?, "web-1", &pin(1).bundle.id, &pin(2))?)
    };
    power::cut_everywhere(one_pin, replace, |path, done| {
        let pinned = Home::open(path).unwrap().pins().load("web-1").unwrap();
        assert!(pinned == pin(2) || (pinned == pin(1) && !done));
    });
}

fn add_again(path: &Path) -> Result<(), Failure> {
    let home = Home::open(path)?;
    Ok(home.pins().add(&home.lock()?, "web-3", &pin(3))?)
}

#[test]
fn a_full_disk_leaves_every_pin_whole() {
    let replace = |path: &Path| {
        let home = Home::open(path)?;
        Ok(home.pins().replace(&home.lock()?, "web-1", &pin(1).bundle.id, &pin(2))?)
    };
    power::fail_everywhere(one_pin, replace, |path| {
        assert_eq!(names(path), ["web-1"]);
    });
}

#[test]
fn many_processes_lose_no_edit() {
    const EDITS: usize = 1000;
    if let Some((path, member)) = crowd::member() {
        return edit(&Home::open(&path).unwrap(), member, EDITS);
    }
    let temp = crowd::fast_directory();
    let home = Home::create(&temp.path().join("home")).unwrap();
    let start: usize = (1..4)
        .map(|seed| {
            home.pins().add(&home.lock().unwrap(), &format!("web-{seed}"), &pin(seed)).unwrap();
            usize::from(pin(seed).floor)
        })
        .sum();
    crowd::gather("pins::tests::many_processes_lose_no_edit", home.path());
    let listing = home.pins().list().unwrap();
    assert!(listing.warnings.is_empty(), "{:?}", listing.warnings);
    let floors: usize = listing.entries.iter().map(|(_, pin)| usize::from(pin.floor)).sum();
    assert_eq!(floors, start + crowd::SIZE * EDITS);
    assert_eq!(listing.entries.len(), 3);
}

/// Raises the floor of a pin by one, repeatedly; now and then pins, renames and removes another.
fn edit(home: &Home, member: usize, edits: usize) {
    let pins = home.pins();
    let mine = 100 + u8::try_from(member).unwrap();
    for edit in 0..edits {
        let name = format!("web-{}", 1 + (edit + member) % 3);
        let guard = home.lock().unwrap();
        let pin = pins.load(&name).unwrap();
        let link = LinkMade { agent: pin.bundle.id, version: pin.floor + 1, at: 9 };
        pins.note_link(&guard, &name, &link).unwrap();
        drop(guard);
        if edit % 100 == 0 {
            let (one, other) = (format!("m{member}-a"), format!("m{member}-b"));
            pins.add(&home.lock().unwrap(), &one, &self::pin(mine)).unwrap();
            pins.rename(&home.lock().unwrap(), &one, &other).unwrap();
            pins.remove(&home.lock().unwrap(), &other).unwrap();
        }
    }
}

#[test]
fn any_pin_is_read_without_a_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = file::parse::<Pin>(bytes);
        let _ = stored::decode_unverified(bytes);
        if let Ok(pin) = Pin::read(bytes) {
            let mut again = Vec::new();
            pin.write(&mut again);
            assert_eq!(Pin::read(&again).unwrap(), pin);
        }
    });
}
