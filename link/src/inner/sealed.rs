//! Sealed streams: reads and writes frames over a byte stream.
//!
//! Calls on both halves are cancel safe: bytes that have been read or sealed stay in their buffers.
//! A reader distinguishes an end from a truncation: only an authenticated FINAL is an end.
//!
//! A message is one frame. A larger message, which data from a peer or a program may cause, is not
//! sent: the direction ends with a failure that says so, and the writer's next flush fails.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use farwire_protocol::conversation::{self, CREATE_FIRST, CREATE_LIMIT, End, Open};
use farwire_protocol::failure::{Failure, Kind as FailureKind};
use farwire_protocol::frame::{self, BadFrame, Kind, Opener, Plain, Sealer};
use farwire_protocol::header::Reset;
use farwire_protocol::record::RecordKey;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::outer::reset_of;

/// How many bytes are read at once: four frames of the largest size.
const READ_AHEAD: usize = 4 * frame::MAX;

/// How many bytes are sealed before they should be flushed: four full payloads.
pub const BATCH: usize = 4 * frame::PAYLOAD;

/// A frame that has been authenticated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// The frame's type.
    pub kind: Kind,
    /// The channel of DATA.
    pub channel: u8,
    /// Whether it is the last frame of this direction (FINAL).
    pub last: bool,
    /// The payload.
    pub payload: Bytes,
}

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream ended without FINAL.
    #[error("the stream was cut")]
    Truncated,
    /// The peer, or somebody on the path, reset the stream. Not authenticated.
    #[error("the stream was reset ({0:?})")]
    Reset(Reset),
    /// The connection that carries the stream is lost.
    #[error("the connection is lost")]
    Lost(#[source] io::Error),
    /// The bytes are not a valid next frame.
    #[error("{0}")]
    Bad(#[from] BadFrame),
}

impl ReadError {
    /// Whether the conversation may be resumed in another stream: the carrier failed, and the
    /// authenticated peer has not violated the protocol.
    pub fn is_carrier(&self) -> bool {
        !matches!(self, Self::Bad(BadFrame::Violation(_)))
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Bad(bad) => bad.into(),
            ReadError::Truncated => Self::new(FailureKind::StreamTruncated, error.to_string()),
            ReadError::Reset(_) | ReadError::Lost(_) => {
                Self::caused(FailureKind::LinkLost, "the stream broke off", &error)
            }
        }
    }
}

/// The reading half.
#[derive(Debug)]
pub struct Reader<R> {
    io: R,
    opener: Opener,
    buffer: BytesMut,
    /// A frame that has been authenticated but not yet returned.
    peeked: Option<Frame>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads frames that are sealed with `key`.
    pub fn new(io: R, key: RecordKey) -> Self {
        Self { io, opener: Opener::new(key), buffer: BytesMut::new(), peeked: None }
    }

    /// Reads the next frame. After FINAL this fails with `Violation`.
    pub async fn next(&mut self) -> Result<Frame, ReadError> {
        self.authenticate().await?;
        Ok(self.peeked.take().expect("`authenticate` stores a frame"))
    }

    /// Waits until the next frame has authenticated, and keeps it for [`Reader::next`].
    pub async fn authenticate(&mut self) -> Result<(), ReadError> {
        loop {
            self.peeked = self.buffered()?;
            if self.peeked.is_some() {
                return Ok(());
            }
            self.buffer.reserve(READ_AHEAD);
            match self.io.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(ReadError::Truncated),
                Ok(_) => {}
                Err(error) => {
                    return Err(reset_of(&error).map_or(ReadError::Lost(error), ReadError::Reset));
                }
            }
        }
    }

    /// Returns the next frame if all of it has been read already. Never waits.
    pub fn buffered(&mut self) -> Result<Option<Frame>, ReadError> {
        if let Some(frame) = self.peeked.take() {
            return Ok(Some(frame));
        }
        let Some((prefix, _)) = self.buffer.split_first_chunk::<{ frame::LENGTH }>() else {
            return Ok(None);
        };
        let prefix = *prefix;
        let length = frame::ciphertext_length(prefix)?;
        if self.buffer.len() < frame::LENGTH + length {
            return Ok(None);
        }
        self.buffer.advance(frame::LENGTH);
        let mut text = self.buffer.split_to(length);
        let opened = self.opener.open(prefix, &mut text)?;
        let payload = text.freeze().slice(opened.payload);
        Ok(Some(Frame { kind: opened.kind, channel: opened.channel, last: opened.last, payload }))
    }

    /// Whether FINAL has been read.
    pub fn has_ended(&self) -> bool {
        self.opener.has_ended()
    }

    /// The underlying reader.
    pub fn io(&mut self) -> &mut R {
        &mut self.io
    }

    /// Returns the underlying reader.
    pub fn into_io(self) -> R {
        self.io
    }

    /// Reads the first message of a stream, including a long request over several frames.
    pub async fn open_message(&mut self) -> Result<Open, OpenError> {
        let first = self.next().await?;
        if first.kind != Kind::Open {
            return Err(OpenError::NotOpen);
        }
        let mut open: Open =
            conversation::read(&first.payload).map_err(|_| OpenError::Malformed)?;
        let Some(mut more) =
            open.more.take().map(|more| usize::try_from(more).unwrap_or(usize::MAX))
        else {
            return Ok(open);
        };
        let create = &mut open.create.as_mut().ok_or(OpenError::Malformed)?.0;
        if create.len().saturating_add(more) > CREATE_LIMIT {
            return Err(OpenError::Malformed);
        }
        while more > 0 {
            let frame = self.next().await?;
            if frame.kind != Kind::Open || frame.payload.is_empty() || frame.payload.len() > more {
                return Err(OpenError::NotOpen);
            }
            create.extend_from_slice(&frame.payload);
            more -= frame.payload.len();
        }
        Ok(open)
    }
}

/// Why the first message of a stream is refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A frame could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The stream begins with something else.
    #[error("the stream does not begin with OPEN")]
    NotOpen,
    /// The message does not decode, or breaks its limits.
    #[error("malformed OPEN")]
    Malformed,
}

/// The writing half.
#[derive(Debug)]
pub struct Writer<W> {
    io: W,
    sealer: Sealer,
    /// Sealed bytes; the first `written` of them have been written to `io`.
    sealed: Vec<u8>,
    written: usize,
    /// Whether a message was larger than a frame, so that the direction has ended with a failure.
    failed: bool,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Seals frames with `key`. `head` is sent before the first frame, unsealed.
    pub fn new(io: W, key: RecordKey, head: &[u8]) -> Self {
        Self { io, sealer: Sealer::new(key), sealed: head.to_vec(), written: 0, failed: false }
    }

    /// Seals a message of the conversation. The next [`Writer::flush`] sends it.
    pub fn message(&mut self, payload: &[u8]) {
        self.seal_message(Kind::Control, false, payload);
    }

    /// Seals the end of this direction. The next [`Writer::flush`] sends it.
    pub fn end(&mut self, payload: &[u8]) {
        self.seal_message(Kind::Control, true, payload);
    }

    /// Seals bytes of a channel, in as many frames as needed. Callers flush once about [`BATCH`]
    /// bytes wait.
    pub fn data(&mut self, channel: u8, bytes: &[u8]) {
        for part in bytes.chunks(frame::PAYLOAD) {
            self.push(Kind::Data, channel, false, part);
        }
    }

    /// Seals the first message of a stream, in as many frames as needed.
    pub fn open(&mut self, mut open: Open) {
        let mut rest = Vec::new();
        if let Some(create) = &mut open.create
            && create.len() > CREATE_FIRST
        {
            rest = create.0.split_off(CREATE_FIRST);
            open.more = Some(u32::try_from(rest.len()).expect("a request is below its limit"));
        }
        self.seal_message(Kind::Open, false, &conversation::message(&open));
        for part in rest.chunks(frame::PAYLOAD) {
            self.push(Kind::Open, 0, false, part);
        }
    }

    /// Seals a message as one frame, or ends the direction with a failure if it is too large.
    fn seal_message(&mut self, kind: Kind, last: bool, payload: &[u8]) {
        if payload.len() <= frame::PAYLOAD {
            self.push(kind, 0, last, payload);
        } else if !self.failed {
            let text = format!("a message of {} bytes does not fit one frame", payload.len());
            let end = End::from_failure(Failure::new(FailureKind::Internal, text));
            self.push(Kind::Control, 0, true, &conversation::message(&end));
            self.failed = true;
        }
    }

    fn push(&mut self, kind: Kind, channel: u8, last: bool, payload: &[u8]) {
        if self.failed {
            return;
        }
        self.sealer.seal(Plain { kind, channel, last, payload }, &mut self.sealed);
    }

    /// The number of sealed bytes that have not been written.
    pub fn waiting(&self) -> usize {
        self.sealed.len() - self.written
    }

    /// Whether FINAL has been sealed.
    pub fn has_ended(&self) -> bool {
        self.sealer.has_ended()
    }

    /// Writes all sealed bytes.
    ///
    /// If a message was larger than a frame, fails with [`io::ErrorKind::InvalidData`] after
    /// writing.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.write_sealed().await?;
        self.check()
    }

    /// Writes all sealed bytes and ends the transport stream. Fails as [`Self::flush`] does.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.write_sealed().await?;
        self.io.shutdown().await?;
        self.check()
    }

    async fn write_sealed(&mut self) -> io::Result<()> {
        while let Some(waiting) = self.sealed.get(self.written..).filter(|rest| !rest.is_empty()) {
            let count = self.io.write(waiting).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += count;
        }
        self.sealed.clear();
        self.written = 0;
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        match self.failed {
            true => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a message exceeded the frame limit",
            )),
            false => Ok(()),
        }
    }

    /// The underlying writer.
    pub fn io(&mut self) -> &mut W {
        &mut self.io
    }
}
