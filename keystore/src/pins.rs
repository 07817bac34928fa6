//! The servers that this bridge knows: for each a name and the bundle that its agent must prove.
//!
//! One file for each, named for the server. A name is resolved here and nowhere else, so that nobody
//! can move it to another key. Nothing is pinned on first use. A file that is damaged disables its
//! server and no other.
//!
//! Not here: what the relay says about servers (labels, state), which decides nothing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use farwire_protocol::address::Relay;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::failure::Failure;
use farwire_protocol::handshake::Peer;
use farwire_protocol::id::{Id, Kind, Nonce};
use farwire_protocol::outer::valid_name;

use crate::claim::{self, Mark, Refused, Retired};
use crate::dir::Dir;
use crate::fault::{Damage, FileError, Listing, Warning, clipped};
use crate::file::{self, Record as _};
use crate::lock::Guard;

mod error;
mod name;
mod stored;

pub use error::PinError;

/// The directory of the pins.
const SERVERS: &str = "servers";

/// How the name of a pin's file ends.
const SUFFIX: &str = ".pin";

/// A link is news again after so many seconds. Writing for each would cost every command a sync.
const NEWS: u64 = 3600;

/// What we know of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pin {
    /// Its agent's bundle, as it was signed.
    pub bundle: SignedBundle,
    /// The relay through which it is reached.
    pub relay: Relay,
    /// The lowest version of the handshake that may still be spoken with it: the highest that has
    /// been, or at first the one that its bundle promises.
    pub floor: u16,
    /// What the relay calls its record.
    pub record: Option<Nonce>,
    /// When it was pinned, seconds since 1970.
    pub added: u64,
    /// When a link to it was made for the first time, as far as we noted it.
    pub first_seen: Option<u64>,
    /// When a link to it was made last, to the hour.
    pub last_seen: Option<u64>,
}

impl Pin {
    /// A pin that has seen no link yet.
    pub fn new(bundle: SignedBundle, relay: Relay, record: Option<Nonce>, now: u64) -> Self {
        let floor = bundle.handshake;
        Self { bundle, relay, floor, record, added: now, first_seen: None, last_seen: None }
    }

    /// Whom the handshake must reach.
    pub fn peer(&self) -> Peer {
        let bundle = &self.bundle;
        Peer { id: bundle.id, kn: bundle.kn, trust_domain: bundle.trust_domain }
    }

    /// What people compare.
    pub fn fingerprint(&self) -> String {
        self.bundle.id.fingerprint(Kind::Agent)
    }

    /// Whether a link is worth a [`Pins::note_link`].
    pub fn is_news(&self, link: &LinkMade) -> bool {
        let stale = |seen: u64| link.at >= seen.saturating_add(NEWS);
        link.version > self.floor || self.last_seen.is_none_or(stale)
    }
}

/// A link that was made.
#[derive(Clone, Copy, Debug)]
pub struct LinkMade {
    /// With whom.
    pub agent: Id,
    /// The version of the handshake that was spoken.
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

    /// All servers, and a warning for each file that had to be left out.
    pub fn list(&self) -> Result<Listing<Pin>, Failure> {
        let mut listing = Listing::<Pin>::default();
        let Some(servers) = self.home.sub(SERVERS)? else { return Ok(listing) };
        let mut holders = HashMap::new();
        for name in servers.names(SUFFIX)? {
            let pin = match stored::load(&servers, &name) {
                Ok(Some(pin)) => pin,
                Ok(None) => continue, // removed since we listed
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
                    let damage = Damage::Content("it pins the agent of another file");
                    let hint = format!("remove it: `{}` is the same agent", first.get());
                    let failure = Failure::from(FileError::damaged(path.clone(), damage));
                    listing.warnings.push(Warning { path, failure: failure.with_hint(hint) });
                }
            }
        }
        Ok(listing)
    }

    /// The server with exactly this name.
    pub fn load(&self, name: &str) -> Result<Pin, PinError> {
        match self.find(name)? {
            Some(pin) => Ok(pin),
            None => Err(self.unknown(name)?),
        }
    }

    /// The server that `query` means: its name, or the beginning of its fingerprint or record id (at
    /// least four digits) that fits no other.
    pub fn resolve(&self, query: &str) -> Result<(String, Pin), PinError> {
        if let Some(pin) = self.find(query)? {
            return Ok((query.to_owned(), pin));
        }
        let Some(start) = name::IdStart::read(query) else { return Err(self.unknown(query)?) };
        let mut fits: Vec<_> = self.list()?.entries;
        fits.retain(|(_, pin)| start.fits(&pin.fingerprint(), pin.record));
        if fits.len() > 1 {
            let fits = fits.into_iter().map(|(name, _)| name).collect();
            return Err(PinError::Ambiguous { name: clipped(query), fits });
        }
        match fits.pop() {
            Some(found) => Ok(found),
            None => Err(self.unknown(query)?),
        }
    }

    /// The server with this agent. `hint` is the name that it had when last seen.
    pub fn of_agent(&self, id: &Id, hint: &str) -> Result<Option<(String, Pin)>, Failure> {
        // A damaged file under that name is for `list` to report.
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
        self.vacant(&servers, name)?;
        self.acceptable(&servers, &pin.bundle, None)?;
        Ok(file::save(&servers, guard, &file_name(name), pin)?)
    }

    /// Gives a server another name.
    pub fn rename(&self, guard: &Guard, name: &str, new: &str) -> Result<(), PinError> {
        self.load(name)?;
        let servers = self.writable(guard)?;
        self.vacant(&servers, new)?;
        Ok(servers.rename(guard, &file_name(name), &file_name(new))?)
    }

    /// Forgets a server, but for the number of its bundle. A damaged file is removed as well.
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

    /// Takes a newer bundle of the same agent. Says whether anything changed.
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
        expect(name, &pin, &bundle.id)?;
        let servers = self.writable(guard)?;
        Mark::of(&pin.bundle).admits(bundle)?;
        self.acceptable(&servers, bundle, Some(name))?;
        let pin = Pin { bundle: bundle.clone(), ..pin };
        file::save(&servers, guard, &file_name(name), &pin)?;
        Ok(true)
    }

    /// Puts another agent in a server's place. `old` is the one whose fingerprint the person has been
    /// shown; if another is pinned by now, nothing happens.
    pub fn replace(&self, guard: &Guard, name: &str, old: &Id, new: &Pin) -> Result<(), PinError> {
        let pin = self.load(name)?;
        expect(name, &pin, old)?;
        let servers = self.writable(guard)?;
        if pin.bundle.id == new.bundle.id {
            Mark::of(&pin.bundle).admits(&new.bundle)?;
        }
        self.acceptable(&servers, &new.bundle, Some(name))?;
        Retired::load(&self.home)?.remember(&self.home, guard, &pin.bundle)?;
        Ok(file::save(&servers, guard, &file_name(name), new)?)
    }

    /// Changes where a server is reached: its relay and the record there.
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

    /// Notes that a link was made: no lower version of the handshake will be spoken with this agent.
    /// Ask [`Pin::is_news`] first.
    pub fn note_link(&self, guard: &Guard, name: &str, link: &LinkMade) -> Result<(), PinError> {
        let pin = self.load(name)?;
        expect(name, &pin, &link.agent)?;
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
        Ok(PinError::Unknown { name: clipped(name), near: name::near(name, names) })
    }

    fn writable(&self, guard: &Guard) -> Result<Dir, FileError> {
        let servers = self.home.create_sub(SERVERS)?;
        servers.sweep(guard)?;
        Ok(servers)
    }

    fn vacant(&self, servers: &Dir, name: &str) -> Result<(), PinError> {
        if !valid_name(name) {
            return Err(PinError::BadName(clipped(name)));
        }
        if servers.holds(&file_name(name))? {
            return Err(PinError::NameTaken(name.to_owned()));
        }
        Ok(())
    }

    /// Whether this bundle may be pinned, beside all servers but the one that it replaces.
    fn acceptable(
        &self,
        servers: &Dir,
        bundle: &SignedBundle,
        replaced: Option<&str>,
    ) -> Result<(), PinError> {
        SignedBundle::decode_kind(&bundle.encode(), Kind::Agent).map_err(Refused::from)?;
        claim::foreign(&self.home, bundle)??;
        Retired::load(&self.home)?.admits(bundle)?;
        for name in servers.names(SUFFIX)? {
            // What cannot be read names no key that could be compared.
            let other = file::load_with(servers, &file_name(&name), &Pin::FORMAT, stored::glance);
            let Ok(Some(other)) = other else { continue };
            if replaced == Some(name.as_str()) {
                continue;
            }
            if other.id == bundle.id {
                return Err(PinError::Pinned(name));
            }
            claim::unshared(bundle, [(name.as_str(), &other)])?;
        }
        Ok(())
    }
}

fn expect(name: &str, pin: &Pin, id: &Id) -> Result<(), PinError> {
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
