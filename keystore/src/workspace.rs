//! The bridge's workspace: the event that founded it, and the relay through which it works.

use farwire_protocol::address::Relay;
use farwire_protocol::failure::Failure;
use farwire_protocol::genesis::{self, Genesis};
use farwire_protocol::id::TrustDomain;

use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::file::{self, FileBody, Format};
use crate::lock::Guard;
use crate::{identity, relay};

/// The file of the first event.
pub(crate) const GENESIS: &str = "genesis";

/// A workspace as its bridge knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Workspace {
    /// The name that people gave it.
    pub name: String,
    /// The first event of its log, signed.
    pub genesis: Vec<u8>,
    /// The hash of that event: the trust domain of everything that is enrolled here.
    pub trust_domain: TrustDomain,
    /// Its relay.
    pub relay: Relay,
}

/// The signed first event.
pub(crate) struct GenesisFile {
    /// The signed bytes.
    pub(crate) bytes: Vec<u8>,
    /// The decoded event.
    event: Genesis,
}

impl FileBody for GenesisFile {
    const FORMAT: Format = Format { kind: "genesis", version: 1, limit: genesis::LIMIT };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        let event = Genesis::decode(body)
            .map_err(|_| Damage::Content("it does not contain the first event of a workspace"))?;
        Ok(Self { bytes: body.to_vec(), event })
    }
}

impl GenesisFile {
    pub(crate) const fn new(event: Genesis, bytes: Vec<u8>) -> Self {
        Self { bytes, event }
    }
}

pub(crate) fn genesis(dir: &Dir) -> Result<Option<Vec<u8>>, FileError> {
    Ok(file::load::<GenesisFile>(dir, GENESIS)?.map(|file| file.bytes))
}

pub(crate) fn load(dir: &Dir) -> Result<Option<Workspace>, Failure> {
    let (Some(relay), Some(bundle)) = (relay::load(dir)?, identity::bundle(dir)?) else {
        return Ok(None);
    };
    let damaged = |damage| FileError::damaged(dir.file_path(GENESIS), damage);
    let file: GenesisFile = file::load(dir, GENESIS)?.ok_or_else(|| damaged(Damage::Missing))?;
    let trust_domain = genesis::trust_domain(&file.bytes);
    if bundle.trust_domain != trust_domain {
        return Err(damaged(Damage::Content("it is the first event of another workspace")).into());
    }
    Ok(Some(Workspace { name: file.event.name, genesis: file.bytes, trust_domain, relay }))
}

pub(crate) fn set_relay(dir: &Dir, guard: &Guard, relay: &Relay) -> Result<(), Failure> {
    Ok(relay::save(dir, guard, relay)?)
}

#[cfg(test)]
mod tests {
    use crate::Home;
    use crate::file::tests::check_damage;
    use crate::relay::tests::relay;

    #[test]
    fn a_workspace_is_complete_once_its_relay_is_known() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(&temp.path().join("home")).unwrap();
        let guard = home.lock().unwrap();
        assert!(home.genesis().unwrap().is_none() && home.workspace().unwrap().is_none());
        let identity = home.create_identity(&guard, "lab", 7).unwrap();
        assert!(home.workspace().unwrap().is_none(), "init is not complete yet");
        home.set_relay(&guard, &relay()).unwrap();
        let workspace = home.workspace().unwrap().unwrap();
        assert_eq!((workspace.name.as_str(), &workspace.relay), ("lab", &relay()));
        assert_eq!(home.genesis().unwrap().unwrap(), workspace.genesis);
        assert_eq!(identity.open_public().unwrap().trust_domain, workspace.trust_domain);
    }

    #[test]
    fn damage_to_either_file_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(&temp.path().join("home")).unwrap();
        let guard = home.lock().unwrap();
        home.create_identity(&guard, "lab", 7).unwrap();
        home.set_relay(&guard, &relay()).unwrap();
        check_damage(&home.path().join("relay"), || home.workspace().map(drop));
        check_damage(&home.path().join("genesis"), || home.genesis().map(drop));
    }

    #[test]
    fn the_event_of_another_workspace_is_not_ours() {
        let temp = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| {
            let home = Home::create(&temp.path().join(name)).unwrap();
            let guard = home.lock().unwrap();
            home.create_identity(&guard, name, 7).unwrap();
            home.set_relay(&guard, &relay()).unwrap();
            home
        });
        std::fs::copy(other.path().join("genesis"), one.path().join("genesis")).unwrap();
        assert!(one.workspace().unwrap_err().message.contains("another workspace"));
    }
}
