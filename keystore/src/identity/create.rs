//! Creates an identity: all of it in memory first, then on disk with the bundle last.

use super::*;
use farwire_protocol::genesis::{self, Genesis};
use farwire_protocol::id::{Kn, Kt, Nonce};

use crate::workspace::{self, GenesisFile};

/// The surfaces that every device has.
const SURFACES: [Surface; 2] = [Surface::Human, Surface::AiLocal];

/// An identity that is not on disk yet.
struct NewIdentity {
    id: Secret,
    kn: Secret,
    kt: Secret,
    surfaces: Vec<(Surface, Secret, DelegationFile)>,
    genesis: Option<GenesisFile>,
    bundle: SignedBundle,
}

/// Creates a device and the workspace that it founds. The event contains the device's first bundle;
/// the bundle that is stored names the event, and is therefore its second.
pub(crate) fn create_device(
    dir: &Dir,
    guard: &Guard,
    workspace: &str,
    now: u64,
) -> Result<Identity, Failure> {
    refuse_second(dir)?;
    if !valid_title(workspace) {
        let message = "a workspace's name has 1 to 64 characters and no control characters";
        return Err(Failure::new(FailureKind::InvalidArgument, message));
    }
    let mut new = NewIdentity::new(Kind::Device, TrustDomain::NONE, now)?;
    let key = new.id.signing();
    let event = Genesis::new(workspace, &new.bundle, now, salt()?);
    let bytes = event.sign(&key);
    let trust_domain = genesis::trust_domain(&bytes);
    new.bundle = Bundle { seq: 2, trust_domain, ..(*new.bundle).clone() }.sign(&key);
    new.genesis = Some(GenesisFile::new(event, bytes));
    for surface in SURFACES {
        new.delegate(surface, now)?;
    }
    new.save(dir, guard)
}

/// Creates an agent.
pub(crate) fn create_agent(
    dir: &Dir,
    guard: &Guard,
    trust_domain: TrustDomain,
    now: u64,
) -> Result<Identity, Failure> {
    refuse_second(dir)?;
    NewIdentity::new(Kind::Agent, trust_domain, now)?.save(dir, guard)
}

/// Whether `name` may name a workspace or a device. The rules for servers are stricter.
pub(crate) fn valid_title(name: &str) -> bool {
    (1..=64).contains(&name.chars().count())
        && !name.trim().is_empty()
        && !name.chars().any(char::is_control)
}

fn refuse_second(dir: &Dir) -> Result<(), Failure> {
    if Identity::open(dir)?.is_none() {
        return Ok(());
    }
    let message =
        format!("`{}` already contains an identity", crate::fault::escape_path(dir.path()));
    Err(Failure::new(FailureKind::AlreadyInitialized, message))
}

fn salt() -> Result<[u8; Nonce::LENGTH], Failure> {
    let mut salt = [0; Nonce::LENGTH];
    salt.copy_from_slice(&Secret::random()?.as_bytes()[..Nonce::LENGTH]);
    Ok(salt)
}

impl NewIdentity {
    fn new(kind: Kind, trust_domain: TrustDomain, now: u64) -> Result<Self, Failure> {
        let (id, kn, kt) = (Secret::random()?, Secret::random()?, Secret::random()?);
        let bundle = Bundle {
            version: bundle::VERSION,
            kind,
            id: Id(ed25519(&id)),
            kn: Kn(x25519(&kn)),
            kt: Kt(ed25519(&kt)),
            kd: None,
            seq: 1,
            not_before: now,
            handshake: newest_handshake(),
            trust_domain,
        }
        .sign(&id.signing());
        Ok(Self { id, kn, kt, surfaces: Vec::new(), genesis: None, bundle })
    }

    fn delegate(&mut self, surface: Surface, now: u64) -> Result<(), Failure> {
        let secret = Secret::random()?;
        let delegation = Delegation {
            device: self.bundle.id,
            surface: surface.clone(),
            key: Surf(ed25519(&secret)),
            issued: now,
            expires: None,
        };
        let bytes = delegation.sign(&self.id.signing());
        self.surfaces.push((surface, secret, DelegationFile { bytes, delegation }));
        Ok(())
    }

    fn save(self, dir: &Dir, guard: &Guard) -> Result<Identity, Failure> {
        let keys = dir.create_sub(KEYS)?;
        keys.sweep(guard)?;
        keys.write(guard, UNFINISHED, b"")?;
        let write = |file: &KeyFile<'_>, secret: &Secret| {
            keys.write(guard, &file.name(), &file.format().seal(secret.as_bytes()))
        };
        write(&KeyFile::Id, &self.id)?;
        write(&KeyFile::Kn, &self.kn)?;
        write(&KeyFile::Kt, &self.kt)?;
        for (surface, secret, delegation) in &self.surfaces {
            write(&KeyFile::Surface { of: surface, key: delegation.delegation.key }, secret)?;
            file::save(dir, guard, &delegation_name(surface), delegation)?;
        }
        if let Some(genesis) = &self.genesis {
            file::save(dir, guard, workspace::GENESIS, genesis)?;
        }
        file::save(dir, guard, BUNDLE, &BundleFile(self.bundle))?;
        keys.remove(guard, UNFINISHED)?;
        Ok(Identity { dir: dir.clone() })
    }
}
