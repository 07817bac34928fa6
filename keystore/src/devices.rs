//! The devices that an agent admits.
//!
//! Each device has one file, named for its fingerprint. [`Devices::lookup`] reads the disk at every
//! call and caches nothing, so that a removed device fails its next handshake. A damaged file
//! admits no device and affects no other.

use farwire_protocol::bundle::{Bundle, SignedBundle};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind as FailureKind};
use farwire_protocol::id::{Id, Kind};
use minicbor::{Decode, Encode};

use crate::claim::{self, BundleRefused, Mark, Retired};
use crate::dir::Dir;
use crate::fault::{Damage, FileError, Listing, Warning, clip};
use crate::file::{self, FileBody, Format};
use crate::identity::valid_title;
use crate::lock::Guard;

/// The directory of the devices.
const DEVICES: &str = "devices";

/// The suffix of a device's file.
const SUFFIX: &str = ".device";

/// The fewest digits of a fingerprint that select a device.
const FEWEST: usize = 4;

/// How a device was authorised.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum AddedBy {
    /// By enrollment: the device invited this agent.
    #[n(1)]
    Enrollment,
    /// By an administrator of the server.
    #[n(2)]
    ByHand,
}

/// An authorised device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// The name that people gave it.
    pub name: String,
    /// Its signed bundle.
    pub bundle: SignedBundle,
    /// When it was added, seconds since 1970.
    pub added: u64,
    /// How it was added.
    pub how: AddedBy,
}

impl Device {
    /// The fingerprint that people compare.
    pub fn fingerprint(&self) -> String {
        self.bundle.id.fingerprint(Kind::Device)
    }
}

/// Why an operation on a device failed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No device has this name or fingerprint.
    #[error("no device is called `{0}`")]
    Unknown(String),
    /// Several devices match.
    #[error("`{name}` matches several devices: {}", .fits.join(", "))]
    Ambiguous {
        /// The query.
        name: String,
        /// The fingerprints of the devices that match.
        fits: Vec<String>,
    },
    /// The name is not valid for a device.
    #[error("`{0}` cannot be a device's name")]
    BadName(String),
    /// The bundle is refused.
    #[error(transparent)]
    Refused(#[from] BundleRefused),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] Failure),
}

impl From<FileError> for DeviceError {
    fn from(error: FileError) -> Self {
        Self::File(error.into())
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let hint = match error {
            DeviceError::Refused(refused) => return refused.into(),
            DeviceError::File(failure) => return failure,
            DeviceError::Unknown(_) => "`farwire-agent device ls` lists them",
            DeviceError::Ambiguous { .. } => "use the fingerprint",
            DeviceError::BadName(_) => "1 to 64 characters, and no control characters",
        };
        Self::new(FailureKind::InvalidArgument, error.to_string()).with_hint(hint)
    }
}

/// The devices in an agent's state.
#[derive(Clone, Debug)]
pub struct Devices {
    state: Dir,
}

impl Devices {
    pub(crate) const fn new(state: Dir) -> Self {
        Self { state }
    }

    /// Returns the device with this `ID` if it is authorised now. Every handshake calls this.
    pub fn lookup(&self, id: &Id) -> Result<Option<Device>, Failure> {
        let Some(devices) = self.state.sub(DEVICES)? else { return Ok(None) };
        Ok(load(&devices, &id.fingerprint(Kind::Device))?)
    }

    /// Returns all devices by fingerprint, and a warning for each file that cannot be used.
    pub fn list(&self) -> Result<Listing<Device>, Failure> {
        let mut listing = Listing::<Device>::default();
        let Some(devices) = self.state.sub(DEVICES)? else { return Ok(listing) };
        for fingerprint in devices.names(SUFFIX)? {
            match load(&devices, &fingerprint) {
                Ok(Some(device)) => listing.entries.push((fingerprint, device)),
                Ok(None) => {} // removed since the directory was listed
                Err(error) => {
                    let path = devices.file_path(&file_name(&fingerprint));
                    listing.warnings.push(Warning { path, failure: error.into() });
                }
            }
        }
        Ok(listing)
    }

    /// Authorises a device, or updates the bundle or the name of an authorised one.
    pub fn add(&self, guard: &Guard, device: &Device) -> Result<(), DeviceError> {
        if !valid_title(&device.name) {
            return Err(DeviceError::BadName(clip(&device.name)));
        }
        let bundle = &device.bundle;
        SignedBundle::decode_kind(&bundle.encode(), Kind::Device).map_err(BundleRefused::from)?;
        claim::check_foreign(&self.state, bundle)??;
        Retired::load(&self.state)?.admits(bundle)?;
        let devices = self.state.create_sub(DEVICES)?;
        devices.sweep(guard)?;
        if let Some(old) = self.lookup(&bundle.id)? {
            Mark::of(&old.bundle).admits(bundle)?;
        }
        for name in devices.names(SUFFIX)? {
            // A file that cannot be read holds no keys to compare.
            let other =
                file::load_with(&devices, &file_name(&name), &Device::FORMAT, decode_unverified);
            let Ok(Some(other)) = other else { continue };
            claim::check_unshared(bundle, [(name.as_str(), &other)])?;
        }
        Ok(file::save(&devices, guard, &file_name(&device.fingerprint()), device)?)
    }

    /// Stores a newer bundle of an authorised device, as a handshake delivers it. Returns whether
    /// anything changed. An unknown device is not added.
    pub fn renew(&self, guard: &Guard, bundle: &SignedBundle) -> Result<bool, DeviceError> {
        match self.lookup(&bundle.id)? {
            None => Err(DeviceError::Unknown(bundle.id.fingerprint(Kind::Device))),
            Some(device) if device.bundle == *bundle => Ok(false),
            Some(device) => {
                self.add(guard, &Device { bundle: bundle.clone(), ..device })?;
                Ok(true)
            }
        }
    }

    /// Removes a device, which takes effect at the next handshake. `query` is its name or an
    /// unambiguous prefix of its fingerprint; a damaged file needs the whole fingerprint. Returns
    /// the fingerprint.
    pub fn remove(&self, guard: &Guard, query: &str) -> Result<String, DeviceError> {
        let devices = self.state.create_sub(DEVICES)?;
        devices.sweep(guard)?;
        let all = self.list()?.entries;
        let fits = |of: &dyn Fn(&str, &Device) -> bool| -> Vec<String> {
            let fitting = all.iter().filter(|(fingerprint, device)| of(fingerprint, device));
            fitting.map(|(fingerprint, _)| fingerprint.clone()).collect()
        };
        let mut matches = fits(&|_, device| device.name == query);
        if matches.is_empty() {
            let start = digits(query);
            matches = fits(&|fingerprint, _| {
                start.len() >= FEWEST && digits(fingerprint).starts_with(&start)
            });
        }
        let fingerprint = match (matches.len(), matches.pop()) {
            (1, Some(fingerprint)) => fingerprint,
            (_, Some(last)) => {
                matches.push(last);
                return Err(DeviceError::Ambiguous { name: clip(query), fits: matches });
            }
            (_, None) if self.is_damaged(query)? => query.to_owned(),
            (_, None) => return Err(DeviceError::Unknown(clip(query))),
        };
        // Remove the device first: no later failure may leave it authorised.
        devices.remove(guard, &file_name(&fingerprint))?;
        if let Some((_, device)) = all.into_iter().find(|(name, _)| *name == fingerprint) {
            Retired::load(&self.state)?.remember(&self.state, guard, &device.bundle)?;
        }
        Ok(fingerprint)
    }

    /// Removes every device that was added by enrollment.
    pub(crate) fn remove_enrolled(&self, guard: &Guard) -> Result<(), Failure> {
        let Some(devices) = self.state.sub(DEVICES)? else { return Ok(()) };
        let mut all = self.list()?.entries;
        all.retain(|(_, device)| device.how == AddedBy::Enrollment);
        for (fingerprint, _) in &all {
            devices.remove(guard, &file_name(fingerprint))?;
        }
        for (_, device) in &all {
            Retired::load(&self.state)?.remember(&self.state, guard, &device.bundle)?;
        }
        Ok(())
    }

    fn is_damaged(&self, fingerprint: &str) -> Result<bool, Failure> {
        let name = file_name(fingerprint);
        Ok(self.list()?.warnings.iter().any(|one| one.path.file_name() == Some(name.as_ref())))
    }
}

/// Strips the prefix and the hyphens of a fingerprint.
fn digits(fingerprint: &str) -> String {
    let text = fingerprint.to_ascii_lowercase().replace('-', "");
    text.strip_prefix("fwd1").map(str::to_owned).unwrap_or(text)
}

fn file_name(fingerprint: &str) -> String {
    format!("{fingerprint}{SUFFIX}")
}

fn load(devices: &Dir, fingerprint: &str) -> Result<Option<Device>, FileError> {
    let name = file_name(fingerprint);
    let Some(device) = file::load::<Device>(devices, &name)? else { return Ok(None) };
    if device.fingerprint() != fingerprint {
        let damage = Damage::Content("it contains another device than its file name says");
        return Err(FileError::damaged(devices.file_path(&name), damage));
    }
    Ok(Some(device))
}

/// The encoding of a device in its file.
#[derive(Decode, Encode)]
#[cbor(map)]
struct DeviceFile {
    #[n(0)]
    name: String,
    #[n(1)]
    bundle: Blob,
    /// Ignored: every link must prove its surface. Agents before 0.2 require the field.
    #[n(2)]
    surfaces_required: Option<bool>,
    #[n(3)]
    added: u64,
    #[n(4)]
    how: AddedBy,
}

impl FileBody for Device {
    const FORMAT: Format = Format { kind: "device", version: 1, limit: 4096 };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&cbor::encode(&DeviceFile {
            name: self.name.clone(),
            bundle: Blob(self.bundle.encode()),
            surfaces_required: Some(true),
            added: self.added,
            how: self.how,
        }));
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        let file: DeviceFile = cbor::decode(body, Self::FORMAT.limit)?;
        if !valid_title(&file.name) {
            return Err(Damage::Content("the device name in it is invalid"));
        }
        Ok(Self {
            name: file.name,
            bundle: SignedBundle::decode_kind(&file.bundle, Kind::Device)?,
            added: file.added,
            how: file.how,
        })
    }
}

/// Reads the keys of a device, for comparison only: see [`claim::decode_unverified`].
fn decode_unverified(body: &[u8]) -> Result<Bundle, Damage> {
    let file: DeviceFile = cbor::decode(body, Device::FORMAT.limit)?;
    Ok(claim::decode_unverified(&file.bundle)?)
}

#[cfg(test)]
mod tests;
