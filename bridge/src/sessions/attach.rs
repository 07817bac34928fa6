//! A person at a terminal: keys go out and bytes come back, over as many streams as it takes.
//!
//! # Invariants
//!
//! - A key is typed once: what may have arrived is sent again only from where the agent says that
//!   it is.
//! - Bytes come in the order of the log. If some are skipped, the screen is sent in their place.

use std::time::Duration;

use bytes::Bytes;
use farwire_link::inner::sealed::Writer;
use farwire_link::outer::SendHalf;
use farwire_protocol::conversation::{End, message, read};
use farwire_protocol::failure::Failure;
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::session::TypingRights;
use farwire_protocol::streams::session::{
    Attach, Attached, Ended, KEYS, KEYS_WINDOW, LIVELY, PULSE, Request, Size, TERMINAL, ToAgent,
    ToBridge,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{effects, name_instance, open, read_end};
use crate::client::{Client, Server};
use crate::conversation::{
    Attempts, Carried, Carrier, Incoming, NoAnswer, Remote, Trouble, Unsent, carry, fits,
};
use crate::machine::random_nonce;
use crate::runs::control;

/// How long to keep trying to reach a session that has not been seen yet.
const PATIENCE: Duration = Duration::from_secs(30);

/// After this many more bytes were shown, that is acknowledged at once.
const SEEN_MUCH: u64 = 64 << 10;

/// More than this is a flood, and is acknowledged soon.
const SEEN_LITTLE: u64 = 4 << 10;
const SEEN_SOON: Duration = Duration::from_millis(10);

/// Smaller amounts, such as echoed keys, are acknowledged later.
const SEEN_LATE: Duration = Duration::from_millis(250);

/// What the person does.
#[derive(Clone, Debug)]
pub enum Do {
    /// Types.
    Type(Bytes),
    /// The terminal now has this size.
    Resize(Size),
    /// Takes the keyboard from its holder.
    Take,
    /// Releases the keyboard.
    Release,
    /// Leaves.
    Detach,
}

/// What happens, in order.
#[derive(Clone, Debug)]
pub enum AttachEvent {
    /// The session exists.
    Attached(Attached),
    /// The screen is redrawn from scratch: what is shown now is void.
    Screen,
    /// Output of the terminal.
    Bytes(Bytes),
    /// What was typed was not passed on.
    Refused(Failure),
    /// Who may type now.
    Typing(Box<TypingRights>),
    /// The server cannot be reached; we try until it can.
    Lost(String),
    /// It can be reached again; this many typed bytes may be lost.
    Back(u64),
}

/// How it ended.
#[derive(Debug)]
pub enum Left {
    /// The program ended.
    Ended(Box<Ended>),
    /// We left.
    Detached,
}

/// How much of what was typed the agent has taken.
#[derive(Clone, Copy, Debug)]
enum Taken {
    Until(u64),
    /// It does not know, and counts from zero again: what was sent and not acknowledged may have
    /// been typed.
    Unknown,
}

struct Attachment {
    conversation: Nonce,
    generation: u32,
    first: Request,
    read_only: bool,
    session: Option<Nonce>,
    /// Our offset in the log; none when what is shown is void.
    offset: Option<u64>,
    size: Option<Size>,
    /// The keyboard was requested while the server could not be reached.
    takes: bool,
    /// Typed, and not yet taken.
    unsent: Unsent,
    /// How much of what was typed has been sent on some stream.
    sent: u64,
    todo: mpsc::Receiver<Do>,
    events: mpsc::Sender<AttachEvent>,
    /// How many bytes were passed on, over all streams.
    told: u64,
    /// How many of them were shown.
    shown: watch::Receiver<u64>,
}

/// The channels between the terminal's side and the side that carries it.
#[derive(Debug)]
pub struct Talk {
    /// What the person does.
    pub todo: mpsc::Receiver<Do>,
    /// What happens.
    pub events: mpsc::Sender<AttachEvent>,
    /// How many bytes of [`AttachEvent::Bytes`] have been shown.
    pub shown: watch::Receiver<u64>,
}

/// Attaches until the program ends or we leave. `first` opens the session or attaches to it.
pub async fn attach(
    client: &Client,
    server: &Server,
    first: Request,
    Talk { todo, events, shown }: Talk,
) -> Result<Left, Failure> {
    fits(&first)?;
    let read_only = matches!(&first, Request::Attach(Attach { read_only: Some(true), .. }));
    let mut here = Attachment {
        conversation: random_nonce()?,
        generation: 0,
        first,
        read_only,
        session: None,
        offset: None,
        size: None,
        takes: false,
        unsent: Unsent::default(),
        sent: 0,
        todo,
        events,
        told: 0,
        shown,
    };
    let attempts = Attempts::new(effects(&here.first), Some(PATIENCE));
    let left = carry(Remote::new(client, server), attempts, &mut here).await;
    left.map_err(|no| no.outcome("it was opened", "`farwire sessions` lists what is open"))
}

impl Carried for Attachment {
    type Answer = Left;
    const BOUNDED: bool = false;

    async fn attempt(
        &mut self,
        remote: Remote<'_>,
        attempts: &mut Attempts,
    ) -> Result<Left, Trouble> {
        let opened = tokio::select! {
            opened = remote.client.stream(remote.server, Class::Interactive) => opened,
            // An unreachable server does not keep anybody from leaving.
            () = self.leave() => return Ok(Left::Detached),
        };
        let mut carrier = Carrier::on(opened?, remote, attempts);
        if carrier.is_first() {
            name_instance(&mut self.first, carrier.instance());
        }
        carrier.begin(open(self.conversation, self.generation, &self.request()));
        let again = self.generation > 0;
        self.generation += 1;
        carrier.flush().await?;
        self.exchange(&mut carrier, again).await
    }

    async fn on_fault(
        &mut self,
        _: Remote<'_>,
        trouble: &Trouble,
        attempts: &mut Attempts,
    ) -> Result<(), NoAnswer> {
        if self.session.is_some() {
            // The session exists; from now on, keep trying until the person leaves.
            attempts.observe_only();
        }
        if attempts.count() == 1 {
            // This message is written over what is shown.
            self.offset = None;
            self.tell(AttachEvent::Lost(trouble.failure.message.clone())).await;
        }
        Ok(())
    }

    async fn abandoned(&mut self) -> Left {
        self.leave().await;
        Left::Detached
    }
}

impl Attachment {
    async fn tell(&self, event: AttachEvent) {
        // The viewer has gone: detach.
        let _ = self.events.send(event).await;
    }

    /// Buffers what is typed meanwhile. Returns when the person leaves.
    async fn leave(&mut self) {
        loop {
            match self.todo.recv().await {
                None | Some(Do::Detach) => return,
                Some(Do::Type(bytes)) => {
                    // Typed blindly; only a little of it is kept.
                    if self.unsent.len() < 4096 {
                        self.unsent.push(bytes);
                    }
                }
                Some(Do::Resize(size)) => self.size = Some(size),
                Some(Do::Take) => self.takes = true,
                Some(Do::Release) => self.takes = false,
            }
        }
    }

    fn request(&self) -> Request {
        match self.session {
            None => self.first.clone(),
            Some(session) => Request::Attach(Attach {
                session,
                read_only: Some(self.read_only),
                size: self.size.filter(|_| !self.read_only),
                from: self.offset,
            }),
        }
    }

    /// Carries keys and bytes until the program or the stream ends, or the person leaves.
    async fn exchange(&mut self, carrier: &mut Carrier<'_>, again: bool) -> Result<Left, Trouble> {
        let remote = carrier.remote;
        let (writer, incoming, link) = carrier.split();
        let (taken, acks) = watch::channel(None);
        let mut down = Down {
            incoming,
            session: &mut self.session,
            offset: &mut self.offset,
            events: &self.events,
            taken,
            typed: (self.unsent.base(), self.sent),
            again,
            screen: 0,
            told: &mut self.told,
        };
        let seen = Seen::new(self.shown.clone(), *down.told);
        let (unsent, todo, size) = (&mut self.unsent, &mut self.todo, &mut self.size);
        let takes = &mut self.takes;
        let up = Up { unsent, sent: &mut self.sent, todo, size, takes, acks, seen };
        let outcome = tokio::select! {
            biased;
            outcome = down.receive() => outcome,
            left = up.send(writer) => left,
            () = control::attend(remote, &link) => Err(down.incoming.move_link()),
        };
        if down.screen > 0 {
            // Only part of the screen has been drawn: redraw it.
            *down.offset = None;
        }
        outcome
    }
}

struct Down<'a> {
    incoming: Incoming<'a>,
    session: &'a mut Option<Nonce>,
    offset: &'a mut Option<u64>,
    events: &'a mpsc::Sender<AttachEvent>,
    taken: watch::Sender<Option<Taken>>,
    /// How much had been sent before this stream: acknowledged, and altogether.
    typed: (u64, u64),
    again: bool,
    /// This many bytes of a screen are still to come.
    screen: u64,
    told: &'a mut u64,
}

impl Down<'_> {
    async fn receive(&mut self) -> Result<Left, Trouble> {
        loop {
            let frame = self.incoming.next().await?;
            match (frame.kind, frame.last) {
                (FrameKind::Data, _) if frame.channel == TERMINAL => {
                    // Reserve a place first: this may be cancelled at any await, and what was
                    // counted by then is never sent again.
                    let place = self.events.reserve().await;
                    let length = frame.payload.len() as u64;
                    let drawn = length.min(self.screen);
                    self.screen -= drawn;
                    if let Some(offset) = self.offset {
                        *offset = offset.saturating_add(length - drawn);
                    }
                    *self.told += length;
                    if let Ok(place) = place {
                        place.send(AttachEvent::Bytes(frame.payload));
                    }
                }
                (FrameKind::Control, true) => {
                    let end: End = read(&frame.payload).map_err(|_| nonsense())?;
                    let ended = read_end(&end)?;
                    let at = end.ends.iter().find(|end| end.channel == TERMINAL);
                    let at = at.map_or(0, |end| end.offset);
                    if self.offset.is_some_and(|offset| offset != at) {
                        return Err(nonsense());
                    }
                    return Ok(Left::Ended(Box::new(ended)));
                }
                (FrameKind::Control, false) => self.message(&frame.payload).await?,
                _ => return Err(nonsense()),
            }
        }
    }

    async fn message(&mut self, payload: &[u8]) -> Result<(), Trouble> {
        // A message of a newer agent is skipped.
        let Ok(message) = read::<ToBridge>(payload) else { return Ok(()) };
        match message {
            ToBridge::Attached(attached) => {
                *self.session = Some(attached.session);
                let (acknowledged, sent) = self.typed;
                let (taken, lost) = match attached.keys {
                    Some(keys) if (acknowledged..=sent).contains(&keys) => (Taken::Until(keys), 0),
                    Some(_) => return Err(nonsense()),
                    // It may have been typed, and is not typed twice.
                    None => (Taken::Unknown, sent.saturating_sub(acknowledged)),
                };
                self.taken.send_replace(Some(taken));
                match self.again {
                    true => self.tell(AttachEvent::Back(lost)).await,
                    false => self.tell(AttachEvent::Attached(attached)).await,
                }
            }
            ToBridge::At(offset) => *self.offset = Some(offset),
            ToBridge::Screen { length, offset, .. } => {
                *self.offset = Some(offset);
                self.screen = u64::from(length);
                self.tell(AttachEvent::Screen).await;
            }
            ToBridge::Ack(keys) => drop(self.taken.send_replace(Some(Taken::Until(keys)))),
            ToBridge::Refused(failure) => self.tell(AttachEvent::Refused(failure)).await,
            ToBridge::Typing(rights) => self.tell(AttachEvent::Typing(rights)).await,
            _ => {}
        }
        Ok(())
    }

    async fn tell(&self, event: AttachEvent) {
        let _ = self.events.send(event).await;
    }
}

fn nonsense() -> Trouble {
    Trouble::nonsense("bytes of a terminal that do not add up")
}

struct Up<'a> {
    unsent: &'a mut Unsent,
    /// How much of what was typed has been sent on some stream.
    sent: &'a mut u64,
    todo: &'a mut mpsc::Receiver<Do>,
    size: &'a mut Option<Size>,
    takes: &'a mut bool,
    acks: watch::Receiver<Option<Taken>>,
    seen: Seen,
}

/// How much of a stream has been shown, and how much of that was acknowledged.
struct Seen {
    shown: watch::Receiver<u64>,
    /// How many bytes were passed on before this stream.
    base: u64,
    said: u64,
    /// When it was last acknowledged, and whether that was a flood.
    at: Instant,
    flood: bool,
}

impl Seen {
    fn new(shown: watch::Receiver<u64>, base: u64) -> Self {
        Self { shown, base, said: 0, at: Instant::now(), flood: false }
    }

    /// Waits until there is something to acknowledge, soon in a flood and later otherwise, and
    /// returns it.
    async fn due(&mut self) -> u64 {
        loop {
            let shown = self.shown.borrow_and_update().saturating_sub(self.base);
            let more = shown.saturating_sub(self.said);
            self.flood |= more >= SEEN_LITTLE;
            let due = self.at + if self.flood { SEEN_SOON } else { SEEN_LATE };
            if more >= SEEN_MUCH || more > 0 && Instant::now() >= due {
                return shown;
            }
            if more > 0 {
                tokio::select! {
                    () = sleep_until(due) => {}
                    // The display has ended.
                    Ok(()) = self.shown.changed() => {}
                }
            } else if self.shown.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn say(&mut self, shown: u64) -> Vec<u8> {
        self.flood = shown - self.said >= SEEN_LITTLE;
        (self.said, self.at) = (shown, Instant::now());
        message(&ToAgent::Seen(shown))
    }
}

impl Up<'_> {
    /// Sends what is typed. Returns when the person leaves; when the stream breaks, the receiving
    /// half knows why.
    async fn send(mut self, writer: &mut Writer<SendHalf>) -> Result<Left, Trouble> {
        match self.try_send(writer).await {
            Ok(()) => Ok(Left::Detached),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(nonsense()),
            Err(_) => std::future::pending().await,
        }
    }

    async fn try_send(&mut self, writer: &mut Writer<SendHalf>) -> std::io::Result<()> {
        let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let at = *self.acks.wait_for(Option::is_some).await.map_err(|_| gone())?;
        let mut sent = match at {
            Some(Taken::Until(taken)) => taken,
            // Both sides count from zero.
            Some(Taken::Unknown) | None => {
                self.unsent.count_anew(*self.sent);
                *self.sent = 0;
                0
            }
        };
        self.unsent.forget(sent);
        if std::mem::take(self.takes) {
            writer.message(&message(&ToAgent::Take));
        }
        for chunk in self.unsent.chunks() {
            sent += chunk.len() as u64;
            writer.data(KEYS, chunk);
        }
        *self.sent = sent;
        writer.message(&message(&ToAgent::Seen(0)));
        writer.flush().await?;
        let (mut last, mut lively) = ((0, 0), Instant::now());
        loop {
            let now = (sent, self.seen.said);
            if std::mem::replace(&mut last, now) != now {
                lively = Instant::now() + LIVELY;
            }
            let taken = match *self.acks.borrow_and_update() {
                Some(Taken::Until(taken)) => taken,
                Some(Taken::Unknown) | None => 0,
            };
            if taken > sent {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            self.unsent.forget(taken);
            let full = sent - taken >= KEYS_WINDOW;
            tokio::select! {
                todo = self.todo.recv(), if !full => match todo {
                    None | Some(Do::Detach) => {
                        writer.end(&message(&End::default()));
                        return writer.finish().await;
                    }
                    Some(Do::Type(bytes)) => {
                        sent += bytes.len() as u64;
                        *self.sent = sent;
                        writer.data(KEYS, &bytes);
                        self.unsent.push(bytes);
                    }
                    Some(Do::Resize(size)) => {
                        *self.size = Some(size);
                        writer.message(&message(&ToAgent::Resize(size)));
                    }
                    Some(Do::Take) => writer.message(&message(&ToAgent::Take)),
                    Some(Do::Release) => writer.message(&message(&ToAgent::Release)),
                },
                changed = self.acks.changed(), if full => changed.map_err(|_| gone())?,
                shown = self.seen.due() => writer.message(&self.seen.say(shown)),
                () = sleep(PULSE), if Instant::now() < lively => {
                    writer.message(&message(&ToAgent::Seen(self.seen.said)));
                }
            }
            writer.flush().await?;
        }
    }
}
