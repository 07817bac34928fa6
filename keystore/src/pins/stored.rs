//! The encoding of a pin in its file.

use farwire_protocol::bundle::{Bundle, SignedBundle};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::id::{Kind, Nonce};
use farwire_protocol::outer::valid_name;
use minicbor::{Decode, Encode};

use super::{Pin, file_name};
use crate::claim;
use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::file::{self, FileBody, Format};
use crate::relay;

/// The encoding of a pin.
#[derive(Decode, Encode)]
#[cbor(map)]
struct PinFile {
    #[n(0)]
    bundle: Blob,
    #[n(1)]
    relay: Blob,
    #[n(2)]
    floor: u16,
    #[n(3)]
    record: Option<Nonce>,
    #[n(4)]
    added: u64,
    #[n(5)]
    first_seen: Option<u64>,
    #[n(6)]
    last_seen: Option<u64>,
}

impl FileBody for Pin {
    const FORMAT: Format = Format { kind: "pin", version: 1, limit: 8192 };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&cbor::encode(&PinFile {
            bundle: Blob(self.bundle.encode()),
            relay: relay::encode(&self.relay),
            floor: self.floor,
            record: self.record,
            added: self.added,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
        }));
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        let file: PinFile = cbor::decode(body, Self::FORMAT.limit)?;
        Ok(Self {
            bundle: SignedBundle::decode_kind(&file.bundle, Kind::Agent)?,
            relay: relay::decode(&file.relay)?,
            floor: file.floor,
            record: file.record,
            added: file.added,
            first_seen: file.first_seen,
            last_seen: file.last_seen,
        })
    }
}

/// Reads the keys of a pin, for comparison only: see [`claim::decode_unverified`].
pub(super) fn decode_unverified(body: &[u8]) -> Result<Bundle, Damage> {
    let file: PinFile = cbor::decode(body, Pin::FORMAT.limit)?;
    Ok(claim::decode_unverified(&file.bundle)?)
}

/// Loads the pin of the server with this name.
pub(super) fn load(servers: &Dir, name: &str) -> Result<Option<Pin>, FileError> {
    let file = file_name(name);
    if !valid_name(name) {
        let damage = Damage::Content("its file name is not a valid server name");
        return Err(FileError::damaged(servers.file_path(&file), damage));
    }
    file::load(servers, &file)
}
