//! The encoding of a relay in our files: the text of its URL, without an invite.

use farwire_protocol::address::{Relay, RelayUrl};
use farwire_protocol::cbor::Blob;

use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::file::{self, FileBody, Format};
use crate::lock::Guard;

/// The file of a bridge's relay.
const NAME: &str = "relay";

pub(crate) fn encode(relay: &Relay) -> Blob {
    Blob(RelayUrl { relay: relay.clone(), invite: None }.to_string().into_bytes())
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Relay, Damage> {
    let url = core::str::from_utf8(bytes).ok().and_then(|text| text.parse::<RelayUrl>().ok());
    match url {
        Some(RelayUrl { relay, invite: None }) => Ok(relay),
        _ => Err(Damage::Content("the relay URL in it is invalid")),
    }
}

struct RelayFile(Relay);

impl FileBody for RelayFile {
    const FORMAT: Format = Format { kind: "relay", version: 1, limit: 4096 };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&encode(&self.0));
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        decode(body).map(Self)
    }
}

pub(crate) fn load(dir: &Dir) -> Result<Option<Relay>, FileError> {
    Ok(file::load::<RelayFile>(dir, NAME)?.map(|file| file.0))
}

pub(crate) fn save(dir: &Dir, guard: &Guard, relay: &Relay) -> Result<(), FileError> {
    file::save(dir, guard, NAME, &RelayFile(relay.clone()))
}

#[cfg(test)]
pub(crate) mod tests {
    use farwire_protocol::failure::Kind;
    use farwire_protocol::id::Kt;

    use super::*;
    use crate::Home;

    pub(crate) fn relay() -> Relay {
        Relay { addresses: vec!["relay.example:4433".into(), "[::1]:9".into()], key: Kt([5; 32]) }
    }

    #[test]
    fn a_relay_comes_back_and_one_without_a_place_is_not_kept() {
        assert_eq!(decode(&encode(&relay())).unwrap(), relay());
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(&temp.path().join("home")).unwrap();
        let guard = home.lock().unwrap();
        for addresses in [vec![], vec!["no-port".to_owned()], vec!["a:1#x".to_owned()]] {
            let failure = home.set_relay(&guard, &Relay { addresses, ..relay() }).unwrap_err();
            assert_eq!(failure.kind, Kind::InvalidArgument);
        }
        assert!(home.workspace().unwrap().is_none());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(relay) = decode(bytes) {
                assert_eq!(decode(&encode(&relay)).unwrap(), relay);
            }
        });
    }
}
