//! Sessions from the bridge's side: terminals that persist.
//!
//! [`ask`] sends one request and returns one answer; [`attach`] carries keys and bytes for as long
//! as a person is attached. Both may be repeated: the agent opens and types at most once for a
//! request's id.

pub mod attach;
pub mod commands;
pub mod control;
pub mod danger;
pub mod find;
pub mod leases;
pub mod log;
pub mod pipes;
pub mod search;
pub mod target;
pub mod window;

use std::time::Duration;

use farwire_keystore::{Class as IdClass, JobOrigin};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::conversation::{Counts, End, Open, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use farwire_protocol::peer;
use farwire_protocol::streams::Kind as StreamKind;
use farwire_protocol::streams::session::Action;
use farwire_protocol::streams::session::{Command, Ended, Request, TEXT, ToBridge};

use crate::client::{Client, Server};
use crate::conversation::{
    self, Attempts, Carried, Carrier, Effects, NoAnswer, Remote, Trouble, carry,
};
use crate::machine::random_nonce;
use crate::runs::record;
use crate::text::shown::Piece;
use crate::unsettled::Ordered;

/// The largest answer that an agent may send.
const LIMIT: u64 = 8 << 20;

/// The most pieces that an answer may have.
const PIECES: usize = 1_000;

/// What came back.
#[derive(Clone, Debug)]
pub struct SessionReply {
    /// The state of the session.
    pub ended: Ended,
    /// Parts of the log.
    pub pieces: Vec<Piece>,
    /// Other text: a screen.
    pub text: Vec<u8>,
}

/// How a command has ended: `exit=3`, `ended` where the shell did not say how, or `running`.
pub fn exit(command: &Command) -> String {
    match (command.exit, command.end) {
        (Some(code), _) => format!("exit={code}"),
        (None, Some(_)) => "ended".to_owned(),
        (None, None) => "running".to_owned(),
    }
}

/// Says that not all of the input was typed, if that is so.
pub fn untyped(ended: &Ended) -> Option<String> {
    let left = ended.left.filter(|left| *left > 0)?;
    Some(match ended.typed {
        Some(0) => "nothing was typed".to_owned(),
        Some(typed) => format!("only {typed} of {} bytes were typed", typed.saturating_add(left)),
        // The answer does not say how much was typed.
        None => format!("{left} bytes were not typed"),
    })
}

/// The first message of a stream about this request.
fn open(conversation: Nonce, generation: u32, request: &Request) -> Open {
    let create = Some(Blob(cbor::encode(request)));
    conversation::open(StreamKind::Session, conversation, generation, create)
}

/// A request that starts something or types names the agent process to which it is first sent, so
/// that no other process ever carries it out.
fn name_instance(request: &mut Request, instance: Nonce) {
    match request {
        Request::Open(start) => start.instance = instance,
        Request::Send(send) => send.instance = instance,
        _ => {}
    }
}

/// What a second copy of a request would do.
fn effects(request: &Request) -> Effects {
    match request {
        // Without input it only looks.
        Request::Send(send) if send.input.is_empty() => Effects::None,
        // The agent opens and types at most once for their ids.
        Request::Open(_) | Request::Send(_) => Effects::Once,
        Request::Control(control) => match control.action {
            // Setting the same value twice changes nothing.
            Action::Acquire(_)
            | Action::Release
            | Action::Rule(_)
            | Action::Resize(_)
            | Action::Limits(_)
            | Action::Label(_)
            | Action::Close => Effects::Once,
            _ => Effects::Each,
        },
        _ => Effects::None,
    }
}

/// Sends the request until it is answered or `patience` is over.
///
/// # Errors
///
/// Why there is no answer; `outcome_unknown` with the session's id for a request that may have
/// changed something.
pub async fn ask(
    client: &Client,
    server: &Server,
    request: &Request,
    patience: Duration,
) -> Result<SessionReply, NoAnswer> {
    let answer = answer(client, server, request.clone(), patience).await;
    answer.map_err(|no| {
        NoAnswer::Failed(match effects(request) {
            Effects::None => no.failure(),
            Effects::Once | Effects::Each => outcome(Remote::new(client, server), request, no),
        })
    })
}

/// The failure when a request that acts was not answered.
fn outcome(remote: Remote<'_>, request: &Request, no: NoAnswer) -> Failure {
    // A refused session does not exist, and gets no short id.
    if matches!(&no, NoAnswer::Failed(failure) if failure.kind != Kind::OutcomeUnknown) {
        return no.failure();
    }
    let (session, asked, what) = match request {
        // The session has the id of the request, which may still come.
        Request::Open(start) => (start.request, JobOrigin::Here, "was opened"),
        Request::Send(send) => (send.session, JobOrigin::Elsewhere, "has got what was typed"),
        Request::Control(control) => (control.session, JobOrigin::Elsewhere, "has changed"),
        _ => return no.failure(),
    };
    let Remote { client, server } = remote;
    match client.ids.id_of(record(IdClass::Session, asked, server, session)) {
        Ok(id) => no.outcome(
            &format!("`{id}` {what}"),
            &format!("check before you do it again: `status` lists `{id}`, `output {id}` shows it"),
        ),
        Err(_) => no.outcome(
            &format!("the session {what}"),
            "check before you do it again: `status` lists what is open",
        ),
    }
}

async fn answer(
    client: &Client,
    server: &Server,
    request: Request,
    patience: Duration,
) -> Result<SessionReply, NoAnswer> {
    conversation::fits(&request).map_err(NoAnswer::Failed)?;
    let attempts = Attempts::new(effects(&request), Some(patience));
    let order = match &request {
        Request::Control(control) => Some(client.unsettled.begin(control.session)),
        _ => None,
    };
    let order = order.transpose().map_err(NoAnswer::Failed)?;
    let mut asking = Asking { request, order };
    let answer = carry(Remote::new(client, server), attempts, &mut asking).await;
    if let (Ok(_), Some(order)) = (&answer, asking.order) {
        order.settle();
    }
    answer
}

struct Asking<'a> {
    request: Request,
    /// What is done is done in the order in which it was asked for.
    order: Option<Ordered<'a>>,
}

impl Carried for Asking<'_> {
    type Answer = SessionReply;

    async fn attempt(
        &mut self,
        remote: Remote<'_>,
        attempts: &mut Attempts,
    ) -> Result<SessionReply, Trouble> {
        let mut carrier = Carrier::open(remote, Class::Interactive, attempts).await?;
        if carrier.is_first() {
            name_instance(&mut self.request, carrier.instance());
        }
        let (conversation, generation) = match &mut self.order {
            Some(order) => order.advance(),
            None => (random_nonce().map_err(Trouble::here)?, 0),
        };
        carrier.begin(open(conversation, generation, &self.request));
        carrier.finish().await?;
        receive(&mut carrier).await
    }
}

async fn receive(carrier: &mut Carrier<'_>) -> Result<SessionReply, Trouble> {
    let violation = Trouble::nonsense;
    let mut counts = Counts::default();
    let mut pieces: Vec<Piece> = Vec::new();
    let mut text = Vec::new();
    loop {
        let frame = carrier.next().await?;
        match (frame.kind, frame.last) {
            (FrameKind::Data, _) if frame.channel == TEXT => {
                counts.add(TEXT, frame.payload.len()).ok_or_else(|| violation("too much text"))?;
                if counts.get(TEXT) > LIMIT {
                    return Err(violation("the answer is larger than its limit"));
                }
                let to = pieces.last_mut().map_or(&mut text, |piece| &mut piece.bytes);
                to.extend_from_slice(&frame.payload);
            }
            (FrameKind::Control, true) => {
                let end: End = read(&frame.payload)
                    .map_err(|_| violation("the end of the stream is malformed"))?;
                let ended = read_end(&end)?;
                counts.check(&end.ends).map_err(|_| violation("the text does not add up"))?;
                return Ok(SessionReply { ended, pieces, text });
            }
            (FrameKind::Control, false) => {
                if let Ok(ToBridge::Piece(piece)) = read(&frame.payload)
                    && pieces.len() < PIECES
                {
                    pieces.push(Piece {
                        first_line: piece.first_line,
                        starts_within: piece.starts_within.unwrap_or(false),
                        ends_within: piece.ends_within.unwrap_or(false),
                        offset: piece.offset,
                        bytes: Vec::new(),
                    });
                }
            }
            _ => return Err(violation("an unexpected frame")),
        }
    }
}

/// Reads the end of a stream.
fn read_end(end: &End) -> Result<Ended, Trouble> {
    if let Some(failure) = &end.failure {
        return Err(Trouble::agent_failure(failure.clone()));
    }
    let nonsense = || Trouble::nonsense("the end of the stream is malformed");
    let body = end.body.as_ref().ok_or_else(nonsense)?;
    peer::decode(body, 64 << 10).map_err(|_| nonsense())
}
