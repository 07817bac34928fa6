//! A run with every byte, for the command line: standard input in, standard output and error out,
//! in constant memory, over as many connections as it takes.
//!
//! # Invariants
//!
//! - Bytes come out once and in order, whatever was repeated on the way.
//! - Input that may have arrived is sent again only from where the agent says that it is.
//! - There is an exit only from an authenticated end; until then a lost stream is taken up again.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use farwire_link::inner::bridge::Link;
use farwire_link::inner::sealed::{ReadError, Reader, Writer};
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::conversation::{Counts, End, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::{Class, Reset};
use farwire_protocol::streams::run::{
    BEAT, Ended, Request, STDERR, STDIN, STDIN_WINDOW, STDOUT, ToBridge,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::client::{Client, Server, Stream, backoff, broken};
use crate::runs::answer::{carrier, is_carrier};
use crate::runs::{Conversation, Outcome, control, read_end};

/// After so much silence the stream is taken to be held back: three beats were missed.
const SILENCE: Duration = BEAT.saturating_mul(3);

/// How often the server is shown that we are here, on a link that dies of ten minutes' silence.
const ATTEND: Duration = Duration::from_secs(120);

/// What happens, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// The program runs.
    Started,
    /// It waits for its turn.
    Queued,
    /// Bytes of [`STDOUT`] or [`STDERR`].
    Output(u8, Bytes),
    /// So many bytes of [`STDOUT`] and of [`STDERR`] were dropped before we could read them.
    Gap(u64, u64),
    /// The server cannot be reached; we try until it can.
    Lost(String),
    /// It can be reached again.
    Back,
}

/// Where events go. A slow reader slows the program.
pub type Events = mpsc::Sender<Event>;

/// Standard input that has been read and not yet been acknowledged.
#[derive(Debug, Default)]
struct Unsent {
    /// The offset of the first byte.
    base: u64,
    chunks: VecDeque<Bytes>,
    ended: bool,
}

impl Unsent {
    fn end(&self) -> u64 {
        self.base + self.chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>()
    }

    /// The agent has everything before this offset.
    fn forget(&mut self, until: u64) {
        while let Some(front) = self.chunks.front_mut() {
            let gone = usize::try_from(until.saturating_sub(self.base)).unwrap_or(usize::MAX);
            if gone == 0 {
                return;
            }
            let gone = gone.min(front.len());
            self.base += gone as u64;
            drop(front.split_to(gone));
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}

/// Runs it to its end. `stdin` ends when its sender is dropped.
pub async fn stream(
    client: &Client,
    server: &Server,
    request: &Request,
    stdin: Option<mpsc::Receiver<Bytes>>,
    events: Events,
) -> Result<Ended, Failure> {
    let mut run = Run {
        conversation: Conversation::new(request)?,
        unsent: Unsent { ended: stdin.is_none(), ..Unsent::default() },
        stdin,
        events,
    };
    let mut attempt = 0;
    loop {
        let (outcome, progress) = run.once(client, server).await;
        if progress {
            attempt = 0;
        }
        let why = match outcome {
            Outcome::Done(ended) => return Ok(ended),
            Outcome::Failed(failure) if failure.kind == Kind::ConversationGone => {
                run.conversation.anew()?;
                failure
            }
            // The agent's half of the carrier broke, and the agent says so: nothing is lost.
            Outcome::Failed(failure) if failure.kind == Kind::LinkLost => failure,
            Outcome::Failed(failure) => return Err(failure),
            // What authenticates and breaks the rules is no carrier's fault.
            Outcome::Carrier(error) if !error.is_carrier() => return Err(error.into()),
            Outcome::Carrier(error) => broken(error, server),
        };
        if attempt == 0 && !progress || attempt == 1 {
            run.tell(Event::Lost(why.message)).await;
        }
        sleep(backoff(attempt)).await;
        attempt += 1;
    }
}

struct Run {
    conversation: Conversation,
    unsent: Unsent,
    stdin: Option<mpsc::Receiver<Bytes>>,
    events: Events,
}

impl Run {
    async fn tell(&self, event: Event) {
        // Whoever listened has gone: the run goes on all the same.
        let _ = self.events.send(event).await;
    }

    /// One stream's worth, and whether anything authentic came over it.
    async fn once(&mut self, client: &Client, server: &Server) -> (Outcome<Ended>, bool) {
        let taking_up = self.conversation.sent;
        let mut stream = match client.stream(server, Class::Interactive).await {
            Ok(stream) => stream,
            Err(failure) if taking_up && is_carrier(&failure) => {
                return (Outcome::Carrier(ReadError::Truncated), false);
            }
            Err(failure) => return (Outcome::Failed(failure), false),
        };
        let open = self.conversation.open();
        stream.writer.open(open);
        let quiet = self.unsent.ended && self.unsent.end() == 0;
        if quiet {
            stream.writer.end(&message(&End::default()));
        }
        if let Err(error) = stream.writer.flush().await {
            return (Outcome::Carrier(carrier(error)), false);
        }
        let reached = (client, server);
        let (outcome, progress) = self.carry(reached, &mut stream, taking_up, quiet).await;
        if let Outcome::Carrier(error) = &outcome {
            client.broke(server, &stream.link, error);
            let refused = !taking_up
                && !progress
                && matches!(error, ReadError::Reset(reset) if is_refusal(*reset));
            if refused {
                // Nobody but the relay has answered, and there is nothing that we could have started
                // there: say so instead of waiting for a server that may never come.
                let failure = match outcome {
                    Outcome::Carrier(error) => broken(error, server),
                    _ => return (outcome, progress),
                };
                return (Outcome::Failed(failure), false);
            }
        }
        (outcome, progress)
    }

    async fn carry(
        &mut self,
        (client, server): (&Client, &Server),
        stream: &mut Stream,
        taking_up: bool,
        quiet: bool,
    ) -> (Outcome<Ended>, bool) {
        let Stream { writer, reader, link } = stream;
        // Where the agent's standard input is; nothing is sent before that is known.
        let (acked, ack) = watch::channel((!taking_up).then_some(self.unsent.base));
        let mut down = Down {
            conversation: &mut self.conversation,
            events: &self.events,
            acked,
            taking_up,
            progress: false,
        };
        let up = Up { unsent: &mut self.unsent, stdin: &mut self.stdin, ack };
        let outcome = tokio::select! {
            biased;
            outcome = down.receive(reader, |bytes| link.heard(bytes)) => outcome,
            error = up.send(writer, quiet) => Outcome::Carrier(error),
            () = attend(client, server, link) => {
                down.progress = true;
                Outcome::Carrier(ReadError::Reset(Reset::Moved))
            }
        };
        (outcome, down.progress)
    }
}

/// Keeps the link alive while a stream on it may be silent for hours. Comes to an end when the stream
/// should go on over a new one.
async fn attend(client: &Client, server: &Server, link: &Link) {
    loop {
        sleep(ATTEND).await;
        if link.is_stale() {
            return;
        }
        // Whether the server can be reached shows at the stream itself.
        let _ = control::ping(client, server).await;
    }
}

/// Whether the relay says by it that it does not know where to carry the stream. Whatever else a
/// stream is reset with, it may have been cut on its way, and is worth another.
fn is_refusal(reset: Reset) -> bool {
    matches!(reset, Reset::UnknownServer | Reset::Offline | Reset::Suspended)
}

/// The receiving half of a stream.
struct Down<'a> {
    conversation: &'a mut Conversation,
    events: &'a Events,
    acked: watch::Sender<Option<u64>>,
    taking_up: bool,
    progress: bool,
}

impl Down<'_> {
    async fn receive(
        &mut self,
        reader: &mut Reader<RecvHalf>,
        heard: impl Fn(usize),
    ) -> Outcome<Ended> {
        loop {
            let frame = match timeout(SILENCE, reader.next()).await {
                Ok(Ok(frame)) => frame,
                Ok(Err(error)) => return Outcome::Carrier(error),
                // The agent speaks at least every `BEAT`: somebody holds it back.
                Err(_) => return Outcome::Carrier(ReadError::Lost(ErrorKind::TimedOut.into())),
            };
            heard(frame.payload.len());
            self.progress = true;
            let handled = match (frame.kind, frame.last) {
                (FrameKind::Data, _) => self.output(frame.channel, frame.payload).await,
                (FrameKind::Control, true) => return self.end(&frame.payload),
                (FrameKind::Control, false) => self.message(&frame.payload).await,
                (FrameKind::Open, _) => {
                    Err(Failure::new(Kind::ProtocolViolation, "an unexpected frame"))
                }
            };
            if let Err(failure) = handled {
                return Outcome::Failed(failure);
            }
        }
    }

    fn end(&self, payload: &[u8]) -> Outcome<Ended> {
        let end = read::<End>(payload);
        let nonsense = |_| Failure::new(Kind::ProtocolViolation, "an end that makes no sense");
        match end.map_err(nonsense).and_then(|end| read_end(&end, &self.conversation.have)) {
            Ok(ended) => Outcome::Done(ended),
            Err(failure) => Outcome::Failed(failure),
        }
    }

    async fn output(&mut self, channel: u8, bytes: Bytes) -> Result<(), Failure> {
        if channel != STDOUT && channel != STDERR {
            return Err(Failure::new(Kind::ProtocolViolation, "bytes of an unknown channel"));
        }
        let new = self.conversation.take(channel, &bytes)?.len();
        if new > 0 {
            self.tell(Event::Output(channel, bytes.slice(bytes.len() - new..))).await;
        }
        Ok(())
    }

    async fn message(&mut self, payload: &[u8]) -> Result<(), Failure> {
        // A message of a newer agent is skipped.
        let Ok(message) = read::<ToBridge>(payload) else { return Ok(()) };
        match message {
            ToBridge::Started(started) => {
                if self.taking_up && started.known != Some(true) {
                    // The request had not arrived before: the program has had no input.
                    self.acked.send_replace(Some(0));
                }
                self.tell(Event::Started).await;
            }
            ToBridge::Queued(_) => self.tell(Event::Queued).await,
            ToBridge::Resumed(have) => {
                let at = have.iter().find(|offset| offset.channel == STDIN);
                self.acked.send_replace(Some(at.map_or(0, |offset| offset.offset)));
                self.tell(Event::Back).await;
            }
            ToBridge::Ack(offset) if offset.channel == STDIN => {
                self.acked.send_replace(Some(offset.offset));
            }
            ToBridge::Gap { stdout, stderr, .. } => {
                for (channel, bytes) in [(STDOUT, stdout), (STDERR, stderr)] {
                    let at = self.conversation.have.get(channel);
                    self.conversation.have.set(channel, at.saturating_add(bytes));
                }
                self.tell(Event::Gap(stdout, stderr)).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn tell(&self, event: Event) {
        // Whoever listened has gone: the run goes on all the same.
        let _ = self.events.send(event).await;
    }
}

/// The sending half of a stream.
struct Up<'a> {
    unsent: &'a mut Unsent,
    stdin: &'a mut Option<mpsc::Receiver<Bytes>>,
    ack: watch::Receiver<Option<u64>>,
}

impl Up<'_> {
    /// Sends standard input from where the agent is. Comes to an end only when the stream breaks.
    async fn send(mut self, writer: &mut Writer<SendHalf>, quiet: bool) -> ReadError {
        if quiet {
            return std::future::pending().await;
        }
        match self.try_send(writer).await {
            Ok(()) => std::future::pending().await,
            // The agent wants no more, or is gone: the receiving half knows which.
            Err(_) => std::future::pending().await,
        }
    }

    async fn try_send(&mut self, writer: &mut Writer<SendHalf>) -> std::io::Result<()> {
        let gone = || std::io::Error::from(ErrorKind::BrokenPipe);
        let at = *self.ack.wait_for(Option::is_some).await.map_err(|_| gone())?;
        let mut sent = at.unwrap_or(0);
        self.unsent.forget(sent);
        // What was sent before and has not arrived goes again.
        let again: Vec<Bytes> = self.unsent.chunks.iter().cloned().collect();
        for chunk in again {
            sent += chunk.len() as u64;
            writer.data(STDIN, &chunk);
            writer.flush().await?;
        }
        while !self.unsent.ended {
            let acked = self.ack.borrow_and_update().unwrap_or(0);
            self.unsent.forget(acked);
            if sent >= acked + STDIN_WINDOW {
                self.ack.changed().await.map_err(|_| gone())?;
                continue;
            }
            let Some(stdin) = self.stdin.as_mut() else { break };
            let Some(chunk) = stdin.recv().await else { break };
            self.unsent.chunks.push_back(chunk.clone());
            sent += chunk.len() as u64;
            writer.data(STDIN, &chunk);
            writer.flush().await?;
        }
        self.unsent.ended = true;
        let mut counts = Counts::default();
        counts.set(STDIN, sent);
        writer.end(&message(&End { ends: counts.offsets(), failure: None, body: None }));
        writer.finish().await
    }
}
