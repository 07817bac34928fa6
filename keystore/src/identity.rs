//! The identity of this installation: its keys, each in a file of its own, and its bundle.
//!
//! A process opens only the keys that it needs. Reading the bundle opens no private key; a
//! connection needs [`Identity::open_transport`]; only a process that signs for the installation
//! opens `ID`. This is what keeps a hijacked `mcp serve` from being the device: it never had the
//! key.
//!
//! Creating an identity writes a marker first and the bundle last. An interrupted creation leaves
//! the marker and no bundle: that is no identity, and the next attempt starts over. Keys without
//! marker and bundle are an identity that lost its bundle, and are never overwritten.

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
use crate::file::{self, FileBody, Format};
use crate::lock::Guard;
use crate::secret::Secret;

mod create;

pub(crate) use create::{create_agent, create_device, valid_title};

/// The file of the bundle.
const BUNDLE: &str = "bundle";

/// The directory of the private keys.
const KEYS: &str = "keys";

/// The marker, among the keys, of an identity whose creation has not finished.
const UNFINISHED: &str = "unfinished";

/// An existing identity. The value holds no key.
#[derive(Clone, Debug)]
pub struct Identity {
    dir: Dir,
}

/// The keys for a connection and a handshake.
#[derive(Debug)]
pub struct Transport {
    /// Our signed bundle.
    pub bundle: SignedBundle,
    /// The Noise static key.
    pub kn: Secret,
    /// The TLS key.
    pub kt: SigningKey,
}

/// The key of a surface, and the device's delegation to it.
#[derive(Debug)]
pub struct SurfaceKey {
    /// The surface.
    pub surface: Surface,
    /// Its private key.
    pub key: SigningKey,
    /// The signed delegation.
    pub delegation: Vec<u8>,
}

impl Identity {
    /// Finds the identity in a directory, if there is one. All of its key files must be private,
    /// including those that this process will not open.
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

    /// Reads the bundle of this installation. Opens no private key.
    pub fn open_public(&self) -> Result<SignedBundle, Failure> {
        let bundle = bundle(&self.dir)?;
        Ok(bundle.ok_or_else(|| FileError::damaged(self.dir.file_path(BUNDLE), Damage::Missing))?)
    }

    /// Reads the keys for connections and handshakes. Does not open `ID`.
    pub fn open_transport(&self) -> Result<Transport, Failure> {
        let bundle = self.open_public()?;
        let kn = self.key(&KeyFile::Kn, &bundle)?;
        let kt = self.key(&KeyFile::Kt, &bundle)?.signing();
        Ok(Transport { bundle, kn, kt })
    }

    /// Reads the key of one surface, with its delegation.
    ///
    /// # Errors
    ///
    /// If a file cannot be used, or this installation has no key for the surface.
    pub fn open_surface(&self, surface: &Surface) -> Result<SurfaceKey, Failure> {
        let bundle = self.open_public()?;
        Ok(self.surface(surface, &bundle)?)
    }

    /// Reads `ID` itself, which signs bundles, delegations, events and grants.
    pub fn open_signing(&self) -> Result<SigningKey, Failure> {
        let bundle = self.open_public()?;
        Ok(self.key(&KeyFile::Id, &bundle)?.signing())
    }

    /// Moves this installation to a trust domain, in a bundle with a higher sequence number.
    /// Changes nothing if the bundle names that trust domain already.
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
            Failure::new(FailureKind::Internal, "the bundle's sequence number is exhausted")
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
        if file.delegation.device != bundle.id || file.delegation.surface != *surface {
            return Err(damaged(Damage::Content("it delegates for another device or surface")));
        }
        let key = self.key(&KeyFile::Surface { of: surface, key: file.delegation.key }, bundle)?;
        Ok(SurfaceKey { surface: surface.clone(), key: key.signing(), delegation: file.bytes })
    }

    /// Reads the key in a file, and checks that it is the one that the bundle or the delegation
    /// names.
    fn key(&self, file: &KeyFile<'_>, bundle: &Bundle) -> Result<Secret, FileError> {
        let missing = || FileError::damaged(self.dir.file_path(KEYS), Damage::Missing);
        let keys = self.dir.sub(KEYS)?.ok_or_else(missing)?;
        let name = file.name();
        let damaged = |damage| FileError::damaged(keys.file_path(&name), damage);
        let read =
            |body: &[u8]| Secret::read(body).ok_or(Damage::Content("it does not contain 32 bytes"));
        let secret = file::load_with(&keys, &name, &file.format(), read)?
            .ok_or_else(|| damaged(Damage::Missing))?;
        if !file.fits(&secret, bundle) {
            return Err(damaged(Damage::Content("it contains the key of another identity")));
        }
        Ok(secret)
    }
}

/// Reads the bundle in a directory, if there is one.
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

    /// Whether the secret belongs to the public key that it should.
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

impl FileBody for BundleFile {
    const FORMAT: Format = Format { kind: "bundle", version: 1, limit: bundle::LIMIT };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.encode());
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        Ok(Self(SignedBundle::decode(body)?))
    }
}

/// A delegation as it was signed, and its decoded content. Whoever receives it checks the
/// signature.
struct DelegationFile {
    bytes: Vec<u8>,
    delegation: Delegation,
}

impl FileBody for DelegationFile {
    const FORMAT: Format = Format { kind: "delegation", version: 1, limit: surface::LIMIT };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        let signed: Signed = cbor::decode(body, surface::LIMIT)?;
        let delegation = cbor::decode(&signed.bytes, surface::LIMIT)?;
        Ok(Self { bytes: body.to_vec(), delegation })
    }
}

#[cfg(test)]
mod tests;
