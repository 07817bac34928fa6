//! The enrollments that this bridge has begun: for each what it takes to answer, and how it stands.
//!
//! ```text
//!          answer           answer
//!  Open ──────────► Answered ◄────── Late ◄── hold ── Open, first asked after its time
//!    │                                │
//!    └──── alarm ───► Alarmed ◄───────┘       two different valid requests: nobody gets in
//! ```
//!
//! [`Tickets::answer`] burns a ticket durably, before anything is posted: whatever happens then, no
//! other request is ever accepted with it. Whoever gets the mail asks this first, then pins, then
//! posts the bytes that are kept here, then says [`Tickets::settle`]; after a crash in between the
//! ticket still has all that is needed to go on.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::enroll::AnswerDelegation;
use farwire_protocol::failure::{Failure, Kind as FailureKind};
use farwire_protocol::id::{Id, Nonce, Surf};
use farwire_protocol::token::Token;

use crate::dir::Dir;
use crate::fault::{FileError, Listing, Warning};
use crate::file;
use crate::lock::Guard;
use crate::secret::Secret;

mod stored;

/// The directory of the tickets.
const TICKETS: &str = "tickets";

/// How the name of a ticket's file ends.
const SUFFIX: &str = ".ticket";

/// How long a ticket is kept after its time: 7 days, as long as a late request waits for a person.
const KEEP: u64 = 7 * 24 * 3600;

/// An enrollment that this bridge has begun.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The token that was handed out. Its `Debug` leaves the secret out.
    pub token: Token,
    /// What the server will be called.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// The device's word that the answer key may answer, signed.
    pub delegation: Vec<u8>,
    /// How it stands.
    pub state: TicketState,
    /// Signs the answer. Gone once there is one.
    answer_key: Option<Secret>,
}

/// How an enrollment stands on our side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TicketState {
    /// Nobody has asked in time.
    Open,
    /// Somebody asked after its time, and waits for a person.
    Late(Late),
    /// Somebody has been accepted, and nobody else will be.
    Answered(Box<Answered>),
    /// Two different valid requests came: the token was stolen, and nobody can tell who asked.
    Alarmed {
        /// Who asked.
        agents: Vec<Id>,
        /// When we saw it, seconds since 1970.
        seen: u64,
    },
}

/// A request that came too late to be answered without a person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Late {
    /// The request, sealed.
    pub request: Vec<u8>,
    /// Who asks.
    pub agent: Id,
    /// When we first saw it, seconds since 1970.
    pub seen: u64,
}

/// An answer that was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answered {
    /// The bundle of the agent that was accepted.
    pub agent: SignedBundle,
    /// SHA-256 of the sealed request that was accepted.
    pub request: [u8; 32],
    /// The sealed answer. These bytes and no others are ever posted.
    pub response: Vec<u8>,
    /// When, seconds since 1970.
    pub at: u64,
    /// Whether the pin is written and the relay has the answer.
    pub settled: bool,
    /// Another agent that asked with the same token after that: somebody else has it.
    pub reused_by: Option<Id>,
}

impl Ticket {
    /// A ticket for this token, with a new answer key that `id` delegates to it.
    pub fn mint(
        token: Token,
        name: &str,
        labels: BTreeMap<String, String>,
        id: &SigningKey,
        now: u64,
    ) -> Result<Self, Failure> {
        let key = Secret::random()?;
        let public = Surf(key.signing().verifying_key().to_bytes());
        let delegation = AnswerDelegation::sign(&token, public, id);
        let (name, answer_key, state) = (name.to_owned(), Some(key), TicketState::Open);
        Ok(Self { token, name, labels, created: now, delegation, state, answer_key })
    }

    /// The key that signs the answer, until there is one.
    pub fn answer_key(&self) -> Option<SigningKey> {
        self.answer_key.as_ref().map(Secret::signing)
    }

    /// Whether its time is up by this clock: a request first seen now waits for a person.
    pub const fn is_late(&self, now: u64) -> bool {
        now >= self.token.expires
    }

    /// Whether another agent has asked with it after it had let this one in.
    pub fn was_stolen_from(&self, agent: &Id) -> bool {
        let TicketState::Answered(answered) = &self.state else { return false };
        answered.agent.id == *agent && answered.reused_by.is_some()
    }

    /// Whether it is to be removed by now.
    pub fn is_over(&self, now: u64) -> bool {
        now >= self.ends()
    }

    /// When it is removed.
    fn ends(&self) -> u64 {
        let last = match &self.state {
            TicketState::Open => self.token.expires,
            TicketState::Late(Late { seen, .. }) | TicketState::Alarmed { seen, .. } => *seen,
            TicketState::Answered(answered) => answered.at,
        };
        last.max(self.token.expires).saturating_add(KEEP)
    }
}

/// Why a ticket could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// We have no such ticket, or it is long over.
    #[error("enrollment {0} is not one of ours")]
    Unknown(Nonce),
    /// Another request has been accepted.
    #[error("the enrollment of `{name}` has been used by {agent}")]
    Used {
        /// What the server is called.
        name: String,
        /// The fingerprint of the agent that was accepted.
        agent: String,
    },
    /// Two different requests came, and both were refused.
    #[error("two agents asked for the enrollment of `{0}`, and both were refused")]
    Alarmed(String),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] Failure),
}

impl From<FileError> for TicketError {
    fn from(error: FileError) -> Self {
        Self::File(error.into())
    }
}

impl From<TicketError> for Failure {
    fn from(error: TicketError) -> Self {
        let kind = match error {
            TicketError::File(failure) => return failure,
            TicketError::Unknown(_) => FailureKind::TokenUnknown,
            TicketError::Used { .. } => FailureKind::TokenUsed,
            TicketError::Alarmed(_) => FailureKind::EnrollmentRejected,
        };
        let failure = Self::new(kind, error.to_string());
        if kind != FailureKind::EnrollmentRejected {
            return failure;
        }
        failure.with_hint("somebody else has the token: find out how, then make a new one")
    }
}

/// The tickets in a bridge's home.
#[derive(Clone, Debug)]
pub struct Tickets {
    home: Dir,
}

impl Tickets {
    pub(crate) const fn new(home: Dir) -> Self {
        Self { home }
    }

    /// Keeps a ticket, durably. Do this before anybody is shown its token.
    pub fn create(&self, guard: &Guard, ticket: &Ticket) -> Result<(), Failure> {
        let tickets = self.home.create_sub(TICKETS)?;
        tickets.sweep(guard)?;
        if tickets.holds(&file_name(&ticket.token.enrollment))? {
            let message = "the system's generator gave the same number twice";
            return Err(Failure::new(FailureKind::Internal, message));
        }
        Ok(self.save(guard, ticket)?)
    }

    /// All tickets by enrollment, and a warning for each file that had to be left out.
    pub fn list(&self) -> Result<Listing<Ticket>, Failure> {
        let mut listing = Listing::<Ticket>::default();
        let Some(tickets) = self.home.sub(TICKETS)? else { return Ok(listing) };
        for name in tickets.names(SUFFIX)? {
            match stored::load(&tickets, &name) {
                Ok(Some(ticket)) => listing.entries.push((name, ticket)),
                Ok(None) => {} // removed since we listed
                Err(error) => {
                    let path = tickets.file_path(&format!("{name}{SUFFIX}"));
                    listing.warnings.push(Warning { path, failure: error.into() });
                }
            }
        }
        Ok(listing)
    }

    /// One ticket.
    pub fn load(&self, enrollment: &Nonce) -> Result<Ticket, TicketError> {
        let ticket = match self.home.sub(TICKETS)? {
            Some(tickets) => stored::load(&tickets, &enrollment.to_string())?,
            None => None,
        };
        ticket.ok_or(TicketError::Unknown(*enrollment))
    }

    /// Burns a ticket durably: `answer` is the answer, now and for ever. If the same request has been
    /// answered before, gives the answer that was given then; any other request is refused.
    pub fn answer(
        &self,
        guard: &Guard,
        enrollment: &Nonce,
        answer: Answered,
    ) -> Result<Answered, TicketError> {
        let mut ticket = self.load(enrollment)?;
        match ticket.state {
            TicketState::Answered(given) if given.request == answer.request => return Ok(*given),
            TicketState::Answered(given) => {
                let agent = given.agent.id.fingerprint(given.agent.kind);
                return Err(TicketError::Used { name: ticket.name, agent });
            }
            TicketState::Alarmed { .. } => return Err(TicketError::Alarmed(ticket.name)),
            TicketState::Open | TicketState::Late(_) => {}
        }
        ticket.state = TicketState::Answered(Box::new(answer.clone()));
        ticket.answer_key = None;
        self.save(guard, &ticket)?;
        Ok(answer)
    }

    /// Says that the pin is written and the relay has the answer.
    pub fn settle(&self, guard: &Guard, enrollment: &Nonce) -> Result<(), TicketError> {
        let mut ticket = self.load(enrollment)?;
        let TicketState::Answered(answered) = &mut ticket.state else { return Ok(()) };
        answered.settled = true;
        Ok(self.save(guard, &ticket)?)
    }

    /// Keeps that another agent has asked with a token that has been answered. Returns whether that is news.
    pub fn reused(
        &self,
        guard: &Guard,
        enrollment: &Nonce,
        agent: &Id,
    ) -> Result<bool, TicketError> {
        let mut ticket = self.load(enrollment)?;
        let TicketState::Answered(answered) = &mut ticket.state else { return Ok(false) };
        if answered.agent.id == *agent || answered.reused_by.is_some() {
            return Ok(false);
        }
        answered.reused_by = Some(*agent);
        self.save(guard, &ticket)?;
        Ok(true)
    }

    /// Keeps a request that came too late for a person to decide. The first one stays.
    pub fn hold(&self, guard: &Guard, enrollment: &Nonce, late: Late) -> Result<(), TicketError> {
        let mut ticket = self.load(enrollment)?;
        if ticket.state != TicketState::Open {
            return Ok(());
        }
        ticket.state = TicketState::Late(late);
        Ok(self.save(guard, &ticket)?)
    }

    /// Refuses everybody, because these have asked with one token. Says whether it did: after an
    /// answer it is too late for that.
    pub fn alarm(
        &self,
        guard: &Guard,
        enrollment: &Nonce,
        agents: &[Id],
        now: u64,
    ) -> Result<bool, TicketError> {
        let mut ticket = self.load(enrollment)?;
        match ticket.state {
            TicketState::Answered(_) => return Ok(false),
            TicketState::Alarmed { .. } => return Ok(true),
            TicketState::Open | TicketState::Late(_) => {}
        }
        ticket.state = TicketState::Alarmed { agents: agents.to_vec(), seen: now };
        ticket.answer_key = None;
        self.save(guard, &ticket)?;
        Ok(true)
    }

    /// Removes a ticket. Says whether there was one.
    pub fn remove(&self, guard: &Guard, enrollment: &Nonce) -> Result<bool, Failure> {
        let Some(tickets) = self.home.sub(TICKETS)? else { return Ok(false) };
        Ok(tickets.remove(guard, &file_name(enrollment))?)
    }

    /// Removes the tickets that ended more than 7 days ago.
    pub fn sweep(&self, guard: &Guard, now: u64) -> Result<(), Failure> {
        for (_, ticket) in self.list()?.entries {
            if ticket.is_over(now) {
                self.remove(guard, &ticket.token.enrollment)?;
            }
        }
        Ok(())
    }

    fn save(&self, guard: &Guard, ticket: &Ticket) -> Result<(), FileError> {
        let tickets = self.home.create_sub(TICKETS)?;
        file::save(&tickets, guard, &file_name(&ticket.token.enrollment), ticket)
    }
}

fn file_name(enrollment: &Nonce) -> String {
    format!("{enrollment}{SUFFIX}")
}

#[cfg(test)]
mod tests;
