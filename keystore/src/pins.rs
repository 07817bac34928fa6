//! The servers that this bridge trusts: a name and the bundle whose keys the agent must prove
//! (compare SSH's `known_hosts`).
//!
//! Each server has one file, named for it. Names are resolved here and nowhere else, so that nobody
//! can redirect a name to another key. Nothing is pinned on first use. A damaged file disables its
//! server and no other.
//!
//! Not here: what the relay says about servers (labels, state), on which no decision depends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use farwire_protocol::address::Relay;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::Failure;
use farwire_protocol::handshake::Peer;
use farwire_protocol::id::{Id, Kind, Nonce};
use farwire_protocol::outer::valid_name;

use crate::claim::{self, BundleRefused, Mark, Retired};
use crate::dir::Dir;
use crate::fault::{Damage, FileError, Listing, Warning, clip};
use crate::file::{self, FileBody as _};
use crate::lock::Guard;

mod error;
mod name;
mod stored;

pub use error::PinError;

/// The directory of the pins.
const SERVERS: &str = "servers";

/// The suffix of a pin's file.
const SUFFIX: &str = ".pin";

/// After this many seconds another link is recorded. Recording each would cost every command a
/// sync.
const NEWS: u64 = 3600;

/// A pinned server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pin {
    /// The agent's signed bundle.
    pub bundle: SignedBundle,
    /// The relay through which the server is reached.
    pub relay: Relay,
    /// The lowest handshake version that is still accepted: the highest one used so far, or at
    /// first the one that the bundle promises. This prevents downgrades.
    pub floor: u16,
    /// The id of its record at the relay.
    pub record: Option<Nonce>,
    /// When it was pinned, seconds since 1970.
    pub added: u64,
    /// When the first recorded link to it was established.
    pub first_seen: Option<u64>,
    /// When the latest link to it was established, to the hour.
    pub last_seen: Option<u64>,
}

impl Pin {
    /// Creates a pin without recorded links.
    pub fn new(bundle: SignedBundle, relay: Relay, record: Option<Nonce>, now: u64) -> Self {
        let floor = bundle.handshake;
        Self { bundle, relay, floor, record, added: now, first_seen: None, last_seen: None }
    }

    /// The peer that the handshake must prove.
    pub fn peer(&self) -> Peer {
        let bundle = &self.bundle;
        Peer { id: bundle.id, kn: bundle.kn, trust_domain: bundle.trust_domain }
    }

    /// The fingerprint that people compare.
    pub fn fingerprint(&self) -> String {
        self.bundle.id.fingerprint(Kind::Agent)
    }

    /// Whether a link needs to be recorded with [`Pins::note_link`].
    pub fn is_news(&self, link: &LinkMade) -> bool {
        let stale = |seen: u64| link.at >= seen.saturating_add(NEWS);
        link.version > self.floor || self.last_seen.is_none_or(stale)
    }
}

/// A link that was established.
#[derive(Clone, Copy, Debug)]
pub struct LinkMade {
    /// The agent.
    pub agent: Id,
    /// The handshake version that was negotiated.
    pub version: u16,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// The pins in a bridge's home.
#[derive(Clone, Debug)]
pub struct Pins {
    home: Dir,
}

impl Pins {
    pub(crate) const fn new(home: Dir) -> Self {
        Self { home }
    }

    /// Returns all servers, and a warning for each file that cannot be used.
    pub fn list(&self) -> Result<Listing<Pin>, Failure> {
        let mut listing = Listing::<Pin>::default();
        let Some(servers) = self.home.sub(SERVERS)? else { return Ok(listing) };
        let mut holders = HashMap::new();
        for name in servers.names(SUFFIX)? {
            let pin = match stored::load(&servers, &name) {
                Ok(Some(pin)) => pin,
                Ok(None) => continue, // removed since the directory was listed
                Err(error) => {
                    let path = servers.file_path(&file_name(&name));
                    listing.warnings.push(Warning { path, failure: error.into() });
                    continue;
                }
            };
            match holders.entry(pin.bundle.id) {
                Entry::Vacant(free) => {
                    free.insert(name.clone());
                    listing.entries.push((name, pin));
                }
                Entry::Occupied(first) => {
                    let path = servers.file_path(&file_name(&name));
                    let damage = Damage::Content("it pins the same agent as another file");
                    let hint = format!("remove it: `{}` is the same agent", first.get());
                    let failure = Failure::from(FileError::damaged(path.clone(), damage));
                    listing.warnings.push(Warning { path, failure: failure.with_hint(hint) });
                }
            }
        }
        Ok(listing)
    }

    /// Loads the server with exactly this name.
    pub fn load(&self, name: &str) -> Result<Pin, PinError> {
        match self.find(name)? {
            Some(pin) => Ok(pin),
            None => Err(self.unknown(name)?),
        }
    }

    /// Finds the server that `query` means: its name, or an unambiguous prefix (at least four
    /// digits) of its fingerprint or record id.
    pub fn resolve(&self, query: &str) -> Result<(String, Pin), PinError> {
        if let Some(pin) = self.find(query)? {
            return Ok((query.to_owned(), pin));
        }
        let Some(start) = name::IdPrefix::read(query) else { return Err(self.unknown(query)?) };
        let mut fits: Vec<_> = self.list()?.entries;
        fits.retain(|(_, pin)| start.fits(&pin.fingerprint(), pin.record));
        if fits.len() > 1 {
            let fits = fits.into_iter().map(|(name, _)| name).collect();
            return Err(PinError::Ambiguous { name: clip(query), fits });
        }
        match fits.pop() {
            Some(server) => Ok(server),
            None => Err(self.unknown(query)?),
        }
    }

    /// Finds the server with this agent. `hint` is the name that it had when last seen.
    pub fn of_agent(&self, id: &Id, hint: &str) -> Result<Option<(String, Pin)>, Failure> {
        // `list` reports a damaged file under that name.
        if let Ok(Some(pin)) = self.find(hint)
            && pin.bundle.id == *id
        {
            return Ok(Some((hint.to_owned(), pin)));
        }
        Ok(self.list()?.entries.into_iter().find(|(_, pin)| pin.bundle.id == *id))
    }

    /// Pins a server under a new name.
    pub fn add(&self, guard: &Guard, name: &str, pin: &Pin) -> Result<(), PinError> {
        let servers = self.writable(guard)?;
        self.check_name_free(&servers, name)?;
        self.check_acceptable(&servers, &pin.bundle, None)?;
        Ok(file::save(&servers, guard, &file_name(name), pin)?)
    }

    /// Renames a server.
    pub fn rename(&self, guard: &Guard, name: &str, new: &str) -> Result<(), PinError> {
        self.load(name)?;
        let servers = self.writable(guard)?;
        self.check_name_free(&servers, new)?;
        Ok(servers.rename(guard, &file_name(name), &file_name(new))?)
    }

    /// Forgets a server, except the sequence number of its bundle. Removes damaged files, too.
    pub fn remove(&self, guard: &Guard, name: &str) -> Result<(), PinError> {
        let servers = self.writable(guard)?;
        if !valid_name(name) || !servers.holds(&file_name(name))? {
            return Err(self.unknown(name)?);
        }
        if let Ok(Some(pin)) = stored::load(&servers, name) {
            Retired::load(&self.home)?.remember(&self.home, guard, &pin.bundle)?;
        }
        servers.remove(guard, &file_name(name))?;
        Ok(())
    }

    /// Stores a newer bundle of the same agent. Returns whether anything changed.
    pub fn renew(
        &self,
        guard: &Guard,
        name: &str,
        bundle: &SignedBundle,
    ) -> Result<bool, PinError> {
        let pin = self.load(name)?;
        if pin.bundle == *bundle {
            return Ok(false);
        }
        check_pinned(name, &pin, &bundle.id)?;
        let servers = self.writable(guard)?;
        Mark::of(&pin.bundle).admits(bundle)?;
        self.check_acceptable(&servers, bundle, Some(name))?;
        let pin = Pin { bundle: bundle.clone(), ..pin };
        file::save(&servers, guard, &file_name(name), &pin)?;
        Ok(true)
    }

    /// Replaces the agent of a server. `old` is the agent whose fingerprint was shown to the
    /// person; if another is pinned by now, this fails and changes nothing.
    pub fn replace(&self, guard: &Guard, name: &str, old: &Id, new: &Pin) -> Result<(), PinError> {
        let pin = self.load(name)?;
        check_pinned(name, &pin, old)?;
        let servers = self.writable(guard)?;
        if pin.bundle.id == new.bundle.id {
            Mark::of(&pin.bundle).admits(&new.bundle)?;
        }
        self.check_acceptable(&servers, &new.bundle, Some(name))?;
        Retired::load(&self.home)?.remember(&self.home, guard, &pin.bundle)?;
        Ok(file::save(&servers, guard, &file_name(name), new)?)
    }

    /// Changes the relay through which a server is reached, and its record there.
    pub fn set_route(
        &self,
        guard: &Guard,
        name: &str,
        relay: &Relay,
        record: Option<Nonce>,
    ) -> Result<(), PinError> {
        let pin = Pin { relay: relay.clone(), record, ..self.load(name)? };
        Ok(file::save(&self.writable(guard)?, guard, &file_name(name), &pin)?)
    }

    /// Records an established link: from now on no lower handshake version is accepted from this
    /// agent. Ask [`Pin::is_news`] first.
    pub fn note_link(&self, guard: &Guard, name: &str, link: &LinkMade) -> Result<(), PinError> {
        let pin = self.load(name)?;
        check_pinned(name, &pin, &link.agent)?;
        let pin = Pin {
            floor: pin.floor.max(link.version),
            first_seen: pin.first_seen.or(Some(link.at)),
            last_seen: pin.last_seen.max(Some(link.at)),
            ..pin
        };
        Ok(file::save(&self.writable(guard)?, guard, &file_name(name), &pin)?)
    }

    fn find(&self, name: &str) -> Result<Option<Pin>, PinError> {
        if !valid_name(name) {
            return Ok(None);
        }
        let Some(servers) = self.home.sub(SERVERS)? else { return Ok(None) };
        Ok(stored::load(&servers, name)?)
    }

    fn unknown(&self, name: &str) -> Result<PinError, FileError> {
        let names = match self.home.sub(SERVERS)? {
            Some(servers) => servers.names(SUFFIX)?,
            None => Vec::new(),
        };
        Ok(PinError::Unknown { name: clip(name), near: name::similar(name, names) })
    }

    fn writable(&self, guard: &Guard) -> Result<Dir, FileError> {
        let servers = self.home.create_sub(SERVERS)?;
        servers.sweep(guard)?;
        Ok(servers)
    }

    fn check_name_free(&self, servers: &Dir, name: &str) -> Result<(), PinError> {
        if !valid_name(name) {
            return Err(PinError::BadName(clip(name)));
        }
        if servers.holds(&file_name(name))? {
            return Err(PinError::NameTaken(name.to_owned()));
        }
        Ok(())
    }

    /// Checks that this bundle may be pinned beside all servers except `replaced`.
    fn check_acceptable(
        &self,
        servers: &Dir,
        bundle: &SignedBundle,
        replaced: Option<&str>,
    ) -> Result<(), PinError> {
        SignedBundle::decode_kind(&bundle.encode(), Kind::Agent).map_err(BundleRefused::from)?;
        claim::check_foreign(&self.home, bundle)??;
        Retired::load(&self.home)?.admits(bundle)?;
        for name in servers.names(SUFFIX)? {
            // A file that cannot be read holds no keys to compare.
            let other = file::load_with(
                servers,
                &file_name(&name),
                &Pin::FORMAT,
                stored::decode_unverified,
            );
            let Ok(Some(other)) = other else { continue };
            if replaced == Some(name.as_str()) {
                continue;
            }
            if other.id == bundle.id {
                return Err(PinError::Pinned(name));
            }
            claim::check_unshared(bundle, [(name.as_str(), &other)])?;
        }
        Ok(())
    }
}

fn check_pinned(name: &str, pin: &Pin, id: &Id) -> Result<(), PinError> {
    if pin.bundle.id == *id {
        return Ok(());
    }
    Err(PinError::Changed { name: name.to_owned(), pinned: pin.fingerprint() })
}

fn file_name(name: &str) -> String {
    format!("{name}{SUFFIX}")
}

#[cfg(test)]
mod tests;
