//! A run with every byte, for the command line: standard input in, standard output and error out,
//! in constant memory, over as many connections as it takes.
//!
//! # Invariants
//!
//! - Bytes come out once and in order, whatever was repeated on the way.
//! - Input that may have arrived is sent again only from where the agent says that it is.
//! - There is an exit only from an authenticated end; until then a lost stream is taken up again.

use std::io::ErrorKind;

use bytes::Bytes;
use farwire_link::inner::sealed::{ReadError, Reader, Writer};
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::conversation::{Counts, End, Offset, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::{Class, Reset};
use farwire_protocol::streams::run::{
    Ended, Request, STDERR, STDIN, STDIN_WINDOW, STDOUT, ToBridge,
};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::client::{Client, Server, Stream};
use crate::conversation::{Attempts, Next, NoAnswer, SILENCE, Trouble, Unsent, attend};
use crate::runs::{Conversation, effects, read_end};

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
#[derive(Debug)]
struct Input {
    unsent: Unsent,
    /// Where more of it comes from.
    source: Option<mpsc::Receiver<Bytes>>,
    ended: bool,
}

/// Runs it to its end, however long the server cannot be reached. `stdin` ends when its sender is dropped.
///
/// # Errors
///
/// Why there is no end; for a request that starts something, whether that is known.
pub async fn stream(
    client: &Client,
    server: &Server,
    request: &Request,
    stdin: Option<mpsc::Receiver<Bytes>>,
    events: Events,
) -> Result<Ended, NoAnswer> {
    let ended = stdin.is_none();
    let mut run = Run {
        conversation: Conversation::new(request).map_err(NoAnswer::Failed)?,
        input: Input { unsent: Unsent::default(), source: stdin, ended },
        events,
    };
    let mut attempts = Attempts::new(effects(request), None);
    loop {
        let (outcome, heard) = run.once((client, server), &mut attempts).await;
        let trouble = match outcome {
            Ok(ended) => return Ok(ended),
            Err(trouble) => trouble,
        };
        if attempts.was_sent() && (!heard && attempts.count() == 0 || attempts.count() == 1) {
            run.tell(Event::Lost(trouble.failure.message.clone())).await;
        }
        if attempts.follow((client, server), trouble).await? == Next::NewConversation {
            run.conversation.anew().map_err(|failure| attempts.give_up(failure))?;
        }
    }
}

struct Run {
    conversation: Conversation,
    input: Input,
    events: Events,
}

impl Run {
    async fn tell(&self, event: Event) {
        // Whoever listened has gone: the run goes on all the same.
        let _ = self.events.send(event).await;
    }

    /// One stream's worth, and whether anything authentic came over it.
    async fn once(
        &mut self,
        (client, server): (&Client, &Server),
        attempts: &mut Attempts,
    ) -> (Result<Ended, Trouble>, bool) {
        let taking_up = attempts.was_sent();
        let mut stream = match client.stream(server, Class::Interactive).await {
            Ok(stream) => stream,
            Err(trouble) => return (Err(trouble), false),
        };
        let quiet = self.input.ended && self.input.unsent.end() == 0;
        let mut open = self.conversation.open(stream.link.accept().instance);
        if !taking_up && !quiet {
            // Input follows at once. Should this be held back and come after another stream has carried the request, the
            // agent must not pass it on.
            open.have = Some(vec![Offset { channel: STDIN, offset: self.input.unsent.base() }]);
        }
        stream.writer.open(open);
        attempts.sent();
        if quiet {
            stream.writer.end(&message(&End::default()));
        }
        if let Err(error) = stream.writer.flush().await {
            return (Err(Trouble::unwritten(error, server).on(&stream.link)), false);
        }
        let (outcome, heard) = self.carry((client, server), &mut stream, (taking_up, quiet)).await;
        if heard {
            attempts.heard();
        }
        (outcome.map_err(|trouble| trouble.on(&stream.link)), heard)
    }

    async fn carry(
        &mut self,
        (client, server): (&Client, &Server),
        stream: &mut Stream,
        (taking_up, quiet): (bool, bool),
    ) -> (Result<Ended, Trouble>, bool) {
        let Stream { writer, reader, link } = stream;
        // Where the agent's standard input is; nothing is sent before that is known.
        let (acked, ack) = watch::channel((!taking_up).then_some(self.input.unsent.base()));
        let mut down = Down {
            server,
            conversation: &mut self.conversation,
            events: &self.events,
            acked,
            taking_up,
            heard: false,
        };
        let up = Up { input: &mut self.input, ack };
        let outcome = tokio::select! {
            biased;
            outcome = down.receive(reader, |bytes| link.heard(bytes)) => outcome,
            trouble = up.send(writer, quiet) => Err(trouble),
            () = attend(client, server, link) => {
                down.heard = true;
                Err(Trouble::broken(ReadError::Reset(Reset::Moved), server))
            }
        };
        (outcome, down.heard)
    }
}

/// The receiving half of a stream.
struct Down<'a> {
    server: &'a Server,
    conversation: &'a mut Conversation,
    events: &'a Events,
    acked: watch::Sender<Option<u64>>,
    taking_up: bool,
    /// Something authentic has come.
    heard: bool,
}

impl Down<'_> {
    async fn receive(
        &mut self,
        reader: &mut Reader<RecvHalf>,
        heard: impl Fn(usize),
    ) -> Result<Ended, Trouble> {
        loop {
            // The agent speaks at least every `BEAT`: somebody holds it back.
            let frame = timeout(SILENCE, reader.next()).await;
            let frame = frame.map_err(|_| Trouble::silent(self.server))?;
            let frame = frame.map_err(|error| Trouble::broken(error, self.server))?;
            heard(frame.payload.len());
            self.heard = true;
            match (frame.kind, frame.last) {
                (FrameKind::Data, _) => self.output(frame.channel, frame.payload).await?,
                (FrameKind::Control, true) => {
                    return read_end(&frame.payload, &self.conversation.have);
                }
                (FrameKind::Control, false) => self.message(&frame.payload).await,
                (FrameKind::Open, _) => return Err(Trouble::nonsense("an unexpected frame")),
            }
        }
    }

    async fn output(&mut self, channel: u8, bytes: Bytes) -> Result<(), Trouble> {
        if channel != STDOUT && channel != STDERR {
            return Err(Trouble::nonsense("bytes of an unknown channel"));
        }
        // First a place for it: this may be cut off at any wait, and what was counted by then is never sent again.
        let place = self.events.reserve().await;
        let new = self.conversation.take(channel, &bytes)?.len();
        // Whoever listened may have gone: the run goes on all the same.
        if let (1.., Ok(place)) = (new, place) {
            place.send(Event::Output(channel, bytes.slice(bytes.len() - new..)));
        }
        Ok(())
    }

    async fn message(&mut self, payload: &[u8]) {
        // A message of a newer agent is skipped.
        let Ok(message) = read::<ToBridge>(payload) else { return };
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
    }

    async fn tell(&self, event: Event) {
        // Whoever listened has gone: the run goes on all the same.
        let _ = self.events.send(event).await;
    }
}

/// An agent acknowledges what was never sent.
const MORE: &str = "the program has had more input than was sent";

/// The sending half of a stream.
struct Up<'a> {
    input: &'a mut Input,
    ack: watch::Receiver<Option<u64>>,
}

impl Up<'_> {
    /// Sends standard input from where the agent is. Ends only when it cannot go on from there.
    async fn send(mut self, writer: &mut Writer<SendHalf>, quiet: bool) -> Trouble {
        if quiet {
            return std::future::pending().await;
        }
        let at = self.ack.wait_for(Option::is_some).await.map_or(None, |at| *at);
        let Some(at) = at else { return std::future::pending().await };
        if at < self.input.unsent.base() {
            let message = "the program has had less input than was acknowledged";
            return Trouble::said(Failure::new(Kind::InputUnknown, message));
        }
        if at > self.input.unsent.end() {
            return Trouble::nonsense(MORE);
        }
        // When the agent wants no more, or is gone, the receiving half knows which.
        match self.send_from(at, writer).await {
            Err(error) if error.kind() == ErrorKind::InvalidData => Trouble::nonsense(MORE),
            _ => std::future::pending().await,
        }
    }

    async fn send_from(
        &mut self,
        mut sent: u64,
        writer: &mut Writer<SendHalf>,
    ) -> std::io::Result<()> {
        let gone = || std::io::Error::from(ErrorKind::BrokenPipe);
        let Input { unsent, source, ended } = &mut *self.input;
        unsent.forget(sent);
        // What was sent before and has not arrived goes again.
        let again: Vec<Bytes> = unsent.chunks().cloned().collect();
        for chunk in again {
            sent += chunk.len() as u64;
            writer.data(STDIN, &chunk);
            writer.flush().await?;
        }
        if let Some(source) = source.as_mut().filter(|_| !*ended) {
            loop {
                let acked = self.ack.borrow_and_update().unwrap_or(0);
                if acked > sent {
                    return Err(ErrorKind::InvalidData.into());
                }
                unsent.forget(acked);
                if sent >= acked.saturating_add(STDIN_WINDOW) {
                    self.ack.changed().await.map_err(|_| gone())?;
                    continue;
                }
                let Some(chunk) = source.recv().await else { break };
                unsent.push(chunk.clone());
                sent += chunk.len() as u64;
                writer.data(STDIN, &chunk);
                writer.flush().await?;
            }
        }
        *ended = true;
        let mut counts = Counts::default();
        counts.set(STDIN, sent);
        writer.end(&message(&End { ends: counts.offsets(), failure: None, body: None }));
        writer.finish().await
    }
}
