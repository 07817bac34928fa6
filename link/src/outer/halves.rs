//! The two halves of a stream: bytes, an end, and resets with a reason.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use farwire_protocol::header::Reset;
use quinn::{ReadError, VarInt, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::outer::window::{ReceiveWindow, WindowShare};

/// The error of a half that the peer has reset.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset ({0:?})")]
pub(super) struct ResetByPeer(pub(super) Reset);

fn reset(code: VarInt) -> Reset {
    Reset::from_code(u32::try_from(code.into_inner()).unwrap_or(u32::MAX))
}

fn code(reset: Reset) -> VarInt {
    VarInt::from_u32(reset.code())
}

fn read_error(error: ReadError) -> io::Error {
    match error {
        ReadError::Reset(code) => {
            io::Error::new(io::ErrorKind::ConnectionReset, ResetByPeer(reset(code)))
        }
        other => other.into(),
    }
}

fn write_error(error: WriteError) -> io::Error {
    match error {
        WriteError::Stopped(code) => {
            io::Error::new(io::ErrorKind::ConnectionReset, ResetByPeer(reset(code)))
        }
        other => other.into(),
    }
}

/// The sending half. Dropping it before [`Self::finish`] resets it with [`Reset::Cancelled`].
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

    /// Ends the stream: everything written is delivered, then the end.
    pub fn finish(&mut self) {
        self.over = true;
        // Fails only if the half was finished or reset before.
        let _ = self.stream.finish();
    }

    /// Resets the stream.
    pub fn reset(&mut self, reason: Reset) {
        self.over = true;
        // Fails only if the half was finished or reset before.
        let _ = self.stream.reset(code(reason));
    }

    /// Waits until the peer has received everything (`None`) or stops the stream with this reason.
    pub fn stopped(&self) -> impl Future<Output = Option<Reset>> + Send + 'static {
        let stopped = self.stream.stopped();
        async move { stopped.await.ok().flatten().map(reset) }
    }

    /// Waits until the peer has received everything or stops the stream. Returns false if the
    /// connection is lost first, so that no acknowledgement came.
    pub fn acknowledged(&self) -> impl Future<Output = bool> + Send + 'static {
        let stopped = self.stream.stopped();
        async move { stopped.await.is_ok() }
    }

    /// Sets the priority; higher is sent first on this connection.
    pub fn set_priority(&self, priority: i32) {
        // Fails only if the half has ended.
        let _ = self.stream.set_priority(priority);
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.over {
            // quinn would finish the stream, and a truncation would look like an end.
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

/// The receiving half. Dropping it tells the peer to stop.
#[derive(Debug)]
pub struct RecvHalf {
    stream: quinn::RecvStream,
    /// The connection's receive window, if it depends on which streams have authenticated.
    window: Option<ReceiveWindow>,
    share: Option<WindowShare>,
}

impl RecvHalf {
    pub(super) fn new(stream: quinn::RecvStream) -> Self {
        Self { stream, window: None, share: None }
    }

    pub(super) fn with_window(stream: quinn::RecvStream, window: ReceiveWindow) -> Self {
        Self { window: Some(window), ..Self::new(stream) }
    }

    /// Records that the first frame has authenticated, which grants the sender a full stream
    /// window.
    pub fn authenticated(&mut self) {
        self.share = self.window.take().map(WindowShare::new);
    }

    /// Reads the next bytes without copying them; returns `None` at the end.
    pub async fn read_chunk(&mut self, limit: usize) -> io::Result<Option<Bytes>> {
        let chunk = self.stream.read_chunk(limit, true).await.map_err(read_error)?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// Reads several chunks at once, as many as are available and fit; returns 0 at the end.
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> io::Result<usize> {
        Ok(self.stream.read_chunks(chunks).await.map_err(read_error)?.unwrap_or(0))
    }

    /// Tells the peer to stop sending.
    pub fn stop(&mut self, reason: Reset) {
        // Fails only if the half has ended.
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
