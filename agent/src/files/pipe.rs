//! One stream's socket to its worker.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use farwire_files::worker::packet::{self, Packet};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::waits::{Received, Waits};
use crate::os::watch::watch;

/// A socket to a worker. Dropping it closes it, and the worker gives up what it was doing.
#[derive(Debug)]
pub(crate) struct Pipe {
    socket: AsyncFd<Arc<OwnedFd>>,
    waits: Waits,
}

impl Pipe {
    /// A socket to the worker of a root with these `waits`.
    pub(crate) fn new(socket: OwnedFd, waits: Waits) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = watch(Arc::new(socket), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { socket, waits })
    }

    /// The threads that wait for its files.
    pub(crate) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// The descriptors that came with a packet, in the same order.
    pub(crate) fn hold(&self, descriptors: Vec<OwnedFd>) -> impl Iterator<Item = Received> + use<> {
        let waits = &self.waits;
        let held: Vec<_> =
            descriptors.into_iter().map(|one| Received::new(one, waits.clone())).collect();
        held.into_iter()
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

    /// Sends no more requests, and waits until the worker has let go: what it has begun is done by
    /// then, and what it has not begun will not be.
    pub(crate) async fn let_go(self) {
        let _ = rustix::net::shutdown(self.socket.get_ref().as_fd(), Shutdown::Write);
        let mut buffer = vec![0; packet::PACKET];
        while let Ok(Some(_)) = self.receive(&mut buffer).await {}
    }

    /// Sends a packet, once there is room.
    pub(crate) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let send = |socket: &Arc<OwnedFd>| {
            packet::send_with(socket.as_fd(), bytes, &[], SendFlags::DONTWAIT)
        };
        self.socket.async_io(Interest::WRITABLE, send).await
    }
}
