//! The devices that an agent lets in.
//!
//! One file for each, named for the device's fingerprint. [`Devices::lookup`] reads the disk at every
//! call and keeps nothing: a device that was removed is out with the next handshake. A damaged file
//! lets nobody in and keeps nobody else out.

use farwire_protocol::bundle::{Bundle, SignedBundle};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind as FailureKind};
use farwire_protocol::id::{Id, Kind};
use minicbor::{Decode, Encode};

use crate::claim::{self, Mark, Refused, Retired};
use crate::dir::Dir;
use crate::fault::{Damage, FileError, Listing, Warning, clipped};
use crate::file::{self, Format, Record};
use crate::identity::valid_title;
use crate::lock::Guard;

/// The directory of the devices.
const DEVICES: &str = "devices";

/// How the name of a device's file ends.
const SUFFIX: &str = ".device";

/// So many digits of a fingerprint say something.
const FEWEST: usize = 4;

/// How a device came to be trusted.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum How {
    /// It invited this agent.
    #[n(1)]
    Enrollment,
    /// Somebody on the server said so.
    #[n(2)]
    ByHand,
}

/// A device that may come in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// What people call it.
    pub name: String,
    /// What it said of itself, signed.
    pub bundle: SignedBundle,
    /// When it was added, seconds since 1970.
    pub added: u64,
    /// How.
    pub how: How,
}

impl Device {
    /// What people compare.
    pub fn fingerprint(&self) -> String {
        self.bundle.id.fingerprint(Kind::Device)
    }
}

/// Why something could not be done with a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No device is called so.
    #[error("no device is called `{0}`")]
    Unknown(String),
    /// Several devices are called so.
    #[error("`{name}` fits several devices: {}", .fits.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Their fingerprints.
        fits: Vec<String>,
    },
    /// A device cannot be called so.
    #[error("`{0}` cannot be a device's name")]
    BadName(String),
    /// Its bundle is not one to keep.
    #[error(transparent)]
    Refused(#[from] Refused),
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

    /// The device with this `ID`, if it may come in now. For every handshake.
    pub fn lookup(&self, id: &Id) -> Result<Option<Device>, Failure> {
        let Some(devices) = self.state.sub(DEVICES)? else { return Ok(None) };
        Ok(load(&devices, &id.fingerprint(Kind::Device))?)
    }

    /// All devices by fingerprint, and a warning for each file that had to be left out.
    pub fn list(&self) -> Result<Listing<Device>, Failure> {
        let mut listing = Listing::<Device>::default();
        let Some(devices) = self.state.sub(DEVICES)? else { return Ok(listing) };
        for fingerprint in devices.names(SUFFIX)? {
            match load(&devices, &fingerprint) {
                Ok(Some(device)) => listing.entries.push((fingerprint, device)),
                Ok(None) => {} // removed since we listed
                Err(error) => {
                    let path = devices.file_path(&file_name(&fingerprint));
                    listing.warnings.push(Warning { path, failure: error.into() });
                }
            }
        }
        Ok(listing)
    }

    /// Lets a device in, or takes a newer bundle or another name of one that is in.
    pub fn add(&self, guard: &Guard, device: &Device) -> Result<(), DeviceError> {
        if !valid_title(&device.name) {
            return Err(DeviceError::BadName(clipped(&device.name)));
        }
        let bundle = &device.bundle;
        SignedBundle::decode_kind(&bundle.encode(), Kind::Device).map_err(Refused::from)?;
        claim::foreign(&self.state, bundle)??;
        Retired::load(&self.state)?.admits(bundle)?;
        let devices = self.state.create_sub(DEVICES)?;
        devices.sweep(guard)?;
        if let Some(old) = self.lookup(&bundle.id)? {
            Mark::of(&old.bundle).admits(bundle)?;
        }
        for name in devices.names(SUFFIX)? {
            // What cannot be read names no key that could be compared.
            let other = file::load_with(&devices, &file_name(&name), &Device::FORMAT, glance);
            let Ok(Some(other)) = other else { continue };
            claim::unshared(bundle, [(name.as_str(), &other)])?;
        }
        Ok(file::save(&devices, guard, &file_name(&device.fingerprint()), device)?)
    }

    /// Takes a newer bundle of a device that is in, as a handshake brings it. Says whether anything
    /// changed; a device that is not in stays out.
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

    /// Locks a device out, from the next handshake on: by its name, or by the beginning of its
    /// fingerprint, if that fits no other. A damaged file is removed by its whole fingerprint. Gives
    /// the fingerprint.
    pub fn remove(&self, guard: &Guard, query: &str) -> Result<String, DeviceError> {
        let devices = self.state.create_sub(DEVICES)?;
        devices.sweep(guard)?;
        let all = self.list()?.entries;
        let fits = |of: &dyn Fn(&str, &Device) -> bool| -> Vec<String> {
            let fitting = all.iter().filter(|(fingerprint, device)| of(fingerprint, device));
            fitting.map(|(fingerprint, _)| fingerprint.clone()).collect()
        };
        let mut found = fits(&|_, device| device.name == query);
        if found.is_empty() {
            let start = digits(query);
            found = fits(&|fingerprint, _| {
                start.len() >= FEWEST && digits(fingerprint).starts_with(&start)
            });
        }
        let fingerprint = match (found.len(), found.pop()) {
            (1, Some(fingerprint)) => fingerprint,
            (_, Some(last)) => {
                found.push(last);
                return Err(DeviceError::Ambiguous { name: clipped(query), fits: found });
            }
            (_, None) if self.is_damaged(query)? => query.to_owned(),
            (_, None) => return Err(DeviceError::Unknown(clipped(query))),
        };
        // Out first: nothing that fails later may keep the device in.
        devices.remove(guard, &file_name(&fingerprint))?;
        if let Some((_, device)) = all.into_iter().find(|(name, _)| *name == fingerprint) {
            Retired::load(&self.state)?.remember(&self.state, guard, &device.bundle)?;
        }
        Ok(fingerprint)
    }

    /// Locks out every device that came by enrollment.
    pub(crate) fn remove_enrolled(&self, guard: &Guard) -> Result<(), Failure> {
        let Some(devices) = self.state.sub(DEVICES)? else { return Ok(()) };
        let mut all = self.list()?.entries;
        all.retain(|(_, device)| device.how == How::Enrollment);
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

/// The digits of a fingerprint without its prefix and hyphens.
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
        let damage = Damage::Content("it holds another device than its name says");
        return Err(FileError::damaged(devices.file_path(&name), damage));
    }
    Ok(Some(device))
}

/// A device as its file holds it.
#[derive(Decode, Encode)]
#[cbor(map)]
struct DeviceFile {
    #[n(0)]
    name: String,
    #[n(1)]
    bundle: Blob,
    /// Every link must prove its surface, whatever stands here. Agents before 0.2 want it to be there.
    #[n(2)]
    surfaces_required: Option<bool>,
    #[n(3)]
    added: u64,
    #[n(4)]
    how: How,
}

impl Record for Device {
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
            return Err(Damage::Content("its name cannot be shown"));
        }
        Ok(Self {
            name: file.name,
            bundle: SignedBundle::decode_kind(&file.bundle, Kind::Device)?,
            added: file.added,
            how: file.how,
        })
    }
}

/// The keys of a device, to be compared with others: see [`claim::glance`].
fn glance(body: &[u8]) -> Result<Bundle, Damage> {
    let file: DeviceFile = cbor::decode(body, Device::FORMAT.limit)?;
    Ok(claim::glance(&file.bundle)?)
}

#[cfg(test)]
mod tests;
