//! One stream of questions, each of which is answered before the next is looked at.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farwire_protocol::conversation::{message, read_exact};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::PAYLOAD;
use farwire_protocol::id::Id;
use farwire_protocol::streams::files::{Ask, Done, ToAgent, ToBridge};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::RootState;
use super::audit::{Audit, AuditLine, PATHS};
use super::message::Serve;
use super::packet::{self, CONTENT, DATA, END, FILE, FilePart, MESSAGE, PACKET, PART};
use crate::dav::Dav;
use crate::listener::Listener;
use crate::path::Rel;
use crate::peer::{Broken, OpenedFile, Peer};
use crate::transfers::Transfers;
use crate::tree::{Stat, Tree};
use crate::undo::Undo;
use crate::verbs::{self, Desk, VerbError};

/// How long to wait for content that does not come, or is not taken: it occupies a thread.
const STALLED: Duration = Duration::from_secs(60);

/// The largest part of a file that is read here.
const SMALL: u64 = 32 << 10;

/// A stream to one root.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Arc<OwnedFd>,
    tree: Arc<Tree>,
    dav: Option<Dav>,
    undo: Option<Arc<Undo>>,
    transfers: Arc<Transfers>,
    audit: Option<Arc<Audit>>,
    who: String,
    device: Id,
    greeting: Option<ToBridge>,
    /// The buffer for packets: that of the thread, while it works on a question.
    buffer: Vec<u8>,
    /// Received data that has not been looked at.
    came: Bytes,
    /// Data that has not been sent.
    said: Vec<u8>,
    /// How much of the question's content has come.
    content: Content,
    /// What only answering the question reveals about it.
    found: AuditDetails,
}

/// Further details for the audit line of a question.
#[derive(Debug, Default)]
struct AuditDetails {
    /// Paths that the question changed.
    paths: Vec<Rel>,
    /// How many more.
    more: usize,
    /// The status of a WebDAV response.
    status: Option<u16>,
}

/// The state of the content of a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Content {
    /// This many bytes have come.
    Coming(u64),
    /// There is none, or it is complete.
    Whole,
    /// It was given up.
    GivenUp,
    /// The other end is gone.
    Gone,
}

/// Whether a stream can take more questions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// It waits for a question.
    Waits,
    /// It has ended.
    Over,
}

impl Stream {
    pub(super) fn new(socket: OwnedFd, tree: Tree, shared: &RootState, serve: &Serve) -> Self {
        let socket = Arc::new(socket);
        let tree = Arc::new(tree.for_listener(Listener::new(socket.clone())));
        let read_only = !tree.rules().writable;
        let dav = serve.enter.prefix.as_ref().and_then(|prefix| {
            // A malformed prefix is reported when a request comes.
            Dav::new(tree.clone(), shared.locks.clone(), prefix, read_only).ok()
        });
        let greeting = Some(ToBridge::Entered(serve.root.clone()));
        // Setting the timeout of a Unix socket does not fail.
        let _ = set_socket_timeout(&socket, Timeout::Send, Some(STALLED));
        let buffer = Vec::new();
        let (undo, who) = (shared.undo.clone(), serve.who.clone());
        let device = serve.device;
        let (transfers, audit) = (shared.transfers.clone(), shared.audit.clone());
        let content = Content::Whole;
        let (came, said) = (Bytes::new(), Vec::new());
        Self {
            socket,
            tree,
            dav,
            undo,
            transfers,
            audit,
            who,
            device,
            greeting,
            buffer,
            came,
            said,
            content,
            found: AuditDetails::default(),
        }
    }

    /// Refuses a stream.
    pub(super) fn refuse(socket: &OwnedFd, failure: Failure) {
        let done = ToBridge::Done(Box::new(Done::from_failure(failure)));
        let mut said = Vec::new();
        packet::push(&mut said, MESSAGE, &message(&done));
        packet::push(&mut said, END, &[]);
        // Nobody may be listening.
        let _ = packet::send(socket, &said, &[]);
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn device(&self) -> Id {
        self.device
    }

    /// Releases its memory while it waits: there may be thousands of streams.
    pub(super) fn rest(&mut self) {
        self.said = Vec::new();
        self.came = Bytes::new();
    }

    /// Sends the description of the root, which comes first.
    pub(super) fn greet(&mut self) -> Next {
        let greeted = match self.greeting.take() {
            Some(greeting) => self.say(&greeting).and_then(|()| self.flush()),
            None => Ok(()),
        };
        if greeted.is_ok() { Next::Waits } else { Next::Over }
    }

    /// Whether the next question has arrived already.
    pub(super) fn is_asked(&self) -> bool {
        !self.came.is_empty()
    }

    /// Answers the waiting question. `buffer` has [`PACKET`] bytes and receives packets.
    pub(super) fn serve(&mut self, buffer: &mut Vec<u8>) -> Next {
        std::mem::swap(&mut self.buffer, buffer);
        let next = self.next();
        std::mem::swap(&mut self.buffer, buffer);
        next
    }

    fn next(&mut self) -> Next {
        let Some((kind, bytes)) = self.part() else { return Next::Over };
        let asked = match kind {
            END => {
                packet::push(&mut self.said, END, &[]);
                // The agent closes the stream when it has read this.
                let _ = self.flush();
                return Next::Over;
            }
            MESSAGE => read_exact::<ToAgent>(&bytes).ok(),
            _ => None,
        };
        let Some(ToAgent::Ask(ask)) = asked else {
            let failure = Failure::new(
                Kind::ProtocolViolation,
                "content without a request, or a malformed message",
            );
            let verb = "unknown".to_owned();
            self.note(AuditLine { verb, failure: Some(failure.kind), ..AuditLine::default() });
            // An answer that is ready goes first: it would be taken for a refusal. Whoever has gone
            // needs neither.
            let _ = self.flush();
            Self::refuse(&self.socket, failure);
            return Next::Over;
        };
        // The agent closes streams when a device is removed. Questions from before that are not
        // begun.
        if self.is_left() {
            self.note(AuditLine { failure: Some(Kind::Cancelled), ..AuditLine::of(&ask) });
            return Next::Over;
        }
        self.found = AuditDetails::default();
        self.content = if ask.has_content() { Content::Coming(0) } else { Content::Whole };
        // A panic costs only the answer to this question.
        let answered = catch_unwind(AssertUnwindSafe(|| self.answer(&ask)));
        let done = match answered {
            Ok(Ok(done)) => done,
            Ok(Err(VerbError::Failed(failure))) => Done::from_failure(failure),
            Ok(Err(VerbError::Broken)) if self.content == Content::GivenUp => {
                Done::from_failure(Failure::new(
                    Kind::Cancelled,
                    "the sender gave up the content; nothing was changed",
                ))
            }
            Ok(Err(VerbError::Broken)) => {
                // Nothing was done before the content was complete. After that it was done, and the
                // answer is lost.
                let whole = self.content == Content::Whole;
                let why = if whole { Kind::LinkLost } else { Kind::Cancelled };
                self.note(AuditLine { failure: Some(why), ..AuditLine::of(&ask) });
                return Next::Over;
            }
            Err(_) => Done::from_failure(Failure::new(
                Kind::Internal,
                "the file worker failed at this request",
            )),
        };
        while matches!(self.content, Content::Coming(_)) {
            // The rest of the content still comes, and is dropped.
            let _ = self.content();
        }
        let failure = done.failure.as_ref().map(|failure| failure.kind);
        self.note(AuditLine { failure, ..AuditLine::of(&ask) });
        let done = ToBridge::Done(Box::new(done));
        let told = self.content != Content::Gone && self.say(&done).is_ok();
        // Answers to several questions are sent together.
        let told = told && (self.is_asked() || self.flush().is_ok());
        if told { Next::Waits } else { Next::Over }
    }

    /// Logs the result of a question.
    fn note(&self, mut line: AuditLine<'_>) {
        let Some(audit) = &self.audit else { return };
        let below = self.tree.outer(&Rel::ROOT);
        let found = self.found.paths.iter().map(Rel::as_bytes);
        let paths = line.paths.drain(..).chain(found).collect();
        let (more, status) = (self.found.more, self.found.status);
        audit.note(&AuditLine {
            who: &self.who,
            below: below.as_bytes(),
            paths,
            more,
            status,
            ..line
        });
    }

    fn answer(&mut self, ask: &Ask) -> Result<Done, VerbError> {
        let Ask::Http(http) = ask else {
            let (tree, undo, who) = (self.tree.clone(), self.undo.clone(), self.who.clone());
            let transfers = self.transfers.clone();
            let desk = Desk {
                tree: &tree,
                undo: undo.as_deref(),
                transfers: &transfers,
                who: &who,
                device: self.device,
            };
            return verbs::answer(&desk, ask, self);
        };
        let dav = self.dav.take().ok_or_else(|| {
            Failure::new(Kind::InvalidArgument, "this stream was not opened for WebDAV")
        })?;
        let served = dav.serve(http, self);
        self.dav = Some(dav);
        served?;
        Ok(Done::default())
    }

    /// The next part: its kind and content. `None` at the end of the stream.
    fn part(&mut self) -> Option<(u8, Bytes)> {
        if self.came.is_empty() {
            self.flush().ok()?;
            let received = packet::receive(&self.socket, &mut self.buffer).ok().flatten()?;
            self.came = Bytes::from(received.bytes);
        }
        packet::pop(&mut self.came)
    }

    /// Whether the agent no longer listens.
    fn is_left(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let over = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now))).is_err()
            || fds.iter().any(|socket| socket.revents().intersects(over))
    }

    /// Waits for content, up to a limit.
    fn comes(&mut self) -> bool {
        if self.flush().is_err() {
            return false;
        }
        let seconds = i64::try_from(STALLED.as_secs()).unwrap_or(i64::MAX);
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        matches!(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&time))), Ok(1..))
    }

    /// Queues a part. Sends what is queued first if both do not fit one packet.
    fn push(&mut self, kind: u8, bytes: &[u8]) -> Result<(), Broken> {
        if self.said.len() + PART + bytes.len() > PACKET {
            self.flush()?;
        }
        packet::push(&mut self.said, kind, bytes);
        Ok(())
    }

    /// Has the agent send a part of a file.
    fn lend(&mut self, file: &File, part: &FilePart) -> Result<(), Broken> {
        self.push(FILE, &part.bytes())?;
        let sent = packet::send(&self.socket, &self.said, &[file.as_fd()]);
        self.said.clear();
        sent.map_err(|_| Broken)
    }

    /// Sends what is queued.
    fn flush(&mut self) -> Result<(), Broken> {
        if self.said.is_empty() {
            return Ok(());
        }
        let sent = packet::send(&self.socket, &self.said, &[]);
        self.said.clear();
        sent.map_err(|_| Broken)
    }
}

impl Peer for Stream {
    fn socket(&self) -> Option<OwnedFd> {
        self.socket.try_clone().ok()
    }

    fn content(&mut self) -> Result<Option<Bytes>, Broken> {
        let Content::Coming(so_far) = self.content else {
            return if self.content == Content::Whole { Ok(None) } else { Err(Broken) };
        };
        let came = if self.is_asked() || self.comes() { self.part() } else { None };
        match came {
            Some((DATA, bytes)) => {
                self.content = Content::Coming(so_far + bytes.len() as u64);
                return Ok(Some(bytes));
            }
            Some((MESSAGE, bytes)) => match read_exact::<ToAgent>(&bytes) {
                Ok(ToAgent::Whole(length)) if length == so_far => {
                    self.content = Content::Whole;
                    return Ok(None);
                }
                Ok(ToAgent::GivenUp) => self.content = Content::GivenUp,
                // The announced length was wrong, or another question came in between.
                _ => self.content = Content::Gone,
            },
            // The stream ended, or nothing came, before the content was complete.
            _ => self.content = Content::Gone,
        }
        Err(Broken)
    }

    fn changes(&mut self, path: &Rel) {
        match self.found.paths.len() < PATHS {
            true => self.found.paths.push(path.clone()),
            false => self.found.more += 1,
        }
    }

    fn say(&mut self, said: &ToBridge) -> Result<(), Broken> {
        if let ToBridge::Head(head) = said {
            self.found.status = Some(head.status);
        }
        let bytes = farwire_protocol::cbor::encode(said);
        if bytes.len() > PAYLOAD {
            // This does not happen: senders split what is too long.
            return Err(Broken);
        }
        self.push(MESSAGE, &bytes)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        bytes.chunks(CONTENT).try_for_each(|piece| self.push(DATA, piece))
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> Result<(), Broken> {
        if length == 0 {
            return Ok(());
        }
        // A small part is sent with the answer. A large one is sent by the agent, and occupies no
        // thread here.
        if length <= SMALL {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut bytes, offset).map_err(|_| Broken)?;
            return self.data(&bytes);
        }
        self.lend(file, &FilePart { offset, length, opened: None })
    }

    fn file_of(&mut self, opened: OpenedFile<'_>, offset: u64, length: u64) -> Result<(), Broken> {
        let OpenedFile { file, path, stat } = opened;
        if length > SMALL {
            // The agent compares the revision after reading.
            let opened = Some((stat.revision, path.as_bytes().to_vec()));
            return self.lend(file, &FilePart { offset, length, opened });
        }
        self.file(file, offset, length)?;
        match rustix::fs::fstat(file).map(|now| Stat::new(&now)) {
            Ok(now) if now.revision != stat.revision => {
                self.say(&ToBridge::Entries(vec![now.entry(path.as_bytes())]))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
