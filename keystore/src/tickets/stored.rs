//! The encoding of a ticket in its file.

use std::collections::BTreeMap;

use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::id::{Id, Kind};
use farwire_protocol::outer::{MAIL_LIMIT, valid_label, valid_name};
use farwire_protocol::token;
use minicbor::{Decode, Encode};

use super::{Answered, Late, SUFFIX, Ticket, TicketState};
use crate::dir::Dir;
use crate::fault::{Damage, FileError};
use crate::file::{self, FileBody, Format};
use crate::secret::Secret;

/// Room for at most two blobs, the token, a bundle, a delegation and labels.
const LIMIT: usize = 2 * MAIL_LIMIT + token::LIMIT + 14 * 1024;

#[derive(Decode, Encode)]
#[cbor(map)]
struct TicketFile<'a> {
    /// The token's text.
    #[b(0)]
    token: &'a str,
    #[b(1)]
    name: &'a str,
    #[n(2)]
    labels: BTreeMap<String, String>,
    #[n(3)]
    created: u64,
    #[n(4)]
    delegation: Blob,
    #[n(5)]
    answer_key: Option<Secret>,
    #[n(6)]
    state: StateFile,
}

#[derive(Decode, Encode)]
enum StateFile {
    #[n(1)]
    Open,
    #[n(2)]
    Late(#[n(0)] Blob, #[n(1)] Id, #[n(2)] u64),
    #[n(3)]
    Answered(#[n(0)] AnsweredFile),
    #[n(4)]
    Alarmed(#[n(0)] Vec<Id>, #[n(1)] u64),
}

#[derive(Decode, Encode)]
#[cbor(map)]
struct AnsweredFile {
    #[n(0)]
    agent: Blob,
    #[n(1)]
    request: Blob,
    #[n(2)]
    response: Blob,
    #[n(3)]
    at: u64,
    #[n(4)]
    settled: bool,
    #[n(5)]
    reused_by: Option<Id>,
}

/// Loads the ticket of an enrollment, given as text.
pub(super) fn load(tickets: &Dir, enrollment: &str) -> Result<Option<Ticket>, FileError> {
    let name = format!("{enrollment}{SUFFIX}");
    let Some(ticket) = file::load::<Ticket>(tickets, &name)? else { return Ok(None) };
    if ticket.token.enrollment.to_string() != enrollment {
        let damage = Damage::Content("it contains another enrollment than its file name says");
        return Err(FileError::damaged(tickets.file_path(&name), damage));
    }
    Ok(Some(ticket))
}

impl FileBody for Ticket {
    const FORMAT: Format = Format { kind: "ticket", version: 1, limit: LIMIT };

    fn write(&self, out: &mut Vec<u8>) {
        let file = TicketFile {
            token: &self.token.encode(),
            name: &self.name,
            labels: self.labels.clone(),
            created: self.created,
            delegation: Blob(self.delegation.clone()),
            answer_key: self.answer_key.clone(),
            state: StateFile::from(&self.state),
        };
        minicbor::encode(&file, out).expect("a vector takes whatever is written to it");
    }

    fn read(body: &[u8]) -> Result<Self, Damage> {
        let file: TicketFile<'_> = cbor::decode(body, LIMIT)?;
        let token =
            file.token.parse().map_err(|_| Damage::Content("the token in it is invalid"))?;
        if !valid_name(file.name) || !file.labels.iter().all(|(k, v)| valid_label(k, v)) {
            return Err(Damage::Content("the server name or a label in it is invalid"));
        }
        Ok(Self {
            token,
            name: file.name.to_owned(),
            labels: file.labels,
            created: file.created,
            delegation: file.delegation.0,
            state: file.state.try_into()?,
            answer_key: file.answer_key,
        })
    }
}

impl From<&TicketState> for StateFile {
    fn from(state: &TicketState) -> Self {
        match state {
            TicketState::Open => Self::Open,
            TicketState::Late(Late { request, agent, seen }) => {
                Self::Late(Blob(request.clone()), *agent, *seen)
            }
            TicketState::Answered(answered) => Self::Answered(AnsweredFile {
                agent: Blob(answered.agent.encode()),
                request: Blob(answered.request.to_vec()),
                response: Blob(answered.response.clone()),
                at: answered.at,
                settled: answered.settled,
                reused_by: answered.reused_by,
            }),
            TicketState::Alarmed { agents, seen } => Self::Alarmed(agents.clone(), *seen),
        }
    }
}

impl TryFrom<StateFile> for TicketState {
    type Error = Damage;

    fn try_from(state: StateFile) -> Result<Self, Damage> {
        Ok(match state {
            StateFile::Open => Self::Open,
            StateFile::Late(request, agent, seen) => {
                Self::Late(Late { request: request.0, agent, seen })
            }
            StateFile::Answered(file) => {
                let agent = SignedBundle::decode_kind(&file.agent, Kind::Agent)?;
                let request = (*file.request).try_into().map_err(|_| {
                    Damage::Content("the request hash in it does not have 32 bytes")
                })?;
                let AnsweredFile { response, at, settled, reused_by, .. } = file;
                let response = response.0;
                let answered = Answered { agent, request, response, at, settled, reused_by };
                Self::Answered(Box::new(answered))
            }
            StateFile::Alarmed(agents, seen) => Self::Alarmed { agents, seen },
        })
    }
}
