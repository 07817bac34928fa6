//! Calls that a file system may never finish: each root has a few threads for them, and so have
//! lookups of users.
//!
//! A file system whose server is gone blocks every thread that touches it. That must not be a
//! thread that others need, nor may one root take too much of the pool that jobs and terminals use.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use farwire_protocol::failure::{Failure, Kind};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// At most this many threads of one root, or of lookups, block at once. Further calls wait for one
/// of them.
const THREADS: usize = 16;

/// The threads of one root. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Waits(Arc<Semaphore>);

impl Waits {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(THREADS)))
    }

    /// Does something that may block. Dropping this does not stop it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let broken = || Failure::new(Kind::Internal, "a thread that waits has failed");
        let place = self.0.clone().acquire_owned().await.map_err(|_| broken())?;
        let work = move || {
            let done = work();
            drop(place);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| broken())
    }
}

/// A descriptor that a worker sent. Closing it may block, so one of these threads does it.
#[derive(Debug)]
pub(crate) struct Received {
    file: Option<OwnedFd>,
    waits: Waits,
}

impl Received {
    pub(super) fn new(file: OwnedFd, waits: Waits) -> Self {
        Self { file: Some(file), waits }
    }

    /// The descriptor.
    pub(crate) fn file(&self) -> &OwnedFd {
        self.file.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let (file, waits) = (self.file.take(), self.waits.clone());
        // Without a runtime this blocks nobody else.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { waits.run(move || drop(file)).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_was_received_is_closed_by_a_thread_that_may_wait() {
        let waits = Waits::new();
        let threads = u32::try_from(THREADS).unwrap();
        let all = waits.0.clone().acquire_many_owned(threads).await.unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&read, true).unwrap();
        drop(Received::new(write, waits.clone()));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let closed = || rustix::io::read(&read, &mut [0; 1]) == Ok(0);
        assert!(!closed(), "no thread is free to close it");
        drop(all);
        // Those who came first have had their turn.
        while !closed() {
            drop(waits.0.acquire_many(threads).await.unwrap());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_never_ends_takes_no_more_threads_than_one_root_may_have() {
        let waits = Waits::new();
        let (free, stuck) = mpsc::channel::<()>();
        let stuck = Arc::new(std::sync::Mutex::new(stuck));
        for _ in 0..THREADS {
            let (waits, stuck) = (waits.clone(), stuck.clone());
            let work = move || stuck.lock().unwrap().recv().is_ok();
            tokio::spawn(async move { waits.run(work).await });
        }
        while waits.0.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let more = timeout(Duration::from_millis(50), waits.run(|| ())).await;
        assert!(more.is_err(), "one more than there may be");
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        drop(free);
        waits.run(|| ()).await.unwrap();
    }
}
