//! Files from the bridge's side: what is beneath the roots that the owners of servers have opened.
//!
//! [`Files`] is one stream to one root. Questions are asked one after another, or many before the
//! first answer. What was asked has been done if and only if its `Done` came without a failure.

mod alike;
mod answer;
pub(crate) mod asked;
pub mod between;
pub mod destination;
mod everything;
mod expected;
pub mod place;
pub(crate) mod roots;
pub mod serve;
pub mod site;
pub mod sums;
pub mod sync;
pub mod transfer;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use farwire_link::inner::sealed::{BATCH, Frame, Reader, Writer};
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::cbor::{self, Blob};
use farwire_protocol::conversation::{Counts, End, Open, message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::{Kind as FrameKind, PAYLOAD};
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use farwire_protocol::streams::Kind as StreamKind;
use farwire_protocol::streams::files::{Ask, CONTENT, Enter, Root, ToAgent, ToBridge};

use tokio::time::timeout;

pub use self::answer::Answer;
use self::answer::Gathering;
pub use self::expected::{RootPath, RootRequest};
use crate::client::{Client, Server, Stream};
use crate::conversation::{
    self, Attempts, Carried, Carrier, Effects, NoAnswer, Remote, SILENCE, Trouble, carry,
};
use crate::known_roots::check_name;
use crate::machine::random_nonce;

/// How long it is tried to enter a root, and to come back to one.
const PATIENCE: Duration = Duration::from_secs(20);

/// After so long without room for a piece of content the stream is taken to be held up.
const STUCK: Duration = Duration::from_secs(120);

/// One stream to one root.
#[derive(Debug)]
pub struct Files {
    /// The root, as the agent says.
    pub root: Root,
    /// Towards the agent.
    pub up: Up,
    /// From the agent.
    pub down: Down,
    /// How it was entered, so that it can be entered again.
    entrance: Entrance,
    /// How long the agent may take to let us in, until it has.
    outside: Option<Duration>,
    /// The agent has refused to let us in: its worker has seen nothing of what was asked.
    refused: bool,
}

/// A conversation about files over several streams: a later one is let in once nothing that was
/// asked on an earlier one can be done any more, however long somebody holds that back.
#[derive(Debug, Default)]
pub struct FilesConversation {
    conversation: OnceLock<Nonce>,
    generation: AtomicU32,
}

impl FilesConversation {
    fn next(&self) -> Result<(Nonce, u32), Failure> {
        let conversation = match self.conversation.get() {
            Some(conversation) => *conversation,
            None => {
                let new = random_nonce()?;
                *self.conversation.get_or_init(|| new)
            }
        };
        Ok((conversation, self.generation.fetch_add(1, Ordering::Relaxed)))
    }
}

/// How a root is entered.
#[derive(Clone, Debug)]
struct Entrance {
    request: RootRequest,
    class: Class,
    line: Arc<FilesConversation>,
}

impl Entrance {
    async fn enter(mut self, remote: Remote<'_>, attempts: Attempts) -> Result<Files, Failure> {
        Box::pin(carry(remote, attempts, &mut self)).await.map_err(NoAnswer::failure)
    }

    /// The request to enter, as the next stream of the conversation.
    fn request(&self) -> Result<Open, Failure> {
        let (conversation, generation) = self.line.next()?;
        let enter = Enter { beats: Some(true), ..self.request.enter.clone() };
        let create = Some(Blob(cbor::encode(&enter)));
        Ok(conversation::open(StreamKind::Files, conversation, generation, create))
    }
}

impl Carried for Entrance {
    type Answer = Files;

    async fn attempt(
        &mut self,
        remote: Remote<'_>,
        attempts: &mut Attempts,
    ) -> Result<Files, Trouble> {
        let mut carrier = Carrier::open(remote, self.class, attempts).await?;
        carrier.begin(self.request().map_err(Trouble::here)?);
        carrier.flush().await?;
        // Nothing is asked before the agent has said which root it is.
        let root = Root::default();
        let mut files = Files::on(carrier.into_stream(), remote.server, root, self.clone());
        files.let_in().await?;
        Ok(files)
    }

    fn late(&self, remote: Remote<'_>, _: &Attempts) -> NoAnswer {
        NoAnswer::Failed(Trouble::silent(remote.server).failure)
    }
}

/// What is said to the agent.
#[derive(Debug)]
pub struct Up {
    writer: Writer<SendHalf>,
    counts: Counts,
    /// The highest number of a question that the agent knows.
    latest: u16,
}

/// What the agent says.
#[derive(Debug)]
pub struct Down {
    reader: Reader<RecvHalf>,
    link: Arc<farwire_link::inner::bridge::Link>,
    counts: Counts,
    server: Server,
    /// What was looked at too early.
    back: VecDeque<Said>,
    /// The agent says that it is here while it works on a question.
    beats: bool,
}

/// One thing that the agent said.
#[derive(Clone, Debug)]
pub enum Said {
    /// A message.
    Message(ToBridge),
    /// Content.
    Content(Bytes),
}

fn violation(text: &str) -> Failure {
    Failure::new(Kind::ProtocolViolation, text)
}

fn link_lost() -> Failure {
    Failure::new(Kind::LinkLost, "the stream broke off")
}

impl Files {
    /// Enters a root of a server, over other streams while they break.
    ///
    /// # Errors
    ///
    /// Why the root cannot be entered; `no_root` if it is not the directory that the request
    /// expects.
    pub async fn enter(
        client: &Client,
        server: &Server,
        request: &RootRequest,
        class: Class,
    ) -> Result<Self, Failure> {
        Self::enter_on(Remote::new(client, server), request, class, Arc::default()).await
    }

    /// Enters a root likewise, as the next stream of a conversation.
    pub async fn enter_on(
        remote: Remote<'_>,
        request: &RootRequest,
        class: Class,
        line: Arc<FilesConversation>,
    ) -> Result<Self, Failure> {
        let attempts = Attempts::new(Effects::None, Some(PATIENCE));
        Entrance { request: request.clone(), class, line }.enter(remote, attempts).await
    }

    /// A stream over which the request to enter goes, or has gone. Questions may follow at once, as
    /// far as an agent with this root knows them.
    fn on(stream: Stream, server: &Server, root: Root, entrance: Entrance) -> Self {
        let Stream { writer, reader, link } = stream;
        let up = Up { writer, counts: Counts::default(), latest: root.latest_ask() };
        let down = Down {
            reader,
            link,
            counts: Counts::default(),
            server: server.clone(),
            back: VecDeque::new(),
            beats: false,
        };
        Self { root, up, down, entrance, outside: Some(PATIENCE), refused: false }
    }

    /// Waits until the agent has let us in, if it has not yet.
    async fn let_in(&mut self) -> Result<(), Trouble> {
        let Some(window) = self.outside else { return Ok(()) };
        let Ok(said) = timeout(window, self.down.receive()).await else {
            return Err(Trouble::silent(&self.down.server));
        };
        match said? {
            Said::Message(ToBridge::Entered(root)) => {
                check_name(&root).map_err(Trouble::here)?;
                self.entrance.request.path.bind(&root).map_err(Trouble::here)?;
                self.up.latest = root.latest_ask();
                self.down.beats = root.beats == Some(true);
                self.root = root;
                self.outside = None;
                Ok(())
            }
            Said::Message(ToBridge::Done(done)) => {
                let nothing = || Trouble::nonsense("an end without a beginning");
                self.refused = done.failure.is_some();
                Err(done.failure.map_or_else(nothing, Trouble::agent_failure))
            }
            _ => Err(Trouble::nonsense("an answer before the root")),
        }
    }

    /// The agent process at the other end.
    fn instance(&self) -> Nonce {
        self.down.link.accept().instance
    }

    /// Enters the same root again, and waits for the server to come back.
    async fn enter_again(&mut self, client: &Client) -> Result<(), Failure> {
        let mut attempts = Attempts::new(Effects::None, Some(PATIENCE));
        // The agent was there before, at least for all that we know.
        attempts.mark_sent();
        if self.outside.is_none() {
            attempts.mark_heard();
        }
        let remote = Remote::new(client, &self.down.server);
        *self = self.entrance.clone().enter(remote, attempts).await?;
        Ok(())
    }

    /// Ends the stream, when all questions have been answered.
    pub async fn leave(mut self) -> Result<(), Failure> {
        let ends = self.up.counts.offsets();
        self.up.writer.end(&message(&End { ends, ..End::default() }));
        self.up.writer.finish().await.map_err(|_| link_lost())
    }
}

impl Up {
    /// Says a question. It goes out with the next flush.
    ///
    /// # Errors
    ///
    /// `too_large` for one that does not fit a message; `incompatible_version` for one that the
    /// agent does not know, which would end the stream.
    pub fn ask(&mut self, ask: Ask) -> Result<(), Failure> {
        if ask.number() > self.latest {
            let text = "the agent on the server is older, and cannot do that";
            return Err(Failure::new(Kind::IncompatibleVersion, text)
                .with_hint("update farwire-agent on the server"));
        }
        let said = cbor::encode(&ToAgent::Ask(Box::new(ask)));
        if said.len() > PAYLOAD {
            let text = format!("the question has more than {PAYLOAD} bytes");
            return Err(Failure::new(Kind::TooLarge, text)
                .with_hint("use a shorter path, pattern or list of patterns"));
        }
        self.writer.message(&said);
        Ok(())
    }

    /// Seals content.
    pub fn content(&mut self, bytes: &[u8]) {
        self.writer.data(CONTENT, bytes);
        // The limit is beyond all files.
        let _ = self.counts.add(CONTENT, bytes.len());
    }

    /// Says that the content was whole.
    pub fn whole(&mut self, bytes: u64) {
        self.writer.message(&message(&ToAgent::Whole(bytes)));
    }

    /// Says that the content will not be whole.
    pub fn give_up(&mut self) {
        self.writer.message(&message(&ToAgent::GivenUp));
    }

    /// Sends what has been sealed, if that is much.
    pub async fn flush_full(&mut self) -> Result<(), Failure> {
        if self.writer.waiting() >= BATCH { self.flush().await } else { Ok(()) }
    }

    /// Sends what has been sealed.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        let flushed = timeout(STUCK, self.writer.flush()).await;
        flushed.map_err(|_| link_lost())?.map_err(|_| link_lost())
    }
}

impl Down {
    /// The next thing that the agent says. Can be dropped in the middle and called again.
    pub async fn next(&mut self) -> Result<Said, Failure> {
        self.receive().await.map_err(|trouble| trouble.failure)
    }

    /// Puts back what comes next, after all.
    pub fn put_back(&mut self, said: [Option<Said>; 2]) {
        self.back.extend(said.into_iter().flatten());
    }

    /// The next thing that the agent has said, if it is there.
    pub fn next_now(&mut self) -> Result<Option<Said>, Failure> {
        if let Some(said) = self.back.pop_front() {
            return Ok(Some(said));
        }
        loop {
            let frame = self.reader.buffered();
            let frame =
                frame.map_err(|error| Trouble::stream_error(error, &self.server).failure)?;
            let Some(frame) = frame else { return Ok(None) };
            match self.read_frame(frame).map_err(|trouble| trouble.failure)? {
                Said::Message(ToBridge::Beat) => {}
                said => return Ok(Some(said)),
            }
        }
    }

    async fn receive(&mut self) -> Result<Said, Trouble> {
        if let Some(said) = self.back.pop_front() {
            return Ok(said);
        }
        loop {
            let next = self.reader.next();
            let frame = match self.beats {
                // It says something more often than that: somebody holds it back.
                true => match timeout(SILENCE, next).await {
                    Ok(frame) => frame,
                    Err(_) => return Err(Trouble::silent(&self.server)),
                },
                false => next.await,
            };
            let broken = |error| Trouble::stream_error(error, &self.server);
            match self.read_frame(frame.map_err(broken)?)? {
                Said::Message(ToBridge::Beat) => {}
                said => return Ok(said),
            }
        }
    }

    fn read_frame(&mut self, frame: Frame) -> Result<Said, Trouble> {
        self.link.note_activity(frame.payload.len());
        match (frame.kind, frame.last) {
            (FrameKind::Data, _) if frame.channel == CONTENT => {
                let counted = self.counts.add(CONTENT, frame.payload.len());
                counted.ok_or_else(|| Trouble::nonsense("too much content"))?;
                Ok(Said::Content(frame.payload))
            }
            (FrameKind::Control, false) => {
                let said = read(&frame.payload);
                let nonsense = |_| Trouble::nonsense("a message of the agent is malformed");
                Ok(Said::Message(said.map_err(nonsense)?))
            }
            (FrameKind::Control, true) => {
                let nonsense = |_| Trouble::nonsense("the end of the stream is malformed");
                let end: End = read(&frame.payload).map_err(nonsense)?;
                let nothing = || Trouble::nonsense("it ended without an answer");
                Err(end.failure.map_or_else(nothing, Trouble::early_end))
            }
            _ => Err(Trouble::nonsense("an unexpected frame")),
        }
    }

    /// All of the answer to the question that was asked first.
    pub async fn answer(&mut self) -> Result<Answer, Failure> {
        let mut gathering = Gathering::default();
        loop {
            if let Some(answer) = gathering.take(self.next().await?)? {
                return answer;
            }
        }
    }
}
