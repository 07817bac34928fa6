//! What the next agent must know of a job. Its holder keeps it, and does not read it.

use std::sync::Arc;
use std::time::Duration;

use farwire_protocol::cbor::Blob;
use farwire_protocol::streams::session::{Labels, LeaseChange, Limits, TypingRule};
use minicbor::{Decode, Encode};

use super::Conversations;
use crate::gate::principal::{Principal, PrincipalNote};
use crate::holder::micros;
use crate::os::clock::unix_millis;
use crate::os::pty::Size;
use crate::terminal::typing_rights::Transfer;
use crate::terminal::{Beginning, Filed, Terminal};

/// The longest note, in bytes, both when written and when read.
pub(super) const NOTE: usize = 16 << 10;

/// What the next agent must know of a job, kept by its holder.
#[derive(Debug, Decode, Encode)]
#[cbor(map)]
pub(super) struct Note {
    #[n(0)]
    pub(super) owner: PrincipalNote,
    #[n(1)]
    pub(super) command: String,
    #[n(2)]
    pub(super) user: String,
    #[n(3)]
    pub(super) uid: u32,
    #[n(4)]
    pub(super) asked: u64,
    #[n(5)]
    pub(super) piped: bool,
    #[n(6)]
    pub(super) conversations: Conversations,
    #[n(7)]
    pub(super) terminal: Option<TerminalNote>,
    /// The hash of the request.
    #[n(8)]
    pub(super) body: Option<Blob>,
}

/// The same for a session's terminal.
#[derive(Debug, Decode, Encode)]
#[cbor(map)]
pub(super) struct TerminalNote {
    #[n(0)]
    name: String,
    #[n(1)]
    nonce: Option<String>,
    #[n(2)]
    labels: Option<Labels>,
    #[n(3)]
    limits: Option<Limits>,
    #[n(4)]
    policy: Option<TypingRule>,
    #[n(5)]
    transfer: Option<TransferNote>,
}

/// The last change of a lease. The lease itself does not outlive the agent: its holder must request
/// it again.
#[derive(Debug, Decode, Encode)]
#[cbor(map)]
struct TransferNote {
    #[n(0)]
    way: LeaseChange,
    #[n(1)]
    from: Option<ActorNote>,
    #[n(2)]
    to: Option<ActorNote>,
    #[n(3)]
    reason: Option<String>,
    #[n(4)]
    at: u64,
}

#[derive(Debug, Decode, Encode)]
#[cbor(map)]
struct ActorNote {
    #[n(0)]
    owner: PrincipalNote,
    #[n(1)]
    client: Option<String>,
}

impl From<&Principal> for ActorNote {
    fn from(actor: &Principal) -> Self {
        let client = actor.client.as_deref().map(str::to_owned);
        Self { owner: PrincipalNote::from(actor), client }
    }
}

impl From<ActorNote> for Principal {
    fn from(note: ActorNote) -> Self {
        Self { client: note.client.map(Arc::from), ..note.owner.into() }
    }
}

impl From<&Transfer> for TransferNote {
    fn from(transfer: &Transfer) -> Self {
        Self {
            way: transfer.way,
            from: transfer.from.as_ref().map(ActorNote::from),
            to: transfer.to.as_ref().map(ActorNote::from),
            reason: transfer.reason.clone(),
            at: micros(transfer.at),
        }
    }
}

impl From<TransferNote> for Transfer {
    fn from(note: TransferNote) -> Self {
        Self {
            way: note.way,
            from: note.from.map(Principal::from),
            to: note.to.map(Principal::from),
            reason: note.reason,
            at: Duration::from_micros(note.at),
        }
    }
}

impl TerminalNote {
    pub(super) fn of(terminal: &Terminal) -> Self {
        let filed = terminal.filing().clone();
        let typing = terminal.typing();
        Self {
            name: terminal.name.clone(),
            nonce: terminal.nonce.clone(),
            labels: Some(filed.labels),
            limits: Some(filed.limits),
            policy: Some(typing.arbiter.policy()),
            transfer: typing.arbiter.transfer().map(TransferNote::from),
        }
    }

    /// The terminal as the next agent has it.
    pub(super) fn recalled(self, size: Size) -> Beginning {
        let filed = Filed {
            labels: self.labels.unwrap_or_default(),
            limits: self.limits.unwrap_or_default(),
            recovered_ms: Some(unix_millis()),
            lost: None,
        };
        Beginning {
            name: self.name,
            nonce: self.nonce,
            size,
            filed,
            policy: self.policy.unwrap_or(TypingRule::UserPriority),
            transfer: self.transfer.map(Transfer::from),
        }
    }
}
