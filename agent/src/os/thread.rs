//! Work that may have to wait, on a thread of its own.
//!
//! The runtime's pool does as well where threads can be had. Where they cannot, it panics, and whoever started the
//! work is never answered.

use std::io;

use tokio::sync::oneshot;

/// Why nothing has come of it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// No thread could be started, and nothing was done.
    NoThread(io::Error),
    /// The thread has died over it.
    Died,
}

/// Does something on a new thread, and waits for that. Whoever drops this does not stop it.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let (done, result) = oneshot::channel();
    let work = move || drop(done.send(work()));
    std::thread::Builder::new().spawn(work).map_err(Fault::NoThread)?;
    result.await.map_err(|_| Fault::Died)
}
