//! The two halves of a stream: bytes, an end, and a reset with a reason.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use farwire_protocol::header::Reset;
use quinn::{ReadError, VarInt, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::outer::room::{Room, Share};

/// The peer reset a half of the stream.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset ({0:?})")]
pub(super) struct WasReset(pub(super) Reset);

fn reset(code: VarInt) -> Reset {
    Reset::from_code(u32::try_from(code.into_inner()).unwrap_or(u32::MAX))
}

fn code(reset: Reset) -> VarInt {
    VarInt::from_u32(reset.code())
}

fn read_error(error: ReadError) -> io::Error {
    match error {
        ReadError::Reset(code) => {
            io::Error::new(io::ErrorKind::ConnectionReset, WasReset(reset(code)))
        }
        other => other.into(),
    }
}

fn write_error(error: WriteError) -> io::Error {
    match error {
        WriteError::Stopped(code) => {
            io::Error::new(io::ErrorKind::ConnectionReset, WasReset(reset(code)))
        }
        other => other.into(),
    }
}

/// The half that is written. Dropping it without an end resets it with [`Reset::Cancelled`].
#[derive(Debug)]
pub struct SendHalf {
    stream: quinn::SendStream,
    over: bool,
}

impl SendHalf {
    pub(super) fn new(stream: quinn::SendStream) -> Self {
        Self { stream, over: false }
    }

    /// Writes a chunk without copying it.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        self.stream.write_chunk(chunk).await.map_err(write_error)
    }

    /// Ends it: everything written arrives, then an end.
    pub fn finish(&mut self) {
        self.over = true;
        // It fails only when it has been finished or reset before.
        let _ = self.stream.finish();
    }

    /// Breaks it off.
    pub fn reset(&mut self, reason: Reset) {
        self.over = true;
        // It fails only when it has been finished or reset before.
        let _ = self.stream.reset(code(reason));
    }

    /// Waits until the peer has everything (`None`) or wants no more, for this reason.
    pub fn stopped(&self) -> impl Future<Output = Option<Reset>> + Send + 'static {
        let stopped = self.stream.stopped();
        async move { stopped.await.ok().flatten().map(reset) }
    }

    /// Waits until the peer has everything, or wants no more. `false` when the connection is lost before:
    /// nobody has been there to say so.
    pub fn acknowledged(&self) -> impl Future<Output = bool> + Send + 'static {
        let stopped = self.stream.stopped();
        async move { stopped.await.is_ok() }
    }

    /// Higher goes first on this connection.
    pub fn set_priority(&self, priority: i32) {
        // It fails only when the half is over.
        let _ = self.stream.set_priority(priority);
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.over {
            // quinn would finish it, and a cut would look like an end.
            let _ = self.stream.reset(code(Reset::Cancelled));
        }
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes).map_err(write_error)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

/// The half that is read. Dropping it tells the peer to stop.
#[derive(Debug)]
pub struct RecvHalf {
    stream: quinn::RecvStream,
    /// The connection's, where it depends on who has authenticated.
    room: Option<Room>,
    share: Option<Share>,
}

impl RecvHalf {
    pub(super) fn new(stream: quinn::RecvStream) -> Self {
        Self { stream, room: None, share: None }
    }

    pub(super) fn with_room(stream: quinn::RecvStream, room: Room) -> Self {
        Self { room: Some(room), ..Self::new(stream) }
    }

    /// Its first frame has authenticated: its sender may have a stream's whole window under way.
    pub fn authenticated(&mut self) {
        self.share = self.room.take().map(Share::of);
    }

    /// The next bytes without copying them; `None` at the end.
    pub async fn read_chunk(&mut self, limit: usize) -> io::Result<Option<Bytes>> {
        let chunk = self.stream.read_chunk(limit, true).await.map_err(read_error)?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// Several chunks at once, as many as are there and fit; 0 at the end.
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> io::Result<usize> {
        Ok(self.stream.read_chunks(chunks).await.map_err(read_error)?.unwrap_or(0))
    }

    /// Tells the peer that nothing more is wanted.
    pub fn stop(&mut self, reason: Reset) {
        // It fails only when the half is over.
        let _ = self.stream.stop(code(reason));
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.poll_read_buf(context, buffer).map_err(read_error)
    }
}
