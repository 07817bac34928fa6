//! What can go wrong on the way of a request, and by whose word it is known.
//!
//! [`Fault`] is what decisions go by; what follows from it is in `conversation`. [`Trouble`] adds
//! the failure for people.

use farwire_link::inner::bridge::reset_failure;
use farwire_link::inner::sealed::ReadError;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::BadFrame;
use farwire_protocol::header::Reset;

use crate::server::{Server, with_server_name};

/// What went wrong, and by whose word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The stream was reset with this code. Nobody authenticates it.
    Reset(Reset),
    /// A frame did not authenticate.
    Damaged,
    /// The bytes ended without the sealed end.
    Cut,
    /// The connection under the stream is gone.
    Lost,
    /// Nothing came for longer than the agent is ever silent.
    Silent,
    /// No stream was had: the relay was not reached, or refused, or the handshake did not hold.
    NoWay,
    /// No stream was had, because a handshake broke off.
    CutShort,
    /// The agent authenticated itself, and does not let this device in.
    Rejected,
    /// The agent sealed a failure as the answer to the request.
    Said(Word),
    /// The agent sealed something that is no answer.
    Nonsense,
    /// Something failed on this machine.
    Here,
}

/// What a sealed failure of the agent says about the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// Its own half of the stream broke.
    Broken,
    /// It does not know the conversation.
    Gone,
    /// Another process may know of the request, or of a part of it; this one does not.
    Unsure,
    /// What worked on the request has died.
    Died,
    /// It is kept under the request's id: every copy is answered so.
    Kept,
    /// It refuses this copy.
    Refused,
}

impl Word {
    /// What a failure says that the agent has sealed as the answer to a request.
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::LinkLost | Kind::StreamTruncated | Kind::IntegrityFailure => Self::Broken,
            Kind::ConversationGone => Self::Gone,
            Kind::StreamStale | Kind::InputUnknown => Self::Unsure,
            Kind::FileWorkerEnded => Self::Died,
            Kind::OutcomeUnknown | Kind::Cancelled | Kind::Expired => Self::Kept,
            _ => Self::Refused,
        }
    }
}

impl Fault {
    /// What went wrong where only the words for it have been passed on.
    pub const fn of_words(kind: Kind) -> Self {
        match kind {
            Kind::ServerOffline => Self::Reset(Reset::Offline),
            Kind::UnknownServer => Self::Reset(Reset::UnknownServer),
            Kind::ServerSuspended => Self::Reset(Reset::Suspended),
            Kind::Overloaded => Self::Reset(Reset::Overloaded),
            Kind::LinkLost => Self::Lost,
            Kind::StreamTruncated => Self::Cut,
            Kind::IntegrityFailure => Self::Damaged,
            // Whatever is said of the way, of who asks, or of what is kept here, is no word about a
            // request.
            Kind::RelayUnreachable
            | Kind::RelayDenied
            | Kind::RelayKeyMismatch
            | Kind::ServerKeyChanged
            | Kind::ServerPending
            | Kind::HandshakeFailed
            | Kind::InviteUsed
            | Kind::TokenMalformed
            | Kind::TokenUsed
            | Kind::TokenExpired
            | Kind::TokenUnknown
            | Kind::AlreadyEnrolled
            | Kind::EnrollmentRejected
            | Kind::NotInitialized
            | Kind::KeystoreCorrupt
            | Kind::KeystorePermissions
            | Kind::KeystoreLocked
            | Kind::StateVersion
            | Kind::Configuration => Self::NoWay,
            Kind::NotAuthorized => Self::Rejected,
            Kind::ProtocolViolation => Self::Nonsense,
            kind => Self::Said(Word::of(kind)),
        }
    }
}

/// What went wrong: the fault that decides, and the failure for people.
#[derive(Debug)]
pub struct Trouble {
    /// What it was.
    pub fault: Fault,
    /// What is said about it.
    pub failure: Failure,
}

impl Trouble {
    pub(crate) fn new(fault: Fault, failure: Failure) -> Self {
        Self { fault, failure }
    }

    /// A stream to this server broke.
    pub fn stream_error(error: ReadError, server: &Server) -> Self {
        let fault = match &error {
            ReadError::Reset(reset) => Fault::Reset(*reset),
            ReadError::Truncated => Fault::Cut,
            ReadError::Lost(_) => Fault::Lost,
            ReadError::Bad(BadFrame::Violation(_)) => Fault::Nonsense,
            ReadError::Bad(BadFrame::Length(_) | BadFrame::Tampered) => Fault::Damaged,
        };
        let failure = match error {
            // About a handshake these would say more.
            ReadError::Reset(Reset::Integrity | Reset::Malformed) => {
                Failure::new(Kind::LinkLost, "the stream was reset")
            }
            ReadError::Reset(reset) => reset_failure(reset),
            other => other.into(),
        };
        Self::new(fault, with_server_name(failure, &server.name))
    }

    /// A stream to this server could not be written to.
    pub fn unwritten(error: std::io::Error, server: &Server) -> Self {
        let reset = farwire_link::outer::reset_of(&error);
        Self::stream_error(reset.map_or(ReadError::Lost(error), ReadError::Reset), server)
    }

    /// The stream should go on over a new link.
    pub(crate) fn link_move(server: &Server) -> Self {
        Self::stream_error(ReadError::Reset(Reset::Moved), server)
    }

    /// The server was silent for too long.
    pub fn silent(server: &Server) -> Self {
        let message = format!("`{}` did not answer in time", server.name);
        Self::new(Fault::Silent, Failure::new(Kind::LinkLost, message))
    }

    /// There is no stream to the server, and whoever said why has not proven who they are.
    pub fn no_way(failure: Failure) -> Self {
        let fault = match failure.kind {
            Kind::LinkLost => Fault::CutShort,
            _ => Fault::NoWay,
        };
        Self::new(fault, failure)
    }

    /// The agent has sealed that it does not let us in.
    pub fn rejected(failure: Failure) -> Self {
        let fault = match failure.kind {
            // Later it may.
            Kind::Overloaded | Kind::Busy => Fault::NoWay,
            _ => Fault::Rejected,
        };
        Self::new(fault, failure)
    }

    /// The agent has sealed this as its answer.
    pub fn agent_failure(failure: Failure) -> Self {
        Self::new(Fault::Said(Word::of(failure.kind)), failure)
    }

    /// The agent has ended the stream with this before it had answered everything that was asked on
    /// it.
    pub fn early_end(failure: Failure) -> Self {
        let fault = match Word::of(failure.kind) {
            // It is no answer to any of the questions.
            Word::Kept | Word::Refused => Fault::Nonsense,
            word => Fault::Said(word),
        };
        Self::new(fault, failure)
    }

    /// The agent has sealed something that is no answer.
    pub fn nonsense(message: &str) -> Self {
        Self::new(Fault::Nonsense, Failure::new(Kind::ProtocolViolation, message))
    }

    /// It failed on this machine.
    pub fn here(failure: Failure) -> Self {
        Self::new(Fault::Here, failure)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        trouble.failure
    }
}
