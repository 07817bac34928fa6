//! Our standard input, on its way to a program.
//!
//! An input that cannot be read on has not ended: the program must not take what came of it for
//! all of it.

use std::io;

use bytes::Bytes;
use farwire_protocol::failure::{Failure, Kind};
use tokio::sync::{mpsc, oneshot};

use super::QUEUE;

/// How much is read at once.
const READ: usize = 64 << 10;

/// The pieces of an input; they end where it ends.
pub(super) type Pieces = mpsc::Receiver<Bytes>;

/// Tells why an input cannot be read on.
pub(super) struct Broken(oneshot::Receiver<BrokenInput>);

/// An input that cannot be read on. Its pieces do not end while this exists.
pub(super) struct BrokenInput {
    error: io::Error,
    _open: mpsc::Sender<Bytes>,
}

impl Broken {
    /// Waits until the input cannot be read on. Of one that ends, or that nobody takes, this never
    /// comes.
    pub(super) async fn wait(&mut self) -> BrokenInput {
        match (&mut self.0).await {
            Ok(broken) => broken,
            Err(_) => std::future::pending().await,
        }
    }
}

impl BrokenInput {
    pub(super) fn failure(&self) -> Failure {
        Failure::new(Kind::Io, format!("standard input cannot be read: {}", self.error))
    }
}

/// Reads standard input, if it is wanted, on a thread of its own: it may block for ever, and nobody
/// waits for it.
pub(super) fn standard_input(wanted: bool) -> (Option<Pieces>, Broken) {
    let (breaking, broken) = oneshot::channel();
    let pieces = wanted.then(|| {
        let (sender, pieces) = mpsc::channel(QUEUE);
        std::thread::spawn(move || read(&mut io::stdin().lock(), sender, breaking));
        pieces
    });
    (pieces, Broken(broken))
}

fn read(
    input: &mut impl io::Read,
    sender: mpsc::Sender<Bytes>,
    breaking: oneshot::Sender<BrokenInput>,
) {
    loop {
        let mut buffer = vec![0; READ];
        match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                buffer.truncate(length);
                if sender.blocking_send(buffer.into()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // Whoever ran us may have left.
                let _ = breaking.send(BrokenInput { error, _open: sender });
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Gives what it has, and then what stands for its end.
    struct Given(VecDeque<io::Result<&'static [u8]>>);

    impl io::Read for Given {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.pop_front().unwrap_or(Ok(b""))?;
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn started(given: Vec<io::Result<&'static [u8]>>) -> (Pieces, Broken) {
        let (sender, pieces) = mpsc::channel(QUEUE);
        let (breaking, broken) = oneshot::channel();
        read(&mut Given(given.into()), sender, breaking);
        (pieces, Broken(broken))
    }

    #[test]
    fn an_input_ends_where_it_ends_and_not_where_it_cannot_be_read() {
        let again = || Err(io::ErrorKind::Interrupted.into());
        let (mut pieces, mut broken) = started(vec![Ok(&b"one"[..]), again(), Ok(&b"two"[..])]);
        assert_eq!(pieces.blocking_recv().as_deref(), Some(&b"one"[..]));
        assert_eq!(pieces.blocking_recv().as_deref(), Some(&b"two"[..]));
        assert_eq!(pieces.blocking_recv(), None);
        assert!(broken.0.try_recv().is_err());

        let failed = Err(io::ErrorKind::IsADirectory.into());
        let (mut pieces, mut broken) = started(vec![Ok(&b"one"[..]), failed]);
        assert_eq!(pieces.blocking_recv().as_deref(), Some(&b"one"[..]));
        let why = broken.0.try_recv().unwrap();
        assert!(why.failure().message.starts_with("standard input cannot be read: is a directory"));
        assert_eq!(pieces.try_recv(), Err(mpsc::error::TryRecvError::Empty), "it has not ended");
    }
}
