//! Devices: which are authorised, and for how long.

use std::fs;
use std::path::Path;

use farwire_protocol::failure::Kind as Failed;
use farwire_protocol::id::TrustDomain;

use super::*;
use crate::StateDir;
use crate::claim::tests::{bundle, changed};
use crate::file::tests::check_damage;
use crate::steps::power;

fn state() -> (tempfile::TempDir, StateDir) {
    let temp = tempfile::tempdir().unwrap();
    let state = StateDir::create(&temp.path().join("state")).unwrap();
    (temp, state)
}

fn device(name: &str, seed: u8) -> Device {
    Device {
        name: name.to_owned(),
        bundle: bundle(seed, Kind::Device, 1),
        added: 7,
        how: AddedBy::ByHand,
    }
}

fn failed<T: core::fmt::Debug>(result: Result<T, DeviceError>) -> Failure {
    result.unwrap_err().into()
}

#[test]
fn a_device_is_in_from_its_adding_to_its_removal_whoever_holds_the_handle() {
    let (_temp, state) = state();
    let serving = StateDir::open(state.path()).unwrap().devices();
    let laptop = device("laptop", 1);
    let id = laptop.bundle.id;
    assert!(serving.lookup(&id).unwrap().is_none());
    state.devices().add(&state.lock().unwrap(), &laptop).unwrap();
    assert_eq!(serving.lookup(&id).unwrap().unwrap(), laptop);
    let removed = state.devices().remove(&state.lock().unwrap(), "laptop").unwrap();
    assert_eq!(removed, laptop.fingerprint());
    assert!(serving.lookup(&id).unwrap().is_none());
}

#[test]
fn a_device_is_removed_by_its_name_or_by_a_fingerprint_that_fits_no_other() {
    let (_temp, state) = state();
    let guard = state.lock().unwrap();
    let devices = state.devices();
    for (name, seed) in [("laptop", 1), ("laptop", 2), ("desk", 3)] {
        devices.add(&guard, &device(name, seed)).unwrap();
    }
    let failure = failed(devices.remove(&guard, "laptop"));
    assert!(failure.message.contains(&device("", 1).fingerprint()), "{failure}");
    for query in ["nobody", "", "fwd1", "fwd1-", "../lock"] {
        let failure = failed(devices.remove(&guard, query));
        assert_eq!(failure.kind, Failed::InvalidArgument, "{query}");
    }
    devices.remove(&guard, &device("", 1).fingerprint()[..16]).unwrap();
    devices.remove(&guard, "laptop").unwrap();
    let listing = devices.list().unwrap();
    assert_eq!(listing.entries, [(device("", 3).fingerprint(), device("desk", 3))]);
}

#[test]
fn only_devices_with_keys_of_their_own_are_let_in() {
    let (_temp, state) = state();
    let guard = state.lock().unwrap();
    let own = state.create_identity(&guard, TrustDomain::NONE, 7).unwrap().open_public().unwrap();
    let devices = state.devices();
    devices.add(&guard, &device("laptop", 1)).unwrap();
    let held = bundle(1, Kind::Device, 1);
    let with = |bundle| Device { bundle, ..device("other", 2) };
    let agent = failed(devices.add(&guard, &with(bundle(2, Kind::Agent, 1))));
    assert_eq!(agent.kind, Failed::WrongKeyKind);
    for bad in [
        changed(2, Kind::Device, |bundle| bundle.kn = held.kn),
        changed(2, Kind::Device, |bundle| bundle.kt = own.kt),
    ] {
        assert_eq!(failed(devices.add(&guard, &with(bad))).kind, Failed::InvalidArgument);
    }
    for name in ["", "\n", &"x".repeat(65)] {
        assert_eq!(failed(devices.add(&guard, &device(name, 2))).kind, Failed::InvalidArgument);
    }
    assert_eq!(devices.list().unwrap().entries.len(), 1);
}

#[test]
fn a_bundle_is_renewed_and_never_goes_back_not_even_after_a_removal() {
    let (_temp, state) = state();
    let guard = state.lock().unwrap();
    let devices = state.devices();
    devices.add(&guard, &device("laptop", 1)).unwrap();
    let newer = bundle(1, Kind::Device, 5);
    assert!(devices.renew(&guard, &newer).unwrap() && !devices.renew(&guard, &newer).unwrap());
    let kept = devices.lookup(&newer.id).unwrap().unwrap();
    assert_eq!((kept.bundle, kept.name.as_str()), (newer.clone(), "laptop"));
    devices.renew(&guard, &bundle(1, Kind::Device, 4)).unwrap_err();
    devices.renew(&guard, &bundle(2, Kind::Device, 4)).unwrap_err();
    devices.remove(&guard, "laptop").unwrap();
    devices.renew(&guard, &newer).unwrap_err();
    devices.add(&guard, &device("laptop", 1)).unwrap_err();
    devices.add(&guard, &Device { bundle: newer, ..device("laptop", 1) }).unwrap();
}

#[test]
fn damage_keeps_one_device_out_and_no_other() {
    let (_temp, state) = state();
    let guard = state.lock().unwrap();
    let devices = state.devices();
    devices.add(&guard, &device("laptop", 1)).unwrap();
    devices.add(&guard, &device("desk", 2)).unwrap();
    let file = |seed| {
        let name = format!("{}.device", device("", seed).fingerprint());
        state.path().join("devices").join(name)
    };
    let id = device("", 1).bundle.id;
    check_damage(&file(1), || devices.lookup(&id).map(drop));
    fs::copy(file(2), file(1)).unwrap();
    assert_eq!(devices.lookup(&id).unwrap_err().kind, Failed::KeystoreCorrupt);
    let listing = devices.list().unwrap();
    assert_eq!((listing.entries.len(), listing.warnings.len()), (1, 1));
    assert_eq!(listing.warnings[0].path, file(1));
    devices.remove(&guard, &device("", 1).fingerprint()).unwrap();
    assert!(devices.list().unwrap().warnings.is_empty());
}

#[test]
fn a_damaged_memory_of_old_bundles_keeps_nobody_in() {
    let (_temp, state) = state();
    let guard = state.lock().unwrap();
    let devices = state.devices();
    devices.add(&guard, &device("laptop", 1)).unwrap();
    devices.add(&guard, &device("desk", 2)).unwrap();
    devices.remove(&guard, "desk").unwrap();
    fs::write(state.path().join("retired"), b"").unwrap();
    let failure = failed(devices.remove(&guard, "laptop"));
    assert_eq!(failure.kind, Failed::KeystoreCorrupt);
    assert!(devices.lookup(&device("", 1).bundle.id).unwrap().is_none());
}

#[test]
fn after_a_power_cut_a_device_is_in_or_out() {
    let prepare = |path: &Path| drop(StateDir::create(path).unwrap());
    let add = |path: &Path| {
        let state = StateDir::open(path)?;
        Ok(state.devices().add(&state.lock()?, &device("laptop", 1))?)
    };
    let known = |path: &Path| {
        let devices = StateDir::open(path).unwrap().devices();
        devices.lookup(&device("", 1).bundle.id).unwrap().is_some()
    };
    power::cut_everywhere(prepare, add, |path, done| assert!(known(path) || !done));
    let with_one = |path: &Path| {
        prepare(path);
        add(path).unwrap();
    };
    let remove = |path: &Path| {
        let state = StateDir::open(path)?;
        Ok(state.devices().remove(&state.lock()?, "laptop").map(drop)?)
    };
    power::cut_everywhere(with_one, remove, |path, done| assert!(!(known(path) && done)));
}

#[test]
fn any_device_is_read_without_a_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = file::parse::<Device>(bytes);
        let _ = decode_unverified(bytes);
        if let Ok(device) = Device::read(bytes) {
            let mut again = Vec::new();
            device.write(&mut again);
            assert_eq!(Device::read(&again).unwrap(), device);
        }
    });
}
