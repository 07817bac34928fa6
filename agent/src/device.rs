//! `farwire-agent device`: manages by hand which devices may connect.

use std::io::Read as _;
use std::path::Path;

use farwire_keystore::{AddedBy, Device, StateDir};
use farwire_protocol::bundle::{LIMIT, SignedBundle};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Kind as IdKind;

use crate::os::clock::unix_time;

/// Reads a bundle from a file, or from standard input for `-`.
pub(crate) fn read_bundle(path: &Path, kind: IdKind) -> Result<SignedBundle, Failure> {
    let mut text = String::new();
    let limit = u64::try_from(LIMIT * 4).unwrap_or(u64::MAX);
    let read = if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::new(Kind::Io, format!("{}: {error}", path.display())))?;
    SignedBundle::from_text(&text, kind)
}

/// Lets a device in.
pub(crate) fn add(state: &StateDir, name: &str, bundle: SignedBundle) -> Result<Device, Failure> {
    let device = Device { name: name.to_owned(), bundle, added: unix_time(), how: AddedBy::ByHand };
    state.devices().add(&state.lock()?, &device)?;
    Ok(device)
}
