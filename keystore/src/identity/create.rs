//! Making an identity: everything in memory first, then on disk with the bundle last.

use super::*;
use farwire_protocol::genesis::{self, Genesis};
use farwire_protocol::id::{Kn, Kt, Nonce};

use crate::workspace::{self, GenesisFile};

/// The surfaces that every device has.
const SURFACES: [Surface; 2] = [Surface::Human, Surface::AiLocal];

/// An identity that is not on disk yet.
struct Made {
    id: Secret,
    kn: Secret,
    kt: Secret,
    surfaces: Vec<(Surface, Secret, DelegationFile)>,
    genesis: Option<GenesisFile>,
    bundle: SignedBundle,
}

/// Makes a device and the workspace that it founds. The event names the device's first bundle; the
/// device's own bundle names the event, and therefore is its second.
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
    let mut made = Made::new(Kind::Device, TrustDomain::NONE, now)?;
    let key = made.id.signing();
    let event = Genesis::new(workspace, &made.bundle, now, salt()?);
    let bytes = event.sign(&key);
    let trust_domain = genesis::trust_domain(&bytes);
    made.bundle = Bundle { seq: 2, trust_domain, ..(*made.bundle).clone() }.sign(&key);
    made.genesis = Some(GenesisFile::new(event, bytes));
    for surface in SURFACES {
        made.delegate(surface, now)?;
    }
    made.save(dir, guard)
}

/// Makes an agent.
pub(crate) fn create_agent(
    dir: &Dir,
    guard: &Guard,
    trust_domain: TrustDomain,
    now: u64,
) -> Result<Identity, Failure> {
    refuse_second(dir)?;
    Made::new(Kind::Agent, trust_domain, now)?.save(dir, guard)
}

/// Whether people may call something so. Names of servers are stricter.
pub(crate) fn valid_title(name: &str) -> bool {
    (1..=64).contains(&name.chars().count())
        && !name.trim().is_empty()
        && !name.chars().any(char::is_control)
}

fn refuse_second(dir: &Dir) -> Result<(), Failure> {
    if Identity::open(dir)?.is_none() {
        return Ok(());
    }
    let message = format!("`{}` holds an identity already", crate::fault::shown(dir.path()));
    Err(Failure::new(FailureKind::AlreadyInitialized, message))
}

fn salt() -> Result<[u8; Nonce::LENGTH], Failure> {
    let mut salt = [0; Nonce::LENGTH];
    salt.copy_from_slice(&Secret::random()?.as_bytes()[..Nonce::LENGTH]);
    Ok(salt)
}

impl Made {
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
        let says = Delegation {
            device: self.bundle.id,
            surface: surface.clone(),
            key: Surf(ed25519(&secret)),
            issued: now,
            expires: None,
        };
        let bytes = says.sign(&self.id.signing());
        self.surfaces.push((surface, secret, DelegationFile { bytes, says }));
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
            write(&KeyFile::Surface { of: surface, key: delegation.says.key }, secret)?;
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
