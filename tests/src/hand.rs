//! A hand on sessions: a surface of a device that says to an agent whatever the protocol lets it
//! say, with no face in between.

use std::time::Duration;

use farwire::client::{Client, Server, Stream};
use farwire::machine::random_nonce;
use farwire::runs::answer::NoAnswer;
use farwire::sessions::{self, SessionReply};
use farwire_keystore::Home;
use farwire_link::inner::sealed::ReadError;
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::conversation::{End, Open, message, read};
use farwire_protocol::failure::Failure;
use farwire_protocol::frame::Kind as FrameKind;
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::Kind;
use farwire_protocol::streams::run::Program;
use farwire_protocol::streams::session::{
    Action, Caller, Control, Event, Events, TypingRights, What,
};
use farwire_protocol::streams::session::{
    Attach, Attached, Ended, Input, KEYS, Request, Send, Size, Start, Status, TERMINAL, ToAgent,
    ToBridge,
};
use farwire_protocol::surface::Surface;
use tokio::time::timeout;

use crate::{PATIENCE, World, until};

/// One surface of a device, with its own name for itself.
#[derive(Debug)]
pub struct Hand {
    client: Client,
    server: Server,
    /// What it says of itself.
    pub caller: Caller,
}

/// A user of `web-1`.
pub fn user(world: &World) -> Hand {
    Hand::new(world, "web-1", &Surface::Human, None)
}

/// A client that acts for a model on `web-1`.
pub fn agent(world: &World, client: &str) -> Hand {
    Hand::new(world, "web-1", &Surface::AiLocal, Some(client))
}

/// Text to type.
pub fn text(text: &str) -> Input {
    Input::Text(Blob(text.as_bytes().to_vec()))
}

impl Hand {
    /// A hand on the server of this name.
    pub fn new(world: &World, server: &str, surface: &Surface, client: Option<&str>) -> Self {
        let home = Home::open(&world.path("bridge")).expect("a home");
        let made = Client::open(home, surface).expect("its keys");
        let server = made.server(server).expect("it is enrolled");
        let caller = Caller { client: client.map(str::to_owned), owner: None };
        Self { client: made, server, caller }
    }

    /// The same of another device, which has this home.
    #[must_use]
    pub fn of_device(self, world: &World, home: &str, surface: &Surface) -> Self {
        let home = Home::open(&world.path(home)).expect("a home");
        let client = Client::open(home, surface).expect("its keys");
        Self { client, ..self }
    }

    /// The same acting for somebody.
    #[must_use]
    pub fn acting_for(mut self, owner: &str) -> Self {
        self.caller.owner = Some(owner.to_owned());
        self
    }

    /// Asks, and gives what is answered.
    ///
    /// # Errors
    ///
    /// What the agent says no with.
    pub async fn ask(&self, request: &Request) -> Result<SessionReply, Failure> {
        sessions::ask(&self.client, &self.server, request, PATIENCE)
            .await
            .map_err(NoAnswer::failure)
    }

    /// A session to open with this program, `sh -i` style lines; changed as wanted before it is
    /// asked for.
    pub async fn start(&self, name: &str, program: &str) -> Start {
        Start {
            request: random_nonce().expect("random numbers"),
            instance: self.instance().await,
            name: Some(name.to_owned()),
            program: Some(Program::Line(Blob(program.as_bytes().to_vec()))),
            cwd: None,
            env: None,
            user: None,
            size: Size { cols: 80, rows: 24 },
            attach: None,
            new: None,
            timeout_ms: None,
            caller: Some(self.caller.clone()),
            labels: None,
            limits: None,
        }
    }

    async fn instance(&self) -> Nonce {
        // A link of the agent before is noticed by whoever uses it.
        until("a link", async || self.client.instance(&self.server).await.ok()).await
    }

    /// Opens a session.
    pub async fn open(&self, name: &str, program: &str) -> Nonce {
        let start = self.start(name, program).await;
        self.ask(&Request::Open(start)).await.expect("it opens").ended.status.session
    }

    /// Types, and waits for so long for what comes of it.
    ///
    /// # Errors
    ///
    /// What the agent says no with.
    pub async fn send(
        &self,
        session: Nonce,
        input: Vec<Input>,
        wait: Duration,
    ) -> Result<SessionReply, Failure> {
        self.ask(&Request::Send(self.sending(session, input, wait).await)).await
    }

    /// What [`Self::send`] asks.
    pub async fn sending(&self, session: Nonce, input: Vec<Input>, wait: Duration) -> Send {
        Send {
            request: random_nonce().expect("random numbers"),
            session,
            instance: self.instance().await,
            input,
            wait_ms: u64::try_from(wait.as_millis()).expect("not that long"),
            until: None,
            budget: 4096,
            from: None,
            caller: Some(self.caller.clone()),
            at_prompt: None,
            literal: None,
        }
    }

    /// Does something to a session, and gives how it is then.
    ///
    /// # Errors
    ///
    /// What the agent says no with.
    pub async fn does(&self, session: Nonce, action: Action) -> Result<Status, Failure> {
        let caller = Some(self.caller.clone());
        let control = Control { session, caller, action };
        Ok(self.ask(&Request::Control(control)).await?.ended.status)
    }

    /// What has happened to a session from a number on, or happens within so long.
    ///
    /// # Errors
    ///
    /// What the agent says no with.
    pub async fn events(
        &self,
        session: Nonce,
        from: u64,
        wait: Duration,
    ) -> Result<Vec<Event>, Failure> {
        let wait_ms = u64::try_from(wait.as_millis()).expect("not that long");
        let caller = Some(self.caller.clone());
        let asked = Events { session, caller, from, limit: 100, wait_ms, offset: None };
        Ok(self.ask(&Request::Events(asked)).await?.ended.events.expect("they were asked for"))
    }

    /// Waits until something has happened.
    pub async fn sees(&self, session: Nonce, what: impl Fn(&Event, &What) -> bool) -> Event {
        let mut from = 1;
        let looking = async {
            loop {
                let wait = Duration::from_secs(10);
                let events = self.events(session, from, wait).await.expect("it is told");
                for event in events {
                    from = event.number + 1;
                    if event.what.as_ref().is_some_and(|happened| what(&event, happened)) {
                        return event;
                    }
                }
            }
        };
        timeout(PATIENCE, looking).await.expect("it happens")
    }

    /// How a session is.
    pub async fn look(&self, session: Nonce) -> Ended {
        self.ask(&Request::Look(session)).await.expect("it is there").ended
    }

    /// The screen of a session.
    pub async fn screen(&self, session: Nonce) -> String {
        let answer = self.ask(&Request::Look(session)).await.expect("it is there");
        String::from_utf8_lossy(&answer.text).into_owned()
    }

    /// Attaches to a session.
    pub async fn attach(&self, session: Nonce, read_only: bool) -> Attachment {
        let conversation = random_nonce().expect("random numbers");
        self.attach_again(session, read_only, (conversation, 0)).await
    }

    /// Attaches to a session in a conversation of this id and generation.
    pub async fn attach_again(
        &self,
        session: Nonce,
        read_only: bool,
        (conversation, generation): (Nonce, u32),
    ) -> Attachment {
        let mut attachment = self.knock(session, read_only, conversation, generation).await;
        attachment.until("who may type", |one| one.hands.is_some()).await;
        attachment
    }

    /// The same, whatever the agent answers.
    pub async fn knock(
        &self,
        session: Nonce,
        read_only: bool,
        conversation: Nonce,
        generation: u32,
    ) -> Attachment {
        let read_only = Some(read_only);
        let attach = Attach { session, read_only, size: None, from: None };
        let stream = self.client.stream(&self.server, Class::Interactive).await;
        let mut stream = stream.expect("it is online");
        stream.writer.open(Open {
            kind: Kind::Session.number(),
            conversation,
            generation,
            create: Some(Blob(cbor::encode(&Request::Attach(attach)))),
            have: None,
            more: None,
        });
        stream.writer.flush().await.expect("it takes it");
        Attachment {
            stream,
            attached: None,
            hands: None,
            refused: None,
            acked: 0,
            said: Vec::new(),
            ended: None,
        }
    }
}

/// Somebody who is attached, and what they were told.
#[derive(Debug)]
pub struct Attachment {
    stream: Stream,
    /// The first that was said.
    pub attached: Option<Attached>,
    /// Who may type.
    pub hands: Option<TypingRights>,
    /// Why something was not done.
    pub refused: Option<Failure>,
    /// So much of what was typed was taken.
    pub acked: u64,
    /// All that the terminal has said.
    pub said: Vec<u8>,
    /// How it ended.
    pub ended: Option<Ended>,
}

impl Attachment {
    /// Types.
    pub async fn types(&mut self, keys: &str) {
        self.stream.writer.data(KEYS, keys.as_bytes());
        self.stream.writer.flush().await.expect("it takes it");
    }

    /// Types, whether or not anybody takes it.
    pub async fn types_in_vain(&mut self, keys: &str) {
        self.stream.writer.data(KEYS, keys.as_bytes());
        // Nobody may be there any more.
        let _ = self.stream.writer.flush().await;
    }

    /// Says something.
    pub async fn says(&mut self, what: ToAgent) {
        self.stream.writer.message(&message(&what));
        self.stream.writer.flush().await.expect("it takes it");
    }

    /// Hears what is said until something is so.
    pub async fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let hearing = async {
            while !so(self) {
                self.hear().await;
            }
        };
        if timeout(PATIENCE, hearing).await.is_err() {
            let said = String::from_utf8_lossy(&self.said).into_owned();
            panic!("waited in vain for: {what}; {:?}; {said}", self.hands);
        }
    }

    /// Hears until the terminal has said this.
    pub async fn hears(&mut self, text: &str) {
        let found = |one: &Self| String::from_utf8_lossy(&one.said).contains(text);
        self.until(text, found).await;
    }

    /// Hears until the agent ends the stream by itself, and gives why.
    pub async fn refusal(mut self) -> Failure {
        let hearing = async {
            loop {
                let frame = self.stream.reader.next().await.expect("it ends with a sealed word");
                if frame.last {
                    let end: End = read(&frame.payload).expect("it makes sense");
                    return end.failure.expect("a reason");
                }
            }
        };
        timeout(PATIENCE, hearing).await.expect("it ends")
    }

    /// Hears until the stream breaks off, and gives how.
    pub async fn broken(mut self) -> ReadError {
        let hearing = async {
            loop {
                if let Err(error) = self.stream.reader.next().await {
                    return error;
                }
            }
        };
        timeout(PATIENCE, hearing).await.expect("it breaks off")
    }

    async fn hear(&mut self) {
        let frame = self.stream.reader.next().await.expect("it goes on");
        self.stream.link.note_activity(frame.payload.len());
        match (frame.kind, frame.last) {
            (FrameKind::Data, _) if frame.channel == TERMINAL => self.said.extend(frame.payload),
            (FrameKind::Control, false) => match read(&frame.payload).expect("it makes sense") {
                ToBridge::Attached(attached) => self.attached = Some(attached),
                ToBridge::Typing(hands) => {
                    assert!(self.attached.is_some(), "that comes first");
                    self.hands = Some(*hands);
                }
                ToBridge::Refused(failure) => self.refused = Some(failure),
                ToBridge::Ack(acked) => self.acked = acked,
                _ => {}
            },
            (FrameKind::Control, true) => {
                let end: End = read(&frame.payload).expect("it makes sense");
                let body = end.body.expect("it went well");
                self.ended = Some(cbor::decode(&body, 64 << 10).expect("it makes sense"));
            }
            _ => panic!("an unexpected frame"),
        }
    }
}
