//! One stream's socket to its worker.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use farwire_files::worker::packet::{self, Packet};
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::os::watch::watch;

/// A socket to a worker. It is closed when it is dropped, and the worker gives up what it was doing.
#[derive(Debug)]
pub(crate) struct Pipe {
    socket: AsyncFd<Arc<OwnedFd>>,
}

impl Pipe {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = watch(Arc::new(socket), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { socket })
    }

    /// The next packet; `None` when the worker is gone.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
        let receive = |socket: &Arc<OwnedFd>| {
            packet::receive_with(socket.as_fd(), buffer, RecvFlags::DONTWAIT)
        };
        self.socket.async_io(Interest::READABLE, receive).await
    }

    /// The next packet, if it is there.
    pub(crate) fn received(&self, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
        packet::receive_with(self.socket.get_ref().as_fd(), buffer, RecvFlags::DONTWAIT)
    }

    /// Sends a packet, once there is room.
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let send = |socket: &Arc<OwnedFd>| {
            packet::send_with(socket.as_fd(), bytes, &[], SendFlags::DONTWAIT)
        };
        self.socket.async_io(Interest::WRITABLE, send).await
    }
}
