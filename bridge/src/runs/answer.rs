//! A run, or a part of one, as one answer of bounded size.

use std::time::Duration;

use farwire_link::inner::bridge::Link;
use farwire_link::inner::sealed::Reader;
use farwire_link::outer::RecvHalf;
use farwire_protocol::conversation::{Counts, End, message, read};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::run::{Ended, PIECE, Piece as PieceMessage, Request, ToBridge};

use crate::client::{Client, Server};
pub use crate::conversation::NoAnswer;
use crate::conversation::{Attempts, Trouble};
use crate::runs::{Conversation, effects, read_end};
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
    /// The request goes out for the first time, to this agent process.
    Sent(Nonce),
}

/// Sends the request until it is answered or `patience` is over.
///
/// # Errors
///
/// Why there is no answer; for a request that starts something, whether that is known.
pub async fn ask(
    client: &Client,
    server: &Server,
    request: &Request,
    patience: Duration,
    mut news: impl FnMut(News),
) -> Result<Answer, NoAnswer> {
    let mut conversation = Conversation::new(request).map_err(NoAnswer::Failed)?;
    let mut attempts = Attempts::new(effects(request), Some(patience));
    loop {
        let state = (&mut conversation, &mut attempts);
        let trouble = match once((client, server), state, &mut news).await {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(trouble)) => trouble,
            None if conversation.queued => return Err(NoAnswer::Queued),
            None => return Err(attempts.late(server)),
        };
        attempts.follow((client, server), trouble).await?;
        // A digest begins anew: nothing of it has been shown.
        conversation.anew().map_err(|failure| attempts.give_up(failure))?;
    }
}

/// One stream's worth; nothing when the time is up.
async fn once(
    (client, server): (&Client, &Server),
    (conversation, attempts): (&mut Conversation, &mut Attempts),
    news: &mut impl FnMut(News),
) -> Option<Result<Answer, Trouble>> {
    let mut stream = match attempts.within(client.stream(server, Class::Interactive)).await? {
        Ok(stream) => stream,
        Err(trouble) => return Some(Err(trouble)),
    };
    let instance = stream.link.accept().instance;
    stream.writer.open(conversation.open(instance));
    if !attempts.was_sent() {
        news(News::Sent(instance));
    }
    stream.writer.end(&message(&End::default()));
    attempts.sent();
    let mut heard = false;
    let answering = async {
        let written = stream.writer.finish().await;
        written.map_err(|error| Trouble::unwritten(error, server))?;
        let mut receiving = Receiving { server, conversation, heard: &mut heard, news };
        receiving.receive(&mut stream.reader, &stream.link).await
    };
    let answered = attempts.within(answering).await;
    if heard {
        attempts.heard();
    }
    Some(answered?.map_err(|trouble| trouble.on(&stream.link)))
}

struct Receiving<'a, N> {
    server: &'a Server,
    conversation: &'a mut Conversation,
    heard: &'a mut bool,
    news: &'a mut N,
}

impl<N: FnMut(News)> Receiving<'_, N> {
    async fn receive(
        &mut self,
        reader: &mut Reader<RecvHalf>,
        link: &Link,
    ) -> Result<Answer, Trouble> {
        let mut counts = Counts::default();
        let mut pieces: Vec<Piece> = Vec::new();
        loop {
            let frame = reader.next().await;
            let frame = frame.map_err(|error| Trouble::broken(error, self.server))?;
            link.heard(frame.payload.len());
            *self.heard = true;
            match (frame.kind, frame.last) {
                (FrameKind::Data, _) if frame.channel == PIECE => {
                    let piece = pieces.last_mut();
                    let piece =
                        piece.ok_or_else(|| Trouble::nonsense("bytes without their piece"))?;
                    let counted = counts.add(PIECE, frame.payload.len());
                    if counted.is_none() || counts.get(PIECE) > LIMIT as u64 {
                        return Err(Trouble::nonsense("an answer over its limit"));
                    }
                    piece.bytes.extend_from_slice(&frame.payload);
                }
                (FrameKind::Control, true) => {
                    let ended = read_end(&frame.payload, &counts)?;
                    return Ok(Answer { ended, pieces });
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
