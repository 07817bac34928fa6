//! The UDP socket as QUIC sees it: the runtime's own, with receive buffers of a size that fits.
//!
//! quinn makes room for as many of the largest packets as the kernel may ever join into one read, 64,
//! although the kernel joins 64 KiB at most. For packets of 6,500 bytes that would be 13 MB for each
//! socket instead of 2.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};

use crate::outer::transport::LARGEST_PACKET;

/// So many of the largest packets are as long as the longest read, or a little longer.
const JOINED: usize = (64 << 10) / LARGEST_PACKET as usize + 1;

/// A socket of the runtime.
pub(super) struct Socket(Arc<dyn AsyncUdpSocket>);

impl Socket {
    /// Hands a bound socket to the runtime.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self(TokioRuntime.wrap_udp_socket(socket)?)))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments().min(JOINED)
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}
