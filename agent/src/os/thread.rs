//! Work that may block, on a thread of its own.
//!
//! The runtime's pool would do as long as threads can be started. If they cannot, it panics, and
//! whoever started the work never gets an answer.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Why there is no result.
#[derive(Debug)]
pub(crate) enum Fault {
    /// No thread could be started, and nothing was done.
    NoThread(io::Error),
    /// The thread has died during the work.
    Died,
}

type Work = Box<dyn FnOnce() + Send>;

/// How long an idle thread waits for more work: starting a thread takes longer than starting many a
/// program.
const REST: Duration = Duration::from_secs(10);

/// At most this many wait at once.
const RESTING: usize = 4;

/// The idle threads.
static IDLE: Mutex<Idle> = Mutex::new(Idle { next: 0, threads: Vec::new() });

struct Idle {
    next: u64,
    threads: Vec<(u64, Sender<Work>)>,
}

fn idle() -> MutexGuard<'static, Idle> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something on a thread of its own, and waits for it. Dropping this does not stop it.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let (done, result) = oneshot::channel();
    let work: Work = Box::new(move || drop(done.send(work())));
    hand_over(work).map_err(Fault::NoThread)?;
    result.await.map_err(|_| Fault::Died)
}

/// Gives it to an idle thread, or to a new one.
fn hand_over(work: Work) -> io::Result<()> {
    let resting = idle().threads.pop();
    match resting {
        // It waits for what was taken from the list, and for nothing else.
        Some((_, thread)) => thread.send(work).map_err(|_| io::ErrorKind::BrokenPipe.into()),
        None => std::thread::Builder::new().spawn(move || carry_out(work)).map(drop),
    }
}

fn carry_out(mut work: Work) {
    loop {
        work();
        let Some(more) = rest() else { return };
        work = more;
    }
}

/// Waits for more work. Returns `None` at once if enough others wait.
fn rest() -> Option<Work> {
    let (number, work) = {
        let mut idle = idle();
        if idle.threads.len() >= RESTING {
            return None;
        }
        let (thread, work): (_, Receiver<Work>) = channel();
        let number = idle.next;
        idle.next += 1;
        idle.threads.push((number, thread));
        (number, work)
    };
    match work.recv_timeout(REST) {
        Ok(work) => Some(work),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            let mut idle = idle();
            let before = idle.threads.len();
            idle.threads.retain(|(other, _)| *other != number);
            let taken = idle.threads.len() == before;
            drop(idle);
            // The thread that has taken us from the list is about to send something.
            if taken { work.recv().ok() } else { None }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn many_at_once_are_all_done_and_a_dead_thread_says_so() {
        for round in 0..50 {
            let all: JoinSet<_> = (0..20).map(|number| on_thread(move || number + round)).collect();
            let mut done: Vec<i32> = all.join_all().await.into_iter().map(Result::unwrap).collect();
            done.sort_unstable();
            assert_eq!(done, (round..round + 20).collect::<Vec<_>>());
            assert!(idle().threads.len() <= RESTING);
        }
        let died = on_thread(|| std::panic::resume_unwind(Box::new(()))).await;
        assert!(matches!(died, Err::<(), _>(Fault::Died)));
        assert_eq!(on_thread(|| 7).await.unwrap(), 7);
    }
}
