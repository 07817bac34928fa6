//! One stream: questions come in, and each is answered before the next is looked at.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farwire_protocol::conversation::{message, read};
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::frame::PAYLOAD;
use farwire_protocol::streams::files::{Ask, Done, ToAgent, ToBridge};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;

use super::Shared;
use super::message::Serve;
use super::packet::{self, CONTENT, DATA, END, FILE, MESSAGE, PACKET};
use crate::dav::Dav;
use crate::peer::{Broken, Peer};
use crate::tree::Tree;
use crate::undo::Undo;
use crate::verbs::{self, Desk, Stop};

/// Content that does not come for so long is not waited for any more: it holds a thread.
const STALLED: Duration = Duration::from_secs(60);

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    socket: OwnedFd,
    tree: Arc<Tree>,
    dav: Option<Dav>,
    undo: Option<Arc<Undo>>,
    who: String,
    greeting: Option<ToBridge>,
    buffer: Vec<u8>,
    /// What of the question's content has come.
    content: Content,
    /// The agent has been told that it is over.
    over: bool,
}

/// How far the content of a question is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Content {
    /// So many bytes of it have come.
    Coming(u64),
    /// There is none, or it is whole.
    Whole,
    /// It was given up.
    GivenUp,
    /// There is nobody to send it.
    Gone,
}

/// Whether a stream can be asked more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// It waits for a question.
    Waits,
    /// It is over.
    Over,
}

impl Stream {
    pub(super) fn new(socket: OwnedFd, tree: Tree, (shared, serve): (&Shared, &Serve)) -> Self {
        let tree = Arc::new(tree);
        let read_only = !tree.rules().writable;
        let dav = serve.enter.prefix.as_ref().and_then(|prefix| {
            // A prefix that is none is said when something is asked with it.
            Dav::new(tree.clone(), shared.locks.clone(), prefix, read_only).ok()
        });
        let greeting = Some(ToBridge::Entered(serve.root.clone()));
        let buffer = vec![0; PACKET];
        let (undo, who) = (shared.undo.clone(), serve.who.clone());
        let content = Content::Whole;
        Self { socket, tree, dav, undo, who, greeting, buffer, content, over: false }
    }

    /// Tells a stream that there is nothing for it.
    pub(super) fn refuse(socket: &OwnedFd, failure: Failure) {
        let done = ToBridge::Done(Box::new(Done::failed(failure)));
        // Nobody may listen.
        let _ = packet::send_parts(
            socket.as_fd(),
            [&[MESSAGE], &message(&done)],
            &[],
            SendFlags::empty(),
        );
        let _ = packet::send(socket, &[END], &[]);
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Says what was entered. The first thing that is said.
    pub(super) fn greet(&mut self) -> Next {
        match self.greeting.take().map(|greeting| self.say(&greeting)) {
            None | Some(Ok(())) => Next::Waits,
            Some(Err(Broken)) => Next::Over,
        }
    }

    /// Answers the question that waits.
    pub(super) fn serve(&mut self) -> Next {
        let Some((kind, bytes)) = self.packet() else { return Next::Over };
        let asked = match kind {
            END => {
                // The agent closes when it has read this.
                let _ = packet::send(&self.socket, &[END], &[]);
                return Next::Over;
            }
            MESSAGE => read::<ToAgent>(&bytes).ok(),
            _ => None,
        };
        let Some(ToAgent::Ask(ask)) = asked else {
            let failure =
                Failure::new(Kind::ProtocolViolation, "content without a question, or no message");
            Self::refuse(&self.socket, failure);
            return Next::Over;
        };
        self.content = if ask.has_content() { Content::Coming(0) } else { Content::Whole };
        // What a question breaks is its own answer, and nobody else's.
        let answered = catch_unwind(AssertUnwindSafe(|| self.answer(&ask)));
        let done = match answered {
            Ok(Ok(done)) => done,
            Ok(Err(Stop::Failed(failure))) => Done::failed(failure),
            Ok(Err(Stop::Broken)) if self.content == Content::GivenUp => Done::failed(
                Failure::new(Kind::Cancelled, "the content was given up; nothing was changed"),
            ),
            Ok(Err(Stop::Broken)) => return Next::Over,
            Err(_) => Done::failed(Failure::new(
                Kind::Internal,
                "the file worker failed at this question",
            )),
        };
        while matches!(self.content, Content::Coming(_)) {
            // What is left of the content is not wanted, and comes nevertheless.
            let _ = self.content();
        }
        let told =
            self.content != Content::Gone && self.say(&ToBridge::Done(Box::new(done))).is_ok();
        if told && !self.over { Next::Waits } else { Next::Over }
    }

    fn answer(&mut self, ask: &Ask) -> Result<Done, Stop> {
        let Ask::Http(http) = ask else {
            let (tree, undo, who) = (self.tree.clone(), self.undo.clone(), self.who.clone());
            let desk = Desk { tree: &tree, undo: undo.as_deref(), who: &who };
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

    /// The next packet: what it is, and what it carries. `None` when nothing comes any more.
    fn packet(&mut self) -> Option<(u8, Bytes)> {
        let received = packet::receive(&self.socket, &mut self.buffer).ok().flatten()?;
        let mut bytes = Bytes::from(received.bytes);
        let kind = bytes.split_to(1);
        Some((*kind.first()?, bytes))
    }

    /// Waits for content, but not for ever.
    fn comes(&self) -> bool {
        let seconds = i64::try_from(STALLED.as_secs()).unwrap_or(i64::MAX);
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        matches!(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&time))), Ok(1..))
    }

    /// Sends a packet.
    fn send(&self, kind: u8, bytes: &[u8]) -> Result<(), Broken> {
        packet::send_parts(self.socket.as_fd(), [&[kind], bytes], &[], SendFlags::empty())
            .map_err(|_| Broken)
    }
}

impl Peer for Stream {
    fn content(&mut self) -> Result<Option<Bytes>, Broken> {
        let Content::Coming(so_far) = self.content else {
            return if self.content == Content::Whole { Ok(None) } else { Err(Broken) };
        };
        let came = if self.comes() { self.packet() } else { None };
        match came {
            Some((DATA, bytes)) => {
                self.content = Content::Coming(so_far + bytes.len() as u64);
                return Ok(Some(bytes));
            }
            Some((MESSAGE, bytes)) => match read::<ToAgent>(&bytes) {
                Ok(ToAgent::Whole(length)) if length == so_far => {
                    self.content = Content::Whole;
                    return Ok(None);
                }
                Ok(ToAgent::GivenUp) => self.content = Content::GivenUp,
                // A length that is not that of what came, or another question in the middle.
                _ => self.content = Content::Gone,
            },
            // The end of the stream, or nothing, before the content was whole.
            _ => self.content = Content::Gone,
        }
        Err(Broken)
    }

    fn say(&mut self, said: &ToBridge) -> Result<(), Broken> {
        let bytes = farwire_protocol::cbor::encode(said);
        if bytes.len() > PAYLOAD {
            // Never so: whoever says something cuts it before.
            return Err(Broken);
        }
        self.send(MESSAGE, &bytes)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        bytes.chunks(CONTENT).try_for_each(|piece| self.send(DATA, piece))
    }

    fn file(&mut self, file: &File, offset: u64, length: u64) -> Result<(), Broken> {
        if length == 0 {
            return Ok(());
        }
        let mut bytes = [0; 17];
        bytes[0] = FILE;
        bytes[1..9].copy_from_slice(&offset.to_be_bytes());
        bytes[9..].copy_from_slice(&length.to_be_bytes());
        packet::send(&self.socket, &bytes, &[file.as_fd()]).map_err(|_| Broken)
    }
}
