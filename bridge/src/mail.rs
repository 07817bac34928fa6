//! Mail from agents that want to enroll: opened, judged, answered.
//!
//! Any process that reaches the relay does this. One at a time: under a lock, and whoever does not
//! get it leaves it to the one who has it. Each ticket is looked after for itself: what goes wrong
//! with one, at the relay or here, holds up none of the others. The answer is burned durably before
//! it is posted, so that a token lets in one agent, whatever crashes when.

use std::collections::HashSet;

use farwire_keystore::{Answered, Home, Late, Pin, Ticket, TicketState, Workspace};
use farwire_link::outer::dial::Connection;
use farwire_protocol::bundle::SignedBundle;
use farwire_protocol::cbor::Blob;
use farwire_protocol::enroll::{EnrollAnswer, Request, blob_hash};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::{Kind as IdKind, Nonce};
use farwire_protocol::outer::{MailAnswer, MailGet, MailPiece};
use futures_util::stream::{self, StreamExt as _};

use crate::machine::unix_time;

/// How long after its time a token that was used is watched for a second use, in seconds.
const WATCHED: u64 = 24 * 3600;

/// At most this many pages of mail are read, of 256 KiB each.
const MOST_PAGES: usize = 64;

/// At most this many tickets are looked after at once.
const AT_ONCE: usize = 8;

/// Who made the tokens: the files of this installation, and its workspace.
#[derive(Clone, Copy, Debug)]
pub struct Inviter<'a> {
    /// The files.
    pub home: &'a Home,
    /// The workspace.
    pub workspace: &'a Workspace,
}

/// Looks after all mail that waits, if there is any. What goes wrong with a ticket is logged, and
/// tried again the next time.
pub async fn collect(inviter: Inviter<'_>, connection: &Connection) -> Result<(), Failure> {
    let tickets = inviter.home.tickets().list()?;
    let open = |ticket: &Ticket| match &ticket.state {
        TicketState::Answered(answered) => !answered.settled,
        TicketState::Alarmed { .. } => false,
        TicketState::Open | TicketState::Late(_) => true,
    };
    let now = unix_time();
    let (waiting, mut settled): (Vec<Ticket>, Vec<Ticket>) =
        tickets.entries.into_iter().map(|(_, ticket)| ticket).partition(open);
    let over = settled.iter().any(|ticket| ticket.is_over(now));
    settled.retain(|ticket| may_be_reused(ticket, now));
    if waiting.is_empty() && settled.is_empty() && !over {
        return Ok(());
    }
    let Some(_lock) = inviter.home.mail_lock()? else { return Ok(()) };
    if let Err(failure) = watch_settled(inviter, connection, &settled).await {
        tracing::warn!(why = failure.message, "whether tokens were used again is not known");
    }
    let all = stream::iter(&waiting).for_each_concurrent(AT_ONCE, async |ticket| {
        if let Err(failure) = look_after(inviter, connection, ticket).await {
            let (server, kind) = (&ticket.name, failure.kind);
            tracing::warn!(server, %kind, why = failure.message, "an enrollment could not be completed");
        }
    });
    all.await;
    let guard = inviter.home.lock()?;
    inviter.home.tickets().sweep(&guard, unix_time())
}

/// Whether a token that let an agent in is still watched. The relay refuses requests after its
/// time.
fn may_be_reused(ticket: &Ticket, now: u64) -> bool {
    let TicketState::Answered(answered) = &ticket.state else { return false };
    answered.reused_by.is_none() && now < ticket.token.expires.saturating_add(WATCHED)
}

/// Warns of tokens with which somebody has asked after they had let an agent in: somebody else has
/// them.
async fn watch_settled(
    inviter: Inviter<'_>,
    connection: &Connection,
    settled: &[Ticket],
) -> Result<(), Failure> {
    if settled.is_empty() {
        return Ok(());
    }
    let pieces = all_pieces(connection).await?;
    for ticket in settled {
        let enrollment = &ticket.token.enrollment;
        let own = pieces.iter().filter(|piece| piece.enrollment == *enrollment);
        for (_, agent) in own.filter_map(|piece| Request::open(&ticket.token, &piece.blob).ok()) {
            let guard = inviter.home.lock()?;
            if inviter.home.tickets().reused(&guard, enrollment, &agent.id)? {
                note!(
                    "warning: after `{}` had enrolled, another agent used its token: {}; it was refused, and somebody else has the token",
                    ticket.name,
                    agent.id.fingerprint(IdKind::Agent)
                );
            }
        }
    }
    Ok(())
}

/// All mail that the relay has for this workspace, which comes in pages.
async fn all_pieces(connection: &Connection) -> Result<Vec<MailPiece>, Failure> {
    let (mut pieces, mut after) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let mail = connection.call(&MailGet { enrollment: None, after }).await?;
        pieces.extend(mail.pieces);
        // A relay that does not go on has said all that it says.
        let next = mail.next.filter(|next| after.is_none_or(|after| *next > after));
        let Some(next) = next else { break };
        after = Some(next);
    }
    Ok(pieces)
}

/// Judges the mail of one ticket, and answers it.
async fn look_after(
    inviter: Inviter<'_>,
    connection: &Connection,
    ticket: &Ticket,
) -> Result<(), Failure> {
    let enrollment = ticket.token.enrollment;
    let answered = match &ticket.state {
        TicketState::Answered(answered) => Some((**answered).clone()),
        _ => {
            let mail =
                connection.call(&MailGet { enrollment: Some(enrollment), after: None }).await?;
            let pieces = mail.pieces.iter().filter(|piece| piece.enrollment == enrollment);
            judge(inviter, ticket, &pieces.map(|piece| piece.blob.0.as_slice()).collect())?
        }
    };
    match answered {
        Some(answered) => settle(inviter, connection, enrollment, &answered).await,
        None => Ok(()),
    }
}

/// What is to be done about a ticket's mail: an answer to post, or nothing.
fn judge(
    inviter: Inviter<'_>,
    ticket: &Ticket,
    blobs: &HashSet<&[u8]>,
) -> Result<Option<Answered>, Failure> {
    let valid: Vec<(&[u8], SignedBundle)> = blobs
        .iter()
        .filter_map(|blob| Some((*blob, Request::open(&ticket.token, blob).ok()?.1)))
        .collect();
    let tickets = inviter.home.tickets();
    let guard = inviter.home.lock()?;
    match valid.as_slice() {
        [] => Ok(None),
        [(request, agent)] if ticket.is_late(unix_time()) || ticket.answer_key().is_none() => {
            let late = Late { request: request.to_vec(), agent: agent.id, seen: unix_time() };
            tickets.hold(&guard, &ticket.token.enrollment, late)?;
            note!(
                "warning: the enrollment of `{}` arrived after its token had expired; `farwire server accept {0}` shows it",
                ticket.name
            );
            Ok(None)
        }
        [(request, agent)] => {
            let answered = answer(inviter, ticket, request, agent)?;
            Ok(Some(tickets.answer(&guard, &ticket.token.enrollment, answered)?))
        }
        several => {
            let agents: Vec<_> = several.iter().map(|(_, agent)| agent.id).collect();
            tickets.alarm(&guard, &ticket.token.enrollment, &agents, unix_time())?;
            note!(
                "warning: {} different agents used the token of `{}`; all of them are refused",
                several.len(),
                ticket.name
            );
            Ok(None)
        }
    }
}

/// Seals the answer that accepts this agent.
pub fn answer(
    inviter: Inviter<'_>,
    ticket: &Ticket,
    request: &[u8],
    agent: &SignedBundle,
) -> Result<Answered, Failure> {
    let key = ticket
        .answer_key()
        .ok_or_else(|| Failure::new(Kind::TokenUsed, "the token has been used"))?;
    let identity = inviter.home.identity()?;
    let device =
        identity.ok_or_else(|| Failure::new(Kind::NotInitialized, "no identity"))?.open_public()?;
    let answer = EnrollAnswer {
        request: Blob(blob_hash(request).to_vec()),
        agent: agent.id,
        device: Blob(device.encode()),
        name: ticket.name.clone(),
        device_name: inviter.workspace.name.clone(),
    };
    let response = answer
        .seal(&ticket.token, &ticket.delegation, &key)
        .map_err(|error| Failure::caused(Kind::Internal, "the answer cannot be sealed", &error))?;
    Ok(Answered {
        agent: agent.clone(),
        request: blob_hash(request),
        response,
        at: unix_time(),
        settled: false,
        reused_by: None,
    })
}

/// Posts an answer that has been burned, and pins the server.
pub async fn settle(
    inviter: Inviter<'_>,
    connection: &Connection,
    enrollment: Nonce,
    answered: &Answered,
) -> Result<(), Failure> {
    let record = connection
        .call(&MailAnswer {
            enrollment,
            agent: Blob(answered.agent.encode()),
            blob: Blob(answered.response.clone()),
        })
        .await?;
    let ticket = inviter.home.tickets().load(&enrollment)?;
    let guard = inviter.home.lock()?;
    let pins = inviter.home.pins();
    let pin =
        Pin::new(answered.agent.clone(), ticket.token.relay.clone(), Some(record.id), unix_time());
    match pins.load(&ticket.name) {
        Ok(old) if old.bundle.id == answered.agent.id => {}
        Ok(old) => pins.replace(&guard, &ticket.name, &old.bundle.id, &pin)?,
        Err(_) => pins.add(&guard, &ticket.name, &pin)?,
    }
    inviter.home.tickets().settle(&guard, &enrollment)?;
    tracing::info!(server = ticket.name, "enrolled");
    Ok(())
}
