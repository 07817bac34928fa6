//! Sessions from the bridge's side: terminals that stay.
//!
//! [`ask`] sends one request and brings one answer; [`attach`] carries keys and bytes for as long as
//! somebody looks. Both may be repeated: the agent opens and types at most once for a request's id.

pub mod attach;
pub mod danger;
pub mod hands;
pub mod leases;
pub mod listed;
pub mod log;
pub mod pipes;
pub mod search;
pub mod target;
pub mod who;
pub mod window;

use std::time::Duration;

use farwire_keystore::{Class as IdClass, ShortId};
use farwire_link::inner::sealed::ReadError;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::conversation::{Counts, End, Open, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use farwire_protocol::peer;
use farwire_protocol::streams::Kind as StreamKind;
use farwire_protocol::streams::session::{Ended, Request, TEXT, ToBridge};
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Client, Server, Stream, backoff, broken, random_nonce};
use crate::runs::answer::{NoAnswer, carrier, is_carrier};
use crate::runs::record;
use crate::text::shown::Piece;

/// No answer of an agent is larger.
const LIMIT: u64 = 8 << 20;

/// No answer has more pieces.
const PIECES: usize = 1_000;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How the session is.
    pub ended: Ended,
    /// Parts of the log.
    pub pieces: Vec<Piece>,
    /// Other text: a screen.
    pub text: Vec<u8>,
}

/// Gives a session its short id.
pub fn id_of(client: &Client, server: &Server, session: Nonce) -> Result<ShortId, Failure> {
    client.ids.id_of(record(IdClass::Session, server, session))
}

/// The session that a short id stands for, and the server that has it.
pub fn find(client: &Client, id: &str) -> Result<(ShortId, Server, Nonce), Failure> {
    let found = crate::runs::find(client, id)?;
    match found.0.class {
        IdClass::Session => Ok(found),
        _ => Err(Failure::new(Kind::UnknownId, format!("`{}` is not a session", found.0))),
    }
}

/// The first message of a stream about this request.
fn open(conversation: Nonce, generation: u32, request: &Request) -> Open {
    Open {
        kind: StreamKind::Session.number(),
        conversation,
        generation,
        create: Some(Blob(cbor::encode(request))),
        have: None,
        more: None,
    }
}

/// Sends the request until it is answered or `patience` is over.
pub async fn ask(
    client: &Client,
    server: &Server,
    request: &Request,
    patience: Duration,
) -> Result<Answer, NoAnswer> {
    let deadline = Instant::now() + patience;
    let mut sent = false;
    let mut attempt = 0;
    loop {
        let failure = match timeout_at(deadline, once(client, server, request, &mut sent)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Trouble::Failed(failure))) if failure.kind != Kind::LinkLost => {
                return Err(NoAnswer::Failed(failure));
            }
            Ok(Err(Trouble::Failed(failure))) => failure,
            Ok(Err(Trouble::Carrier(ReadError::Bad(bad)))) => {
                return Err(NoAnswer::Failed(bad.into()));
            }
            Ok(Err(Trouble::Carrier(error))) => broken(error, server),
            Err(_) => {
                Failure::new(Kind::LinkLost, format!("`{}` did not answer in time", server.name))
            }
        };
        attempt += 1;
        let wait = backoff(attempt);
        let over = Instant::now() + wait >= deadline;
        let refused = matches!(
            failure.kind,
            Kind::UnknownServer | Kind::ServerSuspended | Kind::ServerOffline
        );
        match sent {
            true if over => return Err(NoAnswer::Unreachable(failure)),
            false if over || refused => return Err(NoAnswer::Failed(failure)),
            _ => sleep(wait).await,
        }
    }
}

/// Why a stream did not bring what was wanted.
#[derive(Debug)]
enum Trouble {
    /// It broke, and nobody said anything.
    Carrier(ReadError),
    /// Somebody said why.
    Failed(Failure),
}

fn violation(text: &str) -> Trouble {
    Trouble::Failed(Failure::new(Kind::ProtocolViolation, text))
}

async fn once(
    client: &Client,
    server: &Server,
    request: &Request,
    sent: &mut bool,
) -> Result<Answer, Trouble> {
    let mut stream = match client.stream(server, Class::Interactive).await {
        Ok(stream) => stream,
        Err(failure) if *sent && is_carrier(&failure) => {
            return Err(Trouble::Carrier(ReadError::Truncated));
        }
        Err(failure) => return Err(Trouble::Failed(failure)),
    };
    let conversation = random_nonce().map_err(Trouble::Failed)?;
    stream.writer.open(open(conversation, 0, request));
    stream.writer.end(&message(&End::default()));
    *sent = true;
    let written = stream.writer.finish().await;
    written.map_err(|error| Trouble::Carrier(carrier(error)))?;
    let answer = receive(&mut stream).await;
    if let Err(Trouble::Carrier(error)) = &answer {
        client.broke(server, &stream.link, error);
    }
    answer
}

async fn receive(stream: &mut Stream) -> Result<Answer, Trouble> {
    let mut counts = Counts::default();
    let mut pieces: Vec<Piece> = Vec::new();
    let mut text = Vec::new();
    loop {
        let frame = stream.reader.next().await.map_err(Trouble::Carrier)?;
        stream.link.heard(frame.payload.len());
        match (frame.kind, frame.last) {
            (FrameKind::Data, _) if frame.channel == TEXT => {
                counts.add(TEXT, frame.payload.len()).ok_or_else(|| violation("too much text"))?;
                if counts.get(TEXT) > LIMIT {
                    return Err(violation("an answer over its limit"));
                }
                let to = pieces.last_mut().map_or(&mut text, |piece| &mut piece.bytes);
                to.extend_from_slice(&frame.payload);
            }
            (FrameKind::Control, true) => {
                let end: End =
                    read(&frame.payload).map_err(|_| violation("an end that makes no sense"))?;
                let ended = ended(&end).map_err(Trouble::Failed)?;
                counts.check(&end.ends).map_err(|_| violation("the text does not add up"))?;
                return Ok(Answer { ended, pieces, text });
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

/// What an end says.
fn ended(end: &End) -> Result<Ended, Failure> {
    if let Some(failure) = &end.failure {
        return Err(failure.clone());
    }
    let nonsense = || Failure::new(Kind::ProtocolViolation, "an end that makes no sense");
    let body = end.body.as_ref().ok_or_else(nonsense)?;
    peer::decode(body, 64 << 10).map_err(|_| nonsense())
}
