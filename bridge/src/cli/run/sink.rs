//! Writes a program's output where ours goes, on a thread of its own: a slow terminal must not keep
//! us from answering the relay.
//!
//! Output that has gathered while the thread was writing goes out with the next call, so that a
//! fast program costs few calls and few wake-ups. If the queue is full, the sender waits, and so
//! does the program.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::os::fd::AsFd as _;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// How many chunks may wait; with the size of a frame, this bounds our memory.
const QUEUE: usize = 64;

/// How many chunks one call writes at most: the kernel accepts up to 1,024.
const TOGETHER: usize = QUEUE;

/// Where output goes. The thread starts with the first chunk: many commands print nothing.
#[derive(Debug)]
pub(super) struct Sink {
    queue: Queue,
    done: Option<oneshot::Sender<io::Result<()>>>,
}

#[derive(Debug)]
enum Queue {
    Unused,
    Open(mpsc::Sender<OutputChunk>),
    /// Nobody reads any more.
    Closed,
}

/// The result of writing, available once the sink has been dropped. If no result arrives, there was
/// nothing to write.
pub(super) type WriteOutcome = oneshot::Receiver<io::Result<()>>;

#[derive(Debug)]
struct OutputChunk {
    stdout: bool,
    bytes: Bytes,
}

impl Sink {
    /// Makes one.
    pub(super) fn new() -> (Self, WriteOutcome) {
        let (done, written) = oneshot::channel();
        (Self { queue: Queue::Unused, done: Some(done) }, written)
    }

    /// Returns `false` once, when it finds that nobody reads any more.
    pub(super) async fn write(&mut self, stdout: bool, bytes: Bytes) -> bool {
        if let Some(done) = self.done.take() {
            self.queue = Queue::Open(start(done));
        }
        let Queue::Open(queue) = &self.queue else { return true };
        if queue.send(OutputChunk { stdout, bytes }).await.is_ok() {
            return true;
        }
        self.queue = Queue::Closed;
        false
    }
}

fn start(done: oneshot::Sender<io::Result<()>>) -> mpsc::Sender<OutputChunk> {
    let (queue, pieces) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let result = match write_all(pieces) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        };
        // Our parent may have gone.
        let _ = done.send(result);
    });
    queue
}

fn write_all(mut pieces: mpsc::Receiver<OutputChunk>) -> io::Result<()> {
    // Not `io::stdout`, which copies everything after the last line feed.
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let mut batch = Vec::with_capacity(TOGETHER);
    while pieces.blocking_recv_many(&mut batch, TOGETHER) > 0 {
        for run in batch.chunk_by(|one, next| one.stdout == next.stdout) {
            let to_stdout = run.first().is_some_and(|piece| piece.stdout);
            write_run(if to_stdout { &mut stdout } else { &mut stderr }, run)?;
        }
        batch.clear();
    }
    Ok(())
}

/// Writes chunks of one stream, in as few calls as possible.
fn write_run(file: &mut File, run: &[OutputChunk]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = run.iter().map(|piece| IoSlice::new(&piece.bytes)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Our output is non-blocking because of another process (a shared terminal): wait until
            // it is writable.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(file)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait(file: &File) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::new(file, PollFlags::OUT)], None)?;
    Ok(())
}
