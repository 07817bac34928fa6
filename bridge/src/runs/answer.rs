//! A run, or part of its output, as one answer of bounded size.

use std::time::Duration;

use farwire_protocol::conversation::{Counts, read};
use farwire_protocol::failure::Failure;
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Ended, PIECE, Piece as PieceMessage, Request, ToBridge};

use crate::client::{Client, Server};
pub use crate::conversation::NoAnswer;
use crate::conversation::{Attempts, Carried, Carrier, Next, Remote, Trouble, carry};
use crate::runs::{Conversation, effects, read_end};
use crate::text::shown::Piece;

/// The largest answer that an agent may send.
const LIMIT: usize = 8 << 20;

/// What came back.
#[derive(Clone, Debug)]
pub struct RunReply {
    /// The state of the run, or how it ended.
    pub ended: Ended,
    /// The parts of the log that were asked for.
    pub pieces: Vec<Piece>,
}

/// What is reported while waiting for the answer.
#[derive(Clone, Debug)]
pub enum News {
    /// The number of lines so far, and the last line as it came.
    Progress(u64, Vec<u8>),
    /// The server is busy; the run waits for its turn.
    Queued,
    /// The request goes out for the first time, to this agent process.
    Sent(Nonce),
}

/// Sends the request until it is answered or `patience` is over.
///
/// # Errors
///
/// Why there is no answer; for a request that starts something, whether it has started.
pub async fn ask(
    client: &Client,
    server: &Server,
    request: &Request,
    patience: Duration,
    news: impl FnMut(News) + Send,
) -> Result<RunReply, NoAnswer> {
    let conversation = Conversation::new(request).map_err(NoAnswer::Failed)?;
    let attempts = Attempts::new(effects(request), Some(patience));
    carry(Remote::new(client, server), attempts, &mut Asking { conversation, news }).await
}

struct Asking<N> {
    conversation: Conversation,
    news: N,
}

impl<N: FnMut(News) + Send> Carried for Asking<N> {
    type Answer = RunReply;

    async fn attempt(
        &mut self,
        remote: Remote<'_>,
        attempts: &mut Attempts,
    ) -> Result<RunReply, Trouble> {
        let mut carrier = Carrier::open(remote, Class::Interactive, attempts).await?;
        let instance = carrier.instance();
        if carrier.is_first() {
            (self.news)(News::Sent(instance));
        }
        carrier.begin(self.conversation.open(instance));
        carrier.finish().await?;
        self.receive(&mut carrier).await
    }

    fn again(&mut self, _: Next) -> Result<(), Failure> {
        // A new stream sends the digest from its beginning: nothing of it has been shown.
        self.conversation.anew()
    }

    fn late(&self, remote: Remote<'_>, attempts: &Attempts) -> NoAnswer {
        if self.conversation.queued { NoAnswer::Queued } else { attempts.late(remote.server) }
    }
}

impl<N: FnMut(News)> Asking<N> {
    async fn receive(&mut self, carrier: &mut Carrier<'_>) -> Result<RunReply, Trouble> {
        let mut counts = Counts::default();
        let mut pieces: Vec<Piece> = Vec::new();
        loop {
            let frame = carrier.next().await?;
            match (frame.kind, frame.last) {
                (FrameKind::Data, _) if frame.channel == PIECE => {
                    let piece = pieces.last_mut();
                    let piece =
                        piece.ok_or_else(|| Trouble::nonsense("bytes without their piece"))?;
                    let counted = counts.add(PIECE, frame.payload.len());
                    if counted.is_none() || counts.get(PIECE) > LIMIT as u64 {
                        return Err(Trouble::nonsense("the answer is larger than its limit"));
                    }
                    piece.bytes.extend_from_slice(&frame.payload);
                }
                (FrameKind::Control, true) => {
                    let ended = read_end(&frame.payload, &counts)?;
                    return Ok(RunReply { ended, pieces });
                }
                (FrameKind::Control, false) => self.message(&frame.payload, &mut pieces),
                _ => return Err(Trouble::nonsense("an unexpected frame")),
            }
        }
    }

    fn message(&mut self, payload: &[u8], pieces: &mut Vec<Piece>) {
        match read(payload) {
            Ok(ToBridge::Piece(piece)) if pieces.len() < 10_000 => pieces.push(begin(&piece)),
            Ok(ToBridge::Progress { lines, last }) => (self.news)(News::Progress(lines, last.0)),
            Ok(ToBridge::Queued(_)) => {
                self.conversation.queued = true;
                (self.news)(News::Queued);
            }
            Ok(ToBridge::Started(_)) => self.conversation.queued = false,
            Ok(_) => {}
            // A message of a newer agent is skipped.
            Err(_) => tracing::debug!("the agent sent an unknown message"),
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
