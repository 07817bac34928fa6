//! The UDP socket as QUIC sees it.
//!
//! Two things differ from quinn's own:
//!
//! - Receive buffers have a size that fits. quinn makes room for as many of the largest packets as the
//!   kernel may ever join into one read, 64, although the kernel joins 64 KiB at most. For packets of
//!   6,500 bytes that would be 13 MB for each socket instead of 2.
//! - It is watched for what comes, and for room only while there is none. Else every packet that is
//!   sent wakes its sender once more, when it has left: on the way of a key that is six times.

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

/// So many of the largest packets are as long as the longest read, or a little longer.
const JOINED: usize = (64 << 10) / LARGEST_PACKET as usize + 1;

/// A socket of the runtime.
pub(super) struct Socket {
    io: AsyncFd<UdpSocket>,
    state: UdpSocketState,
    /// There was no room for the last packet.
    full: AtomicBool,
}

impl Socket {
    /// Hands a bound socket to the runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Arc<Self>> {
        // Makes it non-blocking, too.
        let state = UdpSocketState::new((&socket).into())?;
        let io = watch(socket, Interest::READABLE)?;
        Ok(Arc::new(Self { io, state, full: AtomicBool::new(false) }))
    }
}

fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: the socket is owned by the result, and its descriptor stays open and the same.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(self.io.get_ref()).finish()
    }
}

/// Waits for room in the socket, for one connection.
#[derive(Debug)]
struct Room {
    socket: Arc<Socket>,
    /// Our own copy, watched while there is none.
    waiting: Option<AsyncFd<UdpSocket>>,
}

impl UdpPoller for Room {
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
        Box::pin(Room { socket: self, waiting: None })
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
                // There was room for more, so that was all: what comes later is told anew. It saves the
                // call that finds nothing, with each key.
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
        self.state.gro_segments().min(JOINED)
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}
