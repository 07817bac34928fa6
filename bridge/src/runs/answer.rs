//! A run, or a part of one, as one answer of bounded size.

use std::time::Duration;

use farwire_link::inner::sealed::ReadError;
use farwire_protocol::conversation::{Counts, End, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::Class;
use farwire_protocol::streams::run::{Ended, PIECE, Piece as PieceMessage, Request, ToBridge};
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{Client, Server, Stream, backoff, broken};
use crate::runs::{Conversation, Outcome, read_end};
use crate::text::shown::Piece;

/// No answer of an agent is larger.
const LIMIT: usize = 8 << 20;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How the run is, or how it ended.
    pub ended: Ended,
    /// The parts of the log that were asked for.
    pub pieces: Vec<Piece>,
}

/// What is told while the answer is waited for.
#[derive(Clone, Debug)]
pub enum News {
    /// Lines so far, and the last one as it came.
    Progress(u64, Vec<u8>),
    /// The server is busy; the run waits for its turn.
    Queued,
}

/// How an answer was not had.
#[derive(Debug)]
pub enum NoAnswer {
    /// The agent, or something here, said no.
    Failed(Failure),
    /// The request may have arrived, and the server could not be reached again in time. The run may
    /// go on.
    Unreachable(Failure),
}

/// Sends the request until it is answered or `patience` is over. `effects`: whether it may start
/// something, so that not knowing is not the same as not having done it.
pub async fn ask(
    client: &Client,
    server: &Server,
    request: &Request,
    patience: Duration,
    mut news: impl FnMut(News),
) -> Result<Answer, NoAnswer> {
    let deadline = Instant::now() + patience;
    let mut conversation = Conversation::new(request).map_err(NoAnswer::Failed)?;
    let mut attempt = 0;
    loop {
        let tried = timeout_at(deadline, once(client, server, &mut conversation, &mut news)).await;
        let failure = match tried {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Outcome::Failed(failure))) if failure.kind == Kind::ConversationGone => {
                // A digest begins anew: nothing of it has been shown.
                conversation = Conversation::new(request).map_err(NoAnswer::Failed)?;
                conversation.sent = true;
                attempt += 1;
                failure
            }
            // The agent's half of the carrier broke, and the agent says so: ask again.
            Ok(Err(Outcome::Failed(failure)))
                if failure.kind == Kind::LinkLost && conversation.sent =>
            {
                conversation.anew().map_err(NoAnswer::Failed)?;
                attempt += 1;
                failure
            }
            Ok(Err(Outcome::Failed(failure))) => return Err(NoAnswer::Failed(failure)),
            Ok(Err(Outcome::Carrier(error))) => {
                if let ReadError::Bad(bad) = error {
                    return Err(NoAnswer::Failed(bad.into()));
                }
                attempt += 1;
                broken(error, server)
            }
            Ok(Err(Outcome::Done(()))) | Err(_) => {
                Failure::new(Kind::LinkLost, format!("`{}` did not answer in time", server.name))
            }
        };
        let over = Instant::now() + backoff(attempt) >= deadline;
        if over && conversation.sent {
            return Err(NoAnswer::Unreachable(failure));
        }
        let refused_before = !conversation.sent
            || matches!(
                failure.kind,
                Kind::UnknownServer | Kind::ServerSuspended | Kind::ServerOffline
            ) && attempt <= 1;
        if over || refused_before {
            return Err(NoAnswer::Failed(failure));
        }
        sleep(backoff(attempt)).await;
    }
}

async fn once(
    client: &Client,
    server: &Server,
    conversation: &mut Conversation,
    news: &mut impl FnMut(News),
) -> Result<Answer, Outcome<()>> {
    let stream = client.stream(server, Class::Interactive).await;
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(failure) if conversation.sent && is_carrier(&failure) => {
            return Err(Outcome::Carrier(ReadError::Truncated));
        }
        Err(failure) => return Err(Outcome::Failed(failure)),
    };
    // A digest is taken up by asking again: the agent answers the same request with the same run.
    let open = conversation.open();
    conversation.generation = 0;
    stream.writer.open(open);
    stream.writer.end(&farwire_protocol::conversation::message(&End::default()));
    if let Err(error) = stream.writer.finish().await {
        return Err(Outcome::Carrier(carrier(error)));
    }
    let link = stream.link.clone();
    let answered = receive(&mut stream, news).await;
    if let Err(Outcome::Carrier(error)) = &answered {
        client.broke(server, &link, error);
        // The next attempt is a conversation of its own.
        conversation.anew().map_err(Outcome::Failed)?;
    }
    answered
}

/// Whether a failure to open a stream says nothing about what was asked.
pub(crate) fn is_carrier(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        Kind::RelayUnreachable
            | Kind::LinkLost
            | Kind::ServerOffline
            | Kind::Overloaded
            | Kind::UnknownServer
    )
}

pub(crate) fn carrier(error: std::io::Error) -> ReadError {
    farwire_link::outer::reset_of(&error).map_or(ReadError::Lost(error), ReadError::Reset)
}

async fn receive(stream: &mut Stream, news: &mut impl FnMut(News)) -> Result<Answer, Outcome<()>> {
    let violation = |text: &str| Outcome::Failed(Failure::new(Kind::ProtocolViolation, text));
    let mut counts = Counts::default();
    let mut pieces: Vec<Piece> = Vec::new();
    loop {
        let frame = stream.reader.next().await.map_err(Outcome::Carrier)?;
        stream.link.heard(frame.payload.len());
        if frame.kind == FrameKind::Data && frame.channel == PIECE {
            counts.add(PIECE, frame.payload.len()).ok_or_else(|| violation("too much output"))?;
            let last = pieces.last_mut().ok_or_else(|| violation("bytes without their piece"))?;
            last.bytes.extend_from_slice(&frame.payload);
            if counts.get(PIECE) > LIMIT as u64 {
                return Err(violation("an answer over its limit"));
            }
            continue;
        }
        if frame.kind != FrameKind::Control {
            return Err(violation("an unexpected frame"));
        }
        if frame.last {
            let end: End =
                read(&frame.payload).map_err(|_| violation("an end that makes no sense"))?;
            let ended = read_end(&end, &counts).map_err(Outcome::Failed)?;
            return Ok(Answer { ended, pieces });
        }
        match read(&frame.payload) {
            Ok(ToBridge::Piece(piece)) if pieces.len() < 10_000 => pieces.push(begin(&piece)),
            Ok(ToBridge::Progress { lines, last }) => news(News::Progress(lines, last.0)),
            Ok(ToBridge::Queued(_)) => news(News::Queued),
            Ok(_) => {}
            // A message of a newer agent is skipped.
            Err(_) => tracing::debug!("a message of the agent is not known here"),
        }
    }
}

fn begin(piece: &PieceMessage) -> Piece {
    Piece {
        first_line: piece.first_line,
        starts_within: piece.starts_within.unwrap_or(false),
        ends_within: piece.ends_within.unwrap_or(false),
        offset: piece.offset,
        bytes: Vec::new(),
    }
}
