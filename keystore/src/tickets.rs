//! The enrollments that this bridge has started: the data needed to answer each, and its state.
//!
//! ```text
//!          answer           answer
//!  Open ──────────► Answered ◄────── Late ◄── hold ── Open, first request after expiry
//!    │                                │
//!    └──── alarm ───► Alarmed ◄───────┘       two different valid requests: both are refused
//! ```
//!
//! [`Tickets::answer`] burns a ticket durably, before anything is posted: whatever happens
//! afterwards, no other request is ever accepted with it. The process that fetches mail calls it
//! first, then pins, then posts the bytes that are stored here, then calls [`Tickets::settle`];
//! after a crash in between the ticket still has everything needed to continue.

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

/// The suffix of a ticket's file.
const SUFFIX: &str = ".ticket";

/// How long a ticket is kept after it expired: 7 days, as long as a late request waits for a
/// person.
const KEEP: u64 = 7 * 24 * 3600;

/// An enrollment that this bridge has started.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The token that was handed out. Its `Debug` leaves the secret out.
    pub token: Token,
    /// The name that the server will have.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When the ticket was created, seconds since 1970.
    pub created: u64,
    /// The signed delegation that authorises the answer key to answer.
    pub delegation: Vec<u8>,
    /// The state of the enrollment.
    pub state: TicketState,
    /// Signs the answer. Deleted once there is one.
    answer_key: Option<Secret>,
}

/// The state of an enrollment on our side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TicketState {
    /// No request has come yet.
    Open,
    /// A request came after expiry, and waits for a person.
    Late(Late),
    /// A request has been accepted, and no other will be.
    Answered(Box<Answered>),
    /// Two different valid requests came: the token was stolen, and it cannot be told by which
    /// agent.
    Alarmed {
        /// The agents that asked.
        agents: Vec<Id>,
        /// When we noticed, seconds since 1970.
        seen: u64,
    },
}

/// A request that came after expiry, so that a person has to decide.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Late {
    /// The sealed request.
    pub request: Vec<u8>,
    /// The agent that asks.
    pub agent: Id,
    /// When we first saw it, seconds since 1970.
    pub seen: u64,
}

/// The answer to an accepted request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answered {
    /// The bundle of the agent that was accepted.
    pub agent: SignedBundle,
    /// SHA-256 of the sealed request that was accepted.
    pub request: [u8; 32],
    /// The sealed answer. Only these bytes are ever posted.
    pub response: Vec<u8>,
    /// When the request was accepted, seconds since 1970.
    pub at: u64,
    /// Whether the pin is stored and the relay has the answer.
    pub settled: bool,
    /// Another agent that later asked with the same token: somebody else has the token.
    pub reused_by: Option<Id>,
}

impl Ticket {
    /// Creates a ticket for this token, with a new answer key that `id` delegates to.
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

    /// The key that signs the answer, as long as there is no answer.
    pub fn answer_key(&self) -> Option<SigningKey> {
        self.answer_key.as_ref().map(Secret::signing)
    }

    /// Whether the token has expired by this clock, so that a request first seen now waits for a
    /// person.
    pub const fn is_late(&self, now: u64) -> bool {
        now >= self.token.expires
    }

    /// Whether the ticket admitted `agent` and another agent asked with it afterwards.
    pub fn was_stolen_from(&self, agent: &Id) -> bool {
        let TicketState::Answered(answered) = &self.state else { return false };
        answered.agent.id == *agent && answered.reused_by.is_some()
    }

    /// Whether the ticket is due for removal.
    pub fn is_over(&self, now: u64) -> bool {
        now >= self.ends()
    }

    /// When the ticket is due for removal.
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
    /// There is no such ticket, or it was removed long ago.
    #[error("enrollment {0} was not created by this installation")]
    Unknown(Nonce),
    /// The ticket has accepted another request.
    #[error("the enrollment of `{name}` has already been used by {agent}")]
    Used {
        /// The name of the server.
        name: String,
        /// The fingerprint of the agent that was accepted.
        agent: String,
    },
    /// Two different requests came, and both were refused.
    #[error("two agents used the enrollment of `{0}`, and both were refused")]
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
        failure.with_hint("somebody else has the token: find out how, then create a new one")
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

    /// Durably stores a ticket, before anybody is shown its token.
    pub fn create(&self, guard: &Guard, ticket: &Ticket) -> Result<(), Failure> {
        let tickets = self.home.create_sub(TICKETS)?;
        tickets.sweep(guard)?;
        if tickets.holds(&file_name(&ticket.token.enrollment))? {
            let message = "the random number generator returned the same id twice";
            return Err(Failure::new(FailureKind::Internal, message));
        }
        Ok(self.save(guard, ticket)?)
    }

    /// Returns all tickets by enrollment, and a warning for each file that cannot be used.
    pub fn list(&self) -> Result<Listing<Ticket>, Failure> {
        let mut listing = Listing::<Ticket>::default();
        let Some(tickets) = self.home.sub(TICKETS)? else { return Ok(listing) };
        for name in tickets.names(SUFFIX)? {
            match stored::load(&tickets, &name) {
                Ok(Some(ticket)) => listing.entries.push((name, ticket)),
                Ok(None) => {} // removed since the directory was listed
                Err(error) => {
                    let path = tickets.file_path(&format!("{name}{SUFFIX}"));
                    listing.warnings.push(Warning { path, failure: error.into() });
                }
            }
        }
        Ok(listing)
    }

    /// Loads a ticket.
    pub fn load(&self, enrollment: &Nonce) -> Result<Ticket, TicketError> {
        let ticket = match self.home.sub(TICKETS)? {
            Some(tickets) => stored::load(&tickets, &enrollment.to_string())?,
            None => None,
        };
        ticket.ok_or(TicketError::Unknown(*enrollment))
    }

    /// Burns a ticket durably: `answer` becomes its only answer for ever. If the same request has
    /// been answered before, returns that answer; any other request is refused.
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

    /// Records that the pin is stored and the relay has the answer.
    pub fn settle(&self, guard: &Guard, enrollment: &Nonce) -> Result<(), TicketError> {
        let mut ticket = self.load(enrollment)?;
        let TicketState::Answered(answered) = &mut ticket.state else { return Ok(()) };
        answered.settled = true;
        Ok(self.save(guard, &ticket)?)
    }

    /// Records that another agent has asked with a token that has been answered. Returns whether
    /// that is new.
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

    /// Stores a request that came after expiry, for a person to decide. A second one is ignored.
    pub fn hold(&self, guard: &Guard, enrollment: &Nonce, late: Late) -> Result<(), TicketError> {
        let mut ticket = self.load(enrollment)?;
        if ticket.state != TicketState::Open {
            return Ok(());
        }
        ticket.state = TicketState::Late(late);
        Ok(self.save(guard, &ticket)?)
    }

    /// Refuses all requests, because these agents have asked with one token. Returns whether it
    /// did: after an answer it is too late.
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

    /// Removes a ticket. Returns whether there was one.
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
