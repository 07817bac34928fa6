//! Descriptors that the runtime watches.

#![expect(unsafe_code, reason = "tokio wants a promise that a descriptor stays open")]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A non-blocking descriptor, watched for this and nothing else.
pub(crate) fn watch(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the descriptor is open as long as it has owners, of which the result is one, and it
    // is always the same one.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
