//! What a program reads from, as we write to it: a pipe, or the master of a terminal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;

use crate::os::watch::watch;

/// The writing end. It is watched for room only while it has none: a terminal reports room after
/// every key, which would wake us for nothing just when the echo comes.
#[derive(Debug)]
pub(crate) struct Input(Arc<OwnedFd>);

impl Input {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Writes as much as there is room for. Returns `WouldBlock` if there is none.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::write(&self.0, bytes))?)
    }

    /// Waits for room.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        // To watch an open file for two different things takes a descriptor for each.
        let copy = Arc::new(self.0.try_clone()?);
        watch(copy, Interest::WRITABLE)?.writable().await.map(drop)
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
