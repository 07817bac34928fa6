//! The agent's enrollment: pending, or finished.
//!
//! The sealed request is stored before it is posted, and the same bytes are posted again after a
//! crash: sealing it again would make another request, and two different requests raise an alarm.
//! The token's secret is deleted with the pending enrollment when that is answered, refused or
//! abandoned.

use farwire_protocol::address::Relay;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Id, TrustDomain};
use farwire_protocol::outer::{MAIL_LIMIT, valid_name};
use farwire_protocol::token::{self, Token};
use minicbor::{Decode, Encode};

use crate::devices::{Device, DeviceError, Devices};
use crate::dir::Dir;
use crate::fault::Damage;
use crate::file::{self, FileBody, Format};
use crate::lock::Guard;
use crate::relay;

/// The file of a finished enrollment.
const ENROLLED: &str = "enrollment";

/// The file of a pending enrollment.
const PENDING: &str = "enrollment.pending";

/// The state of the agent's enrollment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Enrollment {
    /// The agent has no enrollment.
    Absent,
    /// The agent has requested one.
    Pending(Pending),
    /// The agent is enrolled.
    Enrolled(Enrolled),
}

/// An enrollment that waits for its answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pending {
    /// The token. Its `Debug` leaves the secret out.
    pub token: Token,
    /// The addresses of the relay: those of the token, or others for the same key.
    pub relay: Relay,
    /// The sealed request; every post sends these bytes.
    pub request: Vec<u8>,
    /// When the request was sealed, seconds since 1970.
    pub started: u64,
}

/// A finished enrollment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrolled {
    /// The relay and its addresses.
    pub relay: Relay,
    /// The name of the server at the relay.
    pub name: String,
    /// The device that invited us.
    pub inviter: Id,
    /// The workspace: the hash of its first event.
    pub trust_domain: TrustDomain,
    /// When the enrollment finished, seconds since 1970.
    pub at: u64,
}

/// The enrollment in an agent's state.
#[derive(Clone, Debug)]
pub struct Enrollments {
    state: Dir,
}

impl Enrollments {
    pub(crate) const fn new(state: Dir) -> Self {
        Self { state }
    }

    /// Loads the state of the enrollment.
    pub fn load(&self) -> Result<Enrollment, Failure> {
        if let Some(enrolled) = file::load(&self.state, ENROLLED)? {
            return Ok(Enrollment::Enrolled(enrolled));
        }
        let pending = file::load(&self.state, PENDING)?;
        Ok(pending.map_or(Enrollment::Absent, Enrollment::Pending))
    }

    /// Durably stores a sealed request, before it is posted. If one for the same token is stored
    /// already, returns that one with the new relay addresses: post it instead. One for another
    /// token is abandoned.
    pub fn begin(&self, guard: &Guard, pending: Pending) -> Result<Pending, Failure> {
        match self.load()? {
            Enrollment::Enrolled(enrolled) => {
                let message = format!("this agent is already enrolled, as `{}`", enrolled.name);
                return Err(Failure::new(Kind::AlreadyEnrolled, message));
            }
            Enrollment::Pending(before) if before.token == pending.token => {
                let again = Pending { relay: pending.relay, ..before.clone() };
                if again != before {
                    file::save(&self.state, guard, PENDING, &again)?;
                }
                return Ok(again);
            }
            Enrollment::Pending(_) | Enrollment::Absent => {}
        }
        file::save(&self.state, guard, PENDING, &pending)?;
        Ok(pending)
    }

    /// Finishes the enrollment: authorises the inviting device, stores the workspace and the relay,
    /// and deletes the secret.
    pub fn finish(
        &self,
        guard: &Guard,
        enrolled: &Enrolled,
        device: &Device,
    ) -> Result<(), DeviceError> {
        // The device first: an enrolled agent that admits no device could not be repaired remotely,
        // while one that crashed in between asks again and gets here again.
        Devices::new(self.state.clone()).add(guard, device)?;
        file::save(&self.state, guard, ENROLLED, enrolled)?;
        self.state.remove(guard, PENDING)?;
        Ok(())
    }

    /// Abandons a pending enrollment. Returns whether there was one.
    pub fn abandon(&self, guard: &Guard) -> Result<bool, Failure> {
        Ok(self.state.remove(guard, PENDING)?)
    }

    /// Changes the addresses of the relay.
    pub fn set_relay(&self, guard: &Guard, relay: &Relay) -> Result<(), Failure> {
        let Enrollment::Enrolled(enrolled) = self.load()? else {
            return Err(Failure::new(Kind::NotEnrolled, "this agent is not enrolled"));
        };
        let enrolled = Enrolled { relay: relay.clone(), ..enrolled };
        Ok(file::save(&self.state, guard, ENROLLED, &enrolled)?)
    }

    /// Leaves the workspace: removes the devices that were added by enrollment, and the enrollment,
    /// even if it is damaged. The identity and the devices that were added by hand stay.
    pub fn leave(&self, guard: &Guard) -> Result<(), Failure> {
        self.state.remove(guard, PENDING)?;
        Devices::new(self.state.clone()).remove_enrolled(guard)?;
        self.state.remove(guard, ENROLLED)?;
        Ok(())
    }
}

#[derive(Decode, Encode)]
#[cbor(map)]
struct PendingFile<'a> {
    /// The token's text.
    #[b(0)]
    token: &'a str,
    #[n(1)]
    request: Blob,
    #[n(2)]
    started: u64,
    /// The relay, where it differs from that of the token.
    #[n(3)]
    relay: Option<Blob>,
}

impl FileBody for Pending {
    const FORMAT: Format =
        Format { kind: "pending", version: 1, limit: MAIL_LIMIT + token::LIMIT + 1024 };

    fn write(&self, out: &mut Vec<u8>) {
        let request = Blob(self.request.clone());
        let relay = (self.relay != self.token.relay).then(|| relay::encode(&self.relay));
        let token = &self.token.encode();
        let file = PendingFile { token, request, started: self.started, relay };
        minicbor::encode(&file, out).expect("a vector takes whatever is written to it");
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        let file: PendingFile<'_> = cbor::decode(body, Self::FORMAT.limit)?;
        let token: Token =
            file.token.parse().map_err(|_| Damage::Content("the token in it is invalid"))?;
        let relay = match &file.relay {
            Some(relay) => relay::decode(relay)?,
            None => token.relay.clone(),
        };
        if relay.key != token.relay.key {
            return Err(Damage::Content("it names another relay than its token"));
        }
        Ok(Self { token, relay, request: file.request.0, started: file.started })
    }
}

#[derive(Decode, Encode)]
#[cbor(map)]
struct EnrolledFile {
    #[n(0)]
    relay: Blob,
    #[n(1)]
    name: String,
    #[n(2)]
    inviter: Id,
    #[n(3)]
    trust_domain: TrustDomain,
    #[n(4)]
    at: u64,
}

impl FileBody for Enrolled {
    const FORMAT: Format = Format { kind: "enrollment", version: 1, limit: 4096 };

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&cbor::encode(&EnrolledFile {
            relay: relay::encode(&self.relay),
            name: self.name.clone(),
            inviter: self.inviter,
            trust_domain: self.trust_domain,
            at: self.at,
        }));
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        let file: EnrolledFile = cbor::decode(body, Self::FORMAT.limit)?;
        if !valid_name(&file.name) {
            return Err(Damage::Content("the server name in it is invalid"));
        }
        let EnrolledFile { name, inviter, trust_domain, at, .. } = file;
        Ok(Self { relay: relay::decode(&file.relay)?, name, inviter, trust_domain, at })
    }
}

#[cfg(test)]
mod tests;
