//! The one loop that carries a request over streams that break.
//!
//! A request says how it travels over one stream ([`Carried::attempt`]). [`carry`] opens stream
//! after stream, asks the table in [`super::next`] what follows a fault, and waits in between.
//! [`Carrier`] is one such stream.

use std::sync::Arc;

use farwire_link::inner::bridge::Link;
use farwire_link::inner::sealed::{Frame, Reader, Writer};
use farwire_link::outer::{RecvHalf, SendHalf};
use farwire_protocol::conversation::{End, Open, message};
use farwire_protocol::failure::Failure;
use farwire_protocol::header::Class;
use farwire_protocol::id::Nonce;
use tokio::time::timeout;

use super::{Attempts, Next, NoAnswer, SILENCE, Trouble};
use crate::client::{Client, Server, Stream};

/// A server, and the client that reaches it.
#[derive(Clone, Copy, Debug)]
pub struct Remote<'a> {
    /// The client.
    pub client: &'a Client,
    /// The server.
    pub server: &'a Server,
}

impl<'a> Remote<'a> {
    /// This server, reached by this client.
    pub const fn new(client: &'a Client, server: &'a Server) -> Self {
        Self { client, server }
    }
}

/// A request, and how it travels.
pub(crate) trait Carried: Send {
    /// What answers it.
    type Answer: Send;

    /// Whether an attempt ends at the deadline. Otherwise only what follows a fault is bounded:
    /// what has been reached lasts for as long as it lasts.
    const BOUNDED: bool = true;

    /// Sends the request over one stream, and receives the answer.
    fn attempt(
        &mut self,
        remote: Remote<'_>,
        attempts: &mut Attempts,
    ) -> impl Future<Output = Result<Self::Answer, Trouble>> + Send;

    /// The attempt failed, and nothing has been decided yet.
    ///
    /// # Errors
    ///
    /// Ends the conversation, whatever the table says.
    fn on_fault(
        &mut self,
        _: Remote<'_>,
        _: &Trouble,
        _: &mut Attempts,
    ) -> impl Future<Output = Result<(), NoAnswer>> + Send {
        std::future::ready(Ok(()))
    }

    /// Another attempt follows.
    ///
    /// # Errors
    ///
    /// Why this machine cannot make one.
    fn again(&mut self, _: Next) -> Result<(), Failure> {
        Ok(())
    }

    /// Resolves when nobody waits for the answer any more, while the next attempt is waited for.
    fn abandoned(&mut self) -> impl Future<Output = Self::Answer> + Send {
        std::future::pending()
    }

    /// Why there is no answer when the time is up.
    fn late(&self, remote: Remote<'_>, attempts: &Attempts) -> NoAnswer {
        attempts.late(remote.server)
    }
}

/// Carries a request until it is answered or nothing more may be tried.
///
/// # Errors
///
/// Why there is no answer, and whether the request may have been carried out.
pub(crate) async fn carry<C: Carried>(
    remote: Remote<'_>,
    mut attempts: Attempts,
    request: &mut C,
) -> Result<C::Answer, NoAnswer> {
    loop {
        let deadline = attempts.begin(C::BOUNDED);
        let trouble = match deadline.within(request.attempt(remote, &mut attempts)).await {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(trouble)) => trouble,
            None => return Err(request.late(remote, &attempts)),
        };
        request.on_fault(remote, &trouble, &mut attempts).await?;
        let next = tokio::select! {
            next = attempts.follow(remote, trouble) => next?,
            answer = request.abandoned() => return Ok(answer),
        };
        request.again(next).map_err(|failure| attempts.give_up(failure))?;
    }
}

/// One stream of a request.
pub(crate) struct Carrier<'a> {
    pub(crate) remote: Remote<'a>,
    pub(crate) attempts: &'a mut Attempts,
    stream: Stream,
}

impl<'a> Carrier<'a> {
    /// Opens a stream. Nothing has been sent over it yet.
    pub(crate) async fn open(
        remote: Remote<'a>,
        class: Class,
        attempts: &'a mut Attempts,
    ) -> Result<Self, Trouble> {
        let stream = remote.client.stream(remote.server, class).await?;
        Ok(Self::on(stream, remote, attempts))
    }

    /// A stream that has just been opened.
    pub(crate) fn on(stream: Stream, remote: Remote<'a>, attempts: &'a mut Attempts) -> Self {
        attempts.goes_over(&stream.link);
        Self { remote, attempts, stream }
    }

    /// The agent process at its other end.
    pub(crate) fn instance(&self) -> Nonce {
        self.stream.link.accept().instance
    }

    /// Whether no other stream can have carried the request.
    pub(crate) fn is_first(&self) -> bool {
        !self.attempts.was_sent()
    }

    /// Seals the first message. From now on this stream may carry the request.
    pub(crate) fn begin(&mut self, open: Open) {
        self.stream.writer.open(open);
        self.attempts.mark_sent();
    }

    /// Sends all that has been sealed.
    pub(crate) async fn flush(&mut self) -> Result<(), Trouble> {
        let flushed = self.stream.writer.flush().await;
        flushed.map_err(|error| Trouble::unwritten(error, self.remote.server))
    }

    /// Seals another message.
    pub(crate) fn message(&mut self, message: &[u8]) {
        self.stream.writer.message(message);
    }

    /// Seals the end of our direction, which has carried no data.
    pub(crate) fn end(&mut self) {
        self.stream.writer.end(&message(&End::default()));
    }

    /// Ends our direction, and sends all that has been sealed.
    pub(crate) async fn finish(&mut self) -> Result<(), Trouble> {
        self.end();
        let finished = self.stream.writer.finish().await;
        finished.map_err(|error| Trouble::unwritten(error, self.remote.server))
    }

    /// The next frame of the agent.
    pub(crate) async fn next(&mut self) -> Result<Frame, Trouble> {
        let frame = self.last().await?;
        self.attempts.mark_heard();
        Ok(frame)
    }

    /// The only frame of an answer: the pauses between attempts go on growing after it.
    pub(crate) async fn last(&mut self) -> Result<Frame, Trouble> {
        let frame = self.stream.reader.next().await;
        let frame = frame.map_err(|error| Trouble::stream_error(error, self.remote.server))?;
        self.stream.link.note_activity(frame.payload.len());
        Ok(frame)
    }

    /// The stream, for what goes on when the request has been answered.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Its two directions, for a request that goes on while it is answered.
    pub(crate) fn split(&mut self) -> (&mut Writer<SendHalf>, Incoming<'_>, Arc<Link>) {
        let Stream { writer, reader, link } = &mut self.stream;
        let incoming =
            Incoming { remote: self.remote, attempts: self.attempts, reader, link: link.clone() };
        (writer, incoming, link.clone())
    }
}

/// The direction from an agent that speaks at least every beat.
pub(crate) struct Incoming<'a> {
    remote: Remote<'a>,
    attempts: &'a mut Attempts,
    reader: &'a mut Reader<RecvHalf>,
    link: Arc<Link>,
}

impl Incoming<'_> {
    /// The next frame of the agent.
    pub(crate) async fn next(&mut self) -> Result<Frame, Trouble> {
        let frame = timeout(SILENCE, self.reader.next()).await;
        let frame = frame.map_err(|_| Trouble::silent(self.remote.server))?;
        let frame = frame.map_err(|error| Trouble::stream_error(error, self.remote.server))?;
        self.link.note_activity(frame.payload.len());
        self.attempts.mark_heard();
        Ok(frame)
    }

    /// The link is old, and whoever uses the stream moves to a new one: nothing is wrong with the
    /// agent.
    pub(crate) fn move_link(&mut self) -> Trouble {
        self.attempts.mark_heard();
        Trouble::link_move(self.remote.server)
    }
}
