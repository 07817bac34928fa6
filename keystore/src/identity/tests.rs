//! Identities: complete, half-written, damaged, and opened only as far as requested.

use std::fs;
use std::path::Path;

use farwire_protocol::genesis::{self, Genesis};
use farwire_protocol::surface::SurfaceProof;

use super::*;
use crate::file::tests::check_damage;
use crate::steps::power;
use crate::{Home, StateDir};

fn device() -> (tempfile::TempDir, Home, Identity) {
    let temp = tempfile::tempdir().unwrap();
    let home = Home::create(&temp.path().join("home")).unwrap();
    let identity = home.create_identity(&home.lock().unwrap(), "lab", 7).unwrap();
    (temp, home, identity)
}

fn agent() -> (tempfile::TempDir, StateDir, Identity) {
    let temp = tempfile::tempdir().unwrap();
    let state = StateDir::create(&temp.path().join("state")).unwrap();
    let guard = state.lock().unwrap();
    let identity = state.create_identity(&guard, TrustDomain::NONE, 7).unwrap();
    (temp, state, identity)
}

/// What a connection through this surface needs.
fn opened(identity: &Identity, surface: &Surface) -> Result<(Transport, SurfaceKey), Failure> {
    Ok((identity.open_transport()?, identity.open_surface(surface)?))
}

fn whole(identity: &Identity) {
    for surface in [Surface::Human, Surface::AiLocal] {
        opened(identity, &surface).unwrap();
    }
    identity.open_signing().unwrap();
}

#[test]
fn a_device_belongs_to_the_workspace_that_it_founds() {
    let (_temp, home, identity) = device();
    let bundle = identity.open_public().unwrap();
    let bytes = home.genesis().unwrap().unwrap();
    let event = Genesis::decode(&bytes).unwrap();
    assert_eq!((event.name.as_str(), event.time), ("lab", 7));
    assert_eq!((bundle.kind, bundle.seq, bundle.not_before), (Kind::Device, 2, 7));
    assert_eq!(bundle.trust_domain, genesis::trust_domain(&bytes));
    let first = SignedBundle::decode(&event.device).unwrap();
    assert!(bundle.succeeds(&first) && first.trust_domain == TrustDomain::NONE);
}

#[test]
fn the_keys_that_are_opened_are_those_that_the_bundle_names() {
    let (_temp, _home, identity) = device();
    let bundle = identity.open_public().unwrap();
    let (transport, surface) = opened(&identity, &Surface::AiLocal).unwrap();
    assert_eq!(transport.kt.verifying_key().to_bytes(), bundle.kt.0);
    assert_eq!(x25519(&transport.kn), bundle.kn.0);
    assert_eq!(identity.open_signing().unwrap().verifying_key().to_bytes(), bundle.id.0);
    let proof = SurfaceProof::new(&surface.delegation, &surface.key, &[4; 32], &bundle.kn);
    let proven = proof.verify(&bundle.id, &bundle.kn, &[4; 32]).unwrap();
    assert_eq!((proven.surface, proven.expires), (Surface::AiLocal, None));
}

#[test]
fn a_process_that_serves_a_model_needs_no_other_key_than_its_own() {
    let (_temp, home, identity) = device();
    let keys = home.path().join("keys");
    fs::remove_file(keys.join("id")).unwrap();
    fs::remove_file(keys.join("surface-human")).unwrap();
    opened(&identity, &Surface::AiLocal).unwrap();
    assert_eq!(identity.open_signing().unwrap_err().kind, FailureKind::KeystoreCorrupt);
    fs::remove_dir_all(keys).unwrap();
    identity.open_public().unwrap();
}

#[test]
fn one_key_file_that_others_may_read_stops_every_process_and_the_fix_is_named() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let (_temp, home, _) = device();
    let keys = home.path().join("keys");
    let files: Vec<_> = fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in &files {
        for mode in [0o644, 0o640, 0o602, 0o601] {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            let failure = home.identity().unwrap_err();
            assert_eq!(failure.kind, FailureKind::KeystorePermissions, "{failure}");
            assert_eq!(failure.hint(), format!("chmod 600 {}", file.display()));
        }
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(file, Some(65_534), None).unwrap();
            let failure = home.identity().unwrap_err();
            assert_eq!(failure.kind, FailureKind::KeystorePermissions, "{failure}");
            chown(file, Some(0), None).unwrap();
        }
    }
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).unwrap();
    let failure = home.identity().unwrap_err();
    assert_eq!(failure.hint(), format!("chmod 700 {}", keys.display()));
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
    whole(&home.identity().unwrap().unwrap());
}

#[test]
fn an_identity_is_not_made_twice() {
    let (_temp, home, identity) = device();
    let before = identity.open_public().unwrap();
    let again = home.create_identity(&home.lock().unwrap(), "lab", 8).unwrap_err();
    assert_eq!(again.kind, FailureKind::AlreadyInitialized);
    assert_eq!(identity.open_public().unwrap(), before);
}

#[test]
fn keys_that_lost_their_bundle_are_never_written_over() {
    let (_temp, home, _) = device();
    fs::remove_file(home.path().join("bundle")).unwrap();
    let key = fs::read(home.path().join("keys/id")).unwrap();
    let failure = home.identity().unwrap_err();
    assert_eq!(failure.kind, FailureKind::KeystoreCorrupt);
    assert!(failure.message.contains("bundle"), "{failure}");
    home.create_identity(&home.lock().unwrap(), "lab", 8).unwrap_err();
    assert_eq!(fs::read(home.path().join("keys/id")).unwrap(), key);
}

#[test]
fn damage_to_any_file_is_noticed() {
    let (_temp, home, identity) = device();
    let file = |name: &str| home.path().join(name);
    check_damage(&file("bundle"), || identity.open_public().map(drop));
    check_damage(&file("keys/id"), || identity.open_signing().map(drop));
    let open = |surface| opened(&identity, surface).map(drop);
    check_damage(&file("keys/kn"), || open(&Surface::Human));
    check_damage(&file("keys/kt"), || open(&Surface::Human));
    check_damage(&file("keys/surface-human"), || open(&Surface::Human));
    check_damage(&file("keys/surface-ai-local"), || open(&Surface::AiLocal));
    check_damage(&file("surface-ai-local.delegation"), || open(&Surface::AiLocal));
}

#[test]
fn a_missing_file_is_damage_too() {
    for name in ["keys/kn", "keys/kt", "keys/surface-human", "surface-human.delegation", "keys"] {
        let (_temp, home, identity) = device();
        fs::rename(home.path().join(name), home.path().join("away")).unwrap();
        let failure = opened(&identity, &Surface::Human).unwrap_err();
        assert_eq!(failure.kind, FailureKind::KeystoreCorrupt, "{name}");
        assert!(failure.message.contains(name), "{failure}");
    }
}

#[test]
fn files_of_another_identity_or_use_are_not_taken_for_ours() {
    let (_temp, one, identity) = device();
    let (_temp, other, _) = device();
    for (from, to) in [
        (other.path().join("keys/id"), "keys/id"),
        (other.path().join("keys/kn"), "keys/kn"),
        (other.path().join("keys/kt"), "keys/kt"),
        (one.path().join("keys/kt"), "keys/id"),
        (one.path().join("keys/surface-human"), "keys/surface-ai-local"),
        (other.path().join("surface-ai-local.delegation"), "surface-ai-local.delegation"),
        (one.path().join("surface-human.delegation"), "surface-ai-local.delegation"),
    ] {
        let to = one.path().join(to);
        let good = fs::read(&to).unwrap();
        fs::copy(&from, &to).unwrap();
        let opened = opened(&identity, &Surface::AiLocal).and_then(|_| identity.open_signing());
        assert_eq!(opened.unwrap_err().kind, FailureKind::KeystoreCorrupt, "{from:?}");
        fs::write(&to, good).unwrap();
    }
    whole(&identity);
}

#[test]
fn an_agent_has_no_surfaces_and_changes_its_trust_domain_under_a_higher_number() {
    let (_temp, state, identity) = agent();
    let first = identity.open_public().unwrap();
    assert_eq!((first.kind, first.seq), (Kind::Agent, 1));
    identity.open_transport().unwrap();
    identity.open_surface(&Surface::Human).unwrap_err();
    let guard = state.lock().unwrap();
    let second = identity.set_trust_domain(&guard, TrustDomain([3; 32])).unwrap();
    assert!(second.succeeds(&first) && second.trust_domain == TrustDomain([3; 32]));
    assert_eq!(identity.set_trust_domain(&guard, TrustDomain([3; 32])).unwrap(), second);
    assert_eq!(identity.open_public().unwrap(), second);
}

#[test]
fn a_workspace_needs_a_name_that_can_be_shown() {
    let temp = tempfile::tempdir().unwrap();
    let home = Home::create(&temp.path().join("home")).unwrap();
    let guard = home.lock().unwrap();
    for name in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(65)] {
        let failure = home.create_identity(&guard, name, 7).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidArgument);
    }
    home.create_identity(&guard, "Büro 2", 7).unwrap();
}

#[test]
fn no_secret_is_printed() {
    let (_temp, home, identity) = device();
    let shown = format!(
        "{identity:?} {:?} {:?}",
        opened(&identity, &Surface::Human).unwrap(),
        identity.open_signing().unwrap(),
    );
    for name in ["id", "kn", "kt", "surface-human"] {
        let bytes = fs::read(home.path().join("keys").join(name)).unwrap();
        let secret = &bytes[bytes.len() - 32..];
        let hex = data_encoding::HEXLOWER.encode(secret);
        let list = format!("{secret:?}");
        assert!(!shown.contains(&hex) && !shown.contains(&list), "{name}");
        assert!(!shown.contains(
            list[1..list.len() - 1].split(", ").take(6).collect::<Vec<_>>().join(", ").as_str()
        ));
    }
}

fn empty(path: &Path) {
    Home::create(path).unwrap();
}

fn create(path: &Path) -> Result<(), Failure> {
    let home = Home::open(path)?;
    home.create_identity(&home.lock()?, "lab", 7).map(drop)
}

#[test]
fn after_a_power_cut_there_is_a_whole_identity_or_none_and_another_can_be_made() {
    power::cut_everywhere(empty, create, |path, done| {
        let home = Home::open(path).unwrap();
        if let Some(identity) = home.identity().unwrap() {
            whole(&identity);
            assert!(home.genesis().unwrap().is_some());
            return;
        }
        assert!(!done);
        create(path).unwrap();
        whole(&home.identity().unwrap().unwrap());
    });
}

#[test]
fn a_disk_that_refuses_leaves_a_whole_identity_or_none() {
    power::fail_everywhere(empty, create, |path| {
        if let Some(identity) = Home::open(path).unwrap().identity().unwrap() {
            whole(&identity);
        }
    });
}

#[test]
fn after_a_power_cut_the_bundle_is_the_old_or_the_new_one() {
    let prepare = |path: &Path| {
        let state = StateDir::create(path).unwrap();
        state.create_identity(&state.lock().unwrap(), TrustDomain::NONE, 7).unwrap();
    };
    let join = |path: &Path| {
        let state = StateDir::open(path)?;
        let identity = state.identity()?.unwrap();
        identity.set_trust_domain(&state.lock()?, TrustDomain([3; 32])).map(drop)
    };
    power::cut_everywhere(prepare, join, |path, done| {
        let bundle =
            StateDir::open(path).unwrap().identity().unwrap().unwrap().open_public().unwrap();
        assert!(bundle.seq == 2 || (bundle.seq == 1 && !done));
    });
}

#[test]
fn any_bundle_and_delegation_are_read_without_a_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = file::parse::<BundleFile>(bytes);
        let _ = BundleFile::read(bytes);
        let _ = DelegationFile::read(bytes);
        let _ = <crate::workspace::GenesisFile as FileBody>::read(bytes);
    });
}
