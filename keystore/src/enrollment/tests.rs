//! An agent's enrollment, from the request to leaving.

use std::path::Path;

use farwire_protocol::id::{Kind as Of, Nonce};
use zeroize::Zeroizing;

use super::*;
use crate::StateDir;
use crate::claim::tests::bundle;
use crate::devices::AddedBy;
use crate::file::tests::check_damage;
use crate::relay::tests::relay;
use crate::steps::power;

fn pending(seed: u8) -> Pending {
    let token = Token {
        relay: relay(),
        trust_domain: TrustDomain([2; 32]),
        inviter: bundle(1, Of::Device, 1).id,
        enrollment: Nonce([seed; 16]),
        secret: Zeroizing::new([0xc5; 32]),
        expires: 9,
    };
    Pending { relay: token.relay.clone(), token, request: vec![7; 900], started: 5 }
}

fn enrolled() -> Enrolled {
    Enrolled {
        relay: relay(),
        name: "web-1".into(),
        inviter: bundle(1, Of::Device, 1).id,
        trust_domain: TrustDomain([2; 32]),
        at: 6,
    }
}

fn device(seed: u8, how: AddedBy) -> Device {
    let bundle = bundle(seed, Of::Device, 1);
    Device { name: "laptop".into(), bundle, added: 6, how }
}

fn state() -> (tempfile::TempDir, StateDir) {
    let temp = tempfile::tempdir().unwrap();
    let state = StateDir::create(&temp.path().join("state")).unwrap();
    (temp, state)
}

#[test]
fn the_same_bytes_are_posted_again_and_a_new_token_takes_their_place() {
    let (_temp, state) = state();
    let guard = state.lock().unwrap();
    let enrollments = state.enrollments();
    assert_eq!(enrollments.load().unwrap(), Enrollment::Absent);
    assert_eq!(enrollments.begin(&guard, pending(4)).unwrap(), pending(4));
    let resealed = Pending { request: vec![8; 900], ..pending(4) };
    assert_eq!(enrollments.begin(&guard, resealed).unwrap(), pending(4));
    assert_eq!(enrollments.load().unwrap(), Enrollment::Pending(pending(4)));
    let mut elsewhere = pending(4);
    elsewhere.relay.addresses = vec!["other.example:4433".to_owned()];
    assert_eq!(enrollments.begin(&guard, elsewhere.clone()).unwrap(), elsewhere);
    assert_eq!(enrollments.load().unwrap(), Enrollment::Pending(elsewhere));
    assert_eq!(enrollments.begin(&guard, pending(5)).unwrap(), pending(5));
    assert!(enrollments.abandon(&guard).unwrap() && !enrollments.abandon(&guard).unwrap());
    assert_eq!(enrollments.load().unwrap(), Enrollment::Absent);
}

#[test]
fn a_finished_enrollment_lets_the_device_in_and_keeps_no_secret() {
    let (_temp, state) = state();
    let guard = state.lock().unwrap();
    let enrollments = state.enrollments();
    enrollments.begin(&guard, pending(4)).unwrap();
    enrollments.finish(&guard, &enrolled(), &device(1, AddedBy::Enrollment)).unwrap();
    assert_eq!(enrollments.load().unwrap(), Enrollment::Enrolled(enrolled()));
    assert!(!state.path().join("enrollment.pending").exists());
    assert!(state.devices().lookup(&bundle(1, Of::Device, 1).id).unwrap().is_some());
    let again = enrollments.begin(&guard, pending(5)).unwrap_err();
    assert_eq!(again.kind, Kind::AlreadyEnrolled);
}

#[test]
fn leaving_locks_out_who_came_by_enrollment_and_nobody_else() {
    let (_temp, state) = state();
    let guard = state.lock().unwrap();
    let enrollments = state.enrollments();
    state.devices().add(&guard, &device(3, AddedBy::ByHand)).unwrap();
    enrollments.finish(&guard, &enrolled(), &device(1, AddedBy::Enrollment)).unwrap();
    let moved = Relay { addresses: vec!["new:1".into()], ..relay() };
    enrollments.set_relay(&guard, &moved).unwrap();
    let Enrollment::Enrolled(now) = enrollments.load().unwrap() else { panic!() };
    assert_eq!(now, Enrolled { relay: moved.clone(), ..enrolled() });
    enrollments.leave(&guard).unwrap();
    assert_eq!(enrollments.load().unwrap(), Enrollment::Absent);
    let left = state.devices().list().unwrap().entries;
    assert_eq!(left.into_iter().map(|(_, one)| one.how).collect::<Vec<_>>(), [AddedBy::ByHand]);
    assert_eq!(enrollments.set_relay(&guard, &moved).unwrap_err().kind, Kind::NotEnrolled);
    enrollments.leave(&guard).unwrap();
}

#[test]
fn damage_to_either_file_is_noticed_and_leaving_is_possible() {
    let (_temp, state) = state();
    let guard = state.lock().unwrap();
    let enrollments = state.enrollments();
    enrollments.begin(&guard, pending(4)).unwrap();
    let read = || enrollments.load().map(drop);
    check_damage(&state.path().join("enrollment.pending"), read);
    enrollments.finish(&guard, &enrolled(), &device(1, AddedBy::Enrollment)).unwrap();
    check_damage(&state.path().join("enrollment"), read);
    std::fs::write(state.path().join("enrollment"), b"").unwrap();
    enrollments.begin(&guard, pending(5)).unwrap_err();
    enrollments.leave(&guard).unwrap();
    assert_eq!(enrollments.load().unwrap(), Enrollment::Absent);
}

#[test]
fn no_secret_is_printed() {
    let shown = format!("{:?}", Enrollment::Pending(pending(4)));
    assert!(!shown.contains("197, 197") && !shown.contains("c5c5") && !shown.contains("fwe_"));
}

#[test]
fn after_a_power_cut_an_enrollment_is_pending_or_done_and_can_be_finished() {
    let prepare = |path: &Path| {
        let state = StateDir::create(path).unwrap();
        state.enrollments().begin(&state.lock().unwrap(), pending(4)).unwrap();
    };
    let finish = |path: &Path| {
        let state = StateDir::open(path)?;
        let device = device(1, AddedBy::Enrollment);
        Ok(state.enrollments().finish(&state.lock()?, &enrolled(), &device)?)
    };
    power::cut_everywhere(prepare, finish, |path, done| {
        let state = StateDir::open(path).unwrap();
        let known = || state.devices().lookup(&bundle(1, Of::Device, 1).id).unwrap().is_some();
        match state.enrollments().load().unwrap() {
            Enrollment::Enrolled(_) => assert!(known()),
            stands => assert!(stands == Enrollment::Pending(pending(4)) && !done),
        }
        finish(path).unwrap();
        assert!(known() && !path.join("enrollment.pending").exists());
    });
    power::fail_everywhere(prepare, finish, |path| {
        StateDir::open(path).unwrap().enrollments().load().unwrap();
    });
}

#[test]
fn any_enrollment_is_read_without_a_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = file::parse::<Pending>(bytes);
        let _ = Pending::read(bytes);
        if let Ok(enrolled) = Enrolled::read(bytes) {
            let mut again = Vec::new();
            enrolled.write(&mut again);
            assert_eq!(Enrolled::read(&again).unwrap(), enrolled);
        }
    });
}
