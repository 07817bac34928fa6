//! The UDP socket as QUIC sees it.
//!
//! Two things differ from quinn's own:
//!
//! - Receive buffers are smaller. quinn allocates for 64 packets of the largest size, the most that
//!   the kernel may ever coalesce into one read, although the kernel coalesces at most 64 KiB. With
//!   packets of 6,500 bytes that would be 13 MB per socket instead of 2.
//! - The socket is polled for writability only while it is full. Otherwise every packet wakes its
//!   sender again once it has left: six times on the path of a key.

#![expect(unsafe_code, reason = "tokio wants a promise that a descriptor stays open")]

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::outer::transport::LARGEST_PACKET;

/// The number of largest packets that cover the longest read.
const COALESCED: usize = (64 << 10) / LARGEST_PACKET as usize + 1;

/// A UDP socket that is registered with the runtime.
pub(super) struct Socket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// Whether the send buffer was full at the last packet.
    full: AtomicBool,
}

impl Socket {
    /// Registers a bound socket with the runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Arc<Self>> {
        // Also makes the socket non-blocking.
        let state = UdpSocketState::new((&socket).into())?;
        let io = watch(socket, Interest::READABLE)?;
        Ok(Arc::new(Self { io, state, full: AtomicBool::new(false) }))
    }
}

fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: the result owns the socket, so that its descriptor stays open and does not change.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(self.io.get_ref()).finish()
    }
}

/// Waits until the socket is writable, for one connection.
#[derive(Debug)]
struct WritePoller {
    socket: Arc<Socket>,
    /// A duplicate of the socket, registered only while the socket is full.
    waiting: Option<AsyncFd<UdpSocket>>,
}

impl UdpPoller for WritePoller {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, waiting } = self.get_mut();
        if socket.full.load(Ordering::Acquire) {
            let waiting = match waiting {
                Some(waiting) => waiting,
                None => {
                    let copy = socket.io.get_ref().try_clone()?;
                    waiting.insert(watch(copy, Interest::WRITABLE)?)
                }
            };
            drop(ready!(waiting.poll_write_ready(context))?);
            socket.full.store(false, Ordering::Release);
        }
        *waiting = None;
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritePoller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.full.store(true, Ordering::Release);
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.io.poll_read_ready(context))?;
            let received = ready.try_io(|io| self.state.recv(io.get_ref().into(), buffers, meta));
            if let Ok(received) = received {
                // The buffers were not filled, so the socket is drained, and a later packet signals
                // readiness again. This saves one fruitless system call per key.
                if received.as_ref().is_ok_and(|&count| count < buffers.len().min(meta.len())) {
                    ready.clear_ready();
                }
                return Poll::Ready(received);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments().min(COALESCED)
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}
