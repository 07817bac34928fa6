//! Tells whether the answer to a question is still wanted.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farwire_protocol::failure::{Failure, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How much work is done between two checks, in bytes read.
const WORK: usize = 4 << 20;

/// The work for one entry of a walk, as a number of bytes read.
const NAME: usize = 16 << 10;

/// The other end of a stream, for code that sends it nothing.
#[derive(Debug, Default)]
pub struct Listener {
    socket: Option<Arc<OwnedFd>>,
    /// The work since the last check.
    work: AtomicUsize,
}

impl Listener {
    /// Watches the other end of this socket.
    pub fn new(socket: Arc<OwnedFd>) -> Self {
        // It may have gone already, so the first call checks.
        Self { socket: Some(socket), work: AtomicUsize::new(WORK) }
    }

    /// Counts an entry of a walk.
    ///
    /// # Errors
    ///
    /// `cancelled` if the other end no longer listens.
    pub(crate) fn check_after_name(&self) -> Result<(), Failure> {
        self.check_after(NAME)
    }

    /// Counts bytes that were read.
    ///
    /// # Errors
    ///
    /// `cancelled` if the other end no longer listens.
    pub(crate) fn check_after(&self, bytes: usize) -> Result<(), Failure> {
        if self.socket.is_none() {
            return Ok(());
        }
        if self.work.fetch_add(bytes, Ordering::Relaxed) < WORK {
            return Ok(());
        }
        self.work.store(0, Ordering::Relaxed);
        self.check()
    }

    /// Looks at the other end now.
    ///
    /// # Errors
    ///
    /// `cancelled` if the other end no longer listens.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let Some(socket) = &self.socket else { return Ok(()) };
        let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
        let over = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now))) {
            Ok(1..) if fds[0].revents().intersects(over) => {
                // Later calls fail at once, too.
                self.work.store(WORK, Ordering::Relaxed);
                Err(Failure::new(Kind::Cancelled, "nobody listens"))
            }
            // If the socket cannot be checked, sending will fail.
            _ => Ok(()),
        }
    }

    /// Wraps a file so that reading it fails once the answer is no longer wanted.
    pub(crate) fn reader<R: Read>(&self, file: R) -> WatchedReader<'_, R> {
        WatchedReader { listener: self, file }
    }
}

/// A file that is read on behalf of a listener.
#[derive(Debug)]
pub(crate) struct WatchedReader<'a, R> {
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
