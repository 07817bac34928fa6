//! Packets with descriptors, between the agent and its other processes: a Unix socket that keeps
//! packets whole.
//!
//! What one packet is, is in `files/src/worker/packet.rs`, which the worker of a root needs too.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use farwire_files::worker::packet;
pub(crate) use farwire_files::worker::packet::Packet;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::watch::watch;

/// The longest packet: a command has at most 64 KiB, and its environment as much.
pub(crate) const PACKET: usize = 192 << 10;

/// At most this many packets wait for a peer that does not read; further ones are refused.
const WAITING: usize = 4_096;

/// At most this many wait together with those of [`Channel::send_once`], of which there are few for
/// each job.
const ALL_WAITING: usize = 65_536;

/// One end of a connection. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Wakes us for what arrives, and not whenever the other end has taken what we sent.
    socket: AsyncFd<Arc<OwnedFd>>,
    waiting: Mutex<VecDeque<(Vec<u8>, Vec<OwnedFd>)>>,
    more: Notify,
}

impl Channel {
    /// Takes a connected socket, if its other end belongs to our own user.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        if peer(&socket)? != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("the process at its end belongs to another user"));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = watch(Arc::new(socket), Interest::READABLE)?;
        let (waiting, more) = (Mutex::default(), Notify::new());
        Ok(Self { shared: Arc::new(Shared { socket, waiting, more }) })
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(Vec<u8>, Vec<OwnedFd>)>> {
        self.shared.waiting.lock().expect("nothing panics while it is held")
    }

    /// The next packet; `None` when the other end is gone.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
        let socket = &self.shared.socket;
        let receive = |socket: &Arc<OwnedFd>| {
            packet::receive_with(socket.as_fd(), buffer, RecvFlags::DONTWAIT)
        };
        socket.async_io(Interest::READABLE, receive).await
    }

    /// Sends a packet, or keeps it until there is room: see [`Self::flush`]. Only receiving shows
    /// whether the other end is still there.
    ///
    /// # Errors
    ///
    /// If it is longer than the other end takes; [`io::ErrorKind::WouldBlock`] if too many wait
    /// already.
    pub(crate) fn send(&self, bytes: Vec<u8>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_within(WAITING, bytes, descriptors)
    }

    /// The same with a packet that must not get lost when others wait. It is not sent if an equal
    /// one waits already.
    pub(crate) fn send_once(&self, bytes: Vec<u8>) -> io::Result<()> {
        if self.waiting().iter().any(|(other, _)| *other == bytes) {
            return Ok(());
        }
        self.send_within(ALL_WAITING, bytes, &[])
    }

    /// The same for the reports of a holder, which are a few packets for each of its jobs.
    pub(crate) fn report(&self, bytes: Vec<u8>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_within(ALL_WAITING, bytes, descriptors)
    }

    fn send_within(
        &self,
        most: usize,
        bytes: Vec<u8>,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        if bytes.len() > PACKET {
            let text = format!("a packet of {} bytes, over {PACKET}", bytes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut waiting = self.waiting();
        if waiting.is_empty() {
            match send(self.shared.socket.get_ref().as_fd(), &bytes, descriptors) {
                Err(error) if is_full(&error) => {}
                Err(error) if is_too_long(&error) => return Err(error),
                Ok(()) | Err(_) => return Ok(()),
            }
        }
        if waiting.len() >= most {
            let text = format!("{} packets wait for it", waiting.len());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        // A descriptor that cannot be copied is missing at the other end, which reports that.
        let copies = descriptors.iter().filter_map(|one| one.try_clone_to_owned().ok()).collect();
        waiting.push_back((bytes, copies));
        self.shared.more.notify_one();
        Ok(())
    }

    /// Tells the other end that nothing more is sent.
    pub(crate) fn end(&self) {
        let _ = rustix::net::shutdown(self.shared.socket.get_ref().as_fd(), Shutdown::Write);
    }

    /// Sends what waits, whenever there is room. Never ends.
    pub(crate) async fn flush(&self) {
        loop {
            self.shared.more.notified().await;
            // A packet that cannot be sent at all is dropped.
            let _ = self.send_waiting().await;
        }
    }

    async fn send_waiting(&self) -> io::Result<()> {
        let socket = self.shared.socket.get_ref().try_clone()?;
        let socket = watch(Arc::new(socket), Interest::WRITABLE)?;
        while !self.waiting().is_empty() {
            let sent = socket.async_io(Interest::WRITABLE, |socket| {
                let waiting = self.waiting();
                let Some((bytes, copies)) = waiting.front() else { return Ok(()) };
                let copies: Vec<_> = copies.iter().map(OwnedFd::as_fd).collect();
                send(socket.as_fd(), bytes, &copies)
            });
            let _ = sent.await;
            self.waiting().pop_front();
        }
        Ok(())
    }
}

/// The user whose process is at the other end, according to the kernel.
#[cfg(target_os = "linux")]
fn peer(socket: &OwnedFd) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw())
}

/// As above.
#[cfg(not(target_os = "linux"))]
fn peer(socket: &OwnedFd) -> io::Result<u32> {
    let socket = std::os::unix::net::UnixStream::from(socket.try_clone()?);
    Ok(tokio::net::UnixStream::from_std(socket)?.peer_cred()?.uid())
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    packet::send_with(socket, bytes, descriptors, SendFlags::DONTWAIT)
}

/// Whether there will never be room for it.
fn is_too_long(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::MSGSIZE)
}

/// Whether there will be room later.
fn is_full(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::AGAIN | Errno::NOBUFS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_no_room_is_refused_and_not_lost() {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        let (ours, theirs) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
        let packet = |number: u32| [&number.to_be_bytes()[..], &[0; 1_000]].concat();
        let refused = (0..).find(|&number| ours.send(packet(number), &[]).is_err()).unwrap();
        assert!(refused >= WAITING as u32);
        let error = ours.send(packet(refused), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        for _ in 0..3 {
            ours.send_once(b"once".to_vec()).unwrap();
        }
        let (mut buffer, mut came) = (vec![0; PACKET], 0);
        let read = async {
            loop {
                let packet = theirs.receive(&mut buffer).await.unwrap().unwrap();
                if packet.bytes == b"once" {
                    return;
                }
                assert_eq!(packet.bytes[..4], u32::to_be_bytes(came));
                came += 1;
            }
        };
        tokio::select! {
            () = read => {}
            () = ours.flush() => {}
        }
        assert_eq!(came, refused, "all that was not refused");
        assert!(ours.waiting().is_empty(), "it waited once");
    }
}
