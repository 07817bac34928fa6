//! Whether somebody still waits for an answer that takes long.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farwire_protocol::failure::{Failure, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// It is looked at again after so much work, in bytes that were read.
const WORK: usize = 4 << 20;

/// A name that a walk came to is as much work as so many bytes.
const NAME: usize = 16 << 10;

/// The other end of a stream, as those see it that do not talk to it.
#[derive(Debug, Default)]
pub struct Listener {
    socket: Option<Arc<OwnedFd>>,
    /// What was done since it was looked at.
    work: AtomicUsize,
}

impl Listener {
    /// Looks at the other end of this socket.
    pub fn new(socket: Arc<OwnedFd>) -> Self {
        // It may have gone before anything was done.
        Self { socket: Some(socket), work: AtomicUsize::new(WORK) }
    }

    /// A walk came to a name.
    ///
    /// # Errors
    ///
    /// `cancelled` if nobody listens any more.
    pub(super) fn check_after_name(&self) -> Result<(), Failure> {
        self.check_after(NAME)
    }

    /// So many bytes were read.
    pub(super) fn check_after(&self, bytes: usize) -> Result<(), Failure> {
        let Some(socket) = &self.socket else { return Ok(()) };
        if self.work.fetch_add(bytes, Ordering::Relaxed) < WORK {
            return Ok(());
        }
        self.work.store(0, Ordering::Relaxed);
        let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
        let over = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now))) {
            Ok(1..) if fds[0].revents().intersects(over) => {
                // Whoever asks next is told at once.
                self.work.store(WORK, Ordering::Relaxed);
                Err(Failure::new(Kind::Cancelled, "nobody listens"))
            }
            // What cannot be looked at is found out when something is said.
            _ => Ok(()),
        }
    }

    /// A file that is read only as long as somebody listens.
    pub(super) fn reader<R: Read>(&self, file: R) -> WatchedReader<'_, R> {
        WatchedReader { listener: self, file }
    }
}

/// A file, and who waits for what is in it.
#[derive(Debug)]
pub(super) struct WatchedReader<'a, R> {
    listener: &'a Listener,
    file: R,
}

impl<R: Read> Read for WatchedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.listener
            .check_after(buffer.len())
            .map_err(|failure| io::Error::other(failure.message))?;
        self.file.read(buffer)
    }
}
