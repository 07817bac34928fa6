//! A run with every byte of its input and output, for the command line, in constant memory and over
//! as many connections as it takes.
//!
//! # Invariants
//!
//! - Each byte comes out once and in order, whatever was repeated on the way.
//! - Input that may have arrived is sent again only from where the agent says that it is.
//! - Only an authenticated end yields an exit; until then, a lost stream is resumed.

use std::io::ErrorKind;

use bytes::Bytes;
use farwire_link::inner::sealed::Writer;
use farwire_link::outer::SendHalf;
use farwire_protocol::conversation::{Counts, End, Offset, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::Class;
use farwire_protocol::streams::run::{
    Ended, Request, STDERR, STDIN, STDIN_WINDOW, STDOUT, ToBridge,
};
use tokio::sync::{mpsc, watch};

use crate::client::{Client, Server};
use crate::conversation::{
    Attempts, Carried, Carrier, Incoming, Next, NoAnswer, Remote, Trouble, Unsent, carry,
};
use crate::runs::{Conversation, control, effects, read_end};

/// What happens, in order.
#[derive(Clone, Debug)]
pub enum RunEvent {
    /// The program runs.
    Started,
    /// It waits for its turn.
    Queued,
    /// Bytes of [`STDOUT`] or [`STDERR`].
    Output(u8, Bytes),
    /// This many bytes of [`STDOUT`] and of [`STDERR`] were dropped before we could read them.
    Gap(u64, u64),
    /// The server cannot be reached; we try until it can.
    Lost(String),
    /// It can be reached again.
    Back,
}

/// Where events go. A slow reader slows the program.
pub type Events = mpsc::Sender<RunEvent>;

/// Standard input that has been read and not yet been acknowledged.
#[derive(Debug)]
struct PendingInput {
    unsent: Unsent,
    /// Where more of it comes from.
    source: Option<mpsc::Receiver<Bytes>>,
    ended: bool,
}

/// Runs it to its end, however long the server is unreachable. `stdin` ends when its sender is
/// dropped.
///
/// # Errors
///
/// Why the end is not known; for a request that starts something, whether it has started.
pub async fn stream(
    client: &Client,
    server: &Server,
    request: &Request,
    stdin: Option<mpsc::Receiver<Bytes>>,
    events: Events,
) -> Result<Ended, NoAnswer> {
    let ended = stdin.is_none();
    let mut run = RunStream {
        conversation: Conversation::new(request).map_err(NoAnswer::Failed)?,
        input: PendingInput { unsent: Unsent::default(), source: stdin, ended },
        events,
    };
    let attempts = Attempts::new(effects(request), None);
    carry(Remote::new(client, server), attempts, &mut run).await
}

struct RunStream {
    conversation: Conversation,
    input: PendingInput,
    events: Events,
}

/// What follows the first message of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Follows {
    /// The end of our direction: there is no more input.
    End,
    /// Input, at once.
    Input,
    /// Input, once the agent has said how much of it has arrived.
    InputOnceKnown,
}

impl Carried for RunStream {
    type Answer = Ended;

    async fn attempt(
        &mut self,
        remote: Remote<'_>,
        attempts: &mut Attempts,
    ) -> Result<Ended, Trouble> {
        let mut carrier = Carrier::open(remote, Class::Interactive, attempts).await?;
        let follows = match carrier.is_first() {
            _ if self.input.ended && self.input.unsent.end() == 0 => Follows::End,
            true => Follows::Input,
            false => Follows::InputOnceKnown,
        };
        let mut open = self.conversation.open(carrier.instance());
        if follows == Follows::Input {
            // If this stream is held back and arrives after another one has carried the request,
            // the agent must not pass the input on.
            open.have = Some(vec![Offset { channel: STDIN, offset: self.input.unsent.base() }]);
        }
        carrier.begin(open);
        if follows == Follows::End {
            carrier.end();
        }
        carrier.flush().await?;
        self.exchange(&mut carrier, follows).await
    }

    async fn on_fault(
        &mut self,
        _: Remote<'_>,
        trouble: &Trouble,
        attempts: &mut Attempts,
    ) -> Result<(), NoAnswer> {
        let unheard = !attempts.was_answered() && attempts.count() == 0;
        if attempts.was_sent() && (unheard || attempts.count() == 1) {
            self.tell(RunEvent::Lost(trouble.failure.message.clone())).await;
        }
        Ok(())
    }

    fn again(&mut self, next: Next) -> Result<(), Failure> {
        if next == Next::NewConversation { self.conversation.anew() } else { Ok(()) }
    }
}

impl RunStream {
    async fn tell(&self, event: RunEvent) {
        // The listener has gone; the run continues all the same.
        let _ = self.events.send(event).await;
    }

    /// Carries input and output until the program or the stream ends.
    async fn exchange(
        &mut self,
        carrier: &mut Carrier<'_>,
        follows: Follows,
    ) -> Result<Ended, Trouble> {
        let remote = carrier.remote;
        let (writer, incoming, link) = carrier.split();
        // The agent's offset in standard input; nothing is sent before it is known.
        let known = (follows == Follows::Input).then_some(self.input.unsent.base());
        let (acked, ack) = watch::channel(known);
        let mut down = Down {
            incoming,
            conversation: &mut self.conversation,
            events: &self.events,
            acked,
            taking_up: follows == Follows::InputOnceKnown,
        };
        let up = Up { input: &mut self.input, ack };
        tokio::select! {
            biased;
            outcome = down.receive() => outcome,
            trouble = up.send(writer, follows) => Err(trouble),
            () = control::attend(remote, &link) => Err(down.incoming.move_link()),
        }
    }
}

/// The receiving half of a stream.
struct Down<'a> {
    incoming: Incoming<'a>,
    conversation: &'a mut Conversation,
    events: &'a Events,
    acked: watch::Sender<Option<u64>>,
    taking_up: bool,
}

impl Down<'_> {
    async fn receive(&mut self) -> Result<Ended, Trouble> {
        loop {
            let frame = self.incoming.next().await?;
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
        // Reserve a place first: this may be cancelled at any await, and what was counted by then
        // is never sent again.
        let place = self.events.reserve().await;
        let new = self.conversation.take(channel, &bytes)?.len();
        // The listener may have gone; the run continues all the same.
        if let (1.., Ok(place)) = (new, place) {
            place.send(RunEvent::Output(channel, bytes.slice(bytes.len() - new..)));
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
                self.tell(RunEvent::Started).await;
            }
            ToBridge::Queued(_) => self.tell(RunEvent::Queued).await,
            ToBridge::Resumed(have) => {
                let at = have.iter().find(|offset| offset.channel == STDIN);
                self.acked.send_replace(Some(at.map_or(0, |offset| offset.offset)));
                self.tell(RunEvent::Back).await;
            }
            ToBridge::Ack(offset) if offset.channel == STDIN => {
                self.acked.send_replace(Some(offset.offset));
            }
            ToBridge::Gap { stdout, stderr, .. } => {
                for (channel, bytes) in [(STDOUT, stdout), (STDERR, stderr)] {
                    let at = self.conversation.have.get(channel);
                    self.conversation.have.set(channel, at.saturating_add(bytes));
                }
                self.tell(RunEvent::Gap(stdout, stderr)).await;
            }
            _ => {}
        }
    }

    async fn tell(&self, event: RunEvent) {
        // The listener has gone; the run continues all the same.
        let _ = self.events.send(event).await;
    }
}

/// The failure of an agent that acknowledges what was never sent.
const MORE: &str = "the program has had more input than was sent";

/// The sending half of a stream.
struct Up<'a> {
    input: &'a mut PendingInput,
    ack: watch::Receiver<Option<u64>>,
}

impl Up<'_> {
    /// Sends standard input from the agent's offset on. Returns only when it cannot continue from
    /// there.
    async fn send(mut self, writer: &mut Writer<SendHalf>, follows: Follows) -> Trouble {
        if follows == Follows::End {
            return std::future::pending().await;
        }
        let at = self.ack.wait_for(Option::is_some).await.map_or(None, |at| *at);
        let Some(at) = at else { return std::future::pending().await };
        if at < self.input.unsent.base() {
            let message = "the program has had less input than was acknowledged";
            return Trouble::agent_failure(Failure::new(Kind::InputUnknown, message));
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
        let PendingInput { unsent, source, ended } = &mut *self.input;
        unsent.forget(sent);
        // What was sent before and has not arrived is sent again.
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
