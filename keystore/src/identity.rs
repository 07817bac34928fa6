//! Who this installation is: its keys, each in a file of its own, and what it says of itself.
//!
//! A process opens what it needs and nothing else. Reading the bundle opens no private key; a
//! connection needs [`Identity::open_transport`]; only whoever signs for the installation opens `ID`.
//! That is what keeps a hijacked `mcp serve` from being the device: it never had the key.
//!
//! Making an identity leaves a mark first and writes the bundle last. What stops in between has the
//! mark and no bundle: it is no identity and is made again. Keys without mark and bundle are an
//! identity that lost its bundle, and nobody writes over them.

use ed25519_dalek::SigningKey;
use farwire_protocol::bundle::{self, Bundle, SignedBundle};
use farwire_protocol::cbor;
use farwire_protocol::failure::{Failure, Kind as FailureKind};
use farwire_protocol::handshake;
use farwire_protocol::id::{Id, Kind, Surf, TrustDomain};
use farwire_protocol::signed::Signed;
use farwire_protocol::surface::{self, Delegation, Surface};

use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::file::{self, Format, Record};
use crate::lock::Guard;
use crate::secret::Secret;

mod create;

pub(crate) use create::{create_agent, create_device, valid_title};

/// The file of the bundle.
const BUNDLE: &str = "bundle";

/// The directory of the private keys.
const KEYS: &str = "keys";

/// The mark of an identity that is being made, among its keys.
const UNFINISHED: &str = "unfinished";

/// An identity that exists. It holds no key.
#[derive(Clone, Debug)]
pub struct Identity {
    dir: Dir,
}

/// What a connection and a handshake need.
#[derive(Debug)]
pub struct Transport {
    /// What we say of ourselves.
    pub bundle: SignedBundle,
    /// The Noise static key.
    pub kn: Secret,
    /// The TLS key.
    pub kt: SigningKey,
}

/// The key of a surface, and the device's word that it is.
#[derive(Debug)]
pub struct SurfaceKey {
    /// Which.
    pub surface: Surface,
    /// Its key.
    pub key: SigningKey,
    /// The delegation, signed.
    pub delegation: Vec<u8>,
}

impl Identity {
    /// Finds the identity in a directory, if there is one. All of its key files must be private, also those
    /// that this process will not open.
    pub(crate) fn open(dir: &Dir) -> Result<Option<Self>, FileError> {
        let keys = dir.sub(KEYS)?;
        if let Some(keys) = &keys {
            keys.check_files()?;
        }
        if dir.holds(BUNDLE)? {
            return Ok(Some(Self { dir: dir.clone() }));
        }
        match keys {
            Some(keys)
                if keys.holds(KeyFile::Id.name().as_str())? && !keys.holds(UNFINISHED)? =>
            {
                Err(FileError::damaged(dir.file_path(BUNDLE), Damage::Missing))
            }
            _ => Ok(None),
        }
    }

    /// What this installation says of itself. Opens no private key.
    pub fn open_public(&self) -> Result<SignedBundle, Failure> {
        let bundle = bundle(&self.dir)?;
        Ok(bundle.ok_or_else(|| FileError::damaged(self.dir.file_path(BUNDLE), Damage::Missing))?)
    }

    /// The keys of connections and handshakes. Does not open `ID`.
    pub fn open_transport(&self) -> Result<Transport, Failure> {
        let bundle = self.open_public()?;
        let kn = self.key(&KeyFile::Kn, &bundle)?;
        let kt = self.key(&KeyFile::Kt, &bundle)?.signing();
        Ok(Transport { bundle, kn, kt })
    }

    /// The key of one surface, with the delegation that says whose it is.
    ///
    /// # Errors
    ///
    /// Those of the files; a surface that has no key here.
    pub fn open_surface(&self, surface: &Surface) -> Result<SurfaceKey, Failure> {
        let bundle = self.open_public()?;
        Ok(self.surface(surface, &bundle)?)
    }

    /// `ID` itself: signs bundles, delegations, events and grants.
    pub fn open_signing(&self) -> Result<SigningKey, Failure> {
        let bundle = self.open_public()?;
        Ok(self.key(&KeyFile::Id, &bundle)?.signing())
    }

    /// Says from now on that this installation belongs to another trust domain, under a higher
    /// sequence number. Nothing changes if it says so already.
    pub fn set_trust_domain(
        &self,
        guard: &Guard,
        trust_domain: TrustDomain,
    ) -> Result<SignedBundle, Failure> {
        let old = self.open_public()?;
        if old.trust_domain == trust_domain && old.handshake == newest_handshake() {
            return Ok(old);
        }
        let seq = old.seq.checked_add(1).ok_or_else(|| {
            Failure::new(FailureKind::Internal, "the bundle's sequence number is at its end")
        })?;
        let handshake = newest_handshake();
        let new = Bundle { seq, trust_domain, handshake, ..(*old).clone() };
        let new = new.sign(&self.open_signing()?);
        file::save(&self.dir, guard, BUNDLE, &BundleFile(new.clone()))?;
        Ok(new)
    }

    fn surface(&self, surface: &Surface, bundle: &Bundle) -> Result<SurfaceKey, FileError> {
        let name = delegation_name(surface);
        let damaged = |damage| FileError::damaged(self.dir.file_path(&name), damage);
        let file: DelegationFile =
            file::load(&self.dir, &name)?.ok_or_else(|| damaged(Damage::Missing))?;
        if file.says.device != bundle.id || file.says.surface != *surface {
            return Err(damaged(Damage::Content("it is of another device or surface")));
        }
        let key = self.key(&KeyFile::Surface { of: surface, key: file.says.key }, bundle)?;
        Ok(SurfaceKey { surface: surface.clone(), key: key.signing(), delegation: file.bytes })
    }

    /// The key in a file, if it is the one that the bundle or the delegation names.
    fn key(&self, file: &KeyFile<'_>, bundle: &Bundle) -> Result<Secret, FileError> {
        let missing = || FileError::damaged(self.dir.file_path(KEYS), Damage::Missing);
        let keys = self.dir.sub(KEYS)?.ok_or_else(missing)?;
        let name = file.name();
        let damaged = |damage| FileError::damaged(keys.file_path(&name), damage);
        let read =
            |body: &[u8]| Secret::read(body).ok_or(Damage::Content("it does not hold 32 bytes"));
        let secret = file::load_with(&keys, &name, &file.format(), read)?
            .ok_or_else(|| damaged(Damage::Missing))?;
        if !file.fits(&secret, bundle) {
            return Err(damaged(Damage::Content("it holds the key of another identity")));
        }
        Ok(secret)
    }
}

/// The bundle in a directory, if there is one.
pub(crate) fn bundle(dir: &Dir) -> Result<Option<SignedBundle>, FileError> {
    Ok(file::load::<BundleFile>(dir, BUNDLE)?.map(|file| file.0))
}

fn newest_handshake() -> u16 {
    handshake::VERSIONS.iter().copied().max().unwrap_or_default()
}

fn surface_name(surface: &Surface) -> String {
    format!("surface-{surface}").replace(':', "-")
}

fn delegation_name(surface: &Surface) -> String {
    format!("{}.delegation", surface_name(surface))
}

/// A file with one private key.
enum KeyFile<'a> {
    Id,
    Kn,
    Kt,
    Surface { of: &'a Surface, key: Surf },
}

impl KeyFile<'_> {
    fn name(&self) -> String {
        match self {
            Self::Id => "id".to_owned(),
            Self::Kn => "kn".to_owned(),
            Self::Kt => "kt".to_owned(),
            Self::Surface { of, .. } => surface_name(of),
        }
    }

    const fn format(&self) -> Format {
        let kind = match self {
            Self::Id => "key-id",
            Self::Kn => "key-kn",
            Self::Kt => "key-kt",
            Self::Surface { .. } => "key-surface",
        };
        Format { kind, version: 1, limit: 32 }
    }

    /// Whether the secret is that of the public key that it should be.
    fn fits(&self, secret: &Secret, bundle: &Bundle) -> bool {
        match self {
            Self::Id => ed25519(secret) == bundle.id.0,
            Self::Kn => x25519(secret) == bundle.kn.0,
            Self::Kt => ed25519(secret) == bundle.kt.0,
            Self::Surface { key, .. } => ed25519(secret) == key.0,
        }
    }
}

fn ed25519(secret: &Secret) -> [u8; 32] {
    secret.signing().verifying_key().to_bytes()
}

fn x25519(secret: &Secret) -> [u8; 32] {
    let secret = x25519_dalek::StaticSecret::from(*secret.as_bytes());
    x25519_dalek::PublicKey::from(&secret).to_bytes()
}

struct BundleFile(SignedBundle);

impl Record for BundleFile {
    const FORMAT: Format = Format { kind: "bundle", version: 1, limit: bundle::LIMIT };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.encode());
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        Ok(Self(SignedBundle::decode(body)?))
    }
}

/// A delegation as it was signed, and what it says. Who is shown it checks the signature.
struct DelegationFile {
    bytes: Vec<u8>,
    says: Delegation,
}

impl Record for DelegationFile {
    const FORMAT: Format = Format { kind: "delegation", version: 1, limit: surface::LIMIT };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        let signed: Signed = cbor::decode(body, surface::LIMIT)?;
        let says = cbor::decode(&signed.bytes, surface::LIMIT)?;
        Ok(Self { bytes: body.to_vec(), says })
    }
}

#[cfg(test)]
mod tests;
