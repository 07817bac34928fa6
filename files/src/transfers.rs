//! Transfers in progress: only one stream at a time writes to a partial file.
//!
//! A client that resumes a transfer may come before we know that its first stream is gone. The
//! newer stream wins: the older one is shut down, and the newer one continues after what was
//! written.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::id::Nonce;
use rustix::net::Shutdown;

/// How long the older stream may take to release the transfer: it may be waiting for the disk.
const PATIENCE: Duration = Duration::from_secs(20);

/// All transfers of a root.
#[derive(Debug, Default)]
pub struct Transfers {
    busy: Mutex<HashMap<Nonce, Option<OwnedFd>>>,
    changed: Condvar,
}

/// The right to write to a partial file, until it is dropped.
#[derive(Debug)]
pub struct TransferGuard<'a> {
    transfers: &'a Transfers,
    transfer: Nonce,
}

impl Transfers {
    /// Takes a transfer over. `socket` is the one to shut down when a newer stream takes it from
    /// us.
    ///
    /// # Errors
    ///
    /// `busy` if the older stream does not release it.
    pub fn take(
        &self,
        transfer: Nonce,
        socket: Option<OwnedFd>,
    ) -> Result<TransferGuard<'_>, Failure> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(older) = busy.get_mut(&transfer) {
            if let Some(older) = older.take() {
                // It may have closed by itself.
                let _ = rustix::net::shutdown(&older, Shutdown::Both);
            }
            let waited = self.changed.wait_timeout(busy, PATIENCE);
            let (back, time) = waited.unwrap_or_else(PoisonError::into_inner);
            busy = back;
            if time.timed_out() && busy.contains_key(&transfer) {
                return Err(Failure::new(Kind::Busy, "another stream is writing to this transfer"));
            }
        }
        busy.insert(transfer, socket);
        Ok(TransferGuard { transfers: self, transfer })
    }
}

impl Drop for TransferGuard<'_> {
    fn drop(&mut self) {
        let mut busy = self.transfers.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.transfer);
        self.transfers.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn the_newer_one_cuts_the_older_one_off_and_waits_for_it() {
        let transfers = Transfers::default();
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        let older = transfers.take(Nonce([1; 16]), Some(theirs)).unwrap();
        let other = transfers.take(Nonce([2; 16]), None).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The end of its stream makes it release the transfer.
                let mut byte = [0];
                assert_eq!(rustix::io::read(&ours, &mut byte).unwrap(), 0);
                drop(older);
            });
            drop(transfers.take(Nonce([1; 16]), None).unwrap());
        });
        drop(other);
        assert!(transfers.busy.lock().unwrap().is_empty());
    }
}
